//! Metrics for dashboards and alerts, with the [`metrics`](https://docs.rs/metrics) facade (feature `metrics`). Install
//! an exporter of your choice.
//!
//! 1. A label has one of the few values listed here, or comes from your own settings. Values from callers are never
//!    labels, so callers cannot create time series.
//! 2. With nested layers, each layer counts its own decisions.
//! 3. Gauges of several caches are added up.
//!
//! | name | type | labels | meaning |
//! |---|---|---|---|
//! | `client_credentials_endpoint_requests_total` | counter | `endpoint`: `token endpoint`, `introspection endpoint`, `revocation endpoint`; `outcome`: `done`, `refused`, `unavailable`; `error`: the code of [`TokenErrorKind`](crate::authorization_server::TokenErrorKind), or empty | requests to the endpoints of an authorization server; issued tokens are the requests to the token endpoint with `done` |
//! | `client_credentials_token_request_duration_seconds` | histogram | `method`: `client_secret_basic`, `client_secret_post`, `assertion`, or `none` if the request names none; `outcome`: `done`, `refused`, `unavailable` | time from the complete request to its answer at the token endpoint |
//! | `client_credentials_administration_requests_total` | counter | `operation`: `create`, `update`, `delete`, `add_secret`, `add_credential`, `remove_credential`, `disable`, `enable`, `revoke_tokens`, `refresh_keys`, `list`, `read`; `outcome`: `done`, `refused`, `unavailable`; `error`: the code of [`AdministrationRefusalKind`](crate::administration::AdministrationRefusalKind::code), or empty | requests of administrators |
//! | `client_credentials_bearer_requests_total` | counter | `outcome`: `admitted`, `admitted_by_api_key`, `anonymous`, `refused`, `unavailable`, `would_refuse`; `reason`: that of [`BearerError::reason`](crate::resource_server::BearerError::reason), or empty | requests to protected routes |
//! | `client_credentials_api_key_requests_total` | counter | `client` | requests that were admitted by an [API key](crate::resource_server::ApiKeys) of this client |
//! | `client_credentials_token_cache_lookups_total` | counter | `outcome`: `hit`, `miss` | look-ups in the cache of verified tokens |
//! | `client_credentials_token_cache_evictions_total` | counter | | tokens evicted from the cache of verified tokens |
//! | `client_credentials_token_cache_tokens` | gauge | | tokens in the cache of verified tokens |
//! | `client_credentials_token_cache_bytes` | gauge | | approximate size of the tokens in the cache |
//! | `client_credentials_key_fetches_total` | counter | `source`, `outcome`: `fetched`, `failed` | fetches of an issuer's keys |
//! | `client_credentials_keys_fetched_timestamp_seconds` | gauge | `source` | time of the last successful fetch of an issuer's keys |
//! | `client_credentials_unknown_key_unavailable_total` | counter | `source` | tokens that got 503 because they name an unknown key, and the keys cannot be fetched again yet; anyone can cause them with a random `kid`, so they do not indicate a fault of this service |
//! | `client_credentials_unanswered_token_total` | counter | `source` | tokens that got 503 because the introspection endpoint did not answer about them, although it answers about others; anyone can cause them, too |
//! | `client_credentials_legacy_assertions_total` | counter | `claim`: `aud`, `exp` | assertions that were accepted only because of [`Client::legacy_assertions_until`](crate::Client::legacy_assertions_until) |
//! | `client_credentials_key_ring_steps_total` | counter | `step`: `published`, `signing`, `retired`, `distrusted`, `removed` | steps of keys that this process took |
//! | `client_credentials_key_ring_refusals_total` | counter | | stored rings that were altered or restored from an older copy |
//! | `client_credentials_key_ring_lagging_replicas` | gauge | | live replicas that do not have the last version of the ring yet |
//! | `client_credentials_signing_key_since_timestamp_seconds` | gauge | | time since which the current key signs |
//! | `client_credentials_key_ring_next_step_timestamp_seconds` | gauge | | time of the next step by the schedule, 0 if it is unknown |
//! | `client_credentials_audit_write_failures_total` | counter | | failed writes of an [`AuditLog`](crate::event::AuditLog), which are repeated |
//! | `client_credentials_audit_lost_events_total` | counter | | events that an [`AuditLog`](crate::event::AuditLog) lost because its queue was full |
//! | `client_credentials_store_losses_total` | counter | | detected losses of acknowledged writes in the revocation store |
//! | `client_credentials_obtained_tokens_total` | counter | `issuer`; `outcome`: `obtained`, or [`TokenSourceErrorKind::name`](crate::client::TokenSourceErrorKind::name) | token requests of the calling side |
//! | `client_credentials_token_obtained_timestamp_seconds` | gauge | `issuer` | time of the last obtained token; the age of the token is the current time minus this |
//! | `client_credentials_obtained_token_expires_timestamp_seconds` | gauge | `issuer` | expiry of the last obtained token |
//! | `client_credentials_token_waits_total` | counter | `issuer` | calls that had to wait for a token |
//! | `client_credentials_refused_tokens_total` | counter | `issuer` | obtained tokens that a resource server refused |
//! | `client_credentials_revocations_read_timestamp_seconds` | gauge | | time up to which this process knows all revocations |
//!
//! A `source` is the issuer or the key URL that you configured; all key sets of clients have `jwks_uri of clients`. The age of keys or revocations is the current time
//! minus the timestamp: `time() - client_credentials_keys_fetched_timestamp_seconds`. It grows while fetching fails,
//! unlike a gauge with an age.
//!
//! # Deployment caveat
//!
//! Install the recorder before the first request. Everything counted before is lost.
//!
//! # Example
//!
//! ```
//! // Once, next to the exporter: sets units and descriptions.
//! # #[cfg(feature = "metrics")]
//! tower_client_credentials::metrics::describe();
//! ```

