//! [`Revocation`]: an entry that revokes one or more tokens.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::object::Object;
use crate::timing::{CLOCK_SKEW, MAX_CLIENT_ANSWER_AGE, REVOCATION_GRACE};

/// A revocation of one or more tokens. Times are whole seconds since 1970.
///
/// With serde, a revocation is one JSON record, for example for a JSON column. A store saves that record and needs no other
/// constructor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", from = "Record")]
#[non_exhaustive]
pub enum Revocation {
    /// One token.
    #[non_exhaustive]
    Token {
        /// The `jti` of the token.
        token_id: String,
        /// The client that the token was issued to.
        client_id: ClientId,
        /// The `iat` of the token, or a later time if the `iat` is unknown. Used when many revocations of one client are
        /// merged into one entry.
        issued_at: u64,
        /// The time from which the entry may be removed.
        expires_at: u64,
    },
    /// All tokens of a client that were issued at or before a time.
    #[non_exhaustive]
    Client {
        /// The client whose tokens are revoked.
        client_id: ClientId,
        /// The last `iat` that is revoked.
        issued_until: u64,
        /// The time from which the entry may be removed.
        expires_at: u64,
        /// Whether the entry only replaces those of many revoked tokens. Then it does not apply to the API keys of the client.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        replaces_tokens: bool,
    },
    /// All tokens that a key signed.
    #[non_exhaustive]
    Key {
        /// The `kid` of the key.
        key_id: String,
        /// The time from which the entry may be removed.
        expires_at: u64,
    },
}

/// The serialized form of a [`Revocation`]; each variant must be a JSON object.
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
    #[serde(default)]
    replaces_tokens: bool,
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
            Record::Client(Object(ClientRecord { client_id, issued_until, expires_at, replaces_tokens })) => {
                Self::Client { client_id, issued_until, expires_at, replaces_tokens }
            }
            Record::Key(Object(KeyRecord { key_id, expires_at })) => Self::Key { key_id, expires_at },
        }
    }
}

impl Revocation {
    /// Revokes one token, given its `jti`, `iat` and `exp`. If only the `jti` is known, pass the current time as `issued_at`,
    /// and that time plus [the longest token lifetime](super::RevocationStore::longest_token_lifetime) as `expires_at`.
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

    /// Revokes all tokens that a client was issued until 5 seconds after `now`, since the clock of the issuing server may be
    /// ahead. After that, a server dates new tokens of the client later than the revoked ones, by at most 3 seconds. Until
    /// that is possible, the client gets a 503 with `Retry-After`. `longest` is the longest token lifetime; see
    /// [`RevocationStore::longest_token_lifetime`](super::RevocationStore::longest_token_lifetime).
    #[must_use]
    pub fn client(client_id: ClientId, now: SystemTime, longest: Duration) -> Self {
        Self::client_until(client_id, UnixTime::at(now).after(CLOCK_SKEW), longest)
    }

    /// Revokes all tokens of a client that is disabled or deleted, until 10 seconds after `now`. 5 of these seconds allow for
    /// clocks that are ahead, and 5 for requests in progress: after the client store has confirmed a client, no server dates a
    /// token of the client later than that.
    #[must_use]
    pub fn former_client(client_id: ClientId, now: SystemTime, longest: Duration) -> Self {
        Self::client_until(client_id, UnixTime::at(now).after(CLOCK_SKEW + MAX_CLIENT_ANSWER_AGE), longest)
    }

    /// Returns this revocation with its times moved by `by`, if it revokes all tokens that a client was issued until `now` or
    /// later. An entry for a past time is returned unchanged: it was made with another clock, or is about known tokens.
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
        Self::Client { client_id, issued_until: issued_until.as_secs(), expires_at, replaces_tokens: false }
    }

    /// Revokes all tokens that a key signed. Stop signing with the key before you revoke it.
    #[must_use]
    pub fn key(key_id: impl Into<String>, now: SystemTime, longest: Duration) -> Self {
        let expires_at = UnixTime::at(now).after(longest).after(REVOCATION_GRACE).as_secs();
        Self::Key { key_id: key_id.into(), expires_at }
    }

    /// Returns the time from which the entry has no effect, in seconds since 1970: the tokens that it revokes are refused
    /// anyway. This is 5 minutes after they have expired, the largest leeway that a verifier may have.
    #[must_use]
    pub fn expires_at(&self) -> u64 {
        match self {
            Self::Token { expires_at, .. } | Self::Client { expires_at, .. } | Self::Key { expires_at, .. } => {
                *expires_at
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::Revocation;
    use crate::client_id::ClientId;
    use crate::store::Change;

    const NOW: SystemTime = UNIX_EPOCH;
    const DAY: Duration = Duration::from_secs(86_400);
    const ID: ClientId = ClientId::from_static("billing");

    #[test]
    fn an_entry_outlives_its_tokens_by_the_largest_leeway_of_a_verifier() {
        let token = Revocation::token("t", ID, NOW, NOW + Duration::from_secs(600));
        assert_eq!(token.expires_at(), 900);
        assert_eq!(Revocation::key("k", NOW, DAY).expires_at(), 86_700);
        assert_eq!(Revocation::client(ID, NOW, DAY).expires_at(), 86_705);
    }

    #[test]
    fn a_written_record_reads_back_equal_and_a_json_array_is_refused() {
        let token = Revocation::token("t", ID, NOW, NOW);
        let coarse = Revocation::Client { client_id: ID, issued_until: 1, expires_at: 2, replaces_tokens: true };
        for revocation in [token, coarse, Revocation::client(ID, NOW, DAY), Revocation::key("k", NOW, DAY)] {
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
    fn only_a_client_revocation_that_is_not_in_the_past_is_moved_later() {
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
    fn a_client_revocation_covers_tokens_dated_by_a_clock_that_is_ahead() {
        let until = |revocation| match revocation {
            Revocation::Client { issued_until, .. } => issued_until,
            other => panic!("{other:?}"),
        };
        assert_eq!(until(Revocation::client(ID, NOW, DAY)), 5);
        assert_eq!(until(Revocation::former_client(ID, NOW, DAY)), 10);
    }
}
