//! What a server said about tokens, and when: bounded in number and in bytes, the oldest go.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

/// What an entry takes beside its token and its answer, about.
const OVERHEAD: usize = 160;

pub(super) struct Answers<T> {
    most: usize,
    most_bytes: usize,
    entries: HashMap<Arc<str>, Entry<T>>,
    /// By age.
    order: BTreeMap<u64, Arc<str>>,
    number: u64,
    bytes: usize,
}

struct Entry<T> {
    answer: T,
    asked: SystemTime,
    number: u64,
    bytes: usize,
}

impl<T: Clone> Answers<T> {
    pub(super) fn new(most: usize, most_bytes: usize) -> Self {
        Self { most, most_bytes, entries: HashMap::new(), order: BTreeMap::new(), number: 0, bytes: 0 }
    }

    pub(super) fn find(&self, token: &str) -> Option<(T, SystemTime)> {
        self.entries.get(token).map(|entry| (entry.answer.clone(), entry.asked))
    }

    pub(super) fn keep(&mut self, token: &str, answer: T, size: usize, asked: SystemTime) {
        self.forget(token);
        let (token, bytes): (Arc<str>, _) = (token.into(), token.len() + size + OVERHEAD);
        self.number += 1;
        self.bytes += bytes;
        self.order.insert(self.number, token.clone());
        self.entries.insert(token, Entry { answer, asked, number: self.number, bytes });
        while self.entries.len() > self.most || self.bytes > self.most_bytes {
            let Some((_, oldest)) = self.order.pop_first() else { return };
            self.bytes -= self.entries.remove(&oldest).map_or(0, |entry| entry.bytes);
        }
    }

    pub(super) fn forget(&mut self, token: &str) {
        if let Some(entry) = self.entries.remove(token) {
            self.order.remove(&entry.number);
            self.bytes -= entry.bytes;
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        assert_eq!(self.entries.len(), self.order.len());
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::{Answers, OVERHEAD};

    #[test]
    fn the_oldest_go_where_there_are_too_many_or_too_large_ones() {
        let now = SystemTime::UNIX_EPOCH;
        let mut answers = Answers::new(3, 10 * (OVERHEAD + 1));
        for token in ["a", "b", "c", "a", "d"] {
            answers.keep(token, (), 0, now);
        }
        assert_eq!(answers.len(), 3);
        assert!(answers.find("b").is_none() && answers.find("a").is_some(), "`a` was asked about again");
        answers.keep("e", (), 8 * OVERHEAD, now);
        assert!(answers.len() <= 2 && answers.find("e").is_some());
        answers.keep("f", (), 100 * OVERHEAD, now);
        assert_eq!((answers.len(), answers.bytes), (0, 0), "too large for all of it");
    }

    #[test]
    fn asking_about_one_token_again_and_again_leaves_one_entry() {
        let mut answers = Answers::new(3, 1_000);
        (0..1_000).for_each(|_| answers.keep("a", (), 0, SystemTime::UNIX_EPOCH));
        assert_eq!((answers.len(), answers.bytes), (1, OVERHEAD + 1));
        answers.forget("a");
        assert_eq!((answers.len(), answers.bytes), (0, 0));
    }
}
