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
//! | `client_credentials_bearer_requests_total` | counter | `outcome`: `admitted`, `refused`, `undecided`, `anonymous`; `reason` | requests to protected routes; `reason` is that of [`BearerError::reason`](crate::BearerError::reason), or empty |
//! | `client_credentials_token_cache_lookups_total` | counter | `outcome`: `hit`, `miss` | tokens looked for among those verified before |
//! | `client_credentials_token_cache_evictions_total` | counter | | tokens that had to go before they were forgotten otherwise |
//! | `client_credentials_token_cache_tokens` | gauge | | tokens remembered |
//! | `client_credentials_token_cache_bytes` | gauge | | what they take, about |
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

#[cfg(feature = "metrics")]
pub use self::recorder::describe;
#[cfg(feature = "metrics")]
use self::recorder::{add, count};
#[cfg(not(feature = "metrics"))]
use self::silence::{add, count};

const TOKEN_CACHE_LOOKUPS: &str = "client_credentials_token_cache_lookups_total";
const TOKEN_CACHE_EVICTIONS: &str = "client_credentials_token_cache_evictions_total";
const TOKEN_CACHE_TOKENS: &str = "client_credentials_token_cache_tokens";
const TOKEN_CACHE_BYTES: &str = "client_credentials_token_cache_bytes";

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

/// A verified token had to go, so that there is room.
pub(crate) fn cached_token_evicted() {
    count(TOKEN_CACHE_EVICTIONS, &[]);
}

/// Exact up to 4 GiB.
fn float(number: usize) -> f64 {
    u32::try_from(number).unwrap_or(u32::MAX).into()
}

#[cfg(feature = "metrics")]
mod recorder {
    //! To whatever recorder is installed.

    use metrics::{Label, Unit, counter, describe_counter, describe_gauge, gauge};

    pub(super) fn count(name: &'static str, labels: &[(&'static str, &'static str)]) {
        let labels: Vec<Label> = labels.iter().map(|(key, value)| Label::from_static_parts(key, value)).collect();
        counter!(name, labels).increment(1);
    }

    pub(super) fn add(name: &'static str, value: f64) {
        gauge!(name).increment(value);
    }

    /// Tells the recorder the unit and the meaning of every number, for those that show them. Call it once, when the
    /// recorder is installed.
    pub fn describe() {
        describe_counter!(super::TOKEN_CACHE_LOOKUPS, Unit::Count, "Tokens looked for among those verified before");
        describe_counter!(super::TOKEN_CACHE_EVICTIONS, Unit::Count, "Verified tokens that had to make room");
        describe_gauge!(super::TOKEN_CACHE_TOKENS, Unit::Count, "Verified tokens that are remembered");
        describe_gauge!(super::TOKEN_CACHE_BYTES, Unit::Bytes, "What the remembered tokens take, about");
    }
}

#[cfg(not(feature = "metrics"))]
mod silence {
    //! What is left of it without the feature.

    pub(super) fn count(_: &'static str, _: &[(&'static str, &'static str)]) {}

    pub(super) fn add(_: &'static str, _: f64) {}
}
