//! [`AnswerCache`]: a cache of a server's answers for tokens, bounded in number and in bytes, with random eviction.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::Moment;
use crate::verification::eviction_rng::EvictionRng;

/// The estimated memory of an entry in addition to its token and its answer, in bytes.
const OVERHEAD: usize = 160;

/// If slightly more tokens than fit are used in turn, random eviction keeps most of them,
/// where evicting the oldest would keep none.
pub(super) struct AnswerCache<T> {
    max: usize,
    max_bytes: usize,
    entries: HashMap<Arc<str>, Entry<T>>,
    /// The token of each entry, unordered. The entry stores the number of its line.
    lines: Vec<Arc<str>>,
    bytes: usize,
    rng: EvictionRng,
}

struct Entry<T> {
    answer: T,
    asked: Moment,
    line: usize,
    bytes: usize,
}

impl<T: Clone> AnswerCache<T> {
    pub(super) fn new(max: usize, max_bytes: usize) -> Self {
        Self { max, max_bytes, entries: HashMap::new(), lines: Vec::new(), bytes: 0, rng: EvictionRng::random() }
    }

    pub(super) fn find(&self, token: &str) -> Option<(T, Moment)> {
        self.entries.get(token).map(|entry| (entry.answer.clone(), entry.asked))
    }

    /// Stores an answer, and replaces an earlier one. An answer that is larger than the whole cache is not stored.
    pub(super) fn keep(&mut self, token: &str, answer: T, size: usize, asked: Moment) {
        self.forget(token);
        let bytes = token.len() + size + OVERHEAD;
        if bytes > self.max_bytes {
            return;
        }
        while self.lines.len() >= self.max || self.bytes + bytes > self.max_bytes {
            let Some(evicted) = self.lines.get(self.rng.below(self.lines.len())).cloned() else { return };
            self.forget(&evicted);
        }
        let (token, line): (Arc<str>, _) = (token.into(), self.lines.len());
        self.bytes += bytes;
        self.lines.push(token.clone());
        self.entries.insert(token, Entry { answer, asked, line, bytes });
    }

    pub(super) fn forget(&mut self, token: &str) {
        let Some(Entry { line, bytes, .. }) = self.entries.remove(token) else { return };
        self.bytes -= bytes;
        // The last line moves into its position.
        self.lines.swap_remove(line);
        if let Some(moved) = self.lines.get(line).and_then(|token| self.entries.get_mut(token)) {
            moved.line = line;
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        assert_eq!(self.bytes, self.entries.values().map(|entry| entry.bytes).sum::<usize>());
        assert_eq!(self.entries.len(), self.lines.len(), "there is one line per entry");
        for (number, token) in self.lines.iter().enumerate() {
            assert_eq!(self.entries.get(token).map(|entry| entry.line), Some(number));
        }
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{AnswerCache, OVERHEAD};
    use crate::clock::{Moment, SystemClock};

    fn now() -> Moment {
        Moment::now(&SystemClock)
    }

    /// Returns the hit rate in percent if this many tokens are used in turn.
    fn hits(answers: &mut AnswerCache<()>, tokens: usize) -> usize {
        let (mut found, rounds) = (0, 20);
        for round in 0..rounds {
            for number in 0..tokens {
                let token = format!("{number:0>8}");
                match answers.find(&token) {
                    Some(_) => found += usize::from(round > 0),
                    None => answers.keep(&token, (), 0, now()),
                }
            }
        }
        found * 100 / (tokens * (rounds - 1))
    }

    #[test]
    fn most_tokens_stay_cached_if_one_more_than_fits_is_used_in_turn() {
        let mut by_number = AnswerCache::new(1_000, usize::MAX);
        let mut by_bytes = AnswerCache::new(usize::MAX, 1_000 * (OVERHEAD + 8));
        for answers in [&mut by_number, &mut by_bytes] {
            let share = hits(answers, 1_001);
            assert!(share >= 95, "{share} %");
            assert_eq!((answers.len(), answers.bytes), (1_000, 1_000 * (OVERHEAD + 8)));
        }
    }

    #[test]
    fn the_newest_answer_is_kept_and_others_are_evicted_within_both_bounds() {
        let mut answers = AnswerCache::new(10, 20 * OVERHEAD);
        for number in 0..1_000_usize {
            let token = number.to_string();
            answers.keep(&token, (), number % 16 * OVERHEAD, now());
            assert!(answers.find(&token).is_some(), "{number}");
            assert!(answers.len() <= 10 && answers.bytes <= 20 * OVERHEAD, "{number}");
        }
        let before = answers.len();
        answers.keep("too large for the whole cache", (), 20 * OVERHEAD, now());
        assert_eq!(answers.len(), before);
    }

    #[test]
    fn repeated_answers_for_one_token_have_one_entry() {
        let mut answers = AnswerCache::new(3, 1_000);
        (0..1_000).for_each(|_| answers.keep("a", (), 0, now()));
        assert_eq!((answers.len(), answers.bytes), (1, OVERHEAD + 1));
        answers.forget("a");
        assert_eq!((answers.len(), answers.bytes), (0, 0));
    }
}
