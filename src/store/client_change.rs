//! [`ClientChange`]: a change of a client, with the entries of the feed that a store writes in the same step.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::change_feed::FeedEntry;
use crate::client_id::ClientId;
use crate::registration::RegisteredClient;

/// A change of one client. [`ClientAdmin::apply`](super::ClientAdmin::apply) receives it.
///
/// [`into_parts`](Self::into_parts) is the only access to the registration, and returns it with the conditions of the change and
/// the entries of the feed. So a store cannot write a registration without knowing what must hold, and what the other processes
/// must be told.
#[derive(Debug)]
#[must_use = "the change was not applied yet"]
pub struct ClientChange {
    write: ClientWrite,
    conditions: Vec<ClientCondition>,
}

/// What must hold for a [`ClientChange`]: this client exists, and is at this revision.
pub type ClientCondition = (ClientId, Revision);

/// What a store does with the registration of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a store has to handle every kind of write")]
pub enum ClientWrite {
    /// Add the client. If there is a client with this id, the change fails with
    /// [`AdminError::Exists`](super::AdminError::Exists).
    Create(RegisteredClient),
    /// Replace the registration of the client if it is at this revision. Otherwise, the change fails with
    /// [`AdminError::Conflict`](super::AdminError::Conflict), or with [`AdminError::NotFound`](super::AdminError::NotFound) if
    /// there is no such client.
    Replace(RegisteredClient, Revision),
    /// Delete the client. If there is no such client, the change fails with
    /// [`AdminError::NotFound`](super::AdminError::NotFound).
    Delete(ClientId),
}

impl ClientChange {
    /// Adds a client.
    pub const fn create(client: RegisteredClient) -> Self {
        Self::of(ClientWrite::Create(client))
    }

    /// Replaces a registration that is at this revision.
    pub const fn replace(client: RegisteredClient, revision: Revision) -> Self {
        Self::of(ClientWrite::Replace(client, revision))
    }

    /// Deletes a client.
    pub const fn delete(id: ClientId) -> Self {
        Self::of(ClientWrite::Delete(id))
    }

    const fn of(write: ClientWrite) -> Self {
        Self { write, conditions: Vec::new() }
    }

    /// Makes the change only if this client exists and is at this revision. Otherwise, the change fails with
    /// [`AdminError::Conflict`](super::AdminError::Conflict).
    ///
    /// The client can be that of the change, for example to delete a client only at the revision that was read. It can also be
    /// another one, such as the client of the administrator that makes the change.
    pub fn provided(mut self, id: ClientId, revision: Revision) -> Self {
        self.conditions.push((id, revision));
        self
    }

    /// Returns the id of the client.
    #[must_use]
    pub fn client_id(&self) -> &ClientId {
        match &self.write {
            ClientWrite::Create(client) | ClientWrite::Replace(client, _) => client.id(),
            ClientWrite::Delete(id) => id,
        }
    }

    /// Returns the write, its conditions, and the entries of the feed that belong to it. A store checks all conditions and writes
    /// everything in one atomic step, or nothing. If a condition does not hold, it returns
    /// [`AdminError::Conflict`](super::AdminError::Conflict).
    ///
    /// If the change disables or deletes the client, one entry revokes its tokens. `now` is the current time, and `longest` the
    /// [longest token lifetime](super::RevocationStore::longest_token_lifetime).
    #[must_use = "a store must use all parts"]
    pub fn into_parts(self, now: SystemTime, longest: Duration) -> (ClientWrite, Vec<ClientCondition>, Vec<FeedEntry>) {
        let is_former = match &self.write {
            ClientWrite::Create(_) => false,
            ClientWrite::Replace(client, _) => !client.is_enabled(),
            ClientWrite::Delete(_) => true,
        };
        let entries = FeedEntry::of_client(self.client_id(), is_former, now, longest);
        (self.write, self.conditions, entries)
    }
}

/// The revision of a registration. Only the store that created it can interpret it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision(u64);

impl Revision {
    /// Creates a revision from a number that changes with each change of the client. For implementations of [`ClientAdmin`](super::ClientAdmin).
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
