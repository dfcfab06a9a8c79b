//! The clients in Redis.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::scripts::{CHANGE, CREATE, LIST};
use super::{RedisStore, Shared, json, workloads};
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::registration::{RegisteredClient, from_json};
use crate::store::database::{Found, Records, Terms};
use crate::store::listed_client::client_of;
use crate::store::{AdminError, Change, FeedEntry, Revision, StoreError};
use crate::timing::CLIENT_CHANGE_RETENTION;

/// The error for a server without any client that had some before.
const NO_CLIENTS: &str = "Redis has no clients any more: it was emptied, it evicted them, or another server without the data took \
    its place; restore the data, or create the clients again";

impl Shared {
    /// Notes whether the server has any clients.
    pub(super) fn note_clients(&self, has_clients: bool) -> Result<(), StoreError> {
        if has_clients {
            self.had_clients.store(true, Ordering::Relaxed);
        } else if self.had_clients.load(Ordering::Relaxed) {
            return Err(StoreError::new(NO_CLIENTS));
        }
        Ok(())
    }
}

impl RedisStore {
    pub(super) async fn find_client(&self, id: &ClientId) -> Result<Found, StoreError> {
        let Shared { link, keys, .. } = &*self.shared;
        let mut commands = ::redis::pipe();
        // A replica refuses this write without effect, and then nothing that it says is used.
        commands.cmd("DEL").arg(keys.nothing());
        commands.cmd("HMGET").arg(keys.clients()).arg(id.as_str()).arg("");
        let (_, (found, mark)): (u64, (Option<String>, Option<String>)) = link.pipeline(&commands).await?;
        self.shared.note_clients(found.is_some() || mark.is_some())?;
        let Some((client, revision)) = found.as_deref().map(record).transpose()? else { return Ok(None) };
        Ok(Some((client_of(id, Ok(client))?, revision)))
    }

    /// Returns the ids and the records of the first clients after this id.
    pub(super) async fn records(&self, after: Option<String>, limit: NonZeroUsize) -> Result<Records, StoreError> {
        let mut call = self.shared.keys.call(&LIST)?;
        call.arg(after.map_or_else(|| "-".to_owned(), |id| format!("({id}")))
            .arg(i64::try_from(limit.get()).unwrap_or(i64::MAX));
        let (ids, records): (Vec<String>, Vec<String>) = self.shared.link.script(&call).await?;
        Ok(ids.into_iter().zip(records).collect())
    }

    /// Adds clients, and returns how many were added.
    pub(super) async fn create_some(&self, clients: &[RegisteredClient], terms: &Terms) -> Result<usize, AdminError> {
        let Shared { link, keys, clock, .. } = &*self.shared;
        let mut call = keys.call(&CREATE)?;
        call.arg(UnixTime::now(&**clock).after(CLIENT_CHANGE_RETENTION).as_secs()).arg(terms.conditions.len());
        for (id, revision) in &terms.conditions {
            call.arg(id.as_str()).arg(revision.to_string());
        }
        for client in clients {
            call.arg(client.id().as_str()).arg(json(client)?).arg(json(&Change::Client(client.id().clone()))?);
            call.arg(workloads::of(client));
        }
        let (created, tip) = link.script::<(i64, String)>(&call).await?;
        if created > 0 {
            self.shared.had_clients.store(true, Ordering::Relaxed);
            self.shared.last_writes.acknowledged(tip);
        }
        usize::try_from(created).map_err(|_| AdminError::Conflict)
    }

    pub(super) async fn replace_client(
        &self,
        client: &RegisteredClient,
        at: Revision,
        terms: &Terms,
    ) -> Result<(), AdminError> {
        self.change(client.id(), Some((client, at)), terms).await
    }

    pub(super) async fn delete_client(&self, id: &ClientId, terms: &Terms) -> Result<(), AdminError> {
        self.change(id, None, terms).await
    }

    /// Replaces a registration that is at this revision, or deletes it, and writes the change to the feed, in one step.
    async fn change(
        &self,
        id: &ClientId,
        new: Option<(&RegisteredClient, Revision)>,
        terms: &Terms,
    ) -> Result<(), AdminError> {
        let Terms { conditions, entries } = terms;
        let of_client = entries.iter().find(|entry| matches!(entry.change, Change::Client(_)));
        let revocation = entries.iter().find(|entry| matches!(entry.change, Change::Revoked(_)));
        let text = |entry: Option<&FeedEntry>| entry.map_or_else(|| Ok(String::new()), |entry| json(&entry.change));
        let end = |entry: Option<&FeedEntry>| entry.map_or(0, |entry| entry.keep_until);
        let mut call = self.shared.keys.call(&CHANGE)?;
        call.arg(end(of_client))
            .arg(id.as_str())
            .arg(text(of_client)?)
            .arg(new.map_or_else(String::new, |(_, revision)| revision.to_string()))
            .arg(new.map_or_else(|| Ok(String::new()), |(client, _)| json(client))?)
            .arg(text(revocation)?)
            .arg(end(revocation))
            .arg(new.map_or_else(String::new, |(client, _)| workloads::of(client)));
        for (id, revision) in conditions {
            call.arg(id.as_str()).arg(revision.to_string());
        }
        let (outcome, tip) = self.shared.link.script::<(String, String)>(&call).await?;
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

/// Parses a record: its revision, a space, and the registration as JSON.
pub(super) fn record(text: &str) -> Result<(Arc<RegisteredClient>, Revision), StoreError> {
    let (revision, json) = text.split_once(' ').ok_or_else(|| StoreError::new("a client's record has no revision"))?;
    let revision = Revision::new(revision.parse().map_err(StoreError::new)?);
    Ok((Arc::new(from_json(json).map_err(StoreError::new)?), revision))
}

pub(super) fn parse(text: &str) -> Result<Arc<RegisteredClient>, StoreError> {
    record(text).map(|(client, _)| client)
}
