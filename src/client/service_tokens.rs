//! [`ServiceTokens`]: which requests of a service get a token, and which token.

use std::sync::Arc;

use http::{HeaderMap, Uri};

use super::layer_source::LayerSource;
use super::origin::{ForbiddenDestination, Origins};
use super::ready_tokens::KeptToken;
use super::sent_request::SentRequest;
use super::token_source::{TokenFuture, TokenSource};

/// The part of a service that does not depend on the types of its requests and of the inner service.
#[derive(Clone, Debug)]
pub(super) struct ServiceTokens {
    source: LayerSource,
    origins: Arc<Origins>,
    kept: KeptToken,
}

impl ServiceTokens {
    pub(super) fn new(source: LayerSource, origins: Arc<Origins>) -> Self {
        Self { source, origins, kept: KeptToken::default() }
    }

    /// Checks where a request goes, and starts it with a token that may be sent now. `None` if none is there without waiting.
    pub(super) fn start(
        &mut self,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Option<Box<SentRequest>>, ForbiddenDestination> {
        self.origins.check(uri, headers)?;
        let source = &self.source;
        Ok(source.ready(&mut self.kept).map(|token| SentRequest::new(token, source.for_request())))
    }

    /// Returns a token that may be sent, and the handle on its source for one request.
    pub(super) fn wait(&self) -> (TokenFuture, Option<Arc<dyn TokenSource>>) {
        (self.source.token(), self.source.for_request())
    }
}
