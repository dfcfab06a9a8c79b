//! The authorization server (RFC 6749 §1.1): issues tokens, and publishes the keys that verify them.
//!
//! 1. A client gets only what its registration lists, and a token for one API is not valid for another.
//! 2. Tokens are JWT access tokens (RFC 9068). A resource server verifies them without a request to this server, and
//!    issuing a token writes nothing.
//! 3. Invalid settings are reported when the server is built.
//! 4. If a part cannot answer, the caller gets 503, never a refusal.
//!
//! # Deployment caveat
//!
//! Without [revocations](AuthorizationServerBuilder::revocations), a token cannot be revoked before it expires. Use a
//! short [lifetime](AuthorizationServerBuilder::token_lifetime).
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use tower_client_credentials::{AuthorizationServer, Client, ClientSecret, KeyRing, MemoryStore, Scope};
//!
//! let clients = MemoryStore::try_from([Client::new("billing", ClientSecret::generate()?)
//!     .scope(Scope::from_static("invoices:read"))])?;
//! let server = AuthorizationServer::builder("https://auth.example.com", KeyRing::generate()?, clients)
//!     .default_audience("https://api.example.com")
//!     .token_lifetime(Duration::from_secs(300))
//!     .build()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod authenticate;
mod authorization;
mod body;
mod builder;
mod config_error;
mod documents;
mod endpoint;
mod error;
mod form;
mod forward;
mod future;
mod head;
mod introspection;
mod json;
mod layer;
mod metadata;
mod peer;
mod report;
mod revocation;
#[cfg(test)]
mod ring_tests;
mod service;
mod shared_parts;
mod token;
mod token_query;
mod trusted_proxies;

use std::sync::Arc;

pub use self::authenticate::{
    AssertionRule, AttemptLimits, CheckedRule, ClientAssertions, ClientCacheLimits, InvalidAssertion, PlatformIssuer,
    RuleResult, TrustDomain,
};
pub(crate) use self::body::{BodyError, BodyLimits, ReadBody};
pub use self::builder::AuthorizationServerBuilder;
pub use self::config_error::{ConfigError, ConfigErrorKind};
use self::documents::Documents;
use self::endpoint::{Endpoint, Endpoints};
pub use self::error::{TokenError, TokenErrorKind};
pub(crate) use self::form::is_content_type;
pub use self::forward::{ForwardGrants, ForwardGrantsFuture, ForwardGrantsLayer, ForwardedBody};
pub use self::future::EndpointServiceFuture;
pub use self::layer::TokenEndpointLayer;
pub use self::service::{EndpointService, TokenEndpoint};
pub(crate) use self::shared_parts::SharedParts;
pub use self::token::{GrantHook, GrantRefusal, HookFuture, PendingGrant};
use self::token::{Minter, TokenPipeline};
pub use self::trusted_proxies::{ForwardedHeader, InvalidProxies, TrustedProxies};
use crate::audience::InvalidAudience;
use crate::client_id::ClientId;
use crate::debug_fields::debug_fields;
use crate::issuer::Issuer;
use crate::keys::{KeyRing, TrustedKeys};
use crate::registration::ClientRules;
use crate::store::ClientStore;
use crate::verification::Verifier;

/// An authorization server: an issuer, its keys and its clients. A clone is the same server.
///
/// The settings of a server cannot be changed after it was built; its [keys](KeyRing) can. To serve it, pass it to a [`TokenEndpointLayer`]. To protect routes
/// with its tokens, pass its [`verifier`](Self::verifier) to a [`BearerAuthLayer`](crate::BearerAuthLayer).
///
/// See the [module documentation](self) for the rules and an example.
#[derive(Clone)]
pub struct AuthorizationServer {
    inner: Arc<Inner>,
}

struct Inner {
    endpoints: Endpoints,
    body_limits: BodyLimits,
    token: TokenPipeline,
    documents: Documents,
}

impl AuthorizationServer {
    /// Creates a server with the default settings.
    ///
    /// # Errors
    ///
    /// Returns an error if the issuer identifier or a client's registration is invalid. Its text says how to fix it.
    pub fn new(issuer: impl AsRef<str>, keys: KeyRing, clients: impl ClientStore) -> Result<Self, ConfigError> {
        Self::builder(issuer, keys, clients).build()
    }

    /// Returns a builder for a server with other settings.
    pub fn builder(issuer: impl AsRef<str>, keys: KeyRing, clients: impl ClientStore) -> AuthorizationServerBuilder {
        AuthorizationServerBuilder::new(issuer.as_ref(), keys, clients)
    }

