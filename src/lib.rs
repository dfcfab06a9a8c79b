#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod audience;
pub mod authorization_server;
mod base64url;
pub mod client;
pub mod client_id;
pub mod clock;
pub mod crypto;
mod deadline;
pub mod event;
pub mod issuer;
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
pub mod scope;
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

// At the root is what the quick-starts and a usual production set-up name. All else is reached through its module.
pub use self::audience::Audience;
pub use self::authorization_server::{AuthorizationServer, TokenEndpointLayer};
pub use self::client::{ClientCredentials, ClientCredentialsLayer, TokenSource};
pub use self::client_id::ClientId;
pub use self::issuer::Issuer;
pub use self::keys::{Algorithm, KeyRing, SigningKey};
pub use self::registration::{Client, ClientAuthMethod};
pub use self::resource_server::BearerAuthLayer;
#[cfg(feature = "axum")]
pub use self::resource_server::Claims;
pub use self::revocation::Revocations;
pub use self::scope::{Scope, Scopes};
pub use self::secret::ClientSecret;
pub use self::store::{ClientStore, MemoryStore};
#[cfg(feature = "remote")]
pub use self::verification::{Introspection, RemoteIssuer};
pub use self::verification::{VerifiedToken, Verifier};
