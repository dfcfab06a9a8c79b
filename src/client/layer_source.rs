//! [`LayerSource`]: the token source of a layer and of its services.

use std::any::Any;
use std::sync::Arc;

use super::cached_token_source::CachedTokenSource;
use super::token_source::TokenSource;

/// The source of a layer.
#[derive(Clone, Debug)]
pub(super) struct LayerSource {
    source: Arc<dyn TokenSource>,
    /// Its tokens know their source.
    is_cache: bool,
}

impl LayerSource {
    pub(super) fn new(source: impl TokenSource) -> Self {
        let is_cache = (&source as &dyn Any).is::<CachedTokenSource>();
        Self { source: Arc::new(source), is_cache }
    }

    pub(super) fn get(&self) -> &dyn TokenSource {
        &*self.source
    }

    /// Returns a handle for one request, if it needs one. Threads that clone the same handle wait for each other.
    pub(super) fn for_request(&self) -> Option<Arc<dyn TokenSource>> {
        (!self.is_cache).then(|| self.source.clone())
    }
}
