//! [`Budget`]: limits the fetches that requests cause to a few in a row, then one per interval.

use std::time::Duration;

use crate::clock::Moment;

/// The settings of a [`Budget`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// The number of fetches allowed in a row; 0 counts as 1.
    pub(crate) burst: u32,
    /// The time until another fetch is allowed.
    pub(crate) every: Duration,
}

/// A token bucket. Its size is constant.
#[derive(Debug)]
pub(super) struct Budget {
    rate: Rate,
    left: u32,
    /// The time for which `left` was computed, and the part of the next fetch that had been earned by then.
    at: Moment,
    earned: Duration,
}

impl Budget {
    pub(super) fn new(rate: Rate, now: Moment) -> Self {
        Self { rate, left: rate.burst.max(1), at: now, earned: Duration::ZERO }
    }

    /// Returns the time until a fetch is allowed, or `None` if one is allowed now.
    pub(super) fn wait(&self, now: Moment) -> Option<Duration> {
        if self.left > 0 {
            return None;
        }
        self.rate.every.checked_sub(self.earned_by(now)).filter(|wait| !wait.is_zero())
    }

    /// Takes a fetch from the budget, and returns whether one was allowed.
    pub(super) fn take(&mut self, now: Moment) -> bool {
        let (burst, earned) = (self.rate.burst.max(1), self.earned_by(now));
        let whole = earned.as_nanos().checked_div(self.rate.every.as_nanos()).unwrap_or(u128::MAX);
        let whole = u32::try_from(whole).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(whole).min(burst);
        // A full bucket earns nothing.
        self.earned = match self.rate.every.checked_mul(whole) {
            Some(spent) if self.left < burst => earned.saturating_sub(spent),
            _ => Duration::ZERO,
        };
        self.at = now;
        let is_allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_allowed
    }

    fn earned_by(&self, now: Moment) -> Duration {
        self.earned.saturating_add(now.since(self.at))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use tokio::time::Instant;

    use super::{Budget, Rate};
    use crate::clock::Moment;

    const SECOND: Duration = Duration::from_secs(1);

    /// Returns a function from milliseconds to moments after a first one.
    fn moments() -> impl Fn(u64) -> Moment {
        let first = Moment { wall: SystemTime::UNIX_EPOCH, monotonic: Instant::now() };
        move |milliseconds| {
            let later = Duration::from_millis(milliseconds);
            Moment { wall: first.wall + later, monotonic: first.monotonic + later }
        }
    }

    #[test]
    fn three_in_a_row_are_allowed_and_then_one_per_ten_seconds() {
        let at = moments();
        let mut budget = Budget::new(Rate { burst: 3, every: 10 * SECOND }, at(0));
        assert!((0..3).all(|_| budget.take(at(0))));
        assert_eq!((budget.take(at(0)), budget.wait(at(0))), (false, Some(10 * SECOND)));
        assert_eq!(budget.wait(at(4_000)), Some(6 * SECOND));
        assert!(!budget.take(at(9_999)), "a refused attempt costs nothing");
        assert_eq!((budget.wait(at(10_000)), budget.take(at(10_000)), budget.take(at(10_000))), (None, true, false));
        // Half of the next fetch is kept.
        assert!(budget.take(at(25_000)));
        assert_eq!(budget.wait(at(25_000)), Some(5 * SECOND));
        assert!(budget.take(at(30_000)) && !budget.take(at(39_999)));
        // After a quiet hour, three are allowed again, and no more.
        assert!((0..3).all(|_| budget.take(at(3_700_000))) && !budget.take(at(3_700_000)));
    }

    #[test]
    fn a_full_budget_earns_nothing() {
        let at = moments();
        for quiet in [35_000, 45_000] {
            let mut budget = Budget::new(Rate { burst: 3, every: 10 * SECOND }, at(0));
            assert!((0..3).all(|_| budget.take(at(0))) && (0..3).all(|_| budget.take(at(quiet))));
            assert_eq!(budget.wait(at(quiet)), Some(10 * SECOND), "{quiet}");
        }
    }

    #[test]
    fn one_attempt_per_millisecond_gets_one_fetch_per_interval_and_the_burst() {
        let at = moments();
        let mut budget = Budget::new(Rate { burst: 3, every: 10 * SECOND }, at(0));
        assert_eq!((0..600_000).filter(|time| budget.take(at(*time))).count(), 3 + 59);
    }

    #[test]
    fn extreme_values_do_not_panic() {
        let at = moments();
        let mut always = Budget::new(Rate { burst: 3, every: Duration::ZERO }, at(0));
        assert!((0..100).all(|_| always.take(at(0))) && always.wait(at(0)).is_none());
        let mut once = Budget::new(Rate { burst: 0, every: Duration::MAX }, at(0));
        assert!(once.take(at(0)) && !once.take(at(1)) && once.wait(at(1)).is_some());
        let mut many = Budget::new(Rate { burst: u32::MAX, every: Duration::from_nanos(1) }, at(0));
        assert!(many.take(at(0)) && many.take(at(1_000_000_000)));
    }

    #[test]
    fn setting_the_wall_clock_back_delays_nothing() {
        let at = moments();
        let mut budget = Budget::new(Rate { burst: 1, every: 10 * SECOND }, at(1_000));
        assert!(budget.take(at(1_000)));
        let set_back = Moment { wall: at(0).wall, monotonic: at(11_000).monotonic };
        assert!(budget.wait(set_back).is_none() && budget.take(set_back));
    }
}
