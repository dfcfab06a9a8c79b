//! The exchange of a replica with the store: it reads the ring, applies it, and reports what it has.

use super::KeyRingError;
use super::document::{self, Opened};
use super::history::Rank;
use super::keeper::{Applied, Keeper, Local, NotApplied, Phase};
use super::lifecycle::{KeyState, RingState, Step};
use super::peers::Loaded;
use super::status::RingStatus;
use super::store::KeyStoreError;
use super::stored_ring::{
    foreign, is_behind, is_contested_by, is_foreign, is_lived_on, lagging, shown, why_contested, why_restored,
};
use crate::clock::{Moment, millis, unix_millis};
use crate::crypto::sha256;
use crate::event::Outcome;
use crate::keys::{KeyError, KeySnapshot, NoSigningKey, SharedKeys};
use crate::metrics;
use crate::sync::lock;

/// How often the lease is renewed until the store answers while it lasts. Once is enough, unless the machine stands still in between.
const MAX_RENEWALS: usize = 5;

impl Keeper {
    /// Reads and applies the stored ring, and reports in the lease what this replica has. Afterwards it has what the store had
    /// while the lease was already there, so no step since then was taken without this replica.
    pub(super) async fn sync(&self, local: &mut Local) -> Result<Loaded, KeyRingError> {
        for _ in 0..MAX_RENEWALS {
            let requested_at = self.lease.now();
            let loaded = self.load(local).await?;
            self.apply_stored(local, &loaded)?;
            self.note_contest(local, &loaded)?;
            let was_usable = self.lease.is_usable();
            let version = local.applied.as_ref().map_or(0, |applied| applied.state.version);
            // A restored store lacks this lease: until it is there again, a process that starts cannot notice the restore.
            let is_known = loaded.known().any(|(name, _)| name == self.replica);
            let is_due =
                !is_known || local.announced.is_none_or(|at| requested_at.since(at) >= self.settings.lease / 6);
            if is_behind(local, &loaded) {
                // Another replica may have distrusted a key that this replica uses. The lease ends, and then it answers 503.
                if local.is_divided() && is_due {
                    // The others must know that they lack changes, and `accept_stored` must know of this version.
                    self.announce(local, requested_at).await?;
                }
                self.record_status(local, &loaded);
                return Ok(loaded);
            }
            if is_due || !was_usable || local.reported != version {
                self.report(local, requested_at).await?;
            }
            if was_usable || version == 0 {
                self.leave_cut_off(local);
                self.record_status(local, &loaded);
                return Ok(loaded);
            }
        }
        Err(KeyRingError::Store(KeyStoreError::new(format!(
            "the lease was renewed {MAX_RENEWALS} times, and each time the next answer of the store came more than {:?} later; the \
             store is too slow for `lease`, or the clock of this machine jumps",
            self.settings.usable()
        ))))
    }

    /// Reads the store, and applies nothing.
    pub(super) async fn load(&self, local: &mut Local) -> Result<Loaded, KeyRingError> {
        if local.phase == Phase::Left {
            return Err(KeyRingError::Left);
        }
        let stored = self.call(self.settings.store.load_ring(&self.settings.name)).await?;
        let loaded = Loaded::new(&self.settings.name, stored, &self.settings.key_encryption_key);
        self.note_unauthentic(local, &loaded);
        Ok(loaded)
    }

    /// Renews the lease with the version that this replica has, which it may use from now on for as long as the lease lasts.
    pub(super) async fn report(&self, local: &mut Local, requested_at: Moment) -> Result<(), KeyRingError> {
        self.announce(local, requested_at).await?;
        local.reported = local.applied.as_ref().map_or(0, |applied| applied.state.version);
        self.lease.renewed(requested_at);
        Ok(())
    }

    /// Renews the lease for the other replicas only.
    async fn announce(&self, local: &mut Local, requested_at: Moment) -> Result<(), KeyRingError> {
        let replica = self.own_lease(local)?;
        self.call(self.settings.store.renew_lease(&self.settings.name, &replica, self.settings.lease)).await?;
        local.announced = Some(requested_at);
        Ok(())
    }

