//! [`ReplayLog`]: the log of used one-time credentials.

use std::fmt;
use std::time::SystemTime;

use super::StoreFuture;
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

impl fmt::Debug for ReplayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplayId(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::ReplayId;

    #[test]
    fn an_id_depends_on_where_the_issuer_ends_and_the_name_begins() {
        assert_eq!(ReplayId::new("ab", "c"), ReplayId::new("ab", "c"));
        assert_ne!(ReplayId::new("ab", "c"), ReplayId::new("a", "bc"));
        assert_ne!(ReplayId::new("1:a", ""), ReplayId::new("", "1:a"));
    }
}
