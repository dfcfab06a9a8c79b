//! [`View`]: a bounded in-memory view of all revocations.

mod client_entry;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::client_entry::{ClientEntry, TokenEntry, Until};
use super::Named;
use super::cleared::{CurrentGeneration, Generation};
use super::token_date::{Date, Mark, Wait};
use crate::client_id::ClientId;
use crate::clock::{Clock, Moment, UnixTime};
use crate::store::Revocation;
use crate::sync::{Striped, read, write};

/// The limits of a view.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The maximum number of tokens of one client. More tokens are replaced by one entry.
    pub(super) tokens_per_client: usize,
    /// The maximum number of entries in total.
    pub(super) entries: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { tokens_per_client: 1_000, entries: 1_000_000 }
    }
}

/// The view cannot hold another entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// All revocations that this process knows. The entries are divided into parts by client, so that a purge of a large view never
/// holds one lock for long.
#[derive(Debug)]
pub(super) struct View {
    bounds: Bounds,
    hasher: RandomState,
    parts: Striped<RwLock<HashMap<ClientId, ClientEntry>>, PARTS>,
    /// The expiry of each revoked key, by `kid`.
    keys: RwLock<HashMap<Box<str>, u64>>,
    entries: AtomicUsize,
    generation: CurrentGeneration,
}

const PARTS: usize = 64;

/// The number of parts in which a view is purged: those of the clients, and one for the keys.
pub(super) const PURGE_PARTS: usize = PARTS + 1;

/// The second up to which all tokens of a client are revoked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IssuedUntil {
    pub(crate) second: UnixTime,
    /// When the view learned of the revocation.
    learned: Moment,
}

impl IssuedUntil {
    /// Returns the current second by the later of two clocks: `clock`, and the wall time at which the view learned of the
    /// revocation plus the monotonic time since. So a wall clock that was set back since does not prolong the revocation.
    pub(crate) fn now(&self, clock: &dyn Clock) -> UnixTime {
        UnixTime::at(Moment::now(clock).not_before(self.learned).wall)
    }
}

