//! HTTP parts below the roles: response bodies, documents, and the client for requests to issuers.

mod endpoint_future;
#[cfg(feature = "remote")]
pub(crate) mod fetch;
#[cfg(feature = "remote")]
mod fetch_places;
#[cfg(feature = "remote")]
mod guarded_client;
mod http_client;
mod json_answer;
mod outgoing;
mod refusal_body;
#[cfg(feature = "remote")]
mod reqwest_client;
mod response_body;
mod retry_after;
mod served_document;
mod service_client;
mod wraps_service;

pub use self::endpoint_future::EndpointFuture;
#[cfg(feature = "remote")]
pub(crate) use self::fetch::FetchError;
#[cfg(feature = "remote")]
pub(crate) use self::fetch::send;
#[cfg(feature = "remote")]
pub(crate) use self::guarded_client::{GuardedClient, HostAccess};
pub use self::http_client::{HttpClient, HttpError, HttpFuture};
pub(crate) use self::json_answer::{answer, json_answer, uncached_answer};
pub(crate) use self::outgoing::{Limits, NoHttpClient, Outgoing};
pub use self::refusal_body::RefusalBody;
pub(crate) use self::refusal_body::RefusalHook;
#[cfg(feature = "remote")]
pub(crate) use self::reqwest_client::ReqwestClient;
pub(crate) use self::response_body::BodyEnd;
pub use self::response_body::ResponseBody;
pub(crate) use self::retry_after::retry_after;
pub(crate) use self::served_document::{Document, DocumentSettings, InvalidDocument, names_strongly, without_body};
pub(crate) use self::service_client::ServiceClient;
pub(crate) use self::wraps_service::wraps_service;
