//! [`UnknownKeyIds`]: the key names that a fetched set lacked, bounded in number.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use crate::clock::Moment;
use crate::sync::BoundedMap;

/// The maximum number of remembered names.
const MAX_NAMES: usize = 1_000;

/// Keyed hashes of names, so that each takes the same few bytes, whatever its length.
///
/// A name is remembered together with its algorithm: a token without a `kid` means the only key of its algorithm.
#[derive(Debug)]
pub(super) struct UnknownKeyIds {
    hasher: RandomState,
    /// With the start of the fetch that lacked the name.
    names: BoundedMap<u64, Moment>,
}

impl Default for UnknownKeyIds {
    fn default() -> Self {
        Self { hasher: RandomState::new(), names: BoundedMap::new(MAX_NAMES) }
    }
}

impl UnknownKeyIds {
    pub(super) fn remember(&mut self, name: &str, alg: &str, asked: Moment) {
        self.names.insert(self.hasher.hash_one((name, alg)), asked);
    }

    /// Returns when the set that lacked this name was requested, if that is no longer ago than `within`.
    pub(super) fn lacked(&mut self, name: &str, alg: &str, now: Moment, within: Duration) -> Option<Moment> {
        let asked = self.names.get(&self.hasher.hash_one((name, alg))).copied();
        asked.filter(|asked| now.since(*asked) < within)
    }

    pub(super) fn forget_all(&mut self) {
        *self = Self::default();
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
        let has = |names: &mut UnknownKeyIds, name, now| names.lacked(name, "ES256", now, minute).is_some();
        assert!(!has(&mut names, "499", now) && has(&mut names, "500", now) && has(&mut names, "1499", now));
        assert!(names.lacked("1499", "RS256", now, minute).is_none(), "another algorithm");
        names.remember("1499", "ES256", now);
        assert_eq!(names.len(), 1_000);
        assert!(!has(&mut names, "1499", later));
        names.forget_all();
        assert!(!has(&mut names, "1499", now));
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
