//! [`MemoryStore`]: state in the memory of one process.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

use super::{
    AdminError, Change, ChangeFeed, Changes, ClientAdmin, ClientChange, ClientStore, ClientWrite, Cursor, DynFuture,
    FeedEntry, Replay, ReplayId, ReplayLog, Revision, Revocation, RevocationStore, StoreError, StoreFuture,
};
use crate::client_id::ClientId;
use crate::clock::{Clock, SystemClock, UnixTime};
use crate::registration::{Client, ClientError, ClientRules, RegisteredClient};
use crate::timing::CLIENT_CHANGE_RETENTION;

/// Stores clients, revocations and used credentials in memory, for one process. Clones share the same state.
///
/// [`try_from`](Self#impl-TryFrom<%5BClient;+N%5D>-for-MemoryStore) reports an invalid client. When an
/// [`AuthorizationServer`](crate::AuthorizationServer) is built from the store, it [checks](Self::enforce) the clients against
/// its own rules as well.
///
/// The store holds at most 1,000,000 revocations and 1,000,000 used credentials, since outsiders can cause both. Each is
/// removed after its expiry. When the store is full, it returns an error.
///
/// ```
/// use tower_client_credentials::{Client, ClientSecret, MemoryStore, Scope};
///
/// let clients = MemoryStore::try_from([
///     Client::new("billing", ClientSecret::generate()?)
///         .scope(Scope::from_static("invoices:read"))
///         .audience("https://api.example.com"),
/// ])?;
///
/// let error = MemoryStore::try_from([Client::new("billing", ClientSecret::generate()?).audience("api")]).unwrap_err();
/// assert!(error.to_string().starts_with("client `billing`: `api` is not an audience"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Shared {
    clients: RwLock<Clients>,
    feed: RwLock<Feed>,
    replays: RwLock<Replays>,
    changed: tokio::sync::Notify,
}

/// The maximum number of revocations, and of used credentials. Outsiders can cause both.
const MAX_ENTRIES: usize = 1_000_000;

#[derive(Default)]
struct Clients {
    found: HashMap<ClientId, (Arc<RegisteredClient>, u64)>,
    /// The same ids, sorted.
    order: BTreeSet<OrderedId>,
    revisions: u64,
    /// The rules of the last server that was built with these clients.
    rules: Option<ClientRules>,
}

#[derive(Clone, PartialEq, Eq)]
struct OrderedId(ClientId);

impl Ord for OrderedId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.as_str().cmp(other.0.as_str())
    }
}

impl PartialOrd for OrderedId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self { shared: Arc::default(), clock: Arc::new(SystemClock) }
    }
}

/// The changes by number, and when each may be removed. A number is never used twice.
#[derive(Default)]
struct Feed {
    entries: BTreeMap<u64, (Change, UnixTime)>,
    last: u64,
    /// The revocations among the changes, so that equal ones are stored once.
    revoked: HashSet<Revocation>,
    /// The number of the latest change of each client. It replaces the earlier ones.
    latest: HashMap<ClientId, u64>,
    /// The numbers of the revocations, sorted by when each may be removed.
    revoked_by_end: BTreeSet<(UnixTime, u64)>,
    /// The numbers of the changes of clients, sorted by when each may be removed.
    clients_by_end: BTreeSet<(UnixTime, u64)>,
}

/// The maximum number of expired entries that are removed while others wait for the lock.
const PURGED_AT_ONCE: usize = 1_000;

impl Feed {
    /// The maximum number of changes that one call returns.
    const PAGE: usize = 10_000;

    fn revoke(&mut self, revocation: Revocation, now: UnixTime) -> Result<(), StoreError> {
        if self.revoked.contains(&revocation) {
            return Ok(());
        }
        if self.revoked.len() >= MAX_ENTRIES {
            self.purge_some(now);
        }
        if self.revoked.len() >= MAX_ENTRIES {
            return Err(StoreError::new("the store is full: it holds 1,000,000 revocations that have not expired"));
        }
        let expires_at = UnixTime::from_secs(revocation.expires_at());
        let expires_at =
            expires_at.ok_or_else(|| StoreError::new("invalid revocation: `expires_at` is out of range"))?;
        self.revoked.insert(revocation.clone());
        self.push(Change::Revoked(revocation), expires_at);
        self.revoked_by_end.insert((expires_at, self.last));
        Ok(())
    }

