//! [`ForwardGrantsLayer`]: adds the client-credentials grant to an existing token endpoint.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{Either, Full};
use pin_project_lite::pin_project;
use tower::{BoxError, Layer, Service};

use super::AuthorizationServer;
use super::body::ReadBody;
use super::endpoint::Endpoint;
use super::error::TokenError;
use super::form;
use super::future::EndpointServiceFuture;
use super::token::is_another_grant;
use crate::transport::{EndpointFuture, ResponseBody};

/// The request body that the wrapped service receives: the original one, or one that was read and is forwarded
/// unchanged.
pub type ForwardedBody<B> = Either<B, Full<Bytes>>;

/// A layer like [`TokenEndpointLayer`](super::TokenEndpointLayer) that forwards requests for other grants at the token
/// path to the wrapped service.
///
/// 1. A form POST to the token path with a `grant_type` other than `client_credentials` is forwarded with an unchanged
///    body. Nothing else of it is checked; the wrapped service authenticates its clients itself.
/// 2. All other requests to the token path are answered here, including a form without `grant_type`.
/// 3. The body is forwarded as one frame, without trailers.
/// 4. The body must be read to find the grant type. So the wrapped service must accept a [`ForwardedBody`], which a
///    `Service<Request<hyper::body::Incoming>>` does not. This is why it is a separate layer.
///
/// # Deployment caveat
///
/// The metadata lists `client_credentials` only. If the service for the other grants publishes its own metadata, turn
/// that of this server off with [`metadata_path(None)`](super::AuthorizationServerBuilder::metadata_path).
///
/// # Example
///
/// ```
/// use axum::{Router, routing::post};
/// use tower::{Layer, ServiceExt};
/// # use tower_client_credentials::authorization_server::ForwardGrantsLayer;
/// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = AuthorizationServer::new("https://auth.example.com", KeyRing::generate()?, MemoryStore::default())?;
///
/// let existing: Router = Router::new().route("/token", post(async |form: String| form));
/// let service = ForwardGrantsLayer::new(server).layer(existing);
///
/// let request = http::Request::post("/token")
///     .header("content-type", "application/x-www-form-urlencoded")
///     .body(axum::body::Body::from("grant_type=authorization_code&code=1"))?;
/// assert_eq!(service.oneshot(request).await?.status(), 200);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ForwardGrantsLayer {
    server: AuthorizationServer,
}

impl ForwardGrantsLayer {
    /// Creates a layer with the endpoints of this server.
    #[must_use]
    pub fn new(server: AuthorizationServer) -> Self {
        Self { server }
    }
}

impl<S> Layer<S> for ForwardGrantsLayer {
    type Service = ForwardGrants<S>;

    fn layer(&self, inner: S) -> ForwardGrants<S> {
        ForwardGrants { inner, server: self.server.clone() }
    }
}

/// A service behind the endpoints of an authorization server that receives the requests for other grants. It is created
/// by [`ForwardGrantsLayer`].
#[derive(Clone, Debug)]
pub struct ForwardGrants<S> {
    inner: S,
    server: AuthorizationServer,
}

impl<S, B, R> Service<Request<B>> for ForwardGrants<S>
where
    S: Service<Request<ForwardedBody<B>>, Response = Response<R>> + Clone,
    B: Body<Error: Into<BoxError>>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ForwardGrantsFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let state = match self.server.inner.endpoints.at(request.uri().path()) {
            None => State::passing(self.inner.call(request.map(Either::Left))),
            // Only a form can name another grant. All other requests at the token path are answered here, without
            // reading the body.
            Some(endpoint @ Endpoint::Token) => {
                let (head, body) = request.into_parts();
                if let Err(error) = form::check_form_post(&head) {
                    let refusal = EndpointServiceFuture::refusing(self.server.clone(), endpoint, head, &body, error);
                    return ForwardGrantsFuture { state: State::answering(refusal) };
                }
                // A clone, which becomes ready once the body was read: a slow caller must not occupy the inner service.
                // The permit that `poll_ready` took is released with the service that took it.
                self.inner = self.inner.clone();
                let waiting = (self.server.clone(), self.inner.clone());
                let body = ReadBody::new(&head, body, self.server.inner.body_limits);
                State::Reading { body, waiting: Some(Box::new((waiting.0, waiting.1, head))) }
            }
            Some(endpoint) => State::answering(EndpointServiceFuture::new(&self.server, endpoint, request)),
        };
        ForwardGrantsFuture { state }
    }
}

