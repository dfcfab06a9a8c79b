//! [`Refusals`]: counts the recent refusals of each key, in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use crate::clock::{Clock, UnixTime};

/// The maximum number of keys per minute. An outsider can use any number of addresses.
const TRACKED: usize = 10_000;

const WINDOW_SECONDS: u64 = 60;

/// Counts the refusals of the current and of the previous minute.
pub(super) struct Refusals<K> {
    clock: Arc<dyn Clock>,
    minute: u64,
    current: HashMap<K, u32>,
    last: HashMap<K, u32>,
}

impl<K: Eq + Hash> Refusals<K> {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, minute: 0, current: HashMap::new(), last: HashMap::new() }
    }

    /// Forgets refusals from before the previous minute. Must be called before the counts are read.
    pub(super) fn expire(&mut self) {
        let minute = UnixTime::now(&*self.clock).as_secs() / WINDOW_SECONDS;
        if minute != self.minute {
            let is_next = self.minute.checked_add(1) == Some(minute);
            self.rotate();
            if !is_next {
                self.last.clear();
            }
            self.minute = minute;
        }
    }

    pub(super) fn count(&self, key: &K) -> u32 {
        let of = |counts: &HashMap<K, u32>| counts.get(key).copied().unwrap_or_default();
        of(&self.current).saturating_add(of(&self.last))
    }

    pub(super) fn add(&mut self, key: K) {
        // When the map is full, the older half is forgotten, so that a flood of keys does not hide the keys after it.
        if self.current.len() >= TRACKED && !self.current.contains_key(&key) {
            self.rotate();
        }
        let count = self.current.entry(key).or_default();
        *count = count.saturating_add(1);
    }

    fn rotate(&mut self) {
        self.last = std::mem::take(&mut self.current);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::{Refusals, TRACKED};
    use crate::clock::ManualClock;

    fn refusals() -> (Refusals<u32>, ManualClock) {
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_200));
        let mut refusals = Refusals::new(Arc::new(clock.clone()));
        refusals.expire();
        (refusals, clock)
    }

    #[test]
    fn a_refusal_counts_in_its_own_minute_and_the_next() {
        let (mut refusals, clock) = refusals();
        refusals.add(1);
        refusals.add(1);
        for count in [2, 2, 0] {
            refusals.expire();
            assert_eq!(refusals.count(&1), count);
            clock.advance(Duration::from_secs(60));
        }
        refusals.expire();
        refusals.add(1);
        clock.set(SystemTime::UNIX_EPOCH);
        refusals.expire();
        assert_eq!(refusals.count(&1), 0, "refusals are forgotten when the clock is set back");
    }

    #[test]
    fn memory_is_bounded_and_a_key_after_a_flood_of_others_is_counted() {
        let (mut refusals, _) = refusals();
        for key in 0..100_000 {
            refusals.add(key);
            assert_eq!(refusals.count(&key), 1);
        }
        assert!(refusals.current.len() <= TRACKED && refusals.last.len() <= TRACKED);
    }
}
