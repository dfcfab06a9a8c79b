//! [`UnknownKeyIds`]: the key names that a fetched set lacked, bounded in number.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use crate::clock::Moment;

/// The maximum number of remembered names.
const MAX_NAMES: usize = 1_000;

/// Keyed hashes of names, so that each takes the same few bytes, whatever its length.
///
/// A name is remembered together with its algorithm: a token without a `kid` means the only key of its algorithm.
#[derive(Debug, Default)]
pub(super) struct UnknownKeyIds {
    hasher: RandomState,
    /// The oldest first, with the start of the fetch that lacked the name.
    names: VecDeque<(u64, Moment)>,
}

impl UnknownKeyIds {
    pub(super) fn remember(&mut self, name: &str, alg: &str, asked: Moment) {
        let hash = self.hasher.hash_one((name, alg));
        self.names.retain(|(own, _)| *own != hash);
        if self.names.len() == MAX_NAMES {
            self.names.pop_front();
        }
        self.names.push_back((hash, asked));
    }

    /// Returns when the set that lacked this name was requested, if that is no longer ago than `within`.
    pub(super) fn lacked(&self, name: &str, alg: &str, now: Moment, within: Duration) -> Option<Moment> {
        let hash = self.hasher.hash_one((name, alg));
        let (_, asked) = self.names.iter().find(|(own, _)| *own == hash)?;
        (now.since(*asked) < within).then_some(*asked)
    }

    pub(super) fn forget_all(&mut self) {
        self.names.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use tokio::time::Instant;

    use super::UnknownKeyIds;
    use crate::clock::Moment;

    #[test]
    fn the_last_thousand_names_are_remembered_for_a_limited_time() {
        let (mut names, minute) = (UnknownKeyIds::default(), Duration::from_secs(60));
        let now = Moment { wall: SystemTime::UNIX_EPOCH, monotonic: Instant::now() };
        let later = Moment { wall: now.wall + minute, ..now };
        (0..1_500).for_each(|name| names.remember(&name.to_string(), "ES256", now));
        assert_eq!(names.len(), 1_000);
        let has = |names: &UnknownKeyIds, name, now| names.lacked(name, "ES256", now, minute).is_some();
        assert!(!has(&names, "499", now) && has(&names, "500", now) && has(&names, "1499", now));
        assert!(names.lacked("1499", "RS256", now, minute).is_none(), "another algorithm");
        names.remember("1499", "ES256", now);
        assert_eq!(names.len(), 1_000);
        assert!(!has(&names, "1499", later));
        names.forget_all();
        assert!(!has(&names, "1499", now));
    }

    #[test]
    fn setting_the_clock_back_keeps_no_name_for_longer() {
        let (mut names, minute) = (UnknownKeyIds::default(), Duration::from_secs(60));
        let now = Moment { wall: SystemTime::UNIX_EPOCH + 60 * minute, monotonic: Instant::now() };
        names.remember("stranger", "ES256", now);
        let later =
            |seconds| Moment { wall: SystemTime::UNIX_EPOCH, monotonic: now.monotonic + Duration::from_secs(seconds) };
        assert!(names.lacked("stranger", "ES256", later(59), minute).is_some());
        assert!(names.lacked("stranger", "ES256", later(60), minute).is_none());
    }
}
