//! Each of our services behind each server: an axum router and a plain hyper service, over HTTP/1.1 and h2c.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::Request as AxumRequest;
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer, Service, ServiceExt as _, service_fn};
use tower_client_credentials::authorization_server::TokenError;
use tower_client_credentials::resource_server::BearerError;
use tower_client_credentials::{AuthorizationServer, BearerAuthLayer, Scope, TokenEndpointLayer, VerifiedToken};

use super::API;

pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A service that a [`Stack`] serves.
pub type App = BoxCloneSyncService<Request<Incoming>, Response<Body>, Infallible>;

/// The service that our layers wrap.
#[derive(Clone, Copy, Debug)]
pub enum Framework {
    Axum,
    Hyper,
}

/// The protocol of the sockets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Protocol {
    Http1,
    H2c,
}

#[derive(Clone, Copy, Debug)]
pub struct Stack {
    pub framework: Framework,
    pub protocol: Protocol,
}

/// Runs a test on each stack. A failing test prints its stack last.
pub async fn on_every_stack(row: impl AsyncFn(Stack)) {
    for framework in [Framework::Axum, Framework::Hyper] {
        for protocol in [Protocol::Http1, Protocol::H2c] {
            let stack = Stack { framework, protocol };
            println!("on {stack:?}");
            row(stack).await;
        }
    }
}

impl Stack {
    /// One stack, for tests whose result does not depend on the stack.
    pub const PLAIN: Self = Self { framework: Framework::Hyper, protocol: Protocol::Http1 };

    /// The token endpoint in front of a service that [reports](report) every request which reaches it.
    pub async fn issue(self, server: &AuthorizationServer) -> Site {
        self.serve(self.app(server, [])).await
    }

    /// The same, with the service behind guards; the last one is outermost.
    pub async fn protect<const N: usize>(self, server: &AuthorizationServer, guards: [BearerAuthLayer; N]) -> Site {
        self.serve(self.app(server, guards)).await
    }

    /// The service of [`protect`](Self::protect), for tests that wrap it further.
    pub fn app<const N: usize>(self, server: &AuthorizationServer, guards: [BearerAuthLayer; N]) -> App {
        let endpoints = TokenEndpointLayer::new(server.clone());
        match self.framework {
            Framework::Axum => {
                let router = Router::new().fallback(axum_handler);
                let router = guards.into_iter().fold(router, Router::layer);
                boxed(router.layer(endpoints))
            }
            Framework::Hyper => {
                let service =
                    guards.into_iter().fold(boxed(service_fn(hyper_handler)), |inner, guard| boxed(guard.layer(inner)));
                boxed(endpoints.layer(service))
            }
        }
    }

    pub async fn serve<S, B>(self, service: S) -> Site
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(accept(listener, boxed(for_operators(service))));
        Site::at(address, self.protocol)
    }
}

async fn accept(listener: TcpListener, app: App) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let service = TowerToHyperService::new(app.clone());
        tokio::spawn(async move {
            let mut server = auto::Builder::new(TokioExecutor::new());
            // Larger than our limit of 16 KiB on a token, so that hyper's limit on all headers does not apply first.
            server.http2().max_header_list_size(64 * 1024);
            // A caller that disconnects is not an error of the server.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn boxed<S, B>(service: S) -> App
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    BoxCloneSyncService::new(
        service.map_response(|response: Response<B>| response.map(|body| body.map_err(Into::into).boxed_unsync())),
    )
}

/// Passes the operator's message to the test: the error that travels with the response.
fn for_operators<S, B>(
    service: S,
) -> impl Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: 'static,
{
    service.map_response(|mut response: Response<B>| {
        let extensions = response.extensions();
        let reason = match (extensions.get::<TokenError>(), extensions.get::<BearerError>()) {
            (Some(error), _) => Some(error.to_string()),
            (None, Some(error)) => Some(error.to_string()),
            (None, None) => None,
        };
        if let Some(reason) = reason {
            response.headers_mut().insert(REASON, reason.try_into().unwrap());
        }
        response
    })
}

const REASON: header::HeaderName = header::HeaderName::from_static("x-reason");

/// Behind axum, with the extractor.
async fn axum_handler(token: Option<VerifiedToken>, request: AxumRequest) -> axum::Json<Value> {
    axum::Json(report(&request, token.as_ref()))
}

/// Behind hyper, with the extensions.
async fn hyper_handler(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let report = report(&request, request.extensions().get());
    Ok(Response::new(report.to_string().into()))
}

/// The inner service's view of a request.
fn report<B>(request: &Request<B>, token: Option<&VerifiedToken>) -> Value {
    let secs = |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    json!({
        "path": request.uri().path(),
        "authorization_is_sensitive": request.headers().get(header::AUTHORIZATION).map(http::HeaderValue::is_sensitive),
        "token": token.map(|token| json!({
            "client_id": token.client_id(),
            "subject": token.subject(),
            "scopes": token.scopes().iter().collect::<Vec<_>>(),
            "audiences": token.audiences().collect::<Vec<_>>(),
            "issuer": token.issuer(),
            "token_id": token.token_id(),
            "issued_at": secs(token.issued_at()),
            "expires_at": secs(token.expires_at()),
            "tenant": token.claims::<Tenant<'_>>().ok().map(|claims| claims.tenant),
        })),
    })
}

/// A claim that only the application knows.
#[derive(serde::Deserialize)]
struct Tenant<'a> {
    tenant: &'a str,
}

/// A listening server, as its callers see it.
#[derive(Clone, Debug)]
pub struct Site {
    pub address: SocketAddr,
    pub protocol: Protocol,
    client: Client<HttpConnector, Body>,
}