    fn client_changed(&mut self, client: &ClientId, now: UnixTime) {
        // Without a reader of the feed, no one calls `purge`. Two are removed for each that is added.
        self.purge_clients(now, 2);
        let forget_at = now.after(CLIENT_CHANGE_RETENTION);
        self.push(Change::Client(client.clone()), forget_at);
        self.clients_by_end.insert((forget_at, self.last));
        if let Some(former) = self.latest.insert(client.clone(), self.last)
            && let Some((_, forget_at)) = self.entries.remove(&former)
        {
            self.clients_by_end.remove(&(forget_at, former));
        }
    }

    fn push(&mut self, change: Change, forget_at: UnixTime) {
        self.last += 1;
        self.entries.insert(self.last, (change, forget_at));
    }

    fn since(&self, cursor: &Cursor) -> Result<Changes, StoreError> {
        let seen = match cursor.as_str() {
            "" => 0,
            place => place.parse::<u64>().map_err(StoreError::new)?,
        };
        let mut rest = self.entries.range((Bound::Excluded(seen), Bound::Unbounded));
        let page: Vec<_> = rest.by_ref().take(Self::PAGE).collect();
        let last = page.last().map_or(seen, |(number, _)| **number);
        let changes = page.into_iter().map(|(_, (change, _))| change.clone()).collect();
        Ok(Changes::new(changes, Cursor::new(last.to_string())).more(rest.next().is_some()))
    }

    /// Removes at most [`PURGED_AT_ONCE`] expired entries, and returns how many.
    fn purge_some(&mut self, now: UnixTime) -> usize {
        let revoked = self.purge_revoked(now, PURGED_AT_ONCE);
        revoked + self.purge_clients(now, PURGED_AT_ONCE - revoked)
    }

    fn purge_revoked(&mut self, now: UnixTime, most: usize) -> usize {
        let numbers = expired(&mut self.revoked_by_end, now, most);
        for number in &numbers {
            if let Some((Change::Revoked(revocation), _)) = self.entries.remove(number) {
                self.revoked.remove(&revocation);
            }
        }
        numbers.len()
    }

    /// Removes expired changes of clients only. Revocations are left to a purge, whose caller has a reliable clock.
    fn purge_clients(&mut self, now: UnixTime, most: usize) -> usize {
        let numbers = expired(&mut self.clients_by_end, now, most);
        for number in &numbers {
            if let Some((Change::Client(client), _)) = self.entries.remove(number) {
                self.latest.remove(&client);
            }
        }
        numbers.len()
    }
}

/// Removes the entries that have expired first, and returns them.
fn expired<T: Copy + Ord>(by_end: &mut BTreeSet<(UnixTime, T)>, now: UnixTime, most: usize) -> Vec<T> {
    let next = || by_end.first().is_some_and(|(end, _)| *end <= now).then(|| by_end.pop_first()).flatten();
    std::iter::from_fn(next).take(most).map(|(_, entry)| entry).collect()
}

/// The used credentials, and when each may be removed.
#[derive(Default)]
struct Replays {
    seen: HashMap<ReplayId, UnixTime>,
    by_end: BTreeSet<(UnixTime, ReplayId)>,
}

impl Replays {
    fn check_and_insert(&mut self, id: ReplayId, expires_at: UnixTime, now: UnixTime) -> Result<Replay, StoreError> {
        for expired in expired(&mut self.by_end, now, PURGED_AT_ONCE) {
            self.seen.remove(&expired);
        }
        match self.seen.get(&id).copied() {
            Some(end) if end > now => return Ok(Replay::Seen),
            // More have expired than were removed.
            Some(end) => drop(self.by_end.remove(&(end, id))),
            None if self.seen.len() >= MAX_ENTRIES => {
                return Err(StoreError::new(
                    "the store is full: it holds 1,000,000 used credentials that have not expired",
                ));
            }
            None => {}
        }
        self.seen.insert(id, expires_at);
        self.by_end.insert((expires_at, id));
        Ok(Replay::Fresh)
    }
}

