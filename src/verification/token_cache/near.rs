//! [`NearTokens`]: of the tokens that come most, a copy for each core.
//!
//! A look-up writes, though it changes nothing: to a lock, and to the count of those who hold the token. Cores that write to
//! the same memory wait for each other, and the one token of a busy caller comes to all of them. What a core finds near
//! is its own, to the count.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;

use super::{Place, VerifiedToken};

/// How many copies a core has at most.
const COPIES: usize = 16;

/// So many times more than others of its slot a token has to come, before it is worth a copy.
const OFTEN: u8 = 8;

/// Longer ones get no copy, in bytes, so that who drives a token out of the cache leaves little of it here.
const LONGEST: usize = 4_096;

/// More cores than that share.
const MOST_CORES: usize = 64;

pub(super) struct NearTokens(Box<[Core]>);

/// On cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Core(Mutex<Slots>);

#[derive(Default)]
pub(super) struct Slots([Slot; COPIES]);

#[derive(Default)]
struct Slot {
    copy: Option<Nearby>,
    /// Who might take the place of the copy, and by how much it came more often.
    rival: Option<Place>,
    lead: u8,
}

struct Nearby {
    place: Place,
    text: Arc<str>,
    token: VerifiedToken,
}

impl NearTokens {
    pub(super) fn new() -> Self {
        Self::for_cores(thread::available_parallelism().map_or(1, NonZero::get).next_power_of_two())
    }

    fn for_cores(cores: usize) -> Self {
        Self((0..cores.min(MOST_CORES)).map(|_| Core::default()).collect())
    }

    /// Those of this thread's core, as good as; `None` where another thread is at them just now.
    pub(super) fn of_this_thread(&self) -> Option<MutexGuard<'_, Slots>> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed));
        self.of(NUMBER.with(|number| *number))
    }

    #[expect(clippy::indexing_slicing, reason = "the remainder is smaller than the number of cores")]
    fn of(&self, thread: usize) -> Option<MutexGuard<'_, Slots>> {
        let Core(slots) = &self.0[thread % self.0.len()];
        match slots.try_lock() {
            Ok(slots) => Some(slots),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Called once they are gone from the cache, out of which copies are made.
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

    /// Counts a token that had to be found elsewhere, and copies it if it comes that often.
    pub(super) fn count(&mut self, place: Place, token: &VerifiedToken) {
        let slot = self.slot(place);
        if slot.lead == 0 {
            slot.rival = Some(place);
        }
        slot.lead = if slot.rival == Some(place) { slot.lead + 1 } else { slot.lead - 1 };
        if slot.lead == OFTEN {
            slot.lead = 0;
            let fits = token.text().len() <= LONGEST;
            slot.copy = fits.then(|| Nearby { place, text: token.text().clone(), token: token.apart() });
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::indexing_slicing)] // of the lowest bits, into an array of so many
    fn slot(&mut self, Place(hash): Place) -> &mut Slot {
        &mut self.0[hash as usize % COPIES]
    }
}

#[cfg(test)]
mod tests {
    use super::{NearTokens, OFTEN, Place, VerifiedToken};

    #[test]
    fn each_core_counts_and_copies_for_itself() {
        let (near, token) = (NearTokens::for_cores(2), VerifiedToken::for_test_with_text("a.b.0123456789abcdef"));
        let (place, text) = (Place(7), token.text().as_bytes());
        let comes_often = |thread| (0..OFTEN).for_each(|_| near.of(thread).unwrap().count(place, &token));
        let found = |thread| near.of(thread).unwrap().find(place, text);
        comes_often(0);
        assert!(found(0).is_some() && found(1).is_none());
        assert!(found(2).unwrap().shares_with(&found(0).unwrap()), "more threads than cores share");
        comes_often(1);
        assert!(!found(1).unwrap().shares_with(&found(0).unwrap()));
        near.forget(|_| true);
        assert!(found(0).is_none() && found(1).is_none(), "every core forgets");
    }

    #[test]
    fn who_would_have_to_wait_for_a_core_gets_nothing_of_it() {
        let near = NearTokens::for_cores(2);
        let busy = near.of(0);
        assert!(busy.is_some() && near.of(2).is_none() && near.of(1).is_some());
    }
}
