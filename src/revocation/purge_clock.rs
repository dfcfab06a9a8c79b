//! [`PurgeClock`]: the time by which expired revocations are removed.
//!
//! A wall clock that is ahead makes revocations look expired. A removed revocation does not come back when the clock is
//! corrected, and in a shared store it is removed for every replica. So the wall clock is trusted only after it has been steady
//! for an hour, which means that it moved as fast as the monotonic clock. A process that starts with a wrong clock usually has the
//! right time within minutes, and a clock that jumps ahead by mistake is usually corrected as quickly.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::clock::{Moment, later};
use crate::sync::lock;

/// How far a steady wall clock may differ from the monotonic clock. Usual adjustments are smaller.
const TOLERANCE: Duration = Duration::from_secs(60);

/// How long the wall clock must be steady before it is trusted. After a machine has slept, expired entries stay for this long.
const STEADY: Duration = Duration::from_secs(60 * 60);

/// Returns the time by which expired entries may be removed.
#[derive(Debug)]
pub(super) struct PurgeClock(Mutex<State>);

#[derive(Debug)]
struct State {
    /// The time since which the wall clock has been steady.
    steady_since: Moment,
    /// The last time at which the wall clock was trusted.
    trusted: Option<Moment>,
}

impl PurgeClock {
    pub(super) fn new(now: Moment) -> Self {
        Self(Mutex::new(State { steady_since: now, trusted: None }))
    }

    /// Returns the time by which entries have expired, or `None` while no time can be trusted.
    pub(super) fn time(&self, now: Moment) -> Option<SystemTime> {
        let mut state = lock(&self.0);
        let expected = expected(state.steady_since, now.monotonic);
        if now.wall > later(expected, TOLERANCE) || later(now.wall, TOLERANCE) < expected {
            state.steady_since = now;
        }
        let is_steady = now.monotonic.saturating_duration_since(state.steady_since.monotonic) >= STEADY;
        // An earlier time removes fewer entries, so it is trusted at once.
        let is_earlier = |trusted| now.wall <= self::expected(trusted, now.monotonic);
        if is_steady || state.trusted.is_some_and(is_earlier) {
            state.trusted = Some(now);
        }
        state.trusted.map(|trusted| self::expected(trusted, now.monotonic))
    }
}

