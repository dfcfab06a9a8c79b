//! Client authentication (RFC 6749 §2.3): [`Credentials`] → [`AuthenticatedClient`].
//!
//! A request authenticates with exactly one method, which must be the one that its client is registered for. On any
//! failure the caller gets the same `invalid_client`; only the operator learns the reason.

mod audit;
mod basic;
mod check;
mod client_cache;
mod decoy;
mod fair_queue;
mod post;
mod refusals;
mod throttle;
#[cfg(feature = "legacy_hashes")]
mod upgrade;

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::AUTHORIZATION;
use http::{Extensions, HeaderMap};
use zeroize::Zeroizing;

pub(in crate::authorization_server) use self::audit::Audit;
use self::check::Verdict;
pub(in crate::authorization_server) use self::check::{CheckPlace, SlowChecks};
pub use self::client_cache::ClientCacheLimits;
pub(in crate::authorization_server) use self::client_cache::{Answer, Basis, ClientCache, OnRead};
pub(in crate::authorization_server) use self::decoy::Decoy;
use self::fair_queue::Caller;
use self::throttle::Attempt;
pub use self::throttle::AttemptLimits;
pub(in crate::authorization_server) use self::throttle::Throttle;
#[cfg(feature = "legacy_hashes")]
pub(in crate::authorization_server) use self::upgrade::{DynUpgrade, Upgrades};
use super::error::{Fault, TokenError};
use super::form::Form;
use super::head::Head;
use super::peer::PeerAddress;
use crate::client_id::{ClientId, InvalidClientId};
use crate::clock::{Clock, UnixTime};
use crate::registration::{Client, ClientAuthMethod, ClientError, RegisteredClient};
use crate::secret::{Presented, StoredSecret};

/// The credentials of a request: well-formed, but not yet checked.
pub(in crate::authorization_server) struct Credentials {
    client_id: ClientId,
    secret: Zeroizing<String>,
    method: ClientAuthMethod,
}

