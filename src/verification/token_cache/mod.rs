//! [`TokenCache`]: a cache of verified tokens.
//!
//! The cache only reports that exactly this text was verified before. At every hit, [`Verifier`](crate::verification::Verifier)
//! checks whether the token is still valid.

mod ledger;
mod per_core;
mod place;
mod seen_once;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasherDefault;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use self::ledger::{Ledger, Line};
use self::per_core::PerCoreTokens;
use self::place::{AlreadyHashed, Keys, Place};
use self::seen_once::SeenOnce;
use super::VerifiedToken;
use crate::metrics;
use crate::sync::Striped;

/// The number of shards, large enough that threads seldom contend for one lock.
const SHARDS: usize = 64;

/// The approximate memory of an entry in addition to its token, in bytes: its share of a map, and its ledger line.
const OVERHEAD: usize = 128;

/// A cache of verified tokens by their texts, bounded in tokens and in bytes. Beyond either bound, it evicts tokens at random.
/// If slightly more tokens than fit are used in turn, random eviction keeps most of them, where evicting the oldest would keep
/// none. A full cache keeps a token only from its second use on, so a token that is used once evicts nothing and costs little.
///
/// Only verified tokens are kept, so invalid ones evict nothing. A lookup locks the copies of its core and, if the token is not
/// among them, one shard for reading.
pub(super) struct TokenCache {
    max_tokens: usize,
    max_bytes: usize,
    keys: Keys,
    seen_once: SeenOnce,
    shards: Striped<Shard, SHARDS>,
    /// A lookup locks it before a shard. Every other operation locks it only while holding no shard.
    per_core: PerCoreTokens,
    /// Locked by every change, always before a shard.
    ledger: Mutex<Ledger>,
}

/// A shard on cache lines of its own, so that a lock does not slow down its neighbours (false sharing).
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    entries: RwLock<Entries>,
}

type Entries = HashMap<Place, Entry, BuildHasherDefault<AlreadyHashed>>;

struct Entry {
    /// A copy of the token's text pointer, which avoids one dependent memory access.
    text: Arc<str>,
    token: VerifiedToken,
    /// The number of its ledger line.
    line: usize,
}

impl TokenCache {
    pub(super) fn new(max_tokens: usize, max_bytes: usize) -> Self {
        Self::with_keys(max_tokens, max_bytes, Keys::random())
    }

    fn with_keys(max_tokens: usize, max_bytes: usize, keys: Keys) -> Self {
        Self {
            max_tokens,
            max_bytes,
            keys,
            seen_once: SeenOnce::new(max_tokens),
            shards: Striped::default(),
            per_core: PerCoreTokens::new(),
            ledger: Mutex::new(Ledger::new()),
        }
    }

    /// Returns an empty cache of the same size.
    pub(super) fn emptied(&self) -> Self {
        Self::new(self.max_tokens, self.max_bytes)
    }

    /// Returns the proof of exactly this token. The whole text is compared, but not in constant time: to reach the comparison,
    /// a caller needs the last 96 bits of a valid signature, and a caller with these has the token.
    #[inline]
    pub(super) fn find(&self, text: &[u8]) -> Option<VerifiedToken> {
        let place = self.place(text)?;
        let mut copies = self.per_core.of_this_thread();
        if let Some(copy) = copies.as_mut().and_then(|copies| copies.find(place, text)) {
            return Some(copy);
        }
        let entries = self.shard(place).read();
        // A token that is not found here is verified and then kept.
        self.seen_once.prefetch(place);
        let entry = entries.get(&place).filter(|entry| entry.text.as_bytes() == text)?;
        if let Some(copies) = &mut copies {
            copies.count(place, &entry.token);
        }
        Some(entry.token.clone())
    }

    /// Stores a token that was just verified. If this would evict another, it is stored only the second time.
    pub(super) fn keep(&self, token: &VerifiedToken) {
        let bytes = token.size() + OVERHEAD;
        let Some(place) = self.place(token.text().as_bytes()).filter(|_| bytes <= self.max_bytes) else { return };
        let shard = self.shard(place);
        let entry = |line| Entry { text: token.text().clone(), token: token.clone(), line };
        let mut ledger = self.ledger();
        let is_full = ledger.lines.len() >= self.max_tokens || bytes > self.max_bytes - ledger.bytes;
        if is_full && !self.seen_once.seen_before(place) {
            return;
        }
        let mut newest = self.line_for(&mut ledger, shard, Line { place, bytes });
        shard.write().insert(place, entry(newest));
        while ledger.bytes > self.max_bytes || ledger.lines.len() > self.max_tokens {
            let evicted = ledger.any_but(newest);
            let last = ledger.lines.len() - 1;
            self.evict(&mut ledger, evicted);
            if newest == last {
                newest = evicted;
            }
        }
    }

    /// Returns the ledger line of a token to be inserted: that of the token it replaces, that of a token evicted because the
    /// number is reached, or a new one.
    fn line_for(&self, ledger: &mut Ledger, shard: &Shard, line: Line) -> usize {
        let former = shard.read().get(&line.place).map(|entry| entry.line);
        let Some(reused) = former.or_else(|| ledger.any().filter(|_| ledger.lines.len() >= self.max_tokens)) else {
            return ledger.append(line);
        };
        if former.is_none() {
            self.remove(ledger.place(reused));
            metrics::cached_token_evicted();
        }
        ledger.replace(reused, line);
        reused
    }

    fn evict(&self, ledger: &mut Ledger, line: usize) {
        self.remove(ledger.place(line));
        self.strike(ledger, line);
        metrics::cached_token_evicted();
    }

    /// Removes a ledger line, and updates the entry of the line that moves into its position.
    fn strike(&self, ledger: &mut Ledger, line: usize) {
        ledger.strike(line);
        if let Some(moved) = ledger.place(line)
            && let Some(entry) = self.shard(moved).write().get_mut(&moved)
        {
            entry.line = line;
        }
    }

    fn remove(&self, place: Option<Place>) {
        // Dropped here, after the shard is unlocked.
        let _removed = place.and_then(|place| self.shard(place).write().remove(&place));
    }

    /// Removes every token that matches, such as those of a key that is no longer trusted.
    pub(super) fn forget(&self, fits: impl Fn(&VerifiedToken) -> bool) {
        let mut ledger = self.ledger();
        for shard in self.shards.iter() {
            // Removed one by one: each removal may renumber an entry of the same shard.
            let places: Vec<_> =
                shard.read().iter().filter(|(_, entry)| fits(&entry.token)).map(|(place, _)| *place).collect();
            for place in places {
                let removed = shard.write().remove(&place);
                if let Some(entry) = removed {
                    self.strike(&mut ledger, entry.line);
                }
            }
        }
        self.per_core.forget(fits);
    }

    /// Returns `None` for a text that is too short to be signed.
    fn place(&self, text: &[u8]) -> Option<Place> {
        self.keys.place(text)
    }

    /// Selects the shard by bits that the map uses last.
    fn shard(&self, Place(hash): Place) -> &Shard {
        self.shards.select(hash >> 32)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ledger { lines, bytes, .. } = &*self.ledger();
        f.debug_struct("TokenCache").field("tokens", &lines.len()).field("bytes", bytes).finish_non_exhaustive()
    }
}

impl Shard {
    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}
