//! [`RevocationStore`]: what was called back before its time, and the feed of it.

use std::fmt;
use std::future::Future;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::client_id::ClientId;

/// Keeps what was revoked until it would have expired, and tells every replica of it.
///
/// # Contract
///
/// - What [`revoke`](Self::revoke) acknowledged survives the end of the process, where the store outlives it at all.
/// - [`changes`](Self::changes) misses nothing: whoever passes the cursor of one answer to the next call is told each
///   change at least once, also one whose transaction began early and was committed late. To be told twice does no
///   harm.
/// - An `Err` means that the store does not know. Verifiers go on with what they have until it is too old, and then
///   answer 503; they never take it for "nothing was revoked".
/// - An entry may go once it has [expired](Revocation::expires_at), and not before.
pub trait RevocationStore: fmt::Debug + Send + Sync + 'static {
    /// Adds an entry.
    ///
    /// # Errors
    ///
    /// When the store fails, or is full.
    fn revoke(&self, revocation: Revocation) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What has changed since `cursor`; [`Cursor::start`] tells everything that has not expired.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn changes(&self, cursor: &Cursor) -> impl Future<Output = Result<Changes, StoreError>> + Send;

    /// Returns when something may have changed. It may return for nothing, and it may miss a change: it only saves
    /// the wait for the next poll. By default it never returns.
    fn changed(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Removes what expired before `now`, and tells how much that was. Somebody calls it about once a minute.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn purge(&self, now: SystemTime) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// The longest life of a token that the store is made for, 24 hours unless it is set: what revokes all tokens of a
    /// client is kept for as long. A server issues no token that lives longer.
    fn longest_token_lifetime(&self) -> Duration {
        LONGEST_TOKEN_LIFETIME
    }
}

/// The default of [`RevocationStore::longest_token_lifetime`].
pub(crate) const LONGEST_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Something that is no longer good. Times are whole seconds.
///
/// With serde it reads and writes one record, for a column of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Revocation {
    /// One token.
    Token {
        /// Its `jti`.
        token_id: String,
        /// Whose it is.
        client_id: ClientId,
        /// When it would have expired.
        expires_at: u64,
    },
    /// All tokens of a client that were issued at or before a time.
    Client {
        /// The client.
        client_id: ClientId,
        /// The last `iat` that is revoked.
        issued_until: u64,
        /// When the last of them would have expired.
        expires_at: u64,
    },
    /// All tokens that a key signed.
    Key {
        /// Its `kid`.
        key_id: String,
        /// When the last of them would have expired.
        expires_at: u64,
    },
}

impl Revocation {
    /// One token, by its `jti` and `exp`.
    #[must_use]
    pub fn token(token_id: impl Into<String>, client_id: ClientId, expires_at: SystemTime) -> Self {
        Self::Token { token_id: token_id.into(), client_id, expires_at: seconds(expires_at) }
    }

    /// All tokens of a client that were issued up to now; `longest` is the longest life of a token, see
    /// [`RevocationStore::longest_token_lifetime`].
    #[must_use]
    pub fn client(client_id: ClientId, now: SystemTime, longest: Duration) -> Self {
        let issued_until = seconds(now);
        Self::Client { client_id, issued_until, expires_at: issued_until.saturating_add(longest.as_secs()) }
    }

    /// All tokens that a key signed; the key should sign no more.
    #[must_use]
    pub fn key(key_id: impl Into<String>, now: SystemTime, longest: Duration) -> Self {
        Self::Key { key_id: key_id.into(), expires_at: seconds(now).saturating_add(longest.as_secs()) }
    }

    /// When it says nothing any more, in seconds since 1970: the tokens that it is about have expired.
    #[must_use]
    pub fn expires_at(&self) -> u64 {
        match self {
            Self::Token { expires_at, .. } | Self::Client { expires_at, .. } | Self::Key { expires_at, .. } => {
                *expires_at
            }
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    crate::clock::UnixTime::at(time).as_secs()
}

/// What the feed tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Change {
    /// Something was revoked.
    Revoked(Revocation),
    /// A client was created, changed or deleted: what a cache has of it is stale.
    Client(ClientId),
}

/// An answer of [`RevocationStore::changes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// In any order, and some perhaps for the second time.
    pub changes: Vec<Change>,
    /// Where to go on.
    pub cursor: Cursor,
    /// Whether there is more at once: a store tells at most some thousands at a time.
    pub more: bool,
}

/// How far somebody has followed the feed; opaque to all but the store that made it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor(String);

impl Cursor {
    /// Before everything.
    #[must_use]
    pub fn start() -> Self {
        Self::default()
    }

    /// For a backend: a place in its feed.
    #[must_use]
    pub fn new(place: impl Into<String>) -> Self {
        Self(place.into())
    }

    /// The place, empty at the start.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
