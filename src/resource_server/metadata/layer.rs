//! [`ResourceMetadataLayer`]: serves the metadata of a resource.

use tower::Layer;

use super::{ResourceMetadata, ResourceMetadataEndpoint};

/// A layer that answers `GET` and `HEAD` requests for the path of a [`ResourceMetadata`], and passes every other request on.
///
/// It belongs outside the [`BearerAuthLayer`](crate::BearerAuthLayer), since clients fetch the metadata without a token. For
/// axum, see [which requests reach a layer](crate::TokenEndpointLayer#with-axum).
#[derive(Clone, Debug)]
pub struct ResourceMetadataLayer {
    metadata: ResourceMetadata,
}

impl ResourceMetadataLayer {
    /// Creates a layer that serves this document.
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
