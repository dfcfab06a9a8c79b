//! The authorization server (RFC 6749 §1.1): issues tokens, and publishes the keys that verify them.
//!
//! 1. A client gets only what its registration lists, and a token for one API does not open another.
//! 2. Tokens are JWT access tokens (RFC 9068), so a resource server verifies them without asking anybody, and
//!    issuing one writes nothing.
//! 3. Whatever is wrong with the settings comes to light when the server is built.
//! 4. A part that cannot answer is a 503, and never a refusal.
//!
//! # Deployment caveat
//!
//! A token cannot be called back before it expires, unless the server has
//! [revocations](AuthorizationServerBuilder::revocations); [lifetimes](AuthorizationServerBuilder::token_lifetime) are short
//! for that reason.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use tower_client_credentials::{AuthorizationServer, Client, ClientSecret, KeyRing, MemoryStore, Scope};
//!
//! let clients = MemoryStore::from([Client::new("billing", ClientSecret::generate()?)
//!     .scope(Scope::from_static("invoices:read"))]);
//! let server = AuthorizationServer::builder("https://auth.example.com", KeyRing::generate()?, clients)
//!     .default_audience("https://api.example.com")
//!     .token_lifetime(Duration::from_secs(300))
//!     .build()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod authenticate;
mod authorization;
mod body;
mod builder;
mod config_error;
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
mod service;
mod token;
mod token_query;
mod trusted_proxies;

use std::fmt;
use std::sync::Arc;

pub use self::authenticate::{AttemptLimits, ClientCacheLimits};
use self::body::BodyLimits;
pub use self::builder::AuthorizationServerBuilder;
pub use self::config_error::ConfigError;
use self::endpoint::{Endpoint, Endpoints};
pub use self::error::{TokenError, TokenErrorKind};
pub use self::forward::{ForwardGrants, ForwardGrantsFuture, ForwardGrantsLayer, ForwardedBody};
pub use self::future::ResponseFuture;
pub use self::layer::TokenEndpointLayer;
pub use self::service::{EndpointService, EndpointServiceFuture, TokenEndpoint};
pub use self::token::{GrantHook, GrantRefusal, PendingGrant};
use self::token::{Minter, TokenPipeline};
pub use self::trusted_proxies::{ForwardedHeader, InvalidProxies, TrustedProxies};
use crate::audience::InvalidAudience;
use crate::issuer::Issuer;
use crate::keys::{KeyRing, TrustedKeys};
use crate::store::ClientStore;
use crate::transport::Document;
use crate::verification::Verifier;

/// An authorization server: an issuer, its keys and its clients. A clone is the same server.
///
/// It is fixed once it is built. To serve it, put it into a [`TokenEndpointLayer`]; to protect routes with its
/// tokens, give its [`verifier`](Self::verifier) to a [`BearerAuthLayer`](crate::BearerAuthLayer).
///
/// See the [module page](self) for the rules and an example.
#[derive(Clone)]
pub struct AuthorizationServer {
    inner: Arc<Inner>,
}

struct Inner {
    endpoints: Endpoints,
    body_limits: BodyLimits,
    token: TokenPipeline,
    jwks: Document,
    metadata: Document,
}

impl AuthorizationServer {
    /// A server with the default settings.
    ///
    /// # Errors
    ///
    /// When the issuer is none, or a client's registration is wrong; the message names the mend.
    pub fn new(issuer: impl AsRef<str>, keys: KeyRing, clients: impl ClientStore) -> Result<Self, ConfigError> {
        Self::builder(issuer, keys, clients).build()
    }

    /// A server whose settings are yet to be chosen.
    pub fn builder(issuer: impl AsRef<str>, keys: KeyRing, clients: impl ClientStore) -> AuthorizationServerBuilder {
        AuthorizationServerBuilder::new(issuer.as_ref(), keys, clients)
    }

    /// Who it says it is, in `iss`.
    #[must_use]
    pub fn issuer(&self) -> &Issuer {
        &self.inner.token.minter.issuer
    }

    /// Verifies the tokens of this server that are for `audience`, by the server's own keys and clock, and by its
    /// [revocations](AuthorizationServerBuilder::revocations) where it has any.
    ///
    /// # Errors
    ///
    /// When the audience is not an absolute URI; no token could ever be for it.
    pub fn verifier(&self, audience: impl AsRef<str>) -> Result<Verifier, InvalidAudience> {
        let Minter { issuer, keys, clock, revocations, .. } = &self.inner.token.minter;
        let keys = TrustedKeys::Ring(keys.clone());
        let verifier = Verifier::new(issuer.clone(), audience.as_ref().parse()?, keys, clock.clone());
        Ok(match revocations {
            Some(revocations) => verifier.revocations(revocations.clone()),
            None => verifier,
        })
    }

    /// The token endpoint by itself.
    #[must_use]
    pub fn token_service(&self) -> EndpointService {
        EndpointService::new(self.clone(), Endpoint::Token)
    }

    /// The revocation endpoint (RFC 7009) by itself; `None` where the server has no
    /// [revocations](AuthorizationServerBuilder::revocations).
    #[must_use]
    pub fn revocation_service(&self) -> Option<EndpointService> {
        self.inner.token.minter.revocations.as_ref()?;
        Some(EndpointService::new(self.clone(), Endpoint::Revocation))
    }

    /// The introspection endpoint (RFC 7662) by itself.
    #[must_use]
    pub fn introspection_service(&self) -> EndpointService {
        EndpointService::new(self.clone(), Endpoint::Introspection)
    }

    /// Returns the authorization endpoint as a service, which supports no response type. `None` without an
    /// [`authorization_path`](AuthorizationServerBuilder::authorization_path).
    #[must_use]
    pub fn authorization_service(&self) -> Option<EndpointService> {
        self.inner.endpoints.authorization.as_ref()?;
        Some(EndpointService::new(self.clone(), Endpoint::Authorization))
    }

    /// The key set (RFC 7517 §5) by itself.
    #[must_use]
    pub fn jwks_service(&self) -> EndpointService {
        EndpointService::new(self.clone(), Endpoint::Jwks)
    }

    /// The metadata (RFC 8414) by itself.
    #[must_use]
    pub fn metadata_service(&self) -> EndpointService {
        EndpointService::new(self.clone(), Endpoint::Metadata)
    }
}

impl fmt::Debug for AuthorizationServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationServer")
            .field("issuer", self.issuer())
            .field("endpoints", &self.inner.endpoints)
            .field("keys", &self.inner.token.minter.keys)
            .finish_non_exhaustive()
    }
}
