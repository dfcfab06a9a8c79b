//! What was called back before its time: a view of it in memory, which follows the store, and the ways to call back.
//!
//! 1. A verifier asks the view, and so nobody: no request waits for a store, and an empty view costs next to nothing.
//! 2. The view follows the feed of a [`RevocationStore`]: a poll twice to four times a second, which a store can cut short
//!    and not replace, so that a revocation is known to every replica that reaches the store within a second.
//! 3. A view that could not be brought up to date for 30 seconds decides over nothing: protected routes answer 503 with
//!    `Retry-After`, but for tokens that it knows to be revoked. Nothing passes but by an option that says `dangerous_`.
//! 4. It holds at most 1,000 tokens of a client, which then become "all that the client was issued until then"; and
//!    1,000,000 entries in all, beyond which it decides over nothing either. Nothing is forgotten before its expiry.
//! 5. A store can lose writes that it acknowledged, in a failover, a restore from an older copy or a server that is emptied.
//!    When a poll shows it, an error in the log and an [event](crate::event::Outcome::StoreLostData) tell the operator. The view
//!    keeps all that it had, and writes the entries that are missing in the store to it again, for processes that start later.
//!    Only what no running process knew is lost. To undo a revocation on purpose, stop all processes first.
//!
//! | to call back | |
//! |---|---|
//! | a token of one's own, as a client | the revocation endpoint (RFC 7009), at `/revoke` once a server has [`revocations`](crate::AuthorizationServerBuilder::revocations) |
//! | one token | [`Revocations::revoke_token`] |
//! | all that a client has | [`Revocations::revoke_client`]; [`Revocations::disable`] and [`Revocations::delete`] change the registry too |
//! | all that a key signed | [`Revocations::revoke_key`] |
//!
//! # Caveat
//!
//! "All that a client has" is told by the second in which a token was issued, and 5 seconds more, since the clocks of replicas
//! may be so far apart. A client that asks again at once gets a 503 with `Retry-After` for about 3 seconds, and then a token
//! that is dated up to 3 seconds ahead; from a replica that does not know yet, within its first second, it may get one that
//! is called back with the others, and has to ask once more.
//!
//! # A wall clock that is set back
//!
//! A server whose wall clock is set back after the tokens of a client were revoked does not wait until the clock shows that time
//! again: the monotonic clock tells when the seconds above are over. The next tokens of the client are dated by the wall clock,
//! never ahead, so that a later revocation reaches them by their date, whether it comes from a host with a right clock or with a
//! wrong one. A random mark in their `jti` tells them from the revoked tokens, to the handles of this process only.
//!
//! Until the wall clock has passed the time of the revocation, such a token is refused in other processes, and in this process
//! after a restart: nothing there tells it from a revoked token. It expires 20 seconds before that time at the latest. The server
//! logs a warning for each client. Where the clock was set back by less than 30 seconds, the client waits for the wall clock.
//!
//! A revocation reaches the tokens that are dated up to 5 seconds after it, by the clock of the host that revokes. So keep the
//! clocks of all hosts right.
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
//! let verifier = server.verifier("https://api.example.com")?; // refuses what is revoked
//!
//! revocations.revoke_client(&ClientId::from_static("billing")).await?;
//! assert_eq!(revocations.entries(), 1);
//! # Ok(()) }
//! ```

mod after;
mod cleared;
mod feed;
mod follow;
mod freshness;
mod losses;
mod purge_clock;
mod repair;
#[cfg(test)]
mod tests;
mod view;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::task::AbortHandle;

pub(crate) use self::after::{Date, Mark, Marked, Wait};
pub(crate) use self::cleared::Cleared;
use self::cleared::Generation;
pub use self::follow::{Follow, FollowError};
use self::freshness::Freshness;
use self::losses::Losses;
use self::purge_clock::PurgeClock;
pub(crate) use self::view::IssuedUntil;
use self::view::{Full, View};
use crate::client_id::ClientId;
use crate::clock::{Clock, Moment, UnixTime};
use crate::deadline;
use crate::event::EventSender;
use crate::store::{AdminError, ClientAdmin, DynRevocationStore, Revocation, RevocationStore, StoreError};
use crate::timing::{CLOCK_SKEW, MAX_DATED_AHEAD};

