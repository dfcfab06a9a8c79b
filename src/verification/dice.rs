//! [`Dice`]: chooses what to evict from a cache that is full.

use std::hash::{BuildHasher as _, RandomState};

/// A generator of numbers that are random enough to choose what to evict: xorshift (Marsaglia 2003).
pub(super) struct Dice(u64);

impl Dice {
    /// Creates one with a seed that no caller knows.
    pub(super) fn random() -> Self {
        // A seed of zero would yield only zeros.
        Self(RandomState::new().hash_one(0) | 1)
    }

    /// Returns a number from 0 to `limit - 1`.
    #[allow(clippy::cast_possible_truncation)] // less than `limit`
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * limit as u128) >> 64) as usize
    }
}
