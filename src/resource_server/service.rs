//! [`BearerAuth`]: a service behind a [`BearerAuthLayer`](super::BearerAuthLayer).

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower::Service;

use super::decision::{Decision, Guard};
use super::future::{ResponseFuture, Waiting};
use crate::transport::{ResponseBody, wraps_service};

/// A service that only requests with a verified token reach; created by [`BearerAuthLayer`](super::BearerAuthLayer).
#[derive(Clone, Debug)]
pub struct BearerAuth<S> {
    inner: S,
    guard: Arc<Guard>,
}

impl<S> BearerAuth<S> {
    pub(super) fn new(inner: S, guard: Arc<Guard>) -> Self {
        Self { inner, guard }
    }
}

wraps_service!(BearerAuth<S>);

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
        match self.guard.admit(&request) {
            Decision::Made(admission) => match self.guard.carry_out(admission, &mut request) {
                Ok(expiry) => ResponseFuture::inner(self.inner.call(request), expiry),
                Err(refusal) => ResponseFuture::refused(refusal, request),
            },
            Decision::Waiting(verification) => {
                // The clone is polled for readiness after the verification: a waiting request must not hold a slot of the
                // inner service. Replacing `self.inner` releases the slot that `poll_ready` acquired.
                self.inner = self.inner.clone();
                let (guard, inner) = (self.guard.clone(), self.inner.clone());
                ResponseFuture::waiting(Waiting { verification, guard, inner, request })
            }
        }
    }
}
