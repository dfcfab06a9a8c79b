//! [`ClientAdmin`]: administration of the registered clients.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::admin_error::AdminError;
use super::change_feed::ChangeFeed;
use super::client_change::{ClientChange, Revision};
use super::secret_rotation::{RotatedSecret, SecretRotation};
use super::{ClientStore, StoreError, StoreFuture};
use crate::client_id::ClientId;
use crate::registration::{Client, ClientError, RegisteredClient, RegisteredSecret};
use crate::secret::ClientSecret;

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
                    Err(AdminError::Store(error)) => return Err(error),
                    Err(error) => return Err(StoreError::new(error)),
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
                *chosen.lock().unwrap_or_else(PoisonError::into_inner) = label;
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
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{AdminError, ClientAdmin as _, SecretRotation};
    use crate::client_id::ClientId;
    use crate::clock::UnixTime;
    use crate::registration::{Client, ClientError, RegisteredClient};
    use crate::scope::Scope;
    use crate::secret::{ClientSecret, Presented};
    use crate::store::{ClientStore as _, MemoryStore};

    static BILLING: ClientId = ClientId::from_static("billing");
    const READ: Scope = Scope::from_static("read");
    const WRITE: Scope = Scope::from_static("write");

    async fn store(client: Client) -> MemoryStore {
        let store = MemoryStore::default();
        store.create(client.register().unwrap()).await.unwrap();
        store
    }

    fn billing() -> Client {
        Client::new("billing", ClientSecret::generate().unwrap()).scopes([READ, WRITE])
    }

    async fn found(store: &MemoryStore) -> RegisteredClient {
        (*store.find(&BILLING).await.unwrap().unwrap()).clone()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Returns the labels of the secrets that are valid at that time.
    fn live(client: &RegisteredClient, seconds: u64) -> Vec<&str> {
        let live = client.secrets().iter().filter(|secret| secret.is_live(UnixTime::from_secs(seconds).unwrap()));
        live.map(super::RegisteredSecret::label).collect()
    }

    #[tokio::test]
    async fn an_update_sees_the_client_and_sets_its_scopes() {
        let store = store(billing()).await;
        store.update(&BILLING, |client| client.edit().scopes([READ])).await.unwrap();
        assert_eq!(found(&store).await.scopes().as_str(), "read");
        let toggle = |client: &RegisteredClient| {
            let edited = client.edit();
            if client.scopes().contains("write") { edited.without_scope(&WRITE) } else { edited.scope(WRITE) }
        };
        store.update(&BILLING, toggle).await.unwrap();
        assert_eq!(found(&store).await.scopes().as_str(), "read write");
        store.update(&BILLING, toggle).await.unwrap();
        assert_eq!(found(&store).await.scopes().as_str(), "read");
    }

    #[tokio::test]
    async fn an_update_that_fails_changes_nothing() {
        let store = store(billing()).await;
        let refused = store.try_update(&BILLING, |client| Err(ClientError::new(client.id(), "no").into())).await;
        assert_eq!(refused.unwrap_err().to_string(), "client `billing`: no");
        assert_eq!(found(&store).await.scopes().as_str(), "read write");
        let missing = store.expire_secret(&BILLING, "7", at(9)).await;
        assert!(matches!(missing, Err(AdminError::NotFound)), "{missing:?}");
    }

    #[tokio::test]
    async fn a_rotated_secret_takes_over_and_the_old_one_works_for_a_time() {
        let store = store(billing()).await;
        let rotated = store.rotate_secret(&BILLING, SecretRotation::new().at(at(1_000))).await.unwrap();
        let client = found(&store).await;
        assert_eq!(rotated.label, "2");
        assert!(client.secret("2").unwrap().stored().matches(&Presented::new(rotated.secret.expose())));
        assert!(client.secret("2").unwrap().stored().to_phc_string().starts_with("$sha256$"));
        assert_eq!(client.secret("2").unwrap().created(), Some(at(1_000)));
        assert!(!format!("{rotated:?}").contains(rotated.secret.expose()));
        assert_eq!(live(&client, 1_000 + 86_399), ["1", "2"]);
        assert_eq!(live(&client, 1_000 + 86_400), ["2"]);

        // The first secret keeps its earlier expiry.
        let soon = SecretRotation::new().keep_old_for(Duration::from_secs(172_800)).label("new").at(at(2_000));
        assert_eq!(store.rotate_secret(&BILLING, soon).await.unwrap().label, "new");
        let client = found(&store).await;
        assert_eq!(live(&client, 1_000 + 86_400), ["2", "new"]);
        assert_eq!(live(&client, 2_000 + 172_800), ["new"]);

        // Secrets that had already expired are removed.
        let late = SecretRotation::new().label("late").at(at(1_000 + 86_400));
        store.rotate_secret(&BILLING, late).await.unwrap();
        let client = found(&store).await;
        assert_eq!(
            client.secrets().iter().map(super::RegisteredSecret::label).collect::<Vec<_>>(),
            ["2", "new", "late"]
        );
    }

    #[tokio::test]
    async fn with_no_overlap_only_the_new_secret_works_under_any_clock() {
        let store = store(billing()).await;
        store.rotate_secret(&BILLING, SecretRotation::new().at(at(1_000))).await.unwrap();
        let leaked = SecretRotation::new().keep_old_for(Duration::ZERO).at(at(2_000));
        let rotated = store.rotate_secret(&BILLING, leaked).await.unwrap();
        assert_eq!(rotated.label, "3", "the new secret has a new label");
        for seconds in [0, 1_999, 2_000, 2_001] {
            assert_eq!(live(&found(&store).await, seconds), ["3"], "at {seconds}");
        }
        let taken = SecretRotation::new().keep_old_for(Duration::ZERO).label("3");
        let taken = store.rotate_secret(&BILLING, taken).await;
        assert!(matches!(taken, Err(AdminError::Invalid(_))), "{taken:?}");
        assert_eq!(live(&found(&store).await, 2_000), ["3"]);
    }

    #[tokio::test]
    async fn an_update_that_returns_another_client_is_refused_and_changes_neither() {
        let store = store(billing()).await;
        let other = ClientId::from_static("other");
        let other_client = || Client::new("other", ClientSecret::new("k".repeat(43)).unwrap());
        store.create(other_client().scopes([READ]).register().unwrap()).await.unwrap();
        let before = (found(&store).await, store.load(&other).await.unwrap());
        for _ in 0..2 {
            let refused = store.update(&BILLING, |_| other_client()).await;
            let Err(AdminError::Invalid(error)) = refused else { panic!("{refused:?}") };
            let text = "client `billing`: the change returned the client `other`; start from `client.edit()`";
            assert!(error.to_string().contains(text), "{error}");
        }
        assert_eq!((found(&store).await, store.load(&other).await.unwrap()), before);
    }

    #[tokio::test]
    async fn an_invalid_rotation_is_an_error_and_changes_nothing() {
        let store = store(billing()).await;
        let before = found(&store).await;
        let taken = store.rotate_secret(&BILLING, SecretRotation::new().label("1")).await;
        assert!(matches!(taken, Err(AdminError::Invalid(_))), "{taken:?}");
        let malformed = store.rotate_secret(&BILLING, SecretRotation::new().label("")).await;
        assert!(matches!(malformed, Err(AdminError::Secret(_))), "{malformed:?}");
        let missing = store.rotate_secret(&ClientId::from_static("other"), SecretRotation::new()).await;
        assert!(matches!(missing, Err(AdminError::NotFound)), "{missing:?}");
        assert_eq!(found(&store).await, before);
        let for_ever = SecretRotation::new().keep_old_for(Duration::MAX).at(at(5));
        store.rotate_secret(&BILLING, for_ever).await.unwrap();
        assert_eq!(live(&found(&store).await, 4_000_000_000), ["1", "2"]);
    }
}
