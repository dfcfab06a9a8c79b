//! [`ResponseBody`]: the body of an answer that is either ours or the wrapped service's.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;
use tower::BoxError;

use crate::resource_server::Expiry;

pin_project! {
    /// The response body of [`TokenEndpoint`](crate::TokenEndpoint) and [`BearerAuth`](crate::BearerAuth): the
    /// wrapped service's, untouched but for an [end at expiry](crate::BearerAuthLayer::end_at_expiry), or the layer's own.
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
        Until { #[pin] body: B, expiry: Option<Box<Expiry>> },
    }
}

impl<B> ResponseBody<B> {
    pub(crate) fn inner(body: B) -> Self {
        Self { origin: Origin::Inner { body } }
    }

    /// The wrapped service's, and no longer than its token is good, where that is asked for.
    pub(crate) fn until(body: B, expiry: Option<Box<Expiry>>) -> Self {
        match expiry {
            None => Self::inner(body),
            expiry => Self { origin: Origin::Until { body, expiry } },
        }
    }

    pub(crate) fn own(body: Full<Bytes>) -> Self {
        Self { origin: Origin::Own { body } }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().origin.project() {
            OriginProjection::Inner { body } => body.poll_frame(cx).map_err(Into::into),
            OriginProjection::Own { body } => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            OriginProjection::Until { body, expiry } => {
                match expiry.take_if(|expiry| expiry.poll(cx).is_ready()) {
                    Some(expired) => Poll::Ready(Some(expired.last_frame())),
                    // It was the last.
                    None if expiry.is_none() => Poll::Ready(None),
                    None => body.poll_frame(cx).map_err(Into::into),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.origin {
            Origin::Inner { body } => body.is_end_stream(),
            Origin::Own { body } => body.is_end_stream(),
            Origin::Until { body, expiry } => expiry.is_none() || body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.origin {
            Origin::Until { expiry: Some(expiry), .. } if expiry.may_add_data() => SizeHint::default(),
            Origin::Inner { body } | Origin::Until { body, .. } => body.size_hint(),
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
            Origin::Until { .. } => "ResponseBody::Until",
        })
    }
}