    /// Reports a lease that is not authentic, once.
    fn note_unauthentic(&self, local: &mut Local, loaded: &Loaded) {
        let name = loaded.unauthentic();
        if name != local.unauthentic.as_deref() {
            local.unauthentic = name.map(str::to_owned);
            if let Some(name) = name {
                self.report_refusal(&format!(
                    "the lease of replica `{}` is not authentic: the store was altered, or the replica has another \
                     key-encryption key; steps wait for it, and nothing else follows from it",
                    shown(name)
                ));
            }
        }
    }

    /// Notes whether another live replica has changes that the ring of this replica lacks, which is the stored one or a later one.
    fn note_contest(&self, local: &mut Local, loaded: &Loaded) -> Result<(), KeyRingError> {
        let is_followed = local.not_applied.is_none();
        let state = local.applied.as_ref().map(|applied| &applied.state);
        let state = state.filter(|state| is_followed && state.rank() >= local.stored);
        let reason = state.and_then(|state| why_contested(state, loaded, &self.replica));
        let Some(reason) = reason else {
            if local.contested.take().is_some() {
                local.refused = None;
            }
            return Ok(());
        };
        self.refused(local, &reason);
        local.contested = Some(reason.clone());
        if local.phase == Phase::Open { Ok(()) } else { Err(KeyRingError::Refused(reason)) }
    }

    pub(super) fn leave_cut_off(&self, local: &Local) {
        let is_cut_off = self.ring.upgrade().is_some_and(|ring| ring.current().is_cut_off());
        if let Some(applied) = local.applied.as_ref().filter(|_| is_cut_off) {
            self.publish_snapshot(applied);
        }
    }

