//! [`RevocationStore`]: what was called back before its time, and the feed of it.

use std::fmt;
use std::future::Future;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::object::Object;
use crate::timing::{CLOCK_SKEW, DEFAULT_LONGEST_TOKEN_LIFETIME, MAX_CLIENT_ANSWER_AGE, REVOCATION_GRACE};

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
/// - A store that notices that it lost what it had acknowledged [reports](Changes::lost) it with the next answer to a reader
///   that was told of it. A running process keeps what it knows, and tells the operator.
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
        DEFAULT_LONGEST_TOKEN_LIFETIME
    }
}

/// Something that is no longer good. Times are whole seconds.
///
/// With serde it reads and writes one record, for a column of JSON: a store keeps that, and needs no other constructor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", from = "Record")]
#[non_exhaustive]
pub enum Revocation {
    /// One token.
    #[non_exhaustive]
    Token {
        /// Its `jti`.
        token_id: String,
        /// Whose it is.
        client_id: ClientId,
        /// Its `iat`, or a later time where that is not known: by it a client's many revocations are summed up.
        issued_at: u64,
        /// When the entry may go.
        expires_at: u64,
    },
    /// All tokens of a client that were issued at or before a time.
    #[non_exhaustive]
    Client {
        /// The client.
        client_id: ClientId,
        /// The last `iat` that is revoked.
        issued_until: u64,
        /// When the entry may go.
        expires_at: u64,
    },
    /// All tokens that a key signed.
    #[non_exhaustive]
    Key {
        /// Its `kid`.
        key_id: String,
        /// When the entry may go.
        expires_at: u64,
    },
}

/// What a [`Revocation`] is read from: the same, each as an object.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    Token(Object<TokenRecord>),
    Client(Object<ClientRecord>),
    Key(Object<KeyRecord>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenRecord {
    token_id: String,
    client_id: ClientId,
    issued_at: u64,
    expires_at: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientRecord {
    client_id: ClientId,
    issued_until: u64,
    expires_at: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyRecord {
    key_id: String,
    expires_at: u64,
}

impl From<Record> for Revocation {
    fn from(record: Record) -> Self {
        match record {
            Record::Token(Object(TokenRecord { token_id, client_id, issued_at, expires_at })) => {
                Self::Token { token_id, client_id, issued_at, expires_at }
            }
            Record::Client(Object(ClientRecord { client_id, issued_until, expires_at })) => {
                Self::Client { client_id, issued_until, expires_at }
            }
            Record::Key(Object(KeyRecord { key_id, expires_at })) => Self::Key { key_id, expires_at },
        }
    }
}

impl Revocation {
    /// One token, by its `jti`, `iat` and `exp`. Where only the name is known, `issued_at` is now, and `expires_at` is
    /// [the longest life](RevocationStore::longest_token_lifetime) later.
    #[must_use]
    pub fn token(
        token_id: impl Into<String>,
        client_id: ClientId,
        issued_at: SystemTime,
        expires_at: SystemTime,
    ) -> Self {
        let (issued_at, expires_at) =
            (UnixTime::at(issued_at).as_secs(), UnixTime::at(expires_at).after(REVOCATION_GRACE).as_secs());
        Self::Token { token_id: token_id.into(), client_id, issued_at, expires_at }
    }

    /// All tokens of a client that were issued up to now, and up to 5 seconds after it, since the clock of who issued
    /// them may be ahead. A server dates what it issues next accordingly, at most 3 seconds ahead, and so gives the client
    /// a 503 with `Retry-After` until then. `longest` is the longest life of a token, see
    /// [`RevocationStore::longest_token_lifetime`].
    #[must_use]
    pub fn client(client_id: ClientId, now: SystemTime, longest: Duration) -> Self {
        Self::client_until(client_id, UnixTime::at(now).after(CLOCK_SKEW), longest)
    }

    /// The same for a client that gets no more tokens, since it is disabled or deleted: up to 10 seconds after now. That is 5
    /// for clocks that are ahead, and 5 for what was under way: no server dates a token later after the client store
    /// vouched for its client.
    #[must_use]
    pub fn former_client(client_id: ClientId, now: SystemTime, longest: Duration) -> Self {
        Self::client_until(client_id, UnixTime::at(now).after(CLOCK_SKEW + MAX_CLIENT_ANSWER_AGE), longest)
    }

    /// Returns the same with later times, where it revokes what a client was issued up to `now` or later. One of a time that
    /// is over was made by another clock, or is about known tokens.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(super) fn later(mut self, now: SystemTime, by: Duration) -> Self {
        if let Self::Client { issued_until, expires_at, .. } = &mut self
            && *issued_until >= UnixTime::at(now).as_secs()
        {
            let later = |seconds: u64| UnixTime::from_secs(seconds).map_or(seconds, |time| time.after(by).as_secs());
            (*issued_until, *expires_at) = (later(*issued_until), later(*expires_at));
        }
        self
    }

    pub(crate) fn client_until(client_id: ClientId, issued_until: UnixTime, longest: Duration) -> Self {
        let expires_at = issued_until.after(longest).after(REVOCATION_GRACE).as_secs();
        Self::Client { client_id, issued_until: issued_until.as_secs(), expires_at }
    }

    /// All tokens that a key signed; the key should sign no more.
    #[must_use]
    pub fn key(key_id: impl Into<String>, now: SystemTime, longest: Duration) -> Self {
        let expires_at = UnixTime::at(now).after(longest).after(REVOCATION_GRACE).as_secs();
        Self::Key { key_id: key_id.into(), expires_at }
    }

    /// When it says nothing any more, in seconds since 1970: the tokens that it is about are refused without it. That is
    /// 5 minutes after they have expired, the most leeway that a verifier may have.
    #[must_use]
    pub fn expires_at(&self) -> u64 {
        match self {
            Self::Token { expires_at, .. } | Self::Client { expires_at, .. } | Self::Key { expires_at, .. } => {
                *expires_at
            }
        }
    }
}

/// What the feed tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Change {
    /// Something was revoked.
    Revoked(Revocation),
    /// A client was created, changed or deleted: what a cache has of it is stale. It is told for 10 minutes at least.
    Client(ClientId),
}

/// An answer of [`RevocationStore::changes`].
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
    /// In any order, and some perhaps for the second time.
    pub changes: Vec<Change>,
    /// Where to go on.
    pub cursor: Cursor,
    /// Whether there is more at once: a store tells at most some thousands at a time.
    pub more: bool,
    /// What shows that the store lost writes which it had acknowledged, such as after a failover or a restore from an older
    /// copy; `None` as a rule. The changes are then from the start of the feed.
    pub lost: Option<String>,
}

