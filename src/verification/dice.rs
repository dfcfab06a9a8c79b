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

#[cfg(test)]
mod tests {
    use super::Dice;

    #[test]
    fn the_numbers_are_those_of_the_published_generator() {
        // Marsaglia's xorshift of 64 bits with 13, 7 and 17, from a state of 1: its first numbers, without the last bit.
        let mut dice = Dice(1);
        let numbers = [dice.below(1 << 63), dice.below(1 << 63)];
        assert_eq!(numbers, [1_082_269_761 >> 1, 1_152_992_998_833_853_505 >> 1]);
    }

    #[test]
    fn every_number_below_the_limit_comes_about_equally_often_and_no_other() {
        let (mut dice, mut counts) = (Dice::random(), [0; 10]);
        for _ in 0..10_000 {
            counts[dice.below(10)] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
        assert_eq!(dice.below(1), 0);
    }
}
