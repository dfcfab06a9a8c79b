//! Reads a whole request body, with limits on its size and its time of arrival.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::Version;
use http::header::EXPECT;
use http::request::Parts;
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower::BoxError;

/// The maximum size of a body, and the maximum time that it may take to arrive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    pub(super) bytes: usize,
    pub(super) time: Duration,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { bytes: 64 * 1024, time: Duration::from_secs(10) }
    }
}

/// The number of bytes that are read beyond the limit and discarded, so that the sender can read the refusal.
const DRAINED: usize = 64 * 1024;

/// The reasons why a body could not be read.
#[derive(Debug)]
pub(crate) enum BodyError {
    TooLarge,
    TooSlow,
    Broken(BoxError),
}

pin_project! {
    /// A future that reads the whole body. It must be polled on a Tokio runtime with a timer, unless the body is
    /// complete at the first poll.
    pub(crate) struct ReadBody<B> {
        #[pin]
        body: B,
        limits: BodyLimits,
        received: Received,
        #[pin]
        deadline: Option<Sleep>,
    }
}

/// The part of the body that was received so far. A body of one frame is not copied, and no data is kept beyond the
/// limit.
enum Received {
    Nothing,
    Whole(Bytes),
    Pieces(BytesMut),
    Excess(usize),
}

impl Received {
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Whole(bytes) => bytes.len(),
            Self::Pieces(bytes) => bytes.len(),
            Self::Excess(length) => *length,
        }
    }

    fn push(self, mut data: impl Buf, limit: usize) -> Self {
        let length = self.len().saturating_add(data.remaining());
        match self {
            _ if length > limit => Self::Excess(length),
            Self::Nothing => Self::Whole(data.copy_to_bytes(data.remaining())),
            Self::Whole(first) => Self::Pieces(BytesMut::from(first)).push(data, limit),
            Self::Pieces(mut bytes) => {
                bytes.extend_from_slice(&data.copy_to_bytes(data.remaining()));
                Self::Pieces(bytes)
            }
            Self::Excess(_) => Self::Excess(length),
        }
    }

    fn finish(self) -> Result<Bytes, BodyError> {
        match self {
            Self::Nothing => Ok(Bytes::new()),
            Self::Whole(bytes) => Ok(bytes),
            Self::Pieces(bytes) => Ok(bytes.freeze()),
            Self::Excess(_) => Err(BodyError::TooLarge),
        }
    }
}

impl<B: Body> ReadBody<B> {
    pub(crate) fn new(head: &Parts, body: B, limits: BodyLimits) -> Self {
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        let received = match announced > limits.bytes {
            false => Received::Nothing,
            // The caller waits for `100 Continue`, so it is refused at once: reading would make hyper ask for the body.
            true if asks_before_sending(head) => Received::Excess(usize::MAX),
            true => Received::Excess(0),
        };
        Self { body, limits, received, deadline: None }
    }
}

/// Returns whether the caller waits for `100 Continue` before it sends the body. A server MUST ignore the expectation
/// in an HTTP/1.0 request (RFC 9110 §10.1.1). With any other expectation, the caller sends the body without waiting.
fn asks_before_sending(head: &Parts) -> bool {
    let expected = head.headers.get(EXPECT).map(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    expected == Some(true) && head.version >= Version::HTTP_11
}

impl<B> Future for ReadBody<B>
where
    B: Body<Error: Into<BoxError>>,
{
    type Output = Result<Bytes, BodyError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            if matches!(this.received, Received::Excess(length) if *length > this.limits.bytes.saturating_add(DRAINED))
            {
                return Poll::Ready(Err(BodyError::TooLarge));
            }
            let Poll::Ready(frame) = this.body.as_mut().poll_frame(cx) else {
                // The timer starts at the first wait, so a body that has already arrived needs no timer.
                if this.deadline.is_none() {
                    this.deadline.set(Some(tokio::time::sleep(this.limits.time)));
                }
                if let Some(deadline) = this.deadline.as_mut().as_pin_mut() {
                    ready!(deadline.poll(cx));
                }
                return Poll::Ready(Err(match this.received {
                    Received::Excess(_) => BodyError::TooLarge,
                    _ => BodyError::TooSlow,
                }));
            };
            let received = std::mem::replace(this.received, Received::Nothing);
            let data = match frame {
                None => return Poll::Ready(received.finish()),
                Some(Err(error)) => return Poll::Ready(Err(BodyError::Broken(error.into()))),
                Some(Ok(frame)) => frame.into_data().ok(),
            };
            *this.received = match data {
                Some(data) => received.push(data, this.limits.bytes),
                None => received,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use http::header::EXPECT;
    use http::{Request, Version};
    use http_body::{Body, Frame, SizeHint};
    use tower::BoxError;

    use super::{BodyError, BodyLimits, ReadBody};

    /// A body that announces more than the limit, and counts how often it is polled.
    struct Announced<'a>(&'a mut usize);

    impl Body for Announced<'_> {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            *self.0 += 1;
            Poll::Ready(None)
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(70_000)
        }
    }

    #[test]
    fn only_a_caller_that_waits_for_100_continue_is_refused_before_its_body_is_read() {
        for (version, expect, is_read) in [
            (Version::HTTP_11, Some("100-continue"), false),
            (Version::HTTP_11, Some("100-Continue"), false),
            (Version::HTTP_2, Some("100-continue"), false),
            (Version::HTTP_10, Some("100-continue"), true),
            (Version::HTTP_11, Some("102-processing"), true),
            (Version::HTTP_11, None, true),
        ] {
            let mut request = Request::new(());
            *request.version_mut() = version;
            request.headers_mut().extend(expect.map(|value| (EXPECT, http::HeaderValue::from_static(value))));
            let mut polls = 0;
            let read = ReadBody::new(&request.into_parts().0, Announced(&mut polls), BodyLimits::default());
            assert!(matches!(read.now_or_never(), Some(Err(BodyError::TooLarge))), "{version:?} {expect:?}");
            assert_eq!(polls > 0, is_read, "{version:?} {expect:?}");
        }
    }
}
