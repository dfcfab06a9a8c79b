//! [`ListedClient`]: a client in a list, or a record that cannot be read.

use std::sync::Arc;

#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
use super::StoreError;
use crate::client_id::ClientId;
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
use crate::quoted::with_sources;
use crate::registration::RegisteredClient;

/// An entry of a list of clients; see [`ClientAdmin::list_entries`](super::ClientAdmin::list_entries).
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "a list that forgets a kind would hide clients")]
pub enum ListedClient {
    /// A client.
    Client(Arc<RegisteredClient>),
    /// A record that this release cannot read, because another program changed it, or a later release wrote it. Requests of this
    /// client get 503.
    Unreadable {
        /// The id of the client.
        client_id: ClientId,
        /// Why the record cannot be read, for the operator. It may quote the record.
        reason: String,
    },
}

impl ListedClient {
    /// Returns the id of the client.
    #[must_use]
    pub fn client_id(&self) -> &ClientId {
        match self {
            Self::Client(client) => client.id(),
            Self::Unreadable { client_id, .. } => client_id,
        }
    }

    /// Creates an entry from what a store has under this id.
    #[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
    pub(super) fn of(client_id: ClientId, record: Result<Arc<RegisteredClient>, StoreError>) -> Self {
        match client_of(&client_id, record) {
            Ok(client) => Self::Client(client),
            Err(error) => Self::Unreadable { client_id, reason: with_sources(&error) },
        }
    }
}

/// Returns the client that a store has under this id. The record of another client cannot be used: it would be listed at the wrong
/// place, and the next page would begin elsewhere.
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
pub(super) fn client_of(
    id: &ClientId,
    record: Result<Arc<RegisteredClient>, StoreError>,
) -> Result<Arc<RegisteredClient>, StoreError> {
    let client = record?;
    if client.id() == id {
        return Ok(client);
    }
    let other = client.id();
    Err(StoreError::new(format!(
        "the store has the record of the client `{other}` under the id `{id}`; correct or delete it"
    )))
}
