//! [`Ledger`]: the entries of the cache in one list, of which a random one can be taken.

use super::place::Place;
use crate::metrics;
use crate::verification::eviction_rng::EvictionRng;

/// One line for each entry, unordered. The entry stores the number of its line.
pub(super) struct Ledger {
    pub(super) lines: Vec<Line>,
    pub(super) bytes: usize,
    rng: EvictionRng,
}

pub(super) struct Line {
    pub(super) place: Place,
    pub(super) bytes: usize,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self { lines: Vec::new(), bytes: 0, rng: EvictionRng::random() }
    }

    pub(super) fn append(&mut self, line: Line) -> usize {
        metrics::token_cached(line.bytes);
        self.bytes += line.bytes;
        self.lines.push(line);
        self.lines.len() - 1
    }

    pub(super) fn replace(&mut self, number: usize, line: Line) {
        let Some(own) = self.lines.get_mut(number) else { return };
        self.bytes = self.bytes - own.bytes + line.bytes;
        metrics::cached_token_gone(own.bytes);
        metrics::token_cached(line.bytes);
        *own = line;
    }

    /// Removes a line; the last one moves into its position.
    pub(super) fn strike(&mut self, number: usize) {
        let line = self.lines.swap_remove(number);
        self.bytes -= line.bytes;
        metrics::cached_token_gone(line.bytes);
    }

    pub(super) fn place(&self, number: usize) -> Option<Place> {
        self.lines.get(number).map(|line| line.place)
    }

    pub(super) fn any(&mut self) -> Option<usize> {
        (!self.lines.is_empty()).then(|| self.rng.below(self.lines.len()))
    }

    /// Returns a random line other than `number`. There must be at least two.
    pub(super) fn any_but(&mut self, number: usize) -> usize {
        let other = self.rng.below(self.lines.len() - 1);
        other + usize::from(other >= number)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.lines.iter().for_each(|line| metrics::cached_token_gone(line.bytes));
    }
}
