//! [`MemoryStore`]: state in the memory of one process.

mod client_changes;
mod clients;
mod feed;
#[cfg(feature = "file")]
mod replacement;
mod replays;
mod revocations;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use self::clients::Clients;
use self::feed::Feed;
#[cfg(feature = "file")]
pub(super) use self::replays::Replays;
#[cfg(not(feature = "file"))]
use self::replays::Replays;
use super::{ClientStore, Replay, ReplayId, ReplayLog, StoreFuture};
use crate::client_id::ClientId;
use crate::clock::{Clock, SystemClock, UnixTime};
use crate::registration::{Client, ClientError, ClientRules, RegisteredClient, WorkloadKey};
use crate::sync::{read, write};
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
    /// this. Call it yourself if the server has a store of your own that reads from this store.
    ///
    /// # Errors
    ///
    /// Returns the error of an invalid client. The earlier rules then stay in force.
    pub fn enforce(&self, rules: &ClientRules) -> Result<(), ClientError> {
        let mut clients = write(&self.shared.clients);
        clients.found.values().try_for_each(|(client, _)| rules.check(client))?;
        clients.rules = Some(rules.clone());
        Ok(())
    }

    #[cfg(feature = "file")]
    pub(super) fn rules(&self) -> Option<ClientRules> {
        read(&self.shared.clients).rules.clone()
    }

    #[cfg(feature = "file")]
    pub(super) fn now(&self) -> SystemTime {
        self.clock.now()
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
        let clients = read(&self.shared.clients);
        StoreFuture::ready(Ok(clients.found.get(id).map(|(client, _)| {
            client.read_ahead();
            client.clone()
        })))
    }

    fn find_by_workload<'a>(&'a self, keys: &'a [WorkloadKey]) -> StoreFuture<'a, Option<Vec<ClientId>>> {
        StoreFuture::ready(Ok(Some(read(&self.shared.clients).of_workload(keys))))
    }

    fn in_memory(&self) -> Option<&MemoryStore> {
        Some(self)
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
        StoreFuture::ready(write(&self.shared.replays).check_and_insert(*id, expires_at, now))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients = read(&self.shared.clients).found.len();
        f.debug_struct("MemoryStore").field("clients", &clients).finish_non_exhaustive()
    }
}
