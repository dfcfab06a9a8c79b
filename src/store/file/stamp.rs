//! [`Stamp`]: detects whether a file may have changed, without reading it.

use std::fs::Metadata;
use std::time::{Duration, SystemTime};

use crate::clock::changed_at;

/// The metadata that changes with the content of a file and with its permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// The time of the last change of the content, the owner or the permissions (`ctime`), which no program can set. `None` on
    /// systems without such a time.
    changed: Option<SystemTime>,
    /// The device, and the number of the file on it.
    number: (u64, u64),
}

impl Stamp {
    /// Returns the stamp of a file; for a symbolic link, that of its target, since Kubernetes replaces links.
    pub(super) fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let number = {
            use std::os::unix::fs::MetadataExt as _;
            (metadata.dev(), metadata.ino())
        };
        #[cfg(not(unix))]
        let number = (0, 0);
        let changed = changed_at(metadata);
        Self { length: metadata.len(), modified: metadata.modified().ok(), changed, number }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Returns whether both stamps are of the same file, whatever its name and content. Only meaningful for two open files,
    /// where files have numbers.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        self.number == other.number
    }

    /// Returns whether the file has not changed for a while. Before that, two changes may fall within one tick of the file
    /// system's clock and leave the same stamp, and a program may be in the middle of a write.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        let is_old = |time: SystemTime| now.duration_since(time).is_ok_and(|age| age > Duration::from_secs(3));
        self.modified.is_some_and(is_old) && self.changed.is_none_or(is_old)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::Stamp;

    #[test]
    fn files_with_the_same_number_on_two_devices_differ() {
        let stamp = |number| Stamp { length: 1, modified: None, changed: None, number };
        assert!(stamp((1, 5)).is_same_file(&stamp((1, 5))));
        assert!(!stamp((1, 5)).is_same_file(&stamp((2, 5))) && !stamp((1, 5)).is_same_file(&stamp((1, 6))));
    }

    #[test]
    fn a_file_is_settled_once_each_of_its_times_is_three_seconds_old() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (modified, changed, settled) in [
            (Some(96), Some(96), true),
            (Some(97), Some(96), false),
            (Some(96), Some(97), false),
            (Some(96), Some(101), false),
            (Some(101), Some(96), false),
            (Some(96), None, true),
            (None, Some(96), false),
        ] {
            let stamp = Stamp { length: 1, modified: modified.map(at), changed: changed.map(at), number: (1, 1) };
            assert_eq!(stamp.is_settled(at(100)), settled, "{stamp:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_change_of_the_permissions_changes_the_stamp_even_with_the_same_modification_time() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let file = tempfile::NamedTempFile::new().unwrap();
        let metadata = || file.as_file().metadata().unwrap();
        let before = metadata();
        // Repeated until the clock of the file system ticks.
        let changed = (0..100_000).any(|number| {
            let mode = if number % 2 == 0 { 0o000 } else { 0o600 };
            file.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
            Stamp::of(&metadata()) != Stamp::of(&before)
        });
        assert!(changed && metadata().mtime_nsec() == before.mtime_nsec());
    }
}
