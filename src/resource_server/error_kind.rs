//! [`BearerErrorKind`]: the kinds of refusals, with what the caller is told (RFC 6750 §3.1).

use http::StatusCode;

/// The kind of a [`BearerError`](super::BearerError), which says what the caller has to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BearerErrorKind {
    /// There is no token: the caller must obtain one.
    NoToken,
    /// The request is malformed.
    InvalidRequest,
    /// The token or the API key is not valid here: the caller must obtain another token.
    InvalidToken,
    /// The token lacks a scope: the caller must request one with that scope.
    InsufficientScope,
    /// The token does not permit this request, and no other scope would help.
    Forbidden,
    /// There were too many wrong API keys: the caller must wait.
    TooManyAttempts,
    /// A required part did not answer: the caller may try again.
    Unavailable,
}

impl BearerErrorKind {
    /// Returns the `error` code of the challenge, if it has one.
    #[must_use]
    pub const fn code(self) -> Option<&'static str> {
        match self {
            Self::NoToken | Self::Forbidden | Self::TooManyAttempts | Self::Unavailable => None,
            Self::InvalidRequest => Some("invalid_request"),
            Self::InvalidToken => Some("invalid_token"),
            Self::InsufficientScope => Some("insufficient_scope"),
        }
    }

    /// Returns the status of the answer.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::NoToken | Self::InvalidToken => StatusCode::UNAUTHORIZED,
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::InsufficientScope | Self::Forbidden => StatusCode::FORBIDDEN,
            Self::TooManyAttempts => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(super) const fn description(self) -> &'static str {
        match self {
            Self::NoToken => "an access token is needed",
            Self::InvalidRequest => "one bearer token is expected",
            Self::InvalidToken => "the access token is not valid here",
            Self::InsufficientScope => "the access token lacks a scope",
            Self::Forbidden => "the access token does not permit this request",
            Self::TooManyAttempts => "too many failed attempts",
            Self::Unavailable => "try again later",
        }
    }
}
