//! [`ClientAdmin`]: the registry of clients, as those who run it see it.

use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{ClientStore, StoreError};
use crate::client_id::ClientId;
use crate::registration::{Client, ClientError, RegisteredClient, RegisteredSecret};
use crate::secret::{ClientSecret, SecretError, StoredSecret};

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
/// A disabled client gets no token from a server that asks the store. A server with a
/// [cache](crate::ClientCacheLimits) asks it about a client once a minute by default, and tokens are refused only by
/// verifiers that have [`Revocations`](crate::Revocations). So give each server and verifier the revocations of its store, and
/// prefer [`Revocations::disable`](crate::Revocations::disable) where there is a handle to them.
///
/// A backend writes five of the methods; the others have a default:
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

    /// Changes a client. `change` gets the registration as the store has it, and is called again when another change came in
    /// between. What it returns has the same id.
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
    /// [`AdminError::NotFound`] for an unknown client, [`AdminError::Invalid`] when the changed registration is invalid or that
    /// of another client, [`AdminError::Conflict`] when another change came in between ten times.
    fn update(
        &self,
        id: &ClientId,
        change: impl Fn(&RegisteredClient) -> Client + Send + Sync,
    ) -> impl Future<Output = Result<(), AdminError>> + Send {
        self.try_update(id, move |client| Ok(change(client)))
    }

    /// Changes a client as [`update`](Self::update) does, unless `change` fails.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update), and the error of `change`.
    fn try_update(
        &self,
        id: &ClientId,
        change: impl Fn(&RegisteredClient) -> Result<Client, AdminError> + Send + Sync,
    ) -> impl Future<Output = Result<(), AdminError>> + Send {
        async move {
            let mut attempts = 10;
            loop {
                attempts -= 1;
                let (client, revision) = self.load(id).await?.ok_or(AdminError::NotFound)?;
                let changed = change(&client)?.register()?;
                if changed.id() != id {
                    let mistake =
                        format!("the change returned the client `{}`; start from `client.edit()`", changed.id());
                    return Err(ClientError::new(id, mistake).into());
                }
                match self.replace(changed, revision).await {
                    Err(AdminError::Conflict) if attempts > 0 => {}
                    done => return done,
                }
            }
        }
    }

    /// Disables the client in the store, and revokes the tokens that it has.
    ///
    /// A server refuses the client, and a verifier its tokens, within a second where they follow the
    /// [revocations](crate::Revocations) of this store. Without them, a server with a
    /// [cache](crate::ClientCacheLimits) issues tokens for up to a minute more, and a token works until it expires.
    /// [`Revocations::disable`](crate::Revocations::disable) takes effect at once in its own process.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    fn disable(&self, id: &ClientId) -> impl Future<Output = Result<(), AdminError>> + Send {
        self.update(id, |client| client.edit().disabled())
    }

    /// Lets the client in again. The tokens that it had stay revoked; for some seconds after it was
    /// [disabled](Self::disable), it is asked to come back when it asks for another.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    fn enable(&self, id: &ClientId) -> impl Future<Output = Result<(), AdminError>> + Send {
        self.update(id, |client| client.edit().enabled(true))
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
        self.update(id, move |client| client.edit().registered_secret(secret.clone()))
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
        self.try_update(id, move |client| {
            let secret = client.secret(label).ok_or(AdminError::NotFound)?.clone();
            Ok(client.edit().replace_secret(secret.expires_at(at)))
        })
    }

    /// Generates a new secret for the client, and lets the secrets that it has end, by default in 24 hours. Secrets that have
    /// ended already are removed.
    ///
    /// The new secret is returned, and only its digest is kept: hand it to the client, and do not log it.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update); a label that is taken is [`AdminError::Invalid`], and a label that is malformed or a source
    /// of random bytes that fails is [`AdminError::Secret`].
    fn rotate_secret(
        &self,
        id: &ClientId,
        rotation: SecretRotation,
    ) -> impl Future<Output = Result<RotatedSecret, AdminError>> + Send {
        async move {
            let secret = ClientSecret::generate()?;
            let stored = secret.to_stored()?;
            let chosen = std::sync::Mutex::new(String::new());
            self.try_update(id, |client| {
                let (changed, label) = rotation.apply(client, &stored)?;
                *chosen.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = label;
                Ok(changed)
            })
            .await?;
            let label = chosen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
            Ok(RotatedSecret { label, secret })
        }
    }
}

