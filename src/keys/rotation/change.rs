//! Changes of a ring: the steps that are due, and the commands of an operator.

use std::sync::Arc;
use std::time::Duration;

use super::KeyRingError;
use super::document::{self, Opened, PrivateKeys};
use super::exchange::{keep_distrusts, steps_between};
use super::keeper::{ATTEMPTS, Applied, Keeper, Local};
use super::lifecycle::{KeyState, RingState, Step, TooEarly};
use super::peers::Loaded;
use super::stored_ring::{lagging, lowest_version, refuse_altered};
use crate::clock::{at_unix_millis, millis, unix_millis};
use crate::crypto::sha256;
use crate::event::Outcome;
use crate::keys::{Algorithm, KeyError, SigningKey, VerifyingKey};
use crate::metrics;

impl Keeper {
    /// Takes the steps that are due, if no other replica is faster.
    pub(super) async fn take_due_steps(&self, local: &mut Local, loaded: &Loaded) -> Result<(), KeyRingError> {
        // Nothing is written over a ring that is altered or restored: an operator decides.
        if refuse_altered(local, loaded).is_err() {
            return Ok(());
        }
        let mut change = self.begin(local);
        let before = change.state.waits;
        let now = unix_millis(loaded.stored.now);
        let observed =
            change.state.observe(now, lowest_version(&change.state, &loaded.peers, &self.replica, local.reported));
        change.state.waits = before.max(self.settings.waits());
        change.advance(now, self.settings.every)?;
        if !observed && change.steps.is_empty() && change.state.waits == before && loaded.stored.version > 0 {
            return Ok(());
        }
        self.save(local, loaded, change).await.map(drop)
    }

    /// Begins with the ring of this replica, or with a new one.
    fn begin(&self, local: &Local) -> Change {
        match &local.applied {
            Some(applied) => Change {
                state: applied.state.clone(),
                private: applied.private.clone(),
                steps: applied.unsaved.clone(),
            },
            None => Change {
                state: RingState::new(self.settings.algorithm, self.settings.waits()),
                private: PrivateKeys::new(),
                steps: Vec::new(),
            },
        }
    }

    /// Saves a changed ring, applies it, and reports it. Returns `false` if another replica was faster.
    async fn save(&self, local: &mut Local, loaded: &Loaded, change: Change) -> Result<bool, KeyRingError> {
        if !self.write(local, loaded, change, Acceptance::NotNeeded).await? {
            return Ok(false);
        }
        let requested_at = self.lease.now();
        self.report(local, requested_at).await?;
        self.record_status(local, loaded);
        Ok(true)
    }

    /// Writes a changed ring, and applies it. Returns `false` if another replica was faster: then this replica is as before.
    async fn write(
        &self,
        local: &mut Local,
        loaded: &Loaded,
        change: Change,
        acceptance: Acceptance,
    ) -> Result<bool, KeyRingError> {
        let Change { mut state, private, steps } = change;
        state.history = state.history.next(state.version)?;
        // Higher than all that a live replica has, also after a restore that an operator accepted.
        let highest = [state.version, loaded.highest_version(), loaded.stored.version];
        state.version = highest.into_iter().max().unwrap_or(0).saturating_add(1);
        if acceptance == Acceptance::ByOperator {
            // Every replica follows it, whatever it has now, also one that is away until it returns.
            let earlier = loaded.highest_rank().accepted_at.max(state.history.accepted_at);
            state.accept(unix_millis(loaded.stored.now), earlier);
        }
        let (name, by) = (&self.settings.name, &self.settings.key_encryption_key);
        let document = document::seal(name, &state, &private, by)?;
        if !self.call(self.settings.store.save_ring(name, loaded.stored.version, state.version, &document)).await? {
            return Ok(false);
        }
        let (digest, encrypted_by) = (sha256(document.as_bytes()), by.name().to_owned());
        let (problems, unsaved) = (Vec::new(), Vec::new());
        self.apply(local, Applied { state, private, digest, problems, encrypted_by, unsaved });
        for step in &steps {
            self.took(step);
        }
        Ok(true)
    }

