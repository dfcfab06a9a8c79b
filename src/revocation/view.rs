//! [`View`]: what is revoked, bounded and in memory.

use std::cmp::Ordering as CmpOrdering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::Named;
use super::after::{After, Date, End, Mark, Wait, date_after};
use super::cleared::{CurrentGeneration, Generation};
use crate::client_id::ClientId;
use crate::clock::{Clock, Moment, UnixTime};
use crate::store::Revocation;
use crate::sync::Striped;

/// How much a view holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Tokens of one client; beyond it they are summed up.
    pub(super) tokens_per_client: usize,
    pub(super) entries: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { tokens_per_client: 1_000, entries: 1_000_000 }
    }
}

/// There is no place for another entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// In parts by client, so that a purge of a large view holds up nobody for long.
#[derive(Debug)]
pub(super) struct View {
    bounds: Bounds,
    hasher: RandomState,
    parts: Striped<RwLock<HashMap<ClientId, OfClient>>, PARTS>,
    /// By `kid`, and when each may go.
    keys: RwLock<HashMap<Box<str>, u64>>,
    entries: AtomicUsize,
    generation: CurrentGeneration,
}

const PARTS: usize = 64;

/// In how many parts a view is purged: those of the clients, and the keys.
pub(super) const PURGE_PARTS: usize = PARTS + 1;

/// What is revoked of one client. Times are seconds since 1970.
#[derive(Debug, Default)]
struct OfClient {
    until: Option<Until>,
    /// The revocations and marks since `until`.
    after: Option<Box<After>>,
    /// By `jti`, those that `until` does not say.
    tokens: HashMap<Box<str>, OfToken>,
    /// It had as many tokens as it may have: from now on they are revoked by time.
    is_many: bool,
    /// How many revocations were added since the last purge.
    added: usize,
}

/// A client with fewer revocations than this between two purges is no longer one of too many tokens.
const FEW: usize = 10;

/// A client never has more tokens here than so many times the bound, whatever the clock shows.
const MAX_EXPIRED: usize = 10;

/// Every token that was issued up to a second.
#[derive(Clone, Copy, Debug)]
struct Until {
    issued_at: u64,
    expires_at: u64,
    /// When this view first had an entry with this second, by a wall clock that was not set back since the one before it.
    learned: Moment,
}

/// The second up to which all tokens of a client are revoked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IssuedUntil {
    pub(crate) second: UnixTime,
    /// When the view learned of it.
    learned: Moment,
}

impl IssuedUntil {
    /// Returns the current second by the larger of two clocks: what `clock` shows, or the time at which the view learned
    /// of the revocation plus the time that has passed since. So a wall clock that was set back since does not make the
    /// revocation last longer.
    pub(crate) fn now(&self, clock: &dyn Clock) -> UnixTime {
        UnixTime::at(Moment::now(clock).not_before(self.learned).wall)
    }
}

#[derive(Clone, Copy, Debug)]
struct OfToken {
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

    /// Another one after each entry that was added.
    pub(super) fn generation(&self) -> Generation {
        self.generation.load()
    }

    pub(super) fn revokes(&self, token: Named<'_>) -> bool {
        self.has_key(token.key_id)
            || self.of(token.client_id, |client| client.revokes(token.token_id, token.issued_at.as_secs()))
    }

    pub(super) fn has_key(&self, key_id: &str) -> bool {
        self.entries() > 0 && read(&self.keys).contains_key(key_id)
    }

    /// Dates the next token of a client, where the wall clock is behind the second up to which its tokens are revoked. Without
    /// a mark for such tokens, `fresh` becomes the mark.
    pub(super) fn date(&self, client_id: &ClientId, now: Moment, fresh: Mark) -> Result<Date, Wait> {
        let mut clients = write(self.part(client_id));
        let client = clients.get_mut(client_id);
        client.map_or_else(|| Ok(Date::usual(UnixTime::at(now.wall))), |client| client.date(now, fresh))
    }

    pub(super) fn issued_until(&self, client_id: &ClientId) -> Option<IssuedUntil> {
        self.of(client_id, |client| {
            let until = client.until?;
            Some(IssuedUntil { second: UnixTime::from_secs(until.issued_at)?, learned: until.learned })
        })
    }

    /// Whether it says all of this already at that time, and for as long.
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

    /// One more token of a client that has too many: all that it was issued up to then. That is at most one entry a
    /// second, however many tokens the client gets and gives back.
    pub(super) fn sum_up(&self, revocation: Revocation) -> Revocation {
        match revocation {
            Revocation::Token { client_id, issued_at, expires_at, .. }
                if self.of(&client_id, |client| client.is_many) =>
            {
                Revocation::Client { client_id, issued_until: issued_at, expires_at }
            }
            other => other,
        }
    }