/// How [`ClientAdmin::rotate_secret`] replaces the secrets of a client.
///
/// ```
/// use std::time::Duration;
/// use tower_client_credentials::store::SecretRotation;
///
/// let in_an_hour = SecretRotation::new().keep_old_for(Duration::from_secs(3_600)).label("2026");
/// let leaked = SecretRotation::new().keep_old_for(Duration::ZERO);
/// ```
#[derive(Clone, Debug)]
pub struct SecretRotation {
    keep: Duration,
    label: Option<String>,
    at: Option<SystemTime>,
}

impl Default for SecretRotation {
    fn default() -> Self {
        Self { keep: Duration::from_secs(24 * 60 * 60), label: None, at: None }
    }
}

impl SecretRotation {
    /// A rotation with the default settings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long the secrets that the client has still work: 24 hours by default, so that every instance of the client
    /// has time to get the new one. A secret that ends earlier ends as before.
    ///
    /// With a time of zero they are removed, which is right for a secret that leaked: no clock can then take one for valid. Two
    /// things remain. A server with a [cache](crate::ClientCacheLimits) may accept a removed secret for up to a minute, or for a
    /// second where it follows the [revocations](crate::Revocations) of the store. And the tokens that were issued for the
    /// secret are valid until they expire; [`Revocations::revoke_client`](crate::Revocations::revoke_client) ends them.
    #[must_use]
    pub fn keep_old_for(mut self, time: Duration) -> Self {
        self.keep = time;
        self
    }

    /// Sets the label of the new secret: by default the lowest number that is not taken.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Sets the time at which the rotation happens: by default the time of the operating system.
    #[must_use]
    pub fn at(mut self, now: SystemTime) -> Self {
        self.at = Some(now);
        self
    }

    /// Returns the changed registration, and the label of the new secret.
    fn apply(&self, client: &RegisteredClient, new: &StoredSecret) -> Result<(Client, String), AdminError> {
        let now = self.at.unwrap_or_else(SystemTime::now);
        let label = self.label.clone().unwrap_or_else(|| client.free_label());
        if client.secret(&label).is_some_and(|old| old.expires().is_none_or(|end| end > now)) {
            return Err(ClientError::new(
                client.id(),
                format!("it has a secret with the label `{label}`; choose another"),
            )
            .into());
        }
        let mut changed = client.edit();
        // An end that no clock can show is no end.
        let end = now.checked_add(self.keep);
        for old in client.secrets() {
            changed = match (old.expires(), end) {
                // An end of now would be one that a server whose clock is behind has not reached.
                _ if self.keep.is_zero() => changed.without_secret(old.label()),
                (Some(expired), _) if expired <= now => changed.without_secret(old.label()),
                (Some(earlier), Some(end)) if earlier <= end => changed,
                (_, Some(end)) => changed.replace_secret(old.clone().expires_at(end)),
                (_, None) => changed,
            };
        }
        let new = RegisteredSecret::new(&label, new.clone())?.created_at(now);
        Ok((changed.registered_secret(new), label))
    }
}

/// A new secret of a client, from [`ClientAdmin::rotate_secret`].
#[derive(Debug)]
#[non_exhaustive]
pub struct RotatedSecret {
    /// The label of the secret among the secrets of its client.
    pub label: String,
    /// The secret itself, which is not kept anywhere else.
    pub secret: ClientSecret,
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
    /// A secret could not be made, or its label is malformed.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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

    /// The labels of those secrets that are good at that time.
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

        // The first one ends when it would have ended.
        let soon = SecretRotation::new().keep_old_for(Duration::from_secs(172_800)).label("new").at(at(2_000));
        assert_eq!(store.rotate_secret(&BILLING, soon).await.unwrap().label, "new");
        let client = found(&store).await;
        assert_eq!(live(&client, 1_000 + 86_400), ["2", "new"]);
        assert_eq!(live(&client, 2_000 + 172_800), ["new"]);

        // Those that ended before are gone.
        let late = SecretRotation::new().label("late").at(at(1_000 + 86_400));
        store.rotate_secret(&BILLING, late).await.unwrap();
        let client = found(&store).await;
        assert_eq!(
            client.secrets().iter().map(super::RegisteredSecret::label).collect::<Vec<_>>(),
            ["2", "new", "late"]
        );
    }

    #[tokio::test]
    async fn after_a_leak_no_secret_but_the_new_one_works_whatever_a_clock_shows() {
        let store = store(billing()).await;
        store.rotate_secret(&BILLING, SecretRotation::new().at(at(1_000))).await.unwrap();
        let leaked = SecretRotation::new().keep_old_for(Duration::ZERO).at(at(2_000));
        let rotated = store.rotate_secret(&BILLING, leaked).await.unwrap();
        assert_eq!(rotated.label, "3", "the label says that it is another one");
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
    async fn a_rotation_that_cannot_be_is_told_and_changes_nothing() {
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
