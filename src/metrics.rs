//! Numbers for dashboards and alarms, by the [`metrics`](https://docs.rs/metrics) facade (feature `metrics`): install an
//! exporter of your choice, and they are there.
//!
//! 1. A label has one of a few values that are named here, or comes from your own settings; nothing that a caller sends
//!    becomes one, so that nobody can make a time series.
//! 2. Of nested layers, each one counts its own decision.
//! 3. Gauges of several caches add up.
//!
//! | name | type | labels | what |
//! |---|---|---|---|
//! | `client_credentials_endpoint_requests_total` | counter | `endpoint`: `token endpoint`, `introspection endpoint`, `revocation endpoint`; `outcome`: `done`, `refused`, `unavailable`; `error`: the code of [`TokenErrorKind`](crate::TokenErrorKind), or empty | requests to the endpoints of an authorization server; tokens issued are what the token endpoint has `done` |
//! | `client_credentials_bearer_requests_total` | counter | `outcome`: `admitted`, `anonymous`, `refused`, `undecided`, `would_refuse`; `reason`: that of [`BearerError::reason`](crate::BearerError::reason), or empty | requests to protected routes |
//! | `client_credentials_token_cache_lookups_total` | counter | `outcome`: `hit`, `miss` | tokens looked for among those verified before |
//! | `client_credentials_token_cache_evictions_total` | counter | | verified tokens that had to make room |
//! | `client_credentials_token_cache_tokens` | gauge | | verified tokens that are remembered |
//! | `client_credentials_token_cache_bytes` | gauge | | what these take, about |
//! | `client_credentials_key_fetches_total` | counter | `source`, `outcome`: `fetched`, `failed` | fetches of an issuer's keys |
//! | `client_credentials_keys_fetched_timestamp_seconds` | gauge | `source` | when an issuer's keys were fetched last |
//! | `client_credentials_unknown_key_unavailable_total` | counter | `source` | tokens that got 503 because they name a key that no fetch could be made for yet; a stranger can cause them with a `kid` at random, so they are no sign that this service is ill |
//! | `client_credentials_unanswered_token_total` | counter | `source` | tokens that got 503 because an introspection endpoint that answers about others has no answer about them; a stranger can cause them as well |
//! | `client_credentials_store_losses_total` | counter | | how often the store of the revocations turned out to have lost writes that it had acknowledged |
//! | `client_credentials_obtained_tokens_total` | counter | `issuer`; `outcome`: `obtained`, or [`TokenSourceErrorKind::name`](crate::client::TokenSourceErrorKind::name) | requests of the calling side for a token |
//! | `client_credentials_obtained_token_expires_timestamp_seconds` | gauge | `issuer` | when the token that was obtained last ends |
//! | `client_credentials_token_waits_total` | counter | `issuer` | calls that had to wait for a token |
//! | `client_credentials_refused_tokens_total` | counter | `issuer` | obtained tokens that a resource server refused |
//! | `client_credentials_revocations_read_timestamp_seconds` | gauge | | when this process last knew all that was revoked |
//!
//! A `source` is the issuer or the URL of the keys that you configured. The age of keys, or of the view of what is
//! revoked, is the time now less the timestamp: `time() - client_credentials_keys_fetched_timestamp_seconds`. It grows
//! while nothing is fetched, which a gauge that holds an age would not.
//!
//! # Deployment caveat
//!
//! The recorder has to be installed before the first request; what was counted before that is lost.
//!
//! # Example
//!
//! ```
//! // Once, beside the exporter: units and descriptions.
//! # #[cfg(feature = "metrics")]
//! tower_client_credentials::metrics::describe();
//! ```

use std::time::{SystemTime, UNIX_EPOCH};

#[cfg(feature = "metrics")]
pub use self::recorder::describe;
#[cfg(feature = "metrics")]
use self::recorder::{add, count, set};
#[cfg(not(feature = "metrics"))]
use self::silence::{add, count, set};

