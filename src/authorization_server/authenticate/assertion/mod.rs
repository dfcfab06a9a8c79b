//! Authentication by a signed assertion (RFC 7521 §4.2, RFC 7523 §3, RFC 10070).
//!
//! The checks run in this order:
//!
//! 1. The form of the assertion: header, type, algorithm, and the types of its claims. An outsider can get no further.
//! 2. The signature, with a key of the client that the assertion names. An unknown client takes the same work as one with
//!    registered keys. For a client with keys at a URL, the work differs, and the answer may be 503.
//! 3. The claims: issuer, audience, times.
//! 4. The replay log, last and in one atomic step. So only the client itself can write to the log, and an assertion that
//!    is refused for another reason can be sent again.

mod claims;
#[cfg(feature = "remote")]
mod client_key_sets;
mod credentials;
mod decoy_keys;
mod diagnosis;
mod failure;
mod header;
mod invalid;
mod key_place;
mod legacy_uses;
mod platform;
#[cfg(feature = "remote")]
mod remote_keys;
mod replay;
mod rules;
mod secrets;
mod settings;
mod signature;
mod spiffe_bundle;
#[cfg(feature = "workload_api")]
mod streamed_bundle;
mod trust_domain;
mod trusted_signature;
mod workload;
mod workload_client;
mod workload_diagnosis;
mod workloads;

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "remote")]
use self::client_key_sets::ClientKeySets;
pub(crate) use self::credentials::AssertionCredentials;
use self::credentials::AssertionKind;
use self::decoy_keys::DecoyKeys;
pub use self::diagnosis::{CheckedRule, RuleResult};
use self::failure::Failure;
use self::invalid::Refusal;
pub use self::invalid::{AssertionRule, InvalidAssertion};
use self::legacy_uses::LegacyUses;
pub use self::platform::PlatformIssuer;
use self::replay::Replays;
use self::rules::{Assertion, Legacy, Parts, Rules, expired, expires_at};
use self::secrets::Secrets;
pub use self::settings::ClientAssertions;
use self::settings::KeyUrls;
pub use self::trust_domain::TrustDomain;
#[cfg(feature = "remote")]
use self::trusted_signature::Signed;
use self::workloads::Workloads;
use super::{Answer, Audit, AuthenticatedClient, Basis, ClientCache, UsedCredential, WorkloadClients};
use crate::authorization_server::config_error::ConfigError;
use crate::authorization_server::error::TokenError;
use crate::authorization_server::form::Form;
use crate::authorization_server::head::Head;
use crate::clock::{Clock, UnixTime};
use crate::crypto::Random;
use crate::issuer::Issuer;
use crate::keys::Algorithm;
#[cfg(feature = "remote")]
use crate::keys::TrustedKeys;
#[cfg(feature = "remote")]
use crate::numeric_date::NumericDate;
use crate::registration::{AcceptedSecrets, ClientAuthMethod, RegisteredClient};
#[cfg(feature = "remote")]
use crate::registration::{CredentialKind, MAX_KEY_URLS};
use crate::store::ReplayId;

/// Checks assertions against the client store.
#[derive(Debug)]
pub(crate) struct AssertionAuthenticator {
    rules: Rules,
    clients: ClientCache,
    clock: Arc<dyn Clock>,
    /// The substitutes for the keys of an unknown client.
    decoy: DecoyKeys,
    workloads: Workloads,
    /// `None` if the server accepts no `client_secret_jwt`.
    secrets: Option<Secrets>,
    /// `None` if the keys of clients are not fetched.
    #[cfg(feature = "remote")]
    key_sets: Option<ClientKeySets>,
    replays: Replays,
    /// `None` if the use of allowances is not recorded.
    legacy_uses: Option<Arc<LegacyUses>>,
    audit: Arc<Audit>,
}

/// Reads the parameters that belong to the assertion in this text.
pub(super) fn read(text: &str, form: &Form<'_>) -> Result<AssertionCredentials, TokenError> {
    Ok(credentials::read(text, form)?)
}

/// An assertion that passed every check but the replay log.
struct Proven {
    client: Arc<RegisteredClient>,
    as_of: std::time::SystemTime,
    /// The position of the credential among those of the client.
    credential: usize,
    legacy: Option<Legacy>,
}

/// What the authenticator takes from the server.
pub(crate) struct AssertionContext<'a> {
    pub(crate) issuer: &'a Issuer,
    /// The URL in the metadata.
    pub(crate) token_endpoint: Option<String>,
    pub(crate) clients: ClientCache,
    pub(crate) store_timeout: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: &'a Arc<dyn Random>,
    pub(crate) audit: Arc<Audit>,
}

impl Proven {
    fn into_client(self) -> AuthenticatedClient {
        AuthenticatedClient::new(self.client, self.as_of, UsedCredential::other(self.credential))
    }
}

