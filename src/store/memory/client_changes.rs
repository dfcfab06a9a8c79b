//! The changes of clients by [`ClientAdmin`].

use std::num::NonZeroUsize;
use std::ops::Bound;
use std::sync::Arc;

use super::MemoryStore;
use super::clients::OrderedId;
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::registration::RegisteredClient;
use crate::store::{
    AdminError, Change, ClientAdmin, ClientChange, ClientWrite, FeedEntry, Revision, RevocationStore as _, StoreError,
    StoreFuture,
};
use crate::sync::{read, write};

impl ClientAdmin for MemoryStore {
    fn apply(&self, change: ClientChange) -> StoreFuture<'_, (), AdminError> {
        StoreFuture::ready(self.apply_now(change))
    }

    fn load<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<(Arc<RegisteredClient>, Revision)>> {
        let clients = read(&self.shared.clients);
        let found = clients.found.get(id);
        StoreFuture::ready(Ok(found.map(|(client, revision)| (client.clone(), Revision::new(*revision)))))
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<Arc<RegisteredClient>>> {
        let clients = read(&self.shared.clients);
        let start = after.map_or(Bound::Unbounded, |id| Bound::Excluded(OrderedId(id.clone())));
        let page = clients.order.range((start, Bound::Unbounded)).take(limit.get());
        let page = page.filter_map(|OrderedId(id)| clients.found.get(id)).map(|(client, _)| client.clone());
        StoreFuture::ready(Ok(page.collect()))
    }
}

impl MemoryStore {
    fn apply_now(&self, change: ClientChange) -> Result<(), AdminError> {
        let mut clients = write(&self.shared.clients);
        let (write, conditions, entries) = change.into_parts(self.clock.now(), self.longest_token_lifetime());
        if conditions.iter().any(|(id, revision)| clients.revision(id) != Some(*revision)) {
            return Err(AdminError::Conflict);
        }
        match write {
            ClientWrite::Create(client) => {
                if clients.found.contains_key(client.id()) {
                    return Err(AdminError::Exists);
                }
                clients.check(&client)?;
                self.record(entries)?;
                clients.insert(Arc::new(client));
            }
            ClientWrite::Replace(client, revision) => {
                if clients.revision(client.id()).ok_or(AdminError::NotFound)? != revision {
                    return Err(AdminError::Conflict);
                }
                clients.check(&client)?;
                self.record(entries)?;
                clients.insert(Arc::new(client));
            }
            ClientWrite::Delete(id) => {
                if !clients.found.contains_key(&id) {
                    return Err(AdminError::NotFound);
                }
                self.record(entries)?;
                clients.remove(&id);
            }
        }
        Ok(())
    }

    /// Called with the lock on the clients held, so that no one sees the change before it is in the feed.
    pub(super) fn record(&self, entries: Vec<FeedEntry>) -> Result<(), StoreError> {
        let now = UnixTime::now(&*self.clock);
        let mut feed = write(&self.shared.feed);
        for FeedEntry { change, .. } in entries {
            match change {
                Change::Revoked(revocation) => feed.revoke(revocation, now)?,
                Change::Client(client) => feed.client_changed(&client, now),
            }
        }
        drop(feed);
        self.shared.changed.notify_waiters();
        Ok(())
    }
}
