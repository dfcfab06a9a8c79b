//! [`RepeatBody`]: how the body of a request is kept for the case that its token is refused.

mod recorded_body;

use http::Request;

pub use self::recorded_body::{Replay, ReplayBody};

/// Keeps a body, so that a request can be sent a second time with a new token.
pub trait RepeatBody<B> {
    /// Whether requests are repeated at all. If not, nothing is kept.
    const REPEATS: bool = true;

    /// The kept form of a body.
    type Kept;

    /// Splits a body into the one to send and what the next one is made of.
    fn keep(&self, body: B) -> (B, Self::Kept);

    /// Returns the kept form of a body that is sent unchanged, if a reference to the body is enough to make it. This saves moving the request.
    fn copy(&self, body: &B) -> Option<Self::Kept> {
        let _ = body;
        None
    }

    /// Makes the body once more; `None` if it cannot be repeated.
    fn restore(&self, kept: Self::Kept) -> Option<B>;
}

/// Keeps the body of a request, if requests are repeated at all. Returns the request to send.
pub(super) fn keep_body<B, R: RepeatBody<B>>(repeat: &R, request: Request<B>) -> (Request<B>, Option<R::Kept>) {
    if !R::REPEATS {
        return (request, None);
    }
    let (head, body) = request.into_parts();
    let (body, kept) = repeat.keep(body);
    (Request::from_parts(head, body), Some(kept))
}

/// Repeats requests by a clone of the body, the default: for `Full<Bytes>`, `Empty`, `String` and the like.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct CloneBody;

impl<B: Clone> RepeatBody<B> for CloneBody {
    type Kept = B;

    fn keep(&self, body: B) -> (B, B) {
        (body.clone(), body)
    }

    #[inline]
    fn copy(&self, body: &B) -> Option<B> {
        Some(body.clone())
    }

    fn restore(&self, kept: B) -> Option<B> {
        Some(kept)
    }
}

/// Repeats no request.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct NoRepeat;

impl<B> RepeatBody<B> for NoRepeat {
    const REPEATS: bool = false;

    type Kept = ();

    fn keep(&self, body: B) -> (B, ()) {
        (body, ())
    }

    fn restore(&self, (): ()) -> Option<B> {
        None
    }
}