/// What is revoked, as this process knows it, and the ways to revoke more. A clone shares the view; the store is followed
/// until the last one is dropped.
///
/// It goes into an [`AuthorizationServer`](crate::AuthorizationServerBuilder::revocations), whose verifiers have it then,
/// or into a [`Verifier`](crate::Verifier::revocations) of a process that issues nothing. It is about the tokens of one
/// authorization server: names of clients and tokens are unique there only.
///
/// See the [module page](self) for the rules and an example.
#[derive(Clone)]
pub struct Revocations(Arc<Handle>);

/// Ends the task with the last handle.
struct Handle {
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the handles and the task have in common.
struct Shared {
    store: Arc<dyn DynRevocationStore>,
    store_timeout: Duration,
    clock: Arc<dyn Clock>,
    view: View,
    freshness: Freshness,
    purge_clock: PurgeClock,
    /// The time, and the state of the view, when a full view was purged last.
    full_purge: Mutex<Option<(UnixTime, Generation)>>,
    /// Something was revoked that found no place in the view.
    is_full: AtomicBool,
    longest_lifetime: Duration,
    passes_when_stale: bool,
    client_listeners: Mutex<Vec<ClientListener>>,
    losses: Losses,
}

/// Hears that a client changed, until it says that it wants to hear no more.
type ClientListener = Box<dyn Fn(&ClientId) -> bool + Send + Sync>;

/// What a revocation can name a token by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'a> {
    pub(crate) client_id: &'a ClientId,
    pub(crate) token_id: &'a str,
    pub(crate) issued_at: UnixTime,
    pub(crate) key_id: &'a str,
}

const SECOND: Duration = Duration::from_secs(1);

impl Revocations {
    /// Loads what is revoked, and follows the store from then on, on the Tokio runtime that it is awaited on. The defaults
    /// can be [set](Follow) before the `.await`.
    ///
    /// # Errors
    ///
    /// When the store fails, or does not answer in time: a process that cannot know what is revoked should not start.
    pub fn follow(store: impl RevocationStore) -> Follow {
        Follow::new(Arc::new(store))
    }

    /// Revokes what the entry says. Once it returns, this process knows, and every other one that follows the store does
    /// within a second.
    ///
    /// What is revoked already is written all the same: the store may have lost it in a failover, though this process knows.
    /// Where a client has 1,000 revoked tokens, a further one revokes all that the client was issued up to then.
    ///
    /// # Errors
    ///
    /// When the store fails, or is full, or does not answer in time; it may or may not have taken the entry then. To try
    /// again does no harm.
    pub async fn revoke(&self, revocation: Revocation) -> Result<(), StoreError> {
        let shared = self.shared();
        let revocation = shared.view.sum_up(revocation);
        let revoked = deadline::within(shared.store_timeout, shared.store.revoke(revocation.clone())).await;
        revoked.map_err(StoreError::new)??;
        // Without a place for it here, nothing is decided here until the feed has brought it again.
        shared.is_full.fetch_or(shared.add(&revocation).is_err(), Ordering::Relaxed);
        Ok(())
    }

    /// As [`revoke`](Self::revoke), and nothing where this process knows that it is revoked: a client that gives the same
    /// token back again and again makes the store write once.
    pub(crate) async fn revoke_once(&self, revocation: Revocation) -> Result<(), StoreError> {
        let shared = self.shared();
        let is_held = shared.view.holds(&revocation, Moment::now(&*shared.clock));
        if is_held { Ok(()) } else { self.revoke(revocation).await }
    }

    /// Revokes one token, by its `jti` and its client, as an [event](crate::event) tells them.
    ///
    /// # Errors
    ///
    /// As [`revoke`](Self::revoke).
    pub async fn revoke_token(&self, client_id: &ClientId, token_id: &str) -> Result<(), StoreError> {
        let now = self.shared().clock.now();
        let expires_at = UnixTime::at(now).after(self.longest_token_lifetime()).to_system();
        self.revoke(Revocation::token(token_id, client_id.clone(), now, expires_at)).await
    }

