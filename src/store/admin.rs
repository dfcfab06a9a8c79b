//! [`ClientAdmin`]: administration of the registered clients.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::admin_error::AdminError;
use super::change_feed::ChangeFeed;
use super::client_change::{ClientChange, Revision};
use super::listed_client::ListedClient;
use super::secret_rotation::{RotatedSecret, SecretRotation};
use super::{ClientStore, StoreFuture};
use crate::client_id::ClientId;
use crate::registration::{Client, ClientError, RegisteredClient, RegisteredSecret};
use crate::secret::ClientSecret;
use crate::sync::lock;

/// Creates, changes and deletes clients. Every backend of this crate implements it.
///
/// # Contract
///
/// - A change for which a method returned `Ok` survives the end of the process, if the store is persistent.
/// - [`apply`](Self::apply) is one atomic step. Two concurrent calls leave the complete result of one of them.
/// - [`load`](Self::load) and [`list`](Self::list) read from the store itself, not from a cache.
///
/// The [feed](ChangeFeed) of the store reports each change. A [`ClientChange`] contains the entries.
///
/// A disabled client gets no token from a server that reads the store. A server with a
/// [cache](crate::authorization_server::ClientCacheLimits) reads a client again once a minute by default, and only verifiers
/// that have [`Revocations`](crate::Revocations) refuse tokens that were issued before. So give each server and verifier the
/// revocations of its store, and prefer [`Revocations::disable`](crate::Revocations::disable) if you have a handle to them.
///
/// A backend implements three of the methods; the others have a default. With `dyn ClientAdmin`, [`update`](Self::update) and
/// [`try_update`](Self::try_update) need an `Arc<dyn ClientAdmin>`.
///
/// ```
/// use tower_client_credentials::store::{ClientAdmin as _, ClientStore as _, SecretRotation};
/// use tower_client_credentials::{Client, ClientId, ClientSecret, MemoryStore, Scope};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::default();
/// let billing = ClientId::from_static("billing");
/// store.create(Client::new("billing", ClientSecret::generate()?).register()?).await?;
///
/// let new = store.rotate_secret(&billing, SecretRotation::new()).await?;
/// println!("give this to the client, once: {}", new.secret.expose());
/// store.update(&billing, |client| client.edit().scope(Scope::from_static("invoices:read"))).await?;
/// store.disable(&billing).await?;
/// assert!(!store.find(&billing).await?.unwrap().is_enabled());
/// # Ok(()) }
/// ```
pub trait ClientAdmin: ClientStore + ChangeFeed {
    /// Writes a change and its entries of the feed, both or nothing.
    ///
    /// # Errors
    ///
    /// The error that [`ClientWrite`](super::ClientWrite) names for a condition that does not hold. [`AdminError::Store`] if
    /// the store fails.
    fn apply(&self, change: ClientChange) -> StoreFuture<'_, (), AdminError>;

    /// Returns a client and its revision.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn load<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<(Arc<RegisteredClient>, Revision)>>;

    /// Returns at most `limit` clients, sorted by the bytes of their ids, starting with the first id after `after`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn list<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<Arc<RegisteredClient>>>;

