//! [`ResourceMetadataLayer`]: puts the metadata of a resource in front of a service.

use tower::Layer;

use super::{ResourceMetadata, ResourceMetadataEndpoint};

/// Answers `GET` and `HEAD` of the path of a [`ResourceMetadata`], and leaves every other request alone.
///
/// It belongs outside of the [`BearerAuthLayer`](crate::BearerAuthLayer): who asks for it has no token yet. With axum, the
/// [shapes](crate::TokenEndpointLayer#with-axum) in which a layer is reached are those of the token endpoint.
#[derive(Clone, Debug)]
pub struct ResourceMetadataLayer {
    metadata: ResourceMetadata,
}

impl ResourceMetadataLayer {
    /// Serves this document.
    #[must_use]
    pub fn new(metadata: ResourceMetadata) -> Self {
        Self { metadata }
    }
}

impl<S> Layer<S> for ResourceMetadataLayer {
    type Service = ResourceMetadataEndpoint<S>;

    fn layer(&self, inner: S) -> ResourceMetadataEndpoint<S> {
        ResourceMetadataEndpoint::new(inner, self.metadata.clone())
    }
}