impl View {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            hasher: RandomState::new(),
            parts: Striped::default(),
            keys: RwLock::default(),
            entries: AtomicUsize::new(0),
            generation: CurrentGeneration::default(),
        }
    }

    pub(super) fn entries(&self) -> usize {
        self.entries.load(Ordering::Acquire)
    }

    /// Returns the current generation. It changes whenever an entry is added.
    pub(super) fn generation(&self) -> Generation {
        self.generation.load()
    }

    /// Returns whether a token is revoked.
    pub(super) fn revokes(&self, token: Named<'_>) -> bool {
        self.has_key(token.key_id)
            || self.of(token.client_id, |client| client.revokes(token.token_id, token.issued_at.as_secs()))
    }

    /// Returns whether all tokens signed by this key are revoked.
    pub(super) fn has_key(&self, key_id: &str) -> bool {
        self.entries() > 0 && read(&self.keys).contains_key(key_id)
    }

    /// Dates the next token of a client. If the wall clock is behind the second up to which the client's tokens are revoked, the
    /// token needs a mark: if the client has none yet, `fresh` becomes its mark.
    ///
    /// # Errors
    ///
    /// The time that the client has to wait.
    pub(super) fn date(&self, client_id: &ClientId, now: Moment, fresh: Mark) -> Result<Date, Wait> {
        let mut clients = write(self.part(client_id));
        let client = clients.get_mut(client_id);
        client.map_or_else(|| Ok(Date::usual(UnixTime::at(now.wall))), |client| client.date(now, fresh))
    }

    /// Returns the second up to which all tokens of a client are revoked, if any.
    pub(super) fn issued_until(&self, client_id: &ClientId) -> Option<IssuedUntil> {
        self.of(client_id, |client| {
            let until = client.until?;
            Some(IssuedUntil { second: UnixTime::from_secs(until.issued_at)?, learned: until.learned })
        })
    }

    /// Returns whether all tokens of a client are revoked for another reason than that many of them were revoked one by one.
    pub(super) fn revokes_client(&self, client_id: &ClientId) -> bool {
        self.of(client_id, ClientEntry::is_revoked_itself)
    }

    /// Returns whether adding `revocation` at the time `now` would change nothing.
    pub(super) fn holds(&self, revocation: &Revocation, now: Moment) -> bool {
        match revocation {
            Revocation::Token { token_id, client_id, issued_at, expires_at } => {
                self.of(client_id, |client| client.holds_token(token_id, *issued_at, *expires_at))
            }
            Revocation::Client { client_id, issued_until, expires_at, replaces_tokens } => {
                self.of(client_id, |client| {
                    client.holds_until(*issued_until, *expires_at, now)
                        && (*replaces_tokens || client.is_revoked_itself())
                })
            }
            Revocation::Key { key_id, expires_at } => {
                read(&self.keys).get(key_id.as_str()).is_some_and(|end| end >= expires_at)
            }
        }
    }

    /// Turns the revocation of a token into one of all tokens issued up to its date if the client has too many revoked tokens. So
    /// such a client causes at most one entry per second, however many tokens it obtains and revokes.
    pub(super) fn coarsen(&self, revocation: Revocation) -> Revocation {
        match revocation {
            Revocation::Token { client_id, issued_at, expires_at, .. }
                if self.of(&client_id, |client| client.too_many) =>
            {
                Revocation::Client { client_id, issued_until: issued_at, expires_at, replaces_tokens: true }
            }
            other => other,
        }
    }

    /// Adds an entry that the view learned of at the time `learned`. Adding it twice changes nothing.
    ///
    /// # Errors
    ///
    /// [`Full`] if the view has reached its maximum of entries and the entry needs another one.
    pub(super) fn add(&self, revocation: &Revocation, learned: Moment) -> Result<(), Full> {
        if self.holds(revocation, learned) {
            return Ok(());
        }
        if self.entries() >= self.bounds.entries && !self.fits_when_full(revocation) {
            return Err(Full);
        }
        match revocation {
            Revocation::Token { token_id, client_id, issued_at, expires_at } => {
                let token = TokenEntry { issued_at: *issued_at, expires_at: *expires_at };
                let max = self.bounds.tokens_per_client;
                self.change(client_id, |client| client.add_token(token_id, token, max, learned));
            }
            Revocation::Client { client_id, issued_until, expires_at, replaces_tokens } => {
                let (issued_at, expires_at, replaces_tokens) = (*issued_until, *expires_at, *replaces_tokens);
                let until = Until { issued_at, expires_at, learned, replaces_tokens };
                self.change(client_id, |client| client.add_until(until));
            }
            Revocation::Key { key_id, expires_at } => self.add_key(key_id, *expires_at),
        }
        // Last, so that no thread takes the state before the change for this generation.
        self.generation.advance();
        Ok(())
    }

    /// Returns whether adding `revocation` keeps the number of entries, because it changes an entry or replaces others.
    fn fits_when_full(&self, revocation: &Revocation) -> bool {
        match revocation {
            Revocation::Client { client_id, issued_until, expires_at, .. } => self.of(client_id, |client| {
                let is_covered =
                    |token: &TokenEntry| token.issued_at <= *issued_until && token.expires_at <= *expires_at;
                client.until.is_some() || client.tokens.values().any(is_covered)
            }),
            Revocation::Token { .. } | Revocation::Key { .. } => false,
        }
    }

    fn add_key(&self, key_id: &str, expires_at: u64) {
        let mut keys = write(&self.keys);
        let before = keys.len();
        let end = keys.entry(key_id.into()).or_default();
        *end = expires_at.max(*end);
        self.count(before, keys.len());
    }

    /// Removes the expired entries of one of [`PURGE_PARTS`].
    pub(super) fn purge_part(&self, part: usize, now: UnixTime) {
        let now = now.as_secs();
        let Some(clients) = self.parts.get(part) else {
            let mut keys = write(&self.keys);
            let before = keys.len();
            keys.retain(|_, expires_at| *expires_at > now);
            self.count(before, keys.len());
            return;
        };
        write(clients).retain(|_, client| {
            let before = client.len();
            client.purge(now);
            self.count(before, client.len());
            client.len() > 0
        });
    }

    /// Returns the entries of a part in the form of the store, or `None` after the last part.
    pub(super) fn part_entries(&self, part: usize) -> Option<Vec<Revocation>> {
        let Some(clients) = self.parts.get(part) else {
            let keys = read(&self.keys);
            let keys = keys
                .iter()
                .map(|(key_id, expires_at)| Revocation::Key { key_id: key_id.to_string(), expires_at: *expires_at });
            return (part == PARTS).then(|| keys.collect());
        };
        Some(read(clients).iter().flat_map(|(client_id, client)| client.entries(client_id)).collect())
    }

    /// Removes the expired entries of all parts.
    pub(super) fn purge(&self, now: UnixTime) {
        (0..PURGE_PARTS).for_each(|part| self.purge_part(part, now));
    }

    fn part(&self, client_id: &ClientId) -> &RwLock<HashMap<ClientId, ClientEntry>> {
        self.parts.select(self.hasher.hash_one(client_id))
    }

    /// Calls `read_entry` with the entry of a client. Returns the default value without an entry.
    fn of<T: Default>(&self, client_id: &ClientId, read_entry: impl FnOnce(&ClientEntry) -> T) -> T {
        if self.entries() == 0 {
            return T::default();
        }
        read(self.part(client_id)).get(client_id).map(read_entry).unwrap_or_default()
    }

    fn change(&self, client_id: &ClientId, change: impl FnOnce(&mut ClientEntry)) {
        let mut clients = write(self.part(client_id));
        let client = clients.entry(client_id.clone()).or_default();
        let before = client.len();
        change(client);
        self.count(before, client.len());
    }

    fn count(&self, before: usize, after: usize) {
        // Added before subtracted, so that a concurrent reader never sees 0 while there are entries.
        self.entries.fetch_add(after, Ordering::AcqRel);
        self.entries.fetch_sub(before, Ordering::AcqRel);
    }
}
