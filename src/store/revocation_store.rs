//! [`RevocationStore`]: stores revocations.

use std::time::{Duration, SystemTime};

use super::StoreFuture;
use super::change_feed::ChangeFeed;
use super::revocation::Revocation;
use crate::timing::DEFAULT_LONGEST_TOKEN_LIFETIME;

/// Stores revocations until the revoked tokens have expired, and reports them to every replica by its [feed](ChangeFeed).
///
/// # Contract
///
/// - An entry for which [`revoke`](Self::revoke) returned `Ok` survives the end of the process, if the store is persistent.
/// - The feed reports the entry from then on, until it has [expired](Revocation::expires_at).
pub trait RevocationStore: ChangeFeed {
    /// Adds an entry.
    ///
    /// # Errors
    ///
    /// When the store fails, or is full.
    fn revoke(&self, revocation: Revocation) -> StoreFuture<'_, ()>;

    /// Removes the entries of the feed that expired before `now`, and returns their number. Called about once a minute.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn purge(&self, now: SystemTime) -> StoreFuture<'_, u64>;

    /// Returns the longest token lifetime that the store supports. The default is 24 hours. An entry that revokes all tokens
    /// of a client is kept for this long, and a server issues no token with a longer lifetime.
    fn longest_token_lifetime(&self) -> Duration {
        DEFAULT_LONGEST_TOKEN_LIFETIME
    }
}
