//! [`TokenError`]: why a request got no token. One text is for the caller, another for the operator (RFC 6749 §5.2).

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ALLOW, CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode, Version};
use http_body_util::Full;
use serde::Serialize;

use super::body::BodyError;
use crate::client_id::ClientId;
use crate::crypto::RandomError;
use crate::event::Failure;
use crate::keys::SignError;
use crate::named::named;
use crate::transport::json_answer;

named! {
    /// The `error` code of a refused request (RFC 6749 §5.2, RFC 7009 §2.2.1, RFC 8707 §2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    #[non_exhaustive]
    pub enum TokenErrorKind {
        /// `invalid_request`: the request is malformed.
        InvalidRequest = "invalid_request",
        /// `invalid_client`: the client could not be authenticated. The caller does not learn the reason.
        InvalidClient = "invalid_client",
        /// `unauthorized_client`: the client was authenticated, but may not use this grant.
        UnauthorizedClient = "unauthorized_client",
        /// `unsupported_grant_type`: the grant type is not `client_credentials`.
        UnsupportedGrantType = "unsupported_grant_type",
        /// `unsupported_response_type`: the authorization endpoint supports no response type (RFC 6749 §4.1.2.1).
        UnsupportedResponseType = "unsupported_response_type",
        /// `invalid_scope`: a scope is malformed, unknown, or not allowed for the client.
        InvalidScope = "invalid_scope",
        /// `invalid_target`: a resource is malformed, unknown, or not allowed for the client.
        InvalidTarget = "invalid_target",
        /// `unsupported_token_type`: a token of this type cannot be revoked (RFC 7009 §2.2.1).
        UnsupportedTokenType = "unsupported_token_type",
        /// `temporarily_unavailable`: the server could not decide, because a part that it needs did not answer (503), or
        /// there were too many failed attempts before (429).
        TemporarilyUnavailable = "temporarily_unavailable",
    }

    /// Returns the registered name of the code.
    pub const fn code();
}

/// One row of the table below: everything that a caller learns about a refusal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    status: StatusCode,
    kind: TokenErrorKind,
    description: &'static str,
}

