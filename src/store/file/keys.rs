//! [`FileKeyStore`]: rings of keys in a file, for the processes of one host.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::turns::Turns;
use super::write::{Lock, replace};
use crate::clock::{Clock, SystemClock, later, unix_millis};
use crate::keys::rotation::{KeyStore, KeyStoreError, KeyStoreFuture, Replica, StoredRing};

/// Keeps rings of keys in a JSON file (feature `file`), for one process or for several of one host. Private keys in it are
/// encrypted. Clones are the same store.
///
/// 1. A change replaces the file in one atomic step, and is on the disk before it counts.
/// 2. A writer holds the operating system's lock on `NAME.lock`, a file that is never removed.
///
/// The folder must exist and be writable. For several hosts use a database: locks on network file systems are not reliable.
#[derive(Clone, Debug)]
pub struct FileKeyStore {
    path: Arc<Path>,
    clock: Arc<dyn Clock>,
    /// A disk that hangs keeps one thread, however often the ring is polled.
    turns: Turns,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Content {
    rings: BTreeMap<String, Ring>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Ring {
    version: u64,
    document: String,
    /// By name: the version, the end of the lease in milliseconds since 1970, and the proof.
    replicas: BTreeMap<String, (u64, u64, String)>,
}

/// How long a call waits while another process writes.
const LOCKING: Duration = Duration::from_secs(1);

impl FileKeyStore {
    /// Creates the store. The file is created at the first write.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into().into(), clock: Arc::new(SystemClock), turns: Turns::default() }
    }

    /// Sets the clock of the store. The default is the clock of the operating system.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> Result<T, KeyStoreError> {
        let store = self.clone();
        let done = self.turns.run(move || {
            work(&store).map_err(|error| KeyStoreError::new(format!("{}: {error}", store.path.display())))
        });
        done.await.map_err(KeyStoreError::new)?
    }

    fn read(&self) -> io::Result<Content> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Content::default()),
            Err(error) => Err(error),
        }
    }

    /// Changes the file, unless `change` returns `false`.
    fn change(&self, ring: &str, change: impl FnOnce(&mut Ring, SystemTime) -> bool) -> io::Result<bool> {
        let _lock = Lock::take(&self.path, LOCKING)?;
        let mut content = self.read()?;
        let changed = change(content.rings.entry(ring.to_owned()).or_default(), self.clock.now());
        if changed {
            let bytes = serde_json::to_vec(&content).map_err(io::Error::other)?;
            replace(&self.path, &bytes, || Ok(()))?;
        }
        Ok(changed)
    }
}

impl KeyStore for FileKeyStore {
    fn load_ring<'a>(&'a self, ring: &'a str) -> KeyStoreFuture<'a, StoredRing> {
        let ring = ring.to_owned();
        Box::pin(self.run(move |store| {
            let (mut content, now) = (store.read()?, store.clock.now());
            let Ring { version, document, replicas } = content.rings.remove(&ring).unwrap_or_default();
            let live = replicas.into_iter().filter(|(_, (_, end, _))| *end > unix_millis(now));
            let replicas = live.map(|(name, (version, _, proof))| Replica { name, version, proof }).collect();
            Ok(StoredRing { version, document, replicas, now })
        }))
    }

    fn save_ring<'a>(&'a self, ring: &'a str, over: u64, version: u64, document: &'a str) -> KeyStoreFuture<'a, bool> {
        let (ring, document) = (ring.to_owned(), document.to_owned());
        Box::pin(self.run(move |store| {
            store.change(&ring, |stored, _| {
                let is_latest = stored.version == over;
                if is_latest {
                    (stored.version, stored.document) = (version, document);
                }
                is_latest
            })
        }))
    }

    fn renew_lease<'a>(&'a self, ring: &'a str, replica: &'a Replica, lease: Duration) -> KeyStoreFuture<'a, ()> {
        let (ring, replica) = (ring.to_owned(), replica.clone());
        Box::pin(async move {
            let renewed = self.run(move |store| {
                store.change(&ring, |stored, now| {
                    stored.replicas.retain(|_, (_, end, _)| *end > unix_millis(now));
                    let end = unix_millis(later(now, lease));
                    stored.replicas.insert(replica.name, (replica.version, end, replica.proof));
                    true
                })
            });
            renewed.await.map(drop)
        })
    }
}
