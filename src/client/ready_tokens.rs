//! [`ReadyToken`]: the token in use, read by all threads without waiting for each other.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use super::access_token::AccessToken;

/// More threads than this share slots.
const MAX_SLOTS: usize = 16;

/// One copy of the token per core. Sending a token writes to the counters of its memory, and cores that write to the same
/// memory wait for each other.
#[derive(Debug)]
pub(super) struct ReadyToken(Box<[Slot]>);

/// On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Slot(Mutex<Option<AccessToken>>);

impl ReadyToken {
    pub(super) fn new() -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get).next_power_of_two();
        Self((0..cores.min(MAX_SLOTS)).map(|_| Slot::default()).collect())
    }

    /// Returns this thread's copy, if it passes the check.
    pub(super) fn get(&self, is_fresh: impl FnOnce(&AccessToken) -> bool) -> Option<AccessToken> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed));
        let Slot(slot) = self.slot(NUMBER.with(|number| *number));
        lock(slot).as_ref().filter(|token| is_fresh(token)).cloned()
    }

    #[expect(clippy::indexing_slicing, reason = "the remainder is smaller than the number of slots, which is not 0")]
    fn slot(&self, thread: usize) -> &Slot {
        &self.0[thread % self.0.len()]
    }

    /// Replaces all copies. Once it returns, no thread gets the token from before.
    pub(super) fn set(&self, token: Option<&AccessToken>) {
        for Slot(slot) in &self.0 {
            // Outside of the lock: the copy allocates, and so does the drop of the old one.
            let copy = token.map(AccessToken::unshared);
            let old = std::mem::replace(&mut *lock(slot), copy);
            drop(old);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{AccessToken, ReadyToken};

    #[test]
    fn every_thread_gets_the_token_that_was_set_last() {
        let ready = ReadyToken::new();
        for text in ["first", "second"] {
            let token = AccessToken::bearer(text).unwrap();
            ready.set(Some(&token));
            std::thread::scope(|scope| {
                for _ in 0..40 {
                    scope.spawn(|| assert_eq!(ready.get(|_| true), Some(token.clone())));
                }
            });
            assert_eq!(ready.get(|_| false), None);
        }
        ready.set(None);
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| assert_eq!(ready.get(|_| true), None));
            }
        });
    }
}
