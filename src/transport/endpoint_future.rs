//! [`EndpointFuture`]: the future of a layer that answers some requests itself.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use pin_project_lite::pin_project;

use super::ResponseBody;

pin_project! {
    /// The future of a layer with endpoints: that of the wrapped service, or `O`, that of the layer's own answer.
    pub struct EndpointFuture<F, O: ?Sized> {
        #[pin]
        kind: Kind<F, O>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<F, O: ?Sized> {
        Inner { #[pin] future: F },
        // Boxed, because it is large and would make the future of all other paths larger.
        Own { future: Pin<Box<O>> },
    }
}

impl<F, O: ?Sized> EndpointFuture<F, O> {
    #[inline]
    pub(crate) fn inner(future: F) -> Self {
        Self { kind: Kind::Inner { future } }
    }

    pub(crate) fn own(future: Pin<Box<O>>) -> Self {
        Self { kind: Kind::Own { future } }
    }
}

impl<F, O, R, E> Future for EndpointFuture<F, O>
where
    F: Future<Output = Result<Response<R>, E>>,
    O: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + ?Sized,
{
    type Output = Result<Response<ResponseBody<R>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProjection::Inner { future } => future.poll(cx).map_ok(|response| response.map(ResponseBody::inner)),
            KindProjection::Own { future } => future.as_mut().poll(cx).map(|answered| {
                let Ok(response) = answered;
                Ok(response.map(ResponseBody::own))
            }),
        }
    }
}

impl<F, O: ?Sized> fmt::Debug for EndpointFuture<F, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointFuture").finish_non_exhaustive()
    }
}
