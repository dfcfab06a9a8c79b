//! [`ResponseBody`]: the body of an answer from this crate or from the wrapped service.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;
use tower::BoxError;

/// Ends a body early, for a token that expires while its request is answered.
pub(crate) trait BodyEnd: Send + Sync {
    /// Completes when the body must end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Returns whether the last frame may contain data, which the body did not announce.
    fn may_add_data(&self) -> bool;

    /// Returns the end of the body: a frame, or an error that breaks it off.
    fn last_frame(self: Box<Self>) -> Result<Frame<Bytes>, BoxError>;
}

pin_project! {
    /// The response body of [`TokenEndpoint`](crate::authorization_server::TokenEndpoint) and
    /// [`BearerAuth`](crate::resource_server::BearerAuth): that of the wrapped service, unchanged except for an [end at
    /// expiry](crate::BearerAuthLayer::end_at_expiry), or the layer's own.
    ///
    /// axum and tonic accept it, like every service that accepts any body of [`Bytes`]. If `axum::body::Body` is required,
    /// convert it with `tower::util::MapResponseLayer` and `axum::body::Body::new`.
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
        Until { #[pin] body: B, end: Option<Box<dyn BodyEnd>> },
    }
}

impl<B> ResponseBody<B> {
    pub(crate) fn inner(body: B) -> Self {
        Self { origin: Origin::Inner { body } }
    }

    /// Creates the body of the wrapped service, with an optional early end.
    pub(crate) fn until(body: B, end: Option<Box<dyn BodyEnd>>) -> Self {
        match end {
            None => Self::inner(body),
            end => Self { origin: Origin::Until { body, end } },
        }
    }

    pub(crate) fn own(body: Full<Bytes>) -> Self {
        Self { origin: Origin::Own { body } }
    }
}

impl ResponseBody<Full<Bytes>> {
    /// Returns the body without its end, for a layer whose wrapped service has another body.
    pub(crate) fn into_full(self) -> Full<Bytes> {
        match self.origin {
            Origin::Inner { body } | Origin::Own { body } | Origin::Until { body, .. } => body,
        }
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
            OriginProjection::Until { body, end } => {
                match end.take_if(|end| end.poll(cx).is_ready()) {
                    Some(end) => Poll::Ready(Some(end.last_frame())),
                    // The previous frame was the last.
                    None if end.is_none() => Poll::Ready(None),
                    None => body.poll_frame(cx).map_err(Into::into),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.origin {
            Origin::Inner { body } => body.is_end_stream(),
            Origin::Own { body } => body.is_end_stream(),
            Origin::Until { body, end } => end.is_none() || body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.origin {
            Origin::Until { end: Some(end), .. } if end.may_add_data() => SizeHint::default(),
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
