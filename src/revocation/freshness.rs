//! [`Freshness`]: how old a view is, by two clocks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use tokio::time::Instant;

use crate::clock::{Clock, Moment, later};

/// When the last good poll began. The view is as old as the elder of two clocks says.
#[derive(Debug)]
pub(super) struct Freshness {
    max_age: Duration,
    /// Where the monotonic times count from.
    origin: Instant,
    /// Both in milliseconds.
    wall: AtomicU64,
    monotonic: AtomicU64,
}

impl Freshness {
    /// As old as can be, until something was [good](Self::good).
    pub(super) fn new(max_age: Duration) -> Self {
        Self { max_age, origin: Instant::now(), wall: AtomicU64::new(0), monotonic: AtomicU64::new(0) }
    }

    /// What is known now was asked for at that time. Whoever reads it sees what was told until then.
    pub(super) fn good(&self, asked: Moment) {
        self.wall.store(millis(asked.wall.duration_since(UNIX_EPOCH).unwrap_or_default()), Ordering::Release);
        self.monotonic.store(millis(asked.monotonic.saturating_duration_since(self.origin)), Ordering::Release);
    }

    pub(super) fn age(&self, clock: &dyn Clock) -> Duration {
        let [wall, monotonic] =
            [&self.wall, &self.monotonic].map(|since| Duration::from_millis(since.load(Ordering::Acquire)));
        let asked = Moment { wall: later(UNIX_EPOCH, wall), monotonic: self.origin + monotonic };
        Moment::now(clock).since(asked)
    }

    /// The age, when it is beyond what is allowed.
    pub(super) fn check(&self, clock: &dyn Clock) -> Result<(), Duration> {
        let age = self.age(clock);
        if age > self.max_age { Err(age) } else { Ok(()) }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::Freshness;
    use crate::clock::{Clock as _, ManualClock, Moment};

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn it_is_as_old_as_the_elder_of_two_clocks_says() {
        let clock = ManualClock::at(UNIX_EPOCH + 1_000 * SECOND);
        let freshness = Freshness::new(30 * SECOND);
        assert!(freshness.check(&clock).is_err(), "nothing was good yet");
        freshness.good(Moment::now(&clock));
        assert_eq!(freshness.age(&clock), Duration::ZERO);

        clock.advance(30 * SECOND);
        assert!(freshness.check(&clock).is_ok());
        clock.advance(Duration::from_millis(1));
        assert!(freshness.check(&clock).is_err(), "by the wall clock");

        freshness.good(Moment::now(&clock));
        clock.set(clock.now() - 500 * SECOND);
        tokio::time::advance(30 * SECOND).await;
        assert!(freshness.check(&clock).is_ok());
        tokio::time::advance(SECOND).await;
        assert_eq!(freshness.check(&clock), Err(31 * SECOND), "a wall clock that is set back hides nothing");
    }
}
