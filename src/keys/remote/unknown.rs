//! The names of keys that a fetch did not bring, remembered within a bound.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, SystemTime};

/// How many names are remembered.
const MOST: usize = 1_000;

/// Hashes under a secret of our own, so that a name costs 24 bytes, however long a caller makes it.
#[derive(Debug, Default)]
pub(super) struct UnknownKeyIds {
    hasher: RandomState,
    /// The oldest first.
    names: VecDeque<(u64, SystemTime)>,
}

impl UnknownKeyIds {
    pub(super) fn remember(&mut self, name: &str, now: SystemTime) {
        let hash = self.hasher.hash_one(name);
        self.names.retain(|(own, _)| *own != hash);
        if self.names.len() == MOST {
            self.names.pop_front();
        }
        self.names.push_back((hash, now));
    }

    /// Whether this name was unknown no longer ago than that.
    pub(super) fn has(&self, name: &str, now: SystemTime, within: Duration) -> bool {
        let hash = self.hasher.hash_one(name);
        let is_recent = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age < within);
        self.names.iter().any(|(own, at)| *own == hash && is_recent(*at))
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

    use super::UnknownKeyIds;

    #[test]
    fn the_last_thousand_names_are_remembered_and_each_for_its_time() {
        let (mut names, now, minute) = (UnknownKeyIds::default(), SystemTime::UNIX_EPOCH, Duration::from_secs(60));
        (0..1_500).for_each(|name| names.remember(&name.to_string(), now));
        assert_eq!(names.len(), 1_000);
        assert!(!names.has("499", now, minute) && names.has("500", now, minute) && names.has("1499", now, minute));
        names.remember("1499", now);
        assert_eq!(names.len(), 1_000);
        assert!(!names.has("1499", now + minute, minute));
        names.forget_all();
        assert!(!names.has("1499", now, minute));
    }
}
