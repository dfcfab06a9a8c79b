//! The replacement of all clients by a store that keeps them elsewhere, such as in a file.

use std::sync::Arc;

use super::MemoryStore;
use crate::client_id::ClientId;
use crate::registration::RegisteredClient;
use crate::store::{FeedEntry, Revision, Revocation, RevocationStore as _, StoreError};
use crate::sync::{read, write};

impl MemoryStore {
    /// Replaces all clients, for a store that keeps them elsewhere, and returns the resulting revocations. No other call may
    /// change clients at the same time.
    pub(crate) fn replace_all(&self, clients: &[Arc<RegisteredClient>]) -> Result<Vec<Revocation>, StoreError> {
        // Compared before the write lock is taken, so that lookups wait only in proportion to the size of the change.
        let (changed, gone) = read(&self.shared.clients).difference(clients);
        let revoked = self.former(&changed, &gone);
        if changed.is_empty() && gone.is_empty() {
            return Ok(revoked);
        }
        let mut own = write(&self.shared.clients);
        changed.iter().try_for_each(|client| self.record_change(client.id(), !client.is_enabled()))?;
        gone.iter().try_for_each(|id| self.record_change(id, true))?;
        for id in &gone {
            own.remove(id);
        }
        for client in changed {
            own.insert(client.clone());
        }
        Ok(revoked)
    }

    /// Returns the revocations that [`Self::replace_all`] would add.
    pub(crate) fn revoked_by(&self, clients: &[Arc<RegisteredClient>]) -> Vec<Revocation> {
        let (changed, gone) = read(&self.shared.clients).difference(clients);
        self.former(&changed, &gone)
    }

    fn former(&self, changed: &[&Arc<RegisteredClient>], gone: &[ClientId]) -> Vec<Revocation> {
        let now = self.clock.now();
        let disabled = changed.iter().filter(|client| !client.is_enabled()).map(|client| client.id());
        let former = disabled.chain(gone).cloned();
        former.map(|id| Revocation::former_client(id, now, self.longest_token_lifetime())).collect()
    }

    fn record_change(&self, client: &ClientId, is_former: bool) -> Result<(), StoreError> {
        self.record(FeedEntry::of_client(client, is_former, self.clock.now(), self.longest_token_lifetime()))
    }

    pub(crate) fn has_enabled(&self, id: &ClientId) -> bool {
        read(&self.shared.clients).found.get(id).is_some_and(|(client, _)| client.is_enabled())
    }

    pub(crate) fn revision(&self, id: &ClientId) -> Option<Revision> {
        read(&self.shared.clients).revision(id)
    }
}
