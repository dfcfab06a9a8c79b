//! [`LookUpTask`]: a look-up in the client store, in a task of its own.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use super::{ClientCache, Known};
use crate::authorization_server::error::TokenError;
use crate::client_id::ClientId;
use crate::deadline::Late;
use crate::store::StoreError;
use crate::sync::{Finish, InFlight};

/// The maximum number of concurrent look-ups. Beyond it, a request gets 503.
pub(super) const MAX_LOOK_UPS: usize = 10_000;

/// The reason why the client store did not answer. All callers that wait for one look-up get the same.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error(transparent)]
    Store(Arc<StoreError>),
    #[error(transparent)]
    Late(Late),
    #[error("too many concurrent client look-ups")]
    Busy,
    #[error("the client look-up was aborted")]
    BrokenOff,
}

impl From<Unanswered> for TokenError {
    fn from(error: Unanswered) -> Self {
        Self::unavailable(error)
    }
}

/// A look-up in flight. All callers that want the same client wait for it. It continues if they hang up.
#[derive(Clone)]
pub(super) struct LookUp {
    pub(super) asked_at: SystemTime,
    pub(super) result: InFlight<Result<Known, Unanswered>>,
}

/// A look-up to wait for. A new one must be spawned first.
pub(super) struct Started {
    pub(super) lookup: LookUp,
    pub(super) task: Option<(Handle, LookUpTask)>,
}

/// Ends a look-up, even if the store panics or the runtime shuts down.
pub(super) struct LookUpTask {
    pub(super) cache: ClientCache,
    pub(super) id: ClientId,
    pub(super) asked_at: SystemTime,
    pub(super) answer: Option<Result<Known, Unanswered>>,
    pub(super) finish: Finish<Result<Known, Unanswered>>,
    pub(super) _permit: OwnedSemaphorePermit,
}

impl LookUpTask {
    pub(super) async fn run(mut self) {
        self.answer = Some(self.cache.0.ask(&self.id).await);
        drop(self);
    }
}

impl Drop for LookUpTask {
    fn drop(&mut self) {
        let Some(kept) = &self.cache.0.kept else { return };
        let mut shard = kept.shard(&self.id);
        // Otherwise the client has changed since, and the answer may be outdated. It is still valid for callers that
        // asked before.
        if shard.in_flight.get(&self.id).is_some_and(|lookup| self.finish.is_for(&lookup.result)) {
            shard.in_flight.remove(&self.id);
            if let Some(Ok(client)) = &self.answer {
                shard.keep(&self.id, client.clone(), self.asked_at);
            }
        }
        drop(shard);
        if let Some(answer) = self.answer.take() {
            self.finish.finish(answer);
        }
    }
}
