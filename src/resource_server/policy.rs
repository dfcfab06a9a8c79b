//! Your own policy over the requests of a route: what it sees, and what it returns.

use std::fmt;
use std::sync::Arc;

use http::{Extensions, HeaderMap, Method, Request, Uri, Version};

use super::error::BearerError;
use crate::scope::Scopes;
use crate::verification::{Unavailable, VerifiedToken};

/// A request without its body, as passed to a [policy](super::BearerAuthLayer::policy).
///
/// ```
/// use tower_client_credentials::resource_server::RequestHead;
///
/// let request = http::Request::get("/invoices/7").body(())?;
/// assert_eq!(RequestHead::from(&request).uri().path(), "/invoices/7");
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    method: &'a Method,
    uri: &'a Uri,
    version: Version,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> RequestHead<'a> {
    /// Returns the method.
    #[must_use]
    pub fn method(self) -> &'a Method {
        self.method
    }

    /// Returns the URI. In a nested axum router it lacks the prefix; the full URI is `axum::extract::OriginalUri` in the
    /// [extensions](Self::extensions).
    #[must_use]
    pub fn uri(self) -> &'a Uri {
        self.uri
    }

    /// Returns the HTTP version of the request.
    #[must_use]
    pub fn version(self) -> Version {
        self.version
    }

    /// Returns the headers. The caller wrote them.
    #[must_use]
    pub fn headers(self) -> &'a HeaderMap {
        self.headers
    }

    /// Returns the extensions that the server and outer layers set.
    #[must_use]
    pub fn extensions(self) -> &'a Extensions {
        self.extensions
    }
}

impl<'a, B> From<&'a Request<B>> for RequestHead<'a> {
    fn from(request: &'a Request<B>) -> Self {
        let (method, uri) = (request.method(), request.uri());
        let version = request.version();
        Self { method, uri, version, headers: request.headers(), extensions: request.extensions() }
    }
}

impl<'a> From<&'a http::request::Parts> for RequestHead<'a> {
    fn from(parts: &'a http::request::Parts) -> Self {
        let http::request::Parts { method, uri, version, headers, extensions, .. } = parts;
        Self { method, uri, version: *version, headers, extensions }
    }
}

/// The reason why a [policy](super::BearerAuthLayer::policy) does not admit a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The token is valid but does not permit this request: 403.
    #[error(transparent)]
    Refused(#[from] Forbidden),
    /// The policy cannot decide: 503.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The refusal of a request with a valid token. Its text is for the operator; the caller reads only the status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Forbidden {
    reason: String,
    required: Option<Scopes>,
}

impl Forbidden {
    /// Creates a refusal that another token of the client would not lift: 403 without an error code.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), required: None }
    }

    /// Creates a refusal that a token with these scopes would lift: 403 `insufficient_scope`. The challenge names the scopes to
    /// the caller (RFC 6750 §3.1).
    pub fn insufficient_scope(required: impl Into<Scopes>) -> Self {
        let required = required.into();
        Self { reason: format!("the scopes `{required}` are required"), required: Some(required) }
    }
}

impl Forbidden {
    /// Returns the reason, and the scopes that would lift the refusal.
    pub(super) fn into_parts(self) -> (String, Option<Scopes>) {
        (self.reason, self.required)
    }
}

pub(super) type Decide = dyn Fn(&VerifiedToken, RequestHead<'_>) -> Result<(), PolicyError> + Send + Sync;

/// A policy: a closure over the verified token and the request.
#[derive(Clone)]
pub(super) struct Policy(pub(super) Arc<Decide>);

impl Policy {
    pub(super) fn check(&self, token: &VerifiedToken, request: RequestHead<'_>) -> Result<(), BearerError> {
        (self.0)(token, request).map_err(|error| match error {
            PolicyError::Unavailable(unavailable) => unavailable.into(),
            PolicyError::Refused(Forbidden { required: Some(required), .. }) => {
                BearerError::insufficient_scope(token, required)
            }
            PolicyError::Refused(Forbidden { reason, required: None }) => BearerError::forbidden(token, reason),
        })
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Policy").finish_non_exhaustive()
    }
}
