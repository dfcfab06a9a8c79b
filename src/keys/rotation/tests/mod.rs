//! Replicas that share a ring, with an injected clock and simulated time.

mod acceptance;
mod earlier_acceptance;
mod followers;
mod key_kinds;
mod settings;
mod steps;
mod tampering;

use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::{
    KeyEncryptionKey, KeyManager, KeyManagerBuilder, KeyRingError, KeyState, KeyStore, KeyStoreError, KeyStoreFuture,
    MemoryKeyStore, Replica, RingStatus, StoredRing,
};
use crate::clock::{Clock as _, ManualClock};
use crate::event::{self, Outcome};
use crate::keys::{Algorithm, SignError, SignFuture, Signer, SignerLimits, SigningKey, TrustLevel, VerifyingKey};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3_600);

fn by(first: u8) -> KeyEncryptionKey {
    KeyEncryptionKey::from_bytes((first..first + 32).collect::<Vec<u8>>()).unwrap()
}

/// A store whose connection can fail.
#[derive(Clone, Debug)]
struct Link {
    store: MemoryKeyStore,
    is_cut: Arc<AtomicBool>,
    panics: Arc<AtomicBool>,
    /// Whether the store reads and does not answer.
    stalls: Arc<AtomicBool>,
    /// A clock that stands still for half a minute at each look, as that of a machine that is suspended again and again.
    suspended: Arc<Mutex<Option<ManualClock>>>,
    saves: Arc<AtomicUsize>,
    refused_save: Arc<Mutex<Option<RefusedSave>>>,
}

/// How a store does not save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RefusedSave {
    Fails,
    Conflicts,
}

impl Link {
    fn to(store: &MemoryKeyStore) -> Self {
        Self {
            store: store.clone(),
            is_cut: Arc::default(),
            panics: Arc::default(),
            stalls: Arc::default(),
            suspended: Arc::default(),
            saves: Arc::default(),
            refused_save: Arc::default(),
        }
    }

    fn check(&self) -> Result<(), KeyStoreError> {
        assert!(!self.panics.load(Ordering::SeqCst), "a mistake in a store");
        if self.is_cut.load(Ordering::SeqCst) { Err(KeyStoreError::new("cut off")) } else { Ok(()) }
    }
}

impl KeyStore for Link {
    fn load_ring<'a>(&'a self, ring: &'a str) -> KeyStoreFuture<'a, StoredRing> {
        Box::pin(async move {
            self.check()?;
            if self.stalls.load(Ordering::SeqCst) {
                pending::<()>().await;
            }
            let suspended = self.suspended.lock().unwrap().clone();
            if let Some(clock) = suspended {
                sleep(Duration::from_millis(1)).await;
                clock.advance(30 * SECOND);
            }
            self.store.load_ring(ring).await
        })
    }

    fn save_ring<'a>(&'a self, ring: &'a str, over: u64, version: u64, document: &'a str) -> KeyStoreFuture<'a, bool> {
        Box::pin(async move {
            self.check()?;
            match *self.refused_save.lock().unwrap() {
                None => {}
                Some(RefusedSave::Fails) => return Err(KeyStoreError::new("the disk is full")),
                Some(RefusedSave::Conflicts) => return Ok(false),
            }
            let saved = self.store.save_ring(ring, over, version, document).await?;
            self.saves.fetch_add(saved.into(), Ordering::SeqCst);
            Ok(saved)
        })
    }

    fn renew_lease<'a>(&'a self, ring: &'a str, replica: &'a Replica, lease: Duration) -> KeyStoreFuture<'a, ()> {
        Box::pin(async move {
            self.check()?;
            self.store.renew_lease(ring, replica, lease).await
        })
    }
}

/// A store with its clock, which all replicas have as their wall clock, too.
struct Site {
    clock: ManualClock,
    store: MemoryKeyStore,
}

impl Site {
    fn new() -> Self {
        let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        Self { store: MemoryKeyStore::default().clock(clock.clone()), clock }
    }

    /// Waits of 5 minutes and a minute for publication; of a day, 18 seconds and a minute for removal.
    fn builder(&self, link: &Link) -> KeyManagerBuilder {
        self.builder_with(link, by(1))
    }

    fn builder_with(&self, link: &Link, by: KeyEncryptionKey) -> KeyManagerBuilder {
        KeyManager::builder(link.clone(), by).clock(self.clock.clone())
    }

    async fn replica(&self) -> KeyManager {
        self.builder(&Link::to(&self.store)).connect().await.unwrap()
    }

    /// Lets simulated time pass for the store and the tasks of the replicas alike.
    async fn pass(&self, time: Duration) {
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(SECOND);
            self.clock.advance(step);
            sleep(step).await;
            left -= step;
        }
    }

    /// Lets more time pass than tasks can poll through, with a look of each replica at its end.
    async fn jump(&self, time: Duration, replicas: &[&KeyManager]) {
        self.clock.advance(time);
        self.look(replicas).await;
    }

    /// Each replica looks twice: the first look may take a step, the second shows it to all.
    async fn look(&self, replicas: &[&KeyManager]) {
        for _ in 0..2 {
            for replica in replicas {
                replica.refresh().await.unwrap();
            }
        }
    }
}

fn states(manager: &KeyManager) -> Vec<KeyState> {
    manager.status().keys.iter().map(|key| key.state).collect()
}

fn signing(manager: &KeyManager) -> String {
    manager.status().signing().unwrap().key_id.clone()
}

fn next(status: &RingStatus) -> String {
    status.keys.iter().find(|key| key.state == KeyState::Published).unwrap().key_id.clone()
}
