//! [`TokenError`]: why there is no token, in two texts, one for the caller and one for the operator (RFC 6749 §5.2).

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ALLOW, CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode, Version};
use http_body_util::Full;
use serde::Serialize;

use super::answer::json;
use super::body::BodyError;
use crate::client_id::ClientId;
use crate::crypto::RandomError;
use crate::event::Failure;

/// The `error` code of a refusal (RFC 6749 §5.2, RFC 7009 §2.2.1, RFC 8707 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenErrorKind {
    /// `invalid_request`: the request is malformed.
    InvalidRequest,
    /// `invalid_client`: the client could not be authenticated. The caller is not told why.
    InvalidClient,
    /// `unauthorized_client`: a known client, which may not use this grant.
    UnauthorizedClient,
    /// `unsupported_grant_type`: another grant than `client_credentials`.
    UnsupportedGrantType,
    /// `unsupported_response_type`: the authorization endpoint supports none (RFC 6749 §4.1.2.1).
    UnsupportedResponseType,
    /// `invalid_scope`: a scope that is malformed, unknown, or not the client's.
    InvalidScope,
    /// `invalid_target`: a resource that is malformed, unknown, or not the client's.
    InvalidTarget,
    /// `unsupported_token_type`: a token that cannot be revoked (RFC 7009 §2.2.1).
    UnsupportedTokenType,
    /// `temporarily_unavailable`: we did not decide: a part that we need did not answer (503), or there were too many
    /// failures before (429).
    TemporarilyUnavailable,
}

impl TokenErrorKind {
    /// The registered name.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::UnsupportedTokenType => "unsupported_token_type",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
        }
    }
}

/// One row of the table below: all that a caller gets to read of a refusal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    status: StatusCode,
    kind: TokenErrorKind,
    description: &'static str,
}

/// Every refusal that a caller can get to read.
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
        Self::bad(TokenErrorKind::InvalidRequest, "there must be one content type, application/x-www-form-urlencoded");
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
    pub(super) const BROKEN: Self = Self::bad(TokenErrorKind::InvalidRequest, "the request body broke off");
    pub(super) const ENCODING: Self =
        Self::bad(TokenErrorKind::InvalidRequest, "the request body is not well-formed form data in UTF-8");
    pub(super) const CONTROL_CHARACTER: Self =
        Self::bad(TokenErrorKind::InvalidRequest, "a parameter has a control character");
    pub(super) const REPEATED: Self = Self::bad(TokenErrorKind::InvalidRequest, "a parameter occurs more than once");
    pub(super) const TOO_MANY_PARAMETERS: Self = Self::bad(
        TokenErrorKind::InvalidRequest,
        "the request has more than 64 parameters, or more than 32 of them are resource",
    );
    pub(super) const NO_GRANT_TYPE: Self =
        Self::bad(TokenErrorKind::InvalidRequest, "the parameter grant_type is missing");
    pub(super) const GRANT_TYPE: Self =
        Self::bad(TokenErrorKind::UnsupportedGrantType, "the grant type must be client_credentials");
    pub(super) const QUERY: Self =
        Self::bad(TokenErrorKind::InvalidRequest, "client credentials must not be in the query");
    pub(super) const TWO_METHODS: Self =
        Self::bad(TokenErrorKind::InvalidRequest, "the client must authenticate by one method, once");
    pub(super) const CLIENT_ID_DIFFERS: Self =
        Self::bad(TokenErrorKind::InvalidRequest, "the client_id differs from the one in the Authorization header");
    /// One text for every cause, so that nobody can tell an unknown client from a wrong secret.
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
    pub(super) const SCOPE: Self = Self::bad(TokenErrorKind::InvalidScope, "the client may not have one of the scopes");
    pub(super) const RESOURCE_SYNTAX: Self =
        Self::bad(TokenErrorKind::InvalidTarget, "a resource must be an absolute URI without a fragment");
    pub(super) const RESOURCE: Self =
        Self::bad(TokenErrorKind::InvalidTarget, "the client may not have a token for one of the resources");
    pub(super) const AUDIENCE_DIFFERS: Self =
        Self::bad(TokenErrorKind::InvalidTarget, "the parameters audience and resource name different resources");
    pub(super) const NO_RESOURCE: Self =
        Self::bad(TokenErrorKind::InvalidTarget, "the parameter resource is missing, and the client has no default");
    pub(super) const NO_AUDIENCE: Self =
        Self::bad(TokenErrorKind::InvalidTarget, "the client is registered for no resource of this server");
    pub(super) const UNAVAILABLE: Self = Self::new(
        StatusCode::SERVICE_UNAVAILABLE,
        TokenErrorKind::TemporarilyUnavailable,
        "the authorization server cannot answer now; try again later",
    );

    pub(super) const NO_TOKEN: Self = Self::bad(TokenErrorKind::InvalidRequest, "the parameter token is missing");
    pub(super) const TOKEN_TYPE: Self =
        Self::bad(TokenErrorKind::UnsupportedTokenType, "only access tokens can be revoked");
    pub(super) const MAY_NOT_INTROSPECT: Self =
        Self::bad(TokenErrorKind::UnauthorizedClient, "the client may not introspect tokens");

    const fn bad(kind: TokenErrorKind, description: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, kind, description)
    }

    /// Does not compile with a description outside the character set of §5.2.
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

