//! Machine-to-machine authentication for tower stacks: the OAuth 2.0 client-credentials grant ([RFC 6749
//! §4.4](https://www.rfc-editor.org/rfc/rfc6749#section-4.4)) as three layers for axum, hyper and tonic.
//!
//! | role | layer | what it does | module |
//! |---|---|---|---|
//! | authorization server | [`TokenEndpointLayer`] | answers token requests with signed tokens, and publishes its keys and metadata | [`authorization_server`] |
//! | resource server | [`BearerAuthLayer`] | admits a request only with a valid token, and passes the proof, a [`VerifiedToken`], to the handler | [`resource_server`] |
//! | client | [`ClientCredentialsLayer`] | obtains, caches and refreshes tokens, and adds them to the requests of an HTTP client | [`client`] |
//!
//! # Issue and protect
//!
//! ```no_run
//! # #[cfg(feature = "axum")] mod example {
//! use axum::{Router, routing::get};
//! use tower_client_credentials::{
//!     AuthorizationServer, BearerAuthLayer, Client, ClientSecret, KeyRing, MemoryStore, Scope, TokenEndpointLayer,
//!     VerifiedToken,
//! };
//!
//! const API: &str = "https://api.example.com";
//! const READ: Scope = Scope::from_static("invoices:read");
//!
//! fn app() -> Result<Router, Box<dyn std::error::Error>> {
//!     let billing = Client::new("billing", ClientSecret::from_env("BILLING_SECRET")?).scope(READ).audience(API);
//!     let clients = MemoryStore::try_from([billing])?;
//!     let server = AuthorizationServer::new("https://auth.example.com", KeyRing::generate()?, clients)?;
//!     let protect = BearerAuthLayer::new(server.verifier(API)?).require_scope(READ);
//!     Ok(Router::new().route("/invoices", get(invoices).layer(protect)).layer(TokenEndpointLayer::new(server)))
//! }
//!
//! async fn invoices(token: VerifiedToken) -> String {
//!     format!("invoices for {}", token.client_id())
//! }
//! # }
//! ```
//!
//! # Call
//!
//! ```no_run
//! # #[cfg(feature = "remote")] mod example {
//! use tower_client_credentials::client::{ClientConfigError, SecretSource};
//! use tower_client_credentials::{ClientCredentials, ClientCredentialsLayer, Scope};
//!
//! fn layer() -> Result<ClientCredentialsLayer, ClientConfigError> {
//!     let secret = SecretSource::from_env("BILLING_SECRET");
//!     let credentials = ClientCredentials::new("https://auth.example.com", "billing", secret)
//!         .resource("https://api.example.com")
//!         .scope(Scope::from_static("invoices:read"));
//!     ClientCredentialsLayer::new(credentials) // wraps any HTTP client that is a tower service
//! }
//! # }
//! ```
//!
//! # Where to go next
//!
//! | you want to | read |
//! |---|---|
//! | learn it, deploy it, find the cause of a symptom | the [`manual`], which begins with [getting started](manual::getting_started) |
//! | change the settings of a server | [`AuthorizationServerBuilder`](authorization_server::AuthorizationServerBuilder) |
//! | keep clients and revocations | [`store`], [`manual::stores`] |
//! | verify tokens of an issuer elsewhere | `RemoteIssuer` and `Introspection` (feature `remote`), [`TokenProfile`](verification::TokenProfile) |
//! | revoke tokens | [`Revocations`], [`manual::revocation`] |
//! | load and publish keys | [`KeyRing`], [`SigningKey`], [`keys`] |
//! | test your application | [`manual::testing`] |
//! | administer clients over HTTP | [`administration`] |
//! | see what happens | [`event`], [`manual::observability`] |
//!
//! The crate root has the names of the quick-starts and of a usual production set-up. Everything else is in its module.
//!
//! # Features
//!
//! | feature | default | what it enables |
//! |---|---|---|
//! | `aws_lc_rs` | yes | signatures with aws-lc-rs |
//! | `rust_crypto` | | signatures with the RustCrypto crates, for builds without a C compiler; RSA keys can only verify. If both are enabled, `aws_lc_rs` is used |
//! | `axum` | | [`VerifiedToken`], [`Authorized`](resource_server::Authorized) and `Claims` as axum extractors |
//! | `argon2` | | secrets chosen by people |
//! | `legacy_hashes` | | bcrypt and PBKDF2 hashes from an older system |
//! | `metrics` | | counters and gauges through the `metrics` facade |
//! | `encrypted_pem` | | private keys encrypted with a passphrase |
//! | `file` | | clients in a watched TOML file |
//! | `sqlite`, `postgres` | | state in SQLite (bundled) or Postgres 15 and later; both need Rust 1.94 |
//! | `redis` | | state in Redis or Valkey |
//! | `remote` | | `RemoteIssuer`, `Introspection`, and the default HTTP client of [`ClientCredentials`] |
//! | `workload_api` | | trust bundles and JWT-SVIDs from the SPIFFE Workload API; see `workload_api::WorkloadApi` |
//! | `test-util` | | `TestIssuer`, `VerifiedToken::for_test`, `ManualClock` and `store::conformance`, for tests only |
//!
//! The library needs Rust 1.88 and a Tokio runtime. It has no `unsafe` code.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod administration;
pub mod audience;
pub mod authorization_server;
mod base64url;
pub mod client;
mod client_authentication;
pub mod client_id;
pub mod clock;
pub mod crypto;
mod deadline;
mod debug_fields;
pub mod event;
pub mod issuer;
mod issuer_metadata;
pub mod keys;
#[cfg(test)]
mod log_capture;
// Its examples use every feature, so that they are tested only with all of them.
#[cfg(any(
    all(doc, not(doctest)),
    all(
        doctest,
        feature = "argon2",
        feature = "axum",
        feature = "file",
        feature = "postgres",
        feature = "redis",
        feature = "remote",
        feature = "sqlite",
        feature = "test-util"
    )
))]
pub mod manual;
#[cfg(not(feature = "metrics"))]
mod metrics;
#[cfg(feature = "metrics")]
pub mod metrics;
mod named;
mod network;
mod numeric_date;
mod object;
mod private_address;
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
#[cfg(feature = "workload_api")]
pub mod workload_api;

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

/// Tests the examples of the README.
#[cfg(all(doctest, feature = "axum", feature = "remote"))]
#[doc = include_str!("../README.md")]
mod readme {}
