//! The keys of somebody else, as he publishes them: fetched, kept fresh, and asked for again when a name is unknown
//! (feature `remote`).
//!
//! 1. Keys are fetched from where the configuration says, and never from where a token says: over https (http on
//!    loopback, or [where that is accepted](crate::RemoteIssuer::dangerous_plain_http)), in 5 s and 256 KiB, without
//!    redirects to another host, and directly, whatever proxy the environment names, unless
//!    [that is chosen](crate::RemoteIssuer::use_environment_proxy).
//! 2. They are fetched ahead of their end, at 70 to 80 % of what `Cache-Control` says (1 minute to 24 hours; 10 minutes
//!    where it says nothing), once at a time, in the background: no request waits for it.
//! 3. A token of an unknown `kid` has the keys fetched at once, but no more than once in 30 s an issuer; what that did
//!    not bring is remembered (1,000 names, 30 s), and refused without a fetch.
//! 4. While the issuer is down, the last keys stay in use for 24 hours. Then, or where there never were any, nobody can
//!    decide: a 503 with `Retry-After`. It heals by itself.
//! 5. One bad or unknown key never spoils a set; see [`KeySet`](super::KeySet). A set without any key of use is a failed
//!    fetch.
//!
//! # Deployment caveat
//!
//! A key that the issuer takes out of its set is trusted until the next fetch: for as long as its `Cache-Control` says.
//!
//! # Example
//!
//! An HTTP client of one's own:
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use tower_client_credentials::RemoteIssuer;
//! use tower_client_credentials::keys::remote::{HttpClient, HttpError};
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

mod cache;
mod discovery;
mod fetch;
mod http_client;
mod policy;
mod reqwest_client;
mod source;
#[cfg(test)]
mod tests;
mod unknown;

pub(crate) use self::cache::RemoteKeys;
pub use self::fetch::FetchError;
pub(crate) use self::fetch::{Limits, send};
pub(crate) use self::http_client::DynHttpClient;
pub use self::http_client::{HttpClient, HttpError};
pub(crate) use self::policy::Policy;
pub(crate) use self::reqwest_client::ReqwestClient;
pub(crate) use self::source::{KeySource, Place};
