//! Authentication by a shared secret, `client_secret_basic` and `client_secret_post` (RFC 6749 §2.3.1).

mod attempt_limits;
pub(super) mod basic;
mod check;
mod claim;
mod fair_queue;
mod guess;
pub(super) mod post;
mod refusals;
mod throttle;
mod unknown_client;
#[cfg(feature = "legacy_hashes")]
mod upgrade;

use std::net::IpAddr;
use std::sync::Arc;

use zeroize::Zeroizing;

pub use self::attempt_limits::AttemptLimits;
pub(crate) use self::check::{CheckPlace, SlowChecks};
use self::claim::Claim;
use self::fair_queue::Caller;
use self::guess::Guess;
use self::throttle::Attempt;
pub(crate) use self::throttle::Throttle;
pub(crate) use self::unknown_client::UnknownClient;
#[cfg(feature = "legacy_hashes")]
pub(crate) use self::upgrade::Upgrades;
use super::{Answer, Audit, AuthenticatedClient, Basis, ClientCache};
use crate::authorization_server::error::{Fault, TokenError};
use crate::authorization_server::form::Form;
use crate::authorization_server::head::Head;
use crate::authorization_server::peer::PeerAddress;
use crate::client_id::{ClientId, InvalidClientId};
use crate::clock::{Clock, UnixTime};
use crate::registration::{Client, ClientAuthMethod, ClientError, RegisteredClient};
use crate::secret::{Presented, StoredSecret};

/// An id and a secret.
pub(crate) struct SecretCredentials {
    client_id: ClientId,
    secret: Zeroizing<String>,
    method: ClientAuthMethod,
}

impl SecretCredentials {
    /// Returns the name of the method.
    pub(super) fn method(&self) -> &'static str {
        self.method.name()
    }

    fn new(client_id: ClientId, secret: Zeroizing<String>, method: ClientAuthMethod) -> Result<Self, TokenError> {
        // No stored secret is longer, so digesting more would be useless work.
        if secret.len() > crate::secret::LONGEST {
            return Err(TokenError::new(Fault::CLIENT)
                .of(&client_id)
                .detailed("the secret is longer than any stored secret can be"));
        }
        Ok(Self { client_id, secret, method })
    }
}

fn client_id(text: &str) -> Result<ClientId, TokenError> {
    text.parse().map_err(|error: InvalidClientId| TokenError::from(Fault::CLIENT).because(error))
}

/// Checks secrets against the client store.
#[derive(Debug)]
pub(crate) struct SecretAuthenticator {
    pub(crate) peer: PeerAddress,
    pub(crate) clients: ClientCache,
    /// The substitute for an unknown client.
    pub(crate) unknown: UnknownClient,
    /// Decides whether a secret has expired.
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) slow_checks: SlowChecks,
    pub(crate) throttle: Throttle,
    pub(crate) audit: Arc<Audit>,
    #[cfg(feature = "legacy_hashes")]
    pub(crate) upgrades: Option<Arc<Upgrades>>,
    /// Whether the operator declared the secrets behind the hashes of older systems to be random.
    #[cfg(feature = "legacy_hashes")]
    pub(crate) imported_are_random: bool,
}

impl SecretAuthenticator {
    pub(super) async fn authenticate(
        &self,
        credentials: &SecretCredentials,
        head: &Head,
    ) -> Result<AuthenticatedClient, TokenError> {
        let named = |error: TokenError| error.of(&credentials.client_id);
        let claim = self.claim(credentials).await.map_err(named)?;
        let secret = self.prove(&claim, credentials, head).await.map_err(named)?;
        let client = claim.settle(secret).map_err(|why| named(TokenError::new(Fault::CLIENT).detailed(why)))?;
        if let Some(secret) = secret {
            self.audit.authenticated_with(&client, secret, &head.extensions);
        }
        Ok(client)
    }

