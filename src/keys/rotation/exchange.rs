//! The exchange of a replica with the store: it reads the ring, applies it, and reports what it has.

use super::KeyRingError;
use super::decision::{is_behind, lagging, why_restored};
use super::document;
use super::keeper::{Applied, Keeper, Local};
use super::lifecycle::{KeyState, millis};
use super::status::RingStatus;
use super::store::{Replica, StoredRing};
use crate::clock::Moment;
use crate::crypto::sha256;
use crate::event::{Event, Outcome};
use crate::keys::{KeySnapshot, NoSigningKey, SharedKeys};
use crate::metrics;

impl Keeper {
    /// Reads and applies the stored ring, and reports in the lease what this replica has. Afterwards it has what the store had
    /// while the lease was already there, so no step since then was taken without this replica.
    pub(super) async fn sync(&self, local: &mut Local) -> Result<StoredRing, KeyRingError> {
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
    pub(super) async fn report(
        &self,
        local: &mut Local,
        version: u64,
        requested_at: Moment,
    ) -> Result<(), KeyRingError> {
        let replica = Replica { name: self.replica.clone(), version };
        self.call(self.settings.store.renew_lease(&self.settings.name, &replica, self.settings.lease)).await?;
        local.reported = version;
        self.lease.renewed(requested_at);
        Ok(())
    }

    pub(super) fn leave_cut_off(&self, local: &Local) {
        let is_cut_off = self.ring.upgrade().is_some_and(|ring| ring.current().is_cut_off());
        if let Some(applied) = local.applied.as_ref().filter(|_| is_cut_off) {
            self.publish_snapshot(applied);
        }
    }

    /// Applies the stored ring, unless it is older than that of this replica, or not readable. Then the replica keeps its ring.
    pub(super) fn apply_stored(&self, local: &mut Local, stored: &StoredRing) -> Result<(), KeyRingError> {
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
    pub(super) fn refused(&self, local: &mut Local, reason: &str) {
        if local.refused.as_deref() == Some(reason) {
            return;
        }
        local.refused = Some(reason.to_owned());
        tracing::error!(ring = self.settings.name, reason, "the key ring in the store is refused or altered");
        metrics::key_ring_refused();
        self.send(|| Outcome::KeyRingRefused { reason: reason.to_owned() });
    }

    /// Lets servers and verifiers use a ring.
    pub(super) fn apply(&self, local: &mut Local, applied: Applied) {
        let key_set = |applied: &Applied| -> Vec<(String, KeyState)> {
            applied.state.keys.iter().map(|entry| (entry.key_id().to_owned(), entry.state)).collect()
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

    /// Records the status for the operator.
    pub(super) fn record_status(&self, local: &Local, stored: &StoredRing) {
        let Some(applied) = &local.applied else { return };
        let state = &applied.state;
        let lagging = lagging(stored, &self.replica, state.version);
        let problems = applied.problems.iter().chain(&local.unreadable).cloned().collect();
        let status = RingStatus::of(state, self.settings.every.map(millis), lagging, problems);
        metrics::key_ring(status.signing().map(|key| key.since), status.next_step, status.lagging.len());
        *self.status() = status;
    }

    pub(super) fn send(&self, outcome: impl FnOnce() -> Outcome) {
        let Some(events) = &self.settings.events else { return };
        let extensions = http::Extensions::new();
        events.send(Event { at: self.settings.clock.now(), outcome: outcome(), client_id: None, extensions });
    }
}
