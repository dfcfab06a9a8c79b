//! The future of [`BearerAuth`](super::BearerAuth): the inner service's answer, or a refusal.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use pin_project_lite::pin_project;
use tower::Service;

use super::decision::Guard;
use super::expiry::Expiry;
use super::unread_body::UnreadBody;
use crate::transport::{BodyEnd, ResponseBody};
use crate::verification::PendingVerification;

pin_project! {
    /// The future of [`BearerAuth`](super::BearerAuth).
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, B>,
    }
}

pin_project! {
    /// A request that is decided immediately starts in one of the last three states.
    #[project = StateProjection]
    enum State<S, B>
    where
        S: Service<Request<B>>,
    {
        Waiting { waiting: Option<Box<Waiting<S, B>>> },
        Preparing { prepared: Option<Box<Prepared<S, B>>> },
        Inner { #[pin] future: S::Future, expiry: Option<Box<Expiry>> },
        Draining { body: Box<UnreadBody<B>>, response: Option<Box<Response<Full<Bytes>>>> },
        Refused { response: Option<Box<Response<Full<Bytes>>>> },
    }
}

const AFTER_COMPLETION: &str = "`ResponseFuture` polled after completion";

/// A request whose token is being verified.
pub(super) struct Waiting<S, B> {
    pub(super) verification: PendingVerification,
    pub(super) guard: Arc<Guard>,
    pub(super) inner: S,
    pub(super) request: Request<B>,
}

/// A request that was admitted and waits until the inner service is ready.
struct Prepared<S, B> {
    inner: S,
    request: Request<B>,
    expiry: Option<Box<Expiry>>,
}

impl<S: Service<Request<B>>, B> ResponseFuture<S, B> {
    #[inline]
    pub(super) fn inner(future: S::Future, expiry: Option<Box<Expiry>>) -> Self {
        Self { state: State::Inner { future, expiry } }
    }

    #[inline]
    pub(super) fn refused(response: Box<Response<Full<Bytes>>>, request: Request<B>) -> Self
    where
        B: Body,
    {
        Self { state: State::refused(response, request) }
    }

    pub(super) fn waiting(waiting: Waiting<S, B>) -> Self {
        Self { state: State::Waiting { waiting: Some(Box::new(waiting)) } }
    }
}

impl<S: Service<Request<B>>, B> State<S, B> {
    #[inline]
    fn refused(response: Box<Response<Full<Bytes>>>, request: Request<B>) -> Self
    where
        B: Body,
    {
        match UnreadBody::from_request(request) {
            Some(body) => Self::Draining { body: Box::new(body), response: Some(response) },
            None => Self::Refused { response: Some(response) },
        }
    }
}

impl<S, B, R> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    B: Body,
{
    type Output = Result<Response<ResponseBody<R>>, S::Error>;

    #[inline]
    #[expect(clippy::expect_used, reason = "like tower: waiting for a completed future would never end")]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Waiting { waiting } => {
                    let pending = waiting.as_mut().expect(AFTER_COMPLETION);
                    let verified = ready!(pending.verification.as_mut().poll(cx));
                    let Waiting { guard, inner, mut request, .. } = *waiting.take().expect(AFTER_COMPLETION);
                    match guard.carry_out(guard.conclude(verified, &request), &mut request) {
                        Ok(expiry) => {
                            State::Preparing { prepared: Some(Box::new(Prepared { inner, request, expiry })) }
                        }
                        Err(refusal) => State::refused(refusal, request),
                    }
                }
                StateProjection::Preparing { prepared } => {
                    let readiness = ready!(prepared.as_mut().expect(AFTER_COMPLETION).inner.poll_ready(cx));
                    let Prepared { mut inner, request, expiry } = *prepared.take().expect(AFTER_COMPLETION);
                    readiness?;
                    State::Inner { future: inner.call(request), expiry }
                }
                StateProjection::Inner { future, expiry } => {
                    if let Poll::Ready(response) = future.poll(cx) {
                        let until =
                            |body| ResponseBody::until(body, expiry.take().map(|expiry| expiry as Box<dyn BodyEnd>));
                        return Poll::Ready(response.map(|response| response.map(until)));
                    }
                    match expiry.take_if(|expiry| expiry.poll(cx).is_ready()) {
                        Some(expired) => State::Refused { response: Some(Box::new(expired.refusal())) },
                        None => return Poll::Pending,
                    }
                }
                StateProjection::Draining { body, response } => {
                    ready!(Pin::new(body).poll(cx));
                    State::Refused { response: response.take() }
                }
                StateProjection::Refused { response } => {
                    let response = response.take().expect(AFTER_COMPLETION);
                    return Poll::Ready(Ok(response.map(ResponseBody::own)));
                }
            };
            state.set(next);
        }
    }
}

