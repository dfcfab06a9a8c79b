//! [`ClockCheck`]: warns when the clock of this host and the clock of the database differ.
//!
//! Nothing here is decided by the clock of the database. It is the one clock that all replicas can see, so that a replica
//! whose own clock is wrong shows by it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::timing::CLOCK_SKEW;

/// Two replicas that differ from the database by no more than that differ from each other by no more than they may.
const TOLERANCE: Duration = Duration::from_millis(CLOCK_SKEW.as_secs() * 1_000 / 2);

const INTERVAL: Duration = Duration::from_secs(60 * 60);

#[derive(Debug, Default)]
pub(super) struct ClockCheck(Mutex<Option<Instant>>);

impl ClockCheck {
    /// Compares what the database showed, in milliseconds since 1970, between two readings of the own clock.
    pub(super) fn compare(&self, before: SystemTime, after: SystemTime, database: i64) {
        let Some(ahead) = ahead(millis(before), millis(after), database) else { return };
        let mut warned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_some_and(|warned| warned.elapsed() < INTERVAL) {
            return;
        }
        *warned = Some(Instant::now());
        tracing::warn!(
            seconds_ahead = ahead / 1_000,
            "the clock of this host differs from the clock of the database by more than 2 seconds; where the clocks of two hosts \
             differ by more than 5, one refuses the tokens of the other, and the revocation of a client misses some: set the \
             clocks right"
        );
    }
}

fn millis(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

/// Returns by how many milliseconds the own clock is ahead of the database, at the least, unless that is tolerable.
fn ahead(before: i64, after: i64, database: i64) -> Option<i64> {
    let (least, most) = (before.saturating_sub(database), after.saturating_sub(database));
    let tolerance = i64::try_from(TOLERANCE.as_millis()).unwrap_or(i64::MAX);
    match (least, most) {
        (ahead, _) if ahead > tolerance => Some(ahead),
        (_, behind) if behind < -tolerance => Some(behind),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::ahead;

    #[test]
    fn clocks_differ_only_by_what_a_slow_answer_does_not_explain() {
        for (before, after, database, expected) in [
            (10_000, 10_010, 10_005, None),
            (10_000, 10_010, 7_500, None),
            (10_000, 10_010, 7_499, Some(2_501)),
            (10_000, 10_010, 12_510, None),
            (10_000, 10_010, 12_511, Some(-2_501)),
            (10_000, 19_000, 21_500, None),
            (10_000, 19_000, 8_000, None),
            (10_000, 19_000, 21_501, Some(-2_501)),
            (0, 0, i64::MIN, Some(i64::MAX)),
        ] {
            assert_eq!(ahead(before, after, database), expected, "{before}..{after} against {database}");
        }
    }
}
