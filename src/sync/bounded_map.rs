//! [`BoundedMap`]: a map that cannot grow beyond its bound.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;

/// A bounded map with CLOCK (second-chance) eviction.
pub(crate) struct BoundedMap<K, V> {
    max_entries: usize,
    slots: HashMap<K, Slot<V>>,
    /// Every key once. The next candidate for eviction is at the front.
    order: VecDeque<K>,
}

struct Slot<V> {
    value: V,
    is_used: bool,
}

impl<K: Clone + Eq + Hash, V> BoundedMap<K, V> {
    pub(crate) fn new(max_entries: usize) -> Self {
        Self { max_entries, slots: HashMap::new(), order: VecDeque::new() }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<&V> {
        let slot = self.slots.get_mut(key)?;
        slot.is_used = true;
        Some(&slot.value)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns the value without marking it as used.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        Some(&mut self.slots.get_mut(key)?.value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.value = value;
            return;
        }
        if self.max_entries == 0 {
            return;
        }
        // One round, after which no entry is marked as used, and one more step.
        for _ in 0..=self.order.len() {
            if self.slots.len() < self.max_entries {
                break;
            }
            self.evict_one();
        }
        self.order.push_back(key.clone());
        self.slots.insert(key, Slot { value, is_used: false });
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if self.slots.remove(key).is_some() {
            self.order.retain(|other| other != key);
        }
    }

    /// Evicts the first entry, or gives it a second chance if it was used.
    fn evict_one(&mut self) {
        let Some(key) = self.order.pop_front() else { return };
        match self.slots.get_mut(&key) {
            Some(slot) if slot.is_used => {
                slot.is_used = false;
                self.order.push_back(key);
            }
            _ => drop(self.slots.remove(&key)),
        }
    }
}

impl<K, V> fmt::Debug for BoundedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedMap")
            .field("max_entries", &self.max_entries)
            .field("entries", &self.slots.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::BoundedMap;

    #[test]
    fn used_entries_stay_and_the_order_does_not_grow() {
        let mut bounded = BoundedMap::new(16);
        for number in 0..1_000 {
            bounded.insert(0, ());
            bounded.insert(number, ());
            assert!(bounded.get(&0).is_some());
            if number % 3 == 0 && number > 0 {
                bounded.remove(&number);
            }
        }
        assert!(bounded.slots.len() <= 16);
        assert_eq!(bounded.slots.len(), bounded.order.len());
        let mut none = BoundedMap::new(0);
        none.insert(0, ());
        assert!(none.get(&0).is_none());
    }

    #[test]
    fn constantly_used_entries_do_not_block_a_new_one() {
        let mut map = BoundedMap::new(3);
        for key in 0..3 {
            map.insert(key, key);
        }
        assert!((0..3).all(|key| map.get(&key).is_some()), "all of them are used");
        map.insert(3, 3);
        assert!(map.get(&3).is_some());
        assert_eq!((map.slots.len(), map.order.len()), (3, 3));
    }
}
