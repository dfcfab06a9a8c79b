//! [`SentRequest`]: the data that is kept of a request until it is answered.

use std::cell::{Cell, RefCell};
use std::mem;
use std::sync::Arc;

use http::Request;
use http::header::AUTHORIZATION;

use super::access_token::AccessToken;
use super::saved_head::SavedHead;
use super::token_cache::Tokens;
use super::token_source::TokenSource;

/// The token of a request, and what it takes to send the request once more, except for its body. It is used in a box, so that it is
/// not moved with the future.
pub(super) struct SentRequest {
    token: AccessToken,
    /// `None` if the token knows its source itself.
    source: Option<Arc<dyn TokenSource>>,
    /// A token of this request was refused.
    was_refused: bool,
    head: SavedHead,
}

/// How many are left on each thread for the next requests, in addition to the first. If more are on their way, memory is allocated for each.
/// They keep their token until a request with another one takes them.
const MAX_OTHERS: usize = 15;

/// What requests of a thread have left to the next ones.
struct Spare {
    /// In a place of its own, since a vector takes more instructions.
    first: Cell<Option<Box<SentRequest>>>,
    #[expect(clippy::vec_box, reason = "they are used in their box")]
    others: RefCell<Vec<Box<SentRequest>>>,
}

thread_local! {
    /// Allocating memory, and counting one more user of the token, would take a fifth of the time of a call.
    static SPARE: Spare = const { Spare { first: Cell::new(None), others: RefCell::new(Vec::new()) } };
}

impl Spare {
    #[cold]
    fn take_other(&self) -> Option<Box<SentRequest>> {
        self.others.borrow_mut().pop()
    }

    #[cold]
    fn keep_other(&self, sent: Box<SentRequest>) {
        let mut others = self.others.borrow_mut();
        if others.len() < MAX_OTHERS {
            others.push(sent);
        }
    }
}

impl SentRequest {
    /// Takes what another request with this token has left, or makes a new one.
    #[inline]
    pub(super) fn new(token: &AccessToken, source: Option<Arc<dyn TokenSource>>) -> Box<Self> {
        // A thread that ends has no memory left for others.
        let spare = SPARE.try_with(|spare| spare.first.take().or_else(|| spare.take_other())).ok().flatten();
        let mut sent = spare.unwrap_or_else(|| Self::allocate(token));
        if !sent.token.is_same(token) {
            sent.token = token.clone();
        }
        // `end` took what the request before had.
        debug_assert!(sent.source.is_none() && !sent.was_refused);
        if source.is_some() {
            sent.source = source;
        }
        sent
    }

    #[cold]
    fn allocate(token: &AccessToken) -> Box<Self> {
        Box::new(Self { token: token.clone(), source: None, was_refused: false, head: SavedHead::default() })
    }

    /// Adds the token to the request. Saves the rest of its head, if it may be sent once more.
    // Inlined, it would leave the call of the inner service something to drop; see `Started`. The copy of the request, which is next,
    // has to wait for the new header, so the head is saved meanwhile.
    #[inline(never)]
    pub(super) fn prepare<B>(&mut self, request: &mut Request<B>, is_saved: bool) {
        request.headers_mut().insert(AUTHORIZATION, self.token.header().clone());
        if is_saved {
            self.head.pack(request);
        }
    }

    /// Makes the saved request once more, with this body; `None` if a part of it cannot be made again. It can be made only once.
    pub(super) fn restore<B>(&mut self, body: B) -> Option<Request<B>> {
        self.head.unpack(body)
    }

    pub(super) fn token(&self) -> &AccessToken {
        &self.token
    }

    /// Replaces the token by the one with which the request is sent once more.
    pub(super) fn set_token(&mut self, token: &AccessToken) {
        self.token = token.clone();
    }

    /// Returns the source of the token, if it still exists.
    pub(super) fn source(&mut self) -> Option<Arc<dyn TokenSource>> {
        if self.source.is_none() {
            self.source = Tokens::of(&self.token).map(|tokens| Arc::new(tokens) as _);
        }
        self.source.clone()
    }

    /// Notes that a token of this request was refused. Returns whether it is the first one.
    pub(super) fn is_first_refusal(&mut self) -> bool {
        !mem::replace(&mut self.was_refused, true)
    }

    /// Ends a request whose token was accepted. Its memory is left to the next request on this thread.
    #[inline]
    pub(super) fn end(mut self: Box<Self>) {
        self.token.accepted();
        self.source = None;
        self.was_refused = false;
        self.head.clear();
        let _ = SPARE.try_with(|spare| {
            if let Some(other) = spare.first.replace(Some(self)) {
                spare.keep_other(other);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{AccessToken, MAX_OTHERS, SPARE, SentRequest};

    #[test]
    fn requests_that_end_leave_16_to_the_next_ones_on_their_thread() {
        let token = AccessToken::bearer("a").unwrap();
        std::thread::spawn(move || {
            let all: Vec<_> = (0..100).map(|_| SentRequest::new(&token, None)).collect();
            all.into_iter().for_each(SentRequest::end);
            SPARE.with(|spare| {
                assert_eq!(spare.others.borrow().len(), MAX_OTHERS);
                assert!(spare.first.take().is_some());
            });
        })
        .join()
        .unwrap();
    }
}
