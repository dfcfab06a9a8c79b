//! [`KeyManager`]: keeps a ring in step with its store, and takes the steps that are due.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::KeyRingError;
use super::document::{self, PrivateKeys};
use super::key_encryption::KeyEncryptionKey;
use super::lifecycle::{KeyState, RingState, Step, TooEarly, millis};
use super::settings::{KeyManagerBuilder, Settings};
use super::status::{RingStatus, millis_of, time};
use super::store::{KeyStore, KeyStoreError, Replica, StoredRing};
use crate::clock::Moment;
use crate::crypto::{fill_random, sha256};
use crate::deadline::within;
use crate::event::{Event, Outcome};
use crate::keys::ring::WeakKeyRing;
use crate::keys::{
    Algorithm, KeyError, KeyRing, KeySnapshot, Lease, NoSigningKey, SharedKeys, SigningKey, VerifyingKey,
};
use crate::metrics;

/// Rotates the keys of a ring, and keeps it in step with the other replicas. Clones share it.
///
/// See the [module page](super) for the rules and an example.
#[derive(Clone)]
pub struct KeyManager {
    ring: KeyRing,
    keeper: Arc<Keeper>,
}

/// What the background task and the operator's calls share.
struct Keeper {
    settings: Settings,
    replica: String,
    lease: Arc<Lease>,
    ring: WeakKeyRing,
    /// What this process has of the ring. Held during a whole exchange with the store, so that exchanges do not overlap.
    local: tokio::sync::Mutex<Local>,
    status: Mutex<RingStatus>,
    /// How many looks at the store in a row failed.
    failures: AtomicU32,
    task: OnceLock<AbortHandle>,
}

#[derive(Default)]
struct Local {
    applied: Option<Applied>,
    /// The version in the last renewal of the lease.
    reported: u64,
    /// Whether an operator accepts the stored ring, although it is older or altered.
    accepts_stored: bool,
    /// The last reason why the stored ring was refused, so that it is reported once.
    refused: Option<String>,
    /// The reason why the stored ring cannot be read now.
    unreadable: Option<String>,
}

struct Applied {
    state: RingState,
    private: PrivateKeys,
    digest: [u8; 32],
    problems: Vec<String>,
    is_by_current: bool,
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
        ring.replace(ring.snapshot().cut_off());
    }
}

/// Ends the background task when the last clone of the ring is dropped.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How often a change is tried again when other replicas are faster.
const ATTEMPTS: usize = 20;

/// The longest time between two looks at a store that fails.
const MAX_WAIT: Duration = Duration::from_millis(400);

impl KeyManager {
    /// Returns the settings of a ring in this store.
    pub fn builder(store: impl KeyStore, key_encryption_key: KeyEncryptionKey) -> KeyManagerBuilder {
        KeyManagerBuilder::new(store, key_encryption_key)
    }

    pub(super) async fn connect(settings: Settings) -> Result<Self, KeyRingError> {
        let lease = Arc::new(Lease::new(settings.clock.clone(), settings.usable()));
        // Never served: `connect` fails unless the ring was read.
        let empty = SharedKeys {
            signing: Err(NoSigningKey("the ring was not read yet".into())),
            trusted: Vec::new(),
            next_algorithms: Vec::new(),
            max_age: settings.max_age,
            lease: Some(lease.clone()),
        };
        let ring = KeyRing::limited(KeySnapshot::shared(empty), Some(settings.longest_token));
        let keeper = Arc::new(Keeper {
            replica: random_name()?,
            settings,
            lease,
            ring: ring.downgrade(),
            local: tokio::sync::Mutex::default(),
            status: Mutex::default(),
            failures: AtomicU32::new(0),
            task: OnceLock::new(),
        });
        keeper.open().await?;
        let task = tokio::spawn(keeper.clone().follow()).abort_handle();
        let _ = keeper.task.set(task.clone());
        ring.keep(AbortOnDrop(task));
        Ok(Self { ring, keeper })
    }

    /// Returns the ring, for an [`AuthorizationServer`](crate::authorization_server::AuthorizationServer).
    #[must_use]
    pub fn ring(&self) -> KeyRing {
        self.ring.clone()
    }

    /// Returns the ring as this replica knows it.
    #[must_use]
    pub fn status(&self) -> RingStatus {
        self.keeper.status().clone()
    }

