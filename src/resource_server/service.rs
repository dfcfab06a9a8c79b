//! [`BearerAuth`]: a service behind a [`BearerAuthLayer`].

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::Service;

use super::BearerAuthLayer;
use super::future::ResponseFuture;
use crate::response_body::ResponseBody;

/// A service that only requests with a verified token reach; made by [`BearerAuthLayer`].
#[derive(Clone, Debug)]
pub struct BearerAuth<S> {
    inner: S,
    gate: Arc<BearerAuthLayer>,
}

impl<S> BearerAuth<S> {
    pub(super) fn new(inner: S, gate: BearerAuthLayer) -> Self {
        Self { inner, gate: Arc::new(gate) }
    }

    /// The wrapped service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The wrapped service, mutably.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The wrapped service, without protection.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, R> Service<Request<B>> for BearerAuth<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let decision = self.gate.admit(&request);
        self.gate.report(&request, &decision);
        match decision {
            Ok(token) => {
                self.gate.hand_on(token, &mut request);
                ResponseFuture::inner(self.inner.call(request))
            }
            Err(error) => ResponseFuture::refused(self.gate.challenges.answer(error)),
        }
    }
}
