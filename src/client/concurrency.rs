//! The parts of the standard library and of Tokio through which threads meet in the cache of tokens. The tests in
//! `interleavings` compile the cache with parts of shuttle in place of these.

use std::num::NonZero;
use std::sync::atomic::AtomicUsize;
pub(super) use std::sync::atomic::{AtomicU64, Ordering};
pub(super) use std::sync::{Mutex, MutexGuard};
use std::thread;

use tokio::runtime::Handle;

/// Returns how many threads run at once.
pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Returns the number of this thread: 0, 1, 2, … in the order of the first calls.
pub(super) fn thread_number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed));
    NUMBER.with(|number| *number)
}

/// Returns a number that no other call in this process returns: 1, 2, 3, …
pub(super) fn next_number() -> u64 {
    static NUMBERS: AtomicU64 = AtomicU64::new(1);
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

/// The runtime of a caller, in which the requests for tokens run.
#[derive(Debug)]
pub(super) struct Runtime(Handle);

impl Runtime {
    /// Returns `None` outside of a Tokio runtime.
    pub(super) fn current() -> Option<Self> {
        Handle::try_current().ok().map(Self)
    }

    /// Runs a task that does not end with its caller.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }
}
