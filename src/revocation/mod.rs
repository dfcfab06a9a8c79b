//! Token revocation: an in-memory view that is kept in sync with the store, and the API to revoke.
//!
//! 1. A verifier checks tokens against the view only. No request waits for a store, and checking an empty view costs almost
//!    nothing.
//! 2. The view follows the feed of a [`RevocationStore`]. It polls two to four times a second; a store that announces changes is
//!    polled earlier. A revocation reaches every replica that is connected to the store within a second.
//! 3. When the view has not been up to date for 30 seconds, protected routes answer 503 with `Retry-After`. Tokens that it has
//!    as revoked are still refused. No token is accepted with an older view unless an option named `dangerous_…` is set.
//! 4. The view holds at most 1,000 revoked tokens per client. One more replaces them by one entry that revokes all tokens issued
//!    up to the most recent of them. The view holds at most 1,000,000 entries in total. When a revocation does not fit, requests
//!    get 503 as well. No entry is removed before its expiry.
//! 5. A store can lose writes that it acknowledged: after a failover, after a restore from an older copy, or when a server is
//!    emptied. When a poll shows such a loss, the operator gets an error in the log and an
//!    [event](crate::event::Outcome::StoreLostData). The view keeps its entries and writes those that the store lacks to it again,
//!    for processes that start later. Only revocations that no running process knew are lost. To undo a revocation on purpose,
//!    stop all processes first.
//!
//! | to revoke | use |
//! |---|---|
//! | your own token, as a client | the revocation endpoint (RFC 7009), at `/revoke` once a server has [`revocations`](crate::authorization_server::AuthorizationServerBuilder::revocations) |
//! | one token | [`Revocations::revoke_token`] |
//! | all tokens of a client | [`Revocations::revoke_client`]; [`Revocations::disable`] and [`Revocations::delete`] also change the registry |
//! | all tokens signed by a key | [`Revocations::revoke_key`] |
//!
//! # Caveat
//!
//! Revoking all tokens of a client revokes every token that is dated up to 5 seconds after the revocation, since the clocks of
//! replicas may differ by that much. A client that requests a token immediately afterwards gets 503 with `Retry-After` for about
//! 3 seconds, and then a token that is dated up to 3 seconds ahead. A replica learns of the revocation within a second. Until
//! then, it may issue a token that is revoked with the others, and the client has to request another one.
//!
//! # A wall clock that is set back
//!
//! When the wall clock of a server is set back after the tokens of a client were revoked, the server does not wait until the clock
//! reaches that time again. It measures the seconds above by the monotonic clock. The next tokens of the client are dated by the
//! wall clock, never ahead. So a later revocation applies to them by their date, whether it comes from a host with a right or with
//! a wrong clock. A random mark in their `jti` distinguishes them from the revoked tokens, but only for the handles of this
//! process.
//!
//! Until the wall clock has passed the time of the revocation, other processes refuse such a token, and so does this process after
//! a restart: they cannot distinguish it from a revoked token. The token expires at least 20 seconds before that time. The server
//! logs a warning for each client. If the clock was set back by less than 30 seconds, the client waits for the wall clock.
//!
//! A revocation applies to tokens that are dated up to 5 seconds after it, by the clock of the host that revokes. So keep the
//! clocks of all hosts synchronized.
//!
//! # Example
//!
//! ```
//! use tower_client_credentials::{AuthorizationServer, ClientId, KeyRing, MemoryStore, Revocations};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryStore::default();
//! let revocations = Revocations::follow(store.clone()).await?;
//! let server = AuthorizationServer::builder("https://auth.example.com", KeyRing::generate()?, store)
//!     .revocations(revocations.clone())
//!     .build()?;
//! let verifier = server.verifier("https://api.example.com")?; // rejects revoked tokens
//!
//! revocations.revoke_client(&ClientId::from_static("billing")).await?;
//! assert_eq!(revocations.entries(), 1);
//! # Ok(()) }
//! ```

mod cleared;
mod clock_set_back;
mod follow;
mod freshness;
mod losses;
mod polling;
mod purge_clock;
mod repair;
#[cfg(test)]
mod repair_tests;
mod state;
#[cfg(test)]
mod tests;
mod token_date;
mod view;

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

