//! Replaces the hash of an older system by one of this crate when its secret is first used (feature `legacy_hashes`).
//!
//! It runs in the background, after the response, by compare-and-swap: a concurrent change of the client wins. A
//! failure is logged, and retried at a later successful authentication.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::ClientCache;
use crate::client_id::ClientId;
use crate::clock::{Clock, Moment};
use crate::deadline;
use crate::registration::{Client, RegisteredClient};
use crate::secret::StoredSecret;
use crate::store::{AdminError, ClientAdmin};

/// The maximum number of concurrent writes. Further clients are upgraded at a later authentication.
const AT_ONCE: usize = 4;

/// The pause after a failure, since each attempt costs a hash.
const PAUSE: Duration = Duration::from_secs(60);

/// One secret of one client, with its old and its new hash.
#[derive(Debug)]
struct Upgrade {
    client: ClientId,
    label: String,
    old: StoredSecret,
    new: StoredSecret,
}

impl Upgrade {
    async fn write_to(&self, store: &dyn ClientAdmin) -> Result<(), AdminError> {
        let Some((client, revision)) = store.load(&self.client).await? else { return Ok(()) };
        let Some(secret) = client.secret(&self.label) else { return Ok(()) };
        // The secret was changed, or the client disabled, since the authentication: keep that change.
        if *secret.stored() != self.old || !client.is_enabled() {
            return Ok(());
        }
        let secret = secret.clone().stored_as(self.new.clone());
        let changed = Client::from_registered((*client).clone()).replace_secret(secret).register()?;
        store.replace(changed, revision).await
    }
}

/// Replaces hashes, in a limited number of tasks.
#[derive(Debug)]
pub(crate) struct Upgrades {
    store: Arc<dyn ClientAdmin>,
    clients: ClientCache,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    /// Whether the operator declared the secrets to be random.
    are_random: bool,
    places: Arc<Semaphore>,
    failed: Mutex<Option<Moment>>,
}

impl Upgrades {
    pub(crate) fn new(
        store: Arc<dyn ClientAdmin>,
        clients: ClientCache,
        timeout: Duration,
        clock: Arc<dyn Clock>,
        are_random: bool,
    ) -> Self {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        Self { store, clients, timeout, clock, are_random, places, failed: Mutex::default() }
    }

    /// Upgrades a secret that was just proven. `secret` is its position. Must be called where slow work is allowed.
    pub(super) fn consider(self: &Arc<Self>, client: &RegisteredClient, secret: usize, presented: &str) {
        let Some(secret) = client.secrets().get(secret) else { return };
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.is_some_and(|failed| Moment::now(&*self.clock).since(failed) < PAUSE) {
            return;
        }
        let Ok(place) = self.places.clone().try_acquire_owned() else { return };
        let Some(new) = secret.stored().upgraded(presented, self.are_random) else { return };
        let (client, label, old) = (client.id().clone(), secret.label().to_owned(), secret.stored().clone());
        let (upgrades, upgrade) = (self.clone(), Upgrade { client, label, old, new });
        Handle::current().spawn(async move {
            let _place = place;
            upgrades.carry_out(&upgrade).await;
        });
    }

    async fn carry_out(&self, upgrade: &Upgrade) {
        let Upgrade { client, label, .. } = upgrade;
        let error: Box<dyn std::error::Error + Send + Sync> = match deadline::within(
            self.timeout,
            upgrade.write_to(&*self.store),
        )
        .await
        {
            Ok(Ok(())) => {
                self.clients.forget(client);
                return tracing::info!(oauth.client_id = %client, secret = label, "replaced the secret hash of an older system");
            }
            // Another change came first. The feed reports it.
            Ok(Err(AdminError::Conflict | AdminError::NotFound)) => return,
            Ok(Err(error)) => error.into(),
            Err(late) => late.into(),
        };
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Moment::now(&*self.clock));
        tracing::warn!(oauth.client_id = %client, secret = label, error = &*error as &dyn std::error::Error, "could not replace the secret hash of an older system");
    }
}