/// All refusals that a caller can receive.
impl Fault {
    pub(super) const METHOD: Self =
        Self::new(StatusCode::METHOD_NOT_ALLOWED, TokenErrorKind::InvalidRequest, "this endpoint takes POST only");
    pub(super) const AUTHORIZATION_METHOD: Self = Self::new(
        StatusCode::METHOD_NOT_ALLOWED,
        TokenErrorKind::InvalidRequest,
        "this endpoint takes GET and POST only",
    );
    pub(super) const RESPONSE_TYPE: Self = Self::bad(
        TokenErrorKind::UnsupportedResponseType,
        "this server supports no response type; clients get tokens at the token endpoint by client_credentials",
    );
    pub(super) const CONTENT_TYPE: Self =
        Self::invalid_request("the content type must be application/x-www-form-urlencoded, and occur once");
    pub(super) const CONTENT_ENCODING: Self = Self::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        TokenErrorKind::InvalidRequest,
        "the request body must not be compressed",
    );
    pub(super) const TOO_LARGE: Self =
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, TokenErrorKind::InvalidRequest, "the request body is too large");
    pub(super) const TOO_SLOW: Self = Self::new(
        StatusCode::REQUEST_TIMEOUT,
        TokenErrorKind::InvalidRequest,
        "the request body did not arrive in time",
    );
    pub(super) const BROKEN: Self = Self::invalid_request("the request body ended early");
    pub(super) const ENCODING: Self = Self::invalid_request("the request body is not well-formed form data in UTF-8");
    pub(super) const CONTROL_CHARACTER: Self = Self::invalid_request("a parameter contains a control character");
    pub(super) const REPEATED: Self = Self::invalid_request("a parameter occurs more than once");
    pub(super) const TOO_MANY_PARAMETERS: Self =
        Self::invalid_request("the request has more than 64 parameters, or more than 32 of them are resource");
    pub(super) const NO_GRANT_TYPE: Self = Self::invalid_request("the parameter grant_type is missing");
    pub(super) const GRANT_TYPE: Self =
        Self::bad(TokenErrorKind::UnsupportedGrantType, "the grant type must be client_credentials");
    pub(super) const QUERY: Self = Self::invalid_request("client credentials must not be in the query of the URL");
    pub(super) const TWO_METHODS: Self = Self::invalid_request("the client must authenticate with exactly one method");
    pub(super) const CLIENT_ID_DIFFERS: Self =
        Self::invalid_request("the client_id differs from the one in the Authorization header");
    /// One text for every cause, so that a caller cannot distinguish an unknown client from a wrong secret.
    pub(super) const CLIENT: Self =
        Self::new(StatusCode::UNAUTHORIZED, TokenErrorKind::InvalidClient, "client authentication failed");
    pub(super) const TOO_MANY_FAILURES: Self = Self::new(
        StatusCode::TOO_MANY_REQUESTS,
        TokenErrorKind::TemporarilyUnavailable,
        "too many failed attempts; try again later",
    );
    pub(super) const GRANT_NOT_ALLOWED: Self =
        Self::bad(TokenErrorKind::UnauthorizedClient, "the client may not use this grant");
    pub(super) const SCOPE_SYNTAX: Self = Self::bad(TokenErrorKind::InvalidScope, "the scope is malformed");
    pub(super) const SCOPE: Self =
        Self::bad(TokenErrorKind::InvalidScope, "one of the scopes is not allowed for this client");
    pub(super) const RESOURCE_SYNTAX: Self =
        Self::invalid_target("a resource must be an absolute URI without a fragment");
    pub(super) const RESOURCE: Self = Self::invalid_target("one of the resources is not allowed for this client");
    pub(super) const AUDIENCE_DIFFERS: Self =
        Self::invalid_target("the parameters audience and resource name different resources");
    pub(super) const NO_RESOURCE: Self =
        Self::invalid_target("the parameter resource is missing, and the client has no default");
    pub(super) const NO_AUDIENCE: Self =
        Self::invalid_target("the client is registered for no resource of this server");
    pub(super) const UNAVAILABLE: Self = Self::new(
        StatusCode::SERVICE_UNAVAILABLE,
        TokenErrorKind::TemporarilyUnavailable,
        "the authorization server cannot answer now; try again later",
    );

    pub(super) const NO_TOKEN: Self = Self::invalid_request("the parameter token is missing");
    pub(super) const TOKEN_TYPE: Self =
        Self::bad(TokenErrorKind::UnsupportedTokenType, "only access tokens can be revoked");
    pub(super) const MAY_NOT_INTROSPECT: Self =
        Self::bad(TokenErrorKind::UnauthorizedClient, "the client may not introspect tokens");

    const fn invalid_request(description: &'static str) -> Self {
        Self::bad(TokenErrorKind::InvalidRequest, description)
    }

    const fn invalid_target(description: &'static str) -> Self {
        Self::bad(TokenErrorKind::InvalidTarget, description)
    }

    const fn bad(kind: TokenErrorKind, description: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, kind, description)
    }

    /// Creates a row. A description outside the character set of RFC 6749 §5.2 is a compile error.
    const fn new(status: StatusCode, kind: TokenErrorKind, description: &'static str) -> Self {
        let mut rest = description.as_bytes();
        while let [byte, tail @ ..] = rest {
            let allowed = matches!(byte, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e);
            assert!(allowed, "a character that RFC 6749 §5.2 does not allow in error_description");
            rest = tail;
        }
        Self { status, kind, description }
    }
}

/// The default of `Retry-After`, in seconds.
const RETRY_AFTER_SECONDS: u64 = 1;

/// The reason why a request got no token.
///
/// It is in the extensions of the response, for outer layers that log or count. Its `Display` and
/// [`source`](Error::source) are for the operator: they say more than the caller learns, and never contain a secret.
///
/// ```
/// use http::Response;
/// use tower_client_credentials::authorization_server::{TokenError, TokenErrorKind};
///
/// fn count<B>(response: &Response<B>) -> Option<TokenErrorKind> {
///     response.extensions().get::<TokenError>().map(TokenError::kind)
/// }
/// ```
#[derive(Clone, Debug)]
pub struct TokenError(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    fault: Fault,
    client_id: Option<ClientId>,
    detail: Option<String>,
    source: Option<Arc<dyn Error + Send + Sync>>,
    retry_after: u64,
    /// Whether only a short time has to pass, as after each revocation of a client's tokens. No part has failed.
    is_short_wait: bool,
}

impl TokenError {
    pub(super) fn new(fault: Fault) -> Self {
        let retry_after = RETRY_AFTER_SECONDS;
        let inner = Inner { fault, client_id: None, detail: None, source: None, retry_after, is_short_wait: false };
        Self(Arc::new(inner))
    }