    /// Returns the same page as [`list`](Self::list), in which a record that cannot be read is an entry of its own. `list` fails
    /// because of such a record, and then none of the clients can be seen.
    ///
    /// The default uses `list`, so it fails if `list` does. A wrapper of another store has to pass this call on.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn list_entries<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<ListedClient>> {
        StoreFuture::new(
            async move { Ok(self.list(after, limit).await?.into_iter().map(ListedClient::Client).collect()) },
        )
    }

    /// Adds a client.
    ///
    /// # Errors
    ///
    /// [`AdminError::Exists`] if a client with this id exists.
    fn create(&self, client: RegisteredClient) -> StoreFuture<'_, (), AdminError> {
        self.apply(ClientChange::create(client))
    }

    /// Adds many clients at once, which a backend can do faster than one by one. Clients whose id is already registered are
    /// skipped. Returns how many clients were added.
    ///
    /// # Errors
    ///
    /// When the store fails. Some of the clients may have been added.
    fn create_all(&self, clients: Vec<RegisteredClient>) -> StoreFuture<'_, usize> {
        StoreFuture::new(async move {
            let mut created = 0;
            for client in clients {
                match self.create(client).await {
                    Ok(()) => created += 1,
                    Err(AdminError::Exists) => {}
                    Err(error) => return Err(error.into_store_error()),
                }
            }
            Ok(created)
        })
    }

    /// Replaces a registration that is still at the given revision.
    ///
    /// # Errors
    ///
    /// [`AdminError::Conflict`] if the client is at another revision, [`AdminError::NotFound`] if it no longer exists.
    fn replace(&self, client: RegisteredClient, revision: Revision) -> StoreFuture<'_, (), AdminError> {
        self.apply(ClientChange::replace(client, revision))
    }

    /// Deletes a client, and revokes its tokens.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`] if there is no client with this id.
    fn delete(&self, id: &ClientId) -> StoreFuture<'_, (), AdminError> {
        self.apply(ClientChange::delete(id.clone()))
    }

    /// Changes a client. `change` receives the current registration from the store, and is called again if a concurrent change
    /// came first. It must return a client with the same id.
    ///
    /// ```
    /// # use tower_client_credentials::store::ClientAdmin as _;
    /// # use tower_client_credentials::{Client, ClientId, ClientSecret, MemoryStore, Scope};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = MemoryStore::default();
    /// # store.create(Client::new("billing", ClientSecret::generate()?).register()?).await?;
    /// let (read, write) = (Scope::from_static("invoices:read"), Scope::from_static("invoices:write"));
    /// store
    ///     .update(&ClientId::from_static("billing"), |client| {
    ///         let edited = client.edit().scope(read.clone());
    ///         if client.scopes().contains(write.as_str()) { edited.without_scope(&write) } else { edited }
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`] for an unknown client. [`AdminError::Invalid`] if the changed registration is invalid or has
    /// another id. [`AdminError::Conflict`] if a concurrent change came first ten times.
    fn update<'a>(
        &'a self,
        id: &'a ClientId,
        change: impl Fn(&RegisteredClient) -> Client + Send + Sync + 'a,
    ) -> StoreFuture<'a, (), AdminError>
    where
        Self: Sized,
    {
        self.try_update(id, move |client| Ok(change(client)))
    }

    /// Changes a client as [`update`](Self::update) does, unless `change` fails.
    ///
    /// # Errors
    ///
    /// The errors of [`update`](Self::update), and the error of `change`.
    fn try_update<'a>(
        &'a self,
        id: &'a ClientId,
        change: impl Fn(&RegisteredClient) -> Result<Client, AdminError> + Send + Sync + 'a,
    ) -> StoreFuture<'a, (), AdminError>
    where
        Self: Sized,
    {
        StoreFuture::new(edit(self, id, change))
    }

    /// Disables the client in the store, and revokes its tokens.
    ///
    /// Servers refuse the client and verifiers refuse its tokens within a second if they follow the
    /// [revocations](crate::Revocations) of this store. Otherwise, a server with a
    /// [cache](crate::authorization_server::ClientCacheLimits) issues tokens for up to a minute more, and a token works until it
    /// expires. [`Revocations::disable`](crate::Revocations::disable) takes effect at once in its own process.
    ///
    /// # Errors
    ///
    /// The errors of [`update`](Self::update).
    fn disable<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, (), AdminError> {
        StoreFuture::new(edit(self, id, |client| Ok(client.edit().disabled())))
    }

    /// Enables the client. Its earlier tokens stay revoked. For some seconds after it was [disabled](Self::disable), its token
    /// requests get a 503 with `Retry-After`.
    ///
    /// # Errors
    ///
    /// The errors of [`update`](Self::update).
    fn enable<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, (), AdminError> {
        StoreFuture::new(edit(self, id, |client| Ok(client.edit().enabled(true))))
    }

    /// Adds a secret. The existing secrets of the client keep working.
    ///
    /// # Errors
    ///
    /// The errors of [`update`](Self::update), and [`AdminError::Invalid`] if the client already has a secret with this label.
    fn add_secret<'a>(&'a self, id: &'a ClientId, secret: RegisteredSecret) -> StoreFuture<'a, (), AdminError> {
        StoreFuture::new(edit(self, id, move |client| Ok(client.edit().registered_secret(secret.clone()))))
    }

    /// Sets the expiry of the secret with this label.
    ///
    /// # Errors
    ///
    /// The errors of [`update`](Self::update), and [`AdminError::NotFound`] if the client has no secret with this label.
    fn expire_secret<'a>(
        &'a self,
        id: &'a ClientId,
        label: &'a str,
        at: SystemTime,
    ) -> StoreFuture<'a, (), AdminError> {
        StoreFuture::new(edit(self, id, move |client| {
            let secret = client.secret(label).ok_or(AdminError::NotFound)?.clone();
            Ok(client.edit().replace_secret(secret.expires_at(at)))
        }))
    }

    /// Generates a new secret for the client, and sets the expiry of its existing secrets, by default to 24 hours from now.
    /// Secrets that have already expired are removed.
    ///
    /// Returns the new secret; the store keeps only its digest. Pass the secret to the client, and do not log it.
    ///
    /// # Errors
    ///
    /// The errors of [`update`](Self::update). [`AdminError::Invalid`] if the client already has a secret with this label.
    /// [`AdminError::Secret`] if the label is malformed, or if no random bytes are available.
    fn rotate_secret<'a>(
        &'a self,
        id: &'a ClientId,
        rotation: SecretRotation,
    ) -> StoreFuture<'a, RotatedSecret, AdminError> {
        StoreFuture::new(async move {
            let secret = ClientSecret::generate()?;
            let stored = secret.to_stored()?;
            let chosen = Mutex::new(String::new());
            edit(self, id, |client| {
                let (changed, label) = rotation.apply(client, &stored)?;
                *lock(&chosen) = label;
                Ok(changed)
            })
            .await?;
            let label = chosen.into_inner().unwrap_or_else(PoisonError::into_inner);
            Ok(RotatedSecret { label, secret })
        })
    }
}

/// Reads, changes and replaces a client until no concurrent change comes first.
async fn edit<S: ClientAdmin + ?Sized>(
    store: &S,
    id: &ClientId,
    change: impl Fn(&RegisteredClient) -> Result<Client, AdminError> + Send + Sync,
) -> Result<(), AdminError> {
    let mut attempts = 10;
    loop {
        attempts -= 1;
        let (client, revision) = store.load(id).await?.ok_or(AdminError::NotFound)?;
        let changed = change(&client)?.register()?;
        if changed.id() != id {
            let mistake = format!("the change returned the client `{}`; start from `client.edit()`", changed.id());
            return Err(ClientError::new(id, mistake).into());
        }
        match store.replace(changed, revision).await {
            Err(AdminError::Conflict) if attempts > 0 => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests;
