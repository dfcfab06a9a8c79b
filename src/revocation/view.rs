//! [`View`]: a bounded in-memory view of all revocations.

use std::cmp::Ordering as CmpOrdering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::Named;
use super::cleared::{CurrentGeneration, Generation};
use super::token_date::{ClockSetBack, Cutoff, Date, Mark, Wait, date_after};
use crate::client_id::ClientId;
use crate::clock::{Clock, Moment, UnixTime};
use crate::store::Revocation;
use crate::sync::Striped;

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

/// The revocations of one client. Times are seconds since 1970.
#[derive(Debug, Default)]
struct ClientEntry {
    until: Option<Until>,
    /// Exempts tokens from `until` after the wall clock was set back.
    set_back: Option<Box<ClockSetBack>>,
    /// The revoked tokens that `until` does not cover, by `jti`.
    tokens: HashMap<Box<str>, TokenEntry>,
    /// Whether the client reached the limit of tokens. Further tokens are then revoked by their date.
    too_many: bool,
    /// The number of revocations added since the last purge.
    added: usize,
}

/// `too_many` ends for a client with fewer revocations than this between two purges.
const FEW: usize = 10;

/// The maximum number of tokens of a client, expired ones included, as a multiple of the limit. It does not depend on the clock.
const MAX_EXPIRED: usize = 10;

/// The revocation of all tokens issued up to a second.
#[derive(Clone, Copy, Debug)]
struct Until {
    issued_at: u64,
    expires_at: u64,
    /// When the view first learned of this second, corrected for a wall clock that was set back since the previous one.
    learned: Moment,
}

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

/// A revoked token.
#[derive(Clone, Copy, Debug)]
struct TokenEntry {
    issued_at: u64,
    expires_at: u64,
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

