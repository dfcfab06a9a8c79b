//! [`Replay`]: repeats bodies that cannot be cloned, such as those of tonic, by a recording of the part that was sent.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::RepeatBody;

use crate::debug_fields::debug_fields;

/// How much of one body is recorded, in bytes. A request whose longer body was sent is not repeated.
const MAX_RECORDED: usize = 64 * 1024;

/// Records up to 64 KiB of a body while it is sent, and sends the same again, followed by the part that was not read yet.
///
/// [`ClientCredentialsLayer::replay`](super::super::ClientCredentialsLayer::replay) makes it.
pub struct Replay<B> {
    wrap: fn(ReplayBody<B>) -> B,
}

impl<B> Replay<B> {
    pub(crate) fn new(wrap: fn(ReplayBody<B>) -> B) -> Self {
        Self { wrap }
    }
}

impl<B> Clone for Replay<B> {
    fn clone(&self) -> Self {
        Self { wrap: self.wrap }
    }
}

debug_fields!(Replay<B> {});

impl<B: Body<Data = Bytes>> RepeatBody<B> for Replay<B> {
    type Kept = ReplayBody<B>;

    fn keep(&self, body: B) -> (B, ReplayBody<B>) {
        let is_end_stream = body.is_end_stream();
        let shared = Arc::new(Mutex::new(Shared {
            rest: Some(Box::pin(body)),
            recorded: Vec::new(),
            length: 0,
            is_too_long: false,
            has_second_reader: false,
            first_waker: None,
        }));
        let reader = |is_second| ReplayBody { shared: shared.clone(), is_second, next: 0, is_end_stream };
        let (first, second) = (reader(false), reader(true));
        // A body that ends at once may be sent as no body at all, and a wrapper must not hide that.
        ((self.wrap)(first), second)
    }

    fn restore(&self, kept: ReplayBody<B>) -> Option<B> {
        let mut shared = kept.lock();
        if shared.is_too_long {
            return None;
        }
        shared.has_second_reader = true;
        let first_waker = shared.first_waker.take();
        drop(shared);
        // The body wakes only its last reader. The first one must end, since it may occupy a stream of its connection.
        first_waker.iter().for_each(Waker::wake_by_ref);
        Some((self.wrap)(kept))
    }
}

/// A body that can be sent twice; see [`Replay`].
pub struct ReplayBody<B> {
    shared: Arc<Mutex<Shared<B>>>,
    is_second: bool,
    /// The recorded frame that comes next.
    next: usize,
    is_end_stream: bool,
}

struct Shared<B> {
    /// The part that was not read yet; `None` at the end or after an error.
    rest: Option<Pin<Box<B>>>,
    recorded: Vec<Recorded>,
    length: usize,
    is_too_long: bool,
    /// From then on, the first reader gets nothing.
    has_second_reader: bool,
    /// Wakes the first reader.
    first_waker: Option<Waker>,
}

#[derive(Clone)]
enum Recorded {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Recorded {
    fn len(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            Self::Trailers(_) => 0,
        }
    }

    fn into_frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

impl<B> Shared<B> {
    fn record(&mut self, frame: &Frame<Bytes>) {
        let recorded = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => {
                self.length = self.length.saturating_add(data.len());
                Recorded::Data(data.clone())
            }
            (None, Some(trailers)) => Recorded::Trailers(trailers.clone()),
            (None, None) => return,
        };
        if self.length > MAX_RECORDED {
            self.is_too_long = true;
            self.recorded = Vec::new();
        } else if !self.is_too_long {
            self.recorded.push(recorded);
        }
    }
}

