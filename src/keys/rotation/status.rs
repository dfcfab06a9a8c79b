//! [`RingStatus`]: what an operator wants to know about a managed ring.

use std::time::SystemTime;

use super::lifecycle::{KeyState, RingState};
use crate::clock::at_unix_millis;
use crate::keys::Algorithm;

/// A managed ring as this replica knows it. Times are by the clock of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingStatus {
    /// The version of the ring.
    pub version: u64,
    /// All keys, in the order in which they were added.
    pub keys: Vec<KeyStatus>,
    /// The time of the next step by the schedule, if it is known.
    pub next_step: Option<SystemTime>,
    /// The names of the live replicas that do not have this version yet.
    pub lagging: Vec<String>,
    /// The reasons why the stored ring is not trusted completely. No step is taken until it is repaired.
    pub problems: Vec<String>,
}

/// A key of a managed ring.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyStatus {
    /// The `kid`.
    pub key_id: String,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The state.
    pub state: KeyState,
    /// The time since which it has this state.
    pub since: SystemTime,
    /// The earliest time at which it may sign, if it is published, or go, if it is retired. `None` if a live replica does not have
    /// its last change yet, and for a key that signs.
    pub may_step_at: Option<SystemTime>,
}

impl RingStatus {
    pub(super) fn of(state: &RingState, every: Option<u64>, lagging: Vec<String>, problems: Vec<String>) -> Self {
        let keys = state.keys.iter().map(|entry| KeyStatus {
            key_id: entry.key_id().to_owned(),
            algorithm: entry.public.algorithm(),
            state: entry.state,
            since: at_unix_millis(entry.since),
            may_step_at: match entry.state {
                KeyState::Published => state.may_sign_at(entry).map(at_unix_millis),
                _ => state.may_go_at(entry).map(at_unix_millis),
            },
        });
        let next_step = state.next_step_at(every).map(at_unix_millis);
        Self { version: state.version, keys: keys.collect(), next_step, lagging, problems }
    }

    /// Returns the key that signs.
    #[must_use]
    pub fn signing(&self) -> Option<&KeyStatus> {
        self.keys.iter().find(|key| key.state == KeyState::Signing)
    }
}