    /// Sets the client id, as given in the request.
    pub(super) fn of(mut self, client: &ClientId) -> Self {
        Arc::make_mut(&mut self.0).client_id = Some(client.clone());
        self
    }

    /// Sets a more precise text for the operator.
    pub(super) fn detailed(mut self, detail: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.0).detail = Some(detail.into());
        self
    }

    /// Sets the source of this error, for the operator.
    pub(super) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Arc::make_mut(&mut self.0).source = Some(source.into().into());
        self
    }

    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        Arc::make_mut(&mut self.0).retry_after = seconds;
        self
    }

    /// Marks a refusal that only asks the client to wait for a short time.
    pub(super) fn short_wait(mut self) -> Self {
        Arc::make_mut(&mut self.0).is_short_wait = true;
        self
    }

    /// Returns whether only a short time has to pass. No part of the server has failed.
    pub(super) fn is_short_wait(&self) -> bool {
        self.0.is_short_wait
    }

    /// Returns the outcome of the request, for metrics.
    pub(super) fn outcome(&self) -> &'static str {
        if self.status().is_server_error() && !self.is_short_wait() { "unavailable" } else { "refused" }
    }

    /// Creates the error for a part of the server that did not do its work.
    pub(super) fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Fault::UNAVAILABLE).because(source)
    }

    /// Creates the error for a token that could not be signed.
    pub(super) fn unsigned(error: SignError) -> Self {
        Self::unavailable(error.into_source()).detailed("the key could not sign")
    }

    /// Creates the error for a server that was cut off from the store of its keys.
    pub(super) fn cut_off() -> Self {
        Self::new(Fault::UNAVAILABLE)
            .detailed("this process has not reached the key store for too long to know its keys")
    }

    /// Returns whether authentication failed, or there were too many failed attempts.
    pub(super) fn is_authentication_failure(&self) -> bool {
        matches!(self.status(), StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS)
    }

    /// Returns the client id of the request, if the request was read up to it. With status 401, 429 or 503, the client
    /// is not authenticated.
    #[must_use]
    pub fn client_id(&self) -> Option<&ClientId> {
        self.0.client_id.as_ref()
    }

    /// Returns the error code.
    #[must_use]
    pub fn kind(&self) -> TokenErrorKind {
        self.0.fault.kind
    }

    /// Returns the text for the caller, the `error_description` of the response.
    #[must_use]
    pub fn description(&self) -> &'static str {
        self.0.fault.description
    }

    /// Returns the status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.fault.status
    }

    /// Returns the response of RFC 6749 §5.2. A 401 contains `challenge`.
    pub(super) fn into_response(self, challenge: &HeaderValue, version: Version) -> Response<Full<Bytes>> {
        let Fault { status, kind, description } = self.0.fault;
        let mut response = json_answer(status, &Refusal { error: kind.code(), error_description: description });
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => drop(headers.insert(WWW_AUTHENTICATE, challenge.clone())),
            StatusCode::METHOD_NOT_ALLOWED => drop(headers.insert(ALLOW, HeaderValue::from_static("POST"))),
            // RFC 9110 §12.5.3: lists the accepted content codings.
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(RETRY_AFTER, self.0.retry_after.into());
            }
            // Otherwise the rest of the body would be parsed as the next request (RFC 9112 §9.3).
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT if version < Version::HTTP_2 => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        Self::new(error.kind().code(), error.status(), error)
    }
}

#[derive(Serialize)]
struct Refusal {
    error: &'static str,
    error_description: &'static str,
}

impl From<Fault> for TokenError {
    fn from(fault: Fault) -> Self {
        Self::new(fault)
    }
}

impl From<BodyError> for TokenError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Fault::TOO_LARGE.into(),
            BodyError::TooSlow => Fault::TOO_SLOW.into(),
            BodyError::Broken(source) => Self::from(Fault::BROKEN).because(source),
        }
    }
}

impl From<RandomError> for TokenError {
    fn from(error: RandomError) -> Self {
        Self::unavailable(error)
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { fault, client_id, detail, .. } = &*self.0;
        write!(f, "{}: ", fault.kind.code())?;
        if let Some(client_id) = client_id {
            write!(f, "client `{client_id}`: ")?;
        }
        f.write_str(detail.as_deref().unwrap_or(fault.description))
    }
}

impl Error for TokenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
