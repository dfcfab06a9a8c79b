//! [`SeenOnce`]: marks tokens that were used once while the cache was full.

use std::hint;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::place::Place;

/// Marks of tokens that were used once. A later token may overwrite an earlier mark; the earlier token then needs one more use.
pub(super) struct SeenOnce {
    /// The capacity of the cache.
    tokens: usize,
    /// They take no memory before the first call.
    marks: OnceLock<Box<[AtomicU32]>>,
}

/// The maximum number of marks (64 KiB): the tokens of a usual service do not overwrite each other's marks before they return.
const MAX_MARKS: usize = 16_384;

impl SeenOnce {
    pub(super) fn new(tokens: usize) -> Self {
        Self { tokens, marks: OnceLock::new() }
    }

    /// Returns whether the token has a mark, and removes it; otherwise marks the token.
    pub(super) fn seen_before(&self, place: Place) -> bool {
        let marks = self.marks.get_or_init(|| {
            let marks = self.tokens.saturating_mul(2).clamp(64, MAX_MARKS).next_power_of_two();
            (0..marks).map(|_| AtomicU32::default()).collect()
        });
        // Zero is the value of an empty slot.
        let mark = (place.0 >> 32) as u32 | 1;
        let Some(slot) = slot(marks, place) else { return true };
        let has_come = slot.load(Ordering::Relaxed) == mark;
        slot.store(if has_come { 0 } else { mark }, Ordering::Relaxed);
        has_come
    }

    /// Brings the slot of a token into the processor's cache, while the caller waits for other memory anyway.
    #[inline]
    pub(super) fn prefetch(&self, place: Place) {
        hint::black_box(self.marks.get().and_then(|marks| slot(marks, place)).map(|slot| slot.load(Ordering::Relaxed)));
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lowest bits are meant")]
fn slot(marks: &[AtomicU32], Place(hash): Place) -> Option<&AtomicU32> {
    marks.get(hash as usize & (marks.len() - 1))
}

#[cfg(test)]
mod tests {
    use super::{MAX_MARKS, Place, SeenOnce};

    #[test]
    fn the_second_use_finds_a_mark_and_the_third_does_not() {
        let seen_once = SeenOnce::new(10);
        for hash in [0, 1, 1 << 32, u64::MAX, 0x0123_4567_89ab_cdef] {
            let comes: Vec<_> = (0..4).map(|_| seen_once.seen_before(Place(hash))).collect();
            assert_eq!(comes, [false, true, false, true], "{hash:x}");
        }
    }

    #[test]
    fn tokens_in_the_same_slot_are_distinguished_and_memory_is_bounded() {
        let seen_once = SeenOnce::new(usize::MAX);
        assert!(!seen_once.seen_before(Place(7)));
        assert!(!seen_once.seen_before(Place(7 | 2 << 32)));
        assert!(!seen_once.seen_before(Place(7)), "the other token overwrote its mark");
        assert_eq!(seen_once.marks.get().unwrap().len(), MAX_MARKS);
    }
}
