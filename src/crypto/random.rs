//! [`Random`]: where the unpredictable bytes come from.

use std::fmt;
use std::sync::{Mutex, PoisonError};

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
#[expect(clippy::exhaustive_structs, reason = "its name is its value, and there is nothing to set")]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        fill_random(bytes).ok_or(RandomError)
    }
}

/// Fills `bytes` from the backend; `None` if the system has no randomness.
#[cfg(feature = "aws_lc_rs")]
pub(crate) fn fill_random(bytes: &mut [u8]) -> Option<()> {
    aws_lc_rs::rand::fill(bytes).ok()
}

/// Fills `bytes` from the backend; `None` if the system has no randomness.
#[cfg(all(feature = "rust_crypto", not(feature = "aws_lc_rs")))]
pub(crate) fn fill_random(bytes: &mut [u8]) -> Option<()> {
    use rand_core::RngCore as _;

    rand_core::OsRng.try_fill_bytes(bytes).ok()
}

/// The bits of a name that nobody else has.
pub(crate) type Name = [u8; 16];

/// A source that is asked for the bits of many [names](Name) at once: a draw from the system's takes half a microsecond,
/// however little is drawn.
///
/// For names alone, which are no secret once they are given out. Those to come are in memory: a process that was forked,
/// or a virtual machine that was resumed twice, may give out as many names as are drawn ahead a second time.
#[derive(Default)]
pub(crate) struct DrawnAhead<R> {
    source: R,
    names: Mutex<Vec<Name>>,
}

/// How many names are drawn at once.
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

/// The source of random bytes had nothing to give.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("the source of random bytes failed")]
#[non_exhaustive]
pub struct RandomError;

impl RandomError {
    /// Returns the error, for a [`Random`] of your own.
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

    /// Fails at every second draw, and has other bytes each time.
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
    fn many_names_take_one_draw_and_a_draw_that_failed_gives_none() {
        let random = DrawnAhead::<Moody>::default();
        assert!(name(&random).is_err());
        let names: HashSet<_> = (0..AHEAD).map(|_| name(&random).unwrap()).collect();
        assert_eq!(names.len(), AHEAD);
        assert_eq!(random.source.0.load(Ordering::Relaxed), 2);
        assert!(name(&random).is_err(), "the next draw fails");
    }

    #[test]
    fn no_name_comes_twice_and_debug_shows_none() {
        let random = DrawnAhead::<SystemRandom>::default();
        let names: HashSet<_> = (0..10 * AHEAD).map(|_| name(&random).unwrap()).collect();
        assert_eq!(names.len(), 10 * AHEAD);
        assert!(!format!("{random:?}").contains("names"));
    }

    #[test]
    fn what_is_no_name_is_drawn_by_itself() {
        let random = DrawnAhead::<Moody>::default();
        for _ in 0..2 {
            let _ = random.fill(&mut [0; 32]);
        }
        assert_eq!(random.source.0.load(Ordering::Relaxed), 2);
        assert!(random.names.lock().unwrap().is_empty());
    }
}