pub(crate) use self::cleared::Cleared;
pub use self::follow::{Follow, FollowError};
use self::state::Shared;
pub(crate) use self::state::{NotCleared, RevokedClients};
pub(crate) use self::token_date::{Date, Mark, Marked, Wait};
pub(crate) use self::view::IssuedUntil;
use crate::client_id::ClientId;
use crate::clock::{Clock, Moment, UnixTime};
use crate::deadline;
use crate::event::EventSender;
use crate::store::{AdminError, ClientAdmin, Revocation, RevocationStore, StoreError};
use crate::sync::{AbortOnDrop, lock};
use crate::timing::{CLOCK_SKEW, MAX_DATED_AHEAD};

/// A handle to the revocations that this process knows, and the API to revoke.
///
/// Pass it to an [authorization server](crate::authorization_server::AuthorizationServerBuilder::revocations), whose
/// verifiers then use it too, or to a [`Verifier`](crate::Verifier::revocations) in a process that issues no tokens.
/// Use one per authorization server, since client identifiers and token identifiers are unique within one authorization
/// server only.
///
/// Clones share the view. The store is followed until the last clone is dropped.
///
/// See the [module page](self) for the rules and an example.
#[derive(Clone)]
pub struct Revocations(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    /// Follows the store until the last handle is dropped.
    _task: AbortOnDrop,
}

/// The properties of a token by which it can be revoked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'a> {
    pub(crate) client_id: &'a ClientId,
    pub(crate) token_id: &'a str,
    pub(crate) issued_at: UnixTime,
    pub(crate) key_id: &'a str,
}

const SECOND: Duration = Duration::from_secs(1);

impl Revocations {
    /// Loads all revocations from the store, and then follows the store on the current Tokio runtime.
    ///
    /// Set options with the methods of [`Follow`] before the `.await`.
    ///
    /// # Errors
    ///
    /// Returns a [`FollowError`] if the store fails, does not answer in time or holds more than the view may, or if a setting is
    /// invalid. A process that cannot load the revocations should not start.
    pub fn follow(store: impl RevocationStore) -> Follow {
        Follow::new(Arc::new(store))
    }

    /// Writes a revocation to the store and adds it to the view. It applies in this process when the call returns, and within a
    /// second in every other process that follows the store.
    ///
    /// An entry that this process already has is written again, since the store may have lost it in a failover. If a client
    /// already has 1,000 revoked tokens ([`Follow::tokens_per_client`]), revoking another one revokes all its tokens issued up
    /// to the date of that token.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] if the store fails, is full or does not answer in time. The store may have written the entry
    /// nevertheless. It is safe to try again.
    pub async fn revoke(&self, revocation: Revocation) -> Result<(), StoreError> {
        let shared = self.shared();
        let revocation = shared.view.coarsen(revocation);
        let revoked = deadline::within(shared.store_timeout, shared.store.revoke(revocation.clone())).await;
        revoked.map_err(StoreError::new)??;
        // If it does not fit, the view is not ready until the feed has delivered the entry again.
        shared.is_full.fetch_or(shared.add(&revocation).is_err(), Ordering::Relaxed);
        Ok(())
    }

    /// Revokes like [`revoke`](Self::revoke), but does nothing if the view has the entry already. So a client that revokes the
    /// same token repeatedly causes one write to the store.
    pub(crate) async fn revoke_once(&self, revocation: Revocation) -> Result<(), StoreError> {
        let shared = self.shared();
        let is_held = shared.view.holds(&revocation, Moment::now(&*shared.clock));
        if is_held { Ok(()) } else { self.revoke(revocation).await }
    }

    /// Revokes one token by its client and its `jti`. The [events](crate::event) contain both.
    ///
    /// # Errors
    ///
    /// As [`revoke`](Self::revoke).
    pub async fn revoke_token(&self, client_id: &ClientId, token_id: &str) -> Result<(), StoreError> {
        let now = self.shared().clock.now();
        let expires_at = UnixTime::at(now).after(self.longest_token_lifetime()).to_system();
        self.revoke(Revocation::token(token_id, client_id.clone(), now, expires_at)).await
    }