    /// Returns the issuer identifier, the `iss` of the tokens.
    #[must_use]
    pub fn issuer(&self) -> &Issuer {
        &self.inner.token.minter.issuer
    }

    /// Returns the path of each endpoint that is on, with its name: `token`, `authorization`, `revocation`, `introspection`, `jwks`
    /// and `metadata`. For the start of a service, whose operator compares them with those of a proxy.
    pub fn paths(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let Endpoints { token, authorization, revocation, introspection, jwks, metadata } = &self.inner.endpoints;
        let all = [
            ("token", token),
            ("authorization", authorization),
            ("revocation", revocation),
            ("introspection", introspection),
            ("jwks", jwks),
            ("metadata", metadata),
        ];
        all.into_iter().filter_map(|(name, path)| Some((name, path.as_deref()?)))
    }

    /// Returns the scopes and audiences that the server knows, to check registrations before they are stored.
    #[must_use]
    pub fn client_rules(&self) -> &ClientRules {
        &self.inner.token.policy.rules
    }

    /// Returns a verifier for the tokens of this server that are for `audience`. It uses the server's keys, clock and
    /// [revocations](AuthorizationServerBuilder::revocations).
    ///
    /// # Errors
    ///
    /// Returns an error if the audience is not an absolute URI.
    pub fn verifier(&self, audience: impl AsRef<str>) -> Result<Verifier, InvalidAudience> {
        let Minter { issuer, keys, clock, revocations, .. } = &self.inner.token.minter;
        let keys = TrustedKeys::Ring(keys.clone());
        let verifier = Verifier::new(issuer.clone(), audience.as_ref().parse()?, keys, clock.clone());
        Ok(match revocations {
            Some(revocations) => verifier.revocations(revocations.clone()),
            None => verifier,
        })
    }

    /// Checks a client assertion against each rule of this server, so that an operator learns why it is refused. `client` is
    /// the client that it should be from; by default, it is the `sub` of the assertion.
    ///
    /// Nothing is recorded, so an assertion that passes can still be used. The keys at the URL of a client are not fetched, and
    /// those of a platform or a trust domain are, if they are at a URL. Do not show the result to a caller.
    ///
    /// # Errors
    ///
    /// If the server accepts no assertions, or the client store does not answer.
    pub async fn diagnose_assertion(
        &self,
        assertion: &str,
        client: Option<&ClientId>,
    ) -> Result<Vec<CheckedRule>, TokenError> {
        match &self.inner.token.authenticator.assertion {
            Some(authenticator) => authenticator.diagnose(assertion, client).await,
            None => Err(TokenError::new(error::Fault::CLIENT).detailed(authenticate::NO_ASSERTIONS)),
        }
    }

    /// Returns the token endpoint as a service.
    #[must_use]
    pub fn token_service(&self) -> EndpointService {
        EndpointService::new(self.clone(), Endpoint::Token)
    }

    /// Returns the revocation endpoint (RFC 7009) as a service, or `None` if the server has no
    /// [revocations](AuthorizationServerBuilder::revocations).
    #[must_use]
    pub fn revocation_service(&self) -> Option<EndpointService> {
        self.inner.token.minter.revocations.as_ref()?;
        Some(EndpointService::new(self.clone(), Endpoint::Revocation))
    }

    /// Returns the introspection endpoint (RFC 7662) as a service.
    #[must_use]
    pub fn introspection_service(&self) -> EndpointService {
        EndpointService::new(self.clone(), Endpoint::Introspection)
    }

    /// Returns the authorization endpoint, which supports no response type, as a service. Returns `None` without an
    /// [`authorization_path`](AuthorizationServerBuilder::authorization_path).
    #[must_use]
    pub fn authorization_service(&self) -> Option<EndpointService> {
        self.inner.endpoints.authorization.as_ref()?;
        Some(EndpointService::new(self.clone(), Endpoint::Authorization))
    }

    /// Returns the key set (RFC 7517 §5) as a service.
    #[must_use]
    pub fn jwks_service(&self) -> EndpointService {
        EndpointService::new(self.clone(), Endpoint::Jwks)
    }

    /// Returns the metadata (RFC 8414) as a service.
    #[must_use]
    pub fn metadata_service(&self) -> EndpointService {
        EndpointService::new(self.clone(), Endpoint::Metadata)
    }
}

debug_fields!(AuthorizationServer, |this| {
    issuer: this.issuer(),
    endpoints: this.inner.endpoints,
    keys: this.inner.token.minter.keys,
});
