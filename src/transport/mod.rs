//! HTTP parts below the roles: response bodies, documents, and the client for requests to issuers.

mod document;
#[cfg(feature = "remote")]
pub(crate) mod fetch;
#[cfg(feature = "remote")]
mod guarded_client;
#[cfg(feature = "remote")]
mod http_client;
mod refusal_body;
mod outgoing;
#[cfg(feature = "remote")]
mod reqwest_client;
mod response_body;
mod service_client;

pub(crate) use self::document::{Document, DocumentSettings, InvalidDocument, without_body};
#[cfg(feature = "remote")]
pub use self::fetch::FetchError;
#[cfg(feature = "remote")]
pub(crate) use self::fetch::{Limits, send};
#[cfg(feature = "remote")]
pub(crate) use self::guarded_client::{GuardedClient, HostAccess};
#[cfg(feature = "remote")]
pub(crate) use self::fetch::send;
pub(crate) use self::http_client::DynHttpClient;
pub use self::http_client::{HttpClient, HttpError};
pub use self::refusal_body::RefusalBody;
pub(crate) use self::refusal_body::RefusalHook;
pub(crate) use self::outgoing::{Limits, NoHttpClient, Outgoing};
#[cfg(feature = "remote")]
pub(crate) use self::reqwest_client::ReqwestClient;
pub(crate) use self::response_body::BodyEnd;
pub use self::response_body::ResponseBody;
pub(crate) use self::service_client::ServiceClient;
