//! [`SeenOnce`]: marks tokens that were used once while the cache was full.

use super::place::Place;

/// Marks of tokens that were used once. A later token may overwrite an earlier mark; the earlier token then needs one more use.
#[derive(Default)]
pub(super) struct SeenOnce(Box<[u32]>);

/// The maximum number of marks (64 KiB): the tokens of a usual service do not overwrite each other's marks before they return.
const MAX_MARKS: usize = 16_384;

impl SeenOnce {
    /// Returns whether the token has a mark, and removes it; otherwise marks the token. `tokens` is the capacity of the cache.
    /// The marks take no memory before the first call.
    #[allow(clippy::cast_possible_truncation)] // which bits of the hash does not matter, if it is not the same ones twice
    pub(super) fn seen_before(&mut self, Place(hash): Place, tokens: usize) -> bool {
        if self.0.is_empty() {
            let marks = tokens.saturating_mul(2).clamp(64, MAX_MARKS).next_power_of_two();
            self.0 = vec![0; marks].into_boxed_slice();
        }
        // Zero is the value of an empty slot.
        let mark = (hash >> 32) as u32 | 1;
        let number = hash as usize & (self.0.len() - 1);
        let Some(place) = self.0.get_mut(number) else { return true };
        let has_come = *place == mark;
        *place = if has_come { 0 } else { mark };
        has_come
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_MARKS, Place, SeenOnce};

    #[test]
    fn the_second_use_finds_a_mark_and_the_third_does_not() {
        let mut seen_once = SeenOnce::default();
        for hash in [0, 1, 1 << 32, u64::MAX, 0x0123_4567_89ab_cdef] {
            let comes: Vec<_> = (0..4).map(|_| seen_once.seen_before(Place(hash), 10)).collect();
            assert_eq!(comes, [false, true, false, true], "{hash:x}");
        }
    }

    #[test]
    fn tokens_in_the_same_slot_are_distinguished_and_memory_is_bounded() {
        let mut seen_once = SeenOnce::default();
        assert!(!seen_once.seen_before(Place(7), usize::MAX));
        assert!(!seen_once.seen_before(Place(7 | 2 << 32), usize::MAX));
        assert!(!seen_once.seen_before(Place(7), usize::MAX), "the other token overwrote its mark");
        assert_eq!(seen_once.0.len(), MAX_MARKS);
    }
}
