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
use crate::sync::through_arc;

through_arc!(ClientStore {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>>;
    fn find_by_workload<'a>(&'a self, keys: &'a [WorkloadKey]) -> StoreFuture<'a, Option<Vec<ClientId>>>;
    fn in_memory(&self) -> Option<&MemoryStore>;
    fn is_administered(&self) -> bool;
});

through_arc!(ClientAdmin {
    fn apply(&self, change: ClientChange) -> StoreFuture<'_, (), AdminError>;
    fn load<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<(Arc<RegisteredClient>, Revision)>>;
    fn list<'a>(&'a self, after: Option<&'a ClientId>, limit: NonZeroUsize) -> StoreFuture<'a, Vec<Arc<RegisteredClient>>>;
    fn list_entries<'a>(&'a self, after: Option<&'a ClientId>, limit: NonZeroUsize) -> StoreFuture<'a, Vec<ListedClient>>;
    fn create_all(&self, clients: Vec<RegisteredClient>) -> StoreFuture<'_, usize>;
});

through_arc!(ChangeFeed {
    fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes>;
    fn changed(&self) -> DynFuture<'_, ()>;
});

through_arc!(RevocationStore {
    fn revoke(&self, revocation: Revocation) -> StoreFuture<'_, ()>;
    fn purge(&self, now: SystemTime) -> StoreFuture<'_, u64>;
    fn longest_token_lifetime(&self) -> Duration;
});

through_arc!(ReplayLog {
    fn check_and_insert<'a>(&'a self, id: &'a ReplayId, expires_at: SystemTime, now: SystemTime) -> StoreFuture<'a, Replay>;
    fn check_and_insert_within<'a>(
        &'a self,
        id: &'a ReplayId,
        bounds: ReplayBounds<'a>,
        expires_at: SystemTime,
        now: SystemTime
    ) -> StoreFuture<'a, Replay>;
});

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
