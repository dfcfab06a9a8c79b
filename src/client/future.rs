//! [`ResponseFuture`]: a request on its way, from the token to the answer.

use std::fmt;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::{BoxError, Service};

use super::access_token::AccessToken;
use super::error::CallError;
use super::refusal::{Refusal, is_plain_success, refuses_token, required_scopes, resource_metadata};
use super::repeat::{RepeatBody, keep_body};
use super::sent_request::SentRequest;
use super::token_cache::Tokens;
use super::token_error::TokenSourceError;
use super::token_source::{TokenFuture, TokenSource};
use crate::telemetry;

const COMPLETED: &str = "ResponseFuture polled after completion";

pin_project! {
    /// The future of [`ClientCredentialsService`](super::ClientCredentialsService).
    pub struct ResponseFuture<S, B, R>
    where
        S: Service<Request<B>>,
        R: RepeatBody<B>,
    {
        #[pin]
        state: State<S::Future, S::Response, B>,
        // `None` if no request was sent, and after the answer.
        sent: Option<Box<SentRequest>>,
        // The body for the next call. `None` if the request is not sent once more.
        body: Option<R::Kept>,
        // The instance of the inner service that makes the next call.
        service: Option<S>,
        repeat: Option<R>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, A, B> {
        /// The inner service has the request.
        Calling { #[pin] call: F },
        // Boxed, so that the future is small to move.
        Before { step: Box<Step<A, B>> },
    }
}

/// A step before a call of the inner service. It is rare.
enum Step<A, B> {
    /// There was no token that could be reused. If none comes, the answer is the one that refused the token before.
    Waiting {
        token: TokenFuture,
        unsent: Option<Unsent<B>>,
        answer: Option<A>,
    },
    /// The token did not suffice, and another one is on its way. If none comes, the answer is the one that said so.
    Renewing {
        token: TokenFuture,
        answer: Option<A>,
    },
    /// The inner service is about to get the request once more.
    Repeating {
        request: Option<Request<B>>,
        token: AccessToken,
        answer: Option<A>,
    },
    Failed {
        error: Option<CallError>,
    },
}

impl<F, A, B> State<F, A, B> {
    fn before(step: Step<A, B>) -> Self {
        Self::Before { step: Box::new(step) }
    }
}

/// A request that waits for its token.
pub(super) struct Unsent<B> {
    pub(super) request: Request<B>,
    /// `None` if the token knows its source itself, and for a request that was sent before.
    pub(super) source: Option<Arc<dyn TokenSource>>,
}

impl<S, B, R> ResponseFuture<S, B, R>
where
    S: Service<Request<B>>,
    R: RepeatBody<B>,
{
    #[cold]
    pub(super) fn failed(error: CallError) -> Self {
        let state = State::before(Step::Failed { error: Some(error) });
        Self { state, sent: None, body: None, service: None, repeat: None }
    }

    #[cold]
    pub(super) fn waiting(token: TokenFuture, unsent: Unsent<B>, service: S, repeat: R) -> Self {
        let state = State::before(Step::Waiting { token, unsent: Some(unsent), answer: None });
        Self { state, sent: None, body: None, service: Some(service), repeat: Some(repeat) }
    }

    #[inline]
    pub(super) fn calling(
        call: S::Future,
        sent: Option<Box<SentRequest>>,
        body: Option<R::Kept>,
        service: Option<S>,
        repeat: R,
    ) -> Self {
        Self { state: State::Calling { call }, sent, body, service, repeat: Some(repeat) }
    }
}

/// What follows a token that did not suffice.
#[expect(clippy::large_enum_variant, reason = "it lives for one step and is never stored")]
enum Next<B> {
    /// The answer is passed on.
    GiveUp,
    Renew(TokenFuture),
    Repeat(Request<B>, AccessToken),
}

impl<S, B, RB, R> Future for ResponseFuture<S, B, R>
where
    S: Service<Request<B>, Response = Response<RB>, Error: Into<BoxError>>,
    R: RepeatBody<B>,
{
    type Output = Result<Response<RB>, CallError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.as_mut().project();
        let StateProjection::Calling { call } = this.state.project() else { return self.proceed(None, cx) };
        // Most requests take only this path, and all other steps are in functions of their own. No reference to the output is passed to a
        // function that is not inlined, so that the compiler moves the answer once less, and each time in the same pieces: the processor waits where it
        // reads a piece that was written as two.
        let output = call.poll(cx);
        let is_plain =
            matches!(&output, Poll::Ready(Ok(answer)) if is_plain_success(answer.status(), answer.headers()));
        if is_plain && let Some(sent) = this.sent.take() {
            sent.end();
        }
        match output {
            Poll::Ready(Ok(answer)) if !is_plain => self.proceed(Some(answer), cx),
            _ => output.map_err(|error| CallError::Call(error.into())),
        }
    }
}

/// The next state, or the answer to pass on.
type Flow<S, B, RB> = ControlFlow<Response<RB>, State<<S as Service<Request<B>>>::Future, Response<RB>, B>>;

#[expect(clippy::expect_used, reason = "a future that has returned its output must not be polled")]
impl<S, B, RB, R> ResponseFuture<S, B, R>
where
    S: Service<Request<B>, Response = Response<RB>, Error: Into<BoxError>>,
    R: RepeatBody<B>,
{
    /// Takes the next step: after an answer that may be about the token, or before a call.
    #[cold]
    fn proceed(
        mut self: Pin<&mut Self>,
        answer: Option<Response<RB>>,
        cx: &mut Context<'_>,
    ) -> Poll<<Self as Future>::Output> {
        let flow = match answer {
            Some(answer) => self.as_mut().judge(answer),
            None => ready!(self.as_mut().poll_before_call(cx))?,
        };
        match flow {
            ControlFlow::Break(answer) => Poll::Ready(Ok(answer)),
            ControlFlow::Continue(next) => {
                self.as_mut().project().state.set(next);
                self.poll(cx)
            }
        }
    }

    /// Decides what follows an answer that may be about the token.
    fn judge(self: Pin<&mut Self>, answer: Response<RB>) -> Flow<S, B, RB> {
        let this = self.project();
        let sent = this.sent.as_mut().expect(COMPLETED);
        let refusal = refuses_token(answer.status(), answer.headers());
        let required = required_scopes(answer.status(), answer.headers());
        let metadata = resource_metadata(answer.status(), answer.headers());
        if answer.status().is_success() && refusal.is_none() {
            sent.token().accepted();
        }
        if refusal.is_none() && required.is_none() && metadata.is_none() {
            return ControlFlow::Break(answer);
        }
        let next = sent.source().map_or(Next::GiveUp, |source| {
            // A second token that is refused as well shows that the token is not the cause.
            if let Some(refusal) = refusal
                && sent.is_first_refusal()
            {
                match refusal {
                    Refusal::InvalidToken => source.invalidate(sent.token()),
                    Refusal::Unexplained => source.refused_without_explanation(sent.token()),
                }
            }
            let wider = required.and_then(|scopes| source.widen(sent.token(), &scopes));
            let elsewhere = metadata.and_then(|url| source.discover(&url));
            match elsewhere.or(wider) {
                Some(token) if this.body.is_some() => Next::Renew(token),
                _ if refusal.is_some() => another_token(&*source, sent, this.body, this.repeat.as_ref()),
                _ => Next::GiveUp,
            }
        });
        match next {
            Next::GiveUp => ControlFlow::Break(answer),
            Next::Renew(token) => ControlFlow::Continue(State::before(Step::Renewing { token, answer: Some(answer) })),
            Next::Repeat(request, token) => {
                let (request, answer) = (Some(request), Some(answer));
                ControlFlow::Continue(State::before(Step::Repeating { request, token, answer }))
            }
        }
    }

    /// Polls the steps before a call of the inner service, and then makes the call.
    fn poll_before_call(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Flow<S, B, RB>, CallError>> {
        let this = self.project();
        let StateProjection::Before { step } = this.state.project() else { unreachable!("the call was made") };
        let next = match &mut **step {
            Step::Failed { error } => return Poll::Ready(Err(error.take().expect(COMPLETED))),
            Step::Waiting { token, unsent, answer } => {
                let token: AccessToken = match (ready!(token.as_mut().poll(cx)), answer.take()) {
                    (Ok(token), _) => token,
                    (Err(_), Some(answer)) => return Poll::Ready(Ok(ControlFlow::Break(answer))),
                    (Err(error), None) => return Poll::Ready(Err(error.into())),
                };
                let Unsent { mut request, source } = unsent.take().expect(COMPLETED);
                if let Some(sent) = this.sent.as_mut() {
                    sent.set_token(&token);
                    token.authorize(request.headers_mut());
                } else {
                    let sent = this.sent.insert(SentRequest::new(&token, source));
                    (request, *this.body) = keep_body(this.repeat.as_ref().expect(COMPLETED), request);
                    sent.prepare(&mut request, this.body.is_some());
                }
                State::Calling { call: this.service.as_mut().expect(COMPLETED).call(request) }
            }
            Step::Renewing { token, answer } => {
                let token: Result<AccessToken, TokenSourceError> = ready!(token.as_mut().poll(cx));
                let answer = answer.take().expect(COMPLETED);
                let sent = this.sent.as_mut().expect(COMPLETED);
                let request = restored(sent, this.body, this.repeat.as_ref());
                match (token, request) {
                    (Ok(token), Some(request)) if token != *sent.token() => {
                        State::before(Step::Repeating { request: Some(request), token, answer: Some(answer) })
                    }
                    _ => return Poll::Ready(Ok(ControlFlow::Break(answer))),
                }
            }
            Step::Repeating { request, token, answer } => {
                let service = this.service.as_mut().expect(COMPLETED);
                ready!(service.poll_ready(cx)).map_err(|error| CallError::Call(error.into()))?;
                let mut request = request.take().expect(COMPLETED);
                let sent = this.sent.as_mut().expect(COMPLETED);
                telemetry::call_resent();
                // The service may have been busy for longer than the token lives.
                let has_ended = Tokens::of(token).is_some_and(|tokens| !tokens.may_be_sent(token));
                if let Some(source) = sent.source().filter(|_| has_ended) {
                    let (unsent, answer) = (Some(Unsent { request, source: None }), answer.take());
                    State::before(Step::Waiting { token: source.token(), unsent, answer })
                } else {
                    sent.set_token(token);
                    token.authorize(request.headers_mut());
                    State::Calling { call: service.call(request) }
                }
            }
        };
        Poll::Ready(Ok(ControlFlow::Continue(next)))
    }
}

/// Decides how the request continues with another token. A request is repeated at most once: the repetition uses up the kept body.
fn another_token<B, R: RepeatBody<B>>(
    source: &dyn TokenSource,
    refused: &mut SentRequest,
    body: &mut Option<R::Kept>,
    repeat: Option<&R>,
) -> Next<B> {
    if body.is_none() {
        return Next::GiveUp;
    }
    let Some(token) = source.ready() else { return Next::Renew(source.token()) };
    // A source that gives the same token again has no other one.
    if token == *refused.token() {
        return Next::GiveUp;
    }
    restored(refused, body, repeat).map_or(Next::GiveUp, |request| Next::Repeat(request, token))
}

/// Makes the request once more, if its body was kept and allows it.
fn restored<B, R: RepeatBody<B>>(
    sent: &mut SentRequest,
    body: &mut Option<R::Kept>,
    repeat: Option<&R>,
) -> Option<Request<B>> {
    sent.restore(repeat?.restore(body.take()?)?)
}

impl<S, B, R> fmt::Debug for ResponseFuture<S, B, R>
where
    S: Service<Request<B>>,
    R: RepeatBody<B>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
