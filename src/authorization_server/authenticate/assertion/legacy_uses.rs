//! [`LegacyUses`]: records in the registration of a client when it last sent an assertion that only its allowance makes acceptable.
//!
//! It runs in the background, after the response, by compare-and-swap: a concurrent change of the client wins. Only a client that
//! authenticated causes a write, at most once an hour.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::client_id::ClientId;
use crate::clock::{Clock, UnixTime};
use crate::deadline;
use crate::registration::RegisteredClient;
use crate::store::{AdminError, ClientAdmin};
use crate::sync::BoundedMap;

/// The interval in which the use by one client is recorded once.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// The maximum number of concurrent writes. Further uses are recorded at a later authentication.
const AT_ONCE: usize = 4;

/// The number of clients that are remembered, so that an hour of a client needs no look at the store.
const REMEMBERED: usize = 10_000;

#[derive(Debug)]
pub(super) struct LegacyUses {
    store: Arc<dyn ClientAdmin>,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    places: Arc<Semaphore>,
    tried: Mutex<BoundedMap<ClientId, UnixTime>>,
}

impl LegacyUses {
    pub(super) fn new(store: Arc<dyn ClientAdmin>, timeout: Duration, clock: Arc<dyn Clock>) -> Self {
        let (places, tried) = (Arc::new(Semaphore::new(AT_ONCE)), Mutex::new(BoundedMap::new(REMEMBERED)));
        Self { store, timeout, clock, places, tried }
    }

    /// Records that the client, which has just authenticated, still needs the allowance.
    pub(super) fn consider(self: &Arc<Self>, client: &RegisteredClient) {
        let now = UnixTime::now(&*self.clock);
        if is_recent(client.legacy_audience_use(), now) {
            return;
        }
        let Ok(place) = self.places.clone().try_acquire_owned() else { return };
        {
            let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
            if is_recent(tried.get(client.id()).copied(), now) {
                return;
            }
            tried.insert(client.id().clone(), now);
        }
        let (uses, id) = (self.clone(), client.id().clone());
        Handle::current().spawn(async move {
            let _place = place;
            uses.record(&id, now).await;
        });
    }

    async fn record(&self, id: &ClientId, now: UnixTime) {
        let error: Box<dyn std::error::Error + Send + Sync> =
            match deadline::within(self.timeout, self.write(id, now)).await {
                // After another change, the next use tries again in an hour.
                Ok(Ok(()) | Err(AdminError::Conflict | AdminError::NotFound)) => return,
                Ok(Err(error)) => error.into(),
                Err(late) => late.into(),
            };
        tracing::warn!(oauth.client_id = %id, error = &*error as &dyn std::error::Error, "could not record that a client needs its allowance for older assertions");
    }

    async fn write(&self, id: &ClientId, now: UnixTime) -> Result<(), AdminError> {
        let Some((client, revision)) = self.store.load(id).await? else { return Ok(()) };
        // Another replica was faster, or the operator has changed the client since the authentication.
        let is_allowed = client.legacy_until().is_some_and(|until| now < until);
        if is_recent(client.legacy_audience_use(), now) || !is_allowed || !client.is_enabled() {
            return Ok(());
        }
        self.store.replace(client.edit().legacy_audience_used(now).register()?, revision).await
    }
}

/// Returns whether it was less than an hour ago, or later than now, by a clock that is ahead.
fn is_recent(last: Option<UnixTime>, now: UnixTime) -> bool {
    last.is_some_and(|last| now < last.after(EVERY))
}
