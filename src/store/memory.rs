//! [`MemoryStore`]: the clients that the program itself names.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::{Client, ClientError, ClientRules, ClientStore, RegisteredClient, StoreError};
use crate::client_id::ClientId;

/// A fixed set of clients in memory. A clone shares it.
///
/// Errors in the clients are kept, and come to light when an
/// [`AuthorizationServer`](crate::AuthorizationServer) is built from the store.
///
/// ```
/// use tower_client_credentials::{Client, ClientSecret, MemoryStore, Scope};
///
/// let clients = MemoryStore::from([
///     Client::new("billing", ClientSecret::generate()?)
///         .scope(Scope::from_static("invoices:read"))
///         .audience("https://api.example.com"),
/// ]);
/// # Ok::<(), tower_client_credentials::SecretError>(())
/// ```
#[derive(Clone, Default)]
pub struct MemoryStore {
    clients: Arc<HashMap<ClientId, Arc<RegisteredClient>>>,
    error: Option<ClientError>,
}

impl FromIterator<Client> for MemoryStore {
    fn from_iter<I: IntoIterator<Item = Client>>(clients: I) -> Self {
        let mut registered = HashMap::new();
        let mut error = None;
        for client in clients {
            match register(&mut registered, client) {
                Err(first) if error.is_none() => error = Some(first),
                _ => {}
            }
        }
        Self { clients: Arc::new(registered), error }
    }
}

fn register(clients: &mut HashMap<ClientId, Arc<RegisteredClient>>, client: Client) -> Result<(), ClientError> {
    let client = client.register()?;
    if clients.contains_key(client.id()) {
        return Err(ClientError::new(client.id(), "its id is registered twice; give each client an id of its own"));
    }
    clients.insert(client.id().clone(), Arc::new(client));
    Ok(())
}

impl<const N: usize> From<[Client; N]> for MemoryStore {
    fn from(clients: [Client; N]) -> Self {
        clients.into_iter().collect()
    }
}

impl ClientStore for MemoryStore {
    async fn find(&self, id: &ClientId) -> Result<Option<Arc<RegisteredClient>>, StoreError> {
        Ok(self.clients.get(id).cloned())
    }

    fn validate(&self, rules: &ClientRules) -> Result<(), ClientError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        self.clients.values().try_for_each(|client| rules.check(client))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("clients", &self.clients.len()).finish_non_exhaustive()
    }
}
