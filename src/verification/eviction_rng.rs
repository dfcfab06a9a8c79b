//! [`EvictionRng`]: selects the entries to evict from a full cache.

use std::hash::{BuildHasher as _, RandomState};

/// A pseudorandom number generator for eviction: xorshift (Marsaglia 2003).
pub(super) struct EvictionRng(u64);

impl EvictionRng {
    /// Creates a generator with a seed that callers cannot know.
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

#[cfg(test)]
mod tests {
    use super::EvictionRng;

    #[test]
    fn the_numbers_equal_those_of_the_published_generator() {
        // The first numbers of Marsaglia's 64-bit xorshift with 13, 7 and 17 from the state 1, without the last bit.
        let mut rng = EvictionRng(1);
        let numbers = [rng.below(1 << 63), rng.below(1 << 63)];
        assert_eq!(numbers, [1_082_269_761 >> 1, 1_152_992_998_833_853_505 >> 1]);
    }

    #[test]
    fn all_numbers_below_the_limit_and_no_others_are_about_equally_frequent() {
        let (mut rng, mut counts) = (EvictionRng::random(), [0; 10]);
        for _ in 0..10_000 {
            counts[rng.below(10)] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
        assert_eq!(rng.below(1), 0);
    }
}
