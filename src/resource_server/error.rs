//! [`BearerError`]: the reason why a request was refused.

use std::time::{Duration, UNIX_EPOCH};

use http::StatusCode;

use super::error_kind::BearerErrorKind;
use crate::client_id::ClientId;
use crate::clock::Rfc3339;
use crate::event::Failure;
use crate::scope::Scopes;
use crate::verification::{InvalidToken, RefusedToken, Unavailable, VerifiedToken, VerifyError};

/// The reason why a request did not reach the protected service.
///
/// The response carries it in its extensions, for outer layers that log or count. Its text is for the operator; the caller
/// reads only the error code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BearerError {
    /// The request has no `Authorization` header, or one of another scheme: 401 without an error code (§3.1).
    #[error("the request has no bearer token")]
    NoCredentials,
    /// The request has two `Authorization` headers, or not exactly one token after `Bearer`: 400 `invalid_request`.
    #[error("the Authorization header is malformed; send exactly one header of the form `Bearer TOKEN`")]
    InvalidRequest,
    /// The token did not pass verification: 401 `invalid_token`.
    #[error("invalid token: {0}")]
    InvalidToken(RefusedToken),
    /// The token is valid and lacks scopes that the route requires: 403 `insufficient_scope`.
    #[error(
        "the token of client `{client_id}` has the scopes `{granted}`, but the route requires `{required}`; the client must be \
         registered for it and request it with `scope`"
    )]
    #[non_exhaustive]
    InsufficientScope {
        /// The client that the token was issued to.
        client_id: ClientId,
        /// The scopes of the token.
        granted: Scopes,
        /// Every scope that the route names for this request.
        required: Scopes,
    },
    /// The token is valid and a policy refused the request: 403 without an error code. Another scope would not help.
    #[error("the policy of the route refused the token of client `{client_id}`: {reason}")]
    #[non_exhaustive]
    Forbidden {
        /// The client that the token was issued to.
        client_id: ClientId,
        /// The reason that the policy gave.
        reason: String,
    },
    /// The API key is not known: 401 `invalid_token`. See [`ApiKeys`](super::ApiKeys).
    #[error("the API key is not known")]
    UnknownApiKey,
    /// The API key is known, but the end date of API keys has passed: 401 `invalid_token`.
    #[error(
        "client `{client_id}` used an API key, but API keys are accepted only until {}; let it request access tokens, or set a later date in ApiKeys::until(…)",
        Rfc3339(UNIX_EPOCH + Duration::from_secs(*.end))
    )]
    #[non_exhaustive]
    ApiKeysEnded {
        /// The client that the key belongs to.
        client_id: ClientId,
        /// The end date, in seconds since 1970.
        end: u64,
    },
    /// The API key is known, but the tokens of its client are revoked, for example because the client is disabled: 401
    /// `invalid_token`.
    #[error(
        "client `{client_id}` used an API key, but the client was disabled or deleted, or all its tokens were revoked; let it \
         request access tokens, or restart this process with a new key once the revocation has expired"
    )]
    #[non_exhaustive]
    ApiKeyRevoked {
        /// The client that the key belongs to.
        client_id: ClientId,
    },
    /// There were too many wrong API keys from the caller's address: 429 with `Retry-After`.
    #[error("too many wrong API keys from this address in one minute")]
    #[non_exhaustive]
    TooManyAttempts {
        /// The seconds until a wrong key is checked again.
        retry_after_seconds: u64,
    },
    /// The request was admitted with an API key, and its handler requires a token: 401 without an error code.
    #[error(
        "client `{client_id}` used an API key, but the handler requires a token; let it request access tokens, or take a `Caller` in the handler"
    )]
    #[non_exhaustive]
    TokenRequired {
        /// The client that the key belongs to.
        client_id: ClientId,
    },
    /// The token could not be verified because a required part did not answer: 503 with `Retry-After`, without a challenge.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

// Not `#[from]`: it would set the source, too, whose text is already part of this error's text.
impl From<RefusedToken> for BearerError {
    fn from(error: RefusedToken) -> Self {
        Self::InvalidToken(error)
    }
}