/// Returns the wall time of an earlier moment plus the monotonic time since.
fn expected(then: Moment, now: Instant) -> SystemTime {
    later(then.wall, now.saturating_duration_since(then.monotonic))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use tokio::time::Instant;

    use super::PurgeClock;
    use crate::clock::Moment;

    const MINUTE: Duration = Duration::from_secs(60);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// A purge clock and the moment of its start.
    struct Scene {
        clock: PurgeClock,
        start: Moment,
    }

    impl Scene {
        fn starting_at(wall: SystemTime) -> Self {
            let start = Moment { wall, monotonic: Instant::now() };
            Self { clock: PurgeClock::new(start), start }
        }

        /// Returns the wall time at the start plus a number of minutes.
        fn at(&self, minutes: u32) -> SystemTime {
            self.start.wall + minutes * MINUTE
        }

        /// Returns the trusted time when the wall clock shows `wall`, `minutes` after the start.
        fn trusted(&self, minutes: u32, wall: SystemTime) -> Option<SystemTime> {
            self.clock.time(Moment { wall, monotonic: self.start.monotonic + minutes * MINUTE })
        }
    }

    fn today() -> SystemTime {
        SystemTime::UNIX_EPOCH + 365 * DAY
    }

    #[test]
    fn a_clock_is_trusted_after_an_hour() {
        let scene = Scene::starting_at(today());
        for minutes in 0..60 {
            assert_eq!(scene.trusted(minutes, scene.at(minutes)), None, "{minutes}");
        }
        for minutes in 60..200 {
            assert_eq!(scene.trusted(minutes, scene.at(minutes)), Some(scene.at(minutes)), "{minutes}");
        }
    }

    #[test]
    fn a_clock_that_starts_ahead_is_trusted_an_hour_after_it_is_corrected() {
        let scene = Scene::starting_at(today() + DAY);
        for minutes in 0..59 {
            assert_eq!(scene.trusted(minutes, scene.at(minutes)), None, "{minutes}");
        }
        let right = |minutes| scene.at(minutes) - DAY;
        for minutes in 59..119 {
            assert_eq!(scene.trusted(minutes, right(minutes)), None, "{minutes}");
        }
        assert_eq!(scene.trusted(119, right(119)), Some(right(119)));
    }

    #[test]
    fn a_clock_that_jumps_ahead_is_trusted_after_an_hour_and_one_that_is_set_back_at_once() {
        let scene = Scene::starting_at(today());
        let right = |minutes| scene.at(minutes);
        assert_eq!(scene.trusted(60, right(60)), Some(right(60)));
        // For some minutes, the clock is a day ahead.
        for minutes in 61..=70 {
            assert_eq!(scene.trusted(minutes, right(minutes) + DAY), Some(right(minutes)), "{minutes}");
        }
        assert_eq!(scene.trusted(71, right(71)), Some(right(71)));
        // The clock jumps a day ahead and stays there.
        for minutes in 72..132 {
            assert_eq!(scene.trusted(minutes, right(minutes) + DAY), Some(right(minutes)), "{minutes}");
        }
        assert_eq!(scene.trusted(132, right(132) + DAY), Some(right(132) + DAY));
        // The clock is set back, which is trusted at once.
        assert_eq!(scene.trusted(133, right(133)), Some(right(133)));
        assert_eq!(scene.trusted(134, right(134) + DAY), Some(right(134)), "after another jump, it takes another hour");
    }

    #[test]
    fn a_second_jump_begins_another_hour() {
        let scene = Scene::starting_at(today());
        let right = |minutes| scene.at(minutes);
        assert_eq!(scene.trusted(60, right(60)), Some(right(60)));
        for minutes in 61..119 {
            assert_eq!(scene.trusted(minutes, right(minutes) + 2 * MINUTE), Some(right(minutes)), "{minutes}");
        }
        for minutes in 119..179 {
            assert_eq!(scene.trusted(minutes, right(minutes) + DAY), Some(right(minutes)), "{minutes}");
        }
        assert_eq!(scene.trusted(179, right(179) + DAY), Some(right(179) + DAY));
    }

    #[test]
    fn small_steps_ahead_add_up_to_a_jump() {
        let scene = Scene::starting_at(today());
        let right = |minutes| scene.at(minutes);
        assert_eq!(scene.trusted(60, right(60)), Some(right(60)));
        // For a day, the clock gains half a minute each minute. No time that is an hour ahead is trusted.
        for minutes in 1..1_440 {
            let shown = right(60 + minutes) + minutes * MINUTE / 2;
            let trusted = scene.trusted(60 + minutes, shown).unwrap();
            assert!(trusted <= right(60 + minutes) + 2 * MINUTE, "{minutes}");
        }
    }

    #[test]
    fn a_clock_that_is_adjusted_by_less_than_a_minute_is_steady() {
        let scene = Scene::starting_at(today());
        for minutes in 0..60 {
            let adjusted = if minutes % 2 == 0 { scene.at(minutes) + MINUTE / 2 } else { scene.at(minutes) };
            assert_eq!(scene.trusted(minutes, adjusted), None);
        }
        assert_eq!(scene.trusted(60, scene.at(60) + MINUTE / 2), Some(scene.at(60) + MINUTE / 2));
    }

    #[test]
    fn a_clock_that_is_a_minute_ahead_or_behind_is_steady_and_one_that_differs_by_more_is_not() {
        for (difference, is_steady) in [(MINUTE, true), (MINUTE + Duration::from_nanos(1), false)] {
            let (ahead, behind) = (Scene::starting_at(today()), Scene::starting_at(today()));
            ahead.trusted(30, ahead.at(30) + difference);
            behind.trusted(30, behind.at(30) - difference);
            assert_eq!(ahead.trusted(60, ahead.at(60)).is_some(), is_steady, "{difference:?} ahead");
            assert_eq!(behind.trusted(60, behind.at(60)).is_some(), is_steady, "{difference:?} behind");
        }
    }
}