const ENDPOINT_REQUESTS: &str = "client_credentials_endpoint_requests_total";
const BEARER_REQUESTS: &str = "client_credentials_bearer_requests_total";
const TOKEN_CACHE_LOOKUPS: &str = "client_credentials_token_cache_lookups_total";
const TOKEN_CACHE_EVICTIONS: &str = "client_credentials_token_cache_evictions_total";
const TOKEN_CACHE_TOKENS: &str = "client_credentials_token_cache_tokens";
const TOKEN_CACHE_BYTES: &str = "client_credentials_token_cache_bytes";
#[cfg(feature = "remote")]
const KEY_FETCHES: &str = "client_credentials_key_fetches_total";
#[cfg(feature = "remote")]
const KEYS_FETCHED: &str = "client_credentials_keys_fetched_timestamp_seconds";
#[cfg(feature = "remote")]
const UNKNOWN_KEY_UNAVAILABLE: &str = "client_credentials_unknown_key_unavailable_total";
#[cfg(feature = "remote")]
const UNANSWERED_TOKEN: &str = "client_credentials_unanswered_token_total";
const STORE_LOSSES: &str = "client_credentials_store_losses_total";
const OBTAINED_TOKENS: &str = "client_credentials_obtained_tokens_total";
const OBTAINED_TOKEN_EXPIRES: &str = "client_credentials_obtained_token_expires_timestamp_seconds";
const TOKEN_WAITS: &str = "client_credentials_token_waits_total";
const REFUSED_TOKENS: &str = "client_credentials_refused_tokens_total";
const REVOCATIONS_READ: &str = "client_credentials_revocations_read_timestamp_seconds";

/// An endpoint of an authorization server answered; `error` is the code of a refusal.
pub(crate) fn endpoint_answered(endpoint: &'static str, outcome: &'static str, error: &'static str) {
    count(ENDPOINT_REQUESTS, &[("endpoint", endpoint), ("outcome", outcome), ("error", error)]);
}

/// A protected route was decided over.
pub(crate) fn bearer_decided(outcome: &'static str, reason: &'static str) {
    count(BEARER_REQUESTS, &[("outcome", outcome), ("reason", reason)]);
}

/// A token was looked for among those verified before.
pub(crate) fn token_looked_up(hit: bool) {
    count(TOKEN_CACHE_LOOKUPS, &[("outcome", if hit { "hit" } else { "miss" })]);
}

/// A verified token is remembered, with so many bytes.
pub(crate) fn token_cached(bytes: usize) {
    add(TOKEN_CACHE_TOKENS, 1.0);
    add(TOKEN_CACHE_BYTES, float(bytes));
}

/// A verified token is remembered no longer.
pub(crate) fn cached_token_gone(bytes: usize) {
    add(TOKEN_CACHE_TOKENS, -1.0);
    add(TOKEN_CACHE_BYTES, -float(bytes));
}

/// A verified token had to make room.
pub(crate) fn cached_token_evicted() {
    count(TOKEN_CACHE_EVICTIONS, &[]);
}

/// Keys came from `source`, which is configured, as of this time.
#[cfg(feature = "remote")]
pub(crate) fn keys_fetched(source: &str, at: SystemTime) {
    count(KEY_FETCHES, &[("source", source), ("outcome", "fetched")]);
    set(KEYS_FETCHED, &[("source", source)], timestamp(at));
}

/// No keys came from `source`.
#[cfg(feature = "remote")]
pub(crate) fn keys_not_fetched(source: &str) {
    count(KEY_FETCHES, &[("source", source), ("outcome", "failed")]);
}

/// Counts a token that can be neither accepted nor refused, since the keys of `source` cannot be fetched again yet.
#[cfg(feature = "remote")]
pub(crate) fn unknown_key_unavailable(source: &str) {
    count(UNKNOWN_KEY_UNAVAILABLE, &[("source", source)]);
}

/// Counts a token about which the introspection endpoint of `source` has no answer, while it answers about others.
#[cfg(feature = "remote")]
pub(crate) fn unanswered_token(source: &str) {
    count(UNANSWERED_TOKEN, &[("source", source)]);
}

/// Counts a store that lost writes which it had acknowledged.
pub(crate) fn store_lost_data() {
    count(STORE_LOSSES, &[]);
}

/// Counts a token that the configured `issuer` gave to the calling side.
pub(crate) fn token_obtained(issuer: &str, expires_at: Option<SystemTime>) {
    count(OBTAINED_TOKENS, &[("issuer", issuer), ("outcome", "obtained")]);
    if let Some(expires_at) = expires_at {
        set(OBTAINED_TOKEN_EXPIRES, &[("issuer", issuer)], timestamp(expires_at));
    }
}

