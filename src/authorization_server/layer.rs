//! [`TokenEndpointLayer`]: adds the endpoints of an [`AuthorizationServer`] to a service.

use tower::Layer;

use super::{AuthorizationServer, TokenEndpoint};

/// A layer that answers requests to the endpoints of an [`AuthorizationServer`], and forwards all other requests.
///
/// 1. A form `POST` to the token path is answered with a token, or with an error of RFC 6749 §5.2.
/// 2. `GET` and `HEAD` of the key set and the metadata are answered from memory.
/// 3. A request to any other path is forwarded to the wrapped service unchanged, without reading or allocating
///    anything.
///
/// The layer wraps any `Service<Request<B>>`. Its responses have a [`ResponseBody`](crate::transport::ResponseBody).
///
/// # With axum
///
/// `Router::layer` wraps the routes and the fallback that the router has at that time. So the structure decides whether
/// a request to the token path reaches this layer:
///
/// | structure | reached? |
/// |---|---|
/// | `router.layer(token)` | yes |
/// | `other.merge(router.layer(token))` | yes |
/// | `token.layer(router)`, served by `axum::serve` after mapping the body (below) | yes |
/// | `router.route_service("/token", server.token_service())` | yes, at the path of the route |
/// | `router.route_layer(token)` | **no**: a route layer runs on matched routes only |
/// | `router.layer(token).merge(other)` | **no**: the merged router has its own fallback |
/// | `router.layer(token).fallback(f)` | **no**: the later fallback takes precedence |
/// | `.nest("/api", router.layer(token))` | **no**: a nested router without its own fallback inherits the outer one |
///
/// When in doubt, use the services ([`AuthorizationServer::token_service`] and similar) as routes: they answer at every
/// path.
///
/// # Behind a proxy with a path
///
/// With an issuer such as `https://host.example/auth`, the host also serves other applications. A proxy forwards two
/// paths to this server: `/auth/`, and the metadata path, which RFC 8414 §3.1 puts before the issuer's path. Both proxy
/// configurations need at most one setting:
///
/// | the proxy | the server receives | setting |
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
/// Requests contain client secrets in plain text. Use TLS, and do not log bodies or `Authorization` headers of the
/// token path (`tower_http::sensitive_headers` marks such headers).
///
/// A caller may put a secret or a token into the query by mistake. The request is refused, but a layer that logs the
/// whole URI, such as `tower_http::trace::TraceLayer::new_for_http`, has already logged it. Use `make_span_with` to
/// create a span with the path only, as in the example `standalone`.
///
/// The token endpoint itself limits the size of a body and its time of arrival. Put a body timeout of another layer
/// (`tower_http::timeout`) inside of this layer. Otherwise it may fire first, with a different response.
///
/// # Limits that only the server can set
///
/// A layer receives a request after the server has parsed its head. Only settings of the server limit these attacks,
/// here those of `hyper_util::server::conn::auto::Builder`:
///
/// | attack | setting |
/// |---|---|
/// | slow heads | `http1().timer(…).header_read_timeout(…)`; without a timer there is no limit |
/// | long heads | `http1().max_buf_size(…)`, `http2().max_header_list_size(…)` |
/// | slow bodies on many streams, responses that are not read | `http2().max_concurrent_streams(…)` |
/// | bodies that are not read | `http2().initial_connection_window_size(…)` |
/// | streams that are reset immediately | `http2().max_pending_accept_reset_streams(…)`, `http2().max_local_error_reset_streams(…)` |
/// | clients that have disappeared | `http2().timer(…).keep_alive_interval(…)` |
/// | idle connections, too many connections | your own deadlines and semaphore |
///
/// The example `standalone` sets all of them; the page [connections](crate::manual::connections) lists the values and
/// the reasons. `axum::serve` has none of these settings: use a reverse proxy with such limits, or serve the router as in
/// the example.
///
/// A compressed form (`Content-Encoding`) is refused with 415. Trailers are ignored. Over HTTP/2, hyper does not answer
/// `Expect: 100-continue`: a client that waits for it gets 408 after the body timeout.
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
/// A whole axum router behind the layer:
///
/// ```no_run
/// use axum::{Router, ServiceExt, body::Body, extract::Request, response::Response};
/// use tower::{Layer, ServiceBuilder};
/// use tower_client_credentials::transport::ResponseBody;
/// use tower_client_credentials::TokenEndpointLayer;
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
    /// Creates a layer with the endpoints of this server.
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
