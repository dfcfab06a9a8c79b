//! [`Kept`]: the entries of the cache, in parts with a lock each.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Semaphore;

use super::Known;
use super::answer::{Answer, Basis, Now};
use super::limits::ClientCacheLimits;
use super::look_up::{LookUp, MAX_LOOK_UPS};
use super::workloads::KeptWorkloads;
use crate::client_id::ClientId;
use crate::debug_fields::debug_fields;
use crate::registration::RegisteredClient;
use crate::sync::{BoundedMap, Striped};

/// The number of locks, so that cores do not wait for each other.
const SHARDS: usize = 16;

pub(super) struct Kept {
    pub(super) limits: ClientCacheLimits,
    hasher: RandomState,
    pub(super) shards: Striped<Mutex<Shard>, SHARDS>,
    pub(super) workloads: KeptWorkloads,
    pub(super) in_flight: Arc<Semaphore>,
}

/// A part of the cache, with its own lock.
pub(super) struct Shard {
    pub(super) found: BoundedMap<ClientId, Entry<Arc<RegisteredClient>>>,
    pub(super) absent: BoundedMap<ClientId, Entry<()>>,
    pub(super) in_flight: HashMap<ClientId, LookUp>,
}

pub(super) struct Entry<T> {
    value: T,
    /// When the store was asked, before it answered.
    asked_at: SystemTime,
    /// When the store was last asked for a refusal.
    pub(super) asked_for_refusal: Option<SystemTime>,
}

impl Kept {
    pub(super) fn new(limits: ClientCacheLimits) -> Self {
        let each = limits.entries.div_ceil(SHARDS);
        let shards = Striped::from_fn(|| Mutex::new(Shard::new(each)));
        let workloads = KeptWorkloads::new(limits.entries);
        let in_flight = Arc::new(Semaphore::new(MAX_LOOK_UPS));
        Self { limits, hasher: RandomState::new(), shards, workloads, in_flight }
    }

    pub(super) fn shard(&self, id: &ClientId) -> MutexGuard<'_, Shard> {
        self.shards.select(self.hasher.hash_one(id)).lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn new(capacity: usize) -> Self {
        Self { found: BoundedMap::new(capacity), absent: BoundedMap::new(capacity), in_flight: HashMap::new() }
    }

    pub(super) fn look(&mut self, id: &ClientId, limits: ClientCacheLimits, now: Now) -> Option<Answer> {
        if let Some(entry) = self.found.get(id).filter(|entry| !now.is_older(entry.asked_at, limits.found)) {
            let as_of = now.as_of(entry.asked_at);
            if now.is_behind(as_of) {
                return None;
            }
            let may_refuse = entry.asked_for_refusal.is_some_and(|asked_at| now.may_refuse(asked_at, limits));
            let basis = if may_refuse { Basis::Refusal } else { Basis::Acceptance };
            return Some(Answer { client: Some(entry.value.clone()), basis, as_of });
        }
        let entry = self.absent.get(id).filter(|entry| now.may_refuse(entry.asked_at, limits))?;
        Some(Answer { client: None, basis: Basis::Refusal, as_of: entry.asked_at })
    }

    pub(super) fn keep(&mut self, id: &ClientId, client: Known, asked_at: SystemTime) {
        if let Some(value) = client {
            self.absent.remove(id);
            // A look-up for an acceptance does not shorten the time in which refusals need none.
            let asked_for_refusal = self.found.get(id).and_then(|entry| entry.asked_for_refusal);
            self.found.insert(id.clone(), Entry { value, asked_at, asked_for_refusal });
        } else {
            self.found.remove(id);
            self.absent.insert(id.clone(), Entry { value: (), asked_at, asked_for_refusal: Some(asked_at) });
        }
    }
}

debug_fields!(Kept { limits });
