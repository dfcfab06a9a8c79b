//! [`LastWrite`]: the last write of this process, used to detect that a store lost it.

use std::sync::{Mutex, PoisonError};

/// The tip and the epoch of the last write that the store acknowledged to this process, as `PLACE-NAME EPOCH`. Empty if there
/// is none, or once a reader has seen that the write is still there.
///
/// A server that took over after the write, or a file that was restored from an older copy, may lack this write even though it
/// has everything that a reader has received.
#[derive(Debug, Default)]
pub(in crate::store) struct LastWrite(Mutex<String>);

impl LastWrite {
    pub(in crate::store) fn acknowledged(&self, tip: String) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Concurrent writes may be acknowledged in any order.
        if place_and_epoch(&last).is_none_or(|(place, epoch)| {
            place_and_epoch(&tip).is_some_and(|(new, new_epoch)| new > place || new_epoch != epoch)
        }) {
            *last = tip;
        }
    }

    pub(in crate::store) fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Clears the write, unless there is a later one.
    pub(in crate::store) fn checked(&self, tip: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == tip {
            last.clear();
        }
    }
}

fn place_and_epoch(tip: &str) -> Option<(u64, &str)> {
    let (tip, epoch) = tip.split_once(' ')?;
    Some((tip.split_once('-')?.0.parse().ok()?, epoch))
}

#[cfg(test)]
mod tests {
    use super::LastWrite;

    #[test]
    fn of_concurrent_writes_the_one_latest_in_the_feed_is_kept() {
        let last = LastWrite::default();
        for (acknowledged, remembered) in
            [("9-a e", "9-a e"), ("10-b e", "10-b e"), ("8-c e", "10-b e"), ("2-d other", "2-d other")]
        {
            last.acknowledged(acknowledged.to_owned());
            assert_eq!(last.get(), remembered);
        }
        last.checked("10-b e");
        assert_eq!(last.get(), "2-d other");
        last.checked("2-d other");
        assert_eq!(last.get(), "");
    }
}
