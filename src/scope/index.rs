//! [`Index`]: finds a scope among many by its hash.

use std::hash::{BuildHasher as _, RandomState};

/// A hash index of the scopes in a text. A lookup takes constant time.
pub(super) struct Index {
    /// Random, so that callers cannot choose colliding scopes.
    keys: (u64, u64),
    /// The positions of scopes. At most half of the slots are used, and their number is a power of two.
    slots: Box<[Option<(u32, u32)>]>,
}

impl Index {
    /// Indexes a text of distinct scopes, separated by single spaces. Returns `None` if the text is too long to index (4 GiB);
    /// it is then searched linearly.
    pub(super) fn new(text: &str) -> Option<Self> {
        let state = RandomState::new();
        Self::with_keys(text, (state.hash_one(0), state.hash_one(1)))
    }

    fn with_keys(text: &str, keys: (u64, u64)) -> Option<Self> {
        let length = u32::try_from(text.len()).ok()?;
        let mut index = Self { keys, slots: vec![None; slots_for(text)].into_boxed_slice() };
        let mut start = 0;
        while start < length {
            let rest = text.get(start as usize..)?;
            let end = rest.find(' ').map_or(Some(length), |at| Some(start + u32::try_from(at).ok()?))?;
            index.insert(text.get(start as usize..end as usize)?, (start, end));
            start = end + 1;
        }
        Some(index)
    }

    /// Returns the memory of the index for this text, in bytes.
    pub(super) fn size_for(text: &str) -> usize {
        slots_for(text) * size_of::<Option<(u32, u32)>>()
    }

    fn insert(&mut self, scope: &str, place: (u32, u32)) {
        let mask = self.slots.len() - 1;
        let mut at = self.first_slot(scope);
        while let Some(slot) = self.slots.get_mut(at & mask) {
            if slot.is_none() {
                *slot = Some(place);
                return;
            }
            at += 1;
        }
    }

    /// Returns whether `text`, whose index this is, contains the scope.
    pub(super) fn contains(&self, text: &str, scope: &str) -> bool {
        let mask = self.slots.len() - 1;
        let mut at = self.first_slot(scope);
        // Half of the slots are empty, so the search terminates.
        while let Some(Some((start, end))) = self.slots.get(at & mask) {
            if text.get(*start as usize..*end as usize) == Some(scope) {
                return true;
            }
            at += 1;
        }
        false
    }

    /// Returns the slot at which the search for a scope begins.
    #[allow(clippy::cast_possible_truncation)] // all bits of the hash are equally good
    fn first_slot(&self, scope: &str) -> usize {
        let mut hash = self.keys.0 ^ scope.len() as u64;
        for chunk in scope.as_bytes().chunks(8) {
            let word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            hash = mix(hash ^ word, self.keys.1);
        }
        // The last word can be a single digit. Some keys spread so few bits badly, so a constant that spreads them follows.
        hash = mix(hash ^ self.keys.0, SPREAD);
        hash as usize & (self.slots.len() - 1)
    }
}

/// The fraction of the golden ratio, in 64 bits: its bits are neither rare nor in runs.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// Returns the number of slots for the scopes of a text.
fn slots_for(text: &str) -> usize {
    let scopes = text.bytes().filter(|byte| *byte == b' ').count() + 1;
    (2 * scopes).next_power_of_two()
}

/// Multiplies to 128 bits and folds them: every bit of the result depends on all bits of both.
#[allow(clippy::cast_possible_truncation)] // into halves
fn mix(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other | 1);
    (product ^ (product >> 64)) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Index, SPREAD, mix};

    proptest! {
        #[test]
        fn an_index_finds_the_scopes_of_its_text_and_no_other(
            scopes in proptest::collection::hash_set("[a-c]{1,4}", 1..60),
            others in proptest::collection::vec("[a-c]{0,5}", 30),
        ) {
            let text = scopes.iter().cloned().collect::<Vec<_>>().join(" ");
            let index = Index::new(&text).unwrap();
            prop_assert!(scopes.iter().all(|scope| index.contains(&text, scope)));
            for other in others {
                prop_assert_eq!(index.contains(&text, &other), scopes.contains(&other), "{}", other);
            }
        }
    }

    /// The best hash functions leave up to 59 used slots in a row in 20,000 tries. The keys are fixed, so the result is fixed as well.
    #[test]
    fn the_slots_are_evenly_distributed_with_any_keys() {
        let text = (0..1_000).map(|number| format!("scope:{number}")).collect::<Vec<_>>().join(" ");
        let random = |number: u64| mix(mix(number.wrapping_mul(SPREAD), !SPREAD), SPREAD);
        let keys = (0..1_000).map(|number| (random(2 * number + 1), random(2 * number + 2)));
        for keys in keys.chain([(0, 0), (1, 1 << 63), (7, 0x1000_0000_0000_0001)]) {
            let index = Index::with_keys(&text, keys).unwrap();
            let longest = index.slots.split(Option::is_none).map(<[_]>::len).max().unwrap();
            assert!(longest < 60, "{longest} used slots in a row with the keys {keys:x?}");
        }
    }
}
