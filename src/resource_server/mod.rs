//! The resource server (RFC 6749 §1.1): opens routes to verified tokens, and to nothing else.
//!
//! 1. A request reaches the wrapped service only with a token that was verified: signature, type, issuer,
//!    audience and times (RFC 9068 §4), and the scopes that the route asks for.
//! 2. The proof goes with it, as a [`VerifiedToken`] in the request's extensions.
//! 3. Everybody else gets the challenge of RFC 6750 §3, which says nothing that would help an attacker; the
//!    reason is in the log and in the response's extensions, as a [`BearerError`].
//! 4. Nothing that a token says is fetched or followed.
//! 5. The same layer refuses gRPC calls over HTTP/2, and gRPC-Web calls, by a gRPC status. The HTTP status of that answer is
//!    200: see [`BearerAuthLayer`] for routes that a forward-auth proxy asks.
//!
//! # Deployment caveat
//!
//! `OPTIONS` is not let through by itself: put a CORS layer outside, where it answers preflight requests before
//! they get here.
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

mod authorized;
mod bearer;
mod challenge;
mod error;
mod expiry;
#[cfg(feature = "axum")]
mod extract;
mod future;
mod gate;
mod grpc;
mod layer;
mod metadata;
mod methods;
mod policy;
mod required;
mod service;
mod unread_body;

pub use self::authorized::{AnyOf, Authorized, Permission, Requirement};
pub use self::error::BearerError;
#[cfg(feature = "axum")]
pub use self::extract::{Claims, MissingVerifiedToken, TokenRejection};
pub use self::future::ResponseFuture;
pub use self::layer::BearerAuthLayer;
pub use self::metadata::{
    InvalidResourceMetadata, ResourceMetadata, ResourceMetadataBuilder, ResourceMetadataEndpoint,
    ResourceMetadataFuture, ResourceMetadataLayer, ResourceMetadataService,
};
pub use self::methods::Methods;
pub use self::policy::{Forbidden, PolicyError, RequestHead};
pub use self::service::BearerAuth;
