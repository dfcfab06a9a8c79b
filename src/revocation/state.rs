//! [`Shared`]: what the handles and the task share, and the decision whether the view can clear a token.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime};

use super::cleared::Generation;
use super::freshness::Freshness;
use super::losses::Losses;
use super::purge_clock::PurgeClock;
use super::view::{Full, View};
use crate::client_id::ClientId;
use crate::clock::{Clock, Moment, UnixTime};
use crate::store::{Revocation, RevocationStore};
use crate::sync::lock;

/// The state that the handles share with the task.
pub(super) struct Shared {
    pub(super) store: Arc<dyn RevocationStore>,
    pub(super) store_timeout: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) view: View,
    pub(super) freshness: Freshness,
    pub(super) purge_clock: PurgeClock,
    /// The time of the last purge of a full view, and the generation of the view then.
    pub(super) full_purge: Mutex<Option<(UnixTime, Generation)>>,
    /// Whether a revocation did not fit into the view.
    pub(super) is_full: AtomicBool,
    pub(super) longest_lifetime: Duration,
    pub(super) passes_when_stale: bool,
    pub(super) client_listeners: Mutex<Vec<ClientListener>>,
    pub(super) watchers: Mutex<Vec<Weak<dyn RevokedClients>>>,
    pub(super) losses: Losses,
}

/// A function that is called with each changed client until it returns `false`.
type ClientListener = Box<dyn Fn(&ClientId) -> bool + Send + Sync>;

/// Is told when all tokens of a client are revoked, for credentials that the view does not know.
pub(crate) trait RevokedClients: Send + Sync {
    /// Called after the view got an entry that revokes all tokens of a client, and does not only replace those of many tokens.
    fn revoked(&self, client_id: &ClientId);
}

impl Shared {
    /// Checks that the view can clear a token: it is recent enough and within capacity.
    pub(super) fn check_ready(&self) -> Result<(), NotReady> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(NotReady::Full);
        }
        match self.freshness.check(&*self.clock) {
            Err(age) if !self.passes_when_stale => Err(NotReady::Stale(age)),
            _ => Ok(()),
        }
    }

    /// Adds an entry to the view. If the view is full, removes expired entries first.
    ///
    /// While no time can be trusted, entries expire by the wall clock. This is better than a full view, with which no token can be
    /// accepted. The store keeps the entries.
    pub(super) fn add(&self, revocation: &Revocation) -> Result<(), Full> {
        let added = self.add_to_view(revocation);
        if let Revocation::Client { client_id, replaces_tokens: false, .. } = revocation {
            // After the change of the view: a watcher that is added in between finds the entry there. Without regard to the place in
            // the view, since a watcher can refuse the client in any case.
            let watchers = lock(&self.watchers);
            watchers.iter().filter_map(Weak::upgrade).for_each(|watcher| watcher.revoked(client_id));
        }
        added
    }

    fn add_to_view(&self, revocation: &Revocation) -> Result<(), Full> {
        let now = Moment::now(&*self.clock);
        self.view.add(revocation, now).or_else(|Full| {
            let time = UnixTime::at(self.purge_clock.time(now).unwrap_or(now.wall));
            if revocation.expires_at() <= time.as_secs() {
                return Ok(());
            }
            // Purging again is useless until the time or an entry changes.
            let state = Some((time, self.view.generation()));
            if std::mem::replace(&mut *lock(&self.full_purge), state) == state {
                return Err(Full);
            }
            self.view.purge(time);
            self.view.add(revocation, now)
        })
    }

    /// Returns the time by which expired entries may be removed, or `None` while no time can be trusted.
    pub(super) fn purge_time(&self) -> Option<SystemTime> {
        self.purge_clock.time(Moment::now(&*self.clock))
    }

    /// Tells the listeners that a client changed.
    pub(super) fn notify_client_change(&self, client_id: &ClientId) {
        let mut listeners = lock(&self.client_listeners);
        listeners.retain(|listener| listener(client_id));
    }
}

/// The reason why a token did not pass the check for revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotCleared {
    Revoked,
    /// The view cannot tell whether the token is revoked.
    Unknown(NotReady),
}

/// The reason why the view cannot clear tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotReady {
    #[error("the view of the revocations is full; raise .max_entries(…)")]
    Full,
    #[error("the view of the revocations is too old ({} seconds); check the connection to the revocation store", .0.as_secs())]
    Stale(Duration),
}
