//! [`ResourceMetadata`]: tells clients where the tokens for an API come from (RFC 9728).

mod builder;
mod layer;
mod service;

use std::fmt;
use std::sync::Arc;

pub use self::builder::{InvalidResourceMetadata, ResourceMetadataBuilder};
pub use self::layer::ResourceMetadataLayer;
pub use self::service::{ResourceMetadataEndpoint, ResourceMetadataFuture, ResourceMetadataService};
use crate::audience::Audience;
use crate::transport::Document;

/// The metadata of a protected resource (RFC 9728): which API this is, and which authorization servers issue tokens for
/// it. A clone is the same document.
///
/// 1. It is served at `/.well-known/oauth-protected-resource`, followed by the path of the resource (§3.1), by a
///    [`ResourceMetadataLayer`] or by the [service](Self::service) at a route.
/// 2. A [`BearerAuthLayer`](crate::BearerAuthLayer::resource_metadata) that knows it names that place in every challenge
///    (§5.1), so that a client which was refused finds the issuer by itself. MCP clients do.
/// 3. What it says is public.
///
/// # Deployment caveat
///
/// A client compares the resource with the URL that it called (§3.3): an API below several paths, or under several names,
/// needs a document for each that discovering clients call. Behind a proxy, it is the URL that callers see.
///
/// # Example
///
/// ```
/// use axum::{Router, routing::get};
/// use tower_client_credentials::{BearerAuthLayer, ResourceMetadata, ResourceMetadataLayer, Scope};
/// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
/// # let server = AuthorizationServer::new("https://auth.example.com", KeyRing::generate()?, MemoryStore::default())?;
///
/// const API: &str = "https://api.example.com/invoices";
/// let metadata = ResourceMetadata::builder(API)
///     .authorization_server("https://auth.example.com")
///     .scopes_supported([Scope::from_static("invoices:read")])
///     .name("Invoices")
///     .build()?;
/// let protect = BearerAuthLayer::new(server.verifier(API)?).resource_metadata(&metadata)?;
/// let app: Router = Router::new()
///     .route("/invoices", get(async || "invoices").layer(protect))
///     .layer(ResourceMetadataLayer::new(metadata)); // outside of the guard: who asks for it has no token yet
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ResourceMetadata {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    resource: Audience,
    url: String,
    path: String,
    document: Document,
}

impl ResourceMetadata {
    /// The metadata of this API, by the identifier that tokens name as their audience: an `https` URL without query and
    /// fragment (RFC 9728 §1.2), or plain `http` on loopback.
    pub fn builder(resource: impl AsRef<str>) -> ResourceMetadataBuilder {
        ResourceMetadataBuilder::new(resource.as_ref())
    }

    /// Which API it is about.
    #[must_use]
    pub fn resource(&self) -> &Audience {
        &self.inner.resource
    }

    /// Where a client finds it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// The path of [`url`](Self::url): where to route the [service](Self::service).
    #[must_use]
    pub fn path(&self) -> &str {
        &self.inner.path
    }

    /// The document as a service of its own, which answers whatever path it is given.
    #[must_use]
    pub fn service(&self) -> ResourceMetadataService {
        ResourceMetadataService::new(self.clone())
    }
}

impl fmt::Debug for ResourceMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceMetadata").field("resource", self.resource()).field("url", &self.url()).finish()
    }
}
