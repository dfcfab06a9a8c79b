//! [`BearerError`], why a request was not let through, and the challenge that answers it (RFC 6750 §3).

use bytes::Bytes;
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

use super::{InvalidToken, Undecided, VerifyError};
use crate::audience::Audience;
use crate::client_id::ClientId;
use crate::scope::Scopes;

/// Why a request did not reach the protected service.
///
/// It travels in the extensions of the response, for layers outside that log or count. Its text is for the
/// operator; the caller reads only the error code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BearerError {
    /// No `Authorization` header, or one of another scheme: 401 without an error code (§3.1).
    #[error("the request has no bearer token")]
    NoCredentials,
    /// Two `Authorization` headers, or something else than one token behind `Bearer`: 400 `invalid_request`.
    #[error("the Authorization header is malformed")]
    InvalidRequest,
    /// A token that did not pass verification: 401 `invalid_token`.
    #[error("the token is refused: {0}")]
    InvalidToken(#[from] InvalidToken),
    /// A good token without the scopes that the route asks for: 403 `insufficient_scope`.
    #[error("the token of client `{client_id}` has the scopes `{granted}`, which are not enough here")]
    #[non_exhaustive]
    InsufficientScope {
        /// The client that the token was issued to.
        client_id: ClientId,
        /// The scopes of the token.
        granted: Scopes,
    },
    /// Nobody knows whether the token is good, since a part that has to be asked did not answer: 503 with `Retry-After`,
    /// and no challenge.
    #[error("the token can be neither refused nor let through: {0}")]
    Undecided(#[from] Undecided),
}

impl From<VerifyError> for BearerError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Refused(invalid) => Self::InvalidToken(invalid),
            VerifyError::Undecided(undecided) => Self::Undecided(undecided),
        }
    }
}

impl BearerError {
    /// The `error` code of the challenge; a request without credentials gets none (§3.1), nor does one that could not be
    /// decided over.
    #[must_use]
    pub const fn code(&self) -> Option<&'static str> {
        match self {
            Self::NoCredentials | Self::Undecided(_) => None,
            Self::InvalidRequest => Some("invalid_request"),
            Self::InvalidToken(_) => Some("invalid_token"),
            Self::InsufficientScope { .. } => Some("insufficient_scope"),
        }
    }

    /// The client, where the token was good and said who it is.
    #[must_use]
    pub const fn client_id(&self) -> Option<&ClientId> {
        match self {
            Self::InsufficientScope { client_id, .. } => Some(client_id),
            _ => None,
        }
    }

    /// The status of the answer.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::NoCredentials | Self::InvalidToken(_) => StatusCode::UNAUTHORIZED,
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::InsufficientScope { .. } => StatusCode::FORBIDDEN,
            Self::Undecided(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// The challenges of a layer, written once, so that a refusal costs no more than an admission.
#[derive(Clone, Debug)]
pub(super) struct Challenges {
    no_credentials: HeaderValue,
    invalid_request: HeaderValue,
    invalid_token: HeaderValue,
    insufficient_scope: HeaderValue,
}

impl Challenges {
    /// The realm is the audience: the protection space is the API.
    pub(super) fn new(audience: &Audience, required: &Scopes) -> Self {
        let scope = if required.is_empty() { String::new() } else { format!(", scope=\"{required}\"") };
        let bearer = |rest: &str| challenge(&format!("Bearer realm=\"{audience}\"{rest}"));
        Self {
            no_credentials: bearer(""),
            invalid_request: bearer(", error=\"invalid_request\", error_description=\"one bearer token is expected\""),
            invalid_token: bearer(
                ", error=\"invalid_token\", error_description=\"the access token is not valid here\"",
            ),
            insufficient_scope: bearer(&format!(
                ", error=\"insufficient_scope\", error_description=\"the access token lacks a scope\"{scope}"
            )),
        }
    }

    pub(super) fn answer(&self, error: BearerError) -> Response<Full<Bytes>> {
        let (name, value) = match &error {
            BearerError::NoCredentials => (WWW_AUTHENTICATE, self.no_credentials.clone()),
            BearerError::InvalidRequest => (WWW_AUTHENTICATE, self.invalid_request.clone()),
            BearerError::InvalidToken(_) => (WWW_AUTHENTICATE, self.invalid_token.clone()),
            BearerError::InsufficientScope { .. } => (WWW_AUTHENTICATE, self.insufficient_scope.clone()),
            BearerError::Undecided(undecided) => (RETRY_AFTER, undecided.retry_after_seconds().into()),
        };
        let mut response = Response::new(Full::default());
        *response.status_mut() = error.status();
        response.headers_mut().insert(name, value);
        response.extensions_mut().insert(error);
        response
    }
}

/// Audiences and scopes have no character that a quoted string must escape, or a header must not have.
fn challenge(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Bearer"))
}

#[cfg(test)]
mod tests {
    use super::BearerError;
    use crate::resource_server::{InvalidToken, Undecided, UndecidedKind};

    #[test]
    fn each_error_has_the_code_of_its_challenge_and_none_without_credentials() {
        assert_eq!(BearerError::NoCredentials.code(), None);
        assert_eq!(BearerError::InvalidRequest.code(), Some("invalid_request"));
        assert_eq!(BearerError::InvalidToken(InvalidToken::Expired).code(), Some("invalid_token"));
        assert_eq!(BearerError::Undecided(Undecided::new(UndecidedKind::Keys)).code(), None);
    }
}
