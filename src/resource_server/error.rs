//! [`BearerError`]: why a request did not reach the protected service.

use http::StatusCode;

use crate::client_id::ClientId;
use crate::event::Failure;
use crate::scope::Scopes;
use crate::verification::{InvalidToken, RefusedToken, Undecided, VerifiedToken, VerifyError};

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
    InvalidToken(RefusedToken),
    /// A good token without the scopes that the route asks for: 403 `insufficient_scope`.
    #[error("the token of client `{client_id}` has the scopes `{granted}`, and it takes `{required}` here")]
    #[non_exhaustive]
    InsufficientScope {
        /// The client that the token was issued to.
        client_id: ClientId,
        /// The scopes of the token.
        granted: Scopes,
        /// Every scope that the route names for the request.
        required: Scopes,
    },
    /// A good token that does not open this, whatever its scopes: 403 without an error code.
    #[error("the token of client `{client_id}` does not open this: {reason}")]
    #[non_exhaustive]
    Forbidden {
        /// The client that the token was issued to.
        client_id: ClientId,
        /// What the policy said.
        reason: String,
    },
    /// Nobody knows whether the token is good, since a part that has to be asked did not answer: 503 with `Retry-After`,
    /// and no challenge.
    #[error(transparent)]
    Undecided(#[from] Undecided),
}

// Not `#[from]`, which would make it the source as well: the text has it already.
impl From<RefusedToken> for BearerError {
    fn from(error: RefusedToken) -> Self {
        Self::InvalidToken(error)
    }
}

impl From<VerifyError> for BearerError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Refused(refused) => Self::InvalidToken(refused),
            VerifyError::Undecided(undecided) => Self::Undecided(undecided),
        }
    }
}

impl From<InvalidToken> for BearerError {
    fn from(reason: InvalidToken) -> Self {
        Self::InvalidToken(reason.into())
    }
}

impl BearerError {
    pub(super) fn insufficient_scope(token: &VerifiedToken, required: Scopes) -> Self {
        Self::InsufficientScope { client_id: token.client_id().clone(), granted: token.scopes().clone(), required }
    }

    pub(super) fn forbidden(token: &VerifiedToken, reason: String) -> Self {
        Self::Forbidden { client_id: token.client_id().clone(), reason }
    }

    /// The `error` code of the challenge; a request without credentials gets none (§3.1), nor does one that could not be
    /// decided over, or that no other scope would help.
    #[must_use]
    pub const fn code(&self) -> Option<&'static str> {
        match self {
            Self::NoCredentials | Self::Forbidden { .. } | Self::Undecided(_) => None,
            Self::InvalidRequest => Some("invalid_request"),
            Self::InvalidToken(_) => Some("invalid_token"),
            Self::InsufficientScope { .. } => Some("insufficient_scope"),
        }
    }

    /// One word for why, out of a list that no caller can lengthen: for a metric's label, or `error.type` in a trace. It is
    /// `no_credentials`, `invalid_request`, `insufficient_scope`, `forbidden`, or that of
    /// [`InvalidToken`](InvalidToken::name) or [`UndecidedKind`](super::UndecidedKind::name).
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::InvalidRequest => "invalid_request",
            Self::InvalidToken(refused) => refused.reason().name(),
            Self::InsufficientScope { .. } => "insufficient_scope",
            Self::Forbidden { .. } => "forbidden",
            Self::Undecided(undecided) => undecided.kind().name(),
        }
    }

    /// The client, where the token was good and said who it is.
    #[must_use]
    pub const fn client_id(&self) -> Option<&ClientId> {
        match self {
            Self::InsufficientScope { client_id, .. } | Self::Forbidden { client_id, .. } => Some(client_id),
            _ => None,
        }
    }

    /// The status of the answer.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::NoCredentials | Self::InvalidToken(_) => StatusCode::UNAUTHORIZED,
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::InsufficientScope { .. } | Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::Undecided(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// All that a caller is told of it, besides the scopes to ask for: text that fits into a quoted string (§3), and into a
    /// `grpc-message` as it is.
    pub(super) const fn for_caller(&self) -> &'static str {
        match self {
            Self::NoCredentials => "an access token is needed",
            Self::InvalidRequest => "one bearer token is expected",
            Self::InvalidToken(_) => "the access token is not valid here",
            Self::InsufficientScope { .. } => "the access token lacks a scope",
            Self::Forbidden { .. } => "the access token does not open this",
            Self::Undecided(_) => "try again later",
        }
    }
}

impl From<BearerError> for Failure {
    fn from(error: BearerError) -> Self {
        Self::new(error.reason(), error.status(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::{BearerError, Scopes};
    use crate::verification::{InvalidToken, Undecided, UndecidedKind, VerifiedToken};

    #[test]
    fn what_a_caller_is_told_fits_into_a_quoted_string_and_into_a_grpc_message_as_it_is() {
        let token = VerifiedToken::for_test("billing").build();
        for error in [
            BearerError::NoCredentials,
            BearerError::InvalidRequest,
            InvalidToken::Expired.into(),
            BearerError::insufficient_scope(&token, Scopes::NONE),
            BearerError::forbidden(&token, "50 % of \"it\"".to_owned()),
            Undecided::new(UndecidedKind::Keys).into(),
        ] {
            let text = error.for_caller();
            assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !b"%\"\\".contains(&byte)), "{text}");
        }
    }

    #[test]
    fn each_error_has_the_code_of_its_challenge_and_none_without_credentials() {
        assert_eq!(BearerError::NoCredentials.code(), None);
        assert_eq!(BearerError::InvalidRequest.code(), Some("invalid_request"));
        assert_eq!(BearerError::from(InvalidToken::Expired).code(), Some("invalid_token"));
        assert_eq!(BearerError::Undecided(Undecided::new(UndecidedKind::Keys)).code(), None);
    }
}
