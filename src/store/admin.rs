//! [`ClientAdmin`]: the registry of clients, as those who run it see it.

use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Client, ClientError, ClientStore, RegisteredClient, RegisteredSecret, StoreError};
use crate::client_id::ClientId;

/// Creates, changes and deletes clients. Every backend of this crate is one.
///
/// # Contract
///
/// - What returned `Ok` survives the end of the process, where the store outlives it at all.
/// - [`create`](Self::create), [`replace`](Self::replace) and [`delete`](Self::delete) are one atomic step each: two
///   that run at once leave a state that one of them wrote, whole.
/// - A change of a client is told to the [feed](super::RevocationStore::changes) in the same step, as
///   [`Change::Client`](super::Change::Client). When the client is disabled by it, or deleted, the tokens that it was
///   issued before are revoked in the same step ([`Revocation::former_client`](super::Revocation::former_client)).
/// - [`load`](Self::load) and [`list`](Self::list) answer from the store itself, not from a cache.
///
/// Besides the five that a backend writes, the others come for nothing:
///
/// ```
/// use tower_client_credentials::store::{ClientAdmin as _, ClientStore as _};
/// use tower_client_credentials::{Client, ClientId, ClientSecret, MemoryStore, RegisteredSecret};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::default();
/// let billing = ClientId::from_static("billing");
/// store.create(Client::new("billing", ClientSecret::generate()?).register()?).await?;
///
/// let new = ClientSecret::generate()?;
/// store.add_secret(&billing, RegisteredSecret::new("2026", &new)?).await?;
/// store.expire_secret(&billing, "1", std::time::SystemTime::now()).await?;
/// store.disable(&billing).await?;
/// assert!(!store.find(&billing).await?.unwrap().is_enabled());
/// # Ok(()) }
/// ```
pub trait ClientAdmin: ClientStore {
    /// Adds a client.
    ///
    /// # Errors
    ///
    /// [`AdminError::Exists`] when there is one of this id.
    fn create(&self, client: RegisteredClient) -> impl Future<Output = Result<(), AdminError>> + Send;

    /// Adds many at once, which a backend does faster than one by one; those whose id is taken are passed over. Returns
    /// how many were added.
    ///
    /// # Errors
    ///
    /// When the store fails; some of them may have been added.
    fn create_all(&self, clients: Vec<RegisteredClient>) -> impl Future<Output = Result<usize, StoreError>> + Send {
        async move {
            let mut created = 0;
            for client in clients {
                match self.create(client).await {
                    Ok(()) => created += 1,
                    Err(AdminError::Exists) => {}
                    Err(AdminError::Store(error)) => return Err(error),
                    Err(error) => return Err(StoreError::new(error)),
                }
            }
            Ok(created)
        }
    }

    /// A client and its revision.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn load(
        &self,
        id: &ClientId,
    ) -> impl Future<Output = Result<Option<(Arc<RegisteredClient>, Revision)>, StoreError>> + Send;

    /// Puts a registration in the place of that revision of it.
    ///
    /// # Errors
    ///
    /// [`AdminError::Conflict`] when it is no longer at that revision, [`AdminError::NotFound`] when it is gone.
    fn replace(
        &self,
        client: RegisteredClient,
        revision: Revision,
    ) -> impl Future<Output = Result<(), AdminError>> + Send;

    /// Deletes a client. Its tokens are revoked.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`] when there is none.
    fn delete(&self, id: &ClientId) -> impl Future<Output = Result<(), AdminError>> + Send;

    /// At most `limit` clients in the order of their ids' bytes, from the first after `after`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn list(
        &self,
        after: Option<&ClientId>,
        limit: NonZeroUsize,
    ) -> impl Future<Output = Result<Vec<Arc<RegisteredClient>>, StoreError>> + Send;

    /// Changes a client, again from the start when somebody else was faster.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`] when there is none, [`AdminError::Invalid`] when what `change` makes does not hold
    /// together, [`AdminError::Conflict`] when somebody else was faster ten times.
    fn update(
        &self,
        id: &ClientId,
        change: impl Fn(Client) -> Client + Send + Sync,
    ) -> impl Future<Output = Result<(), AdminError>> + Send {
        async move {
            let mut attempts = 10;
            loop {
                attempts -= 1;
                let (client, revision) = self.load(id).await?.ok_or(AdminError::NotFound)?;
                let changed = change(Client::of((*client).clone())).register()?;
                match self.replace(changed, revision).await {
                    Err(AdminError::Conflict) if attempts > 0 => {}
                    done => return done,
                }
            }
        }
    }

    /// Refuses the client from now on, and the tokens that it has.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    fn disable(&self, id: &ClientId) -> impl Future<Output = Result<(), AdminError>> + Send {
        self.update(id, Client::disabled)
    }

    /// Lets the client in again. The tokens that it had stay revoked; for some seconds after it was
    /// [disabled](Self::disable), it is asked to come back when it asks for another.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    fn enable(&self, id: &ClientId) -> impl Future<Output = Result<(), AdminError>> + Send {
        self.update(id, |client| client.enabled(true))
    }

    /// Adds a secret; those that the client has go on working.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update); a label that is taken is [`AdminError::Invalid`].
    fn add_secret(
        &self,
        id: &ClientId,
        secret: RegisteredSecret,
    ) -> impl Future<Output = Result<(), AdminError>> + Send {
        self.update(id, move |client| client.registered_secret(secret.clone()))
    }

    /// Lets the secret of this label end at that time.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update); a label that the client does not have is [`AdminError::NotFound`].
    fn expire_secret(
        &self,
        id: &ClientId,
        label: &str,
        at: SystemTime,
    ) -> impl Future<Output = Result<(), AdminError>> + Send {
        async move {
            let (client, _) = self.load(id).await?.ok_or(AdminError::NotFound)?;
            let secret = client.secret(label).ok_or(AdminError::NotFound)?.clone().expires_at(at);
            self.update(id, move |client| client.replace_secret(secret.clone())).await
        }
    }
}

/// Which state of a registration somebody saw; opaque to all but the store that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision(u64);

impl Revision {
    /// For a backend: a number that is another one after each change.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// A change of the registry was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// There is a client of this id.
    #[error("there is a client of this id")]
    Exists,
    /// There is no such client, or it has no such secret.
    #[error("there is no such client, or no such secret of it")]
    NotFound,
    /// Somebody else changed the client in the meantime.
    #[error("somebody else changed the client in the meantime")]
    Conflict,
    /// The registration does not hold together.
    #[error(transparent)]
    Invalid(#[from] ClientError),
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
