//! [`ResponseBody`]: the body of an answer that is either ours or the wrapped service's.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;

pin_project! {
    /// The response body of [`TokenEndpoint`](crate::TokenEndpoint) and [`BearerAuth`](crate::BearerAuth): the
    /// wrapped service's, untouched, or the layer's own.
    ///
    /// It works wherever a body of [`Bytes`] does: axum and tonic take it as it is. A place that wants
    /// `axum::body::Body` gets one by `tower::util::MapResponseLayer` and `axum::body::Body::new`.
    pub struct ResponseBody<B> {
        #[pin]
        origin: Origin<B>,
    }
}

pin_project! {
    #[project = OriginProjection]
    enum Origin<B> {
        Inner { #[pin] body: B },
        Own { body: Full<Bytes> },
    }
}

impl<B> ResponseBody<B> {
    pub(crate) fn inner(body: B) -> Self {
        Self { origin: Origin::Inner { body } }
    }

    pub(crate) fn own(body: Full<Bytes>) -> Self {
        Self { origin: Origin::Own { body } }
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().origin.project() {
            OriginProjection::Inner { body } => body.poll_frame(cx),
            OriginProjection::Own { body } => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.origin {
            Origin::Inner { body } => body.is_end_stream(),
            Origin::Own { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.origin {
            Origin::Inner { body } => body.size_hint(),
            Origin::Own { body } => body.size_hint(),
        }
    }
}

impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::inner(B::default())
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.origin {
            Origin::Inner { .. } => "ResponseBody::Inner",
            Origin::Own { .. } => "ResponseBody::Own",
        })
    }
}
