//! [`Cleared`]: when a token was last looked up, so that it need not be again while nothing has changed.

use std::sync::atomic::{AtomicU64, Ordering};

/// The state of a view at its last change. No two states of any views in a process have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generation(u64);

/// 0 is nobody's.
static GENERATIONS: AtomicU64 = AtomicU64::new(1);

impl Generation {
    fn next() -> Self {
        Self(GENERATIONS.fetch_add(1, Ordering::Relaxed))
    }
}

/// The current generation of a view.
#[derive(Debug)]
pub(super) struct CurrentGeneration(AtomicU64);

impl Default for CurrentGeneration {
    fn default() -> Self {
        Self(AtomicU64::new(Generation::next().0))
    }
}

impl CurrentGeneration {
    pub(super) fn load(&self) -> Generation {
        Generation(self.0.load(Ordering::Acquire))
    }

    /// Called once a change is made, so that who looked before it looks again.
    pub(super) fn advance(&self) {
        // Two at once may end with the lower number; it is a new one all the same.
        self.0.store(Generation::next().0, Ordering::Release);
    }
}

/// The generation in which a token was last found not to be revoked.
#[derive(Debug, Default)]
pub(crate) struct Cleared(AtomicU64);

impl Clone for Cleared {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Relaxed)))
    }
}

impl Cleared {
    /// Returns whether a token is revoked, as `look_up` says: it is asked unless it found nothing in this generation already.
    #[inline]
    pub(super) fn is_revoked(&self, generation: impl FnOnce() -> Generation, look_up: impl FnOnce() -> bool) -> bool {
        // Before the look-up: after a revocation during the look-up, the next check looks again.
        let generation = generation();
        if self.0.load(Ordering::Relaxed) == generation.0 {
            return false;
        }
        if look_up() {
            return true;
        }
        self.0.store(generation.0, Ordering::Relaxed);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::{Cleared, CurrentGeneration};

    #[test]
    fn a_revocation_during_the_look_up_is_seen_at_the_next_check() {
        let (cleared, current) = (Cleared::default(), CurrentGeneration::default());
        let is_revoked = |look_up: &dyn Fn() -> bool| cleared.is_revoked(|| current.load(), look_up);
        let missed = || {
            current.advance();
            false
        };
        assert!(!is_revoked(&missed));
        assert!(is_revoked(&|| true), "it looks again");
        assert!(!is_revoked(&|| false));
        assert!(!is_revoked(&|| true), "nothing has changed, and nothing is looked up");
        current.advance();
        assert!(is_revoked(&|| true));
    }

    #[test]
    fn a_clone_need_not_be_looked_up_again_either() {
        let (cleared, current) = (Cleared::default(), CurrentGeneration::default());
        assert!(!cleared.is_revoked(|| current.load(), || false));
        for cleared in [cleared.clone(), cleared] {
            assert!(!cleared.is_revoked(|| current.load(), || panic!("it was looked up")));
        }
    }
}
