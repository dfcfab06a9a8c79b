//! Whether a presented secret is one of a client's: at once for digests, off the async threads for slow hashes.

use super::TokenError;
use crate::secret::{Presented, StoredSecret};

/// Holds a presented secret against the digests among the stored ones. Every one is tried, whichever matches, so that
/// time tells nothing about which it was; with none, the work is that of one.
pub(super) fn matches_digest<'a>(stored: impl Iterator<Item = &'a StoredSecret>, presented: &str) -> bool {
    let presented = Presented::new(presented);
    let digests = stored.filter(|secret| !secret.is_slow());
    digests.fold(false, |found, secret| secret.matches(&presented) | found)
}

/// Checks secrets that people chose: a bounded number at once, and a bounded number that wait; beyond that the caller is
/// asked to come back.
#[cfg(feature = "argon2")]
#[derive(Debug)]
pub(in crate::authorization_server) struct SlowChecks {
    places: std::sync::Arc<tokio::sync::Semaphore>,
    running: std::sync::Arc<tokio::sync::Semaphore>,
}

#[cfg(feature = "argon2")]
impl SlowChecks {
    pub(in crate::authorization_server) fn new(at_once: usize, queued: usize) -> Self {
        let semaphore = |permits| std::sync::Arc::new(tokio::sync::Semaphore::new(permits));
        Self { places: semaphore(at_once.saturating_add(queued)), running: semaphore(at_once) }
    }

    /// `checked` is told the outcome wherever the check ends, also when nobody waits for it any more.
    pub(super) async fn matches(
        &self,
        stored: Vec<StoredSecret>,
        presented: &str,
        checked: impl FnOnce(bool) + Send + 'static,
    ) -> Result<bool, TokenError> {
        let busy = |_| TokenError::new(super::Fault::UNAVAILABLE).detailed("too many chosen secrets are being checked");
        let place = self.places.clone().try_acquire_owned().map_err(busy)?;
        let turn = self.running.clone().acquire_owned().await.map_err(TokenError::unavailable)?;
        let presented = zeroize::Zeroizing::new(presented.to_owned());
        // The permits go with the work: a caller who hangs up does not make room for more of it.
        let check = move || {
            let _permits = (place, turn);
            let presented = Presented::new(&presented);
            let proven = stored.iter().fold(false, |found, secret| secret.matches(&presented) | found);
            checked(proven);
            proven
        };
        tokio::task::spawn_blocking(check).await.map_err(TokenError::unavailable)
    }
}

/// Without feature `argon2` no secret is slow.
#[cfg(not(feature = "argon2"))]
#[derive(Debug)]
pub(in crate::authorization_server) struct SlowChecks;

#[cfg(not(feature = "argon2"))]
impl SlowChecks {
    pub(in crate::authorization_server) fn new(_: usize, _: usize) -> Self {
        Self
    }

    #[allow(clippy::unused_async, clippy::unnecessary_wraps, clippy::unused_self)] // the face of the other
    pub(super) async fn matches(
        &self,
        _: Vec<StoredSecret>,
        _: &str,
        _: impl FnOnce(bool),
    ) -> Result<bool, TokenError> {
        Ok(false)
    }
}
