//! [`BearerAuth`]: a service behind a [`BearerAuthLayer`](super::BearerAuthLayer).

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower::Service;

use super::future::{ResponseFuture, Waiting};
use super::gate::{Decision, Gate};
use crate::transport::ResponseBody;

/// A service that only requests with a verified token reach; made by [`BearerAuthLayer`](super::BearerAuthLayer).
#[derive(Clone, Debug)]
pub struct BearerAuth<S> {
    inner: S,
    gate: Arc<Gate>,
}

impl<S> BearerAuth<S> {
    pub(super) fn new(inner: S, gate: Arc<Gate>) -> Self {
        Self { inner, gate }
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
    S: Service<Request<B>, Response = Response<R>> + Clone,
    B: Body,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.gate.admit(&request) {
            Decision::Made(admission) => match self.gate.carry_out(admission, &mut request) {
                Ok(expiry) => ResponseFuture::inner(self.inner.call(request), expiry),
                Err(refusal) => ResponseFuture::refused(refusal, request),
            },
            Decision::Waiting(verification) => {
                // A clone, made ready once the token is verified: who waits must not hold a place of the inner service.
                // What `poll_ready` took is given back with the service that took it.
                self.inner = self.inner.clone();
                let (gate, inner) = (self.gate.clone(), self.inner.clone());
                ResponseFuture::waiting(Waiting { verification, gate, inner, request })
            }
        }
    }
}
