//! [`TokenEndpointLayer`]: puts the endpoints of an [`AuthorizationServer`] in front of a service.

use tower::Layer;

use super::{AuthorizationServer, TokenEndpoint};

/// Answers the requests to the endpoints of an [`AuthorizationServer`], and leaves every other request alone.
///
/// 1. A `POST` of a form to the token path is answered with a token, or with the refusals of RFC 6749 §5.2.
/// 2. `GET` and `HEAD` of the key set and of the metadata are answered from memory.
/// 3. A request to any other path goes to the wrapped service as it is: nothing is read, allocated or added.
///
/// It wraps any `Service<Request<B>>`, and its answers have a [`ResponseBody`](crate::ResponseBody).
///
/// # With axum
///
/// `Router::layer` runs a layer behind the routes that it has so far and their fallback, so the shape decides
/// whether a request to the token path arrives:
///
/// | shape | reached? |
/// |---|---|
/// | `router.layer(token)` | yes |
/// | `other.merge(router.layer(token))` | yes |
/// | `token.layer(router)`, served by `axum::serve` after mapping the body (below) | yes |
/// | `router.route_service("/token", server.token_service())` | yes, at the path of the route |
/// | `router.route_layer(token)` | **no**: a route layer runs on matched routes only |
/// | `router.layer(token).merge(other)` | **no**: the merged router has a fallback of its own |
/// | `router.layer(token).fallback(f)` | **no**: the later fallback comes first |
/// | `.nest("/api", router.layer(token))` | **no**: a nested router without a fallback of its own gets the outer one's |
///
/// When in doubt, use the standalone services ([`AuthorizationServer::token_service`] and its siblings) as
/// routes: they answer wherever they are put.
///
/// # Behind a proxy with a path
///
/// An issuer such as `https://host.example/auth` shares its host with others, and a proxy sends two places to it: `/auth/`,
/// and that of the metadata, which RFC 8414 §3.1 puts before the issuer's path. Either way of the proxy needs one setting
/// at most:
///
/// | the proxy | arrives as | setting |
/// |---|---|---|
/// | keeps `/auth` | `/auth/token` | the issuer alone |
/// | removes `/auth` | `/token` | the issuer and [`proxy_strips_issuer_path`](super::AuthorizationServerBuilder::proxy_strips_issuer_path) |
///
/// Clients see the same URLs in both cases. In nginx:
///
/// ```text
/// location = /.well-known/oauth-authorization-server/auth { proxy_pass http://127.0.0.1:3000; }
/// location /auth/ { proxy_pass http://127.0.0.1:3000; }   # keeps /auth
/// location /auth/ { proxy_pass http://127.0.0.1:3000/; }  # or removes it, by the slash at the end
/// ```
///
/// # Deployment caveat
///
/// Client secrets arrive here in the clear. Put TLS in front, and the token path out of reach of whatever logs
/// bodies or `Authorization` headers (`tower_http::sensitive_headers` marks those).
///
/// A caller may put a secret or a token into the query by mistake. The request is refused, but a layer that logs the whole
/// URI has logged it, as `tower_http::trace::TraceLayer::new_for_http` does; give it a span with the path only, by
/// `make_span_with`. The example `standalone` shows how.
///
/// The token endpoint bounds the size of a body and the time that it takes by itself. A body deadline of another layer
/// (`tower_http::timeout`) belongs inside of this one, or it may fire before ours, and answer in its own way.
///
/// # Limits that only the server can set
///
/// A layer gets a request when the server has parsed its head. These attacks are bounded by settings of the server, here those
/// of `hyper_util::server::conn::auto::Builder`:
///
/// | attack | setting |
/// |---|---|
/// | heads that arrive slowly | `http1().timer(…).header_read_timeout(…)`; without a timer there is no limit |
/// | long heads | `http1().max_buf_size(…)`, `http2().max_header_list_size(…)` |
/// | slow bodies on many streams, answers that are not read | `http2().max_concurrent_streams(…)` |
/// | bodies that are not read | `http2().initial_connection_window_size(…)` |
/// | streams that are reset at once | `http2().max_pending_accept_reset_streams(…)`, `http2().max_local_error_reset_streams(…)` |
/// | clients that are gone | `http2().timer(…).keep_alive_interval(…)` |
/// | idle connections, and too many of them | deadlines and a semaphore of your own |
///
/// The example `standalone` sets them all, and `manual/connections.md` in the repository has the values with their reasons.
/// `axum::serve` has none of these settings: put a reverse proxy with such limits in front, or serve the router as the example
/// does.
///
/// A form that is compressed (`Content-Encoding`) is refused with 415, and trailers are ignored. Over HTTP/2, hyper does not
/// answer `Expect: 100-continue`: a client that waits for it gets a 408 when the time for the body is over.
///
/// # Example
///
/// ```
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use bytes::Bytes;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore, TokenEndpointLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = AuthorizationServer::new("https://auth.example.com", KeyRing::generate()?, MemoryStore::default())?;
/// let service = ServiceBuilder::new().layer(TokenEndpointLayer::new(server)).service_fn(
///     async |_: Request<Full<Bytes>>| Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::from("inner"))),
/// );
/// let request = Request::get("/.well-known/jwks.json").body(Full::default())?;
/// let response = service.oneshot(request).await?;
/// assert_eq!(response.headers()["content-type"], "application/jwk-set+json");
/// # Ok(())
/// # }
/// ```
///
/// The whole router behind the layer, with axum:
///
/// ```no_run
/// use axum::{Router, ServiceExt, body::Body, extract::Request, response::Response};
/// use tower::{Layer, ServiceBuilder};
/// use tower_client_credentials::{ResponseBody, TokenEndpointLayer};
/// # async fn serve(router: Router, server: tower_client_credentials::AuthorizationServer, listener: tokio::net::TcpListener) {
///
/// let app = ServiceBuilder::new()
///     .map_response(|response: Response<ResponseBody<Body>>| response.map(Body::new))
///     .layer(TokenEndpointLayer::new(server))
///     .service(router);
/// axum::serve(listener, ServiceExt::<Request>::into_make_service(app)).await.unwrap();
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TokenEndpointLayer {
    server: AuthorizationServer,
}

impl TokenEndpointLayer {
    /// The endpoints of this server.
    #[must_use]
    pub fn new(server: AuthorizationServer) -> Self {
        Self { server }
    }
}

impl<S> Layer<S> for TokenEndpointLayer {
    type Service = TokenEndpoint<S>;

    fn layer(&self, inner: S) -> TokenEndpoint<S> {
        TokenEndpoint::new(inner, self.server.clone())
    }
}
