//! [`ReadyToken`]: the token in use, read by all threads without waiting for each other.

use std::mem;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::access_token::AccessToken;
use super::concurrency::{Mutex, MutexGuard, cores, thread_number};
use crate::clock::{Clock, Moment, later};

/// More threads than this share slots.
const MAX_SLOTS: usize = 16;

/// For so long after a check by both clocks, the wall clock alone shows that a token is fresh: to read a clock takes longer than
/// everything else. A wall clock that shows an earlier time than at that check was set back, and causes another one.
const CHECKED_FOR: Duration = Duration::from_secs(1);

/// One copy of the token per core. Sending a token writes to the counters of its memory, and cores that write to the same
/// memory wait for each other.
#[derive(Debug)]
pub(super) struct ReadyToken(Box<[Slot]>);

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

impl ReadyToken {
    pub(super) fn new() -> Self {
        Self((0..cores().next_power_of_two().min(MAX_SLOTS)).map(|_| Slot::default()).collect())
    }

    /// Returns this thread's copy, if it is fresh.
    pub(super) fn get(&self, clock: &dyn Clock) -> Option<AccessToken> {
        let wall = clock.now();
        let mut slot = lock(&self.slot(thread_number()).0);
        let checked = slot.as_mut()?;
        let is_known = checked.from <= wall && wall < checked.until;
        (is_known || checked.check(wall)).then(|| checked.token.clone())
    }

    #[expect(clippy::indexing_slicing, reason = "the number of slots is a power of two, so the index is smaller")]
    fn slot(&self, thread: usize) -> &Slot {
        // A division would take longer than the rest.
        &self.0[thread & (self.0.len() - 1)]
    }

    /// Replaces all copies. Once it returns, no thread gets the token from before.
    pub(super) fn set(&self, token: Option<&AccessToken>) {
        for Slot(slot) in &self.0 {
            // Outside of the lock: the copy allocates, and so does the drop of the old one.
            let copy = token.map(Checked::new);
            let old = mem::replace(&mut *lock(slot), copy);
            drop(old);
        }
    }
}

impl Checked {
    fn new(token: &AccessToken) -> Self {
        Self { token: token.unshared(), from: SystemTime::UNIX_EPOCH, until: SystemTime::UNIX_EPOCH }
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
