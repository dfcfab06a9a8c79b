//! Client authentication (RFC 6749 §2.3): [`Credentials`] → [`AuthenticatedClient`].
//!
//! A request authenticates with exactly one method, and only with one that its client is registered for. Each kind of
//! credentials has an authenticator of its own, in a module of its own. On any failure the caller gets the same
//! `invalid_client`; only the operator learns the reason.

mod assertion;
mod audit;
mod authenticated;
mod client_cache;
mod credentials;
mod secret;

pub(in crate::authorization_server) use self::assertion::{AssertionAuthenticator, AssertionContext};
pub use self::assertion::{
    AssertionRule, CheckedRule, ClientAssertions, InvalidAssertion, PlatformIssuer, RuleResult, TrustDomain,
};
pub(in crate::authorization_server) use self::audit::Audit;
pub(in crate::authorization_server) use self::authenticated::AuthenticatedClient;
use self::authenticated::UsedCredential;
pub use self::client_cache::ClientCacheLimits;
pub(in crate::authorization_server) use self::client_cache::{Answer, Basis, ClientCache, OnRead};
pub(in crate::authorization_server) use self::credentials::Credentials;
pub use self::secret::AttemptLimits;
#[cfg(feature = "legacy_hashes")]
pub(in crate::authorization_server) use self::secret::Upgrades;
pub(in crate::authorization_server) use self::secret::{
    CheckPlace, SecretAuthenticator, SlowChecks, Throttle, UnknownClient,
};
use super::error::{Fault, TokenError};
use super::head::Head;
use crate::registration::ClientAuthMethod;

/// The authenticators of the server, one for each kind of credentials.
#[derive(Debug)]
pub(in crate::authorization_server) struct Authenticator {
    pub(in crate::authorization_server) secret: SecretAuthenticator,
    /// `None` if the server accepts no assertions.
    pub(in crate::authorization_server) assertion: Option<AssertionAuthenticator>,
}

impl Authenticator {
    /// Returns the methods by which a client of this server can authenticate, in the order in which the metadata lists
    /// them.
    pub(in crate::authorization_server) fn methods(&self) -> Vec<ClientAuthMethod> {
        let secret = [ClientAuthMethod::ClientSecretBasic, ClientAuthMethod::ClientSecretPost];
        let assertion = self.assertion.iter().flat_map(AssertionAuthenticator::methods);
        secret.into_iter().chain(assertion).collect()
    }

    /// Authenticates the client of the request with this `head`.
    pub(in crate::authorization_server) async fn authenticate(
        &self,
        credentials: &Credentials,
        head: &Head,
    ) -> Result<AuthenticatedClient, TokenError> {
        match credentials {
            Credentials::Secret(credentials) => self.secret.authenticate(credentials, head).await,
            Credentials::Assertion(credentials) => match &self.assertion {
                // Boxed, so that requests with a secret stay small.
                Some(assertion) => Box::pin(assertion.authenticate(credentials, head)).await,
                None => Err(TokenError::new(Fault::CLIENT).detailed(NO_ASSERTIONS)),
            },
        }
    }
}

pub(in crate::authorization_server) const NO_ASSERTIONS: &str =
    "the server accepts no client assertions; enable them with AuthorizationServerBuilder::client_assertions";