    /// Applies the stored ring, unless it lacks changes of this replica, is not readable, or is an altered copy of what this replica has. Then
    /// the replica keeps its ring.
    pub(super) fn apply_stored(&self, local: &mut Local, loaded: &Loaded) -> Result<(), KeyRingError> {
        let stored = &loaded.stored;
        let digest = sha256(stored.document.as_bytes());
        let is_new = stored.version > 0 && !local.has_stored(loaded);
        // One that is refused is not read again and again.
        let is_refused = |ring: &&NotApplied| ring.digest == digest && ring.rank.version == stored.version;
        let refused = local.not_applied.as_ref().filter(is_refused).filter(|_| local.applied.is_some());
        let refused = refused.map(|ring| ring.rank);
        let opened = (is_new && refused.is_none()).then(|| self.open_stored(local, loaded));
        let listed = opened.as_ref().and_then(|opened| opened.as_ref().ok()).filter(|opened| opened.is_listed);
        // An acceptance that is not authentic proves nothing.
        let own = local.applied.as_ref().map(|applied| applied.state.history.accepted_at).unwrap_or_default();
        let fallback = Rank { accepted_at: own, version: stored.version };
        local.stored = listed.map(|opened| opened.state.rank()).or(refused).unwrap_or(fallback);
        if let Some(reason) = why_restored(local, loaded) {
            if local.applied.is_none() {
                // It cannot know which changes were lost. An altered document says nothing about its age.
                let (why, error) = match opened {
                    Some(Err(error)) => (error.to_string(), error.into()),
                    Some(Ok(opened)) if !opened.is_listed => refused_for(opened.problems.join("; ")),
                    _ => refused_for(reason),
                };
                self.refused(local, &why);
                return Err(error);
            }
            if let Some(opened) = listed {
                self.adopt_distrusts(local, &opened.state, unix_millis(stored.now));
            }
            // If another process changed it since, it may have distrusted a key that this replica uses.
            let is_changed = |own: &RingState, stored: &RingState| {
                let mut others = loaded.known().filter(|(name, _)| *name != self.replica).map(|(_, known)| known);
                is_contested_by(own, &stored.known()) || is_lived_on(own, stored, &mut others)
            };
            let changed = local.applied.as_ref().zip(listed);
            let changed = changed.filter(|(own, opened)| is_changed(&own.state, &opened.state));
            let changed = changed.map(|(own, opened)| foreign(&own.state, &opened.state));
            self.refused(local, changed.as_ref().unwrap_or(&reason));
            let (rank, is_foreign) = (local.stored, true);
            if refused.is_none() {
                local.not_applied = changed.map(|reason| NotApplied { reason, digest, rank, is_foreign });
            }
            return Ok(());
        }
        let Some(opened) = opened else {
            // It could not be read in the meantime, and is again what it was.
            if !is_new && local.not_applied.take().is_some() {
                local.refused = None;
            }
            return Ok(());
        };
        let rank = local.stored;
        let mut opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.refused(local, &error.to_string());
                local.not_applied = Some(NotApplied { reason: error.to_string(), digest, rank, is_foreign: false });
                return if local.applied.is_some() { Ok(()) } else { Err(error.into()) };
            }
        };
        let applied = local.applied.as_ref();
        if let Some(own) = applied.filter(|own| is_foreign(&own.state, &opened.state)) {
            let reason = foreign(&own.state, &opened.state);
            if opened.is_listed {
                self.adopt_distrusts(local, &opened.state, unix_millis(stored.now));
            }
            // The history of an altered list is not known.
            let reason = if opened.is_listed { reason } else { opened.problems.join("; ") };
            self.refused(local, &reason);
            local.not_applied = Some(NotApplied { reason, digest, rank, is_foreign: opened.is_listed });
            return Ok(());
        }
        if applied.is_some_and(|own| own.is_whole_copy_of(&opened)) {
            // An alteration of the store must not take a key from replicas that have it.
            let reason = opened.problems.join("; ");
            self.refused(local, &reason);
            local.not_applied = Some(NotApplied { reason, digest, rank, is_foreign: false });
            return Ok(());
        }
        let unsaved = match &local.applied {
            Some(own) => keep_distrusts(&own.state, &mut opened.state, unix_millis(stored.now)),
            None => Vec::new(),
        };
        self.log_changes(local, &opened.state);
        local.not_applied = None;
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
                encrypted_by: opened.encrypted_by,
                unsaved,
            },
        );
        Ok(())
    }

    /// Distrusts what an authentic ring distrusts, although it is refused: a distrust is final on every line of versions.
    fn adopt_distrusts(&self, local: &mut Local, refused: &RingState, now: u64) {
        let lost = local.applied.as_ref().map(|own| own.state.lost_distrusts(&refused.distrusted)).unwrap_or_default();
        let Some(mut own) = (if lost.is_empty() { None } else { local.applied.take() }) else { return };
        let steps = own.state.repeat_distrusts(&lost, now);
        self.log_steps(&steps);
        own.unsaved.extend(steps);
        self.apply(local, own);
    }

    /// Reads the stored ring, with what this replica knows of it.
    pub(super) fn open_stored(&self, local: &Local, loaded: &Loaded) -> Result<Opened, KeyError> {
        let (stored, applied) = (&loaded.stored, local.applied.as_ref());
        let mut private = applied.map(|applied| applied.private.clone()).unwrap_or_default();
        private.extend(self.settings.external.iter().map(|(key_id, key)| (key_id.clone(), key.clone())));
        let (name, by) = (&self.settings.name, &self.settings.key_encryption_key);
        let fallback = match applied {
            Some(applied) => applied.state.clone(),
            None => RingState::new(self.settings.algorithm, self.settings.waits()),
        };
        document::open(name, stored.version, &stored.document, by, &private, &fallback)
    }

    /// Logs what another process changed, such as a distrust by a command. The process that takes a step reports it itself.
    fn log_changes(&self, local: &Local, state: &RingState) {
        let Some(before) = local.applied.as_ref().map(|applied| &applied.state) else { return };
        self.log_steps(&steps_between(before, state));
    }

    pub(super) fn log_steps(&self, steps: &[Step]) {
        for step in steps {
            let name = step.state.map_or("removed", KeyState::name);
            let ring = &self.settings.name;
            tracing::info!(ring, key_id = step.key_id, step = name, "another process changed a key of the ring");
        }
    }

    /// Reports that the stored ring is refused or altered, once for each reason.
    pub(super) fn refused(&self, local: &mut Local, reason: &str) {
        if local.refused.as_deref() == Some(reason) {
            return;
        }
        local.refused = Some(reason.to_owned());
        self.report_refusal(reason);
    }

    fn report_refusal(&self, reason: &str) {
        tracing::error!(ring = self.settings.name, reason, "the key ring in the store is refused or altered");
        metrics::key_ring_refused();
        self.send(|| Outcome::KeyRingRefused { reason: reason.to_owned() });
    }

    /// Lets servers and verifiers use a ring.
    pub(super) fn apply(&self, local: &mut Local, mut applied: Applied) {
        applied.drop_unused_private_keys();
        let key_set = |applied: &Applied| -> (Vec<(String, KeyState)>, Vec<String>) {
            let states = applied.state.keys.iter().map(|entry| (entry.key_id().to_owned(), entry.state)).collect();
            (states, applied.state.distrusted.clone())
        };
        // The same keys in the same states keep the snapshot, and so the documents that were rendered of it.
        if local.applied.as_ref().is_none_or(|before| key_set(before) != key_set(&applied)) {
            self.publish_snapshot(&applied);
        }
        local.applied = Some(applied);
    }

    pub(super) fn publish_snapshot(&self, applied: &Applied) {
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
        let snapshot = KeySnapshot::shared(SharedKeys {
            signing,
            trusted: state
                .keys
                .iter()
                .filter(|entry| entry.state.is_trusted())
                .map(|entry| entry.public.clone())
                .collect(),
            next_algorithms: state.next().map(|next| next.public.algorithm()).into_iter().collect(),
            // The list may be that of this replica if the stored one was altered, and the rows are authentic nevertheless.
            distrusted: state
                .keys
                .iter()
                .filter(|entry| !entry.state.is_trusted())
                .map(|entry| entry.key_id().to_owned())
                .chain(state.distrusted.iter().cloned())
                .collect(),
            max_age: self.settings.max_age,
            lease: Some(self.lease.clone()),
        });
        // Without its task, nothing would stop the use of the ring when the lease ends.
        let has_ended = lock(&self.has_ended);
        ring.replace(if *has_ended { snapshot.cut_off() } else { snapshot });
    }

    /// Records the status for the operator.
    pub(super) fn record_status(&self, local: &Local, loaded: &Loaded) {
        let Some(applied) = &local.applied else { return };
        let state = &applied.state;
        let lagging = lagging(state, &loaded.peers, &self.replica);
        let not_applied = local.not_applied.iter().map(|ring| &ring.reason);
        let problems = applied.problems.iter().chain(not_applied).chain(&local.contested).cloned().collect();
        let status = RingStatus::of(state, self.settings.every.map(millis), lagging, problems);
        metrics::key_ring(status.signing().map(|key| key.since), status.next_step, status.lagging.len());
        *lock(&self.status) = status;
    }

    pub(super) fn send(&self, outcome: impl FnOnce() -> Outcome) {
        if let Some(events) = &self.settings.events {
            events.report(self.settings.clock.now(), outcome());
        }
    }
}

/// Returns the steps of keys from one version of a ring to another one.
pub(super) fn steps_between(before: &RingState, after: &RingState) -> Vec<Step> {
    let step = |key_id: &str, state| Step { key_id: key_id.to_owned(), state };
    let state_in = |ring: &RingState, key_id: &str| {
        ring.keys.iter().find(|entry| entry.key_id() == key_id).map(|entry| entry.state)
    };
    let changed = after.keys.iter().filter(|entry| state_in(before, entry.key_id()) != Some(entry.state));
    let removed = before.keys.iter().filter(|entry| state_in(after, entry.key_id()).is_none());
    let changed = changed.map(|entry| step(entry.key_id(), Some(entry.state)));
    changed.chain(removed.map(|entry| step(entry.key_id(), None))).collect()
}

/// Repeats the distrusts that the stored ring lacks. Returns the steps for the store.
pub(super) fn keep_distrusts(own: &RingState, stored: &mut RingState, now: u64) -> Vec<Step> {
    let lost = stored.lost_distrusts(&own.distrusted);
    stored.repeat_distrusts(&lost, now)
}

fn refused_for(reason: String) -> (String, KeyRingError) {
    (reason.clone(), KeyRingError::Refused(reason))
}