/// Counts a request for a token that failed.
pub(crate) fn token_not_obtained(issuer: &str, outcome: &'static str) {
    count(OBTAINED_TOKENS, &[("issuer", issuer), ("outcome", outcome)]);
}

/// Counts a call that has to wait for a token.
pub(crate) fn caller_waits_for_token(issuer: &str) {
    count(TOKEN_WAITS, &[("issuer", issuer)]);
}

/// Counts an obtained token that a resource server refused.
pub(crate) fn obtained_token_refused(issuer: &str) {
    count(REFUSED_TOKENS, &[("issuer", issuer)]);
}

/// All that is revoked is known, as of this time.
pub(crate) fn revocations_read(at: SystemTime) {
    set(REVOCATIONS_READ, &[], timestamp(at));
}

/// Exact up to 4 GiB.
fn float(number: usize) -> f64 {
    u32::try_from(number).unwrap_or(u32::MAX).into()
}

fn timestamp(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(feature = "metrics")]
mod recorder {
    //! To whatever recorder is installed.

    use metrics::{Label, Unit, counter, describe_counter, describe_gauge, gauge};

    pub(super) fn count(name: &'static str, labels: &[(&'static str, &str)]) {
        counter!(name, labels_of(labels)).increment(1);
    }

    pub(super) fn add(name: &'static str, value: f64) {
        gauge!(name).increment(value);
    }

    pub(super) fn set(name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        gauge!(name, labels_of(labels)).set(value);
    }

    fn labels_of(labels: &[(&'static str, &str)]) -> Vec<Label> {
        labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect()
    }

    /// Tells the recorder the unit and the meaning of every number, for those that show them. Call it once, when the
    /// recorder is installed.
    pub fn describe() {
        describe_counter!(super::ENDPOINT_REQUESTS, Unit::Count, "Requests to the authorization server");
        describe_counter!(super::BEARER_REQUESTS, Unit::Count, "Requests to protected routes");
        describe_counter!(super::TOKEN_CACHE_LOOKUPS, Unit::Count, "Tokens looked for among those verified before");
        describe_counter!(super::TOKEN_CACHE_EVICTIONS, Unit::Count, "Verified tokens that had to make room");
        describe_gauge!(super::TOKEN_CACHE_TOKENS, Unit::Count, "Verified tokens that are remembered");
        describe_gauge!(super::TOKEN_CACHE_BYTES, Unit::Bytes, "What the remembered tokens take, about");
        describe_counter!(super::STORE_LOSSES, Unit::Count, "Times that the store turned out to have lost writes");
        describe_counter!(super::OBTAINED_TOKENS, Unit::Count, "Requests of the calling side for a token");
        describe_counter!(super::TOKEN_WAITS, Unit::Count, "Calls that had to wait for a token");
        describe_counter!(super::REFUSED_TOKENS, Unit::Count, "Obtained tokens that a resource server refused");
        describe_gauge!(super::OBTAINED_TOKEN_EXPIRES, Unit::Seconds, "When the token that was obtained last ends");
        describe_gauge!(super::REVOCATIONS_READ, Unit::Seconds, "When all that was revoked was known last");
        #[cfg(feature = "remote")]
        {
            describe_counter!(super::KEY_FETCHES, Unit::Count, "Fetches of an issuer's keys");
            describe_counter!(
                super::UNKNOWN_KEY_UNAVAILABLE,
                Unit::Count,
                "Tokens that got 503 because they name a key that no fetch could be made for yet"
            );
            describe_counter!(
                super::UNANSWERED_TOKEN,
                Unit::Count,
                "Tokens that got 503 because an introspection endpoint that answers about others has no answer about them"
            );
            describe_gauge!(super::KEYS_FETCHED, Unit::Seconds, "When an issuer's keys were fetched last");
        }
    }
}

#[cfg(not(feature = "metrics"))]
mod silence {
    //! What is left of it without the feature.

    pub(super) fn count(_: &'static str, _: &[(&'static str, &str)]) {}

    pub(super) fn add(_: &'static str, _: f64) {}

    pub(super) fn set(_: &'static str, _: &[(&'static str, &str)], _: f64) {}
}
