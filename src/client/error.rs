//! [`CallError`]: whether the token or the call failed.

use tower::BoxError;

use super::origin::ForbiddenDestination;
use super::token_error::TokenSourceError;

/// A call through [`ClientCredentialsService`](super::ClientCredentialsService) had no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// There is no token, so the request was not sent.
    #[error(transparent)]
    Token(#[from] TokenSourceError),
    /// The request was not sent, since its destination may not get a token.
    #[error(transparent)]
    Destination(#[from] ForbiddenDestination),
    /// The inner service failed; the text is that of its error.
    #[error(transparent)]
    Call(BoxError),
}

impl CallError {
    /// Returns whether the request was not given to the inner service.
    #[must_use]
    pub fn is_before_call(&self) -> bool {
        !matches!(self, Self::Call(_))
    }
}
