//! [`SentRequest`]: the data that is kept of a request until it is answered.

use std::cell::RefCell;

use http::Request;

use super::access_token::AccessToken;
use super::repeat::RepeatBody;
use super::saved_head::SavedHead;

/// The token of a request, and what it takes to send the request once more.
pub(super) enum SentRequest<K> {
    /// It is not sent once more.
    Once(AccessToken),
    /// It is, with the kept form of its body, until that is taken.
    Saved(Box<Saved>, Option<K>),
}

/// Boxed, so that it is not moved with the future.
pub(super) struct Saved {
    token: AccessToken,
    head: SavedHead,
}

/// How many are left on each thread for the next requests. If more are on their way, memory is allocated for each. They keep their
/// token until a request with another one takes them.
const MAX_SPARE: usize = 16;

thread_local! {
    /// Allocating memory, and counting one more user of the token, would take a fifth of the time of a call.
    #[expect(clippy::vec_box, reason = "they are used in their box")]
    static SPARE: RefCell<Vec<Box<Saved>>> = const { RefCell::new(Vec::new()) };
}

impl<K> SentRequest<K> {
    /// Saves a request that is sent with this token, with the kept form of its body.
    #[inline]
    pub(super) fn saved<B>(token: &AccessToken, request: &Request<B>, body: K) -> Self {
        let mut saved = Saved::take(token);
        saved.head.pack(request);
        Self::Saved(saved, Some(body))
    }

    /// A request that is not sent once more, for the usual case that memory was left for it.
    #[inline]
    pub(super) fn once(token: &AccessToken) -> Self {
        Self::Saved(Saved::take(token), None)
    }

    /// Saves a request whose body has to be taken apart for that, if requests are repeated. Returns the one to send.
    pub(super) fn split<B, R: RepeatBody<B, Kept = K>>(
        token: &AccessToken,
        request: Request<B>,
        repeat: &R,
    ) -> (Self, Request<B>) {
        if !R::REPEATS {
            return (Self::Once(token.clone()), request);
        }
        let (head, body) = request.into_parts();
        let (body, kept) = repeat.keep(body);
        let request = Request::from_parts(head, body);
        (Self::saved(token, &request, kept), request)
    }

    #[inline]
    pub(super) fn token(&self) -> &AccessToken {
        match self {
            Self::Once(token) => token,
            Self::Saved(saved, _) => &saved.token,
        }
    }

    pub(super) fn is_saved(&self) -> bool {
        matches!(self, Self::Saved(_, Some(_)))
    }

    /// Makes the request once more, if it is saved and its body allows it. It can be made only once.
    pub(super) fn restore<B, R: RepeatBody<B, Kept = K>>(&mut self, repeat: &R) -> Option<Request<B>> {
        let Self::Saved(saved, body) = self else { return None };
        saved.head.unpack(repeat.restore(body.take()?)?)
    }

    /// Ends the request when it is answered. Its memory is left to the next request on this thread.
    #[inline]
    pub(super) fn end(self) {
        let Self::Saved(mut saved, _) = self else { return };
        saved.head.clear();
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < MAX_SPARE {
                spare.push(saved);
            }
        });
    }
}

impl Saved {
    /// Takes what another request with this token has left, or makes a new one.
    #[inline]
    fn take(token: &AccessToken) -> Box<Self> {
        // A thread that ends has no memory left for others.
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
        let mut saved = spare.unwrap_or_else(|| Self::new(token));
        if !saved.token.is_same(token) {
            saved.token = token.clone();
        }
        saved
    }

    #[cold]
    fn new(token: &AccessToken) -> Box<Self> {
        Box::new(Self { token: token.clone(), head: SavedHead::default() })
    }
}