    /// Returns whether this replica can sign and verify: it reached the store recently, and has a key that signs.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let keys = self.ring.current();
        !keys.is_cut_off() && keys.signing_key().is_ok()
    }

    /// Ends the lease of this replica, so that no other replica waits for it. Call it when the process ends, after its last
    /// request: from then on, the ring answers 503.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached. The lease then ends in its time.
    pub async fn leave(&self) -> Result<(), KeyRingError> {
        self.keeper.leave().await
    }

    /// Reads the store now, and takes the steps that are due, instead of waiting for the next look.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached, or its ring is refused.
    pub async fn refresh(&self) -> Result<(), KeyRingError> {
        self.keeper.refresh().await
    }

    /// Lets the next key sign now, and returns its `kid`. The key that signed retires, and another next key is published.
    ///
    /// # Errors
    ///
    /// [`TooEarly`](KeyRingError::TooEarly) or [`NotEverywhere`](KeyRingError::NotEverywhere) if a verifier may not have the next
    /// key yet.
    pub async fn rotate(&self) -> Result<String, KeyRingError> {
        let steps = self.keeper.change(RingState::rotate_now, "").await?;
        let signs = steps.into_iter().find(|step| step.state == Some(KeyState::Signing));
        Ok(signs.map(|step| step.key_id).unwrap_or_default())
    }

    /// Rotates to keys of another algorithm, as soon as a new key of it may sign. Later keys have the algorithm, too.
    ///
    /// # Errors
    ///
    /// If keys of the algorithm cannot be generated: [publish](Self::publish) an RSA key of your own instead.
    pub async fn change_algorithm(&self, algorithm: Algorithm) -> Result<(), KeyRingError> {
        SigningKey::generate(algorithm)?;
        self.keeper.change(|state, _| Ok(state.set_algorithm(algorithm)), "").await.map(drop)
    }

    /// Publishes a key of your own, which signs after those that were published before it. A key behind a
    /// [`Signer`](crate::keys::Signer) must have been given to every replica with
    /// [`external_key`](KeyManagerBuilder::external_key).
    ///
    /// # Errors
    ///
    /// If the key cannot be stored: it is a secret for HS256.
    pub async fn publish(&self, key: SigningKey) -> Result<(), KeyRingError> {
        self.keeper.publish(Arc::new(key)).await
    }

    /// Removes a key before the schedule does.
    ///
    /// # Errors
    ///
    /// [`Signs`](KeyRingError::Signs) for the key that signs, and [`TooEarly`](KeyRingError::TooEarly) or
    /// [`NotEverywhere`](KeyRingError::NotEverywhere) while a token of it may be valid.
    pub async fn remove(&self, key_id: &str) -> Result<(), KeyRingError> {
        self.keeper.change(|state, now| state.remove(key_id, now), key_id).await.map(drop)
    }

    /// Distrusts a key that leaked. Every replica that reaches the store stops using, publishing and accepting it within a second,
    /// and another key signs at once. Its entries leave the caches of verified tokens.
    ///
    /// Remote verifiers accept the key until they fetch the key set again, at most for its `max-age`. If they do not have the
    /// replacement yet, they answer 503 or 401 for its tokens for the same time; a key that was published before is preferred.
    ///
    /// # Errors
    ///
    /// If there is no such key, or the store cannot be reached.
    pub async fn distrust(&self, key_id: &str) -> Result<(), KeyRingError> {
        self.keeper.change(|state, now| state.distrust(key_id, now), key_id).await.map(drop)
    }

    /// Encrypts the ring with the current key-encryption key, if an earlier one has encrypted it.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached.
    pub async fn reseal(&self) -> Result<(), KeyRingError> {
        self.keeper.change(|_, _| Ok(Vec::new()), "").await.map(drop)
    }

    /// Accepts the stored ring, although it was restored from an older copy or altered. Rows that are not authentic are removed.
    /// A distrust that the copy lacks must be repeated: every key that was trusted then is trusted again.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached, or the ring cannot be decrypted.
    pub async fn accept_stored(&self) -> Result<(), KeyRingError> {
        self.keeper.accept_stored().await
    }
}

impl Keeper {
    fn status(&self) -> MutexGuard<'_, RingStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the ring, or creates it, unless other replicas are faster.
    async fn open(&self) -> Result<(), KeyRingError> {
        let accepts_stored = self.settings.accepts_stored;
        self.local.lock().await.accepts_stored = accepts_stored;
        for _ in 0..ATTEMPTS {
            self.refresh().await?;
            if self.local.lock().await.applied.is_some() {
                return if accepts_stored { self.accept_stored().await } else { Ok(()) };
            }
        }
        Err(KeyRingError::Busy)
    }

