//! [`ReadyToken`]: the token in use, read by all threads without waiting for each other.

use std::mem;
use std::sync::PoisonError;

use super::access_token::AccessToken;
use super::concurrency::{AtomicU64, Mutex, MutexGuard, Ordering, cores, next_number, thread_number};
use crate::clock::{Moment, SharedClock, SystemClock, Tick};

/// More threads than this share slots.
const MAX_SLOTS: usize = 16;

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

/// A token, and the tick of the system's clock at which it was last found to be fresh. Most requests are made at the same tick as the
/// request before.
#[derive(Clone, Debug)]
struct Checked {
    token: AccessToken,
    at: Option<Tick>,
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
        &self.checked.insert(Checked::new(token)).token
    }
}

impl ReadyToken {
    pub(super) fn new() -> Self {
        let slots = (0..cores().next_power_of_two().min(MAX_SLOTS)).map(|_| Slot::default()).collect();
        Self { slots, number: AtomicU64::new(next_number()) }
    }

    /// Returns this thread's copy, if it is fresh.
    pub(super) fn get(&self, clock: &SharedClock) -> Option<AccessToken> {
        let tick = clock.tick();
        Some(self.checked(tick, own_time(tick, clock))?.token)
    }

    /// Returns whether the token is fresh, and is the one that a service has kept from then on.
    #[inline]
    pub(super) fn update(&self, kept: &mut KeptToken, clock: &SharedClock) -> bool {
        let tick = clock.tick();
        // Read before the copies: a change in between causes another look at them.
        let number = self.number.load(Ordering::Acquire);
        let is_same = kept.number == number;
        (is_same && kept.checked.as_ref().is_some_and(|checked| checked.is_known(tick)))
            || self.refill(kept, number, tick, clock)
    }

    #[cold]
    fn refill(&self, kept: &mut KeptToken, number: u64, tick: Option<Tick>, clock: &SharedClock) -> bool {
        let now = own_time(tick, clock);
        let is_fresh = kept.number == number && kept.checked.as_mut().is_some_and(|checked| checked.check(tick, now));
        if !is_fresh {
            *kept = KeptToken { checked: self.checked(tick, now), number };
        }
        kept.checked.is_some()
    }

    fn checked(&self, tick: Option<Tick>, now: Option<Moment>) -> Option<Checked> {
        let mut slot = lock(&self.slot(thread_number()).0);
        let checked = slot.as_mut()?;
        (checked.is_known(tick) || checked.check(tick, now)).then(|| checked.clone())
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
            let copy = token.map(|token| Checked::new(token.unshared()));
            let old = mem::replace(&mut *lock(slot), copy);
            drop(old);
        }
        // A thread that reads the new number also reads the new copies.
        self.number.store(next_number(), Ordering::Release);
    }
}

impl Checked {
    fn new(token: AccessToken) -> Self {
        Self { token, at: None }
    }

    /// Returns whether the token is fresh by an earlier check at this tick.
    #[inline]
    fn is_known(&self, tick: Option<Tick>) -> bool {
        tick.is_some() && self.at == tick
    }

    /// Returns whether the token is fresh by both clocks, at this time or that of the system.
    fn check(&mut self, tick: Option<Tick>, now: Option<Moment>) -> bool {
        let is_fresh = self.token.is_fresh(now.unwrap_or_else(|| Moment::now(&SystemClock)));
        self.at = tick.filter(|_| is_fresh);
        is_fresh
    }
}

/// Returns the time by a clock without ticks, which is asked once and not under a lock, since it may be code of the application.
fn own_time(tick: Option<Tick>, clock: &SharedClock) -> Option<Moment> {
    tick.is_none().then(|| Moment::now(clock))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
