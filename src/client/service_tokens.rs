//! [`ServiceTokens`]: which requests of a service get a token, and which token.

use std::sync::Arc;

use http::{HeaderMap, Uri};

use super::layer_source::LayerSource;
use super::origin::{ForbiddenDestination, Origins};
use super::ready_tokens::KeptToken;
use super::sent_request::SentRequest;
use super::token_source::{TokenFuture, TokenSource};
use crate::debug_fields::debug_fields;

/// The part of a service that does not depend on the types of its requests and of the inner service.
#[derive(Clone, Debug)]
pub(super) struct ServiceTokens {
    source: LayerSource,
    origins: Arc<Origins>,
    kept: KeptToken,
    started: Started,
}

/// The request that is about to be sent. While the inner service is called, it is here instead of in a variable. If nothing else has to
/// be dropped when that call panics, which depends on the type of the body, the compiler has the inner future written to its place
/// instead of moving it there. After a panic, it stays here until [`ServiceTokens::clear`].
#[derive(Default)]
struct Started(Option<Box<SentRequest>>);

/// The clone of a service has started no request.
impl Clone for Started {
    fn clone(&self) -> Self {
        Self::default()
    }
}

debug_fields!(Started, |this| { is_some: this.0.is_some() });

impl ServiceTokens {
    pub(super) fn new(source: LayerSource, origins: Arc<Origins>) -> Self {
        Self { source, origins, kept: KeptToken::default(), started: Started::default() }
    }

    /// Checks where a request goes, and starts it with a token that may be sent now. `None` if none is there without waiting.
    pub(super) fn start(
        &mut self,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Option<&mut SentRequest>, ForbiddenDestination> {
        self.origins.check(uri, headers)?;
        let source = &self.source;
        let Some(token) = source.ready(&mut self.kept) else { return Ok(None) };
        Ok(Some(self.started.0.insert(SentRequest::new(token, source.for_request()))))
    }

    /// Drops the request of a call that panicked.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.started.0 = None;
    }

    /// Takes the request that was started last.
    #[inline]
    pub(super) fn take_started(&mut self) -> Option<Box<SentRequest>> {
        self.started.0.take()
    }

    /// Returns a token that may be sent, and the handle on its source for one request.
    pub(super) fn wait(&self) -> (TokenFuture, Option<Arc<dyn TokenSource>>) {
        (self.source.token(), self.source.for_request())
    }
}