    /// Looks up the client that the caller claims to be. A stale cache entry, or one that was not fetched for a
    /// refusal, may accept a client but never refuse one.
    async fn claim(&self, credentials: &SecretCredentials) -> Result<Claim, TokenError> {
        if let Some(claim) = self.claim_at_once(&self.clients.find(&credentials.client_id).await?, credentials) {
            return Ok(claim);
        }
        // Boxed, because it is rare and would make the future of all other requests larger.
        let answer = Box::pin(self.clients.find_lately(&credentials.client_id)).await?;
        Ok(self.claim_by(&answer, credentials))
    }

    /// Returns the claim by this answer, if the answer may be used for it.
    fn claim_at_once(&self, answer: &Answer, credentials: &SecretCredentials) -> Option<Claim> {
        let claim = self.claim_by(answer, credentials);
        if claim.is_acceptable() && claim.secret.is_some() {
            return Some(claim);
        }
        if answer.basis == Basis::Acceptance {
            return None;
        }
        self.clients.refused(&credentials.client_id, answer);
        Some(claim)
    }

    fn claim_by(&self, answer: &Answer, credentials: &SecretCredentials) -> Claim {
        let (presented, now) = (Presented::new(&credentials.secret), UnixTime::now(&*self.clock));
        Claim::new(answer, &self.unknown, credentials.method, &presented, now)
    }

    /// Returns which of the client's secrets was presented. An unknown client takes the same work as one with a
    /// generated secret. A client that is refused for another reason counts as a failure, too, so that the limits do
    /// not distinguish them.
    async fn prove(
        &self,
        claim: &Claim,
        credentials: &SecretCredentials,
        head: &Head,
    ) -> Result<Option<usize>, TokenError> {
        let mut secret = claim.secret;
        if secret.is_none() && !claim.slow.is_empty() {
            // Boxed: an allocation is cheap compared to a slow hash, and the future of all other requests stays small.
            if !self.are_random(&claim.slow) {
                return Box::pin(self.check_chosen(claim, credentials, head)).await;
            }
            secret = Box::pin(self.check_slowly(claim, credentials, head, None)).await?;
        }
        if secret.is_none() || !claim.is_acceptable() {
            let counted = self.throttle.failed(&credentials.client_id, self.peer(head));
            counted.map_err(|error| error.detailed(claim.beyond_the_limit(secret)))?;
        }
        Ok(secret)
    }

    /// Checks secrets that can be guessed, unless there were too many wrong ones before.
    async fn check_chosen(
        &self,
        claim: &Claim,
        credentials: &SecretCredentials,
        head: &Head,
    ) -> Result<Option<usize>, TokenError> {
        let attempt = self.throttle.attempt(&credentials.client_id, self.peer(head));
        let attempt = attempt.map_err(|error| claim.not_attempted(error))?;
        self.check_slowly(claim, credentials, head, Some(attempt)).await
    }

    async fn check_slowly(
        &self,
        claim: &Claim,
        credentials: &SecretCredentials,
        head: &Head,
        attempt: Option<Attempt>,
    ) -> Result<Option<usize>, TokenError> {
        let guess = Guess {
            attempt,
            acceptable: claim.is_acceptable().then(|| claim.client.clone()),
            client_id: credentials.client_id.clone(),
            extensions: head.extensions.clone(),
            audit: self.audit.clone(),
            #[cfg(feature = "legacy_hashes")]
            upgrades: self.upgrades.clone(),
        };
        let caller = Caller::new(self.peer(head), credentials.client_id.clone());
        self.slow_checks.find(&caller, claim.slow.clone(), &credentials.secret, guess).await
    }

    /// Returns whether none of these secrets can be guessed. Wrong secrets must not lock out such a client.
    #[cfg(feature = "legacy_hashes")]
    fn are_random(&self, slow: &[(usize, StoredSecret)]) -> bool {
        self.imported_are_random && slow.iter().all(|(_, stored)| stored.is_legacy())
    }

    #[cfg(not(feature = "legacy_hashes"))]
    #[allow(clippy::unused_self)] // has the signature of the other one
    fn are_random(&self, _: &[(usize, StoredSecret)]) -> bool {
        false
    }

    /// Returns the address by which failures are counted. It is computed only after a failure or before a slow check.
    fn peer(&self, head: &Head) -> Option<IpAddr> {
        self.peer.of(head)
    }
}
