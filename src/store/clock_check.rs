//! [`ClockCheck`]: warns when the clock of this host and the clock of the store's server differ.
//!
//! The server's clock is the one clock that all replicas can see, so comparing with it reveals a replica whose clock is wrong.
//! No decision depends on it alone. However, a host whose clock is behind would revoke too few tokens of a client, since other
//! hosts date tokens by correct clocks. So such a host adds the difference, up to a minute. A server with a wrong clock can
//! have no larger effect than that.
//!
//! A host whose clock is ahead would purge what other hosts still need, so it purges by the clock of the server. The price is
//! that expired entries stay while the clock of the server is behind.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::sync::lock;
use crate::timing::CLOCK_SKEW;

/// Two replicas that each differ from the server by at most this much differ from each other by at most [`CLOCK_SKEW`].
const TOLERANCE: Duration = Duration::from_millis(CLOCK_SKEW.as_secs() * 1_000 / 2);

const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// The largest delay that is compensated.
const MAX_DELAY: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct ClockCheck {
    warned: Mutex<Option<Instant>>,
    /// By how many milliseconds the local clock is ahead. Zero within the tolerance.
    ahead: AtomicI64,
}

impl ClockCheck {
    /// Returns how far the local clock is behind, if that is more than the tolerance and at most a minute; otherwise zero.
    pub(super) fn delay(&self) -> Duration {
        Duration::from_secs(delay(self.ahead.load(Ordering::Relaxed)))
    }

    /// Returns the time by which entries may be purged at `now`, a time of the local clock: the earlier one of both clocks.
    pub(super) fn purge_time(&self, now: SystemTime) -> SystemTime {
        let ahead = u64::try_from(self.ahead.load(Ordering::Relaxed)).unwrap_or_default();
        now.checked_sub(Duration::from_millis(ahead)).unwrap_or(UNIX_EPOCH)
    }

    /// Compares the time of the server, in milliseconds since 1970, with two readings of the local clock before and after it.
    pub(super) fn compare(&self, before: SystemTime, after: SystemTime, server: i64) {
        let ahead = ahead(millis(before), millis(after), server);
        self.ahead.store(ahead.unwrap_or_default(), Ordering::Relaxed);
        let Some(ahead) = ahead else { return };
        let mut warned = lock(&self.warned);
        if warned.is_some_and(|warned| warned.elapsed() < INTERVAL) {
            return;
        }
        *warned = Some(Instant::now());
        tracing::warn!(
            seconds_ahead = ahead / 1_000,
            "the clock of this host differs from the clock of the store by more than 2 seconds, expected at most 2: correct the \
             clocks; if the clocks of two hosts differ by more than 5 seconds, each may refuse the other's tokens, and the \
             revocation of a client may miss some of its tokens"
        );
    }
}

fn millis(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

/// Returns by how many milliseconds the local clock is at least ahead of the server; `None` within the tolerance.
fn ahead(before: i64, after: i64, server: i64) -> Option<i64> {
    let (least, most) = (before.saturating_sub(server), after.saturating_sub(server));
    let tolerance = i64::try_from(TOLERANCE.as_millis()).unwrap_or(i64::MAX);
    match (least, most) {
        (ahead, _) if ahead > tolerance => Some(ahead),
        (_, behind) if behind < -tolerance => Some(behind),
        _ => None,
    }
}

/// Returns the seconds to add to the local time, given how many milliseconds the local clock is ahead of the server.
fn delay(ahead: i64) -> u64 {
    let behind = ahead.min(0).unsigned_abs().div_ceil(1_000);
    if behind > MAX_DELAY.as_secs() { 0 } else { behind }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{ClockCheck, ahead, delay};

    #[test]
    fn a_host_whose_clock_is_ahead_purges_by_the_clock_of_the_server() {
        let (check, now) = (ClockCheck::default(), UNIX_EPOCH + Duration::from_secs(100_000));
        let purge_time = |server: i64| {
            check.compare(now, now, server);
            check.purge_time(now).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
        };
        assert_eq!(check.purge_time(now), now);
        for (server, expected) in [
            (40_000_000, 40_000),
            (99_997_499, 99_997),
            (99_997_500, 100_000),
            (500_000_000, 100_000),
            (-5, 0),
            (i64::MIN, 0),
        ] {
            assert_eq!(purge_time(server), expected, "{server}");
        }
    }

    #[test]
    fn a_clock_that_is_behind_by_at_most_a_minute_is_compensated() {
        for (ahead, expected) in [(9_000, 0), (-2_501, 3), (-10_000, 10), (-60_000, 60), (-60_001, 0), (i64::MIN, 0)] {
            assert_eq!(delay(ahead), expected, "{ahead}");
        }
    }

    #[test]
    fn the_duration_of_a_slow_answer_does_not_count_as_a_clock_difference() {
        for (before, after, server, expected) in [
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
            assert_eq!(ahead(before, after, server), expected, "{before}..{after} against {server}");
        }
    }
}