impl<S: Service<Request<B>>, B> fmt::Debug for ResponseFuture<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use bytes::Bytes;
    use http::{Request, Response, StatusCode};
    use http_body_util::Full;
    use tower::service_fn;

    use super::{ResponseFuture, Waiting};
    use crate::event::{self, Outcome};
    use crate::verification::Verified;
    use crate::verification::{InvalidToken, Unavailable, UnavailableKind, VerifiedToken};
    use crate::{AuthorizationServer, BearerAuthLayer, KeyRing, MemoryStore, Scope};

    type Body = Full<Bytes>;

    fn layer() -> BearerAuthLayer {
        let keys = KeyRing::generate().unwrap();
        let server = AuthorizationServer::new("https://auth.example.com", keys, MemoryStore::default()).unwrap();
        BearerAuthLayer::new(server.verifier("https://api.example.com").unwrap())
    }

    /// Returns the layer's answer to a request whose pending verification ends with this result.
    async fn answer(layer: BearerAuthLayer, verified: Verified) -> Response<crate::transport::ResponseBody<Body>> {
        let inner = service_fn(async |request: Request<Body>| {
            let token = request.extensions().get::<VerifiedToken>().expect("the proof");
            Ok::<_, Infallible>(Response::new(Body::from(token.client_id().to_string())))
        });
        let verification = Box::pin(async {
            tokio::task::yield_now().await;
            verified
        });
        let request = Request::new(Body::default());
        ResponseFuture::waiting(Waiting { verification, guard: layer.guard(), inner, request }).await.unwrap()
    }

    #[tokio::test]
    async fn a_delayed_verification_is_decided_like_an_immediate_one() {
        let token = VerifiedToken::for_test("billing").build();
        assert_eq!(answer(layer(), Ok(token.clone())).await.status(), StatusCode::OK);
        let refused = answer(layer(), Err(InvalidToken::UnknownKey.into())).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        let write = layer().require_scope(Scope::from_static("write"));
        assert_eq!(answer(write, Ok(token)).await.status(), StatusCode::FORBIDDEN);
    }

    /// Polls a future of the layer until it completes, and once more.
    async fn poll_after_completion(layer: BearerAuthLayer, verified: Verified, is_ready: bool) {
        use std::task::Poll;

        use futures_util::future::{FutureExt as _, poll_fn};
        use tower::util::BoxCloneSyncService;

        /// An inner service that fails before it takes a request.
        #[derive(Clone)]
        struct Broken;

        impl tower::Service<Request<Body>> for Broken {
            type Response = Response<Body>;
            type Error = &'static str;
            type Future = std::future::Ready<Result<Response<Body>, &'static str>>;

            fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), &'static str>> {
                Poll::Ready(Err("broken"))
            }

            fn call(&mut self, _: Request<Body>) -> Self::Future {
                panic!("called before it was ready")
            }
        }

        let inner = if is_ready {
            BoxCloneSyncService::new(service_fn(async |_| Ok::<_, &'static str>(Response::new(Body::default()))))
        } else {
            BoxCloneSyncService::new(Broken)
        };
        let verification = Box::pin(std::future::ready(verified));
        let request = Request::new(Body::default());
        let waiting = Waiting { verification, guard: layer.guard(), inner, request };
        let mut future = std::pin::pin!(ResponseFuture::waiting(waiting));
        let done = poll_fn(|cx| future.as_mut().poll(cx)).await;
        assert_eq!(done.is_ok(), is_ready);
        let _ = future.as_mut().now_or_never();
    }

    #[tokio::test]
    #[should_panic(expected = "`ResponseFuture` polled after completion")]
    async fn a_refusal_that_is_polled_after_completion_panics() {
        poll_after_completion(layer(), Err(InvalidToken::UnknownKey.into()), true).await;
    }

    #[tokio::test]
    #[should_panic(expected = "`ResponseFuture` polled after completion")]
    async fn a_request_whose_service_failed_and_that_is_polled_after_completion_panics() {
        let token = VerifiedToken::for_test("billing").build();
        poll_after_completion(layer(), Ok(token), false).await;
    }

    #[tokio::test]
    async fn an_event_has_the_time_of_the_clock_of_the_verifier() {
        let (events, mut listener) = event::channel();
        let time = std::time::UNIX_EPOCH + Duration::from_secs(1_000);
        let keys = KeyRing::generate().unwrap();
        let server = AuthorizationServer::new("https://auth.example.com", keys, MemoryStore::default()).unwrap();
        let verifier = server.verifier("https://api.example.com").unwrap();
        let layer = BearerAuthLayer::new(verifier.clock(crate::clock::ManualClock::at(time))).events(events);
        answer(layer, Err(InvalidToken::UnknownKey.into())).await;
        assert_eq!(listener.try_recv().unwrap().at, time);
    }

    #[tokio::test]
    async fn an_unavailable_part_gives_a_503_without_a_challenge_and_an_event() {
        let (events, mut listener) = event::channel();
        let unavailable = Unavailable::new(UnavailableKind::Keys).retry_after(Duration::from_secs(7));
        let answer = answer(layer().events(events), Err(unavailable.into())).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()["retry-after"], "7");
        assert!(!answer.headers().contains_key("www-authenticate"));
        assert!(matches!(listener.try_recv().unwrap().outcome, Outcome::VerificationUnavailable(_)));
    }
}
