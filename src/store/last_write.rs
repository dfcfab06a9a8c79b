//! [`LastWrites`]: the last writes of this process, used to detect that a store lost some of them.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::sync::lock;

/// How many writes are remembered. With one more, the reader reads the whole feed again, as after a loss.
pub(crate) const MAX_UNREAD: usize = 10_000;

/// The writes that the store acknowledged to this process, each until a reader has seen that it is still there.
///
/// A server that took over after a write, or a file that was restored from an older copy, may lack the write even though it
/// has everything that a reader has received. Each write is checked: the store may have the first and the last of them, but
/// not those in between.
#[derive(Debug)]
pub(crate) struct LastWrites<W>(Mutex<Unread<W>>);

#[derive(Debug)]
struct Unread<W> {
    writes: VecDeque<W>,
    /// The number of writes before the first of them.
    before: u64,
    /// The number of writes at the time when some were dropped that no reader had seen.
    dropped_at: Option<u64>,
}

/// The writes that a reader checks.
#[derive(Clone, Debug)]
pub(crate) struct ToCheck<W> {
    pub(crate) writes: Vec<W>,
    /// Whether there were more, which are no longer remembered.
    pub(crate) is_incomplete: bool,
    end: u64,
}

impl<W> Default for LastWrites<W> {
    fn default() -> Self {
        Self(Mutex::new(Unread { writes: VecDeque::new(), before: 0, dropped_at: None }))
    }
}

impl<W> Default for ToCheck<W> {
    fn default() -> Self {
        Self { writes: Vec::new(), is_incomplete: false, end: 0 }
    }
}

impl<W: Clone + PartialEq> LastWrites<W> {
    pub(crate) fn acknowledged(&self, write: W) {
        let mut unread = lock(&self.0);
        if unread.writes.back() == Some(&write) {
            return;
        }
        if unread.writes.len() >= MAX_UNREAD {
            unread.before = unread.end();
            unread.writes.clear();
            unread.dropped_at = Some(unread.before);
        }

        unread.writes.push_back(write);
    }

    pub(crate) fn get(&self) -> ToCheck<W> {
        let unread = lock(&self.0);
        ToCheck {
            writes: unread.writes.iter().cloned().collect(),
            is_incomplete: unread.dropped_at.is_some(),
            end: unread.end(),
        }
    }

    /// Removes these writes, and no later ones. Call it when the reader has its answer, not before: an answer that reports a
    /// loss is given once.
    pub(crate) fn checked(&self, writes: &ToCheck<W>) {
        let mut unread = lock(&self.0);
        while unread.before < writes.end && unread.writes.pop_front().is_some() {
            unread.before += 1;
        }
        unread.dropped_at = unread.dropped_at.filter(|at| *at > writes.end);
    }
}

impl<W> Unread<W> {
    fn end(&self) -> u64 {
        self.before.saturating_add(u64::try_from(self.writes.len()).unwrap_or(u64::MAX))
    }
}

/// The sign of a loss if the writes to check are [incomplete](ToCheck::is_incomplete).
pub(crate) const TOO_MANY: &str = "this process wrote more than 10000 changes since it last read the feed, so it \
    cannot check whether they were lost; it reads the feed again from the start";

#[cfg(test)]
mod tests {
    use super::{LastWrites, MAX_UNREAD, TOO_MANY, ToCheck};

    fn writes(numbers: impl IntoIterator<Item = usize>) -> LastWrites<usize> {
        let last = LastWrites::default();
        numbers.into_iter().for_each(|number| last.acknowledged(number));
        last
    }

    #[test]
    fn each_write_is_kept_until_it_was_checked() {
        let last = writes([3, 1, 2, 2]);
        let first = last.get();
        assert_eq!((&first.writes[..], first.is_incomplete), (&[3, 1, 2][..], false));
        last.acknowledged(5);
        last.checked(&ToCheck::default());
        assert_eq!(last.get().writes, [3, 1, 2, 5]);
        last.checked(&first);
        last.checked(&first);
        assert_eq!(last.get().writes, [5], "this write came later");
    }

    #[test]
    fn too_many_writes_are_dropped_and_reported_until_that_was_checked() {
        let last = writes(0..MAX_UNREAD);
        let all = last.get();
        assert_eq!((all.writes.len(), all.is_incomplete), (MAX_UNREAD, false));
        last.acknowledged(MAX_UNREAD);
        let rest = last.get();
        assert_eq!((&rest.writes[..], rest.is_incomplete), (&[MAX_UNREAD][..], true));
        last.checked(&rest);
        assert!(last.get().writes.is_empty() && !last.get().is_incomplete);

        let last = writes(0..MAX_UNREAD);
        let some = last.get();
        (0..=MAX_UNREAD).for_each(|number| last.acknowledged(MAX_UNREAD + number));
        last.checked(&some);
        assert!(last.get().is_incomplete, "other writes than these were dropped");
        let last = writes(0..=MAX_UNREAD);
        last.checked(&all);
        assert!(!last.get().is_incomplete, "these were the dropped writes");
        assert!(TOO_MANY.contains(&MAX_UNREAD.to_string()));
    }
}
