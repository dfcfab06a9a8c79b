//! Whether a presented secret is one of a client's: at once for digests, off the async threads for slow hashes.

use super::TokenError;
use crate::secret::{Presented, StoredSecret};

/// Holds a presented secret against stored ones.
#[derive(Debug, Default)]
pub(super) struct SecretCheck {
    #[cfg(feature = "argon2")]
    slow: slow::SlowChecks,
}

impl SecretCheck {
    /// Every stored secret is tried, whichever matches, so that time tells nothing about which it was.
    #[cfg_attr(not(feature = "argon2"), allow(clippy::unused_async))]
    pub(super) async fn matches(&self, stored: &[StoredSecret], presented: &str) -> Result<bool, TokenError> {
        #[cfg(feature = "argon2")]
        if stored.iter().any(StoredSecret::is_slow) {
            return self.slow.matches(stored, presented).await;
        }
        Ok(matches_any(stored, presented))
    }
}

fn matches_any(stored: &[StoredSecret], presented: &str) -> bool {
    let presented = Presented::new(presented);
    stored.iter().fold(false, |found, secret| secret.matches(&presented) | found)
}

#[cfg(feature = "argon2")]
mod slow {
    use std::sync::Arc;

    use tokio::sync::Semaphore;
    use zeroize::Zeroizing;

    use super::super::Fault;
    use super::{StoredSecret, TokenError, matches_any};

    /// How many checks wait for each that runs.
    const QUEUED: usize = 4;

    /// Runs one slow check a core, and lets a few wait; beyond that the caller is asked to come back.
    #[derive(Debug)]
    pub(super) struct SlowChecks {
        places: Arc<Semaphore>,
        running: Arc<Semaphore>,
    }

    impl Default for SlowChecks {
        fn default() -> Self {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            Self { places: Arc::new(Semaphore::new(cores * (1 + QUEUED))), running: Arc::new(Semaphore::new(cores)) }
        }
    }

    impl SlowChecks {
        pub(super) async fn matches(&self, stored: &[StoredSecret], presented: &str) -> Result<bool, TokenError> {
            let busy = |why| TokenError::new(Fault::UNAVAILABLE).detailed(why);
            let place =
                self.places.clone().try_acquire_owned().map_err(|_| busy("too many slow secrets are being checked"))?;
            let turn = self.running.clone().acquire_owned().await.map_err(TokenError::unavailable)?;
            let (stored, presented) = (stored.to_vec(), Zeroizing::new(presented.to_owned()));
            // The permits go with the work: a caller who hangs up does not make room for more of it.
            let check = move || {
                let _permits = (place, turn);
                matches_any(&stored, &presented)
            };
            tokio::task::spawn_blocking(check).await.map_err(TokenError::unavailable)
        }
    }
}
