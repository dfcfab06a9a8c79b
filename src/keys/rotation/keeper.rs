//! [`Keeper`]: what a replica has of a ring, and the task that follows the store.

use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::KeyRingError;
use super::document::{Opened, PrivateKeys};
use super::history::{Rank, random_text};
use super::lifecycle::{KeyState, RingState, Step};
use super::peers::{self, Loaded};
use super::settings::Settings;
use super::status::RingStatus;
use super::store::{KeyStoreError, Replica};
use crate::clock::Moment;
use crate::crypto::sha256;
use crate::deadline::within;
use crate::keys::ring::WeakKeyRing;
use crate::keys::{KeyError, KeyRing, KeySnapshot, Lease, NoSigningKey, SharedKeys};
use crate::sync::{AbortOnDrop, lock};

/// What the background task and the operator's calls share.
pub(super) struct Keeper {
    pub(super) settings: Settings,
    pub(super) replica: String,
    pub(super) lease: Arc<Lease>,
    pub(super) ring: WeakKeyRing,
    /// What this process has of the ring. Held during a whole exchange with the store, so that exchanges do not overlap.
    pub(super) local: tokio::sync::Mutex<Local>,
    pub(super) status: Mutex<RingStatus>,
    /// How many looks at the store in a row failed.
    pub(super) failures: AtomicU32,
    pub(super) task: OnceLock<AbortHandle>,
    /// Whether the task that follows the store has ended. Held while the ring is replaced, so that nothing is published after the end.
    pub(super) has_ended: Mutex<bool>,
}

#[derive(Default)]
pub(super) struct Local {
    pub(super) applied: Option<Applied>,
    /// The version in the last renewal of the lease.
    pub(super) reported: u64,
    /// The last reason why the stored ring was refused, so that it is reported once.
    pub(super) refused: Option<String>,
    /// The reason why the stored ring is not that of this replica now: it cannot be read, was altered, or lacks changes.
    pub(super) not_applied: Option<NotApplied>,
    /// The reason why the ring of this replica, which is the stored one, lacks changes of another live replica.
    pub(super) contested: Option<String>,
    /// When the lease in the store was last renewed.
    pub(super) announced: Option<Moment>,
    /// The rank of the ring in the store, as far as it is authentic.
    pub(super) stored: Rank,
    /// The replica whose lease is not authentic, so that it is reported once.
    pub(super) unauthentic: Option<String>,
    pub(super) phase: Phase,
}

/// A stored ring that is not that of this replica.
pub(super) struct NotApplied {
    pub(super) reason: String,
    /// Its digest, so that it is not read again and again.
    pub(super) digest: [u8; 32],
    pub(super) rank: Rank,
    /// Whether it lacks changes of this replica, although its version is not lower.
    pub(super) is_foreign: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// The ring is not open yet: a reason to stop is an error.
    #[default]
    Opening,
    Open,
    /// The replica has left the ring.
    Left,
}

impl Local {
    /// Returns whether the ring of this replica was read from the stored document.
    pub(super) fn has_stored(&self, loaded: &Loaded) -> bool {
        let (stored, digest) = (&loaded.stored, sha256(loaded.stored.document.as_bytes()));
        self.applied.as_ref().is_some_and(|own| own.digest == digest && own.state.version == stored.version)
    }

    /// Returns whether live replicas have rings of which neither has all changes.
    pub(super) fn is_divided(&self) -> bool {
        self.contested.is_some() || self.not_applied.as_ref().is_some_and(|ring| ring.is_foreign)
    }
}

pub(super) struct Applied {
    pub(super) state: RingState,
    pub(super) private: PrivateKeys,
    pub(super) digest: [u8; 32],
    pub(super) problems: Vec<String>,
    /// The name of the key-encryption key of the stored ring.
    pub(super) encrypted_by: String,
    /// Steps that the stored ring does not have yet: distrusts that were lost.
    pub(super) unsaved: Vec<Step>,
}

impl Applied {
    /// Returns whether this is all of the stored version, while the stored document was altered.
    pub(super) fn is_whole_copy_of(&self, opened: &Opened) -> bool {
        self.problems.is_empty() && !opened.problems.is_empty() && self.state.head() == opened.state.head()
    }

    /// Drops private keys that never sign again. Keys behind signers have no private half here.
    pub(super) fn drop_unused_private_keys(&mut self) {
        let may_sign = |state| matches!(state, KeyState::Published | KeyState::Signing);
        let (private, ring) = (&mut self.private, &self.state);
        private.retain(|key_id, _| ring.entry(key_id).is_some_and(|entry| may_sign(entry.state)));
    }
}

/// Stops the use of the ring when the background task ends although the ring is still used: its runtime ended, or the store
/// panicked. Without the task, a key that another replica distrusts would stay in use.
struct CutOffOnDrop(Arc<Keeper>);

impl Drop for CutOffOnDrop {
    fn drop(&mut self) {
        let Some(ring) = self.0.ring.upgrade() else { return };
        // Not a warning: this also happens when the process ends.
        tracing::info!(
            ring = self.0.settings.name,
            "the task that follows the key ring has ended, so the ring is not used"
        );
        let mut has_ended = lock(&self.0.has_ended);
        *has_ended = true;
        ring.replace(ring.snapshot().cut_off());
    }
}

/// How often a change is tried again when other replicas are faster.
pub(super) const ATTEMPTS: usize = 20;

/// The longest time between two looks at a store that fails.
const MAX_WAIT: Duration = Duration::from_millis(400);

