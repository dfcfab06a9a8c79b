//! Whether a presented secret is one of a client's: at once for digests, off the async threads for slow hashes.

use super::TokenError;
use crate::secret::{Presented, StoredSecret};

/// Which of the digests among the stored secrets is that of the presented one. Every one is tried, whichever matches, so
/// that time tells nothing about which it was.
pub(super) fn matching_digest<'a>(
    stored: impl Iterator<Item = (usize, &'a StoredSecret)>,
    presented: &Presented<'_>,
) -> Option<usize> {
    matching(stored.filter(|(_, secret)| !secret.is_slow()), presented)
}

fn matching<'a>(stored: impl Iterator<Item = (usize, &'a StoredSecret)>, presented: &Presented<'_>) -> Option<usize> {
    stored.fold(None, |found, (at, secret)| if secret.matches(presented) { Some(at) } else { found })
}

/// Checks secrets that people chose: a bounded number at once, and a bounded number that wait; beyond that the caller is
/// asked to come back.
#[derive(Debug)]
pub(in crate::authorization_server) struct SlowChecks {
    places: std::sync::Arc<tokio::sync::Semaphore>,
    running: std::sync::Arc<tokio::sync::Semaphore>,
}

impl SlowChecks {
    pub(in crate::authorization_server) fn new(at_once: usize, queued: usize) -> Self {
        let semaphore = |permits| std::sync::Arc::new(tokio::sync::Semaphore::new(permits));
        Self { places: semaphore(at_once.saturating_add(queued)), running: semaphore(at_once) }
    }

    /// `checked` is told the outcome wherever the check ends, also when nobody waits for it any more.
    pub(super) async fn find(
        &self,
        stored: Vec<(usize, StoredSecret)>,
        presented: &str,
        checked: impl FnOnce(Option<usize>) + Send + 'static,
    ) -> Result<Option<usize>, TokenError> {
        let busy = |_| TokenError::new(super::Fault::UNAVAILABLE).detailed("too many chosen secrets are being checked");
        let place = self.places.clone().try_acquire_owned().map_err(busy)?;
        let turn = self.running.clone().acquire_owned().await.map_err(TokenError::unavailable)?;
        let presented = zeroize::Zeroizing::new(presented.to_owned());
        // The permits go with the work: a caller who hangs up does not make room for more of it.
        let check = move || {
            let _permits = (place, turn);
            let presented = Presented::new(&presented);
            let found = matching(stored.iter().map(|(at, secret)| (*at, secret)), &presented);
            checked(found);
            found
        };
        tokio::task::spawn_blocking(check).await.map_err(TokenError::unavailable)
    }
}
