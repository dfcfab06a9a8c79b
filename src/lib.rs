#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod audience;
pub mod authorization_server;
mod base64url;
mod client_id;
mod clock;
mod crypto;
mod deadline;
mod document;
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
pub mod resource_server;
mod response_body;
pub mod revocation;
mod scope;
pub mod secret;
pub mod store;
mod striped;
mod telemetry;
mod text;
mod timing;
mod token_lifetime;
mod uri;
mod uri_equivalence;

pub use self::audience::{Audience, InvalidAudience};
pub use self::authorization_server::{
    AttemptLimits, AuthorizationServer, AuthorizationServerBuilder, ConfigError, EndpointService, ForwardGrantsLayer,
    GrantHook, GrantRefusal, PendingGrant, TokenEndpoint, TokenEndpointLayer, TokenError, TokenErrorKind,
};
pub use self::client_id::{ClientId, InvalidClientId};
#[cfg(any(test, feature = "test-util"))]
pub use self::clock::ManualClock;
pub use self::clock::{Clock, SystemClock};
pub use self::crypto::{Random, RandomError, SystemRandom};
pub use self::issuer::{InvalidIssuer, Issuer};
pub use self::keys::{Algorithm, KeyError, KeyRing, KeySet, SigningKey, VerifyingKey};
#[cfg(feature = "axum")]
pub use self::resource_server::Claims;
#[cfg(any(test, feature = "test-util"))]
pub use self::resource_server::TestIssuer;
pub use self::resource_server::{
    AnyOf, Authorized, BearerAuth, BearerAuthLayer, BearerError, ClaimsError, Forbidden, InvalidResourceMetadata,
    InvalidToken, Methods, Permission, PolicyError, RefusedToken, RequestHead, Requirement, ResourceMetadata,
    ResourceMetadataLayer, TokenProfile, Undecided, UndecidedKind, VerifiedToken, Verifier, VerifierError, VerifyError,
};
#[cfg(feature = "remote")]
pub use self::resource_server::{Introspection, RemoteError, RemoteIssuer};
pub use self::response_body::ResponseBody;
pub use self::revocation::Revocations;
pub use self::scope::{InvalidScope, Scope, Scopes};
pub use self::secret::{ClientSecret, SecretError, StoredSecret};
pub use self::store::{
    AdminError, Client, ClientAdmin, ClientAuthMethod, ClientCacheLimits, ClientError, ClientRules, ClientStore,
    MemoryStore, RegisteredClient, RegisteredSecret, ReplayLog, Revocation, RevocationStore, StoreError,
};
