//! The clients in Redis.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{RedisStore, Shared, json, workloads};
use crate::client_id::ClientId;
use crate::clock::{UnixTime, later};
use crate::registration::{RegisteredClient, WorkloadKey, from_json};
use crate::store::client_page::ClientPage;
use crate::store::listed_client::client_of;
use crate::store::{
    AdminError, Change, ClientAdmin, ClientChange, ClientCondition, ClientStore, ClientWrite, FeedEntry, ListedClient,
    Revision, StoreError, StoreFuture,
};
use crate::timing::CLIENT_CHANGE_RETENTION;

/// The number of clients added by each script. Other calls wait only milliseconds for it.
const BATCH: usize = 500;

/// The error for a server without any client that had some before.
pub(super) const NO_CLIENTS: &str = "Redis has no clients any more: it was emptied, it evicted them, or another server without the data took \
    its place; restore the data, or create the clients again";

impl ClientStore for RedisStore {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        StoreFuture::new(async move { Ok(self.load(id).await?.map(|(client, _)| client)) })
    }

    fn find_by_workload<'a>(&'a self, keys: &'a [WorkloadKey]) -> StoreFuture<'a, Option<Vec<ClientId>>> {
        StoreFuture::new(async move { workloads::find(&self.shared, keys).await.map(Some) })
    }

    fn is_administered(&self) -> bool {
        true
    }
}

impl ClientAdmin for RedisStore {
    fn apply(&self, change: ClientChange) -> StoreFuture<'_, (), AdminError> {
        StoreFuture::new(async move {
            let now = later(self.shared.clock.now(), self.shared.clock_check.delay());
            let (write, conditions, entries) = change.into_parts(now, self.shared.longest);
            match write {
                ClientWrite::Create(client) => match self.shared.create(&[client], &conditions).await? {
                    None => Err(AdminError::Conflict),
                    Some(0) => Err(AdminError::Exists),
                    Some(_) => Ok(()),
                },
                ClientWrite::Replace(client, revision) => {
                    self.change(client.id(), Some(revision), Some(&client), &conditions, &entries).await
                }
                ClientWrite::Delete(id) => self.change(&id, None, None, &conditions, &entries).await,
            }
        })
    }

    fn create_all(&self, clients: Vec<RegisteredClient>) -> StoreFuture<'_, usize> {
        StoreFuture::new(async move {
            let mut created = 0;
            for batch in clients.chunks(BATCH) {
                created += self.shared.create(batch, &[]).await?.unwrap_or_default();
            }
            Ok(created)
        })
    }

    fn load<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<(Arc<RegisteredClient>, Revision)>> {
        StoreFuture::new(async move {
            let Shared { link, keys, .. } = &*self.shared;
            let mut commands = ::redis::pipe();
            // A replica refuses this write without effect, and then nothing that it says is used.
            commands.cmd("DEL").arg(keys.nothing());
            commands.cmd("HMGET").arg(keys.clients()).arg(id.as_str()).arg("");
            let (_, (found, mark)): (u64, (Option<String>, Option<String>)) = link.pipeline(&commands).await?;
            let has_clients = found.is_some() || mark.is_some();
            if has_clients {
                self.shared.had_clients.store(true, Ordering::Relaxed);
            } else if self.shared.had_clients.load(Ordering::Relaxed) {
                return Err(StoreError::new(NO_CLIENTS));
            }
            let Some((client, revision)) = found.as_deref().map(record).transpose()? else { return Ok(None) };
            Ok(Some((client_of(id, Ok(client))?, revision)))
        })
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<Arc<RegisteredClient>>> {
        StoreFuture::new(async move {
            let page = ClientPage::read(after, limit, |after, count| self.rows_of_clients(after, count)).await?;
            page.iter().map(|(id, text)| client_of(id, record(text).map(|(client, _)| client))).collect()
        })
    }

    fn list_entries<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<ListedClient>> {
        StoreFuture::new(async move {
            let page = ClientPage::read(after, limit, |after, count| self.rows_of_clients(after, count)).await?;
            let entry = |(id, text): (_, String)| ListedClient::of(id, record(&text).map(|(client, _)| client));
            Ok(page.into_iter().map(entry).collect())
        })
    }
}

