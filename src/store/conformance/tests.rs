//! The memory store passes the conformance tests, and each faulty store fails them.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::SystemTime;

use super::Violation;
use crate::client_id::ClientId;
use crate::registration::{RegisteredClient, WorkloadKey};
use crate::store::{
    AdminError, Change, ChangeFeed, Changes, ClientAdmin, ClientChange, ClientStore, ClientWrite, Cursor, MemoryStore,
    Replay, ReplayId, ReplayLog, Revision, Revocation, RevocationStore, StoreFuture,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_store_passes_the_conformance_tests() -> Result<(), Violation> {
    super::clients(|| async { MemoryStore::default() }).await?;
    super::revocations(|| async { MemoryStore::default() }).await?;
    super::client_changes(|| async { MemoryStore::default() }).await?;
    super::replay_log(|| async { MemoryStore::default() }).await?;
    let shared = MemoryStore::default();
    super::durability(|| async { shared.clone() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_fails_the_step_that_checks_for_it() {
    for (fault, step) in [
        (Fault::FindsByPrefix, "ids are compared byte by byte"),
        (Fault::CreatesTwice, "a second client with the same id is refused"),
        (Fault::IgnoresRevisions, "only the current revision is replaced"),
        (Fault::IgnoresConditions, "a change is made only if all its conditions hold"),
        (Fault::DeletesNothing, "a client that was deleted and created again has another revision"),
        (Fault::ListsTheFirst, "clients are listed by page, sorted by the bytes of their ids"),
        (Fault::FindsOneOfSeveral, "clients are found by their workloads, if the store has an index"),
        (Fault::ReportsNoClients, "each change of a client is reported"),
        (Fault::RevokesNoClients, "disabling a client revokes its tokens in the same step"),
        (Fault::ForgetsTheCursor, "a cursor continues after the changes that were read"),
        (Fault::LosesEverySeventh, "a reader misses no concurrent revocation"),
        (Fault::PurgesAll, "a purge removes exactly the expired entries"),
        (Fault::AcceptsReplays, "an id is fresh once"),
        (Fault::ForgetsReplaysEarly, "an id is fresh again once it has expired, and not before"),
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
    CreatesTwice,
    IgnoresRevisions,
    IgnoresConditions,
    DeletesNothing,
    ListsTheFirst,
    FindsOneOfSeveral,
    ReportsNoClients,
    RevokesNoClients,
    ForgetsTheCursor,
    LosesEverySeventh,
    PurgesAll,
    AcceptsReplays,
    ForgetsReplaysEarly,
}

/// A memory store with one fault.
#[derive(Debug)]
struct Faulty {
    store: MemoryStore,
    fault: Fault,
}

impl ClientStore for Faulty {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        StoreFuture::new(async move {
            if self.fault == Fault::FindsByPrefix {
                let all = self.store.list(None, NonZeroUsize::MAX).await?;
                return Ok(all.into_iter().find(|client| client.id().starts_with(id.as_str())));
            }
            self.store.find(id).await
        })
    }

    fn find_by_workload<'a>(&'a self, keys: &'a [WorkloadKey]) -> StoreFuture<'a, Option<Vec<ClientId>>> {
        StoreFuture::new(async move {
            let mut found = self.store.find_by_workload(keys).await?;
            if self.fault == Fault::FindsOneOfSeveral {
                found = found.map(|found| found.into_iter().take(1).collect());
            }
            Ok(found)
        })
    }
}

impl ClientAdmin for Faulty {
    fn apply(&self, change: ClientChange) -> StoreFuture<'_, (), AdminError> {
        StoreFuture::new(async move {
            let (write, conditions, _) = change.into_parts(SystemTime::now(), self.store.longest_token_lifetime());
            let conditions = conditions.into_iter().filter(|_| self.fault != Fault::IgnoresConditions);
            let provided = |change| conditions.fold(change, |change: ClientChange, (id, at)| change.provided(id, at));
            match write {
                ClientWrite::Create(client) => {
                    if self.fault == Fault::CreatesTwice && self.store.find(client.id()).await?.is_some() {
                        self.store.delete(client.id()).await?;
                    }
                    self.store.apply(provided(ClientChange::create(client))).await
                }
                ClientWrite::Replace(client, revision) => {
                    let current = self.store.load(client.id()).await?.map(|(_, current)| current);
                    let is_ignored = self.fault == Fault::IgnoresRevisions;
                    let revision = current.filter(|_| is_ignored).unwrap_or(revision);
                    self.store.apply(provided(ClientChange::replace(client, revision))).await
                }
                ClientWrite::Delete(id) => {
                    if self.fault == Fault::DeletesNothing && id == ClientId::from_static("billing") {
                        return Ok(());
                    }
                    self.store.apply(provided(ClientChange::delete(id))).await
                }
            }
        })
    }

    fn load<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<(Arc<RegisteredClient>, Revision)>> {
        StoreFuture::new(async move { self.store.load(id).await })
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<Arc<RegisteredClient>>> {
        StoreFuture::new(async move {
            let is_wrong = self.fault == Fault::ListsTheFirst && limit.get() == 10 && after.is_some();
            self.store.list(after.filter(|_| !is_wrong), limit).await
        })
    }
}

impl ChangeFeed for Faulty {
    fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes> {
        StoreFuture::new(async move {
            let start = Cursor::start();
            let mut changes =
                self.store.changes(if self.fault == Fault::ForgetsTheCursor { &start } else { cursor }).await?;
            changes.changes.retain(|change| match (self.fault, change) {
                (Fault::ReportsNoClients, Change::Client(_)) => false,
                // In the steps about revocations, other clients have revocations, too; these must be kept.
                (Fault::RevokesNoClients, Change::Revoked(Revocation::Client { client_id, .. })) => {
                    client_id.starts_with(|first: char| !first.is_ascii_digit())
                }
                _ => true,
            });
            Ok(changes)
        })
    }
}

impl RevocationStore for Faulty {
    fn revoke(&self, revocation: Revocation) -> StoreFuture<'_, ()> {
        StoreFuture::new(async move {
            if let (Fault::LosesEverySeventh, Revocation::Token { token_id, .. }) = (self.fault, &revocation)
                && token_id.starts_with("7.")
            {
                return Ok(());
            }
            self.store.revoke(revocation).await
        })
    }

    fn purge(&self, now: SystemTime) -> StoreFuture<'_, u64> {
        StoreFuture::new(async move {
            let later = now + std::time::Duration::from_secs(1_000_000);
            self.store.purge(if self.fault == Fault::PurgesAll { later } else { now }).await
        })
    }
}

impl ReplayLog for Faulty {
    fn check_and_insert<'a>(
        &'a self,
        id: &'a ReplayId,
        expires_at: SystemTime,
        now: SystemTime,
    ) -> StoreFuture<'a, Replay> {
        StoreFuture::new(async move {
            match self.fault {
                Fault::AcceptsReplays => Ok(Replay::Fresh),
                Fault::ForgetsReplaysEarly => {
                    let early = now + (expires_at.duration_since(now).unwrap_or_default() / 60);
                    self.store.check_and_insert(id, early, now).await
                }
                _ => self.store.check_and_insert(id, expires_at, now).await,
            }
        })
    }
}