impl AssertionAuthenticator {
    /// Creates the authenticator, or returns which setting is invalid.
    pub(crate) fn new(settings: ClientAssertions, context: AssertionContext<'_>) -> Result<Self, ConfigError> {
        settings.check().map_err(|why| ConfigError::Assertions(why.to_owned()))?;
        let AssertionContext { issuer, token_endpoint, clients, store_timeout, clock, random, audit } = context;
        let ClientAssertions { log, max_lifetime, clock_skew, algorithms, platforms, trust_domains, key_urls, .. } =
            settings;
        let legacy_uses = settings.legacy_uses.map(|store| LegacyUses::new(store, store_timeout, clock.clone()));
        let hmac_algorithms = settings.secrets.as_ref().map(|_| settings.hmac_algorithms).unwrap_or_default();
        let secrets = settings.secrets.map(|AcceptedSecrets { key }| Secrets::new(key)).transpose();
        let issuer = issuer.clone();
        let rules = Rules { issuer, token_endpoint, max_lifetime, clock_skew, algorithms, hmac_algorithms };
        let decoy = DecoyKeys::new().map_err(|error| ConfigError::Document(error.to_string()))?;
        let workloads = Workloads::open(platforms, trust_domains, &clock, random).map_err(ConfigError::Assertions)?;
        #[cfg(feature = "remote")]
        let key_sets = match key_urls {
            KeyUrls::Refused => None,
            KeyUrls::Public => Some(ClientKeySets::new(false, clock.clone(), random.clone())),
            KeyUrls::Private => Some(ClientKeySets::new(true, clock.clone(), random.clone())),
        };
        #[cfg(not(feature = "remote"))]
        let KeyUrls::Refused = key_urls;
        Ok(Self {
            rules,
            clients,
            decoy,
            workloads,
            secrets: secrets.map_err(ConfigError::Assertions)?,
            #[cfg(feature = "remote")]
            key_sets: key_sets.transpose().map_err(ConfigError::Assertions)?,
            replays: Replays::new(log, store_timeout),
            legacy_uses: legacy_uses.map(Arc::new),
            clock,
            audit,
        })
    }

    /// Returns the methods that the metadata lists.
    pub(crate) fn methods(&self) -> impl Iterator<Item = ClientAuthMethod> {
        let spiffe = (!self.workloads.trust_domains.is_empty()).then_some(ClientAuthMethod::SpiffeJwt);
        let secret = self.secrets.as_ref().map(|_| ClientAuthMethod::ClientSecretJwt);
        [ClientAuthMethod::PrivateKeyJwt].into_iter().chain(secret).chain(spiffe)
    }