    fn took(&self, step: &Step) {
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
            let loaded = self.sync(&mut local).await?;
            refuse_altered(&local, &loaded)?;
            let mut change = self.begin(&local);
            let now = unix_millis(loaded.stored.now);
            change.state.observe(now, lowest_version(&change.state, &loaded.peers, &self.replica, local.reported));
            let steps = decide(&mut change.state, now).map_err(|error| self.explain(error, key_id, &loaded, &local))?;
            change.steps.extend(steps);
            let by = self.settings.key_encryption_key.name();
            let is_current = local.applied.as_ref().is_some_and(|applied| applied.encrypted_by == by);
            if change.steps.is_empty() && !change.state.rotate && is_current {
                return Ok(change.steps);
            }
            change.advance(now, self.settings.every)?;
            let steps = change.steps.clone();
            if self.save(&mut local, &loaded, change).await? {
                return Ok(steps);
            }
        }
        Err(KeyRingError::Busy)
    }

    pub(super) async fn publish(&self, key: Arc<SigningKey>) -> Result<(), KeyRingError> {
        let mut local = self.local.lock().await;
        for _ in 0..ATTEMPTS {
            let loaded = self.sync(&mut local).await?;
            refuse_altered(&local, &loaded)?;
            let mut change = self.begin(&local);
            let steps = change.state.publish(key.verifying_key(), unix_millis(loaded.stored.now));
            let steps = steps.map_err(|error| self.explain(error, key.key_id(), &loaded, &local))?;
            if steps.is_empty() {
                return Ok(());
            }
            change.steps.extend(steps);
            change.private.insert(key.key_id().to_owned(), key.clone());
            if self.save(&mut local, &loaded, change).await? {
                return Ok(());
            }
        }
        Err(KeyRingError::Busy)
    }

    /// Writes the authentic part of the stored ring as a new version that is higher than every known one. Until the store has it, this
    /// replica keeps its own ring.
    pub(super) async fn accept_stored(&self) -> Result<(), KeyRingError> {
        let mut local = self.local.lock().await;
        for _ in 0..ATTEMPTS {
            let loaded = self.load(&mut local).await?;
            let (mut change, followed) = self.accepted(&mut local, &loaded)?;
            change.state.wait_again();
            change.advance(unix_millis(loaded.stored.now), self.settings.every)?;
            if self.write(&mut local, &loaded, change, Acceptance::ByOperator).await? {
                self.log_steps(&followed);
                (local.not_applied, local.contested, local.refused) = (None, None, None);
                return self.sync(&mut local).await.map(drop);
            }
        }
        Err(KeyRingError::Busy)
    }

    /// Begins with the ring that counts if an operator accepts the stored one. Also returns the steps that are new to this replica.
    fn accepted(&self, local: &mut Local, loaded: &Loaded) -> Result<(Change, Vec<Step>), KeyRingError> {
        if loaded.stored.version == 0 || local.has_stored(loaded) {
            return Ok((self.begin(local), Vec::new()));
        }
        // An operator would lose what cannot be read, such as a distrust.
        let opened = self.open_stored(local, loaded)?;
        if !opened.problems.is_empty() {
            self.refused(local, &opened.problems.join("; "));
        }
        let is_whole_copy = local.applied.as_ref().is_some_and(|own| own.is_whole_copy_of(&opened));
        if is_whole_copy {
            return Ok((self.begin(local), Vec::new()));
        }
        let Opened { mut state, private, .. } = opened;
        let Some(Applied { state: own, .. }) = &local.applied else {
            return Ok((Change { state, private, steps: Vec::new() }, Vec::new()));
        };
        state.history.accepted_at = state.history.accepted_at.max(own.history.accepted_at);
        let steps = keep_distrusts(own, &mut state, unix_millis(loaded.stored.now));
        let followed = steps_between(own, &state);
        Ok((Change { state, private, steps }, followed))
    }

    pub(super) fn explain(&self, error: TooEarly, key_id: &str, loaded: &Loaded, local: &Local) -> KeyRingError {
        let lagging = |ring: &Applied| lagging(&ring.state, &loaded.peers, &self.replica);
        match error {
            TooEarly::Until(at) => KeyRingError::TooEarly { until: at_unix_millis(at) },
            TooEarly::NotEverywhere { then } => KeyRingError::NotEverywhere {
                replicas: local.applied.as_ref().map(lagging).unwrap_or_default(),
                then: Duration::from_millis(then),
            },
            TooEarly::NoKey => KeyRingError::NoSuchKey(key_id.to_owned()),
            TooEarly::Signs => KeyRingError::Signs(key_id.to_owned()),
            TooEarly::Distrusted => KeyRingError::Distrusted(key_id.to_owned()),
        }
    }
}

/// Whether an operator accepts the stored ring, although it was restored or altered. It is the argument of one call and no state, so that it
/// ends with the call, however that ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Acceptance {
    NotNeeded,
    ByOperator,
}

/// A ring that is being changed.
pub(super) struct Change {
    state: RingState,
    private: PrivateKeys,
    /// The steps that it takes.
    steps: Vec<Step>,
}

impl Change {
    /// Takes the steps that are due by the schedule.
    fn advance(&mut self, now: u64, every: Option<Duration>) -> Result<(), KeyError> {
        let private = &mut self.private;
        let mut generate = |algorithm: Algorithm| -> Result<VerifyingKey, KeyError> {
            let key = SigningKey::generate(algorithm)?;
            let public = key.verifying_key();
            private.insert(key.key_id().to_owned(), Arc::new(key));
            Ok(public)
        };
        let steps = self.state.advance(now, every.map(millis), &mut generate)?;
        self.steps.extend(steps);
        Ok(())
    }
}
