//! [`Lease`]: until when a replica may sign without hearing from the key store.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::clock::{Clock, Moment, at_unix_millis, later, unix_millis};
use crate::sync::lock;

/// The time at which the lease was last renewed, by two clocks. A machine that was suspended finds it too old when it wakes up.
pub(crate) struct Lease {
    clock: Arc<dyn Clock>,
    usable: Duration,
    renewed: Mutex<Option<Moment>>,
    /// The end by the wall clock, in milliseconds since 1970: the signature of each token depends on it.
    ends_at: AtomicU64,
}

impl Lease {
    /// Creates a lease that is over until it is renewed, and may be used for `usable` after each renewal.
    pub(crate) fn new(clock: Arc<dyn Clock>, usable: Duration) -> Self {
        Self { clock, usable, renewed: Mutex::new(None), ends_at: AtomicU64::new(0) }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment::now(&*self.clock)
    }

    /// Records a renewal that was requested at this time.
    pub(crate) fn renewed(&self, requested_at: Moment) {
        *lock(&self.renewed) = Some(requested_at);
        self.ends_at.store(unix_millis(later(requested_at.wall, self.usable)), Ordering::Release);
    }

    /// Returns the time since the last renewal was requested.
    pub(crate) fn age(&self) -> Option<Duration> {
        let renewed = *lock(&self.renewed);
        renewed.map(|renewed| self.now().since(renewed))
    }

    /// Returns whether this process may still sign, by both clocks.
    pub(crate) fn is_usable(&self) -> bool {
        self.age().is_some_and(|age| age < self.usable)
    }

    /// Returns whether this process may still sign, by a wall clock that the caller has read. A machine that was suspended
    /// notices it by this clock. If the clock was set back, the task that follows the store ends the use by the monotonic one.
    pub(crate) fn is_usable_at(&self, now: SystemTime) -> bool {
        now < self.end().1
    }

    /// Returns the end by the wall clock as a number, which is compared sooner, and as a time.
    pub(super) fn end(&self) -> (u64, SystemTime) {
        let millis = self.end_in_millis();
        (millis, at_unix_millis(millis))
    }

    /// Returns the end by the wall clock, in milliseconds since 1970. It changes with each renewal.
    #[inline]
    pub(super) fn end_in_millis(&self) -> u64 {
        self.ends_at.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("usable", &self.usable).field("age", &self.age()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::Lease;
    use crate::clock::{Clock as _, ManualClock};

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_by_the_clock_that_shows_more_and_for_a_token_by_the_wall_clock() {
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH + 1_000 * SECOND);
        let lease = Lease::new(Arc::new(clock.clone()), 20 * SECOND);
        assert!(!lease.is_usable() && !lease.is_usable_at(clock.now()), "it was never renewed");
        lease.renewed(lease.now());
        clock.advance(Duration::from_millis(19_999));
        assert!(lease.is_usable() && lease.is_usable_at(clock.now()));
        clock.advance(Duration::from_millis(1));
        assert!(!lease.is_usable() && !lease.is_usable_at(clock.now()));
        lease.renewed(lease.now());
        tokio::time::advance(20 * SECOND).await;
        assert!(!lease.is_usable(), "the wall clock stands still");
    }
}
