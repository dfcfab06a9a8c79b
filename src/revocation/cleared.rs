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
    pub(super) fn is_of(&self, generation: Generation) -> bool {
        self.0.load(Ordering::Relaxed) == generation.0
    }

    pub(super) fn set(&self, generation: Generation) {
        self.0.store(generation.0, Ordering::Relaxed);
    }
}