    /// Returns the algorithms that assertions may have, by the names in the metadata.
    pub(crate) fn algorithm_names(&self) -> Vec<&'static str> {
        let names = self.rules.algorithms.iter().flat_map(|algorithm| match algorithm {
            // RFC 9864 has a second name for it.
            Algorithm::EdDSA => vec![algorithm.name(), "Ed25519"],
            _ => vec![algorithm.name()],
        });
        names.chain(self.rules.hmac_algorithms.iter().map(|algorithm| algorithm.name())).collect()
    }

    pub(super) async fn authenticate(
        &self,
        credentials: &AssertionCredentials,
        head: &Head,
    ) -> Result<AuthenticatedClient, TokenError> {
        let parts = Parts::decode(&credentials.text)?;
        let workload = match credentials.kind {
            AssertionKind::JwtSpiffe => self.workloads.verify_svid(&parts, &self.rules, &*self.clock).await?,
            AssertionKind::JwtBearer => match self.workloads.claims_of_platform(&parts) {
                None => return self.authenticate_by_key(credentials, &parts, head).await,
                Some(claims) => self.workloads.verify_platform(&parts, claims, &self.rules, &*self.clock).await?,
            },
        };
        self.authenticate_workload(credentials, &workload, head).await
    }

    /// Authenticates a client that signed the assertion itself.
    async fn authenticate_by_key(
        &self,
        credentials: &AssertionCredentials,
        parts: &Parts<'_>,
        head: &Head,
    ) -> Result<AuthenticatedClient, TokenError> {
        let assertion = self.rules.read(credentials, parts)?;
        let named = |error: TokenError| error.of(&assertion.client_id);
        let proven = self.prove(&assertion).await.map_err(named)?;
        self.record(&assertion).await.map_err(named)?;
        if let Some(legacy) = proven.legacy {
            self.audit.legacy_assertion(&assertion.client_id, legacy.part, legacy.until, &head.extensions);
            if let Some(uses) = &self.legacy_uses {
                uses.consider(&proven.client);
            }
        }
        Ok(proven.into_client())
    }

    /// Checks the assertion against the client that it names. A stale cache entry, or one that was not fetched for a
    /// refusal, may accept a client but never refuse one.
    async fn prove(&self, assertion: &Assertion<'_>) -> Result<Proven, TokenError> {
        let id = &assertion.client_id;
        let answer = self.clients.find(id).await?;
        let failure = match self.check(&answer, assertion).await {
            Ok(proven) => return Ok(proven),
            Err(failure) => failure,
        };
        if answer.basis != Basis::Acceptance {
            self.clients.refused(id, &answer);
            return Err(failure.into());
        }
        let later = self.clients.find_lately(id).await?;
        if later.client == answer.client {
            return Err(failure.into());
        }
        Ok(self.check(&later, assertion).await?)
    }

    async fn check(&self, answer: &Answer, assertion: &Assertion<'_>) -> Result<Proven, Failure> {
        let now = UnixTime::now(&*self.clock);
        let verified = self.verify_registered(assertion, answer.client.as_deref(), now);
        // From here on, the time may depend on the client. Without a valid signature, no caller gets further, except that the keys
        // at the URL of a client are fetched: for such a client, the time and a 503 show that it exists.
        let client = answer.client.clone().ok_or_else(Refusal::unknown_client)?;
        let (credential, now) = match verified {
            Ok(credential) => (credential, now),
            // No secret is at a URL.
            Err(Failure::Refused(refusal)) if assertion.hmac.is_none() => {
                self.verify_at_url(assertion, &client, now, refusal).await?
            }
            Err(failure) => return Err(failure),
        };
        if !client.is_enabled() {
            return Err(Refusal::disabled_client().into());
        }
        let legacy = self.rules.check(assertion, client.legacy_until().filter(|until| now < *until), now)?;
        Ok(Proven { client, as_of: answer.as_of, credential, legacy })
    }

    /// Returns the position of the credential that verifies the signature with a secret or a key of the registration. A secret never
    /// verifies the signature of a key, nor a key that of a secret.
    fn verify_registered(
        &self,
        assertion: &Assertion<'_>,
        client: Option<&RegisteredClient>,
        now: UnixTime,
    ) -> Result<usize, Failure> {
        match (assertion.hmac, &self.secrets) {
            (Some(algorithm), Some(secrets)) => secrets.verify(assertion, algorithm, client, now),
            _ => Ok(signature::verify(assertion, client, &self.decoy, now)?),
        }
    }

    /// Returns the position of the credential whose keys at a URL verify the signature, after no other key did, and the
    /// time after the fetch.
    #[cfg(feature = "remote")]
    async fn verify_at_url(
        &self,
        assertion: &Assertion<'_>,
        client: &RegisteredClient,
        now: UnixTime,
        refusal: Refusal,
    ) -> Result<(usize, UnixTime), Failure> {
        let mut failure = Failure::from(refusal);
        let Some(key_sets) = &self.key_sets else { return Err(failure) };
        let issued_by = assertion.claims.iat.and_then(NumericDate::rounded_up);
        let signed = Signed {
            jws: assertion.jws,
            kid: assertion.header.kid.as_deref().unwrap_or_default(),
            alg: &assertion.header.alg,
            issued_by: issued_by.map(|time| time.after(self.rules.clock_skew)),
        };
        let live = client.credentials().iter().enumerate().filter(|(_, credential)| credential.is_live(now));
        let at_urls = live.filter_map(|(at, credential)| match credential.kind() {
            CredentialKind::KeysUrl(url) => Some((at, credential, url)),
            _ => None,
        });
        // Several servers of keys that do not answer cost one wait.
        let mut deadline = None;
        for (at, credential, url) in at_urls.take(MAX_KEY_URLS) {
            // No caller can let this server send requests to a client that was disabled.
            if !client.is_enabled() {
                return Err(Refusal::disabled_client().into());
            }
            let Some(set) = key_sets.at(url) else { continue };
            let deadline = *deadline.get_or_insert_with(|| set.deadline());
            set.catch_up(deadline).await;
            match signed.verify_until(&TrustedKeys::Remote(set.clone()), deadline).await {
                Ok(()) => {
                    set.used();
                    // A fetch takes seconds, in which the credential may expire.
                    let now = UnixTime::now(&*self.clock);
                    return if credential.is_live(now) {
                        Ok((at, now))
                    } else {
                        Err(Refusal::expired_credential().into())
                    };
                }
                // What could not be decided weighs more than a refusal.
                Err(Failure::Refused(_)) if matches!(failure, Failure::Unavailable(_)) => {}
                Err(other) => failure = other,
            }
        }
        Err(failure)
    }

    #[cfg(not(feature = "remote"))]
    #[expect(clippy::unused_async, reason = "has the signature of the other one")]
    async fn verify_at_url(
        &self,
        _: &Assertion<'_>,
        _: &RegisteredClient,
        _: UnixTime,
        refusal: Refusal,
    ) -> Result<(usize, UnixTime), Failure> {
        Err(refusal.into())
    }

    /// Records the use of the assertion. One that was not recorded is not accepted.
    async fn record(&self, assertion: &Assertion<'_>) -> Result<(), TokenError> {
        let id = ReplayId::new(assertion.client_id.as_str(), &assertion.claims.jti);
        // As long as the assertion is accepted.
        let expires_at = expires_at(&assertion.claims)?;
        let until = expires_at.after(self.rules.clock_skew);
        let now = UnixTime::now(&*self.clock);
        if until <= now {
            // It expired after the check of its claims. The log forgets it from this second on, and could accept it again.
            return Err(expired(expires_at, now).into());
        }
        if self.replays.record(&assertion.client_id, &id, until, now).await? {
            return Ok(());
        }
        Err(Refusal::used_before(&assertion.claims.jti).into())
    }
}
