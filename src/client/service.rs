//! [`ClientCredentialsService`]: an HTTP client whose requests carry a token.

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::{BoxError, Service};

use super::error::CallError;
use super::future::ResponseFuture;
use super::layer_source::LayerSource;
use super::origin::Origins;
use super::ready_tokens::KeptToken;
use super::repeat::{CloneBody, RepeatBody};
use super::sent_request::SentRequest;

/// An HTTP client whose requests carry a token; made by [`ClientCredentialsLayer`](super::ClientCredentialsLayer).
#[derive(Clone, Debug)]
pub struct ClientCredentialsService<S, R = CloneBody> {
    inner: S,
    source: LayerSource,
    origins: Arc<Origins>,
    repeat: R,
    kept: KeptToken,
}

impl<S, R> ClientCredentialsService<S, R> {
    pub(super) fn new(inner: S, source: LayerSource, origins: Arc<Origins>, repeat: R) -> Self {
        Self { inner, source, origins, repeat, kept: KeptToken::default() }
    }

    /// Returns the wrapped service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns the wrapped service, mutably.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the wrapped service, without the tokens.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, RB, R> Service<Request<B>> for ClientCredentialsService<S, R>
where
    S: Service<Request<B>, Response = Response<RB>, Error: Into<BoxError>> + Clone,
    R: RepeatBody<B> + Clone,
{
    type Response = Response<RB>;
    type Error = CallError;
    type Future = ResponseFuture<S, B, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.inner.poll_ready(cx).map_err(|error| CallError::Call(error.into()))
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Err(error) = self.origins.check(request.uri(), request.headers()) {
            return ResponseFuture::failed(error.into());
        }
        let Some(token) = self.source.ready(&mut self.kept) else {
            // The instance that is ready goes with the request, and its clone stays here.
            let clone = self.inner.clone();
            let ready = mem::replace(&mut self.inner, clone);
            return ResponseFuture::waiting(
                self.source.token(),
                request,
                ready,
                self.source.for_request(),
                self.repeat.clone(),
            );
        };
        let sent;
        if !R::REPEATS {
            sent = SentRequest::once(token);
        } else if let Some(body) = self.repeat.copy(request.body()) {
            sent = SentRequest::saved(token, &request, body);
        } else {
            (sent, request) = SentRequest::split(token, request, &self.repeat);
        }
        token.authorize(request.headers_mut());
        let source = self.source.for_request();
        let again = R::REPEATS.then(|| self.inner.clone());
        ResponseFuture::calling(self.inner.call(request), source, sent, again, self.repeat.clone())
    }
}
