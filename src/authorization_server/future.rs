//! The futures of the endpoints: read the body, then answer.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::Full;
use pin_project_lite::pin_project;
use tower::BoxError;

use super::AuthorizationServer;
use super::body::{BodyError, ReadBody};
use super::endpoint::Endpoint;
use crate::document::without_body;
use crate::response_body::ResponseBody;

type OwnResponse = Response<Full<Bytes>>;

pin_project! {
    /// The future of [`TokenEndpoint`](super::TokenEndpoint): the inner service's, or the endpoint's own.
    pub struct ResponseFuture<F, B> {
        #[pin]
        kind: Kind<F, B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<F, B> {
        Inner { #[pin] future: F },
        // Boxed, since it is large, and all other paths would carry its weight.
        Own { future: Pin<Box<EndpointFuture<B>>> },
    }
}

impl<F, B: Body> ResponseFuture<F, B> {
    #[inline]
    pub(super) fn inner(future: F) -> Self {
        Self { kind: Kind::Inner { future } }
    }

    pub(super) fn own(future: EndpointFuture<B>) -> Self {
        Self { kind: Kind::Own { future: Box::pin(future) } }
    }
}

impl<F, B, R, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<R>, E>>,
    B: Body<Error: Into<BoxError>>,
{
    type Output = Result<Response<ResponseBody<R>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProjection::Inner { future } => future.poll(cx).map_ok(|response| response.map(ResponseBody::inner)),
            KindProjection::Own { future } => {
                future.as_mut().poll(cx).map(|response| Ok(response.map(ResponseBody::own)))
            }
        }
    }
}

impl<F, B> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

pin_project! {
    /// The answer of one of our endpoints.
    pub(super) struct EndpointFuture<B> {
        #[pin]
        state: State<B>,
        is_head: bool,
    }
}

type Answer = Pin<Box<dyn Future<Output = OwnResponse> + Send>>;

pin_project! {
    #[project = StateProjection]
    enum State<B> {
        Reading { #[pin] body: ReadBody<B>, request: Option<(AuthorizationServer, Endpoint, Parts)> },
        Answering { answer: Answer },
        Ready { response: Option<OwnResponse> },
    }
}

impl<B: Body> EndpointFuture<B> {
    pub(super) fn new(server: &AuthorizationServer, endpoint: Endpoint, request: Request<B>) -> Self {
        let (head, body) = request.into_parts();
        let is_head = head.method == Method::HEAD;
        let state = match endpoint {
            Endpoint::Token | Endpoint::Revocation | Endpoint::Introspection => State::Reading {
                body: ReadBody::new(&head, body, server.inner.body_limits),
                request: Some((server.clone(), endpoint, head)),
            },
            Endpoint::Jwks => State::Ready { response: Some(server.inner.jwks.answer(&head)) },
            Endpoint::Metadata => State::Ready { response: Some(server.inner.metadata.answer(&head)) },
        };
        Self { state, is_head }
    }

    /// The token endpoint's answer to a request whose body was read.
    pub(super) fn answering(server: AuthorizationServer, head: Parts, body: Result<Bytes, BodyError>) -> Self {
        let is_head = head.method == Method::HEAD;
        Self { state: State::answering(server, Endpoint::Token, head, body), is_head }
    }
}

impl<B> State<B> {
    fn answering(server: AuthorizationServer, endpoint: Endpoint, head: Parts, body: Result<Bytes, BodyError>) -> Self {
        let answer: Answer = match endpoint {
            Endpoint::Revocation => Box::pin(async move { server.inner.token.answer_revocation(&head, body).await }),
            Endpoint::Introspection => {
                Box::pin(async move { server.inner.token.answer_introspection(&head, body).await })
            }
            _ => Box::pin(async move { server.inner.token.answer(&head, body).await }),
        };
        Self::Answering { answer }
    }
}

impl<B> Future for EndpointFuture<B>
where
    B: Body<Error: Into<BoxError>>,
{
    type Output = OwnResponse;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<OwnResponse> {
        let this = self.project();
        let response = ready!(this.state.poll(cx));
        Poll::Ready(if *this.is_head { without_body(response) } else { response })
    }
}

impl<B> Future for State<B>
where
    B: Body<Error: Into<BoxError>>,
{
    type Output = OwnResponse;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<OwnResponse> {
        loop {
            let next = match self.as_mut().project() {
                StateProjection::Reading { body, request } => {
                    let body = ready!(body.poll(cx));
                    match request.take() {
                        Some((server, endpoint, head)) => State::answering(server, endpoint, head, body),
                        None => return Poll::Pending,
                    }
                }
                StateProjection::Answering { answer } => return answer.as_mut().poll(cx),
                // Taken only when it is polled after completion.
                StateProjection::Ready { response } => return response.take().map_or(Poll::Pending, Poll::Ready),
            };
            self.set(next);
        }
    }
}

impl<B> fmt::Debug for EndpointFuture<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointFuture").finish_non_exhaustive()
    }
}