impl From<VerifyError> for BearerError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Refused(refused) => Self::InvalidToken(refused),
            VerifyError::Unavailable(unavailable) => Self::Unavailable(unavailable),
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

    /// Returns the kind, which says what the caller has to change.
    #[must_use]
    pub const fn kind(&self) -> BearerErrorKind {
        match self {
            Self::NoCredentials | Self::TokenRequired { .. } => BearerErrorKind::NoToken,
            Self::InvalidRequest => BearerErrorKind::InvalidRequest,
            Self::InvalidToken(_) | Self::UnknownApiKey | Self::ApiKeysEnded { .. } | Self::ApiKeyRevoked { .. } => {
                BearerErrorKind::InvalidToken
            }
            Self::InsufficientScope { .. } => BearerErrorKind::InsufficientScope,
            Self::Forbidden { .. } => BearerErrorKind::Forbidden,
            Self::TooManyAttempts { .. } => BearerErrorKind::TooManyAttempts,
            Self::Unavailable(_) => BearerErrorKind::Unavailable,
        }
    }

    /// Returns the `error` code of the challenge. A request without credentials has no code (§3.1), for an unavailable
    /// part, or if no other scope would help.
    #[must_use]
    pub const fn code(&self) -> Option<&'static str> {
        self.kind().code()
    }

    /// Returns a short name of the reason, for a metric's label or for `error.type` in a trace. The set of names is fixed:
    /// `no_credentials`, `invalid_request`, `insufficient_scope`, `forbidden`, `unknown_api_key`, `api_keys_ended`,
    /// `api_key_revoked`, `too_many_attempts`, `token_required`, or the name of
    /// [`InvalidToken`](InvalidToken::name) or [`UnavailableKind`](crate::verification::UnavailableKind::name).
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::InvalidRequest => "invalid_request",
            Self::InvalidToken(refused) => refused.reason().name(),
            Self::InsufficientScope { .. } => "insufficient_scope",
            Self::Forbidden { .. } => "forbidden",
            Self::UnknownApiKey => "unknown_api_key",
            Self::ApiKeysEnded { .. } => "api_keys_ended",
            Self::ApiKeyRevoked { .. } => "api_key_revoked",
            Self::TooManyAttempts { .. } => "too_many_attempts",
            Self::TokenRequired { .. } => "token_required",
            Self::Unavailable(unavailable) => unavailable.kind().name(),
        }
    }

    /// Returns the client that the token was issued to, if the token was valid, or that the API key belongs to.
    #[must_use]
    pub const fn client_id(&self) -> Option<&ClientId> {
        match self {
            Self::InsufficientScope { client_id, .. }
            | Self::Forbidden { client_id, .. }
            | Self::ApiKeysEnded { client_id, .. }
            | Self::ApiKeyRevoked { client_id }
            | Self::TokenRequired { client_id } => Some(client_id),
            _ => None,
        }
    }

    /// Returns the status of the answer.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.kind().status()
    }

    /// Returns the text for the caller. Together with the scopes to request, it is all that the caller is told. It needs no
    /// escaping in a quoted string (§3) or in a `grpc-message`.
    #[must_use]
    pub const fn description(&self) -> &'static str {
        self.kind().description()
    }
}

impl From<BearerError> for Failure {
    fn from(error: BearerError) -> Self {
        Self::new(error.reason(), error.status(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::{BearerError, BearerErrorKind, Scopes};
    use crate::verification::{InvalidToken, Unavailable, UnavailableKind, VerifiedToken};

    #[test]
    fn the_text_for_the_caller_needs_no_escaping_in_a_quoted_string_or_a_grpc_message() {
        let token = VerifiedToken::for_test("billing").build();
        for error in [
            BearerError::NoCredentials,
            BearerError::InvalidRequest,
            InvalidToken::Expired.into(),
            BearerError::insufficient_scope(&token, Scopes::NONE),
            BearerError::forbidden(&token, "50 % of \"it\"".to_owned()),
            Unavailable::new(UnavailableKind::Keys).into(),
        ] {
            let text = error.description();
            assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !b"%\"\\".contains(&byte)), "{text}");
        }
    }

    #[test]
    fn the_kind_decides_the_status() {
        let token = VerifiedToken::for_test("billing").build();
        let client_id = || token.client_id().clone();
        for (error, kind, status) in [
            (BearerError::NoCredentials, BearerErrorKind::NoToken, 401),
            (BearerError::TokenRequired { client_id: client_id() }, BearerErrorKind::NoToken, 401),
            (BearerError::InvalidRequest, BearerErrorKind::InvalidRequest, 400),
            (InvalidToken::Expired.into(), BearerErrorKind::InvalidToken, 401),
            (BearerError::UnknownApiKey, BearerErrorKind::InvalidToken, 401),
            (BearerError::ApiKeysEnded { client_id: client_id(), end: 0 }, BearerErrorKind::InvalidToken, 401),
            (BearerError::ApiKeyRevoked { client_id: client_id() }, BearerErrorKind::InvalidToken, 401),
            (BearerError::insufficient_scope(&token, Scopes::NONE), BearerErrorKind::InsufficientScope, 403),
            (BearerError::forbidden(&token, "no".to_owned()), BearerErrorKind::Forbidden, 403),
            (BearerError::TooManyAttempts { retry_after_seconds: 1 }, BearerErrorKind::TooManyAttempts, 429),
            (Unavailable::new(UnavailableKind::Keys).into(), BearerErrorKind::Unavailable, 503),
        ] {
            assert_eq!((error.kind(), error.status().as_u16()), (kind, status), "{error}");
        }
    }

    #[test]
    fn each_error_has_the_code_of_its_challenge_and_none_without_credentials() {
        assert_eq!(BearerError::NoCredentials.code(), None);
        assert_eq!(BearerError::InvalidRequest.code(), Some("invalid_request"));
        assert_eq!(BearerError::from(InvalidToken::Expired).code(), Some("invalid_token"));
        assert_eq!(BearerError::Unavailable(Unavailable::new(UnavailableKind::Keys)).code(), None);
    }
}
