//! Client authentication (RFC 6749 §2.3): [`Credentials`] → [`AuthenticatedClient`].
//!
//! A new method is a module here, and an arm in each function of this file; its name and its parameter are in `registration/method.rs`,
//! and what a client registers for it in `registration/credential/kind/`.
//!
//! A request authenticates with exactly one method, and only with one that its client is registered for. Each kind of
//! credentials has an authenticator of its own, in a module of its own. On any failure the caller gets the same
//! `invalid_client`; only the operator learns the reason.

mod assertion;
mod audit;
mod authenticated;
mod client_cache;
mod secret;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use self::assertion::AssertionCredentials;
pub(crate) use self::assertion::{AssertionAuthenticator, AssertionContext};
pub use self::assertion::{
    AssertionRule, CheckedRule, ClientAssertions, InvalidAssertion, PlatformIssuer, RuleResult, TrustDomain,
};
pub(crate) use self::audit::Audit;
pub(crate) use self::authenticated::AuthenticatedClient;
use self::authenticated::UsedCredential;
pub use self::client_cache::ClientCacheLimits;
use self::client_cache::WorkloadClients;
pub(crate) use self::client_cache::{Answer, Basis, ClientCache, OnRead};
pub use self::secret::AttemptLimits;
#[cfg(feature = "legacy_hashes")]
pub(crate) use self::secret::Upgrades;
pub(crate) use self::secret::{CheckPlace, SecretAuthenticator, SlowChecks, Throttle, UnknownClient};
use self::secret::{SecretCredentials, basic, post};
use super::error::{Fault, TokenError};
use super::form::Form;
use super::head::Head;
use crate::registration::ClientAuthMethod;

/// The credentials of a request, by kind: well-formed, but not yet checked.
pub(crate) enum Credentials {
    Secret(SecretCredentials),
    Assertion(AssertionCredentials),
}

impl Credentials {
    /// Every kind, for metrics.
    pub(crate) const KINDS: [&'static str; 3] =
        [ClientAuthMethod::ClientSecretBasic.name(), ClientAuthMethod::ClientSecretPost.name(), "assertion"];

    /// Returns the kind, for metrics.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Secret(secret) => secret.method(),
            Self::Assertion(_) => "assertion",
        }
    }

    /// Reads the credentials of the one method by which the request authenticates.
    pub(crate) fn read(headers: &HeaderMap, form: &Form<'_>) -> Result<Self, TokenError> {
        let mut headers = headers.get_all(AUTHORIZATION).iter();
        let header = headers.next();
        let in_body = ClientAuthMethod::PARAMETERS.map(|name| form.get(name));
        let methods = headers.count() + usize::from(header.is_some()) + in_body.iter().flatten().count();
        match (header, in_body) {
            _ if methods > 1 => Err(Fault::TWO_METHODS.into()),
            (Some(header), _) => basic::read(header, form).map(Self::Secret),
            (_, [Some(secret), _]) => post::read(secret, form).map(Self::Secret),
            (_, [_, Some(text)]) => assertion::read(text, form).map(Self::Assertion),
            _ => Err(TokenError::new(Fault::CLIENT).detailed("the request has no client credentials")),
        }
    }
}

/// The authenticators of the server, one for each kind of credentials.
#[derive(Debug)]
pub(crate) struct Authenticator {
    pub(crate) secret: SecretAuthenticator,
    /// `None` if the server accepts no assertions.
    pub(crate) assertion: Option<AssertionAuthenticator>,
}

impl Authenticator {
    /// Returns the methods by which a client of this server can authenticate, in the order in which the metadata lists
    /// them.
    pub(crate) fn methods(&self) -> Vec<ClientAuthMethod> {
        let secret = [ClientAuthMethod::ClientSecretBasic, ClientAuthMethod::ClientSecretPost];
        let assertion = self.assertion.iter().flat_map(AssertionAuthenticator::methods);
        secret.into_iter().chain(assertion).collect()
    }

    /// Authenticates the client of the request with this `head`.
    pub(crate) async fn authenticate(
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

pub(crate) const NO_ASSERTIONS: &str =
    "the server accepts no client assertions; enable them with AuthorizationServerBuilder::client_assertions";
