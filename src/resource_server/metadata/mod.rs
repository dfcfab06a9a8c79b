//! [`ResourceMetadata`]: tells clients which authorization servers issue tokens for an API (RFC 9728).

mod builder;
mod layer;
mod service;

use std::fmt;
use std::sync::Arc;

pub use self::builder::{InvalidResourceMetadata, ResourceMetadataBuilder};
pub use self::layer::ResourceMetadataLayer;
pub use self::service::{ResourceMetadataEndpoint, ResourceMetadataService};
use crate::audience::Audience;
use crate::transport::Document;

/// The metadata of a protected resource (RFC 9728): which API this is, and which authorization servers issue tokens for
/// it. Clones share the document.
///
/// 1. It is served at `/.well-known/oauth-protected-resource`, followed by the path of the resource (§3.1), by a
///    [`ResourceMetadataLayer`] or by the [service](Self::service) at a route.
/// 2. A [`BearerAuthLayer`](crate::BearerAuthLayer::resource_metadata) with this metadata adds its URL to every challenge
///    (§5.1), so that a refused client can find the issuer. MCP clients do so.
/// 3. Everything in it is public.
///
/// # Deployment caveat
///
/// A client compares the resource with the URL that it called (§3.3). An API with several paths or host names needs a document
/// for each one that clients discover. Behind a proxy, use the URL that callers see.
///
/// # Example
///
/// ```
/// use axum::{Router, routing::get};
/// use tower_client_credentials::resource_server::{ResourceMetadata, ResourceMetadataLayer};
/// use tower_client_credentials::{BearerAuthLayer, Scope};
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
///     .layer(ResourceMetadataLayer::new(metadata)); // outside `protect`: clients fetch it without a token
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
    /// Returns a builder for the metadata of this resource. The identifier is the one that tokens have as their audience: an
    /// `https` URL without query and fragment (RFC 9728 §1.2), or plain `http` on loopback.
    pub fn builder(resource: impl AsRef<str>) -> ResourceMetadataBuilder {
        ResourceMetadataBuilder::new(resource.as_ref())
    }

    /// Returns the identifier of the API.
    #[must_use]
    pub fn resource(&self) -> &Audience {
        &self.inner.resource
    }

    /// Returns the URL of the metadata document.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// Returns the path of [`url`](Self::url), where to route the [service](Self::service).
    #[must_use]
    pub fn path(&self) -> &str {
        &self.inner.path
    }

    /// Returns a service that serves the document at any path.
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
