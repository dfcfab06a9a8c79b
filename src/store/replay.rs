//! [`ReplayLog`]: the log of used one-time credentials.

use std::fmt;
use std::time::SystemTime;

use super::StoreFuture;
#[cfg(any(feature = "postgres", feature = "redis"))]
use crate::clock::UnixTime;
use crate::crypto::sha256;

/// Records the use of one-time credentials, such as the `jti` of a client assertion (RFC 7523 §3), until they expire.
///
/// # Contract
///
/// - [`check_and_insert`](Self::check_and_insert) is one atomic step. Of two calls with the same id, on any replicas, exactly
///   one returns [`Replay::Fresh`].
/// - An entry counts until `expires_at`, in whole seconds. In that second, the id is fresh again. A store that has no room for
///   another entry returns an error; it never removes an entry early.
/// - An `Err` means that the credential must not be accepted. It may have been recorded, for example if the answer was lost.
pub trait ReplayLog: fmt::Debug + Send + Sync + 'static {
    /// Records the use of an id, unless the use is already recorded. Both times come from the caller's clock.
    ///
    /// # Errors
    ///
    /// When the store fails, or is full.
    fn check_and_insert<'a>(
        &'a self,
        id: &'a ReplayId,
        expires_at: SystemTime,
        now: SystemTime,
    ) -> StoreFuture<'a, Replay>;

    /// Records the use of an id like [`check_and_insert`](Self::check_and_insert), unless a bound is reached. Then nothing is
    /// recorded, except by calls that reach it at the same time.
    ///
    /// The server also counts in each process. A store that several processes share counts for all of them, in the same step, if
    /// it overrides this method, as the stores for Postgres and Redis do. A count may include entries
    /// for up to 10 seconds after their expiry. The provided method ignores the bounds.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn check_and_insert_within<'a>(
        &'a self,
        id: &'a ReplayId,
        bounds: ReplayBounds<'a>,
        expires_at: SystemTime,
        now: SystemTime,
    ) -> StoreFuture<'a, Replay> {
        let _ = bounds;
        self.check_and_insert(id, expires_at, now)
    }
}

/// How many entries that have not expired a log may have: those of one owner, and all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayBounds<'a> {
    owner: &'a str,
    of_owner: u32,
    in_all: u32,
}

impl<'a> ReplayBounds<'a> {
    /// Creates the bounds for an entry of this owner, such as a client.
    #[must_use]
    pub const fn new(owner: &'a str, of_owner: u32, in_all: u32) -> Self {
        Self { owner, of_owner, in_all }
    }

    /// Returns the owner of the entry.
    #[must_use]
    pub const fn owner(&self) -> &'a str {
        self.owner
    }

    /// Returns the maximum number of entries of the owner.
    #[must_use]
    pub const fn of_owner(&self) -> u32 {
        self.of_owner
    }

    /// Returns the maximum number of all entries.
    #[must_use]
    pub const fn in_all(&self) -> u32 {
        self.in_all
    }
}

/// Entries are counted by the time of their expiry, rounded up to whole 10 seconds, so that a count has few parts.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(super) fn count_end(expires_at: SystemTime) -> SystemTime {
    const PART: u64 = 10;
    let end = UnixTime::at(expires_at).as_secs().div_ceil(PART).saturating_mul(PART);
    UnixTime::from_secs(end).map_or(expires_at, UnixTime::to_system)
}

/// Whether a one-time credential is used for the first time. Accept it only if this is [`Fresh`](Self::Fresh). Refuse it in
/// every other case, including variants that a later version adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a credential that was used before must be refused"]
pub enum Replay {
    /// The id was not in the log, and is recorded now.
    Fresh,
    /// The id was already in the log.
    Seen,
    /// The owner has as many entries as the [bounds](ReplayBounds) allow.
    OwnerFull,
    /// The log has as many entries as the [bounds](ReplayBounds) allow.
    Full,
}

/// The identity of a one-time credential: a digest of its issuer and its `jti`. It is 32 bytes long for any input.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplayId([u8; 32]);

impl ReplayId {
    /// Creates the id from the issuer of the credential (`iss`) and the name that is unique for this issuer (`jti`).
    #[must_use]
    pub fn new(issuer: &str, name: &str) -> Self {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        Self(sha256(format!("{}:{issuer}{name}", issuer.len()).as_bytes()))
    }

    /// Returns the digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

#[cfg(feature = "file")]
impl ReplayId {
    pub(super) fn to_hex(self) -> String {
        self.0
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .filter_map(|digit| char::from_digit(digit.into(), 16))
            .collect()
    }

    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let digit = |byte: &u8| char::from(*byte).to_digit(16).filter(|_| !byte.is_ascii_uppercase());
        let byte = |[high, low]: &[u8; 2]| u8::try_from(16 * digit(high)? + digit(low)?).ok();
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        bytes.filter(|_| rest.is_empty())?.try_into().ok().map(Self)
    }
}

impl fmt::Debug for ReplayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplayId(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::ReplayId;

    #[cfg(feature = "file")]
    #[test]
    fn an_id_reads_back_from_its_hexadecimal_digits_and_from_nothing_else() {
        let text = ReplayId::new("a", "b").to_hex();
        assert_eq!((ReplayId::from_hex(&text), text.len()), (Some(ReplayId::new("a", "b")), 64));
        for other in
            ["", "0", &text[1..], &text[2..], &format!("{text}00"), &text.replace(|_: char| true, "A"), &"é".repeat(32)]
        {
            assert_eq!(ReplayId::from_hex(other), None, "{other}");
        }
    }

    #[test]
    fn an_id_depends_on_where_the_issuer_ends_and_the_name_begins() {
        assert_eq!(ReplayId::new("ab", "c"), ReplayId::new("ab", "c"));
        assert_ne!(ReplayId::new("ab", "c"), ReplayId::new("a", "bc"));
        assert_ne!(ReplayId::new("1:a", ""), ReplayId::new("", "1:a"));
    }
}
