//! Authentication by a signed assertion (RFC 7521 §4.2, RFC 7523 §3, RFC 10070).
//!
//! The checks run in this order:
//!
//! 1. The form of the assertion: header, type, algorithm, and the types of its claims. An outsider can get no further.
//! 2. The signature, with a key of the client that the assertion names. An unknown client takes the same work.
//! 3. The claims: issuer, audience, times.
//! 4. The replay log, last and in one atomic step. So only the client itself can write to the log, and an assertion that
//!    is refused for another reason can be sent again.

mod claims;
mod credentials;
mod decoy_keys;
mod header;
mod invalid;
mod replay;
mod rules;
mod settings;
mod signature;

use std::sync::Arc;
use std::time::Duration;

pub(in crate::authorization_server) use self::credentials::AssertionCredentials;
use self::decoy_keys::DecoyKeys;
use self::invalid::Refusal;
pub use self::invalid::{AssertionRule, InvalidAssertion};
use self::replay::Replays;
use self::rules::{Assertion, Legacy, Parts, Rules, expires_at};
pub use self::settings::ClientAssertions;
use super::{Answer, Audit, AuthenticatedClient, Basis, ClientCache, UsedCredential};
use crate::authorization_server::config_error::ConfigError;
use crate::authorization_server::error::{Fault, TokenError};
use crate::authorization_server::form::Form;
use crate::authorization_server::head::Head;
use crate::clock::{Clock, UnixTime};
use crate::issuer::Issuer;
use crate::keys::Algorithm;
use crate::registration::RegisteredClient;
use crate::store::ReplayId;

/// Checks assertions against the client store.
#[derive(Debug)]
pub(in crate::authorization_server) struct AssertionAuthenticator {
    rules: Rules,
    clients: ClientCache,
    clock: Arc<dyn Clock>,
    /// The substitutes for the keys of an unknown client.
    decoy: DecoyKeys,
    replays: Replays,
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

impl AssertionAuthenticator {
    /// Creates the authenticator, or returns which setting is invalid. `token_endpoint` is the URL in the metadata.
    pub(in crate::authorization_server) fn new(
        settings: ClientAssertions,
        issuer: &Issuer,
        token_endpoint: Option<String>,
        clients: ClientCache,
        store_timeout: Duration,
        clock: Arc<dyn Clock>,
        audit: Arc<Audit>,
    ) -> Result<Self, ConfigError> {
        settings.check().map_err(ConfigError::Limits)?;
        let ClientAssertions { log, max_lifetime, clock_skew, algorithms } = settings;
        let rules = Rules { issuer: issuer.clone(), token_endpoint, max_lifetime, clock_skew, algorithms };
        let decoy = DecoyKeys::new().map_err(|error| ConfigError::Document(error.to_string()))?;
        Ok(Self { rules, clients, decoy, replays: Replays::new(log, store_timeout), clock, audit })
    }

    /// Returns the algorithms that assertions may have, by the names in the metadata.
    pub(in crate::authorization_server) fn algorithm_names(&self) -> Vec<&'static str> {
        let names = self.rules.algorithms.iter().flat_map(|algorithm| match algorithm {
            // RFC 9864 has a second name for it.
            Algorithm::EdDSA => vec![algorithm.name(), "Ed25519"],
            _ => vec![algorithm.name()],
        });
        names.collect()
    }

    pub(super) async fn authenticate(
        &self,
        credentials: &AssertionCredentials,
        head: &Head,
    ) -> Result<AuthenticatedClient, TokenError> {
        let parts = Parts::decode(&credentials.text)?;
        let assertion = self.rules.read(credentials, &parts)?;
        let named = |error: TokenError| error.of(&assertion.client_id);
        let proven = self.prove(&assertion).await.map_err(named)?;
        self.record(&assertion).await.map_err(named)?;
        if let Some(legacy) = proven.legacy {
            self.audit.legacy_assertion(&assertion.client_id, legacy.part, legacy.until, &head.extensions);
        }
        Ok(AuthenticatedClient::new(proven.client, proven.as_of, UsedCredential::other(proven.credential)))
    }

    /// Checks the assertion against the client that it names. A stale cache entry, or one that was not fetched for a
    /// refusal, may accept a client but never refuse one.
    async fn prove(&self, assertion: &Assertion<'_>) -> Result<Proven, TokenError> {
        let id = &assertion.client_id;
        let answer = self.clients.find(id).await?;
        let refusal = match self.check(&answer, assertion) {
            Ok(proven) => return Ok(proven),
            Err(refusal) => refusal,
        };
        if answer.basis != Basis::Acceptance {
            self.clients.refused(id, &answer);
            return Err(refusal.into_error());
        }
        let later = self.clients.find_lately(id).await?;
        if later.client == answer.client {
            return Err(refusal.into_error());
        }
        self.check(&later, assertion).map_err(Refusal::into_error)
    }

    fn check(&self, answer: &Answer, assertion: &Assertion<'_>) -> Result<Proven, Refusal> {
        let now = UnixTime::now(&*self.clock);
        let verified = signature::verify(assertion, answer.client.as_deref(), &self.decoy, now);
        // From here on, the time may depend on the client: without a valid signature, no caller gets further.
        let client = answer.client.clone().ok_or_else(Refusal::unknown_client)?;
        let credential = verified?;
        if !client.is_enabled() {
            return Err(Refusal::disabled_client());
        }
        let legacy = self.rules.check(assertion, client.legacy_until().filter(|until| now < *until), now)?;
        Ok(Proven { client, as_of: answer.as_of, credential, legacy })
    }

    /// Records the use of the assertion. One that was not recorded is not accepted.
    async fn record(&self, assertion: &Assertion<'_>) -> Result<(), TokenError> {
        let id = ReplayId::new(assertion.client_id.as_str(), &assertion.claims.jti);
        // As long as the assertion is accepted.
        let until = expires_at(&assertion.claims)?.after(self.rules.clock_skew);
        let now = UnixTime::now(&*self.clock);
        if self.replays.record(&assertion.client_id, &id, until, now).await? {
            return Ok(());
        }
        Err(Refusal::used_before(&assertion.claims.jti).into_error())
    }
}

impl Refusal {
    /// Returns the error that every refused assertion gets, with its reason for the operator.
    fn into_error(self) -> TokenError {
        let (rule, text) = self.into_parts();
        TokenError::new(Fault::CLIENT).detailed(text).because(rule)
    }
}

impl From<Refusal> for TokenError {
    fn from(refusal: Refusal) -> Self {
        refusal.into_error()
    }
}
