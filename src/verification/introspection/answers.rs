//! What a server said about tokens, and when: bounded in number and in bytes. Tokens chosen at random are evicted.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::Moment;
use crate::verification::dice::Dice;

/// The estimated memory of an entry in addition to its token and its answer, in bytes.
const OVERHEAD: usize = 160;

/// Of tokens that are shown in turn, a few more than fit, most stay, where evicting the oldest would keep none.
pub(super) struct Answers<T> {
    most: usize,
    most_bytes: usize,
    entries: HashMap<Arc<str>, Entry<T>>,
    /// The token of each entry, in no order. The entry knows the number of its line.
    lines: Vec<Arc<str>>,
    bytes: usize,
    dice: Dice,
}

struct Entry<T> {
    answer: T,
    asked: Moment,
    line: usize,
    bytes: usize,
}

impl<T: Clone> Answers<T> {
    pub(super) fn new(most: usize, most_bytes: usize) -> Self {
        Self { most, most_bytes, entries: HashMap::new(), lines: Vec::new(), bytes: 0, dice: Dice::random() }
    }

    pub(super) fn find(&self, token: &str) -> Option<(T, Moment)> {
        self.entries.get(token).map(|entry| (entry.answer.clone(), entry.asked))
    }

    /// Keeps an answer in place of an earlier one. An answer that is larger than all of the room is not kept.
    pub(super) fn keep(&mut self, token: &str, answer: T, size: usize, asked: Moment) {
        self.forget(token);
        let bytes = token.len() + size + OVERHEAD;
        if bytes > self.most_bytes {
            return;
        }
        while self.lines.len() >= self.most || self.bytes + bytes > self.most_bytes {
            let Some(evicted) = self.lines.get(self.dice.below(self.lines.len())).cloned() else { return };
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
        // The last line takes its place.
        self.lines.swap_remove(line);
        if let Some(moved) = self.lines.get(line).and_then(|token| self.entries.get_mut(token)) {
            moved.line = line;
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        assert_eq!(self.bytes, self.entries.values().map(|entry| entry.bytes).sum::<usize>());
        assert_eq!(self.entries.len(), self.lines.len(), "there is a line for each entry");
        for (number, token) in self.lines.iter().enumerate() {
            assert_eq!(self.entries.get(token).map(|entry| entry.line), Some(number));
        }
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{Answers, OVERHEAD};
    use crate::clock::{Moment, SystemClock};

    fn now() -> Moment {
        Moment::now(&SystemClock)
    }

    /// The share of look-ups that find their token, in percent, when this many tokens are shown in turn.
    fn hits(answers: &mut Answers<()>, tokens: usize) -> usize {
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
    fn of_tokens_that_are_shown_in_turn_most_stay_though_one_more_than_fits_is_shown() {
        let mut by_number = Answers::new(1_000, usize::MAX);
        let mut by_bytes = Answers::new(usize::MAX, 1_000 * (OVERHEAD + 8));
        for answers in [&mut by_number, &mut by_bytes] {
            let share = hits(answers, 1_001);
            assert!(share >= 95, "{share} %");
            assert_eq!((answers.len(), answers.bytes), (1_000, 1_000 * (OVERHEAD + 8)));
        }
    }

    #[test]
    fn the_newest_answer_is_kept_and_others_make_room_within_both_bounds() {
        let mut answers = Answers::new(10, 20 * OVERHEAD);
        for number in 0..1_000_usize {
            let token = number.to_string();
            answers.keep(&token, (), number % 16 * OVERHEAD, now());
            assert!(answers.find(&token).is_some(), "{number}");
            assert!(answers.len() <= 10 && answers.bytes <= 20 * OVERHEAD, "{number}");
        }
        let before = answers.len();
        answers.keep("too large for all of the room", (), 20 * OVERHEAD, now());
        assert_eq!(answers.len(), before);
    }

    #[test]
    fn asking_about_one_token_again_and_again_leaves_one_entry() {
        let mut answers = Answers::new(3, 1_000);
        (0..1_000).for_each(|_| answers.keep("a", (), 0, now()));
        assert_eq!((answers.len(), answers.bytes), (1, OVERHEAD + 1));
        answers.forget("a");
        assert_eq!((answers.len(), answers.bytes), (0, 0));
    }
}
