//! A store that does not answer after a change.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tower_client_credentials::registration::RegisteredClient;
use tower_client_credentials::store::{
    AdminError, ChangeFeed, Changes, ClientAdmin, ClientChange, Cursor, MemoryStore, Revision, StoreError, StoreFuture,
};
use tower_client_credentials::{ClientId, ClientStore};

/// Makes each change, and fails all later calls.
#[derive(Debug)]
pub struct FailsAfterChange {
    store: MemoryStore,
    fails: AtomicBool,
}

impl FailsAfterChange {
    pub fn new(store: MemoryStore) -> Self {
        Self { store, fails: AtomicBool::new(false) }
    }
}

impl ClientStore for FailsAfterChange {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        self.store.find(id)
    }
}

impl ClientAdmin for FailsAfterChange {
    fn apply(&self, change: ClientChange) -> StoreFuture<'_, (), AdminError> {
        self.fails.store(true, Ordering::SeqCst);
        self.store.apply(change)
    }

    fn load<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<(Arc<RegisteredClient>, Revision)>> {
        if self.fails.load(Ordering::SeqCst) {
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
