//! [`Stamp`]: whether a file may be another one than it was, without reading it.

use std::fs::Metadata;
use std::time::{Duration, SystemTime};

/// What changes with a file's content, as a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// The device, and the number of the file on it.
    number: (u64, u64),
}

impl Stamp {
    /// Of the file at the end of a symbolic link: that is how Kubernetes swaps them.
    pub(super) fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let number = {
            use std::os::unix::fs::MetadataExt as _;
            (metadata.dev(), metadata.ino())
        };
        #[cfg(not(unix))]
        let number = (0, 0);
        Self { length: metadata.len(), modified: metadata.modified().ok(), number }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether both are of one file, whatever its name and content: of two that are open, where files have numbers.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        self.number == other.number
    }

    /// Two writes may come within one tick of the file system's clock, so that what is new says nothing yet.
    pub(super) fn is_settled(&self) -> bool {
        let age = self.modified.and_then(|modified| SystemTime::now().duration_since(modified).ok());
        age.is_some_and(|age| age > Duration::from_secs(3))
    }
}

#[cfg(test)]
mod tests {
    use super::Stamp;

    #[test]
    fn a_file_of_the_same_number_on_another_device_is_another_one() {
        let stamp = |number| Stamp { length: 1, modified: None, number };
        assert!(stamp((1, 5)).is_same_file(&stamp((1, 5))));
        assert!(!stamp((1, 5)).is_same_file(&stamp((2, 5))) && !stamp((1, 5)).is_same_file(&stamp((1, 6))));
    }
}
