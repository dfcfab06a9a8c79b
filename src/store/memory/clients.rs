//! [`Clients`]: the registered clients in memory.

#[cfg(feature = "file")]
use std::collections::HashSet;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::client_id::ClientId;
use crate::registration::{ClientError, ClientRules, RegisteredClient, WorkloadKey};
use crate::store::Revision;

#[derive(Default)]
pub(super) struct Clients {
    pub(super) found: HashMap<ClientId, (Arc<RegisteredClient>, u64)>,
    /// The same ids, sorted.
    pub(super) order: BTreeSet<OrderedId>,
    /// The clients of each workload.
    pub(super) by_workload: HashMap<WorkloadKey, BTreeSet<OrderedId>>,
    pub(super) revisions: u64,
    /// The rules of the last server that was built with these clients.
    pub(super) rules: Option<ClientRules>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct OrderedId(pub(super) ClientId);

impl Ord for OrderedId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.as_str().cmp(other.0.as_str())
    }
}

impl PartialOrd for OrderedId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Clients {
    pub(super) fn insert(&mut self, client: Arc<RegisteredClient>) {
        self.revisions += 1;
        let id = client.id().clone();
        self.order.insert(OrderedId(id.clone()));
        let keys = client.workload_keys();
        if let Some((former, _)) = self.found.insert(id.clone(), (client, self.revisions)) {
            self.remove_workloads(&former);
        }
        for key in keys {
            self.by_workload.entry(key).or_default().insert(OrderedId(id.clone()));
        }
    }

    pub(super) fn remove(&mut self, id: &ClientId) {
        if let Some((former, _)) = self.found.remove(id) {
            self.remove_workloads(&former);
        }
        self.order.remove(&OrderedId(id.clone()));
    }

    fn remove_workloads(&mut self, former: &RegisteredClient) {
        for key in former.workload_keys() {
            if let Some(ids) = self.by_workload.get_mut(&key) {
                ids.remove(&OrderedId(former.id().clone()));
                if ids.is_empty() {
                    self.by_workload.remove(&key);
                }
            }
        }
    }

    /// Returns the clients of these workloads, and at most two of them.
    pub(super) fn of_workload(&self, keys: &[WorkloadKey]) -> Vec<ClientId> {
        let mut found: Vec<ClientId> = Vec::new();
        for OrderedId(id) in keys.iter().filter_map(|key| self.by_workload.get(key)).flatten() {
            if !found.contains(id) {
                found.push(id.clone());
            }
            if found.len() == 2 {
                break;
            }
        }
        found
    }

    /// Returns the given clients that are new or changed, and the ids of current clients that are not among the given ones.
    #[cfg(feature = "file")]
    pub(super) fn difference<'a>(
        &self,
        clients: &'a [Arc<RegisteredClient>],
    ) -> (Vec<&'a Arc<RegisteredClient>>, Vec<ClientId>) {
        let ids: HashSet<&ClientId> = clients.iter().map(|client| client.id()).collect();
        let is_same = |client: &Arc<RegisteredClient>| {
            self.found.get(client.id()).is_some_and(|(own, _)| Arc::ptr_eq(own, client) || own == client)
        };
        let changed = clients.iter().filter(|client| !is_same(client)).collect();
        (changed, self.found.keys().filter(|id| !ids.contains(id)).cloned().collect())
    }

    pub(super) fn check(&self, client: &RegisteredClient) -> Result<(), ClientError> {
        self.rules.as_ref().map_or(Ok(()), |rules| rules.check(client))
    }

    pub(super) fn revision(&self, id: &ClientId) -> Option<Revision> {
        self.found.get(id).map(|(_, revision)| Revision::new(*revision))
    }
}
