//! [`SentRequest`]: the data that is kept of a request until it is answered.

use std::cell::RefCell;
use std::mem;
use std::sync::Arc;

use http::Request;

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

/// How many are left on each thread for the next requests. If more are on their way, memory is allocated for each. They keep their
/// token until a request with another one takes them.
const MAX_SPARE: usize = 16;

thread_local! {
    /// Allocating memory, and counting one more user of the token, would take a fifth of the time of a call.
    #[expect(clippy::vec_box, reason = "they are used in their box")]
    static SPARE: RefCell<Vec<Box<SentRequest>>> = const { RefCell::new(Vec::new()) };
}

impl SentRequest {
    /// Takes what another request with this token has left, or makes a new one.
    #[inline]
    pub(super) fn new(token: &AccessToken, source: Option<Arc<dyn TokenSource>>) -> Box<Self> {
        // A thread that ends has no memory left for others.
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
        let mut sent = spare.unwrap_or_else(|| Self::allocate(token));
        if !sent.token.is_same(token) {
            sent.token = token.clone();
        }
        sent.source = source;
        sent
    }

    #[cold]
    fn allocate(token: &AccessToken) -> Box<Self> {
        Box::new(Self { token: token.clone(), source: None, was_refused: false, head: SavedHead::default() })
    }

    /// Saves the head of the request, so that it can be sent once more.
    #[inline]
    pub(super) fn save<B>(&mut self, request: &Request<B>) {
        self.head.pack(request);
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
            let mut spare = spare.borrow_mut();
            if spare.len() < MAX_SPARE {
                spare.push(self);
            }
        });
    }
}
