//! [`PurgeClock`]: the time by which revocations are forgotten.
//!
//! A wall clock that jumps ahead makes revocations look as if they had expired. What is forgotten then stays forgotten when
//! the clock is right again, and in a shared store it is forgotten for every replica. So a clock that runs ahead of the
//! monotonic one is not believed at once.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::clock::{Moment, later};

/// By how much the wall clock may be ahead of the monotonic one: it is adjusted by less in normal operation.
const TOLERANCE: Duration = Duration::from_secs(60);

/// For how long a clock that jumped ahead must show the new time before it is believed. A machine that slept is one as
/// well, and then expired entries stay for that long.
const TRUSTED_AFTER: Duration = Duration::from_secs(60 * 60);

/// Tells the time by which entries may be forgotten: that on the wall, unless it jumped ahead less than an hour ago.
#[derive(Debug)]
pub(super) struct PurgeClock(Mutex<State>);

#[derive(Debug)]
struct State {
    /// When the clock was last believed.
    believed: Moment,
    /// Since when it has been ahead.
    ahead_since: Option<Instant>,
}

impl PurgeClock {
    pub(super) fn new(now: Moment) -> Self {
        Self(Mutex::new(State { believed: now, ahead_since: None }))
    }

    pub(super) fn time(&self, now: Moment) -> SystemTime {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.monotonic.saturating_duration_since(state.believed.monotonic);
        let expected = later(state.believed.wall, elapsed);
        let is_ahead = now.wall > later(expected, TOLERANCE);
        if is_ahead {
            let since = *state.ahead_since.get_or_insert(now.monotonic);
            if now.monotonic.saturating_duration_since(since) < TRUSTED_AFTER {
                return expected;
            }
        }
        *state = State { believed: now, ahead_since: None };
        now.wall
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use tokio::time::Instant;

    use super::PurgeClock;
    use crate::clock::Moment;

    const MINUTE: Duration = Duration::from_secs(60);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn a_clock_that_jumps_ahead_is_believed_after_an_hour_and_one_that_is_set_back_at_once() {
        let start = Moment { wall: SystemTime::UNIX_EPOCH + 365 * DAY, monotonic: Instant::now() };
        let clock = PurgeClock::new(start);
        let shows =
            |minutes: u32, wall: SystemTime| clock.time(Moment { wall, monotonic: start.monotonic + minutes * MINUTE });
        let right = |minutes: u32| start.wall + minutes * MINUTE;
        assert_eq!(shows(1, right(1)), right(1));
        // For some minutes it shows tomorrow.
        for minutes in 2..=10 {
            assert_eq!(shows(minutes, right(minutes) + DAY), right(minutes), "{minutes}");
        }
        assert_eq!(shows(11, right(11)), right(11));
        // It does so for good.
        for minutes in 12..72 {
            assert_eq!(shows(minutes, right(minutes) + DAY), right(minutes), "{minutes}");
        }
        assert_eq!(shows(72, right(72) + DAY), right(72) + DAY);
        // It was wrong after all.
        assert_eq!(shows(73, right(73)), right(73));
        assert_eq!(shows(74, right(74)), right(74));
    }

    #[test]
    fn a_clock_that_is_adjusted_by_less_than_a_minute_is_believed() {
        let start = Moment { wall: SystemTime::UNIX_EPOCH + 365 * DAY, monotonic: Instant::now() };
        let clock = PurgeClock::new(start);
        let now = Moment { wall: start.wall + MINUTE + MINUTE / 2, monotonic: start.monotonic + MINUTE };
        assert_eq!(clock.time(now), now.wall);
    }
}