impl Clients {
    fn insert(&mut self, client: Arc<RegisteredClient>) {
        self.revisions += 1;
        let id = client.id().clone();
        self.order.insert(OrderedId(id.clone()));
        self.found.insert(id, (client, self.revisions));
    }

    fn remove(&mut self, id: &ClientId) {
        self.found.remove(id);
        self.order.remove(&OrderedId(id.clone()));
    }

    /// Returns the given clients that are new or changed, and the ids of current clients that are not among the given ones.
    #[cfg(feature = "file")]
    fn difference<'a>(&self, clients: &'a [Arc<RegisteredClient>]) -> (Vec<&'a Arc<RegisteredClient>>, Vec<ClientId>) {
        let ids: HashSet<&ClientId> = clients.iter().map(|client| client.id()).collect();
        let is_same = |client: &Arc<RegisteredClient>| {
            self.found.get(client.id()).is_some_and(|(own, _)| Arc::ptr_eq(own, client) || own == client)
        };
        let changed = clients.iter().filter(|client| !is_same(client)).collect();
        (changed, self.found.keys().filter(|id| !ids.contains(id)).cloned().collect())
    }

    fn check(&self, client: &RegisteredClient) -> Result<(), ClientError> {
        self.rules.as_ref().map_or(Ok(()), |rules| rules.check(client))
    }

    fn revision(&self, id: &ClientId) -> Option<Revision> {
        self.found.get(id).map(|(_, revision)| Revision::new(*revision))
    }
}

impl MemoryStore {
    /// Sets the clock that dates the revocations of disabled clients. The default is the clock of the operating system.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Checks the clients against the rules of a server, now and at each later change. Building a server from the store calls
    /// this. Call it yourself if the server has a store of your own that reads this one.
    ///
    /// # Errors
    ///
    /// Returns the error of an invalid client. The earlier rules then stay in force.
    pub fn enforce(&self, rules: &ClientRules) -> Result<(), ClientError> {
        let mut clients = Self::write(&self.shared.clients);
        clients.found.values().try_for_each(|(client, _)| rules.check(client))?;
        clients.rules = Some(rules.clone());
        Ok(())
    }

    #[cfg(feature = "file")]
    pub(super) fn rules(&self) -> Option<ClientRules> {
        Self::read(&self.shared.clients).rules.clone()
    }

    fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
        lock.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
        lock.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces all clients, for a store that keeps them elsewhere, and returns the resulting revocations. No other call may
    /// change clients at the same time.
    #[cfg(feature = "file")]
    pub(super) fn replace_all(&self, clients: &[Arc<RegisteredClient>]) -> Result<Vec<Revocation>, StoreError> {
        // Compared before the write lock is taken, so that lookups wait only in proportion to the size of the change.
        let (changed, gone) = Self::read(&self.shared.clients).difference(clients);
        let revoked = self.former(&changed, &gone);
        if changed.is_empty() && gone.is_empty() {
            return Ok(revoked);
        }
        let mut own = Self::write(&self.shared.clients);
        changed.iter().try_for_each(|client| self.record_change(client.id(), !client.is_enabled()))?;
        gone.iter().try_for_each(|id| self.record_change(id, true))?;
        for id in &gone {
            own.remove(id);
        }
        for client in changed {
            own.insert(client.clone());
        }
        Ok(revoked)
    }

    /// Returns the revocations that [`Self::replace_all`] would add.
    #[cfg(feature = "file")]
    pub(super) fn revoked_by(&self, clients: &[Arc<RegisteredClient>]) -> Vec<Revocation> {
        let (changed, gone) = Self::read(&self.shared.clients).difference(clients);
        self.former(&changed, &gone)
    }

    #[cfg(feature = "file")]
    fn former(&self, changed: &[&Arc<RegisteredClient>], gone: &[ClientId]) -> Vec<Revocation> {
        let now = self.clock.now();
        let disabled = changed.iter().filter(|client| !client.is_enabled()).map(|client| client.id());
        let former = disabled.chain(gone).cloned();
        former.map(|id| Revocation::former_client(id, now, self.longest_token_lifetime())).collect()
    }

