//! [`LayerSource`]: the token source of a layer and of its services.

use std::any::Any;
use std::sync::Arc;

use super::access_token::AccessToken;
use super::cached_token_source::CachedTokenSource;
use super::ready_tokens::KeptToken;
use super::token_source::{TokenFuture, TokenSource};

/// The source of a layer.
#[derive(Clone, Debug)]
pub(super) enum LayerSource {
    /// Its tokens know their source.
    Cache(Arc<CachedTokenSource>),
    Other(Arc<dyn TokenSource>),
}

impl LayerSource {
    pub(super) fn new(source: impl TokenSource) -> Self {
        match (&source as &dyn Any).downcast_ref::<CachedTokenSource>() {
            Some(cache) => Self::Cache(Arc::new(cache.clone())),
            None => Self::Other(Arc::new(source)),
        }
    }

    /// Returns a token that may be sent now, if one is there without waiting.
    #[inline]
    pub(super) fn ready<'a>(&self, kept: &'a mut KeptToken) -> Option<&'a AccessToken> {
        match self {
            Self::Cache(cache) => cache.ready_kept(kept),
            Self::Other(source) => ready_of(&**source, kept),
        }
    }

    pub(super) fn token(&self) -> TokenFuture {
        match self {
            Self::Cache(cache) => TokenSource::token(&**cache),
            Self::Other(source) => source.token(),
        }
    }

    /// Returns a handle for one request, if it needs one. Threads that clone the same handle wait for each other.
    #[inline]
    pub(super) fn for_request(&self) -> Option<Arc<dyn TokenSource>> {
        match self {
            Self::Cache(_) => None,
            Self::Other(source) => Some(source.clone()),
        }
    }
}

/// A function of its own, so that the other case takes less time.
#[inline(never)]
fn ready_of<'a>(source: &dyn TokenSource, kept: &'a mut KeptToken) -> Option<&'a AccessToken> {
    source.ready().map(|token| kept.replace(token))
}