    /// Returns whether adding `revocation` at the time `now` would change nothing.
    pub(super) fn holds(&self, revocation: &Revocation, now: Moment) -> bool {
        match revocation {
            Revocation::Token { token_id, client_id, issued_at, expires_at } => {
                self.of(client_id, |client| client.holds_token(token_id, *issued_at, *expires_at))
            }
            Revocation::Client { client_id, issued_until, expires_at } => {
                self.of(client_id, |client| client.holds_until(*issued_until, *expires_at, now))
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
                Revocation::Client { client_id, issued_until: issued_at, expires_at }
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
            Revocation::Client { client_id, issued_until, expires_at } => {
                let until = Until { issued_at: *issued_until, expires_at: *expires_at, learned };
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
            Revocation::Client { client_id, issued_until, expires_at } => self.of(client_id, |client| {
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

impl ClientEntry {
    fn len(&self) -> usize {
        self.tokens.len() + usize::from(self.until.is_some())
    }

    fn entries<'a>(&'a self, client_id: &'a ClientId) -> impl Iterator<Item = Revocation> + 'a {
        let until = self.until.map(|Until { issued_at, expires_at, .. }| Revocation::Client {
            client_id: client_id.clone(),
            issued_until: issued_at,
            expires_at,
        });
        let tokens = self.tokens.iter().map(|(token_id, TokenEntry { issued_at, expires_at })| Revocation::Token {
            token_id: token_id.to_string(),
            client_id: client_id.clone(),
            issued_at: *issued_at,
            expires_at: *expires_at,
        });
        until.into_iter().chain(tokens)
    }

    fn revokes(&self, token_id: &str, issued_at: u64) -> bool {
        self.is_revoked_by_date(token_id, issued_at) || self.tokens.contains_key(token_id)
    }

    /// Returns whether a token is revoked because of its date.
    fn is_revoked_by_date(&self, token_id: &str, issued_at: u64) -> bool {
        self.until.is_some_and(|until| issued_at <= until.issued_at)
            && !exempts(self.set_back.as_deref(), token_id, issued_at)
    }

    fn holds_token(&self, token_id: &str, issued_at: u64, expires_at: u64) -> bool {
        self.is_revoked_by_date(token_id, issued_at) && self.until.is_some_and(|until| until.expires_at >= expires_at)
            || self.tokens.get(token_id).is_some_and(|token| token.expires_at >= expires_at)
    }

    fn holds_until(&self, issued_at: u64, expires_at: u64, now: Moment) -> bool {
        let is_covered = |until: Until| match issued_at.cmp(&until.issued_at) {
            CmpOrdering::Greater => false,
            CmpOrdering::Equal => true,
            CmpOrdering::Less => self.set_back.as_ref().is_some_and(|set_back| set_back.holds(issued_at, now)),
        };
        self.until.is_some_and(|until| until.expires_at >= expires_at && is_covered(until))
    }

    fn date(&mut self, now: Moment, fresh: Mark) -> Result<Date, Wait> {
        let wall = UnixTime::at(now.wall);
        let Some(Until { issued_at, learned, .. }) = self.until else { return Ok(Date::usual(wall)) };
        let cutoff = Cutoff { second: issued_at, learned };
        date_after(cutoff, wall).or_else(|_| self.set_back.get_or_insert_default().date(cutoff, now, fresh))
    }

    fn add_token(&mut self, token_id: &str, token: TokenEntry, max: usize, learned: Moment) {
        match self.tokens.entry(token_id.into()) {
            Entry::Occupied(mut known) => known.get_mut().expires_at = token.expires_at.max(known.get().expires_at),
            Entry::Vacant(place) => drop(place.insert(token)),
        }
        self.added = self.added.saturating_add(1);
        if self.tokens.len() < max {
            return;
        }
        // Expired tokens that were not purged yet do not count. The client's other tokens must not be revoked because of them.
        let now = UnixTime::at(learned.wall).as_secs();
        let valid = self.tokens.values().filter(|token| token.expires_at > now).count();
        self.too_many |= valid >= max;
        if valid > max || self.tokens.len() > max.saturating_mul(MAX_EXPIRED) {
            self.collapse(learned);
        }
    }

    /// Replaces the tokens by one entry for all tokens issued up to the most recent of them. All replicas read the same tokens
    /// from the feed, so they agree on that second.
    fn collapse(&mut self, learned: Moment) {
        let last = |time: fn(&TokenEntry) -> u64| self.tokens.values().map(time).max().unwrap_or_default();
        let (issued_at, expires_at) = (last(|token| token.issued_at), last(|token| token.expires_at));
        self.add_until(Until { issued_at, expires_at, learned });
    }

    /// Joins `until` with the present one: the later second, and the later expiry.
    fn add_until(&mut self, until: Until) {
        self.added = self.added.saturating_add(1);
        let known = self.until.unwrap_or(until);
        let is_later = until.issued_at > known.issued_at;
        let joined = Until {
            issued_at: known.issued_at.max(until.issued_at),
            expires_at: known.expires_at.max(until.expires_at),
            learned: if is_later { until.learned.not_before(known.learned) } else { known.learned },
        };
        self.until = Some(joined);
        if is_later {
            self.set_back = None;
        } else if until.issued_at < known.issued_at {
            self.set_back.get_or_insert_default().add(Cutoff { second: until.issued_at, learned: until.learned });
        }
        let set_back = self.set_back.as_deref();
        self.tokens.retain(|id, token| {
            token.issued_at > joined.issued_at
                || token.expires_at > joined.expires_at
                || exempts(set_back, id, token.issued_at)
        });
    }

    fn purge(&mut self, now: u64) {
        self.until = self.until.filter(|until| until.expires_at > now);
        self.set_back = self.set_back.take().filter(|_| self.until.is_some());
        self.tokens.retain(|_, token| token.expires_at > now);
        self.too_many &= std::mem::take(&mut self.added) >= FEW;
    }
}

fn exempts(set_back: Option<&ClockSetBack>, token_id: &str, issued_at: u64) -> bool {
    set_back.is_some_and(|set_back| set_back.exempts(token_id, issued_at))
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{Bounds, Full, Named, View};
    use crate::client_id::ClientId;
    use crate::clock::{Moment, SystemClock, UnixTime};
    use crate::store::Revocation;

    const BILLING: ClientId = ClientId::from_static("billing");
    const OTHER: ClientId = ClientId::from_static("other");

    fn view(tokens_per_client: usize, entries: usize) -> View {
        View::new(Bounds { tokens_per_client, entries })
    }

    /// Returns a time before the expiry of every entry in these tests.
    fn now() -> Moment {
        Moment { wall: std::time::UNIX_EPOCH, ..Moment::now(&SystemClock) }
    }

    fn add(view: &View, revocation: &Revocation) -> Result<(), Full> {
        view.add(revocation, now())
    }

    fn holds(view: &View, revocation: &Revocation) -> bool {
        view.holds(revocation, now())
    }

    fn until(view: &View, client_id: &ClientId) -> Option<UnixTime> {
        view.issued_until(client_id).map(|until| until.second)
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(seconds).unwrap()
    }

    fn token(id: &str, issued_at: u64, expires_at: u64) -> Revocation {
        Revocation::Token { token_id: id.to_owned(), client_id: BILLING, issued_at, expires_at }
    }

    fn client(client_id: ClientId, issued_until: u64, expires_at: u64) -> Revocation {
        Revocation::Client { client_id, issued_until, expires_at }
    }

    fn key(id: &str, expires_at: u64) -> Revocation {
        Revocation::Key { key_id: id.to_owned(), expires_at }
    }

    fn revokes(view: &View, client_id: &ClientId, token_id: &str, issued_at: u64) -> bool {
        view.revokes(Named { client_id, token_id, issued_at: at(issued_at), key_id: "k" })
    }

    #[test]
    fn a_token_is_revoked_by_its_jti_its_client_or_its_key() {
        let view = view(10, 10);
        assert!(!revokes(&view, &BILLING, "a", 5));
        add(&view, &token("a", 5, 100)).unwrap();
        assert!(
            revokes(&view, &BILLING, "a", 5) && !revokes(&view, &BILLING, "b", 5) && !revokes(&view, &OTHER, "a", 5)
        );
        add(&view, &client(OTHER, 7, 100)).unwrap();
        assert!(revokes(&view, &OTHER, "x", 7) && !revokes(&view, &OTHER, "x", 8) && !revokes(&view, &BILLING, "x", 7));
        assert_eq!((until(&view, &OTHER), until(&view, &BILLING)), (Some(at(7)), None));
        add(&view, &key("other", 100)).unwrap();
        assert!(!revokes(&view, &OTHER, "x", 8));
        add(&view, &key("k", 100)).unwrap();
        assert!(revokes(&view, &OTHER, "x", 8));
        assert_eq!(view.entries(), 4);
    }

    #[test]
    fn an_entry_that_is_added_twice_is_kept_once_until_the_later_expiry() {
        let view = view(10, 10);
        for (id, expires_at) in [("a", 100), ("a", 100), ("b", 100), ("a", 200), ("a", 50)] {
            add(&view, &token(id, 5, expires_at)).unwrap();
        }
        for (until, expires_at) in [(3, 100), (2, 300), (3, 100)] {
            add(&view, &client(OTHER, until, expires_at)).unwrap();
        }
        assert_eq!(view.entries(), 3);
        view.purge(at(150));
        assert!(
            revokes(&view, &BILLING, "a", 5) && !revokes(&view, &BILLING, "b", 5) && revokes(&view, &OTHER, "x", 3)
        );
    }

    #[test]
    fn a_later_revocation_with_an_earlier_expiry_does_not_shorten_the_former_one() {
        let view = view(10, 10);
        add(&view, &client(BILLING, 5, 1_000)).unwrap();
        add(&view, &client(BILLING, 9, 100)).unwrap();
        view.purge(at(999));
        assert!(revokes(&view, &BILLING, "x", 5));
        add(&view, &key("k", 2_000)).unwrap();
        add(&view, &key("k", 1_500)).unwrap();
        add(&view, &token("a", 20, 2_000)).unwrap();
        add(&view, &token("a", 20, 1_500)).unwrap();
        view.purge(at(1_999));
        assert!(view.has_key("k"));
        view.purge(at(2_000));
        assert_eq!(view.entries(), 0);
    }

    #[test]
    fn only_a_new_entry_changes_the_generation() {
        let view = view(10, 10);
        let before = view.generation();
        add(&view, &token("a", 5, 100)).unwrap();
        let after = view.generation();
        assert_ne!(before, after);
        add(&view, &token("a", 5, 100)).unwrap();
        assert_eq!(view.generation(), after);
    }

    #[test]
    fn entries_are_removed_in_the_second_of_their_expiry_and_not_before() {
        let view = view(10, 10);
        for revocation in [token("a", 5, 100), client(OTHER, 7, 100), key("k", 100)] {
            add(&view, &revocation).unwrap();
        }
        view.purge(at(99));
        assert_eq!(view.entries(), 3);
        assert!(revokes(&view, &BILLING, "a", 5));
        view.purge(at(100));
        assert_eq!(view.entries(), 0);
        assert!(view.parts.iter().all(|part| part.read().unwrap().is_empty()));
        assert!(!revokes(&view, &BILLING, "a", 5) && !revokes(&view, &OTHER, "x", 7));
    }

    #[test]
    fn too_many_revoked_tokens_of_a_client_revoke_all_up_to_the_most_recent() {
        let view = view(3, 100);
        for (id, issued_at) in [("a", 10), ("b", 30), ("c", 20)] {
            add(&view, &token(id, issued_at, 100)).unwrap();
        }
        assert_eq!(view.entries(), 3);
        assert!(!revokes(&view, &BILLING, "x", 5), "three tokens are held individually");
        add(&view, &token("d", 25, 90)).unwrap();
        assert_eq!((view.entries(), until(&view, &BILLING)), (1, Some(at(30))));
        assert!(revokes(&view, &BILLING, "x", 30) && !revokes(&view, &BILLING, "x", 31));
        add(&view, &token("e", 31, 100)).unwrap();
        assert!(revokes(&view, &BILLING, "e", 31) && !revokes(&view, &BILLING, "x", 31));
        view.purge(at(99));
        assert!(revokes(&view, &BILLING, "a", 10) && revokes(&view, &BILLING, "d", 25));
    }

    #[test]
    fn the_order_of_revoked_tokens_does_not_change_the_entry_that_replaces_them() {
        let added_in = |order: [u64; 4]| {
            let view = view(3, 100);
            for time in order {
                add(&view, &token(&time.to_string(), time, 100 + time)).unwrap();
            }
            (view.entries(), until(&view, &BILLING))
        };
        assert_eq!(added_in([1, 2, 3, 4]), (1, Some(at(4))));
        assert_eq!(added_in([4, 3, 2, 1]), added_in([1, 2, 3, 4]));
    }

    #[test]
    fn a_client_that_revokes_too_many_tokens_gets_one_entry_per_second() {
        let view = view(2, 100);
        for (id, issued_at) in [("a", 10), ("b", 10)] {
            assert_eq!(view.coarsen(token(id, issued_at, 100)), token(id, issued_at, 100));
            add(&view, &token(id, issued_at, 100)).unwrap();
        }
        assert_eq!(view.coarsen(token("c", 11, 100)), client(BILLING, 11, 100));
        add(&view, &client(BILLING, 11, 100)).unwrap();
        assert_eq!(view.entries(), 1);
        assert!(holds(&view, &token("d", 11, 100)), "no further write is needed");
        assert_eq!(view.coarsen(token("e", 12, 100)), client(BILLING, 12, 100));
    }

    #[test]
    fn tokens_covered_by_the_revocation_of_their_client_are_removed_unless_they_expire_later() {
        let view = view(10, 100);
        for (id, issued_at, expires_at) in [("a", 1, 50), ("b", 2, 90), ("c", 9, 50)] {
            add(&view, &token(id, issued_at, expires_at)).unwrap();
        }
        add(&view, &client(BILLING, 5, 60)).unwrap();
        assert_eq!(view.entries(), 3, "the revocation of the client, b and c");
        view.purge(at(60));
        assert!(revokes(&view, &BILLING, "b", 2) && !revokes(&view, &BILLING, "a", 1));
    }

    #[test]
    fn a_full_view_rejects_new_entries_and_keeps_the_old_ones() {
        let view = view(10, 2);
        add(&view, &token("a", 5, 100)).unwrap();
        add(&view, &key("k2", 100)).unwrap();
        for more in [token("b", 5, 100), client(OTHER, 5, 100), key("k3", 100)] {
            assert_eq!(add(&view, &more), Err(Full));
        }
        assert_eq!(add(&view, &token("a", 5, 100)), Ok(()), "the view has this entry already");
        assert!(revokes(&view, &BILLING, "a", 5) && view.entries() == 2);
        view.purge(at(100));
        assert_eq!(add(&view, &token("b", 5, 200)), Ok(()));
    }

    #[test]
    fn a_full_view_accepts_another_revocation_of_a_client_that_it_has() {
        let view = view(10, 1);
        add(&view, &client(BILLING, 5, 100)).unwrap();
        for (until, expires_at) in [(4, 100), (6, 100), (6, 200)] {
            assert_eq!(add(&view, &client(BILLING, until, expires_at)), Ok(()));
        }
        assert_eq!((view.entries(), revokes(&view, &BILLING, "x", 6)), (1, true));
        assert_eq!(add(&view, &client(OTHER, 6, 100)), Err(Full));
    }

    #[test]
    fn the_entries_of_all_parts_make_up_an_equal_view() {
        let one = view(10, 100);
        for revocation in
            [token("a", 8, 50), token("b", 9, 90), client(BILLING, 5, 60), client(OTHER, 7, 80), key("k", 70)]
        {
            add(&one, &revocation).unwrap();
        }
        let entries: Vec<Revocation> = (0..).map_while(|part| one.part_entries(part)).flatten().collect();
        assert_eq!(entries.len(), 5);
        let other = view(10, 100);
        for revocation in &entries {
            add(&other, revocation).unwrap();
        }
        assert!(entries.iter().all(|revocation| holds(&one, revocation) && holds(&other, revocation)));
        assert_eq!(one.entries(), other.entries());
    }

    #[test]
    fn a_full_view_accepts_a_revocation_of_a_client_that_replaces_its_tokens() {
        let view = view(10, 3);
        for (id, issued_at) in [("a", 5), ("b", 9), ("c", 20)] {
            add(&view, &token(id, issued_at, 100)).unwrap();
        }
        for (until, expires_at) in [(4, 1_000), (20, 99)] {
            assert_eq!(add(&view, &client(BILLING, until, expires_at)), Err(Full), "it replaces no token");
        }
        assert_eq!(add(&view, &client(BILLING, 9, 1_000)), Ok(()));
        assert_eq!(
            (view.entries(), revokes(&view, &BILLING, "x", 9), revokes(&view, &BILLING, "c", 20)),
            (2, true, true)
        );
    }

    #[test]
    fn state_that_depends_on_a_revocation_is_removed_with_it() {
        let view = view(10, 10);
        add(&view, &client(BILLING, 5, 100)).unwrap();
        add(&view, &client(BILLING, 4, 100)).unwrap();
        assert!(holds(&view, &client(BILLING, 4, 100)) && !holds(&view, &client(BILLING, 4, 101)));
        view.purge(at(100));
        assert_eq!(view.entries(), 0);
        assert!(view.parts.iter().all(|part| part.read().unwrap().is_empty()));
    }

    #[test]
    fn the_view_holds_the_revocation_of_a_key_up_to_its_expiry_and_not_longer() {
        let view = view(10, 10);
        assert!(!holds(&view, &key("k", 100)));
        add(&view, &key("k", 100)).unwrap();
        assert!(holds(&view, &key("k", 99)) && holds(&view, &key("k", 100)));
        assert!(!holds(&view, &key("k", 101)) && !holds(&view, &key("other", 100)));
    }
}
