//! [`TokenEndpoint`], the endpoints in front of a service, and [`EndpointService`], a single endpoint.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower::{BoxError, Service};

use super::AuthorizationServer;
use super::endpoint::Endpoint;
use super::future::EndpointServiceFuture;
use crate::transport::{EndpointFuture, ResponseBody, wraps_service};

/// A service behind the endpoints of an authorization server. It is created by
/// [`TokenEndpointLayer`](super::TokenEndpointLayer).
#[derive(Clone, Debug)]
pub struct TokenEndpoint<S> {
    inner: S,
    server: AuthorizationServer,
}

impl<S> TokenEndpoint<S> {
    pub(super) fn new(inner: S, server: AuthorizationServer) -> Self {
        Self { inner, server }
    }
}

wraps_service!(TokenEndpoint<S>);

impl<S, B, R> Service<Request<B>> for TokenEndpoint<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    B: Body<Error: Into<BoxError>>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = EndpointFuture<S::Future, EndpointServiceFuture<B>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.server.inner.endpoints.at(request.uri().path()) {
            None => EndpointFuture::inner(self.inner.call(request)),
            Some(endpoint) => {
                EndpointFuture::own(Box::pin(EndpointServiceFuture::new(&self.server, endpoint, request)))
            }
        }
    }
}

/// A single endpoint of an [`AuthorizationServer`] as a service. It answers at every path. Use it with
/// `Router::route_service`, or to serve an endpoint on another listener.
///
/// ```
/// use axum::Router;
/// use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
///
/// let server = AuthorizationServer::new("https://auth.example.com", KeyRing::generate()?, MemoryStore::default())?;
/// let app: Router = Router::new()
///     .route_service("/token", server.token_service())
///     .route_service("/.well-known/jwks.json", server.jwks_service())
///     .route_service("/.well-known/oauth-authorization-server", server.metadata_service());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct EndpointService {
    server: AuthorizationServer,
    endpoint: Endpoint,
}

impl EndpointService {
    pub(super) fn new(server: AuthorizationServer, endpoint: Endpoint) -> Self {
        Self { server, endpoint }
    }
}

impl<B> Service<Request<B>> for EndpointService
where
    B: Body<Error: Into<BoxError>>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = EndpointServiceFuture<B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        EndpointServiceFuture::new(&self.server, self.endpoint, request)
    }
}