    /// Adds an entry, which the view learned of at that time. To add it twice changes nothing.
    pub(super) fn add(&self, revocation: &Revocation, learned: Moment) -> Result<(), Full> {
        if self.holds(revocation, learned) {
            return Ok(());
        }
        if self.entries() >= self.bounds.entries && !self.has_place(revocation) {
            return Err(Full);
        }
        match revocation {
            Revocation::Token { token_id, client_id, issued_at, expires_at } => {
                let token = OfToken { issued_at: *issued_at, expires_at: *expires_at };
                let most = self.bounds.tokens_per_client;
                self.change(client_id, |client| client.add_token(token_id, token, most, learned));
            }
            Revocation::Client { client_id, issued_until, expires_at } => {
                let until = Until { issued_at: *issued_until, expires_at: *expires_at, learned };
                self.change(client_id, |client| client.add_until(until));
            }
            Revocation::Key { key_id, expires_at } => self.add_key(key_id, *expires_at),
        }
        // Last, so that nobody takes the state before for this one.
        self.generation.advance();
        Ok(())
    }

    /// Returns whether there are no more entries with it than without: it changes one, or takes the place of others.
    fn has_place(&self, revocation: &Revocation) -> bool {
        match revocation {
            Revocation::Client { client_id, issued_until, expires_at } => self.of(client_id, |client| {
                let is_covered = |token: &OfToken| token.issued_at <= *issued_until && token.expires_at <= *expires_at;
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

    /// Forgets what has expired in one of [`PURGE_PARTS`].
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

    /// Returns what a part holds, in the form in which a store keeps it; `None` after the last part.
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

    /// Everything at once.
    pub(super) fn purge(&self, now: UnixTime) {
        (0..PURGE_PARTS).for_each(|part| self.purge_part(part, now));
    }

    fn part(&self, client_id: &ClientId) -> &RwLock<HashMap<ClientId, OfClient>> {
        self.parts.of(self.hasher.hash_one(client_id))
    }

    fn of<T: Default>(&self, client_id: &ClientId, ask: impl FnOnce(&OfClient) -> T) -> T {
        if self.entries() == 0 {
            return T::default();
        }
        read(self.part(client_id)).get(client_id).map(ask).unwrap_or_default()
    }

    fn change(&self, client_id: &ClientId, change: impl FnOnce(&mut OfClient)) {
        let mut clients = write(self.part(client_id));
        let client = clients.entry(client_id.clone()).or_default();
        let before = client.len();
        change(client);
        self.count(before, client.len());
    }

    fn count(&self, before: usize, after: usize) {
        // To zero only when nothing is left, whatever comes first: what is added is counted before it is told of.
        self.entries.fetch_add(after, Ordering::AcqRel);
        self.entries.fetch_sub(before, Ordering::AcqRel);
    }
}

impl OfClient {
    fn len(&self) -> usize {
        self.tokens.len() + usize::from(self.until.is_some())
    }

    fn entries<'a>(&'a self, client_id: &'a ClientId) -> impl Iterator<Item = Revocation> + 'a {
        let until = self.until.map(|Until { issued_at, expires_at, .. }| Revocation::Client {
            client_id: client_id.clone(),
            issued_until: issued_at,
            expires_at,
        });
        let tokens = self.tokens.iter().map(|(token_id, OfToken { issued_at, expires_at })| Revocation::Token {
            token_id: token_id.to_string(),
            client_id: client_id.clone(),
            issued_at: *issued_at,
            expires_at: *expires_at,
        });
        until.into_iter().chain(tokens)
    }

    fn revokes(&self, token_id: &str, issued_at: u64) -> bool {
        self.is_until(token_id, issued_at) || self.tokens.contains_key(token_id)
    }

    /// Whether it is revoked by the time at which it was issued.
    fn is_until(&self, token_id: &str, issued_at: u64) -> bool {
        self.until.is_some_and(|until| issued_at <= until.issued_at)
            && !spares(self.after.as_deref(), token_id, issued_at)
    }

    fn holds_token(&self, token_id: &str, issued_at: u64, expires_at: u64) -> bool {
        self.is_until(token_id, issued_at) && self.until.is_some_and(|until| until.expires_at >= expires_at)
            || self.tokens.get(token_id).is_some_and(|token| token.expires_at >= expires_at)
    }

    fn holds_until(&self, issued_at: u64, expires_at: u64, now: Moment) -> bool {
        let is_said = |until: Until| match issued_at.cmp(&until.issued_at) {
            CmpOrdering::Greater => false,
            CmpOrdering::Equal => true,
            CmpOrdering::Less => self.after.as_ref().is_some_and(|after| after.holds(issued_at, now)),
        };
        self.until.is_some_and(|until| until.expires_at >= expires_at && is_said(until))
    }

    fn date(&mut self, now: Moment, fresh: Mark) -> Result<Date, Wait> {
        let wall = UnixTime::at(now.wall);
        let Some(Until { issued_at, learned, .. }) = self.until else { return Ok(Date::usual(wall)) };
        let end = End { second: issued_at, learned };
        date_after(end, wall).or_else(|_| self.after.get_or_insert_default().date(end, now, fresh))
    }

    fn add_token(&mut self, token_id: &str, token: OfToken, most: usize, learned: Moment) {
        match self.tokens.entry(token_id.into()) {
            Entry::Occupied(mut known) => known.get_mut().expires_at = token.expires_at.max(known.get().expires_at),
            Entry::Vacant(place) => drop(place.insert(token)),
        }
        self.added = self.added.saturating_add(1);
        if self.tokens.len() < most {
            return;
        }
        // Expired tokens may still be here, and do not count: the client's other tokens must not be revoked because of them.
        let now = UnixTime::at(learned.wall).as_secs();
        let valid = self.tokens.values().filter(|token| token.expires_at > now).count();
        self.is_many |= valid >= most;
        if valid > most || self.tokens.len() > most.saturating_mul(MAX_EXPIRED) {
            self.collapse(learned);
        }
    }

    /// Replaces the tokens by the second in which the last of them was issued. That token comes from the feed as the others do, so
    /// that replicas agree on it.
    fn collapse(&mut self, learned: Moment) {
        let last = |time: fn(&OfToken) -> u64| self.tokens.values().map(time).max().unwrap_or_default();
        let (issued_at, expires_at) = (last(|token| token.issued_at), last(|token| token.expires_at));
        self.add_until(Until { issued_at, expires_at, learned });
    }

    /// Whatever was issued up to the later of two seconds, for as long as the longer of both was to be kept.
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
            self.after = None;
        } else if until.issued_at < known.issued_at {
            self.after.get_or_insert_default().add(End { second: until.issued_at, learned: until.learned });
        }
        let after = self.after.as_deref();
        self.tokens.retain(|id, token| {
            token.issued_at > joined.issued_at
                || token.expires_at > joined.expires_at
                || spares(after, id, token.issued_at)
        });
    }

    fn purge(&mut self, now: u64) {
        self.until = self.until.filter(|until| until.expires_at > now);
        self.after = self.after.take().filter(|_| self.until.is_some());
        self.tokens.retain(|_, token| token.expires_at > now);
        self.is_many &= std::mem::take(&mut self.added) >= FEW;
    }
}

fn spares(after: Option<&After>, token_id: &str, issued_at: u64) -> bool {
    after.is_some_and(|after| after.spares(token_id, issued_at))
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

    /// Before any entry of these tests expires.
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
    fn a_token_is_revoked_by_its_name_its_client_and_its_key() {
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
    fn what_is_told_twice_is_kept_once_for_as_long_as_it_was_last_told() {
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
    fn a_later_revocation_that_ends_sooner_does_not_shorten_the_one_before_it() {
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
    fn only_an_entry_that_says_something_new_makes_others_look_again() {
        let view = view(10, 10);
        let before = view.generation();
        add(&view, &token("a", 5, 100)).unwrap();
        let after = view.generation();
        assert_ne!(before, after);
        add(&view, &token("a", 5, 100)).unwrap();
        assert_eq!(view.generation(), after);
    }

    #[test]
    fn entries_go_in_the_second_of_their_expiry_and_not_before() {
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
    fn a_client_with_too_many_is_revoked_up_to_the_last_of_them() {
        let view = view(3, 100);
        for (id, issued_at) in [("a", 10), ("b", 30), ("c", 20)] {
            add(&view, &token(id, issued_at, 100)).unwrap();
        }
        assert_eq!(view.entries(), 3);
        assert!(!revokes(&view, &BILLING, "x", 5), "three are told apart");
        add(&view, &token("d", 25, 90)).unwrap();
        assert_eq!((view.entries(), until(&view, &BILLING)), (1, Some(at(30))));
        assert!(revokes(&view, &BILLING, "x", 30) && !revokes(&view, &BILLING, "x", 31));
        add(&view, &token("e", 31, 100)).unwrap();
        assert!(revokes(&view, &BILLING, "e", 31) && !revokes(&view, &BILLING, "x", 31));
        view.purge(at(99));
        assert!(revokes(&view, &BILLING, "a", 10) && revokes(&view, &BILLING, "d", 25));
    }

    #[test]
    fn the_order_in_which_they_come_makes_no_difference_to_what_is_summed_up() {
        let told = |order: [u64; 4]| {
            let view = view(3, 100);
            for time in order {
                add(&view, &token(&time.to_string(), time, 100 + time)).unwrap();
            }
            (view.entries(), until(&view, &BILLING))
        };
        assert_eq!(told([1, 2, 3, 4]), (1, Some(at(4))));
        assert_eq!(told([4, 3, 2, 1]), told([1, 2, 3, 4]));
    }

    #[test]
    fn a_client_that_gives_back_too_many_gets_one_entry_a_second() {
        let view = view(2, 100);
        for (id, issued_at) in [("a", 10), ("b", 10)] {
            assert_eq!(view.sum_up(token(id, issued_at, 100)), token(id, issued_at, 100));
            add(&view, &token(id, issued_at, 100)).unwrap();
        }
        assert_eq!(view.sum_up(token("c", 11, 100)), client(BILLING, 11, 100));
        add(&view, &client(BILLING, 11, 100)).unwrap();
        assert_eq!(view.entries(), 1);
        assert!(holds(&view, &token("d", 11, 100)), "nothing is left to write");
        assert_eq!(view.sum_up(token("e", 12, 100)), client(BILLING, 12, 100));
    }

    #[test]
    fn what_a_callback_covers_is_not_kept_besides_unless_it_lives_longer() {
        let view = view(10, 100);
        for (id, issued_at, expires_at) in [("a", 1, 50), ("b", 2, 90), ("c", 9, 50)] {
            add(&view, &token(id, issued_at, expires_at)).unwrap();
        }
        add(&view, &client(BILLING, 5, 60)).unwrap();
        assert_eq!(view.entries(), 3, "the callback, and b and c");
        view.purge(at(60));
        assert!(revokes(&view, &BILLING, "b", 2) && !revokes(&view, &BILLING, "a", 1));
    }

    #[test]
    fn a_full_view_takes_no_more_and_forgets_nothing() {
        let view = view(10, 2);
        add(&view, &token("a", 5, 100)).unwrap();
        add(&view, &key("k2", 100)).unwrap();
        for more in [token("b", 5, 100), client(OTHER, 5, 100), key("k3", 100)] {
            assert_eq!(add(&view, &more), Err(Full));
        }
        assert_eq!(add(&view, &token("a", 5, 100)), Ok(()), "it is there");
        assert!(revokes(&view, &BILLING, "a", 5) && view.entries() == 2);
        view.purge(at(100));
        assert_eq!(add(&view, &token("b", 5, 200)), Ok(()));
    }

    #[test]
    fn a_full_view_takes_a_revocation_of_a_client_that_it_has() {
        let view = view(10, 1);
        add(&view, &client(BILLING, 5, 100)).unwrap();
        for (until, expires_at) in [(4, 100), (6, 100), (6, 200)] {
            assert_eq!(add(&view, &client(BILLING, until, expires_at)), Ok(()));
        }
        assert_eq!((view.entries(), revokes(&view, &BILLING, "x", 6)), (1, true));
        assert_eq!(add(&view, &client(OTHER, 6, 100)), Err(Full));
    }

    #[test]
    fn the_entries_of_all_parts_make_the_same_view() {
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
    fn a_full_view_takes_a_revocation_of_a_client_that_takes_the_place_of_its_tokens() {
        let view = view(10, 3);
        for (id, issued_at) in [("a", 5), ("b", 9), ("c", 20)] {
            add(&view, &token(id, issued_at, 100)).unwrap();
        }
        for (until, expires_at) in [(4, 1_000), (20, 99)] {
            assert_eq!(add(&view, &client(BILLING, until, expires_at)), Err(Full), "no token goes for it");
        }
        assert_eq!(add(&view, &client(BILLING, 9, 1_000)), Ok(()));
        assert_eq!(
            (view.entries(), revokes(&view, &BILLING, "x", 9), revokes(&view, &BILLING, "c", 20)),
            (2, true, true)
        );
    }

    #[test]
    fn what_came_after_a_revocation_goes_with_it() {
        let view = view(10, 10);
        add(&view, &client(BILLING, 5, 100)).unwrap();
        add(&view, &client(BILLING, 4, 100)).unwrap();
        assert!(holds(&view, &client(BILLING, 4, 100)) && !holds(&view, &client(BILLING, 4, 101)));
        view.purge(at(100));
        assert_eq!(view.entries(), 0);
        assert!(view.parts.iter().all(|part| part.read().unwrap().is_empty()));
    }

    #[test]
    fn the_revocation_of_a_key_is_held_up_to_its_time_and_not_for_longer() {
        let view = view(10, 10);
        assert!(!holds(&view, &key("k", 100)));
        add(&view, &key("k", 100)).unwrap();
        assert!(holds(&view, &key("k", 99)) && holds(&view, &key("k", 100)));
        assert!(!holds(&view, &key("k", 101)) && !holds(&view, &key("other", 100)));
    }
}