    /// Revokes all tokens that a client was issued up to now. It may get new ones; to refuse it altogether,
    /// [disable](Self::disable) it.
    ///
    /// # Errors
    ///
    /// As [`revoke`](Self::revoke).
    pub async fn revoke_client(&self, client_id: &ClientId) -> Result<(), StoreError> {
        let now = self.latest(client_id, &*self.shared().clock);
        // Tokens that were issued since the last revocation are dated after it, though never further ahead than a server may.
        let last = self.issued_until(client_id).map(|until| until.second);
        let since = last.filter(|last| *last >= now).map(|last| last.after(SECOND));
        let until = since.unwrap_or(now).clamp(now.after(CLOCK_SKEW), now.after(CLOCK_SKEW + MAX_DATED_AHEAD));
        let revocation = Revocation::client_until(client_id.clone(), until, self.longest_token_lifetime());
        self.revoke(revocation).await
    }

    /// Disables a client in its store, and revokes the tokens that it has, in one call. `clients` is the store that the servers
    /// ask; it may be another one than the store of the revocations.
    ///
    /// Once it returns, the servers and verifiers that have this handle refuse the client and its tokens, whatever the
    /// [cache](crate::AuthorizationServerBuilder::client_cache) of a server has. Those in other processes that follow the
    /// store of the revocations do so within a second. [`ClientAdmin::enable`] lets the client in again; its old tokens stay
    /// revoked.
    ///
    /// ```
    /// use tower_client_credentials::{Client, ClientId, ClientSecret, MemoryStore, Revocations};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = MemoryStore::from([Client::new("billing", ClientSecret::generate()?)]);
    /// let revocations = Revocations::follow(store.clone()).await?;
    /// revocations.disable(&store, &ClientId::from_static("billing")).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`ClientAdmin::update`], and as [`revoke`](Self::revoke). After an error the client may be disabled with tokens that
    /// still work; repeat the call, which does no harm.
    pub async fn disable(&self, clients: &impl ClientAdmin, client_id: &ClientId) -> Result<(), AdminError> {
        clients.disable(client_id).await?;
        Ok(self.revoke_former_client(client_id).await?)
    }

    /// Deletes a client from its store, and revokes the tokens that it has, in one call, as [`disable`](Self::disable) does.
    ///
    /// # Errors
    ///
    /// As [`ClientAdmin::delete`], and as [`revoke`](Self::revoke). After the error of the store of the revocations the client is
    /// gone, and its tokens may still work; revoke them with [`revoke_client`](Self::revoke_client).
    pub async fn delete(&self, clients: &impl ClientAdmin, client_id: &ClientId) -> Result<(), AdminError> {
        clients.delete(client_id).await?;
        Ok(self.revoke_former_client(client_id).await?)
    }

    /// The registry does not let the client in any more: no cache of this process may, from now on.
    async fn revoke_former_client(&self, client_id: &ClientId) -> Result<(), StoreError> {
        let shared = self.shared();
        shared.tell_of(client_id);
        let now = self.latest(client_id, &*shared.clock).to_system();
        self.revoke(Revocation::former_client(client_id.clone(), now, shared.longest_lifetime)).await
    }

    /// Revokes all tokens that a key signed, by its `kid`. The key must sign no more: take it out of every
    /// [`KeyRing`](crate::KeyRing) first. A server that still signs by it issues no more tokens.
    ///
    /// # Errors
    ///
    /// As [`revoke`](Self::revoke).
    pub async fn revoke_key(&self, key_id: &str) -> Result<(), StoreError> {
        self.revoke(Revocation::key(key_id, self.shared().clock.now(), self.longest_token_lifetime())).await
    }

    /// How old the view is: the time since the last poll that succeeded began. For a gauge, and an alarm before it comes
    /// to [the bound](Follow::max_age).
    #[must_use]
    pub fn age(&self) -> Duration {
        let shared = self.shared();
        shared.freshness.age(&*shared.clock)
    }

