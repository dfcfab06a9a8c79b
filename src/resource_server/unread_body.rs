//! [`UnreadBody`]: the body of a refused request, which is read so that its sender can read the refusal.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use http::header::EXPECT;
use http::{Request, Version};
use http_body::Body;
use tokio::runtime::Handle;
use tokio::time::Sleep;

/// The number of bytes that are read before the answer.
const MAX_BYTES: usize = 64 * 1024;

/// How long the answer waits for the body: long enough for the packets behind the head, and too short for a caller to occupy
/// the server.
const MAX_TIME: Duration = Duration::from_millis(500);

/// A future that completes when the body of a refused request was read, or when no more of it will be read.
///
/// hyper closes an HTTP/1.1 connection whose request body was not read. The system of a sender that is still writing then
/// gets a reset and may discard the answer unread (RFC 9112 §9.6).
pub(super) struct UnreadBody<B> {
    body: Pin<Box<B>>,
    left: usize,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<B: Body> UnreadBody<B> {
    /// Returns `None` if the answer need not wait. HTTP/2 ends one stream and keeps the connection. A sender that expects
    /// `100 Continue` sends the body only on demand. A body that is declared longer than the limit would not be read to its
    /// end.
    #[inline]
    pub(super) fn from_request(request: Request<B>) -> Option<Self> {
        let (head, body) = (request.headers(), request.body());
        let waits = request.version() < Version::HTTP_2
            && !body.is_end_stream()
            && !head.contains_key(EXPECT)
            && usize::try_from(body.size_hint().lower()).is_ok_and(|bytes| bytes <= MAX_BYTES);
        waits.then(|| Self { body: Box::pin(request.into_body()), left: MAX_BYTES, deadline: None })
    }
}

impl<B: Body> Future for UnreadBody<B> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.body.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let bytes = frame.data_ref().map_or(0, Buf::remaining);
                    let Some(left) = self.left.checked_sub(bytes) else { return Poll::Ready(()) };
                    self.left = left;
                }
                Poll::Ready(None | Some(Err(_))) => return Poll::Ready(()),
                // A body that is already received needs no timer.
                Poll::Pending if self.deadline.is_none() && Handle::try_current().is_err() => return Poll::Ready(()),
                Poll::Pending => {
                    let start = || Box::pin(tokio::time::sleep(MAX_TIME));
                    ready!(self.deadline.get_or_insert_with(start).as_mut().poll(cx));
                    return Poll::Ready(());
                }
            }
        }
    }
}
