//! [`Freshness`]: measures the age of a view by two clocks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::{Clock, Moment, at_unix_millis, millis, unix_millis};

/// The time at which the last successful poll began. The age of the view is the larger of the ages by two clocks.
#[derive(Debug)]
pub(super) struct Freshness {
    max_age: Duration,
    /// The start of the monotonic time.
    origin: Instant,
    /// In milliseconds since 1970.
    wall: AtomicU64,
    /// In milliseconds since `origin`.
    monotonic: AtomicU64,
}

impl Freshness {
    /// Returns a `Freshness` that is too old until the first poll has [succeeded](Self::succeeded).
    pub(super) fn new(max_age: Duration) -> Self {
        Self { max_age, origin: Instant::now(), wall: AtomicU64::new(0), monotonic: AtomicU64::new(0) }
    }

    /// Records a successful poll that was requested at this time. A thread that reads the time also sees the entries of that poll.
    pub(super) fn succeeded(&self, requested_at: Moment) {
        self.wall.store(unix_millis(requested_at.wall), Ordering::Release);
        self.monotonic.store(millis(requested_at.monotonic.saturating_duration_since(self.origin)), Ordering::Release);
    }

    /// Returns the time since the last successful poll began, by the clock that shows more.
    pub(super) fn age(&self, clock: &dyn Clock) -> Duration {
        let wall = at_unix_millis(self.wall.load(Ordering::Acquire));
        let monotonic = self.origin + Duration::from_millis(self.monotonic.load(Ordering::Acquire));
        let requested_at = Moment { wall, monotonic };
        Moment::now(clock).since(requested_at)
    }

    /// Checks that the view is recent enough.
    ///
    /// # Errors
    ///
    /// The age, if it is above the maximum.
    pub(super) fn check(&self, clock: &dyn Clock) -> Result<(), Duration> {
        let age = self.age(clock);
        if age > self.max_age { Err(age) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::Freshness;
    use crate::clock::{Clock as _, ManualClock, Moment};

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_age_is_the_larger_of_the_ages_by_two_clocks() {
        let clock = ManualClock::at(UNIX_EPOCH + 1_000 * SECOND);
        let freshness = Freshness::new(30 * SECOND);
        assert!(freshness.check(&clock).is_err(), "no poll has succeeded yet");
        freshness.succeeded(Moment::now(&clock));
        assert_eq!(freshness.age(&clock), Duration::ZERO);

        clock.advance(30 * SECOND);
        assert!(freshness.check(&clock).is_ok());
        clock.advance(Duration::from_millis(1));
        assert!(freshness.check(&clock).is_err(), "too old by the wall clock");

        freshness.succeeded(Moment::now(&clock));
        clock.set(clock.now() - 500 * SECOND);
        tokio::time::advance(30 * SECOND).await;
        assert!(freshness.check(&clock).is_ok());
        tokio::time::advance(SECOND).await;
        assert_eq!(freshness.check(&clock), Err(31 * SECOND), "a wall clock that is set back does not hide the age");
    }
}