impl Keeper {
    /// Opens the ring, and follows it from then on.
    pub(super) async fn start(settings: Settings) -> Result<(KeyRing, Arc<Self>), KeyRingError> {
        let lease = Arc::new(Lease::new(settings.clock.clone(), settings.usable()));
        // Never served: `connect` fails unless the ring was read.
        let empty = SharedKeys {
            signing: Err(NoSigningKey("the ring was not read yet".into())),
            trusted: Vec::new(),
            next_algorithms: Vec::new(),
            distrusted: Vec::new(),
            max_age: settings.max_age,
            lease: Some(lease.clone()),
        };
        let ring = KeyRing::limited(KeySnapshot::shared(empty), Some(settings.longest_token));
        let keeper = Arc::new(Self {
            replica: random_text()?,
            settings,
            lease,
            ring: ring.downgrade(),
            local: tokio::sync::Mutex::default(),
            status: Mutex::default(),
            failures: AtomicU32::new(0),
            task: OnceLock::new(),
            has_ended: Mutex::default(),
        });
        keeper.open().await?;
        let task = tokio::spawn(keeper.clone().follow()).abort_handle();
        let _ = keeper.task.set(task.clone());
        // The task ends when the last clone of the ring is dropped.
        ring.keep(AbortOnDrop(task));
        Ok((ring, keeper))
    }

    /// Opens the ring, or creates it, unless other replicas are faster.
    pub(super) async fn open(&self) -> Result<(), KeyRingError> {
        if self.settings.accepts_stored {
            self.accept_stored().await?;
        }
        for _ in 0..ATTEMPTS {
            self.refresh().await?;
            let mut local = self.local.lock().await;
            if local.applied.is_some() {
                local.phase = Phase::Open;
                return Ok(());
            }
        }
        Err(KeyRingError::Busy)
    }

    pub(super) async fn leave(&self) -> Result<(), KeyRingError> {
        let mut local = self.local.lock().await;
        local.phase = Phase::Left;
        if let Some(task) = self.task.get() {
            task.abort();
        }
        if let Some(ring) = self.ring.upgrade() {
            ring.replace(ring.snapshot().cut_off());
        }
        let replica = self.own_lease(&local)?;
        Ok(self.call(self.settings.store.renew_lease(&self.settings.name, &replica, Duration::ZERO)).await?)
    }

    /// Returns the lease of this replica with the version that it has.
    pub(super) fn own_lease(&self, local: &Local) -> Result<Replica, KeyError> {
        let by = &self.settings.key_encryption_key;
        let known = local.applied.as_ref().map(|applied| applied.state.known()).unwrap_or_default();
        // Every replica that has the ring has the key that encrypted it.
        let encrypted_by = local.applied.as_ref().map_or(by.name(), |applied| &applied.encrypted_by);
        peers::lease(&self.settings.name, &self.replica, &known, by, encrypted_by)
    }

    /// Looks at the store again and again, until the ring is dropped.
    pub(super) async fn follow(self: Arc<Self>) {
        let _stop = CutOffOnDrop(self.clone());
        loop {
            let (interval, failures) = (self.settings.poll_interval, self.failures.load(Ordering::Relaxed));
            let wait = interval.saturating_mul(2_u32.saturating_pow(failures));
            sleep(wait.min(MAX_WAIT.max(interval))).await;
            let mut refreshing = pin!(self.refresh());
            // However long the store takes, the end of the lease is noticed in time.
            let refreshed = loop {
                match timeout(self.time_left(), refreshing.as_mut()).await {
                    Ok(refreshed) => break refreshed,
                    Err(_) => self.cut_off_when_stale(),
                }
            };
            self.note(refreshed);
            self.cut_off_when_stale();
        }
    }

    /// Logs the first of several failures in a row.
    pub(super) fn note(&self, refreshed: Result<(), KeyRingError>) {
        let Err(error) = refreshed else {
            if self.failures.swap(0, Ordering::Relaxed) > 0 {
                tracing::info!(ring = self.settings.name, "the key ring follows its store again");
            }
            return;
        };
        if self.failures.fetch_add(1, Ordering::Relaxed) == 0 {
            let source = std::error::Error::source(&error).map(tracing::field::display);
            tracing::error!(ring = self.settings.name, %error, source, "cannot follow the key ring in its store; the known keys are used until the lease ends");
        }
    }

    /// Returns the time until the ring must not be used any more, if the store does not answer.
    pub(super) fn time_left(&self) -> Duration {
        let left = self.lease.age().and_then(|age| self.settings.usable().checked_sub(age));
        left.filter(|left| !left.is_zero()).unwrap_or(MAX_WAIT)
    }

    /// Stops using the ring if the store was not reached for too long.
    pub(super) fn cut_off_when_stale(&self) {
        let Some(ring) = self.ring.upgrade() else { return };
        let keys = ring.snapshot();
        if !keys.is_cut_off() && !self.lease.is_usable() {
            tracing::error!(
                ring = self.settings.name,
                "the key store was not reached for two thirds of the lease: no token is signed or verified until it answers"
            );
            ring.replace(keys.cut_off());
        }
    }

    pub(super) async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, KeyStoreError>>,
    ) -> Result<T, KeyStoreError> {
        within(self.settings.store_timeout, call).await.map_err(KeyStoreError::new)?
    }

    pub(super) async fn refresh(&self) -> Result<(), KeyRingError> {
        let mut local = self.local.lock().await;
        let loaded = self.sync(&mut local).await?;
        self.take_due_steps(&mut local, &loaded).await
    }
}
