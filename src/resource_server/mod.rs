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
mod claims;
mod dice;
mod expiry;
#[cfg(feature = "axum")]
mod extract;
mod foreign_claims;
mod future;
mod gate;
mod grpc;
#[cfg(feature = "remote")]
mod introspection;
mod jws;
mod layer;
mod metadata;
mod methods;
mod own_token;
mod policy;
mod refused_token;
#[cfg(feature = "remote")]
mod remote_issuer;
mod required;
mod service;
#[cfg(any(test, feature = "test-util"))]
mod test_util;
mod token_cache;
mod token_profile;
mod trusted_issuer;
#[cfg(test)]
mod vectors;
mod verified_token;
mod verify;
#[cfg(test)]
mod verify_again;
mod verify_error;

pub use self::authorized::{AnyOf, Authorized, Permission, Requirement};
pub use self::challenge::BearerError;
pub use self::claims::ClaimsError;
pub(crate) use self::expiry::Expiry;
#[cfg(feature = "axum")]
pub use self::extract::{Claims, MissingVerifiedToken, TokenRejection};
pub use self::future::ResponseFuture;
#[cfg(feature = "remote")]
pub use self::introspection::Introspection;
pub(crate) use self::jws::LONGEST_TOKEN;
pub use self::layer::BearerAuthLayer;
pub use self::metadata::{
    InvalidResourceMetadata, ResourceMetadata, ResourceMetadataBuilder, ResourceMetadataEndpoint,
    ResourceMetadataFuture, ResourceMetadataLayer, ResourceMetadataService,
};
pub use self::methods::Methods;
pub(crate) use self::own_token::{NotOwn, OwnToken, OwnTokens};
pub use self::policy::{Forbidden, PolicyError, RequestHead};
pub use self::refused_token::RefusedToken;
#[cfg(feature = "remote")]
pub use self::remote_issuer::{RemoteError, RemoteIssuer};
pub use self::service::BearerAuth;
#[cfg(any(test, feature = "test-util"))]
pub use self::test_util::{TestIssuer, TestTokenBuilder, VerifiedTokenBuilder};
pub use self::token_profile::TokenProfile;
pub use self::verified_token::VerifiedToken;
pub use self::verify::{Verifier, VerifierError};
pub use self::verify_error::{InvalidToken, Undecided, UndecidedKind, VerifyError};
