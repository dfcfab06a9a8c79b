//! [`Newcomers`]: which tokens came once while there was no room for them.

use super::Place;

/// The marks of tokens that came once. A later token may overwrite the mark of an earlier one, which then has to come once more.
#[derive(Default)]
pub(super) struct Newcomers(Box<[u32]>);

/// So many that the tokens of a usual service do not overwrite each other's marks before they come again (64 KiB).
const MOST_MARKS: usize = 16_384;

impl Newcomers {
    /// Returns whether the token has a mark, and takes it away; else it has one from now on. `tokens` is for how many there is
    /// room; the marks take no memory before the first call.
    #[allow(clippy::cast_possible_truncation)] // which bits of the hash does not matter, if it is not the same ones twice
    pub(super) fn have_come_before(&mut self, Place(hash): Place, tokens: usize) -> bool {
        if self.0.is_empty() {
            let marks = tokens.saturating_mul(2).clamp(64, MOST_MARKS).next_power_of_two();
            self.0 = vec![0; marks].into_boxed_slice();
        }
        // Never the mark of an empty place.
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
    use super::{MOST_MARKS, Newcomers, Place};

    #[test]
    fn a_token_has_come_before_the_second_time_and_not_the_third() {
        let mut newcomers = Newcomers::default();
        for hash in [0, 1, 1 << 32, u64::MAX, 0x0123_4567_89ab_cdef] {
            let comes: Vec<_> = (0..4).map(|_| newcomers.have_come_before(Place(hash), 10)).collect();
            assert_eq!(comes, [false, true, false, true], "{hash:x}");
        }
    }

    #[test]
    fn tokens_of_one_place_are_told_apart_and_memory_is_bounded() {
        let mut newcomers = Newcomers::default();
        assert!(!newcomers.have_come_before(Place(7), usize::MAX));
        assert!(!newcomers.have_come_before(Place(7 | 2 << 32), usize::MAX));
        assert!(!newcomers.have_come_before(Place(7), usize::MAX), "the other one took its mark away");
        assert_eq!(newcomers.0.len(), MOST_MARKS);
    }
}
