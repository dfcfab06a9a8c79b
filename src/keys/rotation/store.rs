//! [`KeyStore`]: keeps a ring that replicas share, and the leases of the replicas.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::clock::{Clock, SystemClock, later};
use crate::sync::{lock, through_arc};

/// The future of a call of a [`KeyStore`].
pub type KeyStoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, KeyStoreError>> + Send + 'a>>;

/// Keeps rings of keys, each under a name, and knows which replicas are alive.
///
/// The store does not read a ring: it is one document, whose private keys are encrypted and whose other contents are
/// authenticated before it gets here.
///
/// # Contract
///
/// - [`save_ring`](Self::save_ring) is atomic and durable: of several replicas that save over the same version, exactly one succeeds, and
///   what it saved survives a crash of the store.
/// - Leases end by the clock of the store, which [`StoredRing::now`] returns. Replicas use this clock for all steps of keys.
/// - A store that cannot answer returns an error. Never return an empty ring instead: a replica would create one.
/// - The future is dropped when it takes too long.
///
/// `store::conformance` (feature `test-util`) tests an implementation.
pub trait KeyStore: fmt::Debug + Send + Sync + 'static {
    /// Returns the ring with this name, and its live replicas, as they were at one time. A ring that was never saved has version 0.
    fn load_ring<'a>(&'a self, ring: &'a str) -> KeyStoreFuture<'a, StoredRing>;

    /// Saves the ring as `version`, if the version in the store is `over`, which is lower. Otherwise it changes nothing, and
    /// returns `false`.
    fn save_ring<'a>(&'a self, ring: &'a str, over: u64, version: u64, document: &'a str) -> KeyStoreFuture<'a, bool>;

    /// Records that a replica is alive for `lease` from now on, and which version it has. The record replaces its earlier one.
    fn renew_lease<'a>(&'a self, ring: &'a str, replica: &'a Replica, lease: Duration) -> KeyStoreFuture<'a, ()>;
}

through_arc!(KeyStore {
    fn load_ring<'a>(&'a self, ring: &'a str) -> KeyStoreFuture<'a, StoredRing>;
    fn save_ring<'a>(&'a self, ring: &'a str, over: u64, version: u64, document: &'a str) -> KeyStoreFuture<'a, bool>;
    fn renew_lease<'a>(&'a self, ring: &'a str, replica: &'a Replica, lease: Duration) -> KeyStoreFuture<'a, ()>;
});

/// A stored ring.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a store creates it")]
pub struct StoredRing {
    /// The version, which grows with each save. 0 if it was never saved.
    pub version: u64,
    /// The document of the last save. Empty if it was never saved.
    pub document: String,
    /// The replicas whose lease has not ended, in any order.
    pub replicas: Vec<Replica>,
    /// The time by the clock of the store.
    pub now: SystemTime,
}

/// A replica that is alive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a store creates it")]
pub struct Replica {
    /// A random name, new for each start of a process.
    pub name: String,
    /// The version of the ring that it publishes.
    pub version: u64,
    /// Authenticates the name and the version. A store does not change it: up to 256 ASCII characters without spaces.
    pub proof: String,
}

/// A key store failed, or did not answer in time.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the key store is unavailable")]
pub struct KeyStoreError(#[source] Arc<dyn Error + Send + Sync>);

impl KeyStoreError {
    /// Wraps the cause.
    #[must_use]
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(source.into().into())
    }
}

/// A [`KeyStore`] in memory, for tests and for a single process whose keys may be lost. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryKeyStore {
    rings: Arc<Mutex<HashMap<String, MemoryRing>>>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
struct MemoryRing {
    version: u64,
    document: String,
    /// With the end of the lease.
    replicas: HashMap<String, (Replica, SystemTime)>,
}

impl Default for MemoryKeyStore {
    fn default() -> Self {
        Self { rings: Arc::default(), clock: Arc::new(SystemClock) }
    }
}

impl MemoryKeyStore {
    /// Sets the clock of the store. The default is the clock of the operating system.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Replaces a stored ring by an earlier or altered one, as someone with access to the store can.
    #[cfg(any(test, feature = "test-util"))]
    pub fn overwrite(&self, ring: &str, version: u64, document: &str) {
        let mut rings = lock(&self.rings);
        let stored = rings.entry(ring.to_owned()).or_default();
        (stored.version, stored.document) = (version, document.to_owned());
    }

    /// Ends the leases of all replicas, as a restore from a backup does.
    #[cfg(test)]
    pub(super) fn forget_replicas(&self, ring: &str) {
        if let Some(stored) = lock(&self.rings).get_mut(ring) {
            stored.replicas.clear();
        }
    }
}

impl KeyStore for MemoryKeyStore {
    fn load_ring<'a>(&'a self, ring: &'a str) -> KeyStoreFuture<'a, StoredRing> {
        Box::pin(async move {
            let (mut rings, now) = (lock(&self.rings), self.clock.now());
            let stored = rings.entry(ring.to_owned()).or_default();
            stored.replicas.retain(|_, (_, end)| *end > now);
            let replicas = stored.replicas.values().map(|(replica, _)| replica.clone()).collect();
            Ok(StoredRing { version: stored.version, document: stored.document.clone(), replicas, now })
        })
    }

    fn save_ring<'a>(&'a self, ring: &'a str, over: u64, version: u64, document: &'a str) -> KeyStoreFuture<'a, bool> {
        Box::pin(async move {
            let mut rings = lock(&self.rings);
            let stored = rings.entry(ring.to_owned()).or_default();
            let is_latest = stored.version == over;
            if is_latest {
                (stored.version, stored.document) = (version, document.to_owned());
            }
            Ok(is_latest)
        })
    }

    fn renew_lease<'a>(&'a self, ring: &'a str, replica: &'a Replica, lease: Duration) -> KeyStoreFuture<'a, ()> {
        Box::pin(async move {
            let end = later(self.clock.now(), lease);
            let mut rings = lock(&self.rings);
            rings.entry(ring.to_owned()).or_default().replicas.insert(replica.name.clone(), (replica.clone(), end));
            Ok(())
        })
    }
}
