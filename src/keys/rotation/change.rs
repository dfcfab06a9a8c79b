//! Changes of a ring: the steps that are due, and the commands of an operator.

use std::sync::Arc;
use std::time::Duration;

use super::KeyRingError;
use super::decision::{lagging, lowest_version, refuse_altered};
use super::document::{self, PrivateKeys};
use super::keeper::{ATTEMPTS, Applied, Keeper, Local};
use super::lifecycle::{KeyState, RingState, Step, TooEarly, millis};
use super::status::{millis_of, time};
use super::store::StoredRing;
use crate::crypto::sha256;
use crate::event::Outcome;
use crate::keys::{Algorithm, KeyError, SigningKey, VerifyingKey};
use crate::metrics;

impl Keeper {
    /// Takes the steps that are due, if no other replica is faster.
    pub(super) async fn take_due_steps(&self, local: &mut Local, stored: &StoredRing) -> Result<(), KeyRingError> {
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

    pub(super) fn begin(&self, local: &Local, stored: &StoredRing) -> Change {
        let (state, private) = match &local.applied {
            Some(applied) => (applied.state.clone(), applied.private.clone()),
            None => (RingState::new(self.settings.algorithm, self.settings.waits()), PrivateKeys::new()),
        };
        Change { state: RingState { version: state.version.max(stored.version), ..state }, private }
    }

    /// Saves a changed ring, and applies it. Returns `false` if another replica was faster.
    pub(super) async fn save(
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

    pub(super) fn took(&self, step: &Step) {
        let name = step.state.map_or("removed", KeyState::name);
        tracing::info!(ring = self.settings.name, key_id = step.key_id, step = name, "a key of the ring took a step");
        metrics::key_step(name);
        self.send(|| Outcome::KeyRingChanged { key_id: step.key_id.clone(), step: name });
    }

    /// Changes the ring by a command of an operator, again if another replica changed it in the meantime.
    pub(super) async fn change(
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

    pub(super) async fn publish(&self, key: Arc<SigningKey>) -> Result<(), KeyRingError> {
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

    pub(super) async fn accept_stored(&self) -> Result<(), KeyRingError> {
        let mut local = self.local.lock().await;
        local.accepts_stored = true;
        let accepted = self.rewrite(&mut local).await;
        local.accepts_stored = false;
        accepted
    }

    /// Writes the authentic part of the stored ring as a new version that is higher than every known one.
    pub(super) async fn rewrite(&self, local: &mut Local) -> Result<(), KeyRingError> {
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

    pub(super) fn explain(&self, error: TooEarly, key_id: &str, stored: &StoredRing, local: &Local) -> KeyRingError {
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
}

/// A ring that is being changed.
pub(super) struct Change {
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