impl Credentials {
    /// Reads the credentials of the one method by which the request authenticates.
    pub(super) fn read(headers: &HeaderMap, form: &Form<'_>) -> Result<Self, TokenError> {
        let mut headers = headers.get_all(AUTHORIZATION).iter();
        let header = headers.next();
        let in_body = ["client_secret", "client_assertion"].map(|name| form.get(name));
        let methods = headers.count() + usize::from(header.is_some()) + in_body.iter().flatten().count();
        match (header, in_body) {
            _ if methods > 1 => Err(Fault::TWO_METHODS.into()),
            (Some(header), _) => basic::read(header, form),
            (_, [Some(secret), _]) => post::read(secret, form),
            (_, [_, Some(_)]) => Err(TokenError::new(Fault::CLIENT).detailed("assertions are not supported")),
            _ => Err(TokenError::new(Fault::CLIENT).detailed("the request has no client credentials")),
        }
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

/// A client that was authenticated. Only [`Authenticator::authenticate`] creates one.
#[derive(Clone, Debug)]
pub(in crate::authorization_server) struct AuthenticatedClient {
    client: Arc<RegisteredClient>,
    /// The time at which the client store had the client in this state.
    as_of: SystemTime,
}

impl AuthenticatedClient {
    pub(super) fn as_of(&self) -> SystemTime {
        self.as_of
    }
}

impl Deref for AuthenticatedClient {
    type Target = RegisteredClient;

    fn deref(&self) -> &RegisteredClient {
        &self.client
    }
}

/// Checks credentials against the client store.
#[derive(Debug)]
pub(in crate::authorization_server) struct Authenticator {
    pub(in crate::authorization_server) peer: PeerAddress,
    pub(in crate::authorization_server) clients: ClientCache,
    /// Stands in for an unknown client.
    pub(in crate::authorization_server) decoy: Decoy,
    /// Decides whether a secret has expired.
    pub(in crate::authorization_server) clock: Arc<dyn Clock>,
    pub(in crate::authorization_server) slow_checks: SlowChecks,
    pub(in crate::authorization_server) throttle: Throttle,
    pub(in crate::authorization_server) audit: Arc<Audit>,
    #[cfg(feature = "legacy_hashes")]
    pub(in crate::authorization_server) upgrades: Option<Arc<Upgrades>>,
    /// Whether the operator declared the secrets behind the hashes of older systems to be random.
    #[cfg(feature = "legacy_hashes")]
    pub(in crate::authorization_server) imported_are_random: bool,
}

impl Authenticator {
    /// Authenticates the client of the request with this `head`.
    pub(in crate::authorization_server) async fn authenticate(
        &self,
        credentials: &Credentials,
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
    async fn claim(&self, credentials: &Credentials) -> Result<Claim, TokenError> {
        if let Some(claim) = self.claim_at_once(&self.clients.find(&credentials.client_id).await?, credentials) {
            return Ok(claim);
        }
        // Boxed, because it is rare and would make the future of all other requests larger.
        let answer = Box::pin(self.clients.find_lately(&credentials.client_id)).await?;
        Ok(self.claim_by(&answer, credentials))
    }

    /// Returns the claim by this answer, if the answer may be used for it.
    fn claim_at_once(&self, answer: &Answer, credentials: &Credentials) -> Option<Claim> {
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

    fn claim_by(&self, answer: &Answer, credentials: &Credentials) -> Claim {
        let (presented, now) = (Presented::new(&credentials.secret), UnixTime::now(&*self.clock));
        Claim::new(answer, &self.decoy, credentials.method, &presented, now)
    }

    /// Returns which of the client's secrets was presented. An unknown client takes the same work as one with a
    /// generated secret. A client that is refused for another reason counts as a failure, too, so that the limits do
    /// not distinguish them.
    async fn prove(&self, claim: &Claim, credentials: &Credentials, head: &Head) -> Result<Option<usize>, TokenError> {
        let mut secret = claim.secret;
        if secret.is_none() && !claim.slow.is_empty() {
            // Boxed: an allocation is cheap compared to a slow hash, and the future of all other requests stays small.
            if !self.are_random(&claim.slow) {
                return Box::pin(self.check_chosen(claim, credentials, head)).await;
            }
            secret = Box::pin(self.check_slowly(claim, credentials, head, None)).await?;
        }
        if secret.is_none() || !claim.is_acceptable() {
            self.throttle.failed(&credentials.client_id, self.peer(head))?;
        }
        Ok(secret)
    }

    /// Checks secrets that can be guessed, unless there were too many wrong ones before.
    async fn check_chosen(
        &self,
        claim: &Claim,
        credentials: &Credentials,
        head: &Head,
    ) -> Result<Option<usize>, TokenError> {
        let attempt = self.throttle.attempt(&credentials.client_id, self.peer(head))?;
        self.check_slowly(claim, credentials, head, Some(attempt)).await
    }

    async fn check_slowly(
        &self,
        claim: &Claim,
        credentials: &Credentials,
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

/// A slow check of a secret, with everything that its result affects even if the caller hangs up.
struct Guess {
    /// `None` once the result was counted.
    attempt: Option<Attempt>,
    /// The client, if the right secret authenticates it.
    acceptable: Option<Arc<RegisteredClient>>,
    client_id: ClientId,
    extensions: Extensions,
    audit: Arc<Audit>,
    #[cfg(feature = "legacy_hashes")]
    upgrades: Option<Arc<Upgrades>>,
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

/// The client that the caller claims to be, and the result of the immediate checks.
struct Claim {
    /// The client, or the [decoy](Decoy) if the id is unknown.
    client: Arc<RegisteredClient>,
    is_registered: bool,
    as_of: SystemTime,
    method: ClientAuthMethod,
    /// The position of the client's secret whose digest matches the presented one.
    secret: Option<usize>,
    /// The secrets with a slow hash, with their positions among the client's secrets.
    slow: Vec<(usize, StoredSecret)>,
}

impl Claim {
    fn new(answer: &Answer, decoy: &Decoy, method: ClientAuthMethod, presented: &Presented<'_>, now: UnixTime) -> Self {
        let Answer { client, as_of, .. } = answer.clone();
        let is_registered = client.is_some();
        // From here on, both cases take the same steps.
        let client = client.unwrap_or_else(|| decoy.client());
        let live = client.secrets().iter().enumerate().filter(|(_, secret)| secret.is_live(now));
        let live = live.map(|(at, secret)| (at, secret.stored()));
        let secret = check::matching_digest(live.clone(), presented);
        let slow = live.filter(|(_, stored)| stored.is_slow()).map(|(at, stored)| (at, stored.clone())).collect();
        Self { client, is_registered, as_of, method, secret, slow }
    }

    fn is_acceptable(&self) -> bool {
        self.client.is_enabled() && self.client.authentication() == self.method && self.is_registered
    }

    /// Returns a proof, or the reason for the refusal, for the operator.
    fn settle(self, secret: Option<usize>) -> Result<AuthenticatedClient, Cow<'static, str>> {
        let client = self.client;
        if !self.is_registered {
            return Err("the client is not registered".into());
        }
        if secret.is_none() {
            return Err("the secret matches none of the client's current secrets".into());
        }
        if !client.is_enabled() {
            return Err("the client is disabled".into());
        }
        if client.authentication() != self.method {
            let (registered, used) = (client.authentication(), self.method);
            let why = format!("the client is registered for {registered} but used {used}; see Client::authentication");
            return Err(why.into());
        }
        Ok(AuthenticatedClient { client, as_of: self.as_of })
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::{Answer, Basis, Claim, Client, ClientAuthMethod, Decoy, Presented, UnixTime};
    use crate::secret::ClientSecret;

    const METHOD: ClientAuthMethod = ClientAuthMethod::ClientSecretBasic;

    fn claim(client: Option<Client>, presented: &str) -> Claim {
        let client = client.map(|client| client.register().unwrap().into());
        let answer = Answer { client, basis: Basis::Refusal, as_of: SystemTime::UNIX_EPOCH };
        Claim::new(
            &answer,
            &Decoy::new().unwrap(),
            METHOD,
            &Presented::new(presented),
            UnixTime::at(SystemTime::UNIX_EPOCH),
        )
    }

    #[test]
    fn an_unknown_client_is_checked_against_as_many_secrets_as_a_known_one_and_never_accepted() {
        let (own, other) = (ClientSecret::generate().unwrap(), ClientSecret::generate().unwrap());
        let known = claim(Some(Client::new("billing", &own)), other.expose());
        let unknown = claim(None, other.expose());
        assert_eq!(unknown.client.secrets().len(), known.client.secrets().len());
        assert_eq!((known.secret, unknown.secret), (None, None));
        assert_eq!((known.slow.len(), unknown.slow.len()), (0, 0));
        assert!(known.is_acceptable() && !unknown.is_acceptable());
        assert!(unknown.settle(None).is_err());
        // Even a secret that matches the decoy's is no proof.
        assert!(claim(None, other.expose()).settle(Some(0)).is_err());
        assert!(claim(Some(Client::new("billing", &own)), own.expose()).settle(Some(0)).is_ok());
    }
}