    async fn leave(&self) -> Result<(), KeyRingError> {
        let local = self.local.lock().await;
        if let Some(task) = self.task.get() {
            task.abort();
        }
        if let Some(ring) = self.ring.upgrade() {
            ring.replace(ring.snapshot().cut_off());
        }
        let replica = Replica { name: self.replica.clone(), version: local.reported };
        Ok(self.call(self.settings.store.renew_lease(&self.settings.name, &replica, Duration::ZERO)).await?)
    }

    /// Looks at the store again and again, until the ring is dropped.
    async fn follow(self: Arc<Self>) {
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
    fn note(&self, refreshed: Result<(), KeyRingError>) {
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
    fn time_left(&self) -> Duration {
        let left = self.lease.age().and_then(|age| self.settings.usable().checked_sub(age));
        left.filter(|left| !left.is_zero()).unwrap_or(MAX_WAIT)
    }

    /// Stops using the ring if the store was not reached for too long.
    fn cut_off_when_stale(&self) {
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

    async fn call<T>(&self, call: impl Future<Output = Result<T, KeyStoreError>>) -> Result<T, KeyStoreError> {
        within(self.settings.store_timeout, call).await.map_err(KeyStoreError::new)?
    }

    async fn refresh(&self) -> Result<(), KeyRingError> {
        let mut local = self.local.lock().await;
        let stored = self.sync(&mut local).await?;
        self.take_due_steps(&mut local, &stored).await
    }

    /// Reads and applies the stored ring, and reports in the lease what this replica has. Afterwards it has what the store had
    /// while the lease was already there, so no step since then was taken without this replica.
    async fn sync(&self, local: &mut Local) -> Result<StoredRing, KeyRingError> {
        loop {
            let requested_at = self.lease.now();
            let stored = self.call(self.settings.store.load_ring(&self.settings.name)).await?;
            self.apply_stored(local, &stored)?;
            let was_usable = self.lease.is_usable();
            let version = local.applied.as_ref().map_or(0, |applied| applied.state.version);
            if is_behind(local, &stored) {
                // Another replica may have distrusted a key that this one still uses. Its lease ends, and then it answers 503.
                self.record_status(local, &stored);
                return Ok(stored);
            }
            // A restored store lacks this lease: until it is there again, a process that starts cannot notice the restore.
            let is_known = stored.replicas.iter().any(|replica| replica.name == self.replica);
            let is_due = !is_known || self.lease.age().is_none_or(|age| age >= self.settings.lease / 6);
            if is_due || local.reported != version {
                self.report(local, version, requested_at).await?;
            }
            if was_usable || version == 0 {
                self.leave_cut_off(local);
                self.record_status(local, &stored);
                return Ok(stored);
            }
        }
    }

    /// Renews the lease with this version.
    async fn report(&self, local: &mut Local, version: u64, requested_at: Moment) -> Result<(), KeyRingError> {
        let replica = Replica { name: self.replica.clone(), version };
        self.call(self.settings.store.renew_lease(&self.settings.name, &replica, self.settings.lease)).await?;
        local.reported = version;
        self.lease.renewed(requested_at);
        Ok(())
    }

    fn leave_cut_off(&self, local: &Local) {
        let is_cut_off = self.ring.upgrade().is_some_and(|ring| ring.current().is_cut_off());
        if let Some(applied) = local.applied.as_ref().filter(|_| is_cut_off) {
            self.publish_snapshot(applied);
        }
    }

    /// Applies the stored ring, unless it is older than that of this replica, or not readable. Then the replica keeps its ring.
    fn apply_stored(&self, local: &mut Local, stored: &StoredRing) -> Result<(), KeyRingError> {
        let applied = local.applied.as_ref();
        if let Some(reason) = why_restored(local, stored) {
            self.refused(local, &reason);
            // A replica without a ring cannot know which changes were lost.
            return if local.applied.is_some() { Ok(()) } else { Err(KeyRingError::Refused(reason)) };
        }
        let digest = sha256(stored.document.as_bytes());
        if stored.version == 0 || applied.is_some_and(|applied| applied.digest == digest) {
            // It could not be read in the meantime, and is again what it was.
            if local.unreadable.take().is_some() {
                local.refused = None;
            }
            return Ok(());
        }
        let mut private = applied.map(|applied| applied.private.clone()).unwrap_or_default();
        private.extend(self.settings.external.iter().map(|(key_id, key)| (key_id.clone(), key.clone())));
        let (name, by) = (&self.settings.name, &self.settings.key_encryption_key);
        let opened = match document::open(name, stored.version, &stored.document, by, &private) {
            Ok(opened) => opened,
            Err(error) => {
                self.refused(local, &error.to_string());
                local.unreadable = Some(error.to_string());
                return if local.applied.is_some() { Ok(()) } else { Err(error.into()) };
            }
        };
        local.unreadable = None;
        if opened.problems.is_empty() {
            local.refused = None;
        } else {
            self.refused(local, &opened.problems.join("; "));
        }
        self.apply(
            local,
            Applied {
                state: opened.state,
                private: opened.private,
                digest,
                problems: opened.problems,
                is_by_current: opened.is_by_current,
            },
        );
        Ok(())
    }

    /// Reports that the stored ring is refused or altered, once for each reason.
    fn refused(&self, local: &mut Local, reason: &str) {
        if local.refused.as_deref() == Some(reason) {
            return;
        }
        local.refused = Some(reason.to_owned());
        tracing::error!(ring = self.settings.name, reason, "the key ring in the store is refused or altered");
        metrics::key_ring_refused();
        self.send(|| Outcome::KeyRingRefused { reason: reason.to_owned() });
    }

    /// Lets servers and verifiers use a ring.
    fn apply(&self, local: &mut Local, applied: Applied) {
        let key_set = |applied: &Applied| -> Vec<(String, KeyState)> {
            applied.state.keys.iter().map(|entry| (entry.key_id().to_owned(), entry.state)).collect()
        };
        // The same keys in the same states keep the snapshot, and so the documents that were rendered of it.
        if local.applied.as_ref().is_none_or(|before| key_set(before) != key_set(&applied)) {
            self.publish_snapshot(&applied);
        }
        local.applied = Some(applied);
    }

    fn publish_snapshot(&self, applied: &Applied) {
        let Some(ring) = self.ring.upgrade() else { return };
        let state = &applied.state;
        let signing = match state.signing() {
            Some(entry) => applied.private.get(entry.key_id()).cloned().ok_or_else(|| {
                NoSigningKey(
                    format!(
                        "the key `{}` signs, and this process does not have it: give it to every replica with \
                         KeyManagerBuilder::external_key",
                        entry.key_id()
                    )
                    .into(),
                )
            }),
            None => Err(NoSigningKey("the ring has no authentic key that signs".into())),
        };
        ring.replace(KeySnapshot::shared(SharedKeys {
            signing,
            trusted: state
                .keys
                .iter()
                .filter(|entry| entry.state.is_trusted())
                .map(|entry| entry.public.clone())
                .collect(),
            next_algorithms: state.next().map(|next| next.public.algorithm()).into_iter().collect(),
            max_age: self.settings.max_age,
            lease: Some(self.lease.clone()),
        }));
    }

    /// Takes the steps that are due, if no other replica is faster.
    async fn take_due_steps(&self, local: &mut Local, stored: &StoredRing) -> Result<(), KeyRingError> {
        // Nothing is written over a ring that is altered or restored: an operator decides.
        if refuse_altered(local, stored).is_err() {
            return Ok(());
        }
        let mut change = self.begin(local, stored);
        let before = change.state.clone();
        let now = millis_of(stored.now);
        let observed = change.state.observe(now, lowest_version(stored, &self.replica, local.reported));
        change.state.waits = change.state.waits.max(self.settings.waits());
        let steps = change.advance(now, self.settings.every)?;
        if !observed && steps.is_empty() && change.state.waits == before.waits && stored.version > 0 {
            return Ok(());
        }
        self.save(local, stored, change, &steps).await.map(drop)
    }

    fn begin(&self, local: &Local, stored: &StoredRing) -> Change {
        let (state, private) = match &local.applied {
            Some(applied) => (applied.state.clone(), applied.private.clone()),
            None => (RingState::new(self.settings.algorithm, self.settings.waits()), PrivateKeys::new()),
        };
        Change { state: RingState { version: state.version.max(stored.version), ..state }, private }
    }

    /// Saves a changed ring, and applies it. Returns `false` if another replica was faster.
    async fn save(
        &self,
        local: &mut Local,
        stored: &StoredRing,
        mut change: Change,
        steps: &[Step],
    ) -> Result<bool, KeyRingError> {
        // Higher than all that a live replica has, also after a restore that an operator accepted.
        let known = local.applied.iter().map(|applied| applied.state.version);
        let highest = stored.replicas.iter().map(|replica| replica.version).chain(known).chain([stored.version]).max();
        change.state.version = highest.unwrap_or(0).saturating_add(1);
        let (name, by) = (&self.settings.name, &self.settings.key_encryption_key);
        let document = document::seal(name, &change.state, &change.private, by)?;
        if !self.call(self.settings.store.save_ring(name, stored.version, change.state.version, &document)).await? {
            return Ok(false);
        }
        let version = change.state.version;
        let digest = sha256(document.as_bytes());
        let Change { state, private } = change;
        self.apply(local, Applied { state, private, digest, problems: Vec::new(), is_by_current: true });
        for step in steps {
            self.took(step);
        }
        let requested_at = self.lease.now();
        self.report(local, version, requested_at).await?;
        self.record_status(local, stored);
        Ok(true)
    }

    fn took(&self, step: &Step) {
        let name = step.state.map_or("removed", KeyState::name);
        tracing::info!(ring = self.settings.name, key_id = step.key_id, step = name, "a key of the ring took a step");
        metrics::key_step(name);
        self.send(|| Outcome::KeyRingChanged { key_id: step.key_id.clone(), step: name });
    }

    fn send(&self, outcome: impl FnOnce() -> Outcome) {
        let Some(events) = &self.settings.events else { return };
        let extensions = http::Extensions::new();
        events.send(Event { at: self.settings.clock.now(), outcome: outcome(), client_id: None, extensions });
    }

    /// Changes the ring by a command of an operator, again if another replica changed it in the meantime.
    async fn change(
        &self,
        decide: impl Fn(&mut RingState, u64) -> Result<Vec<Step>, TooEarly>,
        key_id: &str,
    ) -> Result<Vec<Step>, KeyRingError> {
        let mut local = self.local.lock().await;
        for _ in 0..ATTEMPTS {
            let stored = self.sync(&mut local).await?;
            refuse_altered(&local, &stored)?;
            let mut change = self.begin(&local, &stored);
            let now = millis_of(stored.now);
            change.state.observe(now, lowest_version(&stored, &self.replica, local.reported));
            let mut steps =
                decide(&mut change.state, now).map_err(|error| self.explain(error, key_id, &stored, &local))?;
            let is_current = local.applied.as_ref().is_some_and(|applied| applied.is_by_current);
            if steps.is_empty() && !change.state.rotate && is_current {
                return Ok(steps);
            }
            steps.extend(change.advance(now, self.settings.every)?);
            if self.save(&mut local, &stored, change, &steps).await? {
                return Ok(steps);
            }
        }
        Err(KeyRingError::Busy)
    }

    async fn publish(&self, key: Arc<SigningKey>) -> Result<(), KeyRingError> {
        let mut local = self.local.lock().await;
        for _ in 0..ATTEMPTS {
            let stored = self.sync(&mut local).await?;
            refuse_altered(&local, &stored)?;
            let mut change = self.begin(&local, &stored);
            let steps = change.state.publish(key.verifying_key(), millis_of(stored.now));
            if steps.is_empty() {
                return Ok(());
            }
            change.private.insert(key.key_id().to_owned(), key.clone());
            if self.save(&mut local, &stored, change, &steps).await? {
                return Ok(());
            }
        }
        Err(KeyRingError::Busy)
    }

    async fn accept_stored(&self) -> Result<(), KeyRingError> {
        let mut local = self.local.lock().await;
        local.accepts_stored = true;
        let accepted = self.rewrite(&mut local).await;
        local.accepts_stored = false;
        accepted
    }

    /// Writes the authentic part of the stored ring as a new version that is higher than every known one.
    async fn rewrite(&self, local: &mut Local) -> Result<(), KeyRingError> {
        for _ in 0..ATTEMPTS {
            let stored = self.sync(local).await?;
            let mut change = self.begin(local, &stored);
            let steps = change.advance(millis_of(stored.now), self.settings.every)?;
            if self.save(local, &stored, change, &steps).await? {
                return Ok(());
            }
        }
        Err(KeyRingError::Busy)
    }

    fn explain(&self, error: TooEarly, key_id: &str, stored: &StoredRing, local: &Local) -> KeyRingError {
        let version = local.applied.as_ref().map_or(0, |applied| applied.state.version);
        match error {
            TooEarly::Until(at) => KeyRingError::TooEarly { until: time(at) },
            TooEarly::NotEverywhere { then } => KeyRingError::NotEverywhere {
                replicas: lagging(stored, &self.replica, version),
                then: Duration::from_millis(then),
            },
            TooEarly::NoKey => KeyRingError::NoSuchKey(key_id.to_owned()),
            TooEarly::Signs => KeyRingError::Signs(key_id.to_owned()),
        }
    }

    /// Records the status for the operator.
    fn record_status(&self, local: &Local, stored: &StoredRing) {
        let Some(applied) = &local.applied else { return };
        let state = &applied.state;
        let lagging = lagging(stored, &self.replica, state.version);
        let problems = applied.problems.iter().chain(&local.unreadable).cloned().collect();
        let status = RingStatus::of(state, self.settings.every.map(millis), lagging, problems);
        metrics::key_ring(status.signing().map(|key| key.since), status.next_step, status.lagging.len());
        *self.status() = status;
    }
}

/// A ring that is being changed.
struct Change {
    state: RingState,
    private: PrivateKeys,
}

impl Change {
    fn advance(&mut self, now: u64, every: Option<Duration>) -> Result<Vec<Step>, KeyError> {
        let private = &mut self.private;
        let mut generate = |algorithm: Algorithm| -> Result<VerifyingKey, KeyError> {
            let key = SigningKey::generate(algorithm)?;
            let public = key.verifying_key();
            private.insert(key.key_id().to_owned(), Arc::new(key));
            Ok(public)
        };
        self.state.advance(now, every.map(millis), &mut generate)
    }
}

/// Returns how it is known that the store was restored from an older copy: this replica or another live one has a higher
/// version. `None` if it was not, or if an operator accepts it.
fn why_restored(local: &Local, stored: &StoredRing) -> Option<String> {
    let others = stored.replicas.iter().map(|replica| replica.version);
    let known = local.applied.iter().map(|applied| applied.state.version).chain(others).max()?;
    (stored.version < known && !local.accepts_stored).then(|| {
        format!(
            "the stored ring has version {}, and a live replica has {known}, so the store was restored from an older copy; the \
             known ring is used until `KeyManager::accept_stored` is called, and no replica can start",
            stored.version
        )
    })
}

/// Returns whether the ring has a version that this replica could not apply: one in the store, or that of a live replica.
fn is_behind(local: &Local, stored: &StoredRing) -> bool {
    let own = local.applied.as_ref().map_or(0, |applied| applied.state.version);
    let others = stored.replicas.iter().map(|replica| replica.version);
    !local.accepts_stored && others.chain([stored.version]).any(|version| version > own)
}

/// Returns an error if the stored ring is altered or restored, so that nothing may be written over it.
fn refuse_altered(local: &Local, stored: &StoredRing) -> Result<(), KeyRingError> {
    let altered = local.applied.as_ref().filter(|applied| !applied.problems.is_empty());
    let altered = altered.map(|applied| applied.problems.join("; ")).or(local.unreadable.clone());
    why_restored(local, stored).or(altered).map_or(Ok(()), |reason| Err(KeyRingError::Refused(reason)))
}

/// Returns the lowest version of the live replicas. Nothing is known to be everywhere if this replica is not among them.
fn lowest_version(stored: &StoredRing, own: &str, reported: u64) -> u64 {
    let others = stored.replicas.iter().filter(|replica| replica.name != own).map(|replica| replica.version);
    others.chain([reported]).min().unwrap_or(0)
}

fn lagging(stored: &StoredRing, own: &str, version: u64) -> Vec<String> {
    let behind = stored.replicas.iter().filter(|replica| replica.name != own && replica.version < version);
    behind.map(|replica| replica.name.clone()).collect()
}

fn random_name() -> Result<String, KeyError> {
    let mut bits = [0; 12];
    fill_random(&mut bits)
        .ok_or_else(|| KeyError::new("the system has no random bytes for the name of this replica"))?;
    Ok(URL_SAFE_NO_PAD.encode(bits))
}

impl fmt::Debug for KeyManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyManager")
            .field("ring", &self.ring)
            .field("status", &*self.keeper.status())
            .finish_non_exhaustive()
    }
}
