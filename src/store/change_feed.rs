//! [`ChangeFeed`]: reports what changed in a store to every process that follows it.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::revocation::Revocation;
use super::{DynFuture, StoreFuture};
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::timing::CLIENT_CHANGE_RETENTION;

/// Reports revocations and changes of clients. Every process that follows a store polls its feed.
///
/// # Contract
///
/// - [`changes`](Self::changes) misses no change. A reader that passes the cursor of one answer to the next call receives each
///   change at least once, even if its transaction began early and was committed late. Receiving a change twice is harmless.
/// - An `Err` means that the store does not know what has changed. Verifiers continue with the data that they have until it is
///   too old, and then answer 503. They never take an error for "nothing was revoked".
/// - An entry is reported until its [expiry](FeedEntry::keep_until), and may be removed after that.
/// - A store that detects the loss of acknowledged entries [reports](Changes::lost) it with the next answer to a reader that
///   had received them. A running process keeps the entries that it knows, and notifies the operator.
pub trait ChangeFeed: fmt::Debug + Send + Sync + 'static {
    /// Returns the changes since `cursor`. With [`Cursor::start`], returns all entries that have not expired.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes>;

    /// Completes when there may be a change. It may complete without a change, and it may miss one: it only shortens the wait
    /// for the next poll. By default it never completes.
    fn changed(&self) -> DynFuture<'_, ()> {
        DynFuture::new(std::future::pending())
    }
}

/// An entry of the feed, as a store writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeedEntry {
    /// What the feed reports.
    pub change: Change,
    /// The time from which the entry may be removed, in seconds since 1970.
    pub keep_until: u64,
}

impl FeedEntry {
    /// Returns the entry of a revocation.
    #[must_use]
    pub fn revoked(revocation: Revocation) -> Self {
        let keep_until = revocation.expires_at();
        Self { change: Change::Revoked(revocation), keep_until }
    }

    /// Returns the entry of a client that was created or changed.
    pub(super) fn client(id: &ClientId, now: SystemTime) -> Self {
        let keep_until = UnixTime::at(now).after(CLIENT_CHANGE_RETENTION).as_secs();
        Self { change: Change::Client(id.clone()), keep_until }
    }

    /// Returns the entries of a client that was changed. The tokens of a client that was disabled or deleted are revoked.
    pub(super) fn of_client(id: &ClientId, is_former: bool, now: SystemTime, longest: Duration) -> Vec<Self> {
        // First, since a full store may refuse it.
        let revoked = is_former.then(|| Self::revoked(Revocation::former_client(id.clone(), now, longest)));
        revoked.into_iter().chain([Self::client(id, now)]).collect()
    }
}

/// A change that the feed reports.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Change {
    /// Tokens were revoked.
    Revoked(Revocation),
    /// A client was created, changed or deleted. Cached copies of it are stale. The feed reports this for at least 10 minutes.
    Client(ClientId),
}

/// An answer of [`ChangeFeed::changes`].
///
/// ```
/// use tower_client_credentials::ClientId;
/// use tower_client_credentials::store::{Change, Changes, Cursor};
///
/// let page = vec![Change::Client(ClientId::from_static("billing"))];
/// let changes = Changes::new(page, Cursor::new("1")).more(true);
/// assert!(changes.more);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// The changes, in any order. Some may have been reported before.
    pub changes: Vec<Change>,
    /// The position after these changes.
    pub cursor: Cursor,
    /// Whether there are further changes to read now: a store returns at most some thousands at a time.
    pub more: bool,
    /// Describes how the store noticed that it lost acknowledged writes, for example after a failover or a restore from an
    /// older copy. Usually `None`. If set, the changes are from the start of the feed.
    pub lost: Option<String>,
}

impl Changes {
    /// Returns the last page of the feed. `cursor` is the position after it.
    #[must_use]
    pub const fn new(changes: Vec<Change>, cursor: Cursor) -> Self {
        Self { changes, cursor, more: false, lost: None }
    }

    /// Sets whether there are [more](Self#structfield.more) changes to read now.
    #[must_use]
    pub fn more(self, more: bool) -> Self {
        Self { more, ..self }
    }

    /// Sets the description of the writes that the store [lost](Self#structfield.lost). The text is for the operator.
    #[must_use]
    pub fn lost(self, sign: impl Into<String>) -> Self {
        Self { lost: Some(sign.into()), ..self }
    }
}

/// A position in the feed of a store. Only the store that created it can interpret it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor(String);

impl Cursor {
    /// Returns the position before the first change.
    #[must_use]
    pub fn start() -> Self {
        Self::default()
    }

    /// Creates a cursor from a position in the feed of a store. For implementations of [`ChangeFeed`].
    #[must_use]
    pub fn new(place: impl Into<String>) -> Self {
        Self(place.into())
    }

    /// Returns the position, which is empty at the start.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
