//! [`ClientCredentialsService`]: an HTTP client whose requests carry a token.

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::{BoxError, Service};

use super::error::CallError;
use super::future::{ResponseFuture, Unsent};
use super::layer_source::LayerSource;
use super::origin::Origins;
use super::repeat::{CloneBody, RepeatBody, keep_body};
use super::service_tokens::ServiceTokens;
use crate::transport::wraps_service;

/// An HTTP client whose requests carry a token; made by [`ClientCredentialsLayer`](super::ClientCredentialsLayer).
#[derive(Clone, Debug)]
pub struct ClientCredentialsService<S, R = CloneBody> {
    inner: S,
    tokens: ServiceTokens,
    repeat: R,
}

impl<S, R> ClientCredentialsService<S, R> {
    pub(super) fn new(inner: S, source: LayerSource, origins: Arc<Origins>, repeat: R) -> Self {
        Self { inner, tokens: ServiceTokens::new(source, origins), repeat }
    }
}

wraps_service!(ClientCredentialsService<S, R>);

impl<S, B, RB, R> Service<Request<B>> for ClientCredentialsService<S, R>
where
    S: Service<Request<B>, Response = Response<RB>, Error: Into<BoxError>> + Clone,
    R: RepeatBody<B> + Clone,
{
    type Response = Response<RB>;
    type Error = CallError;
    type Future = ResponseFuture<S, B, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.tokens.clear();
        self.inner.poll_ready(cx).map_err(|error| CallError::Call(error.into()))
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let sent = match self.tokens.start(request.uri(), request.headers()) {
            Ok(Some(sent)) => sent,
            Ok(None) => {
                // The instance that is ready goes with the request, and its clone stays here.
                let clone = self.inner.clone();
                let ready = mem::replace(&mut self.inner, clone);
                let (token, source) = self.tokens.wait();
                return ResponseFuture::waiting(token, Unsent { request, source }, ready, self.repeat.clone());
            }
            Err(error) => return ResponseFuture::failed(error.into()),
        };
        let mut body = None;
        if R::REPEATS {
            body = self.repeat.copy(request.body());
            if body.is_none() {
                (request, body) = keep_body(&self.repeat, request);
            }
        }
        sent.prepare(&mut request, body.is_some());
        // The clone for a repetition is made afterwards, so that there is less to drop if the call panics.
        let call = self.inner.call(request);
        let again = R::REPEATS.then(|| self.inner.clone());
        ResponseFuture::calling(call, self.tokens.take_started(), body, again, self.repeat.clone())
    }
}
