//! [`PurgeClock`]: decides by which time revocations are forgotten.
//!
//! A wall clock that is ahead makes revocations look as if they had expired. A forgotten revocation does not come back when
//! the clock is corrected, and in a shared store it is forgotten for every replica. So the wall clock is believed only after it has been
//! steady for an hour: since the process started, it moved as fast as the monotonic clock. A process that starts with a wrong
//! clock usually has the right time within minutes, and a clock that jumps ahead by mistake is corrected in that time as well.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::clock::{Moment, later};

/// By how much the wall clock may differ from the monotonic clock and still be steady: a usual adjustment is smaller.
const TOLERANCE: Duration = Duration::from_secs(60);

/// How long the wall clock must be steady before it is believed. After a machine slept, expired entries stay for that long.
const STEADY: Duration = Duration::from_secs(60 * 60);

/// Tells the time by which entries may be forgotten.
#[derive(Debug)]
pub(super) struct PurgeClock(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Since when the wall clock has been steady.
    steady_since: Moment,
    /// A time that was believed.
    believed: Option<Moment>,
}

impl PurgeClock {
    pub(super) fn new(now: Moment) -> Self {
        Self(Mutex::new(State { steady_since: now, believed: None }))
    }

    /// Returns the time by which entries have expired, or `None` while no time can be believed.
    pub(super) fn time(&self, now: Moment) -> Option<SystemTime> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = expected(state.steady_since, now.monotonic);
        if now.wall > later(expected, TOLERANCE) || later(now.wall, TOLERANCE) < expected {
            state.steady_since = now;
        }
        let is_steady = now.monotonic.saturating_duration_since(state.steady_since.monotonic) >= STEADY;
        // The smaller of two times forgets less.
        let is_earlier = |believed| now.wall <= self::expected(believed, now.monotonic);
        if is_steady || state.believed.is_some_and(is_earlier) {
            state.believed = Some(now);
        }
        state.believed.map(|believed| self::expected(believed, now.monotonic))
    }
}

/// Returns the wall time that follows from an earlier moment and the monotonic clock.
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

    /// A clock, and the wall time at its start plus a number of minutes.
    struct Scene {
        clock: PurgeClock,
        start: Moment,
    }

    impl Scene {
        fn starting_at(wall: SystemTime) -> Self {
            let start = Moment { wall, monotonic: Instant::now() };
            Self { clock: PurgeClock::new(start), start }
        }

        fn at(&self, minutes: u32) -> SystemTime {
            self.start.wall + minutes * MINUTE
        }

        /// Returns the time that is believed when the wall clock shows this time so many minutes after the start.
        fn believed(&self, minutes: u32, wall: SystemTime) -> Option<SystemTime> {
            self.clock.time(Moment { wall, monotonic: self.start.monotonic + minutes * MINUTE })
        }
    }

    fn today() -> SystemTime {
        SystemTime::UNIX_EPOCH + 365 * DAY
    }

    #[test]
    fn a_clock_is_believed_after_an_hour() {
        let scene = Scene::starting_at(today());
        for minutes in 0..60 {
            assert_eq!(scene.believed(minutes, scene.at(minutes)), None, "{minutes}");
        }
        for minutes in 60..200 {
            assert_eq!(scene.believed(minutes, scene.at(minutes)), Some(scene.at(minutes)), "{minutes}");
        }
    }

    #[test]
    fn a_clock_that_is_ahead_at_the_start_is_not_believed_and_the_right_time_is_an_hour_after_it_is_set() {
        let scene = Scene::starting_at(today() + DAY);
        for minutes in 0..59 {
            assert_eq!(scene.believed(minutes, scene.at(minutes)), None, "{minutes}");
        }
        let right = |minutes| scene.at(minutes) - DAY;
        for minutes in 59..119 {
            assert_eq!(scene.believed(minutes, right(minutes)), None, "{minutes}");
        }
        assert_eq!(scene.believed(119, right(119)), Some(right(119)));
    }

    #[test]
    fn a_clock_that_jumps_ahead_is_believed_after_an_hour_and_one_that_is_set_back_at_once() {
        let scene = Scene::starting_at(today());
        let right = |minutes| scene.at(minutes);
        assert_eq!(scene.believed(60, right(60)), Some(right(60)));
        // For some minutes it shows tomorrow.
        for minutes in 61..=70 {
            assert_eq!(scene.believed(minutes, right(minutes) + DAY), Some(right(minutes)), "{minutes}");
        }
        assert_eq!(scene.believed(71, right(71)), Some(right(71)));
        // It does so for good.
        for minutes in 72..132 {
            assert_eq!(scene.believed(minutes, right(minutes) + DAY), Some(right(minutes)), "{minutes}");
        }
        assert_eq!(scene.believed(132, right(132) + DAY), Some(right(132) + DAY));
        // It was wrong after all, and that is believed at once.
        assert_eq!(scene.believed(133, right(133)), Some(right(133)));
        assert_eq!(scene.believed(134, right(134) + DAY), Some(right(134)), "it jumps again, which is another hour");
    }

    #[test]
    fn a_second_jump_begins_another_hour() {
        let scene = Scene::starting_at(today());
        let right = |minutes| scene.at(minutes);
        assert_eq!(scene.believed(60, right(60)), Some(right(60)));
        for minutes in 61..119 {
            assert_eq!(scene.believed(minutes, right(minutes) + 2 * MINUTE), Some(right(minutes)), "{minutes}");
        }
        for minutes in 119..179 {
            assert_eq!(scene.believed(minutes, right(minutes) + DAY), Some(right(minutes)), "{minutes}");
        }
        assert_eq!(scene.believed(179, right(179) + DAY), Some(right(179) + DAY));
    }

    #[test]
    fn small_steps_ahead_add_up_to_a_jump() {
        let scene = Scene::starting_at(today());
        let right = |minutes| scene.at(minutes);
        assert_eq!(scene.believed(60, right(60)), Some(right(60)));
        // Half a minute too fast each minute, for a day: no time is believed that is an hour ahead.
        for minutes in 1..1_440 {
            let shown = right(60 + minutes) + minutes * MINUTE / 2;
            let believed = scene.believed(60 + minutes, shown).unwrap();
            assert!(believed <= right(60 + minutes) + 2 * MINUTE, "{minutes}");
        }
    }

    #[test]
    fn a_clock_that_is_adjusted_by_less_than_a_minute_is_steady() {
        let scene = Scene::starting_at(today());
        for minutes in 0..60 {
            let adjusted = if minutes % 2 == 0 { scene.at(minutes) + MINUTE / 2 } else { scene.at(minutes) };
            assert_eq!(scene.believed(minutes, adjusted), None);
        }
        assert_eq!(scene.believed(60, scene.at(60) + MINUTE / 2), Some(scene.at(60) + MINUTE / 2));
    }
}
