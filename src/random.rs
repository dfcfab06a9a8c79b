//! [`Random`]: where the unpredictable bytes come from.

use std::fmt;

/// A source of unpredictable bytes for token ids and secrets, injected so that tests can repeat themselves.
///
/// What an implementation returns must be fit for keys. Signatures and generated keys draw from the
/// cryptographic backend itself and do not come through here.
pub trait Random: fmt::Debug + Send + Sync + 'static {
    /// Fills the whole of `bytes`.
    ///
    /// # Errors
    ///
    /// When the source has nothing to give; a token request is then answered with a 503.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError>;
}

/// The source of the cryptographic backend, seeded by the operating system: the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        crate::keys::backend::fill_random(bytes).ok_or(RandomError)
    }
}

/// The source of random bytes had nothing to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the source of random bytes failed")]
pub struct RandomError;