impl<B> ReplayBody<B> {
    fn lock(&self) -> MutexGuard<'_, Shared<B>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Body<Data = Bytes>> Body for ReplayBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let mut shared = this.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.has_second_reader {
            if !this.is_second {
                return Poll::Ready(None);
            }
            if let Some(recorded) = shared.recorded.get(this.next).cloned() {
                this.next += 1;
                return Poll::Ready(Some(Ok(recorded.into_frame())));
            }
        }
        let Some(rest) = &mut shared.rest else { return Poll::Ready(None) };
        let Poll::Ready(frame) = rest.as_mut().poll_frame(cx) else {
            if !this.is_second {
                shared.first_waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        };
        match &frame {
            Some(Ok(frame)) if !this.is_second => shared.record(frame),
            Some(Ok(_)) => {}
            Some(Err(_)) => {
                shared.is_too_long = true;
                shared.rest = None;
            }
            None => shared.rest = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.is_end_stream
    }

    fn size_hint(&self) -> SizeHint {
        let shared = self.lock();
        let rest = shared.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let recorded = if self.is_second { shared.recorded.get(self.next..) } else { None };
        let before = recorded.unwrap_or_default().iter().map(Recorded::len).sum::<u64>();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(before));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(before));
        }
        hint
    }
}

debug_fields!(ReplayBody<B> { is_second });

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use bytes::Bytes;
    use http_body::{Body, Frame};
    use http_body_util::combinators::UnsyncBoxBody;
    use http_body_util::{BodyExt as _, Full, StreamBody};
    use tokio::time::timeout;
    use tokio_stream::StreamExt as _;

    use super::{MAX_RECORDED, RepeatBody as _, Replay};

    type TestBody = UnsyncBoxBody<Bytes, Infallible>;

    fn replay() -> Replay<TestBody> {
        Replay::new(TestBody::new)
    }

    fn frames(frames: &[&'static [u8]]) -> TestBody {
        let frames: Vec<_> = frames.iter().map(|data| Ok(Frame::data(Bytes::from_static(data)))).collect();
        StreamBody::new(tokio_stream::iter(frames)).boxed_unsync()
    }

    async fn rest(body: TestBody) -> Bytes {
        body.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_body_is_sent_again_wherever_the_first_attempt_ended() {
        for read in 0..=3 {
            let (mut first, kept) = replay().keep(frames(&[b"a", b"b", b"c"]));
            for _ in 0..read {
                first.frame().await.unwrap().unwrap();
            }
            let second = replay().restore(kept).unwrap();
            assert!(first.frame().await.is_none(), "the first attempt is over");
            assert_eq!(rest(second).await, "abc", "after {read} frames");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_attempt_ends_even_if_it_waits_for_a_frame_that_the_second_one_gets() {
        let endless = tokio_stream::iter([Ok(Frame::data(Bytes::from_static(b"a")))]).chain(tokio_stream::pending());
        let (mut first, kept) = replay().keep(StreamBody::new(endless).boxed_unsync());
        first.frame().await.unwrap().unwrap();
        let first = tokio::spawn(async move { first.frame().await.is_none() });
        tokio::task::yield_now().await;
        let mut second = replay().restore(kept).unwrap();
        second.frame().await.unwrap().unwrap();
        assert!(futures_util::poll!(second.frame()).is_pending());
        assert!(timeout(Duration::from_secs(1), first).await.expect("nothing wakes it").unwrap());
    }

    #[tokio::test]
    async fn a_body_that_was_read_for_more_than_its_bound_is_not_sent_again() {
        let long = vec![0; MAX_RECORDED + 1];
        let (first, kept) = replay().keep(Full::new(Bytes::from(long.clone())).boxed_unsync());
        assert_eq!(rest(first).await.len(), long.len());
        assert!(replay().restore(kept).is_none());
        // One that was not read is.
        let (first, kept) = replay().keep(Full::new(Bytes::from(long.clone())).boxed_unsync());
        drop(first);
        assert_eq!(rest(replay().restore(kept).unwrap()).await.len(), long.len());
    }

    #[tokio::test]
    async fn the_wrapper_says_as_much_about_the_length_as_the_body() {
        let (first, kept) = replay().keep(Full::new(Bytes::from_static(b"abc")).boxed_unsync());
        assert_eq!(first.size_hint().exact(), Some(3));
        rest(first).await;
        let second = replay().restore(kept).unwrap();
        assert_eq!(second.size_hint().exact(), Some(3));
        let (empty, _) = replay().keep(Full::new(Bytes::new()).boxed_unsync());
        assert!(empty.is_end_stream());
    }
}