impl Site {
    pub fn at(address: SocketAddr, protocol: Protocol) -> Self {
        let is_h2c = protocol == Protocol::H2c;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).http2_only(is_h2c).build(connector);
        Self { address, protocol, client }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends a request whose URI is a path. A missing response is a failure, well before the default deadlines of a server.
    pub async fn send(&self, request: impl Into<Request<Body>>) -> Answer {
        let mut request = request.into();
        *request.uri_mut() = self.url(&request.uri().to_string()).parse::<Uri>().unwrap();
        let answer = async { Answer::read(self.client.request(request).await.unwrap()).await };
        tokio::time::timeout(PATIENCE, answer).await.expect("an answer in time")
    }

    /// The same without a deadline, for a request that a test delays.
    pub async fn send_patiently(&self, request: impl Into<Request<Body>>) -> Answer {
        let mut request = request.into();
        *request.uri_mut() = self.url(&request.uri().to_string()).parse::<Uri>().unwrap();
        Answer::read(self.client.request(request).await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::default()).unwrap()).await
    }

    /// Sends a GET with this `Authorization` header.
    pub async fn get_authorized(&self, authorization: &str) -> Answer {
        self.get_with(&[(header::AUTHORIZATION, authorization)]).await
    }

    pub async fn get_with(&self, headers: &[(header::HeaderName, &str)]) -> Answer {
        let request = headers.iter().fold(Request::get("/"), |request, (name, value)| request.header(name, *value));
        self.send(request.body(Body::default()).unwrap()).await
    }

    /// Opens a raw connection, for requests that a client library would not send.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request of another client library.
    pub async fn call(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, std::io::Error> {
        let request = request.map(|body| Full::from(body).map_err(|never| match never {}).boxed_unsync());
        let response = self.client.request(request).await.map_err(std::io::Error::other)?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        Ok(Response::from_parts(head, body.into()))
    }
}

const PATIENCE: Duration = Duration::from_secs(5);

/// A response, read to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: StatusCode,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The operator's text of a refusal, which no caller sees.
    pub reason: Option<String>,
}

impl Answer {
    pub async fn read<B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>>(response: Response<B>) -> Self {
        let (mut head, body) = response.into_parts();
        let reason = head.headers.remove(REASON).map(|reason| String::from_utf8(reason.as_bytes().to_vec()).unwrap());
        head.headers.remove(header::DATE);
        let body = body.collect().await.expect("a whole body").to_bytes();
        Self { status: head.status, version: head.version, headers: head.headers, body, reason }
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Returns the value of a header that occurs once.
    pub fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().map(|value| value.to_str().unwrap());
        assert_eq!(values.next(), None, "a header occurs twice in {self:?}");
        value
    }

    /// Asserts the headers and the character set of every response of the token endpoint (RFC 6749 §5).
    #[track_caller]
    pub fn assert_is_of_the_token_endpoint(&self) {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self:?}");
        assert_eq!(self.header("pragma"), Some("no-cache"), "{self:?}");
        let challenge = (self.status == 401).then_some(r#"Basic realm="https://auth.example.com", charset="UTF-8""#);
        assert_eq!(self.header("www-authenticate"), challenge, "{self:?}");
        assert_eq!(self.header("retry-after").is_some(), self.status == 503, "{self:?}");
        assert_eq!(self.header("allow"), (self.status == 405).then_some("POST"), "{self:?}");
    }

    /// Asserts a refusal of RFC 6749 §5.2, and nothing else.
    #[track_caller]
    pub fn assert_refused(&self, status: u16, error: &str) {
        assert_eq!(self.status, status, "{self:?}");
        self.assert_is_of_the_token_endpoint();
        let json = self.json();
        assert_eq!(json["error"], error, "{self:?}");
        let description = json["error_description"].as_str().unwrap();
        let is_allowed = |byte: u8| matches!(byte, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        assert!(!description.is_empty() && description.bytes().all(is_allowed), "{self:?}");
        assert_eq!(json.as_object().unwrap().len(), 2, "{self:?}");
    }

    /// Asserts a token response of RFC 6749 §5.1, and returns the token.
    #[track_caller]
    pub fn assert_token(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        self.assert_is_of_the_token_endpoint();
        self.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// Asserts a refusal of RFC 6750 §3: the status, and the rest of the challenge after the realm.
    #[track_caller]
    pub fn assert_challenged(&self, status: u16, rest: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("www-authenticate"), Some(format!("Bearer realm=\"{API}\"{rest}").as_str()), "{self:?}");
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self:?}");
        assert!(self.body.is_empty(), "{self:?}");
    }

    #[track_caller]
    pub fn assert_invalid_token(&self, reason: &dyn Error) {
        self.assert_invalid_token_where(reason, "");
    }

    /// The same on a route whose challenge ends with this.
    #[track_caller]
    pub fn assert_invalid_token_where(&self, reason: &dyn Error, scope: &str) {
        self.assert_challenged(401, &format!("{INVALID_TOKEN}{scope}"));
        // The reason is followed by the value found and the value expected.
        let found = self.reason.as_deref().unwrap_or_default();
        assert!(found.starts_with(&format!("invalid token: {reason}")), "{found}, expected: {reason}");
    }

    #[track_caller]
    pub fn assert_insufficient_scope(&self, required: &[Scope]) {
        let required: Vec<&str> = required.iter().map(Scope::as_str).collect();
        let rest = format!(
            ", error=\"insufficient_scope\", error_description=\"the access token lacks a scope\", scope=\"{}\"",
            required.join(" ")
        );
        self.assert_challenged(403, &rest);
    }
}

pub const NO_ERROR_CODE: &str = "";
pub const INVALID_TOKEN: &str = ", error=\"invalid_token\", error_description=\"the access token is not valid here\"";
pub const INVALID_REQUEST: &str = ", error=\"invalid_request\", error_description=\"one bearer token is expected\"";
