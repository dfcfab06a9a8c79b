//! [`Guess`]: a slow check of a secret, with everything that its result affects even if the caller hangs up.

use std::sync::Arc;

use http::Extensions;

#[cfg(feature = "legacy_hashes")]
use super::Upgrades;
use super::check::Verdict;
use super::throttle::Attempt;
use crate::authorization_server::authenticate::Audit;
use crate::client_id::ClientId;
use crate::registration::RegisteredClient;

/// A slow check of a secret, with everything that its result affects even if the caller hangs up.
pub(super) struct Guess {
    /// `None` once the result was counted.
    pub(super) attempt: Option<Attempt>,
    /// The client, if the right secret authenticates it.
    pub(super) acceptable: Option<Arc<RegisteredClient>>,
    pub(super) client_id: ClientId,
    pub(super) extensions: Extensions,
    pub(super) audit: Arc<Audit>,
    #[cfg(feature = "legacy_hashes")]
    pub(super) upgrades: Option<Arc<Upgrades>>,
}

impl Guess {
    #[cfg(feature = "legacy_hashes")]
    fn may_upgrade(&self, secret: Option<usize>) -> bool {
        let secret = self.acceptable.as_deref().zip(secret).and_then(|(client, at)| client.secrets().get(at));
        self.upgrades.is_some() && secret.is_some_and(|secret| secret.stored().is_legacy())
    }

    #[cfg(not(feature = "legacy_hashes"))]
    #[allow(clippy::unused_self)] // has the signature of the other one
    fn may_upgrade(&self, _: Option<usize>) -> bool {
        false
    }
}

impl Verdict for Guess {
    fn is_failure(&self, secret: Option<usize>) -> bool {
        secret.is_none() || self.acceptable.is_none()
    }

    fn found(&mut self, secret: Option<usize>) -> bool {
        let is_failure = self.is_failure(secret);
        if let Some(attempt) = self.attempt.take().filter(|_| is_failure) {
            attempt.failed();
        }
        !is_failure && self.may_upgrade(secret)
    }

    #[cfg_attr(not(feature = "legacy_hashes"), allow(unused_variables))]
    fn answered(self, secret: Option<usize>, presented: &str, hung_up: bool) {
        if hung_up && self.is_failure(secret) {
            self.audit.wrong_secret_after_hangup(&self.client_id, &self.extensions);
        }
        #[cfg(feature = "legacy_hashes")]
        if let (Some(upgrades), Some(client), Some(secret)) = (self.upgrades, self.acceptable, secret) {
            upgrades.consider(&client, secret, presented);
        }
    }
}
