//! [`ReplayLog`]: which one-time credentials were used.

use std::fmt;
use std::future::Future;
use std::time::SystemTime;

use super::StoreError;
use crate::crypto::sha256;

/// Remembers what may be used once, such as the `jti` of a client assertion (RFC 7523 §3), until it has expired.
///
/// # Contract
///
/// - [`check_and_insert`](Self::check_and_insert) is one atomic step: of two calls with the same id, on whichever
///   replicas, exactly one is told [`Replay::Fresh`].
/// - An entry counts until `expires_at`, in whole seconds: one that is asked for in that second is fresh. A store that cannot take another one fails; it never forgets one early to make
///   room.
/// - An `Err` means that the credential was not recorded, and must not be accepted.
pub trait ReplayLog: fmt::Debug + Send + Sync + 'static {
    /// Records the use of an id, unless it is on record. Both times come from the caller's clock.
    ///
    /// # Errors
    ///
    /// When the store fails, or is full.
    fn check_and_insert(
        &self,
        id: &ReplayId,
        expires_at: SystemTime,
        now: SystemTime,
    ) -> impl Future<Output = Result<Replay, StoreError>> + Send;
}

/// Whether a one-time credential is used for the first time. Only [`Fresh`](Self::Fresh) may be accepted, and anything else,
/// also what a later version adds, must be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "what was used before must be refused"]
pub enum Replay {
    /// It is now on record.
    Fresh,
    /// It was on record.
    Seen,
}

/// The name of a one-time credential: a digest of who made it and what it is called, 32 bytes whatever a caller sends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplayId([u8; 32]);

impl ReplayId {
    /// From who issued the credential (`iss`) and the name that is unique there (`jti`).
    #[must_use]
    pub fn new(issuer: &str, name: &str) -> Self {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        Self(sha256(format!("{}:{issuer}{name}", issuer.len()).as_bytes()))
    }

    /// The digest.
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
    fn an_id_tells_where_the_issuer_ends_and_the_name_begins() {
        assert_eq!(ReplayId::new("ab", "c"), ReplayId::new("ab", "c"));
        assert_ne!(ReplayId::new("ab", "c"), ReplayId::new("a", "bc"));
        assert_ne!(ReplayId::new("1:a", ""), ReplayId::new("", "1:a"));
    }
}
