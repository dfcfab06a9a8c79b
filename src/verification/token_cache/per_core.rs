//! [`PerCoreTokens`]: a copy of the most frequent tokens for each core.
//!
//! A lookup writes to memory although it changes nothing: to a lock, and to the token's reference count. Cores that write to
//! the same memory wait for each other, and the one token of a busy caller is used on all of them. Each core therefore has
//! copies with their own reference counts.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;

use super::{Place, VerifiedToken};

/// The maximum number of copies per core.
const COPIES: usize = 16;

/// How much more often than others of its slot a token must be used before it is copied.
const OFTEN: u8 = 8;

/// The maximum length of a copied token, in bytes. It bounds the memory that copies of evicted tokens occupy.
const LONGEST: usize = 4_096;

/// The maximum number of cores with copies of their own. Further cores share.
const MAX_CORES: usize = 64;

pub(super) struct PerCoreTokens(Box<[Core]>);

/// The copies of one core, on cache lines of their own.
#[derive(Default)]
#[repr(align(128))]
struct Core(Mutex<Slots>);

#[derive(Default)]
pub(super) struct Slots([Slot; COPIES]);

#[derive(Default)]
struct Slot {
    copy: Option<CopiedToken>,
    /// The token that may replace the copy, and how many more lookups it had.
    rival: Option<Place>,
    lead: u8,
}

struct CopiedToken {
    place: Place,
    text: Arc<str>,
    token: VerifiedToken,
}

impl PerCoreTokens {
    pub(super) fn new() -> Self {
        Self::for_cores(thread::available_parallelism().map_or(1, NonZero::get).next_power_of_two())
    }

    fn for_cores(cores: usize) -> Self {
        Self((0..cores.min(MAX_CORES)).map(|_| Core::default()).collect())
    }

    /// Returns the copies of this thread's core (approximately), or `None` if another thread holds the lock.
    pub(super) fn of_this_thread(&self) -> Option<MutexGuard<'_, Slots>> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed));
        self.slots_of(NUMBER.with(|number| *number))
    }

    #[expect(clippy::indexing_slicing, reason = "the number of cores is a power of two, so the index is smaller")]
    fn slots_of(&self, thread: usize) -> Option<MutexGuard<'_, Slots>> {
        // A remainder would take longer than the lock.
        let Core(slots) = &self.0[thread & (self.0.len() - 1)];
        match slots.try_lock() {
            Ok(slots) => Some(slots),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Removes matching copies. Called after the tokens are removed from the cache, from which copies are made.
    pub(super) fn forget(&self, fits: impl Fn(&VerifiedToken) -> bool) {
        for Core(slots) in &self.0 {
            let mut slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.0.iter_mut().for_each(|slot| drop(slot.copy.take_if(|copy| fits(&copy.token))));
        }
    }

    #[cfg(test)]
    pub(super) fn copies(&self) -> usize {
        let of = |Core(slots): &Core| slots.lock().unwrap().0.iter().filter(|slot| slot.copy.is_some()).count();
        self.0.iter().map(of).sum()
    }
}

impl Slots {
    pub(super) fn find(&mut self, place: Place, text: &[u8]) -> Option<VerifiedToken> {
        let slot = self.slot(place);
        let copy = slot.copy.as_ref().filter(|copy| copy.place == place && copy.text.as_bytes() == text)?;
        slot.lead = slot.lead.saturating_sub(1);
        Some(copy.token.clone())
    }

    /// Counts a token that was found in the cache, and copies it if it is frequent enough.
    pub(super) fn count(&mut self, place: Place, token: &VerifiedToken) {
        let slot = self.slot(place);
        if slot.lead == 0 {
            slot.rival = Some(place);
        }
        slot.lead = if slot.rival == Some(place) { slot.lead + 1 } else { slot.lead - 1 };
        if slot.lead == OFTEN {
            slot.lead = 0;
            let fits = token.text().len() <= LONGEST;
            slot.copy = fits.then(|| CopiedToken { place, text: token.text().clone(), token: token.apart() });
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::indexing_slicing)] // of the lowest bits, into an array of so many
    fn slot(&mut self, Place(hash): Place) -> &mut Slot {
        &mut self.0[hash as usize % COPIES]
    }
}

#[cfg(test)]
mod tests {
    use super::{OFTEN, PerCoreTokens, Place, VerifiedToken};

    #[test]
    fn each_core_counts_and_copies_for_itself() {
        let (cores, token) = (PerCoreTokens::for_cores(2), VerifiedToken::for_test_with_text("a.b.0123456789abcdef"));
        let (place, text) = (Place(7), token.text().as_bytes());
        let comes_often = |thread| (0..OFTEN).for_each(|_| cores.slots_of(thread).unwrap().count(place, &token));
        let found = |thread| cores.slots_of(thread).unwrap().find(place, text);
        comes_often(0);
        assert!(found(0).is_some() && found(1).is_none());
        assert!(found(2).unwrap().shares_memory_with(&found(0).unwrap()), "additional threads share the cores");
        comes_often(1);
        assert!(!found(1).unwrap().shares_memory_with(&found(0).unwrap()));
        cores.forget(|_| true);
        assert!(found(0).is_none() && found(1).is_none(), "every core forgets");
    }

    #[test]
    fn a_locked_core_is_skipped_without_waiting() {
        let cores = PerCoreTokens::for_cores(2);
        let busy = cores.slots_of(0);
        assert!(busy.is_some() && cores.slots_of(2).is_none() && cores.slots_of(1).is_some());
    }
}