impl RedisStore {
    /// Returns the ids and the records of the first clients after this id.
    async fn rows_of_clients(
        &self,
        after: Option<String>,
        limit: NonZeroUsize,
    ) -> Result<Vec<(String, String)>, StoreError> {
        let Shared { link, scripts, keys, .. } = &*self.shared;
        let mut call = scripts.list.prepare_invoke();
        keys.give(&mut call)?;
        call.arg(after.map_or_else(|| "-".to_owned(), |id| format!("({id}")))
            .arg(i64::try_from(limit.get()).unwrap_or(i64::MAX));
        let (ids, records): (Vec<String>, Vec<String>) = link.script(&call).await?;
        Ok(ids.into_iter().zip(records).collect())
    }

    /// Changes a registration and writes the change to the feed, in one step.
    async fn change(
        &self,
        id: &ClientId,
        revision: Option<Revision>,
        record: Option<&RegisteredClient>,
        conditions: &[ClientCondition],
        entries: &[FeedEntry],
    ) -> Result<(), AdminError> {
        let Shared { link, scripts, keys, .. } = &*self.shared;
        let of_client = entries.iter().find(|entry| matches!(entry.change, Change::Client(_)));
        let revocation = entries.iter().find(|entry| matches!(entry.change, Change::Revoked(_)));
        let text = |entry: Option<&FeedEntry>| entry.map_or_else(|| Ok(String::new()), |entry| json(&entry.change));
        let end = |entry: Option<&FeedEntry>| entry.map_or(0, |entry| entry.keep_until);
        let mut call = scripts.change.prepare_invoke();
        keys.give(&mut call)?;
        call.arg(end(of_client))
            .arg(id.as_str())
            .arg(text(of_client)?)
            .arg(revision.map_or_else(String::new, |revision| revision.to_string()))
            .arg(record.map_or_else(|| Ok(String::new()), json)?)
            .arg(text(revocation)?)
            .arg(end(revocation))
            .arg(record.map_or_else(String::new, workloads::of));
        for (id, revision) in conditions {
            call.arg(id.as_str()).arg(revision.to_string());
        }
        let (outcome, tip) = link.script::<(String, String)>(&call).await?;
        match outcome.as_str() {
            "done" => {
                self.shared.last_writes.acknowledged(tip);
                Ok(())
            }
            "gone" => Err(AdminError::NotFound),
            _ => Err(AdminError::Conflict),
        }
    }
}

impl Shared {
    /// Returns how many clients were added, or `None` if a condition does not hold.
    async fn create(
        &self,
        clients: &[RegisteredClient],
        conditions: &[ClientCondition],
    ) -> Result<Option<usize>, StoreError> {
        let mut call = self.scripts.create.prepare_invoke();
        self.keys.give(&mut call)?;
        call.arg(UnixTime::now(&*self.clock).after(CLIENT_CHANGE_RETENTION).as_secs()).arg(conditions.len());
        for (id, revision) in conditions {
            call.arg(id.as_str()).arg(revision.to_string());
        }
        for client in clients {
            call.arg(client.id().as_str()).arg(json(client)?).arg(json(&Change::Client(client.id().clone()))?);
            call.arg(workloads::of(client));
        }
        let (created, tip) = self.link.script::<(i64, String)>(&call).await?;
        if created > 0 {
            self.had_clients.store(true, Ordering::Relaxed);
            self.last_writes.acknowledged(tip);
        }
        Ok(usize::try_from(created).ok())
    }
}

/// Parses a record: its revision, a space, and the registration as JSON.
pub(super) fn record(text: &str) -> Result<(Arc<RegisteredClient>, Revision), StoreError> {
    let (revision, json) = text.split_once(' ').ok_or_else(|| StoreError::new("a client's record has no revision"))?;
    let revision = Revision::new(revision.parse().map_err(StoreError::new)?);
    Ok((Arc::new(from_json(json).map_err(StoreError::new)?), revision))
}
