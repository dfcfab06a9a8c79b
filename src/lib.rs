#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod audience;
pub mod authorization_server;
mod base64url;
pub mod client;
mod client_id;
mod clock;
mod crypto;
mod deadline;
pub mod event;
mod issuer;
pub mod keys;
#[cfg(not(feature = "metrics"))]
mod metrics;
#[cfg(feature = "metrics")]
pub mod metrics;
mod numeric_date;
mod object;
mod quoted;
pub mod registration;
pub mod resource_server;
pub mod revocation;
mod scope;
pub mod secret;
pub mod store;
mod sync;
mod telemetry;
mod text;
mod timing;
mod token_lifetime;
pub mod transport;
mod uri;
mod uri_equivalence;
pub mod verification;
#[cfg(test)]
mod watchdog;

pub use self::audience::{Audience, InvalidAudience};
pub use self::authorization_server::{
    AttemptLimits, AuthorizationServer, AuthorizationServerBuilder, ClientCacheLimits, ConfigError, EndpointService,
    ForwardGrantsLayer, GrantHook, GrantRefusal, PendingGrant, TokenEndpoint, TokenEndpointLayer, TokenError,
    TokenErrorKind,
};
pub use self::client::{ClientCredentials, ClientCredentialsLayer, TokenSource};
pub use self::client_id::{ClientId, InvalidClientId};
#[cfg(any(test, feature = "test-util"))]
pub use self::clock::ManualClock;
pub use self::clock::{Clock, SystemClock};
pub use self::crypto::{Random, RandomError, SystemRandom};
pub use self::issuer::{InvalidIssuer, Issuer};
pub use self::keys::{Algorithm, KeyError, KeyRing, KeySet, SigningKey, VerifyingKey};
pub use self::registration::{Client, ClientAuthMethod, ClientError, ClientRules, RegisteredClient, RegisteredSecret};
#[cfg(feature = "axum")]
pub use self::resource_server::Claims;
pub use self::resource_server::{
    AnyOf, Authorized, BearerAuth, BearerAuthLayer, BearerError, Forbidden, InvalidResourceMetadata, Methods,
    Permission, PolicyError, RequestHead, Requirement, ResourceMetadata, ResourceMetadataLayer,
};
pub use self::revocation::Revocations;
pub use self::scope::{InvalidScope, Scope, Scopes};
pub use self::secret::{ClientSecret, SecretError, StoredSecret};
pub use self::store::{
    AdminError, ClientAdmin, ClientStore, MemoryStore, ReplayLog, Revocation, RevocationStore, StoreError,
};
pub use self::transport::ResponseBody;
#[cfg(any(test, feature = "test-util"))]
pub use self::verification::TestIssuer;
pub use self::verification::{
    ClaimsError, InvalidToken, RefusedToken, TokenProfile, Unavailable, UnavailableKind, VerifiedToken, Verifier,
    VerifierError, VerifyError,
};
#[cfg(feature = "remote")]
pub use self::verification::{Introspection, RemoteError, RemoteIssuer};
