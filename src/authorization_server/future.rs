//! The futures of the endpoints: they check the head, read the body, and then answer.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Version};
use http_body::Body;
use http_body_util::Full;
use pin_project_lite::pin_project;
use tower::BoxError;

use super::AuthorizationServer;
use super::body::ReadBody;
use super::endpoint::Endpoint;
use super::error::TokenError;
use super::form;
use super::head::Head;
use crate::debug_fields::debug_fields;
use crate::transport::without_body;

type OwnResponse = Response<Full<Bytes>>;

pin_project! {
    /// The future of [`EndpointService`](super::EndpointService).
    pub struct EndpointServiceFuture<B> {
        #[pin]
        state: State<B>,
        is_head: bool,
        // Whether the connection is closed after the answer, because the request body was not read.
        closes: bool,
    }
}

type Answer = Pin<Box<dyn Future<Output = OwnResponse> + Send>>;

pin_project! {
    #[project = StateProjection]
    enum State<B> {
        Reading { #[pin] body: ReadBody<B>, request: Option<(AuthorizationServer, Endpoint, Head)> },
        Answering { answer: Answer },
        Ready { response: Option<OwnResponse> },
    }
}

const AFTER_COMPLETION: &str = "`EndpointServiceFuture` polled after completion";

impl<B: Body> EndpointServiceFuture<B> {
    pub(super) fn new(server: &AuthorizationServer, endpoint: Endpoint, request: Request<B>) -> Self {
        let (head, body) = request.into_parts();
        let is_head = head.method == Method::HEAD;
        let state = match endpoint {
            Endpoint::Token | Endpoint::Revocation | Endpoint::Introspection => match form::check_head(&head) {
                Ok(()) => State::Reading {
                    body: ReadBody::new(&head, body, server.inner.body_limits),
                    request: Some((server.clone(), endpoint, head.into())),
                },
                Err(error) => return Self::refusing(server.clone(), endpoint, head, &body, error),
            },
            Endpoint::Authorization => State::Ready { response: Some(server.inner.token.answer_authorization(&head)) },
            Endpoint::Jwks => State::Ready { response: Some(server.inner.documents.answer_jwks(&head)) },
            Endpoint::Metadata => State::Ready { response: Some(server.inner.documents.answer_metadata(&head)) },
        };
        Self { state, is_head, closes: false }
    }

    /// Creates the future of the token endpoint's answer to a request whose body was read.
    pub(super) fn answering(server: AuthorizationServer, head: Parts, body: Result<Bytes, TokenError>) -> Self {
        let is_head = head.method == Method::HEAD;
        Self { state: State::answering(server, Endpoint::Token, head.into(), body), is_head, closes: false }
    }

    /// Creates the future of a refusal that needs only the head. If the body of an HTTP/1.1 request was not read, the
    /// connection is closed: otherwise the rest of the body would be parsed as the next request (RFC 9112 §9.3).
    pub(super) fn refusing(
        server: AuthorizationServer,
        endpoint: Endpoint,
        head: Parts,
        body: &B,
        error: TokenError,
    ) -> Self {
        let is_head = head.method == Method::HEAD;
        let closes = head.version < Version::HTTP_2 && !body.is_end_stream();
        Self { state: State::answering(server, endpoint, head.into(), Err(error)), is_head, closes }
    }
}

impl<B> State<B> {
    fn answering(server: AuthorizationServer, endpoint: Endpoint, head: Head, body: Result<Bytes, TokenError>) -> Self {
        let answer: Answer = match endpoint {
            Endpoint::Revocation => Box::pin(async move { server.inner.token.answer_revocation(&head, body).await }),
            Endpoint::Introspection => {
                Box::pin(async move { server.inner.token.answer_introspection(&head, body).await })
            }
            _ => Box::pin(token_answer(server, head, body)),
        };
        Self::Answering { answer }
    }
}

#[expect(clippy::manual_async_fn, reason = "the future of an `async fn` would contain its parameters twice")]
fn token_answer(
    server: AuthorizationServer,
    head: Head,
    body: Result<Bytes, TokenError>,
) -> impl Future<Output = OwnResponse> {
    async move { server.inner.token.answer(&head, &body).await }
}

impl<B> Future for EndpointServiceFuture<B>
where
    B: Body<Error: Into<BoxError>>,
{
    type Output = Result<OwnResponse, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.state.poll(cx));
        if *this.closes {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(if *this.is_head { without_body(response) } else { response }))
    }
}