/// When a caller may try again who was not told otherwise, in seconds.
const RETRY_AFTER_SECONDS: u64 = 1;

/// Why there is no token.
///
/// It travels in the extensions of the response, for layers outside that log or count. Its `Display` and
/// [`source`](Error::source) are for the operator: they say more than the caller was told, and never a secret.
///
/// ```
/// use http::Response;
/// use tower_client_credentials::{TokenError, TokenErrorKind};
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
}

impl TokenError {
    pub(super) fn new(fault: Fault) -> Self {
        let inner = Inner { fault, client_id: None, detail: None, source: None, retry_after: RETRY_AFTER_SECONDS };
        Self(Arc::new(inner))
    }

    /// Names the client, as the caller did.
    pub(super) fn of(mut self, client: &ClientId) -> Self {
        Arc::make_mut(&mut self.0).client_id = Some(client.clone());
        self
    }

    /// Says more to the operator.
    pub(super) fn detailed(mut self, detail: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.0).detail = Some(detail.into());
        self
    }

    /// Keeps the error behind this one for the operator.
    pub(super) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Arc::make_mut(&mut self.0).source = Some(source.into().into());
        self
    }

    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        Arc::make_mut(&mut self.0).retry_after = seconds;
        self
    }

    /// A part that we need did not do its work.
    pub(super) fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Fault::UNAVAILABLE).because(source)
    }

    /// Whether the client could not prove itself, or tried too often.
    pub(super) fn is_of_authentication(&self) -> bool {
        matches!(self.status(), StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS)
    }

    /// The client that asked, once the request was read so far. With a status of 401, 429 or 503 it is not proven.
    #[must_use]
    pub fn client_id(&self) -> Option<&ClientId> {
        self.0.client_id.as_ref()
    }

    /// The error code.
    #[must_use]
    pub fn kind(&self) -> TokenErrorKind {
        self.0.fault.kind
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.fault.status
    }

    /// The answer of §5.2. `challenge` goes with every 401.
    pub(super) fn into_response(self, challenge: &HeaderValue, version: Version) -> Response<Full<Bytes>> {
        let Fault { status, kind, description } = self.0.fault;
        let mut response = json(status, &Refusal { error: kind.code(), error_description: description });
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => drop(headers.insert(WWW_AUTHENTICATE, challenge.clone())),
            StatusCode::METHOD_NOT_ALLOWED => drop(headers.insert(ALLOW, HeaderValue::from_static("POST"))),
            // RFC 9110 §12.5.3: the content codings that would have been accepted.
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(RETRY_AFTER, self.0.retry_after.into());
            }
            // What is left of the body would be taken for the next request (RFC 9112 §9.3).
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
