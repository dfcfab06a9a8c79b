//! The resource server (RFC 6749 §1.1): admits only requests with a verified token to protected routes.
//!
//! 1. A request reaches the wrapped service only if its token was verified: signature, type, issuer, audience and times
//!    (RFC 9068 §4), and the scopes that the route requires.
//! 2. The request's extensions contain the proof, a [`VerifiedToken`](crate::VerifiedToken).
//! 3. Every other request gets the challenge of RFC 6750 §3, which reveals nothing useful to an attacker. The reason is in
//!    the log and in the response's extensions, as a [`BearerError`].
//! 4. URLs and keys in a token are never fetched or followed.
//! 5. The same layer refuses gRPC calls over HTTP/2, and gRPC-Web calls, with a gRPC status. The HTTP status of that answer
//!    is 200: see [`BearerAuthLayer`] for routes that a forward-auth proxy asks.
//!
//! # Deployment caveat
//!
//! The layer does not exempt `OPTIONS`: put a CORS layer outside, which answers preflight requests first.
//!
//! # Example
//!
//! ```
//! use axum::{Router, routing::get};
//! use tower_client_credentials::{AuthorizationServer, BearerAuthLayer, KeyRing, MemoryStore, Scope, VerifiedToken};
//!
//! const API: &str = "https://api.example.com";
//! const READ: Scope = Scope::from_static("invoices:read");
//!
//! async fn invoices(token: VerifiedToken) -> String {
//!     format!("invoices for {}", token.client_id())
//! }
//!
//! let server = AuthorizationServer::new("https://auth.example.com", KeyRing::generate()?, MemoryStore::default())?;
//! let protect = BearerAuthLayer::new(server.verifier(API)?).require_scope(READ);
//! let app: Router = Router::new().route("/invoices", get(invoices).layer(protect));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod api_key;
mod authorization_scheme;
mod authorized;
mod challenge;
mod decision;
mod error;
mod error_kind;
mod expiry;
#[cfg(feature = "axum")]
mod extract;
mod future;
mod grpc;
mod layer;
mod metadata;
mod methods;
mod policy;
mod required;
mod service;
mod unread_body;

pub use self::api_key::{ApiKeyIdentity, ApiKeyUsage, ApiKeys, Caller, InvalidApiKey};
pub use self::authorized::{AnyOf, Authorized, Permission, Requirement};
pub use self::error::BearerError;
pub use self::error_kind::BearerErrorKind;
#[cfg(feature = "axum")]
pub use self::extract::{Claims, MissingVerifiedToken, TokenRejection};
pub use self::future::ResponseFuture;
pub use self::layer::BearerAuthLayer;
pub use self::metadata::{
    InvalidResourceMetadata, ResourceMetadata, ResourceMetadataBuilder, ResourceMetadataEndpoint,
    ResourceMetadataLayer, ResourceMetadataService,
};
pub use self::methods::Methods;
pub use self::policy::{Forbidden, PolicyError, RequestHead};
pub use self::service::BearerAuth;