impl<B> Future for State<B>
where
    B: Body<Error: Into<BoxError>>,
{
    type Output = OwnResponse;

    #[expect(clippy::expect_used, reason = "as in tower: polling a completed future would never return")]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<OwnResponse> {
        loop {
            let next = match self.as_mut().project() {
                StateProjection::Reading { body, request } => {
                    let body = ready!(body.poll(cx)).map_err(TokenError::from);
                    let (server, endpoint, head) = request.take().expect(AFTER_COMPLETION);
                    State::answering(server, endpoint, head, body)
                }
                StateProjection::Answering { answer } => return answer.as_mut().poll(cx),
                StateProjection::Ready { response } => return Poll::Ready(response.take().expect(AFTER_COMPLETION)),
            };
            self.set(next);
        }
    }
}

debug_fields!(EndpointServiceFuture<B> {});

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;

    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use http::{Method, Request, Response, StatusCode};
    use http_body_util::Full;
    use tower::{Layer as _, Service as _, service_fn};

    use crate::authorization_server::ForwardGrantsLayer;
    use crate::{AuthorizationServer, KeyRing, MemoryStore, TokenEndpointLayer};

    type Body = Full<Bytes>;

    fn server() -> AuthorizationServer {
        AuthorizationServer::new("https://auth.example.com", KeyRing::generate().unwrap(), MemoryStore::default())
            .unwrap()
    }

    fn request(method: Method, path: &str) -> Request<Body> {
        Request::builder().method(method).uri(path).body(Body::default()).unwrap()
    }

    /// An allocation of 1,024 bytes or more makes glibc merge its free lists, which costs a token request 5 % of its
    /// instructions.
    #[test]
    fn the_future_of_a_token_request_is_smaller_than_a_large_allocation() {
        let head = super::Head::from(request(Method::POST, "/token").into_parts().0);
        let future = super::token_answer(server(), head, Ok(Bytes::new()));
        let size = size_of_val(&future);
        assert!(size <= 1_024, "{size} bytes");
    }

    /// Polls a future until it is done, and then once more.
    fn poll_after_completion<R>(future: impl Future<Output = Result<Response<R>, Infallible>>, status: StatusCode) {
        let mut future = pin!(future);
        assert_eq!(future.as_mut().now_or_never().unwrap().unwrap().status(), status);
        let _ = future.as_mut().now_or_never();
    }

    #[test]
    #[should_panic(expected = "`EndpointServiceFuture` polled after completion")]
    fn polling_the_answer_with_a_document_after_completion_panics() {
        let inner = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::default())));
        let mut service = TokenEndpointLayer::new(server()).layer(inner);
        let jwks = request(Method::GET, "/.well-known/jwks.json");
        poll_after_completion(service.call(jwks), StatusCode::OK);
    }

    #[test]
    #[should_panic(expected = "resumed after completion")]
    fn polling_the_answer_of_the_token_endpoint_after_completion_panics() {
        let token = request(Method::POST, "/token");
        poll_after_completion(server().token_service().call(token), StatusCode::BAD_REQUEST);
    }

    #[test]
    #[should_panic(expected = "`EndpointServiceFuture` polled after completion")]
    fn polling_the_answer_of_the_forwarding_layer_after_completion_panics() {
        let inner = service_fn(async |_: Request<_>| Ok::<_, Infallible>(Response::new(Body::default())));
        let mut service = ForwardGrantsLayer::new(server()).layer(inner);
        let metadata = request(Method::GET, "/.well-known/oauth-authorization-server");
        poll_after_completion(service.call(metadata), StatusCode::OK);
    }
}
