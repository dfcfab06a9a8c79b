//! [`Cleared`]: remembers that a token was found not revoked, so that it is not looked up again until the view changes.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that identifies a state of a view. It is unique among all states of all views in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generation(u64);

/// The next generation. No view has generation 0, which a new [`Cleared`] starts with.
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

    /// Starts a new generation after a change, so that each token is looked up again.
    pub(super) fn advance(&self) {
        // After two concurrent calls, the lower number may remain. It is new as well.
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
    /// Returns whether a token is revoked. Calls `look_up` unless it returned `false` in this generation before.
    #[inline]
    pub(super) fn is_revoked(&self, generation: impl FnOnce() -> Generation, look_up: impl FnOnce() -> bool) -> bool {
        // Read before the look-up, so that the next check sees a revocation that arrives during the look-up.
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
        assert!(is_revoked(&|| true), "it is looked up again");
        assert!(!is_revoked(&|| false));
        assert!(!is_revoked(&|| true), "without a change there is no look-up");
        current.advance();
        assert!(is_revoked(&|| true));
    }

    #[test]
    fn a_clone_is_not_looked_up_again_either() {
        let (cleared, current) = (Cleared::default(), CurrentGeneration::default());
        assert!(!cleared.is_revoked(|| current.load(), || false));
        for cleared in [cleared.clone(), cleared] {
            assert!(!cleared.is_revoked(|| current.load(), || panic!("it was looked up")));
        }
    }
}