use std::time::{SystemTime, UNIX_EPOCH};

#[cfg(feature = "metrics")]
use self::recorder::{add, count, count_many, create, set};
#[cfg(not(feature = "metrics"))]
use self::silence::{add, count, count_many, create, set};

/// One row for each metric: its name here, its type and unit, its name outside, and its description.
macro_rules! table {
    ($($(#[$when:meta])* $constant:ident: $describe:ident($unit:ident) = $name:literal, $description:literal;)+) => {
        $($(#[$when])* const $constant: &str = $name;)+

        /// Sets the unit and the description of each metric in the installed recorder. Call it once, after the recorder was
        /// installed.
        #[cfg(feature = "metrics")]
        pub fn describe() {
            $($(#[$when])* {
                metrics::$describe!($constant, metrics::Unit::$unit, $description);
            })+
        }
    };
}

table! {
    ENDPOINT_REQUESTS: describe_counter(Count) = "client_credentials_endpoint_requests_total",
        "Requests to the authorization server";
    #[cfg(feature = "metrics")]
    TOKEN_REQUEST_DURATION: describe_histogram(Seconds) = "client_credentials_token_request_duration_seconds",
        "Time of requests to the token endpoint";
    ADMINISTRATION_REQUESTS: describe_counter(Count) = "client_credentials_administration_requests_total",
        "Requests of administrators of clients";
    BEARER_REQUESTS: describe_counter(Count) = "client_credentials_bearer_requests_total",
        "Requests to protected routes";
    API_KEY_REQUESTS: describe_counter(Count) = "client_credentials_api_key_requests_total",
        "Requests that were admitted by an API key";
    TOKEN_CACHE_LOOKUPS: describe_counter(Count) = "client_credentials_token_cache_lookups_total",
        "Look-ups in the cache of verified tokens";
    TOKEN_CACHE_EVICTIONS: describe_counter(Count) = "client_credentials_token_cache_evictions_total",
        "Tokens evicted from the cache of verified tokens";
    TOKEN_CACHE_TOKENS: describe_gauge(Count) = "client_credentials_token_cache_tokens",
        "Tokens in the cache of verified tokens";
    TOKEN_CACHE_BYTES: describe_gauge(Bytes) = "client_credentials_token_cache_bytes",
        "Approximate size of the tokens in the cache";
    #[cfg(feature = "remote")]
    KEY_FETCHES: describe_counter(Count) = "client_credentials_key_fetches_total", "Fetches of an issuer's keys";
    #[cfg(feature = "remote")]
    KEYS_FETCHED: describe_gauge(Seconds) = "client_credentials_keys_fetched_timestamp_seconds",
        "Time of the last successful fetch of an issuer's keys";
    #[cfg(feature = "remote")]
    UNKNOWN_KEY_UNAVAILABLE: describe_counter(Count) = "client_credentials_unknown_key_unavailable_total",
        "Tokens that got 503 because they name an unknown key, and the keys cannot be fetched again yet";
    #[cfg(feature = "remote")]
    UNANSWERED_TOKEN: describe_counter(Count) = "client_credentials_unanswered_token_total",
        "Tokens that got 503 because the introspection endpoint did not answer about them, although it answers about others";
    LEGACY_ASSERTIONS: describe_counter(Count) = "client_credentials_legacy_assertions_total",
        "Client assertions that only an allowance for older clients accepted";
    KEY_RING_STEPS: describe_counter(Count) = "client_credentials_key_ring_steps_total",
        "Steps of keys that this process took";
    KEY_RING_REFUSALS: describe_counter(Count) = "client_credentials_key_ring_refusals_total",
        "Stored key rings that were altered or restored";
    KEY_RING_LAGGING: describe_gauge(Count) = "client_credentials_key_ring_lagging_replicas",
        "Live replicas without the last version of the key ring";
    SIGNING_KEY_SINCE: describe_gauge(Seconds) = "client_credentials_signing_key_since_timestamp_seconds",
        "Time since which the current key signs";
    KEY_RING_NEXT_STEP: describe_gauge(Seconds) = "client_credentials_key_ring_next_step_timestamp_seconds",
        "Time of the next step of the key ring";
    AUDIT_WRITE_FAILURES: describe_counter(Count) = "client_credentials_audit_write_failures_total",
        "Failed writes of the audit log";
    AUDIT_LOST_EVENTS: describe_counter(Count) = "client_credentials_audit_lost_events_total",
        "Events that the audit log lost";
    STORE_LOSSES: describe_counter(Count) = "client_credentials_store_losses_total",
        "Detected losses of acknowledged writes in the store";
    OBTAINED_TOKENS: describe_counter(Count) = "client_credentials_obtained_tokens_total",
        "Token requests of the calling side";
    TOKEN_OBTAINED: describe_gauge(Seconds) = "client_credentials_token_obtained_timestamp_seconds",
        "Time of the last obtained token";
    OBTAINED_TOKEN_EXPIRES: describe_gauge(Seconds) = "client_credentials_obtained_token_expires_timestamp_seconds",
        "Expiry of the last obtained token";
    TOKEN_WAITS: describe_counter(Count) = "client_credentials_token_waits_total", "Calls that had to wait for a token";
    REFUSED_TOKENS: describe_counter(Count) = "client_credentials_refused_tokens_total",
        "Obtained tokens that a resource server refused";
    REVOCATIONS_READ: describe_gauge(Seconds) = "client_credentials_revocations_read_timestamp_seconds",
        "Time up to which all revocations are known";
}

/// Counts an answer of an endpoint of the authorization server. `error` is the code of a refusal.
pub(crate) fn endpoint_answered(endpoint: &'static str, outcome: &'static str, error: &'static str) {
    count(ENDPOINT_REQUESTS, &[("endpoint", endpoint), ("outcome", outcome), ("error", error)]);
}

/// The time of a token request, from its body to its answer. Without the feature, it is empty.
pub(crate) struct TokenRequestTiming {
    #[cfg(feature = "metrics")]
    start: tokio::time::Instant,
    #[cfg(feature = "metrics")]
    method: std::sync::OnceLock<&'static str>,
}

/// The label of a request whose authentication method was not read.
#[cfg(feature = "metrics")]
const NO_METHOD: &str = "none";

#[cfg(feature = "metrics")]
impl TokenRequestTiming {
    pub(crate) fn start() -> Self {
        Self { start: tokio::time::Instant::now(), method: std::sync::OnceLock::new() }
    }

    /// Sets the method by which the request authenticates.
    pub(crate) fn method(&self, method: &'static str) {
        let _ = self.method.set(method);
    }

    /// Records the time until now.
    pub(crate) fn finish(&self, outcome: &'static str) {
        let method = self.method.get().copied().unwrap_or(NO_METHOD);
        let labels = [("method", method), ("outcome", outcome)];
        recorder::observe(TOKEN_REQUEST_DURATION, &labels, self.start.elapsed().as_secs_f64());
    }
}

#[cfg(not(feature = "metrics"))]
#[expect(clippy::unused_self, reason = "the same methods as with the feature")]
impl TokenRequestTiming {
    pub(crate) fn start() -> Self {
        Self {}
    }

    pub(crate) fn method(&self, _: &'static str) {}

    pub(crate) fn finish(&self, _: &'static str) {}
}

/// Creates the histograms of token requests with these methods, so that they exist from the start.
pub(crate) fn expect_token_requests(methods: &[&'static str]) {
    #[cfg(not(feature = "metrics"))]
    let _ = methods;
    #[cfg(feature = "metrics")]
    for &method in methods.iter().chain([&NO_METHOD]) {
        for outcome in ["done", "refused", "unavailable"] {
            recorder::create_histogram(TOKEN_REQUEST_DURATION, &[("method", method), ("outcome", outcome)]);
        }
    }
}

/// Counts a request of an administrator. `error` is the code of a refusal.
pub(crate) fn administered(operation: &'static str, outcome: &'static str, error: &'static str) {
    count(ADMINISTRATION_REQUESTS, &[("operation", operation), ("outcome", outcome), ("error", error)]);
}

/// Counts a decision of a protected route.
pub(crate) fn bearer_decided(outcome: &'static str, reason: &'static str) {
    count(BEARER_REQUESTS, &[("outcome", outcome), ("reason", reason)]);
}

/// Counts a request that was admitted by an API key of this client, which is configured.
pub(crate) fn api_key_used(client: &str) {
    count(API_KEY_REQUESTS, &[("client", client)]);
}

/// Counts a look-up in the cache of verified tokens.
pub(crate) fn token_looked_up(hit: bool) {
    count(TOKEN_CACHE_LOOKUPS, &[("outcome", if hit { "hit" } else { "miss" })]);
}

/// Records that a token of this size was added to the cache of verified tokens.
pub(crate) fn token_cached(bytes: usize) {
    add(TOKEN_CACHE_TOKENS, 1.0);
    add(TOKEN_CACHE_BYTES, float(bytes));
}

/// Records that a token of this size was removed from the cache of verified tokens.
pub(crate) fn cached_token_gone(bytes: usize) {
    add(TOKEN_CACHE_TOKENS, -1.0);
    add(TOKEN_CACHE_BYTES, -float(bytes));
}

/// Counts an eviction from the cache of verified tokens.
pub(crate) fn cached_token_evicted() {
    count(TOKEN_CACHE_EVICTIONS, &[]);
}

/// Records that keys were fetched from `source`, which is configured, at this time.
#[cfg(feature = "remote")]
pub(crate) fn keys_fetched(source: &str, at: SystemTime) {
    count(KEY_FETCHES, &[("source", source), ("outcome", "fetched")]);
    set(KEYS_FETCHED, &[("source", source)], timestamp(at));
}

/// Counts a failed fetch of keys from `source`.
#[cfg(feature = "remote")]
pub(crate) fn keys_not_fetched(source: &str) {
    count(KEY_FETCHES, &[("source", source), ("outcome", "failed")]);
}

/// Counts a token that can be neither accepted nor refused, because the keys of `source` cannot be fetched again yet.
#[cfg(feature = "remote")]
pub(crate) fn unknown_key_unavailable(source: &str) {
    count(UNKNOWN_KEY_UNAVAILABLE, &[("source", source)]);
}

/// Counts a token about which the introspection endpoint of `source` does not answer, although it answers about others.
#[cfg(feature = "remote")]
pub(crate) fn unanswered_token(source: &str) {
    count(UNANSWERED_TOKEN, &[("source", source)]);
}

/// Counts an assertion that an allowance for older clients accepted.
pub(crate) fn legacy_assertion_used(claim: &'static str) {
    count(LEGACY_ASSERTIONS, &[("claim", claim)]);
}

/// Counts a step of a key that this process took.
pub(crate) fn key_step(step: &'static str) {
    count(KEY_RING_STEPS, &[("step", step)]);
}

/// Counts a stored ring that is refused or altered.
pub(crate) fn key_ring_refused() {
    count(KEY_RING_REFUSALS, &[]);
}

/// Records the state of a managed ring.
pub(crate) fn key_ring(signing_since: Option<SystemTime>, next_step: Option<SystemTime>, lagging: usize) {
    if let Some(since) = signing_since {
        set(SIGNING_KEY_SINCE, &[], timestamp(since));
    }
    set(KEY_RING_NEXT_STEP, &[], next_step.map_or(0.0, timestamp));
    set(KEY_RING_LAGGING, &[], float(lagging));
}

/// Creates a counter with the value 0, so that its first event is an increase, which alerts need.
pub(crate) fn expect_store_losses() {
    create(STORE_LOSSES, &[]);
}

/// Like [`expect_store_losses`].
pub(crate) fn expect_key_ring_refusals() {
    create(KEY_RING_REFUSALS, &[]);
}

/// Like [`expect_store_losses`].
pub(crate) fn expect_legacy_assertions() {
    for claim in ["aud", "exp"] {
        create(LEGACY_ASSERTIONS, &[("claim", claim)]);
    }
}

/// Like [`expect_store_losses`], for a client that is configured.
pub(crate) fn expect_api_key_requests(client: &str) {
    create(API_KEY_REQUESTS, &[("client", client)]);
}

/// Creates the counters of an audit log, so that the first failure is an increase.
pub(crate) fn audit_log_started() {
    create(AUDIT_WRITE_FAILURES, &[]);
    create(AUDIT_LOST_EVENTS, &[]);
}

/// Counts a failed write of an audit log.
pub(crate) fn audit_write_failed() {
    count(AUDIT_WRITE_FAILURES, &[]);
}

/// Counts events that an audit log lost.
pub(crate) fn audit_events_lost(events: u64) {
    count_many(AUDIT_LOST_EVENTS, events);
}

/// Counts a loss of acknowledged writes in the store.
pub(crate) fn store_lost_data() {
    count(STORE_LOSSES, &[]);
}

/// Counts a token that the calling side obtained from the configured `issuer`.
pub(crate) fn token_obtained(issuer: &str, now: SystemTime, expires_at: Option<SystemTime>) {
    set(TOKEN_OBTAINED, &[("issuer", issuer)], timestamp(now));
    count(OBTAINED_TOKENS, &[("issuer", issuer), ("outcome", "obtained")]);
    if let Some(expires_at) = expires_at {
        set(OBTAINED_TOKEN_EXPIRES, &[("issuer", issuer)], timestamp(expires_at));
    }
}

/// Counts a token request that failed.
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

/// Records the time up to which all revocations are known.
pub(crate) fn revocations_read(at: SystemTime) {
    set(REVOCATIONS_READ, &[], timestamp(at));
}

/// Converts a number; exact up to 4 GiB.
fn float(number: usize) -> f64 {
    u32::try_from(number).unwrap_or(u32::MAX).into()
}

fn timestamp(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(feature = "metrics")]
mod recorder {
    //! Sends the numbers to the installed recorder.

    use metrics::{Label, counter, gauge, histogram};

    pub(super) fn count(name: &'static str, labels: &[(&'static str, &str)]) {
        counter!(name, labels_of(labels)).increment(1);
    }

    pub(super) fn count_many(name: &'static str, number: u64) {
        counter!(name).increment(number);
    }

    /// Creates a counter with the value 0.
    pub(super) fn create(name: &'static str, labels: &[(&'static str, &str)]) {
        counter!(name, labels_of(labels)).increment(0);
    }

    pub(super) fn observe(name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        histogram!(name, labels_of(labels)).record(value);
    }

    /// Creates a histogram without values.
    pub(super) fn create_histogram(name: &'static str, labels: &[(&'static str, &str)]) {
        drop(histogram!(name, labels_of(labels)));
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
}

#[cfg(not(feature = "metrics"))]
mod silence {
    //! Does nothing, without the feature.

    pub(super) fn count(_: &'static str, _: &[(&'static str, &str)]) {}

    pub(super) fn count_many(_: &'static str, _: u64) {}

    pub(super) fn create(_: &'static str, _: &[(&'static str, &str)]) {}

    pub(super) fn add(_: &'static str, _: f64) {}

    pub(super) fn set(_: &'static str, _: &[(&'static str, &str)], _: f64) {}
}
