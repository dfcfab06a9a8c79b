//! The store in memory keeps the contracts, and one that breaks them is found out.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::SystemTime;

use super::Violation;
use crate::client_id::ClientId;
use crate::registration::RegisteredClient;
use crate::store::{
    AdminError, Change, Changes, ClientAdmin, ClientStore, Cursor, MemoryStore, Replay, ReplayId, ReplayLog, Revision,
    Revocation, RevocationStore, StoreError,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_store_in_memory_keeps_the_contracts() -> Result<(), Violation> {
    super::clients(|| async { MemoryStore::default() }).await?;
    super::revocations(|| async { MemoryStore::default() }).await?;
    super::client_changes(|| async { MemoryStore::default() }).await?;
    super::replay_log(|| async { MemoryStore::default() }).await?;
    let shared = MemoryStore::default();
    super::durability(|| async { shared.clone() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_found_out_by_the_step_that_asks_for_the_contrary() {
    for (fault, step) in [
        (Fault::FindsByPrefix, "an id is compared byte by byte, whatever it looks like"),
        (Fault::CreatesAgain, "an id is given once"),
        (Fault::IgnoresRevisions, "only the revision that was seen is replaced"),
        (Fault::DeletesNothing, "a client that was created anew is not the old one"),
        (Fault::ListsTheFirst, "clients are listed by page, in the order of their ids' bytes"),
        (Fault::TellsNoClients, "each change of a client is told"),
        (Fault::RevokesNoClients, "disabling a client revokes its tokens in the same step"),
        (Fault::ForgetsTheCursor, "a cursor goes on where it was"),
        (Fault::LosesEverySeventh, "a follower misses nothing of what is revoked meanwhile"),
        (Fault::PurgesAll, "what has not expired is kept, and what has expired goes"),
        (Fault::LetsReplaysIn, "an id is fresh once"),
        (Fault::ForgetsReplaysEarly, "an id that has expired may come again, and not before"),
    ] {
        assert_eq!(first_violation(fault).await.as_deref(), Some(step), "{fault:?}");
    }
}

async fn first_violation(fault: Fault) -> Option<String> {
    let faulty = || async { Faulty { store: MemoryStore::default(), fault } };
    let found = async {
        super::clients(faulty).await?;
        super::revocations(faulty).await?;
        super::client_changes(faulty).await?;
        super::replay_log(faulty).await
    };
    found.await.err().map(|violation| violation.step().to_owned())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    FindsByPrefix,
    CreatesAgain,
    IgnoresRevisions,
    DeletesNothing,
    ListsTheFirst,
    TellsNoClients,
    RevokesNoClients,
    ForgetsTheCursor,
    LosesEverySeventh,
    PurgesAll,
    LetsReplaysIn,
    ForgetsReplaysEarly,
}

/// A store in memory that does one thing wrong.
#[derive(Debug)]
struct Faulty {
    store: MemoryStore,
    fault: Fault,
}

impl ClientStore for Faulty {
    async fn find(&self, id: &ClientId) -> Result<Option<Arc<RegisteredClient>>, StoreError> {
        if self.fault == Fault::FindsByPrefix {
            let all = self.store.list(None, NonZeroUsize::MAX).await?;
            return Ok(all.into_iter().find(|client| client.id().starts_with(id.as_str())));
        }
        self.store.find(id).await
    }
}

impl ClientAdmin for Faulty {
    async fn create(&self, client: RegisteredClient) -> Result<(), AdminError> {
        if self.fault == Fault::CreatesAgain && self.store.find(client.id()).await?.is_some() {
            self.store.delete(client.id()).await?;
        }
        self.store.create(client).await
    }

    async fn load(&self, id: &ClientId) -> Result<Option<(Arc<RegisteredClient>, Revision)>, StoreError> {
        self.store.load(id).await
    }

    async fn replace(&self, client: RegisteredClient, revision: Revision) -> Result<(), AdminError> {
        let current = self.store.load(client.id()).await?.map(|(_, current)| current);
        let is_ignored = self.fault == Fault::IgnoresRevisions;
        self.store.replace(client, current.filter(|_| is_ignored).unwrap_or(revision)).await
    }

    async fn delete(&self, id: &ClientId) -> Result<(), AdminError> {
        if self.fault == Fault::DeletesNothing && *id == ClientId::from_static("billing") {
            return Ok(());
        }
        self.store.delete(id).await
    }

    async fn list(
        &self,
        after: Option<&ClientId>,
        limit: NonZeroUsize,
    ) -> Result<Vec<Arc<RegisteredClient>>, StoreError> {
        let is_wrong = self.fault == Fault::ListsTheFirst && limit.get() == 10 && after.is_some();
        self.store.list(after.filter(|_| !is_wrong), limit).await
    }
}

impl RevocationStore for Faulty {
    async fn revoke(&self, revocation: Revocation) -> Result<(), StoreError> {
        if let (Fault::LosesEverySeventh, Revocation::Token { token_id, .. }) = (self.fault, &revocation)
            && token_id.starts_with("7.")
        {
            return Ok(());
        }
        self.store.revoke(revocation).await
    }

    async fn changes(&self, cursor: &Cursor) -> Result<Changes, StoreError> {
        let start = Cursor::start();
        let mut changes =
            self.store.changes(if self.fault == Fault::ForgetsTheCursor { &start } else { cursor }).await?;
        changes.changes.retain(|change| match (self.fault, change) {
            (Fault::TellsNoClients, Change::Client(_)) => false,
            // In the steps about clients alone, the others have revocations of clients as well.
            (Fault::RevokesNoClients, Change::Revoked(Revocation::Client { client_id, .. })) => {
                client_id.starts_with(|first: char| !first.is_ascii_digit())
            }
            _ => true,
        });
        Ok(changes)
    }

    async fn purge(&self, now: SystemTime) -> Result<u64, StoreError> {
        let later = now + std::time::Duration::from_secs(1_000_000);
        self.store.purge(if self.fault == Fault::PurgesAll { later } else { now }).await
    }
}

impl ReplayLog for Faulty {
    async fn check_and_insert(
        &self,
        id: &ReplayId,
        expires_at: SystemTime,
        now: SystemTime,
    ) -> Result<Replay, StoreError> {
        match self.fault {
            Fault::LetsReplaysIn => Ok(Replay::Fresh),
            Fault::ForgetsReplaysEarly => {
                let early = now + (expires_at.duration_since(now).unwrap_or_default() / 60);
                self.store.check_and_insert(id, early, now).await
            }
            _ => self.store.check_and_insert(id, expires_at, now).await,
        }
    }
}
