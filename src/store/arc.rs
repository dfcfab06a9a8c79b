//! Stores behind an [`Arc`], such as `Arc<dyn ClientStore>`.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::admin::ClientAdmin;
use super::admin_error::AdminError;

use super::change_feed::{ChangeFeed, Changes, Cursor};
use super::client_change::{ClientChange, Revision};
use super::listed_client::ListedClient;
use super::replay::{Replay, ReplayBounds, ReplayId, ReplayLog};
use super::revocation::Revocation;
use super::revocation_store::RevocationStore;
use super::{ClientStore, DynFuture, MemoryStore, StoreFuture};
use crate::client_id::ClientId;
use crate::registration::{RegisteredClient, WorkloadKey};

impl<T: ClientStore + ?Sized> ClientStore for Arc<T> {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        (**self).find(id)
    }

    fn find_by_workload<'a>(&'a self, keys: &'a [WorkloadKey]) -> StoreFuture<'a, Option<Vec<ClientId>>> {
        (**self).find_by_workload(keys)
    }

    fn in_memory(&self) -> Option<&MemoryStore> {
        (**self).in_memory()
    }

    fn is_administered(&self) -> bool {
        (**self).is_administered()
    }
}

impl<T: ClientAdmin + ?Sized> ClientAdmin for Arc<T> {
    fn apply(&self, change: ClientChange) -> StoreFuture<'_, (), AdminError> {
        (**self).apply(change)
    }

    fn load<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<(Arc<RegisteredClient>, Revision)>> {
        (**self).load(id)
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<Arc<RegisteredClient>>> {
        (**self).list(after, limit)
    }

    fn list_entries<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<ListedClient>> {
        (**self).list_entries(after, limit)
    }

    fn create_all(&self, clients: Vec<RegisteredClient>) -> StoreFuture<'_, usize> {
        (**self).create_all(clients)
    }
}

impl<T: ChangeFeed + ?Sized> ChangeFeed for Arc<T> {
    fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes> {
        (**self).changes(cursor)
    }

    fn changed(&self) -> DynFuture<'_, ()> {
        (**self).changed()
    }
}

impl<T: RevocationStore + ?Sized> RevocationStore for Arc<T> {
    fn revoke(&self, revocation: Revocation) -> StoreFuture<'_, ()> {
        (**self).revoke(revocation)
    }

    fn purge(&self, now: SystemTime) -> StoreFuture<'_, u64> {
        (**self).purge(now)
    }

    fn longest_token_lifetime(&self) -> Duration {
        (**self).longest_token_lifetime()
    }
}

impl<T: ReplayLog + ?Sized> ReplayLog for Arc<T> {
    fn check_and_insert<'a>(
        &'a self,
        id: &'a ReplayId,
        expires_at: SystemTime,
        now: SystemTime,
    ) -> StoreFuture<'a, Replay> {
        (**self).check_and_insert(id, expires_at, now)
    }

    fn check_and_insert_within<'a>(
        &'a self,
        id: &'a ReplayId,
        bounds: ReplayBounds<'a>,
        expires_at: SystemTime,
        now: SystemTime,
    ) -> StoreFuture<'a, Replay> {
        (**self).check_and_insert_within(id, bounds, expires_at, now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::client_id::ClientId;
    use crate::store::conformance::{self, Violation};
    use crate::store::{ClientAdmin, ClientStore, MemoryStore, ReplayLog, RevocationStore};

    trait Everything: ClientAdmin + RevocationStore + ReplayLog {}

    impl<T: ClientAdmin + RevocationStore + ReplayLog> Everything for T {}

    fn store() -> Arc<dyn Everything> {
        Arc::new(MemoryStore::default())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_store_behind_a_pointer_passes_the_conformance_tests() -> Result<(), Violation> {
        conformance::clients(|| async { store() }).await?;
        conformance::revocations(|| async { store() }).await?;
        conformance::client_changes(|| async { store() }).await?;
        conformance::replay_log(|| async { store() }).await
    }

    #[tokio::test]
    async fn a_pointer_to_all_traits_is_a_pointer_to_each_of_them() {
        let store = store();
        let clients: Arc<dyn ClientStore> = store.clone();
        let admin: Arc<dyn ClientAdmin> = store;
        assert!(clients.in_memory().is_some() && !clients.is_administered());
        assert!(
            admin.update(&ClientId::from_static("none"), crate::registration::RegisteredClient::edit).await.is_err()
        );
    }
}