    /// Revokes all tokens issued to a client up to now. The client may still obtain new ones; to prevent that,
    /// [disable](Self::disable) it.
    ///
    /// # Errors
    ///
    /// As [`revoke`](Self::revoke).
    pub async fn revoke_client(&self, client_id: &ClientId) -> Result<(), StoreError> {
        let now = self.latest(client_id, &*self.shared().clock);
        // Tokens issued since the last revocation are dated after it, but at most `MAX_DATED_AHEAD` ahead of the clock.
        let last = self.issued_until(client_id).map(|until| until.second);
        let since = last.filter(|last| *last >= now).map(|last| last.after(SECOND));
        let until = since.unwrap_or(now).clamp(now.after(CLOCK_SKEW), now.after(CLOCK_SKEW + MAX_DATED_AHEAD));
        let revocation = Revocation::client_until(client_id.clone(), until, self.longest_token_lifetime());
        self.revoke(revocation).await
    }

    /// Disables a client in its store and revokes all its tokens.
    ///
    /// `clients` is the client store of the authorization servers. It may be a different store from that of the revocations.
    ///
    /// When the call returns, the servers and verifiers with this handle refuse the client and its tokens, even if the client is
    /// in the [cache](crate::authorization_server::AuthorizationServerBuilder::client_cache) of a server. Other
    /// processes that follow the revocation store do so within a second. [`ClientAdmin::enable`] enables the client
    /// again; its old tokens stay revoked.
    ///
    /// ```
    /// use tower_client_credentials::{Client, ClientId, ClientSecret, MemoryStore, Revocations};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = MemoryStore::try_from([Client::new("billing", ClientSecret::generate()?)])?;
    /// let revocations = Revocations::follow(store.clone()).await?;
    /// revocations.disable(&store, &ClientId::from_static("billing")).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`ClientAdmin::update`] and [`revoke`](Self::revoke). After an error, the client may be disabled while its tokens are
    /// still accepted. Repeat the call; this is safe.
    pub async fn disable(&self, clients: &impl ClientAdmin, client_id: &ClientId) -> Result<(), AdminError> {
        clients.disable(client_id).await?;
        Ok(self.revoke_former_client(client_id).await?)
    }

    /// Deletes a client from its store and revokes all its tokens, like [`disable`](Self::disable).
    ///
    /// # Errors
    ///
    /// As [`ClientAdmin::delete`] and [`revoke`](Self::revoke). After an error of the revocation store, the client is deleted while
    /// its tokens may still be accepted. Revoke them with [`revoke_client`](Self::revoke_client).
    pub async fn delete(&self, clients: &impl ClientAdmin, client_id: &ClientId) -> Result<(), AdminError> {
        clients.delete(client_id).await?;
        Ok(self.revoke_former_client(client_id).await?)
    }

    /// Revokes the tokens of a client that was disabled or deleted, and removes the client from the caches of this process.
    pub(crate) async fn revoke_former_client(&self, client_id: &ClientId) -> Result<(), StoreError> {
        let shared = self.shared();
        shared.notify_client_change(client_id);
        let now = self.latest(client_id, &*shared.clock).to_system();
        self.revoke(Revocation::former_client(client_id.clone(), now, shared.longest_lifetime)).await
    }

    /// Removes a client that was changed from the caches of this process.
    pub(crate) fn client_changed(&self, client_id: &ClientId) {
        self.shared().notify_client_change(client_id);
    }

    /// Revokes all tokens signed by the key with this `kid`.
    ///
    /// Remove the key from every [`KeyRing`](crate::KeyRing) first. A server that still signs with a revoked key issues no more
    /// tokens.
    ///
    /// # Errors
    ///
    /// As [`revoke`](Self::revoke).
    pub async fn revoke_key(&self, key_id: &str) -> Result<(), StoreError> {
        self.revoke(Revocation::key(key_id, self.shared().clock.now(), self.longest_token_lifetime())).await
    }

    /// Returns the age of the view: the time since the last successful poll began.
    ///
    /// Use it for a gauge, and for an alert before the age reaches [`max_age`](Follow::max_age).
    #[must_use]
    pub fn age(&self) -> Duration {
        let shared = self.shared();
        shared.freshness.age(&*shared.clock)
    }