    /// Whether it decides: it is young enough, and found place for everything.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared().decides().is_ok()
    }

    /// How many entries it holds.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.shared().view.entries()
    }

    /// The longest life of a token; see [`RevocationStore::longest_token_lifetime`].
    #[must_use]
    pub fn longest_token_lifetime(&self) -> Duration {
        self.shared().longest_lifetime
    }

    /// Whether both are one view.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Checks that a token is not revoked. `cleared` is the token's own: it spares the second look-up.
    pub(crate) fn check(&self, token: Named<'_>, cleared: &Cleared) -> Result<(), NotCleared> {
        let shared = self.shared();
        // Before the look-up: a poll that ends between the two does not make younger what was looked up.
        let decides = shared.decides();
        if cleared.is_revoked(|| shared.view.generation(), || shared.view.revokes(token)) {
            return Err(NotCleared::Revoked);
        }
        decides.map_err(NotCleared::Unknown)
    }

    /// Returns the second up to which a client's tokens are revoked, if any are by time.
    pub(crate) fn issued_until(&self, client_id: &ClientId) -> Option<IssuedUntil> {
        self.shared().view.issued_until(client_id)
    }

    /// Dates the next token of a client whose tokens are revoked up to a second that is too far ahead of the wall clock: after
    /// that second, or by a wall clock that was set back, with a mark. Without a mark, `fresh` becomes the mark.
    pub(crate) fn date(&self, client_id: &ClientId, now: Moment, fresh: Mark) -> Result<Date, Wait> {
        self.shared().view.date(client_id, now, fresh)
    }

    /// Returns the current second for this client: what `clock` shows, or a later one where the clock was set back after
    /// the client's tokens were revoked. See [`IssuedUntil::now`].
    pub(crate) fn latest(&self, client_id: &ClientId, clock: &dyn Clock) -> UnixTime {
        self.issued_until(client_id).map_or_else(|| UnixTime::now(clock), |until| until.now(clock))
    }

    /// Whether all that this key signed is revoked.
    pub(crate) fn has_key(&self, key_id: &str) -> bool {
        self.shared().view.has_key(key_id)
    }

    /// Calls `hear` with every client that was changed from now on, until it returns false.
    pub(crate) fn on_client_change(&self, hear: impl Fn(&ClientId) -> bool + Send + Sync + 'static) {
        self.shared().client_listeners.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(hear));
    }

    /// Sends an event there whenever the store turns out to have lost writes; see
    /// [`StoreLostData`](crate::event::Outcome::StoreLostData).
    pub(crate) fn report_losses_to(&self, events: &EventSender) {
        self.shared().losses.report_to(events);
    }

    fn shared(&self) -> &Shared {
        &self.0.shared
    }
}

impl Shared {
    /// Returns whether a token that is not known to be revoked can be accepted.
    fn decides(&self) -> Result<(), NotReady> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(NotReady::Full);
        }
        match self.freshness.check(&*self.clock) {
            Err(age) if !self.passes_when_stale => Err(NotReady::Stale(age)),
            _ => Ok(()),
        }
    }

    /// Adds an entry. If the view is full, expired entries make room, by the wall clock if no time can be believed yet: a view that
    /// forgets them is better than one that decides over nothing. The store keeps them.
    fn add(&self, revocation: &Revocation) -> Result<(), Full> {
        let now = Moment::now(&*self.clock);
        self.view.add(revocation, now).or_else(|Full| {
            let time = UnixTime::at(self.purge_clock.time(now).unwrap_or(now.wall));
            if revocation.expires_at() <= time.as_secs() {
                return Ok(());
            }
            // Looking through a full view again has no use before the time or an entry changed.
            let state = Some((time, self.view.generation()));
            if std::mem::replace(&mut *self.full_purge.lock().unwrap_or_else(PoisonError::into_inner), state) == state {
                return Err(Full);
            }
            self.view.purge(time);
            self.view.add(revocation, now)
        })
    }

    /// Returns the time by which entries have expired and may be forgotten, or `None` while no time can be believed.
    fn purge_time(&self) -> Option<SystemTime> {
        self.purge_clock.time(Moment::now(&*self.clock))
    }

    fn tell_of(&self, client_id: &ClientId) {
        let mut listeners = self.client_listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|hear| hear(client_id));
    }
}

/// Why a token does not pass the check of revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotCleared {
    Revoked,
    /// Whether it is revoked is not known.
    Unknown(NotReady),
}

/// Why the view decides over nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotReady {
    #[error("the view of what is revoked is full")]
    Full,
    #[error("the view of what is revoked is {} seconds old", .0.as_secs())]
    Stale(Duration),
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations")
            .field("entries", &self.entries())
            .field("age", &self.age())
            .finish_non_exhaustive()
    }
}
