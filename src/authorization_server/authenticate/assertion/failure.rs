//! [`Failure`]: an assertion is refused, or nothing can decide about it now.

use super::invalid::Refusal;
use crate::authorization_server::error::TokenError;

#[derive(Debug)]
pub(super) enum Failure {
    Refused(Refusal),
    /// A part that did not answer. The caller gets 503.
    Unavailable(TokenError),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        Self::Unavailable(error)
    }
}

impl From<Failure> for TokenError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => refusal.into(),
            Failure::Unavailable(error) => error,
        }
    }
}
