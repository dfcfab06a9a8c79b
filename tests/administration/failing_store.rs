//! A store that does not answer after a change, or whose client is gone then.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tower_client_credentials::registration::RegisteredClient;
use tower_client_credentials::store::{
    AdminError, ChangeFeed, Changes, ClientAdmin, ClientChange, Cursor, MemoryStore, Revision, StoreError, StoreFuture,
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
