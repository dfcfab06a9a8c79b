//! [`Random`]: the source of unpredictable bytes.

use std::fmt;
use std::sync::{Mutex, PoisonError};

/// A source of unpredictable bytes for token ids and secrets, injected so that tests are repeatable.
///
/// The bytes must be suitable for keys. Signatures and generated keys use the cryptographic backend's own source instead.
pub trait Random: fmt::Debug + Send + Sync + 'static {
    /// Fills all of `bytes`.
    ///
    /// # Errors
    ///
    /// If the source fails. A token request is then answered with a 503.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError>;
}

/// The source of the cryptographic backend, seeded by the operating system. This is the default.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "a unit struct without settings")]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        fill_random(bytes).ok_or(RandomError)
    }
}

/// Fills `bytes` from the backend. Returns `None` if the system has no randomness.
#[cfg(feature = "aws_lc_rs")]
pub(crate) fn fill_random(bytes: &mut [u8]) -> Option<()> {
    aws_lc_rs::rand::fill(bytes).ok()
}

/// Fills `bytes` from the backend. Returns `None` if the system has no randomness.
#[cfg(all(feature = "rust_crypto", not(feature = "aws_lc_rs")))]
pub(crate) fn fill_random(bytes: &mut [u8]) -> Option<()> {
    use rand_core::RngCore as _;

    rand_core::OsRng.try_fill_bytes(bytes).ok()
}

/// The bits of a unique name.
pub(crate) type Name = [u8; 16];

/// Draws the bits of many [names](Name) at once: a draw from the system's source takes half a microsecond, independent of its
/// size.
///
/// Only for names, which are not secret once they are issued. Future names are in memory: after a fork of the process, or a
/// repeated resume of a virtual machine, up to [`AHEAD`] names may be issued twice.
#[derive(Default)]
pub(crate) struct DrawnAhead<R> {
    source: R,
    names: Mutex<Vec<Name>>,
}

/// The number of names per draw.
const AHEAD: usize = 16;

impl<R: Random> DrawnAhead<R> {
    fn name(&self) -> Result<Name, RandomError> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = names.pop() {
            return Ok(name);
        }
        let mut drawn = [[0; size_of::<Name>()]; AHEAD];
        self.source.fill(drawn.as_flattened_mut())?;
        let [name, ahead @ ..] = drawn;
        names.extend(ahead);
        Ok(name)
    }
}

impl<R: Random> Random for DrawnAhead<R> {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        match <&mut Name>::try_from(&mut *bytes) {
            Ok(name) => *name = self.name()?,
            Err(_) => self.source.fill(bytes)?,
        }
        Ok(())
    }
}

impl<R: fmt::Debug> fmt::Debug for DrawnAhead<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrawnAhead").field("source", &self.source).finish_non_exhaustive()
    }
}

/// The source of random bytes failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("the source of random bytes failed")]
#[non_exhaustive]
pub struct RandomError;

impl RandomError {
    /// Creates the error, for a [`Random`] of your own.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::{AHEAD, DrawnAhead, Random, RandomError, SystemRandom};

    /// A source that fails at every second draw, and returns different bytes each time.
    #[derive(Debug, Default)]
    struct Moody(AtomicU8);

    impl Random for Moody {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
            let draw = self.0.fetch_add(1, Ordering::Relaxed);
            for (place, byte) in bytes.iter_mut().enumerate() {
                *byte = draw.wrapping_add(u8::try_from(place / 16).unwrap());
            }
            if draw.is_multiple_of(2) { Err(RandomError) } else { Ok(()) }
        }
    }

    fn name(random: &dyn Random) -> Result<[u8; 16], RandomError> {
        let mut name = [0; 16];
        random.fill(&mut name).map(|()| name)
    }

    #[test]
    fn many_names_take_one_draw_and_a_failed_draw_gives_none() {
        let random = DrawnAhead::<Moody>::default();
        assert!(name(&random).is_err());
        let names: HashSet<_> = (0..AHEAD).map(|_| name(&random).unwrap()).collect();
        assert_eq!(names.len(), AHEAD);
        assert_eq!(random.source.0.load(Ordering::Relaxed), 2);
        assert!(name(&random).is_err(), "the next draw fails");
    }

    #[test]
    fn names_are_unique_and_debug_shows_none() {
        let random = DrawnAhead::<SystemRandom>::default();
        let names: HashSet<_> = (0..10 * AHEAD).map(|_| name(&random).unwrap()).collect();
        assert_eq!(names.len(), 10 * AHEAD);
        assert!(!format!("{random:?}").contains("names"));
    }

    #[test]
    fn bytes_of_other_lengths_are_drawn_separately() {
        let random = DrawnAhead::<Moody>::default();
        for _ in 0..2 {
            let _ = random.fill(&mut [0; 32]);
        }
        assert_eq!(random.source.0.load(Ordering::Relaxed), 2);
        assert!(random.names.lock().unwrap().is_empty());
    }
}