    #[cfg(feature = "file")]
    pub(super) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    #[cfg(feature = "file")]
    pub(super) fn has_enabled(&self, id: &ClientId) -> bool {
        Self::read(&self.shared.clients).found.get(id).is_some_and(|(client, _)| client.is_enabled())
    }

    #[cfg(feature = "file")]
    pub(super) fn revision(&self, id: &ClientId) -> Option<Revision> {
        Self::read(&self.shared.clients).revision(id)
    }

    pub(super) fn revoke_now(&self, revocation: Revocation) -> Result<(), StoreError> {
        Self::write(&self.shared.feed).revoke(revocation, UnixTime::now(&*self.clock))?;
        self.shared.changed.notify_waiters();
        Ok(())
    }

    fn apply_now(&self, change: ClientChange) -> Result<(), AdminError> {
        let mut clients = Self::write(&self.shared.clients);
        let (write, entries) = change.into_parts(self.clock.now(), self.longest_token_lifetime());
        match write {
            ClientWrite::Create(client) => {
                if clients.found.contains_key(client.id()) {
                    return Err(AdminError::Exists);
                }
                clients.check(&client)?;
                self.record(entries)?;
                clients.insert(Arc::new(client));
            }
            ClientWrite::Replace(client, revision) => {
                if clients.revision(client.id()).ok_or(AdminError::NotFound)? != revision {
                    return Err(AdminError::Conflict);
                }
                clients.check(&client)?;
                self.record(entries)?;
                clients.insert(Arc::new(client));
            }
            ClientWrite::Delete(id) => {
                if !clients.found.contains_key(&id) {
                    return Err(AdminError::NotFound);
                }
                self.record(entries)?;
                clients.remove(&id);
            }
        }
        Ok(())
    }

    #[cfg(feature = "file")]
    fn record_change(&self, client: &ClientId, is_former: bool) -> Result<(), StoreError> {
        self.record(FeedEntry::of_client(client, is_former, self.clock.now(), self.longest_token_lifetime()))
    }

    /// Called with the lock on the clients held, so that no one sees the change before it is in the feed.
    fn record(&self, entries: Vec<FeedEntry>) -> Result<(), StoreError> {
        let now = UnixTime::now(&*self.clock);
        let mut feed = Self::write(&self.shared.feed);
        for FeedEntry { change, .. } in entries {
            match change {
                Change::Revoked(revocation) => feed.revoke(revocation, now)?,
                Change::Client(client) => feed.client_changed(&client, now),
            }
        }
        drop(feed);
        self.shared.changed.notify_waiters();
        Ok(())
    }
}

/// Registers the clients, for example those of a configuration file.
///
/// # Errors
///
/// Returns the first error of a client: an invalid setting, or an id that another client has.
impl TryFrom<Vec<Client>> for MemoryStore {
    type Error = ClientError;

    fn try_from(clients: Vec<Client>) -> Result<Self, ClientError> {
        let mut registered = Clients::default();
        for client in clients {
            let client = client.register()?;
            if registered.found.contains_key(client.id()) {
                return Err(ClientError::new(client.id(), "its id is registered twice; give each client its own id"));
            }
            registered.insert(Arc::new(client));
        }
        let shared = Shared { clients: RwLock::new(registered), ..Shared::default() };
        Ok(Self { shared: Arc::new(shared), ..Self::default() })
    }
}

/// Registers the clients. See the implementation for `Vec<Client>`.
impl<const N: usize> TryFrom<[Client; N]> for MemoryStore {
    type Error = ClientError;

    fn try_from(clients: [Client; N]) -> Result<Self, ClientError> {
        Self::try_from(Vec::from(clients))
    }
}

impl ClientStore for MemoryStore {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        let clients = Self::read(&self.shared.clients);
        StoreFuture::ready(Ok(clients.found.get(id).map(|(client, _)| {
            client.read_ahead();
            client.clone()
        })))
    }

    fn in_memory(&self) -> Option<&MemoryStore> {
        Some(self)
    }
}

