//! [`ReadyToken`]: the token in use, read by all threads without waiting for each other.

use std::mem;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::access_token::AccessToken;
use super::concurrency::{AtomicU64, Mutex, MutexGuard, Ordering, cores, next_number, thread_number};
use crate::clock::{Clock, Moment, later};

/// More threads than this share slots.
const MAX_SLOTS: usize = 16;

/// For so long after a check by both clocks, the wall clock alone shows that a token is fresh: to read a clock takes longer than
/// everything else. A wall clock that shows an earlier time than at that check was set back, and causes another one.
const CHECKED_FOR: Duration = Duration::from_secs(1);

/// One copy of the token per core. Sending a token writes to the counters of its memory, and cores that write to the same
/// memory wait for each other.
#[derive(Debug)]
pub(super) struct ReadyToken {
    slots: Box<[Slot]>,
    /// A number that no other token in this process has. It changes after the copies.
    number: AtomicU64,
}

/// On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Slot(Mutex<Option<Checked>>);

/// A token, and the wall times between which it is known to be fresh.
#[derive(Debug)]
struct Checked {
    token: AccessToken,
    from: SystemTime,
    until: SystemTime,
}

/// The token that a service sent last. Its next request uses it without a lock.
#[derive(Debug, Default)]
pub(super) struct KeptToken {
    checked: Option<Checked>,
    /// The number of the token. None has 0.
    number: u64,
}

/// The clone of a service is mostly for another thread, which has a copy of the token of its own.
impl Clone for KeptToken {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl KeptToken {
    pub(super) fn token(&self) -> Option<&AccessToken> {
        self.checked.as_ref().map(|checked| &checked.token)
    }

    /// Keeps a token for one request only.
    pub(super) fn replace(&mut self, token: AccessToken) -> &AccessToken {
        self.number = 0;
        let (from, until) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH);
        &self.checked.insert(Checked { token, from, until }).token
    }
}

impl ReadyToken {
    pub(super) fn new() -> Self {
        let slots = (0..cores().next_power_of_two().min(MAX_SLOTS)).map(|_| Slot::default()).collect();
        Self { slots, number: AtomicU64::new(next_number()) }
    }

    /// Returns this thread's copy, if it is fresh.
    pub(super) fn get(&self, clock: &dyn Clock) -> Option<AccessToken> {
        Some(self.checked(clock.recent())?.token)
    }

    /// Returns whether the token is fresh, and is the one that a service has kept from then on.
    #[inline]
    pub(super) fn update(&self, kept: &mut KeptToken, clock: &dyn Clock) -> bool {
        let wall = clock.recent();
        // Read before the copies: a change in between causes another look at them.
        let number = self.number.load(Ordering::Acquire);
        let is_known = kept.number == number && kept.checked.as_ref().is_some_and(|checked| checked.is_known_at(wall));
        is_known || self.refill(kept, number, wall)
    }

    #[cold]
    fn refill(&self, kept: &mut KeptToken, number: u64, wall: SystemTime) -> bool {
        *kept = KeptToken { checked: self.checked(wall), number };
        kept.checked.is_some()
    }

    fn checked(&self, wall: SystemTime) -> Option<Checked> {
        let mut slot = lock(&self.slot(thread_number()).0);
        let checked = slot.as_mut()?;
        (checked.is_known_at(wall) || checked.check(wall)).then(|| checked.share())
    }

    #[expect(clippy::indexing_slicing, reason = "the number of slots is a power of two, so the index is smaller")]
    fn slot(&self, thread: usize) -> &Slot {
        // A division would take longer than the rest.
        &self.slots[thread & (self.slots.len() - 1)]
    }

    /// Replaces all copies. Once it returns, no thread gets the token from before. Calls may not overlap.
    pub(super) fn set(&self, token: Option<&AccessToken>) {
        for Slot(slot) in &self.slots {
            // Outside of the lock: the copy allocates, and so does the drop of the old one.
            let copy = token.map(Checked::new);
            let old = mem::replace(&mut *lock(slot), copy);
            drop(old);
        }
        // A thread that reads the new number also reads the new copies.
        self.number.store(next_number(), Ordering::Release);
    }
}

impl Checked {
    fn new(token: &AccessToken) -> Self {
        Self { token: token.unshared(), from: SystemTime::UNIX_EPOCH, until: SystemTime::UNIX_EPOCH }
    }

    /// Returns the same for another holder.
    fn share(&self) -> Self {
        Self { token: self.token.clone(), ..*self }
    }

    #[inline]
    fn is_known_at(&self, wall: SystemTime) -> bool {
        self.from <= wall && wall < self.until
    }

    /// Returns whether the token is fresh by both clocks.
    #[cold]
    fn check(&mut self, wall: SystemTime) -> bool {
        let now = Moment { wall, monotonic: Instant::now() };
        let left = self.token.lifetime().map(|lifetime| lifetime.until_refresh(now)).unwrap_or_default();
        self.from = wall;
        self.until = later(wall, left.min(CHECKED_FOR));
        !left.is_zero()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