pin_project! {
    /// The future of [`ForwardGrants`].
    pub struct ForwardGrantsFuture<S, B>
    where
        S: Service<Request<ForwardedBody<B>>>,
    {
        #[pin]
        state: State<S, B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, B>
    where
        S: Service<Request<ForwardedBody<B>>>,
    {
        Reading { #[pin] body: ReadBody<B>, waiting: Option<Box<(AuthorizationServer, S, Parts)>> },
        Preparing { inner: S, request: Option<Request<ForwardedBody<B>>> },
        Answering { #[pin] future: EndpointFuture<S::Future, EndpointServiceFuture<B>> },
    }
}

impl<S: Service<Request<ForwardedBody<B>>>, B> State<S, B> {
    fn passing(future: S::Future) -> Self {
        Self::Answering { future: EndpointFuture::inner(future) }
    }

    fn answering(future: EndpointServiceFuture<B>) -> Self {
        Self::Answering { future: EndpointFuture::own(Box::pin(future)) }
    }
}

const AFTER_COMPLETION: &str = "`ForwardGrantsFuture` polled after completion";

impl<S, B, R> Future for ForwardGrantsFuture<S, B>
where
    S: Service<Request<ForwardedBody<B>>, Response = Response<R>>,
    B: Body<Error: Into<BoxError>>,
{
    type Output = Result<Response<ResponseBody<R>>, S::Error>;

    #[expect(clippy::expect_used, reason = "as in tower: polling a completed future would never return")]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Reading { body, waiting } => {
                    let body = ready!(body.poll(cx));
                    let (server, inner, head) = *waiting.take().expect(AFTER_COMPLETION);
                    match body {
                        Ok(body) if is_another_grant(&body) => {
                            let request = Request::from_parts(head, Either::Right(Full::new(body)));
                            State::Preparing { inner, request: Some(request) }
                        }
                        body => {
                            // Only checked here, because the query of a request for another grant is checked by the
                            // wrapped service.
                            let body = body.map_err(TokenError::from);
                            let body = form::check_query(head.uri.query()).and(body);
                            State::answering(EndpointServiceFuture::answering(server, head, body))
                        }
                    }
                }
                StateProjection::Preparing { inner, request } => {
                    let readiness = ready!(inner.poll_ready(cx));
                    let request = request.take().expect(AFTER_COMPLETION);
                    readiness?;
                    State::passing(inner.call(request))
                }
                StateProjection::Answering { future } => return future.poll(cx),
            };
            state.set(next);
        }
    }
}

impl<S, B> fmt::Debug for ForwardGrantsFuture<S, B>
where
    S: Service<Request<ForwardedBody<B>>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardGrantsFuture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use http::header::CONTENT_TYPE;
    use http::{Request, Response};
    use http_body_util::Full;
    use tower::{Layer as _, Service};

    use super::{ForwardGrantsLayer, ForwardedBody};
    use crate::{AuthorizationServer, KeyRing, MemoryStore};

    type Body = Full<Bytes>;

    /// A service that fails before it accepts a request.
    #[derive(Clone)]
    struct Broken;

    impl Service<Request<ForwardedBody<Body>>> for Broken {
        type Response = Response<Body>;
        type Error = &'static str;
        type Future = std::future::Ready<Result<Response<Body>, &'static str>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
            Poll::Ready(Err("broken"))
        }

        fn call(&mut self, _: Request<ForwardedBody<Body>>) -> Self::Future {
            panic!("called without being ready")
        }
    }

    #[test]
    #[should_panic(expected = "`ForwardGrantsFuture` polled after completion")]
    fn polling_a_forwarded_request_after_its_service_failed_panics() {
        let keys = KeyRing::generate().unwrap();
        let server = AuthorizationServer::new("https://auth.example.com", keys, MemoryStore::default()).unwrap();
        let request = Request::post("/token").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let request = request.body(Body::from("grant_type=authorization_code")).unwrap();
        let mut future = pin!(ForwardGrantsLayer::new(server).layer(Broken).call(request));
        assert_eq!(future.as_mut().now_or_never().unwrap().err(), Some("broken"));
        let _ = future.as_mut().now_or_never();
    }
}