impl ClientAdmin for MemoryStore {
    fn apply(&self, change: ClientChange) -> StoreFuture<'_, (), AdminError> {
        StoreFuture::ready(self.apply_now(change))
    }

    fn load<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<(Arc<RegisteredClient>, Revision)>> {
        let clients = Self::read(&self.shared.clients);
        let found = clients.found.get(id);
        StoreFuture::ready(Ok(found.map(|(client, revision)| (client.clone(), Revision::new(*revision)))))
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<Arc<RegisteredClient>>> {
        let clients = Self::read(&self.shared.clients);
        let start = after.map_or(Bound::Unbounded, |id| Bound::Excluded(OrderedId(id.clone())));
        let page = clients.order.range((start, Bound::Unbounded)).take(limit.get());
        let page = page.filter_map(|OrderedId(id)| clients.found.get(id)).map(|(client, _)| client.clone());
        StoreFuture::ready(Ok(page.collect()))
    }
}

impl ChangeFeed for MemoryStore {
    fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes> {
        StoreFuture::ready(Self::read(&self.shared.feed).since(cursor))
    }

    fn changed(&self) -> DynFuture<'_, ()> {
        DynFuture::new(async move {
            self.shared.changed.notified().await;
        })
    }
}

impl RevocationStore for MemoryStore {
    fn revoke(&self, revocation: Revocation) -> StoreFuture<'_, ()> {
        StoreFuture::ready(self.revoke_now(revocation))
    }

    fn purge(&self, now: SystemTime) -> StoreFuture<'_, u64> {
        StoreFuture::new(async move {
            let mut purged = 0;
            loop {
                let some = Self::write(&self.shared.feed).purge_some(UnixTime::at(now));
                purged += some as u64;
                if some < PURGED_AT_ONCE {
                    return Ok(purged);
                }
                // Requests that need the store run between two parts.
                tokio::task::yield_now().await;
            }
        })
    }
}