impl Changes {
    /// Returns the last page of the feed so far; `cursor` is the place after it.
    #[must_use]
    pub const fn new(changes: Vec<Change>, cursor: Cursor) -> Self {
        Self { changes, cursor, more: false, lost: None }
    }

    /// Sets whether there is [more](Self#structfield.more) at once.
    #[must_use]
    pub fn more(self, more: bool) -> Self {
        Self { more, ..self }
    }

    /// Sets what shows that the store [lost](Self#structfield.lost) writes. The text is for the operator.
    #[must_use]
    pub fn lost(self, sign: impl Into<String>) -> Self {
        Self { lost: Some(sign.into()), ..self }
    }
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{Change, Revocation};
    use crate::client_id::ClientId;

    const NOW: SystemTime = UNIX_EPOCH;
    const DAY: Duration = Duration::from_secs(86_400);
    const ID: ClientId = ClientId::from_static("billing");

    #[test]
    fn an_entry_outlives_its_tokens_by_the_most_leeway_of_a_verifier() {
        let token = Revocation::token("t", ID, NOW, NOW + Duration::from_secs(600));
        assert_eq!(token.expires_at(), 900);
        assert_eq!(Revocation::key("k", NOW, DAY).expires_at(), 86_700);
        assert_eq!(Revocation::client(ID, NOW, DAY).expires_at(), 86_705);
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_not_from_a_list() {
        let token = Revocation::token("t", ID, NOW, NOW);
        for revocation in [token, Revocation::client(ID, NOW, DAY), Revocation::key("k", NOW, DAY)] {
            let json = serde_json::to_string(&revocation).unwrap();
            assert_eq!(serde_json::from_str::<Revocation>(&json).unwrap(), revocation);
            let change = Change::Revoked(revocation);
            let json = serde_json::to_string(&change).unwrap();
            assert_eq!(serde_json::from_str::<Change>(&json).unwrap(), change);
        }
        for json in [
            r#"{"token": ["t", "billing", 1, 2]}"#,
            r#"{"client": ["billing", 1, 2]}"#,
            r#"{"key": ["k", 2]}"#,
            r#"{"key": {"key_id": "k", "expires_at": 2, "more": 3}}"#,
        ] {
            assert!(serde_json::from_str::<Revocation>(json).is_err(), "{json}");
            assert!(serde_json::from_str::<Change>(&format!(r#"{{"revoked": {json}}}"#)).is_err(), "{json}");
        }
    }

    #[cfg(any(feature = "postgres", feature = "redis"))]
    #[test]
    fn a_time_that_is_not_over_is_made_later_and_nothing_else() {
        let by = Duration::from_secs(7);
        let client = Revocation::client(ID, NOW, DAY);
        let Revocation::Client { issued_until, expires_at, .. } = client.clone().later(NOW, by) else { panic!() };
        assert_eq!((issued_until, expires_at), (5 + 7, client.expires_at() + 7));
        assert_eq!(client.clone().later(NOW + by, by), client);
        for other in [Revocation::token("t", ID, NOW, NOW), Revocation::key("k", NOW, DAY)] {
            assert_eq!(other.clone().later(NOW, by), other);
        }
    }

    #[test]
    fn a_callback_reaches_what_a_fast_clock_issued_just_before_it() {
        let until = |revocation| match revocation {
            Revocation::Client { issued_until, .. } => issued_until,
            other => panic!("{other:?}"),
        };
        assert_eq!(until(Revocation::client(ID, NOW, DAY)), 5);
        assert_eq!(until(Revocation::former_client(ID, NOW, DAY)), 10);
    }
}
