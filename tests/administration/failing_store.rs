//! A store that does not answer after a change, or whose client is gone then, and one that does not revoke.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tower_client_credentials::registration::RegisteredClient;
use tower_client_credentials::store::{
    AdminError, Change, ChangeFeed, Changes, ClientAdmin, ClientChange, Cursor, MemoryStore, Revision, Revocation,
    RevocationStore, StoreError, StoreFuture,
};
use tower_client_credentials::{ClientId, ClientStore};

/// Makes each change, and answers all later calls differently.
#[derive(Debug)]
pub struct FailsAfterChange {
    store: MemoryStore,
    was_changed: AtomicBool,
    has_deleted: bool,
}

impl FailsAfterChange {
    /// All later calls fail.
    pub fn new(store: MemoryStore) -> Self {
        Self { store, was_changed: AtomicBool::new(false), has_deleted: false }
    }

    /// Another administrator deletes the client after each change.
    pub fn deleted(store: MemoryStore) -> Self {
        Self { has_deleted: true, ..Self::new(store) }
    }
}

impl ClientStore for FailsAfterChange {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        self.store.find(id)
    }
}

impl ClientAdmin for FailsAfterChange {
    fn apply(&self, change: ClientChange) -> StoreFuture<'_, (), AdminError> {
        self.was_changed.store(true, Ordering::SeqCst);
        if !self.has_deleted {
            return self.store.apply(change);
        }
        let id = change.client_id().clone();
        StoreFuture::new(async move {
            self.store.apply(change).await?;
            self.store.delete(&id).await
        })
    }

    fn load<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<(Arc<RegisteredClient>, Revision)>> {
        if !self.has_deleted && self.was_changed.load(Ordering::SeqCst) {
            return StoreFuture::ready(Err(StoreError::new("the store is gone")));
        }
        self.store.load(id)
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<Arc<RegisteredClient>>> {
        self.store.list(after, limit)
    }
}

impl ChangeFeed for FailsAfterChange {
    fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes> {
        self.store.changes(cursor)
    }
}

/// Stores revocations only. Some writes fail.
#[derive(Clone, Debug, Default)]
pub struct FailingRevocations {
    store: MemoryStore,
    /// How many writes succeed until one fails. The next ones succeed.
    succeeding: Arc<Mutex<Option<usize>>>,
}

impl FailingRevocations {
    pub fn fail_after(&self, succeeding: usize) {
        *self.succeeding.lock().unwrap() = Some(succeeding);
    }

    /// Returns whether the tokens of this client were revoked.
    pub async fn revokes(&self, id: &str) -> bool {
        let changes = self.store.changes(&Cursor::start()).await.unwrap().changes;
        changes.iter().any(|change| {
            matches!(change, Change::Revoked(Revocation::Client { client_id, .. }) if client_id.as_str() == id)
        })
    }
}

impl ChangeFeed for FailingRevocations {
    fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes> {
        self.store.changes(cursor)
    }
}

impl RevocationStore for FailingRevocations {
    fn revoke(&self, revocation: Revocation) -> StoreFuture<'_, ()> {
        let mut succeeding = self.succeeding.lock().unwrap();
        let next = succeeding.map(|number| number.checked_sub(1));
        *succeeding = next.flatten();
        if next == Some(None) {
            return StoreFuture::ready(Err(StoreError::new("the store of revocations is gone")));
        }
        self.store.revoke(revocation)
    }

    fn purge(&self, now: SystemTime) -> StoreFuture<'_, u64> {
        self.store.purge(now)
    }

    fn longest_token_lifetime(&self) -> Duration {
        self.store.longest_token_lifetime()
    }
}
