//! The published keys of a remote issuer: fetched, refreshed, and fetched again if a token names an unknown key (feature
//! `remote`).
//!
//! 1. Keys are fetched only from configured URLs, never from URLs in a token. Requests use https (http on loopback, or [where
//!    that is accepted](crate::RemoteIssuer::dangerous_plain_http)), within 5 s and 256 KiB, without redirects to another host.
//!    They are sent directly, ignoring the environment's proxy settings, unless [that is
//!    chosen](crate::RemoteIssuer::use_environment_proxy). Metadata is requested from both well-known URLs, that of RFC 8414
//!    and that of OpenID Connect Discovery. An `ETag` is sent only to the URL that it came from.
//! 2. They are refreshed in the background, one fetch at a time, before they expire: after 70 to 80 % of the time that
//!    `Cache-Control` sets (1 minute to 24 hours; 10 minutes if it is absent). No request waits for this.
//! 3. A token with an unknown `kid` causes an immediate fetch: 3 in a row per issuer, then one per 10 s. One fetch serves all
//!    waiting requests. A request waits for at most twice the timeout of a document (10 s), then it is answered 503. If a set
//!    that was requested after the token arrived lacks the name, the answer is 401, and the name causes no fetch for 10 s
//!    (1,000 names are remembered, until the set changes). During that time, a token with this name is refused if it claims to
//!    be issued before the set was requested (`iat`, with the [leeway](crate::Verifier::leeway)). A newer one is answered 503
//!    with `Retry-After`, since the key may be new, and another caller may have guessed its name. While no fetch is allowed,
//!    the answer is 503 as well.
//! 4. A name may mean another key later. An accepted token, and a cached header, are valid only while their name means the key
//!    that signed them. A wrong signature with a known `kid` and `alg` causes a fetch, once per 60 s and from a separate
//!    budget; in between, the token is refused.
//! 5. While the issuer is down, the last keys are used for 24 hours. After that, or if there never were any, the answer is 503
//!    with `Retry-After`. It recovers without a restart.
//! 6. Invalid and unknown keys of a set are ignored; see [`KeySet`](super::KeySet). A set without any usable key counts as a
//!    failed fetch.
//!
//! # Deployment caveats
//!
//! - A key that the issuer removes from its set is trusted until the next fetch, for as long as its `Cache-Control` allows.
//! - A cache in front of the key set, such as a CDN, may answer with an older copy. An answer with `Age` above 0 may lack a new
//!   key, and then a token of that key is refused (401). Fetches caused by an unknown `kid` or a wrong signature are sent with
//!   `Cache-Control: no-cache`, so that the cache asks the issuer first (RFC 9111 §5.2.1.4). If a cache ignores that, the
//!   issuer should publish a key at least the cache's lifetime before it signs with it.
//!
//! # Outlier detection
//!
//! Callers can cause the 503 of rule 3 with tokens that have random key names, and with [`Introspection`](crate::Introspection)
//! by tokens for which its server does not answer. A proxy that ejects a host after some 5xx answers in a row (Envoy and Istio:
//! 5 by default) would take a healthy service out of use. These 503s have a separate [counter](crate::metrics),
//! `client_credentials_unknown_key_unavailable_total`, and a separate kind,
//! [`UnavailableKind::UnknownKey`](crate::verification::UnavailableKind::UnknownKey). Those of introspection are
//! `client_credentials_unanswered_token_total` and
//! [`UnavailableKind::UnansweredToken`](crate::verification::UnavailableKind::UnansweredToken). Exclude them in one of
//! these ways:
//!
//! - The proxy counts only its own failures, such as refused connections and timeouts: in Envoy,
//!   `split_external_local_origin_errors: true` with `enforcing_consecutive_5xx: 0` and
//!   `enforcing_consecutive_gateway_failure: 0`; in Istio, `splitExternalLocalOriginErrors: true` with
//!   `consecutive5xxErrors: 0` and `consecutiveGatewayErrors: 0`. An active health check uses
//!   [`Verifier::is_ready`](crate::Verifier::is_ready), which callers cannot influence.
//! - An outer layer replaces their status with one that the proxy does not count. 429 keeps `Retry-After`, and callers retry
//!   as well. (A gRPC answer has its status in another header; the example does not change it.)
//!
//! ```
//! use http::{Response, StatusCode};
//! use tower::util::MapResponseLayer;
//! use tower_client_credentials::resource_server::BearerError;
//! use tower_client_credentials::verification::UnavailableKind;
//!
//! fn not_an_outlier<B>(mut response: Response<B>) -> Response<B> {
//!     let is_by_caller = |kind| matches!(kind, UnavailableKind::UnknownKey | UnavailableKind::UnansweredToken);
//!     let error = response.extensions().get::<BearerError>();
//!     if matches!(error, Some(BearerError::Unavailable(unavailable)) if is_by_caller(unavailable.kind()))
//!         && response.status() == StatusCode::SERVICE_UNAVAILABLE
//!     {
//!         *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
//!     }
//!     response
//! }
//!
//! let outside = MapResponseLayer::new(not_an_outlier::<axum::body::Body>);
//! ```
//!
//! # Example
//!
//! An HTTP client of your own:
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use tower_client_credentials::RemoteIssuer;
//! use tower_client_credentials::transport::{HttpClient, HttpError, HttpFuture};
//!
//! #[derive(Debug)]
//! struct ThroughOurProxy;
//!
//! impl HttpClient for ThroughOurProxy {
//!     fn send(&self, request: Request<Bytes>, most: usize) -> HttpFuture<'_> {
//!         HttpFuture::new(async move {
//!             # let _ = (request, most);
//!             Err(HttpError::new("no proxy in a doc-test"))
//!         })
//!     }
//! }
//!
//! let issuer = RemoteIssuer::new("https://auth.example.com", "https://api.example.com")?.http_client(ThroughOurProxy);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod alarm;
mod budget;
#[cfg(test)]
mod changed_names_tests;
mod discovery;
#[cfg(test)]
mod discovery_tests;
mod fetch_policy;
mod fetches;
#[cfg(test)]
mod idle_tests;
#[cfg(test)]
mod log_tests;
#[cfg(test)]
mod readiness_tests;
mod refresh;
mod remote_keys;
mod source;
#[cfg(test)]
mod tests;
mod unknown;
#[cfg(test)]
mod unknown_names_tests;

pub(crate) use self::fetch_policy::Policy;
pub(crate) use self::remote_keys::RemoteKeys;
pub(crate) use self::source::{KeySource, Place};
