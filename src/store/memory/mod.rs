//! [`MemoryStore`]: state in the memory of one process.

mod clients;
mod feed;
mod replays;

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use self::clients::{Clients, OrderedId};
use self::feed::Feed;
use self::replays::Replays;
use super::{
    AdminError, Change, ChangeFeed, Changes, ClientAdmin, ClientChange, ClientStore, ClientWrite, Cursor, DynFuture,
    FeedEntry, Replay, ReplayId, ReplayLog, Revision, Revocation, RevocationStore, StoreError, StoreFuture,
};
use crate::client_id::ClientId;
use crate::clock::{Clock, SystemClock, UnixTime};
use crate::registration::{Client, ClientError, ClientRules, RegisteredClient};
use crate::timing::DEFAULT_LONGEST_TOKEN_LIFETIME;

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
    longest_token_lifetime: Duration,
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

/// The maximum number of expired entries that are removed while others wait for the lock.
const PURGED_AT_ONCE: usize = 1_000;

/// Removes the entries that have expired first, and returns them.
fn expired<T: Copy + Ord>(by_end: &mut BTreeSet<(UnixTime, T)>, now: UnixTime, most: usize) -> Vec<T> {
    let next = || by_end.first().is_some_and(|(end, _)| *end <= now).then(|| by_end.pop_first()).flatten();
    std::iter::from_fn(next).take(most).map(|(_, entry)| entry).collect()
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self {
            shared: Arc::default(),
            clock: Arc::new(SystemClock),
            longest_token_lifetime: DEFAULT_LONGEST_TOKEN_LIFETIME,
        }
    }
}

impl MemoryStore {
    #[cfg(feature = "file")]
    pub(super) fn with(clock: Arc<dyn Clock>, longest_token_lifetime: Duration) -> Self {
        Self { shared: Arc::default(), clock, longest_token_lifetime }
    }

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

    fn longest_token_lifetime(&self) -> Duration {
        self.longest_token_lifetime
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
            assert_eq!(replays.check_and_insert(last, second(190), second(120)).unwrap(), Replay::Fresh);
            assert_eq!((replays.seen.len(), replays.by_end.len()), (left, left), "one of them is recorded again");
            assert_eq!(replays.check_and_insert(last, second(191), second(0)).unwrap(), Replay::Seen);
        }
    }

    #[test]
    fn a_credential_is_not_fresh_again_after_the_clock_was_set_back_by_a_minute() {
        let id = |name| ReplayId::new("issuer", name);
        let second = |seconds| UnixTime::from_secs(seconds).unwrap();
        let mut replays = Replays::default();
        for (name, now, expected) in [
            ("a", 0, Replay::Fresh),
            // Each use of another credential removes what has expired.
            ("b", 119, Replay::Fresh),
            ("a", 59, Replay::Seen),
            ("c", 120, Replay::Fresh),
            ("a", 59, Replay::Fresh),
        ] {
            let end = if name == "a" { 60 } else { 500 };
            assert_eq!(
                replays.check_and_insert(id(name), second(end), second(now)).unwrap(),
                expected,
                "{name} at {now}"
            );
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
