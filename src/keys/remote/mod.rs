//! The keys of an issuer elsewhere, as it publishes them: fetched, kept fresh, and fetched again when a token names an
//! unknown key (feature `remote`).
//!
//! 1. Keys are fetched from where the configuration says, and never from where a token says: over https (http on
//!    loopback, or [where that is accepted](crate::RemoteIssuer::dangerous_plain_http)), in 5 s and 256 KiB, without
//!    redirects to another host, and directly, whatever proxy the environment names, unless
//!    [that is chosen](crate::RemoteIssuer::use_environment_proxy). Metadata is looked for at both
//!    well-known URLs, that of RFC 8414 and that of OpenID Connect Discovery; an `ETag` goes only to the URL that it came from.
//! 2. They are fetched ahead of their end, at 70 to 80 % of what `Cache-Control` says (1 minute to 24 hours; 10 minutes
//!    where it says nothing), one fetch at a time, in the background: no request waits for it.
//! 3. A token of an unknown `kid` causes a fetch at once: 3 in a row per issuer, then one per 10 s. One fetch serves every
//!    request that waits; a request waits as long as two documents may take (10 s), then it is answered 503. If a set that was
//!    requested after the token came lacks the name, the answer is 401, and the name causes no fetch for 10 s (1,000 names are
//!    remembered, until the set changes). In that time, a token of this name is refused if it says that it was issued before
//!    the set was requested (`iat`, with the [leeway](crate::Verifier::leeway)); a newer one is answered 503 with
//!    `Retry-After`, since the key may be new, and a stranger may have guessed its name. While no fetch is allowed, the answer
//!    is 503 as well.
//! 4. A name may come to mean another key. A token that was accepted, and a header that was read before, are good only while
//!    their name means the key that signed them. A wrong signature under a known `kid` and `alg` causes a fetch, once per 60 s
//!    and from a budget of its own; in between, it is refused.
//! 5. While the issuer is down, the last keys stay in use for 24 hours. Then, or where there never were any, the answer is
//!    503 with `Retry-After`. It recovers without a restart.
//! 6. One bad or unknown key never spoils a set; see [`KeySet`](super::KeySet). A set without any key of use is a failed
//!    fetch.
//!
//! # Deployment caveats
//!
//! - A key that the issuer takes out of its set is trusted until the next fetch: for as long as its `Cache-Control` says.
//! - A cache in front of the key set, such as a CDN, may answer with an older copy: an answer with `Age` above 0 may lack a new
//!   key, and then a token of that key is refused (401). Fetches that an unknown `kid` or a wrong signature causes are sent with
//!   `Cache-Control: no-cache`, so that the cache asks the issuer first (RFC 9111 §5.2.1.4). Where a cache ignores that, let
//!   the issuer publish a key at least the cache's lifetime before it signs with it.
//!
//! # Outlier detection
//!
//! A stranger can cause the 503 of rule 3 with tokens that name keys at random, and with [`Introspection`](crate::Introspection) by
//! tokens that its server does not answer about. A proxy that ejects a host after some answers
//! of 5xx in a row (Envoy and Istio: 5 by default) would take a healthy service out of use. These 503s have a
//! [counter](crate::metrics) of their own, `client_credentials_unknown_key_unavailable_total`, and a kind of their own,
//! [`UndecidedKind::UnknownKey`](crate::UndecidedKind::UnknownKey); those of introspection are
//! `client_credentials_unanswered_token_total` and [`UndecidedKind::UnansweredToken`](crate::UndecidedKind::UnansweredToken).
//! Leave them out by one of these ways:
//!
//! - The proxy counts only failures of its own, such as refused connections and timeouts: in Envoy,
//!   `split_external_local_origin_errors: true` with `enforcing_consecutive_5xx: 0` and
//!   `enforcing_consecutive_gateway_failure: 0`; in Istio, `splitExternalLocalOriginErrors: true` with
//!   `consecutive5xxErrors: 0` and `consecutiveGatewayErrors: 0`. An active health check asks
//!   [`Verifier::is_ready`](crate::Verifier::is_ready), which a stranger cannot change.
//! - A layer outside answers them with a status that the proxy does not count. 429 keeps `Retry-After`, and makes callers
//!   try again as well. (A gRPC answer has its status in another header: the example leaves it alone.)
//!
//! ```
//! use http::{Response, StatusCode};
//! use tower::util::MapResponseLayer;
//! use tower_client_credentials::{BearerError, UndecidedKind};
//!
//! fn not_an_outlier<B>(mut response: Response<B>) -> Response<B> {
//!     let is_by_caller = |kind| matches!(kind, UndecidedKind::UnknownKey | UndecidedKind::UnansweredToken);
//!     let error = response.extensions().get::<BearerError>();
//!     if matches!(error, Some(BearerError::Undecided(undecided)) if is_by_caller(undecided.kind()))
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
//! An HTTP client of one's own:
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use tower_client_credentials::RemoteIssuer;
//! use tower_client_credentials::transport::{HttpClient, HttpError};
//!
//! #[derive(Debug)]
//! struct ThroughOurProxy;
//!
//! impl HttpClient for ThroughOurProxy {
//!     async fn send(&self, request: Request<Bytes>, most: usize) -> Result<Response<Bytes>, HttpError> {
//!         # let _ = (request, most);
//!         Err(HttpError::new("no proxy in a doc-test"))
//!     }
//! }
//!
//! let issuer = RemoteIssuer::new("https://auth.example.com", "https://api.example.com")?.http_client(ThroughOurProxy);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod budget;
mod cache;
#[cfg(test)]
mod changed_names_tests;
mod discovery;
#[cfg(test)]
mod discovery_tests;
mod fetches;
#[cfg(test)]
mod log_tests;
mod policy;
#[cfg(test)]
mod readiness_tests;
mod source;
#[cfg(test)]
mod tests;
mod unknown;
#[cfg(test)]
mod unknown_names_tests;

pub(crate) use self::cache::RemoteKeys;
pub(crate) use self::policy::Policy;
pub(crate) use self::source::{KeySource, Place};