    /// Returns whether the view is recent enough and within capacity.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared().check_ready().is_ok()
    }

    /// Returns the number of entries in the view.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.shared().view.entries()
    }

    /// Returns the longest lifetime of a token; see [`RevocationStore::longest_token_lifetime`].
    #[must_use]
    pub fn longest_token_lifetime(&self) -> Duration {
        self.shared().longest_lifetime
    }

    /// Returns whether both are handles to the same view.
    pub(crate) fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Checks that a token is not revoked. `cleared` belongs to the token and saves further look-ups while the view is unchanged.
    pub(crate) fn check(&self, token: Named<'_>, cleared: &Cleared) -> Result<(), NotCleared> {
        let shared = self.shared();
        // Checked before the look-up: a poll that ends in between does not make the result of the look-up more recent.
        let ready = shared.check_ready();
        if cleared.is_revoked(|| shared.view.generation(), || shared.view.revokes(token)) {
            return Err(NotCleared::Revoked);
        }
        ready.map_err(NotCleared::Unknown)
    }

    /// Returns the second up to which all tokens of a client are revoked, if any.
    pub(crate) fn issued_until(&self, client_id: &ClientId) -> Option<IssuedUntil> {
        self.shared().view.issued_until(client_id)
    }

    /// Dates the next token of a client whose tokens are revoked up to a second that is too far ahead of the wall clock. The date
    /// is after that second. If the wall clock was set back, it is the time of the wall clock, and the token needs a mark: if the
    /// client has none yet, `fresh` becomes its mark.
    ///
    /// # Errors
    ///
    /// The time that the client has to wait.
    pub(crate) fn date(&self, client_id: &ClientId, now: Moment, fresh: Mark) -> Result<Date, Wait> {
        self.shared().view.date(client_id, now, fresh)
    }

    /// Returns the current second for this client: the time of `clock`, or a later one if the clock was set back after the
    /// client's tokens were revoked. See [`IssuedUntil::now`].
    pub(crate) fn latest(&self, client_id: &ClientId, clock: &dyn Clock) -> UnixTime {
        self.issued_until(client_id).map_or_else(|| UnixTime::now(clock), |until| until.now(clock))
    }

    /// Returns whether all tokens of a client are revoked for another reason than that many of them were revoked one by one.
    pub(crate) fn revokes_client(&self, client_id: &ClientId) -> bool {
        self.shared().view.revokes_client(client_id)
    }

    /// Returns whether all tokens signed by this key are revoked.
    pub(crate) fn has_key(&self, key_id: &str) -> bool {
        self.shared().view.has_key(key_id)
    }

    /// Calls `listener` with every client that changes from now on, until it returns `false`.
    pub(crate) fn on_client_change(&self, listener: impl Fn(&ClientId) -> bool + Send + Sync + 'static) {
        lock(&self.shared().client_listeners).push(Box::new(listener));
    }

    /// Calls the watcher with each client whose tokens are all revoked from now on, until it is dropped. A watcher that is added
    /// twice is called once.
    pub(crate) fn watch(&self, watcher: &Arc<dyn RevokedClients>) {
        let watcher = Arc::downgrade(watcher);
        let mut watchers = lock(&self.shared().watchers);
        watchers.retain(|other| other.strong_count() > 0);
        if !watchers.iter().any(|other| Weak::ptr_eq(other, &watcher)) {
            watchers.push(watcher);
        }
    }

    /// Checks that the view is recent enough and within capacity.
    pub(crate) fn check_ready(&self) -> Result<(), NotCleared> {
        self.shared().check_ready().map_err(NotCleared::Unknown)
    }

    /// Sends a [`StoreLostData`](crate::event::Outcome::StoreLostData) event to `events` whenever the store has lost writes.
    pub(crate) fn report_losses_to(&self, events: &EventSender) {
        self.shared().losses.report_to(events);
    }

    fn shared(&self) -> &Shared {
        &self.0.shared
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations")
            .field("entries", &self.entries())
            .field("age", &self.age())
            .finish_non_exhaustive()
    }
}