impl ReplayLog for MemoryStore {
    fn check_and_insert<'a>(
        &'a self,
        id: &'a ReplayId,
        expires_at: SystemTime,
        now: SystemTime,
    ) -> StoreFuture<'a, Replay> {
        let (expires_at, now) = (UnixTime::at(expires_at), UnixTime::at(now));
        StoreFuture::ready(Self::write(&self.shared.replays).check_and_insert(*id, expires_at, now))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients = Self::read(&self.shared.clients).found.len();
        f.debug_struct("MemoryStore").field("clients", &clients).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{MAX_ENTRIES, MemoryStore, PURGED_AT_ONCE, Replays};
    use crate::client_id::ClientId;
    use crate::clock::{ManualClock, UnixTime};
    use crate::registration::Client;
    use crate::secret::ClientSecret;
    use crate::store::{
        Change, ChangeFeed, ClientAdmin as _, Cursor, Replay, ReplayId, Revocation, RevocationStore as _,
    };

    const NOW: SystemTime = UNIX_EPOCH;
    const BILLING: ClientId = ClientId::from_static("billing");

    async fn reported(store: &MemoryStore, cursor: &Cursor) -> (Vec<Change>, Cursor) {
        let changes = store.changes(cursor).await.unwrap();
        (changes.changes, changes.cursor)
    }

    /// Returns the numbers of all changes, of revocations, and of clients in the feed.
    fn lengths(store: &MemoryStore) -> (usize, usize, usize) {
        let feed = MemoryStore::read(&store.shared.feed);
        (feed.entries.len(), feed.revoked.len(), feed.latest.len())
    }

    #[test]
    fn a_full_replay_log_refuses_a_new_credential_until_another_has_expired() {
        let id = |number: usize| ReplayId::new("issuer", &number.to_string());
        let second = |seconds| UnixTime::from_secs(seconds).unwrap();
        let seen = (1..MAX_ENTRIES).map(|number| (id(number), second(60))).collect();
        let mut replays = Replays { seen, ..Replays::default() };
        assert_eq!(replays.check_and_insert(id(0), second(60), second(0)).unwrap(), Replay::Fresh);
        let late = id(MAX_ENTRIES);
        for now in [0, 59] {
            replays.check_and_insert(late, second(90), second(now)).unwrap_err();
            assert_eq!(replays.check_and_insert(id(0), second(90), second(now)).unwrap(), Replay::Seen);
        }
        assert_eq!(replays.check_and_insert(late, second(90), second(60)).unwrap(), Replay::Fresh);
    }

    #[test]
    fn expired_credentials_are_removed_in_parts_and_count_no_more_at_once() {
        let id = |number: usize| ReplayId::new("issuer", &number.to_string());
        let second = |seconds| UnixTime::from_secs(seconds).unwrap();
        let mut replays = Replays::default();
        let count = 2 * PURGED_AT_ONCE + 500;
        for number in 0..count {
            assert_eq!(replays.check_and_insert(id(number), second(60), second(0)).unwrap(), Replay::Fresh);
        }
        for left in [count - PURGED_AT_ONCE, 500] {
            let (_, last) = replays.by_end.iter().rfind(|(end, _)| *end == second(60)).copied().unwrap();
            assert_eq!(replays.check_and_insert(last, second(90), second(60)).unwrap(), Replay::Fresh);
            assert_eq!((replays.seen.len(), replays.by_end.len()), (left, left), "one of them is recorded again");
            assert_eq!(replays.check_and_insert(last, second(91), second(0)).unwrap(), Replay::Seen);
        }
    }

    #[tokio::test]
    async fn a_purge_removes_everything_that_has_expired_but_only_a_part_at_once() {
        let store = MemoryStore::default().clock(ManualClock::at(NOW));
        let ends = |seconds| NOW + Duration::from_secs(seconds);
        for number in 0..2_500 {
            store.revoke(Revocation::token(format!("t{number}"), BILLING, NOW, ends(60))).await.unwrap();
        }
        store.revoke(Revocation::token("kept", BILLING, NOW, ends(10_000))).await.unwrap();
        let late = UnixTime::at(ends(5_000));
        assert_eq!(MemoryStore::write(&store.shared.feed).purge_some(late), PURGED_AT_ONCE);
        assert_eq!(lengths(&store), (1_501, 1_501, 0));
        assert_eq!(store.purge(ends(5_000)).await.unwrap(), 1_500);
        assert_eq!(lengths(&store), (1, 1, 0));
        assert_eq!(store.purge(ends(5_000)).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn an_equal_revocation_is_stored_once_and_reported_to_every_reader() {
        let store = MemoryStore::default().clock(ManualClock::at(NOW));
        let revocation = Revocation::token("t", BILLING, NOW, NOW + Duration::from_secs(600));
        let change = Change::Revoked(revocation.clone());
        for _ in 0..3 {
            store.revoke(revocation.clone()).await.unwrap();
        }
        let (changes, cursor) = reported(&store, &Cursor::start()).await;
        assert_eq!(changes, std::slice::from_ref(&change));
        assert_eq!(store.purge(NOW + Duration::from_secs(901)).await.unwrap(), 1);
        store.revoke(revocation).await.unwrap();
        assert_eq!(reported(&store, &cursor).await.0, [change], "a purged revocation can be added again");
    }

    #[tokio::test]
    async fn only_the_latest_change_of_a_client_is_kept_and_it_uses_no_revocation_slot() {
        let store = MemoryStore::try_from([Client::new(BILLING.as_str(), ClientSecret::generate().unwrap())]).unwrap();
        let store = store.clock(ManualClock::at(NOW));
        let mut cursor = Cursor::start();
        for _ in 0..3 {
            let (client, revision) = store.load(&BILLING).await.unwrap().unwrap();
            store.replace((*client).clone(), revision).await.unwrap();
            let (changes, next) = reported(&store, &cursor).await;
            assert_eq!(changes, [Change::Client(BILLING)], "each change is reported to a reader");
            cursor = next;
        }
        assert_eq!(reported(&store, &Cursor::start()).await.0, [Change::Client(BILLING)]);
        assert_eq!(lengths(&store), (1, 0, 1));
        store.purge(NOW + Duration::from_secs(601)).await.unwrap();
        assert_eq!(lengths(&store), (0, 0, 0));
    }
}
