//! [`database!`]: the storage traits of a database, from its own methods.

use std::sync::Arc;
use std::time::SystemTime;

use super::{ClientCondition, FeedEntry, ReplayId, Revision, StoreError};
use crate::registration::RegisteredClient;

/// A client that was found.
pub(super) type Found = Option<(Arc<RegisteredClient>, Revision)>;

/// The ids and the records of clients.
pub(super) type Records = Vec<(String, String)>;

/// What a database checks and writes together with the registration of a client.
#[derive(Default)]
pub(super) struct Terms {
    pub(super) conditions: Vec<ClientCondition>,
    pub(super) entries: Vec<FeedEntry>,
}

/// A use of a one-time credential. The times are by the clock of the caller.
#[derive(Clone, Copy)]
pub(super) struct Use<'a> {
    pub(super) id: &'a ReplayId,
    pub(super) expires_at: SystemTime,
    pub(super) now: SystemTime,
}

/// Purges entries, `most` at once, until none is left. Returns how many were removed.
pub(super) async fn purged<F>(most: u64, purge_some: impl Fn() -> F) -> Result<u64, StoreError>
where
    F: Future<Output = Result<u64, StoreError>>,
{
    let mut purged = 0;
    loop {
        let some = purge_some().await?;
        purged += some;
        if some < most {
            return Ok(purged);
        }
    }
}

/// Implements the storage traits for a store, whose own methods are plain async functions: the traits box their futures. `parse` reads
/// the record of a client, `at_once` is how many clients one call creates, and `longest` is the field with the longest token lifetime.
macro_rules! database {
    ($store:ident, parse: $parse:path, at_once: $at_once:expr, longest: $($longest:ident).+) => {
        mod traits {
            use std::num::NonZeroUsize;
            use std::sync::Arc;
            use std::time::{Duration, SystemTime};

            use super::*;
            use $crate::client_id::ClientId;
            use $crate::keys::rotation::{KeyStore, KeyStoreError, KeyStoreFuture, Replica, StoredRing};
            use $crate::registration::{RegisteredClient, WorkloadKey};
            use $crate::store::client_page::client_page;
            use $crate::store::database::{Terms, Use};
            use $crate::store::listed_client::client_of;
            use $crate::store::{
                AdminError, ChangeFeed, Changes, ClientAdmin, ClientChange, ClientStore, ClientWrite, Cursor, DynFuture,
                ListedClient, Replay, ReplayBounds, ReplayId, ReplayLog, Revision, Revocation, RevocationStore,
                StoreError, StoreFuture,
            };

            impl ClientStore for $store {
                fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
                    StoreFuture::new(async move { Ok(self.find_client(id).await?.map(|(client, _)| client)) })
                }

                fn find_by_workload<'a>(&'a self, keys: &'a [WorkloadKey]) -> StoreFuture<'a, Option<Vec<ClientId>>> {
                    StoreFuture::new(async move {
                        let ids = self.ids_of_workloads(keys.iter().map(ToString::to_string).collect()).await?;
                        let ids: Result<_, _> = ids.iter().map(|id| id.parse().map_err(StoreError::new)).collect();
                        ids.map(Some)
                    })
                }

                fn is_administered(&self) -> bool {
                    true
                }
            }

            impl ClientAdmin for $store {
                fn apply(&self, change: ClientChange) -> StoreFuture<'_, (), AdminError> {
                    StoreFuture::new(async move {
                        let now = self.time_of_change();
                        let (write, conditions, entries) = change.into_parts(now, self.longest_token_lifetime());
                        let terms = Terms { conditions, entries };
                        match write {
                            ClientWrite::Create(client) => match self.create_some(&[client], &terms).await? {
                                0 => Err(AdminError::Exists),
                                _ => Ok(()),
                            },
                            ClientWrite::Replace(client, at) => self.replace_client(&client, at, &terms).await,
                            ClientWrite::Delete(id) => self.delete_client(&id, &terms).await,
                        }
                    })
                }

                fn create_all(&self, clients: Vec<RegisteredClient>) -> StoreFuture<'_, usize> {
                    StoreFuture::new(async move {
                        let (mut created, terms) = (0, Terms::default());
                        for clients in clients.chunks($at_once) {
                            created += self.create_some(clients, &terms).await.map_err(AdminError::into_store_error)?;
                        }
                        Ok(created)
                    })
                }

                fn load<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<(Arc<RegisteredClient>, Revision)>> {
                    StoreFuture::new(self.find_client(id))
                }

                fn list<'a>(
                    &'a self,
                    after: Option<&'a ClientId>,
                    limit: NonZeroUsize,
                ) -> StoreFuture<'a, Vec<Arc<RegisteredClient>>> {
                    StoreFuture::new(async move {
                        let page = client_page(after, limit, |after, most| self.records(after, most)).await?;
                        page.iter().map(|(id, record)| client_of(id, $parse(record))).collect()
                    })
                }

                fn list_entries<'a>(
                    &'a self,
                    after: Option<&'a ClientId>,
                    limit: NonZeroUsize,
                ) -> StoreFuture<'a, Vec<ListedClient>> {
                    StoreFuture::new(async move {
                        let page = client_page(after, limit, |after, most| self.records(after, most)).await?;
                        Ok(page.into_iter().map(|(id, record)| ListedClient::of(id, $parse(&record))).collect())
                    })
                }
            }

            impl ChangeFeed for $store {
                fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes> {
                    StoreFuture::new(self.read_feed(cursor))
                }

                fn changed(&self) -> DynFuture<'_, ()> {
                    DynFuture::new(self.woken())
                }
            }

            impl RevocationStore for $store {
                fn revoke(&self, revocation: Revocation) -> StoreFuture<'_, ()> {
                    StoreFuture::new(self.add_revocation(revocation))
                }

                fn purge(&self, now: SystemTime) -> StoreFuture<'_, u64> {
                    StoreFuture::new(self.purge_until(now))
                }

                fn longest_token_lifetime(&self) -> Duration {
                    self.$($longest).+
                }
            }

            impl ReplayLog for $store {
                fn check_and_insert<'a>(
                    &'a self,
                    id: &'a ReplayId,
                    expires_at: SystemTime,
                    now: SystemTime,
                ) -> StoreFuture<'a, Replay> {
                    StoreFuture::new(self.use_once(Use { id, expires_at, now }))
                }

                fn check_and_insert_within<'a>(
                    &'a self,
                    id: &'a ReplayId,
                    bounds: ReplayBounds<'a>,
                    expires_at: SystemTime,
                    now: SystemTime,
                ) -> StoreFuture<'a, Replay> {
                    StoreFuture::new(self.use_within(Use { id, expires_at, now }, bounds))
                }
            }

            impl KeyStore for $store {
                fn load_ring<'a>(&'a self, ring: &'a str) -> KeyStoreFuture<'a, StoredRing> {
                    Box::pin(async move { self.read_ring(ring).await.map_err(KeyStoreError::new) })
                }

                fn save_ring<'a>(
                    &'a self,
                    ring: &'a str,
                    over: u64,
                    version: u64,
                    document: &'a str,
                ) -> KeyStoreFuture<'a, bool> {
                    Box::pin(
                        async move { self.write_ring(ring, over, version, document).await.map_err(KeyStoreError::new) },
                    )
                }

                fn renew_lease<'a>(
                    &'a self,
                    ring: &'a str,
                    replica: &'a Replica,
                    lease: Duration,
                ) -> KeyStoreFuture<'a, ()> {
                    Box::pin(async move { self.write_lease(ring, replica, lease).await.map_err(KeyStoreError::new) })
                }
            }
        }
    };
}
pub(super) use database;
