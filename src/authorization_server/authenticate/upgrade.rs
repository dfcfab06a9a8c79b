//! Puts a hash of ours in the place of an older system's, once its secret was shown (feature `legacy_hashes`).
//!
//! It happens beside the request, which has its answer already, and by compare-and-swap: whoever changes the client at
//! the same time wins. What fails is logged, and tried again at a later success.

use std::fmt;
use std::pin::Pin;
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

/// How many clients are written at once; who comes in between is written another time.
const AT_ONCE: usize = 4;

/// How long nothing is tried after a failure: each attempt costs a hash.
const PAUSE: Duration = Duration::from_secs(60);

/// The part of a [`ClientAdmin`] that is needed here, behind a pointer.
pub(in crate::authorization_server) trait DynUpgrade: fmt::Debug + Send + Sync {
    fn replace<'a>(&'a self, upgrade: &'a Upgrade)
    -> Pin<Box<dyn Future<Output = Result<(), AdminError>> + Send + 'a>>;
}

/// One secret of one client, in its old form and in the new one.
#[derive(Debug)]
pub(in crate::authorization_server) struct Upgrade {
    client: ClientId,
    label: String,
    old: StoredSecret,
    new: StoredSecret,
}

impl<T: ClientAdmin> DynUpgrade for T {
    fn replace<'a>(
        &'a self,
        upgrade: &'a Upgrade,
    ) -> Pin<Box<dyn Future<Output = Result<(), AdminError>> + Send + 'a>> {
        Box::pin(async move {
            let Some((client, revision)) = self.load(&upgrade.client).await? else { return Ok(()) };
            let Some(secret) = client.secret(&upgrade.label) else { return Ok(()) };
            // Changed, or disabled, since it was shown: then it is not ours to write.
            if *secret.stored() != upgrade.old || !client.is_enabled() {
                return Ok(());
            }
            let secret = secret.clone().stored_as(upgrade.new.clone());
            let changed = Client::of((*client).clone()).replace_secret(secret).register()?;
            ClientAdmin::replace(self, changed, revision).await
        })
    }
}

/// Where hashes are replaced, and how often that is tried.
#[derive(Debug)]
pub(in crate::authorization_server) struct Upgrades {
    store: Arc<dyn DynUpgrade>,
    clients: ClientCache,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    /// Whether the secrets are random, as the operator declares.
    are_random: bool,
    places: Arc<Semaphore>,
    failed: Mutex<Option<Moment>>,
}

impl Upgrades {
    pub(in crate::authorization_server) fn new(
        store: Arc<dyn DynUpgrade>,
        clients: ClientCache,
        timeout: Duration,
        clock: Arc<dyn Clock>,
        are_random: bool,
    ) -> Self {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        Self { store, clients, timeout, clock, are_random, places, failed: Mutex::default() }
    }

    /// `presented` was proven to be the secret at that place. Called where slow work may be done.
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
            self.store.replace(upgrade),
        )
        .await
        {
            Ok(Ok(())) => {
                self.clients.forget(client);
                return tracing::info!(oauth.client_id = %client, secret = label, "replaced the hash of an older system");
            }
            // The faster change is in the feed.
            Ok(Err(AdminError::Conflict | AdminError::NotFound)) => return,
            Ok(Err(error)) => error.into(),
            Err(late) => late.into(),
        };
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Moment::now(&*self.clock));
        tracing::warn!(oauth.client_id = %client, secret = label, error = &*error as &dyn std::error::Error, "could not replace the hash of an older system");
    }
}
