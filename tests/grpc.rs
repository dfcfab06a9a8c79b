//! gRPC behind a guard, as seen by tonic's own clients: each kind of call over HTTP/2, and gRPC-Web over HTTP/1.1. The token
//! endpoint is on the same port.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::forge::good;
use common::request::{GRANT, billing_asks};
use common::stack::{Answer, Protocol, Site};
use common::{API, READ, WRITE, server};
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use http::uri::PathAndQuery;
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tonic::client::{Grpc, GrpcService};
use tonic::codegen::{Body as HttpBody, Bytes, StdError};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tonic_web::{GrpcWebClientLayer, GrpcWebLayer};
use tower::{ServiceBuilder, ServiceExt as _, service_fn};
use tower_client_credentials::event::{self, Outcome};
use tower_client_credentials::resource_server::Forbidden;
use tower_client_credentials::verification::Unavailable;
use tower_client_credentials::{BearerAuthLayer, TokenEndpointLayer, VerifiedToken};

/// A service with a method of each kind. Its messages are `google.protobuf.StringValue`, which prost maps to `String`.
async fn echo<B>(request: http::Request<B>) -> Result<http::Response<tonic::body::Body>, Infallible>
where
    B: HttpBody<Error: Into<StdError> + Send> + Send + 'static,
{
    let mut grpc = tonic::server::Grpc::new(ProstCodec::<String, String>::default());
    Ok(match request.uri().path() {
        "/test.Echo/unary" => grpc.unary(service_fn(unary), request).await,
        "/test.Echo/server_streaming" => grpc.server_streaming(service_fn(server_streaming), request).await,
        "/test.Echo/client_streaming" => grpc.client_streaming(service_fn(client_streaming), request).await,
        "/test.Echo/streaming" => grpc.streaming(service_fn(streaming), request).await,
        path => Status::unimplemented(path).into_http(),
    })
}

fn greeting<T>(request: &Request<T>) -> String {
    let token: &VerifiedToken = request.extensions().get().expect("a proof");
    format!("hello {}", token.client_id())
}

async fn unary(request: Request<String>) -> Result<Response<String>, Status> {
    Ok(Response::new(greeting(&request)))
}

/// Sends one message and then nothing more, and does not end.
async fn server_streaming(
    request: Request<String>,
) -> Result<Response<impl Stream<Item = Result<String, Status>>>, Status> {
    Ok(Response::new(stream::iter([Ok(greeting(&request))]).chain(stream::pending())))
}

/// Responds after the stream of requests has ended.
async fn client_streaming(request: Request<Streaming<String>>) -> Result<Response<String>, Status> {
    let greeting = greeting(&request);
    let mut messages = request.into_inner();
    while messages.message().await?.is_some() {}
    Ok(Response::new(greeting))
}

/// Sends one message, and then reads.
async fn streaming(
    request: Request<Streaming<String>>,
) -> Result<Response<impl Stream<Item = Result<String, Status>>>, Status> {
    let listening = |request: Request<Streaming<String>>| request.into_inner().filter(|_| std::future::ready(false));
    Ok(Response::new(stream::iter([Ok(greeting(&request))]).chain(listening(request))))
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Unary,
    ServerStreaming,
    ClientStreaming,
    Streaming,
}

const KINDS: [Kind; 4] = [Kind::Unary, Kind::ServerStreaming, Kind::ClientStreaming, Kind::Streaming];

/// The protocol, and on which side of the guard gRPC-Web is translated.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wire {
    Http2,
    WebInside,
    WebOutside,
}

const WIRES: [Wire; 3] = [Wire::Http2, Wire::WebInside, Wire::WebOutside];

fn guard() -> BearerAuthLayer {
    BearerAuthLayer::new(server().verifier(API).unwrap())
}

async fn serve(guard: BearerAuthLayer, wire: Wire) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = TokenEndpointLayer::new(server());
    let http = Server::builder().accept_http1(true).layer(endpoint);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(async move {
        match wire {
            Wire::Http2 => http.layer(guard).serve_with_incoming(service_fn(echo), incoming).await,
            Wire::WebInside => {
                let http = http.layer(guard).layer(GrpcWebLayer::new());
                http.serve_with_incoming(service_fn(echo), incoming).await
            }
            Wire::WebOutside => {
                // The translated request still says that it arrived over HTTP/1.1.
                let guard = guard.dangerous_grpc_refusals_over_http1();
                let http = http.layer(GrpcWebLayer::new()).layer(guard);
                http.serve_with_incoming(service_fn(echo), incoming).await
            }
        }
    });
    address
}

/// Makes a call with one message. If the method takes a stream, it does not end. Reads the first message of the response and
/// the next result.
async fn call(address: SocketAddr, wire: Wire, kind: Kind, authorization: Option<&str>) -> Called {
    let origin: http::Uri = format!("http://{address}").parse().unwrap();
    if wire == Wire::Http2 {
        let channel = Endpoint::from(origin).connect().await.unwrap();
        return call_by(Grpc::new(channel), kind, authorization).await;
    }
    let client = Client::builder(TokioExecutor::new()).build_http();
    let web = ServiceBuilder::new().layer(GrpcWebClientLayer::new()).service(client);
    call_by(Grpc::with_origin(web, origin), kind, authorization).await
}

type Called = Result<(String, Option<Streaming<String>>), Status>;

async fn call_by<T>(mut grpc: Grpc<T>, kind: Kind, authorization: Option<&str>) -> Called
where
    T: GrpcService<tonic::body::Body>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    grpc.ready().await.map_err(Into::into).unwrap();
    let codec = ProstCodec::<String, String>::default();
    let message = || authorized("hi".to_owned(), authorization);
    let messages = || authorized(stream::iter(["hi".to_owned()]).chain(stream::pending()), authorization);
    let streaming = match kind {
        Kind::Unary => return Ok((grpc.unary(message(), path("unary"), codec).await?.into_inner(), None)),
        Kind::ClientStreaming => {
            let answer = grpc.client_streaming(messages(), path("client_streaming"), codec).await?;
            return Ok((answer.into_inner(), None));
        }
        Kind::ServerStreaming => grpc.server_streaming(message(), path("server_streaming"), codec).await,
        Kind::Streaming => grpc.streaming(messages(), path("streaming"), codec).await,
    };
    let mut streaming = streaming?.into_inner();
    Ok((streaming.message().await?.expect("a message"), Some(streaming)))
}

fn path(method: &str) -> PathAndQuery {
    format!("/test.Echo/{method}").parse().unwrap()
}

fn authorized<T>(message: T, authorization: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(value) = authorization {
        request.metadata_mut().insert("authorization", value.parse().unwrap());
    }
    request
}

fn bearer(scope: &str) -> String {
    format!("Bearer {}", good().claim("scope", scope).sign())
}

/// Calls each method over each protocol, and asserts that each is refused with this status and this `www-authenticate`.
async fn assert_refused(
    guard: BearerAuthLayer,
    authorization: Option<&str>,
    (code, message): (Code, &str),
    challenge: Option<&str>,
) {
    for wire in WIRES {
        let address = serve(guard.clone(), wire).await;
        for kind in KINDS {
            let answer = tokio::time::timeout(PATIENCE, call(address, wire, kind, authorization)).await;
            let Err(status) = answer.expect("an answer in time") else { panic!("{kind:?} over {wire:?} was admitted") };
            assert_eq!((status.code(), status.message()), (code, message), "{kind:?} over {wire:?}: {status:?}");
            let metadata = status.metadata().get("www-authenticate").map(|value| value.to_str().unwrap());
            assert_eq!(metadata, challenge, "{kind:?} over {wire:?}");
            assert_eq!(status.metadata().get("retry-after").is_some(), code == Code::Unavailable, "{status:?}");
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_valid_token_opens_each_kind_of_call() {
    let authorization = bearer("invoices:read");
    for wire in WIRES {
        let address = serve(guard().require_scope(READ), wire).await;
        for kind in [Kind::Unary, Kind::ServerStreaming] {
            let (greeting, _) = call(address, wire, kind, Some(&authorization)).await.unwrap();
            assert_eq!(greeting, "hello billing", "{kind:?} over {wire:?}");
        }
    }
    // gRPC-Web has no streams of requests.
    let address = serve(guard().require_scope(READ), Wire::Http2).await;
    let (greeting, _) = call(address, Wire::Http2, Kind::Streaming, Some(&authorization)).await.unwrap();
    assert_eq!(greeting, "hello billing");
    let channel = Endpoint::from(format!("http://{address}").parse::<http::Uri>().unwrap()).connect().await.unwrap();
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.unwrap();
    let request = authorized(stream::iter(["a".to_owned(), "b".to_owned()]), Some(&authorization));
    let answer =
        grpc.client_streaming(request, path("client_streaming"), ProstCodec::<String, String>::default()).await;
    assert_eq!(answer.unwrap().into_inner(), "hello billing");
}

#[tokio::test]
async fn a_call_without_a_token_is_unauthenticated() {
    let expected = (Code::Unauthenticated, "an access token is needed");
    assert_refused(guard(), None, expected, Some(r#"Bearer realm="https://api.example.com""#)).await;
}

#[tokio::test]
async fn a_call_with_a_malformed_header_or_a_bad_token_is_unauthenticated() {
    let challenge = r#"Bearer realm="https://api.example.com", error="invalid_request", error_description="one bearer token is expected""#;
    let expected = (Code::Unauthenticated, "one bearer token is expected");
    assert_refused(guard(), Some("Bearer a b"), expected, Some(challenge)).await;
    let challenge = r#"Bearer realm="https://api.example.com", error="invalid_token", error_description="the access token is not valid here""#;
    let expected = (Code::Unauthenticated, "the access token is not valid here");
    assert_refused(guard(), Some("Bearer a.b.c"), expected, Some(challenge)).await;
}

#[tokio::test]
async fn an_insufficient_token_is_denied_permission() {
    let challenge = r#"Bearer realm="https://api.example.com", error="insufficient_scope", error_description="the access token lacks a scope", scope="invoices:write""#;
    let expected = (Code::PermissionDenied, "the access token lacks a scope");
    assert_refused(guard().require_scope(WRITE), Some(&bearer("invoices:read")), expected, Some(challenge)).await;

    let forbids = guard().policy(|_, _| Err(Forbidden::new("not on a Sunday").into()));
    let expected = (Code::PermissionDenied, "the access token does not permit this request");
    let challenge = r#"Bearer realm="https://api.example.com""#;
    assert_refused(forbids, Some(&bearer("")), expected, Some(challenge)).await;
}

#[tokio::test]
async fn an_unavailable_request_is_unavailable() {
    let unsure = guard().policy(|_, _| Err(Unavailable::by_policy("the ledger is closed").into()));
    assert_refused(unsure, Some(&bearer("")), (Code::Unavailable, "try again later"), None).await;
}

/// A POST of an empty gRPC message, which no client library would write.
async fn post(address: SocketAddr, content_type: &str, protocol: Protocol) -> Answer {
    let request = common::request::post(&b"\0\0\0\0\0"[..]).content_types(&[content_type]).to("/test.Echo/unary");
    Site::at(address, protocol).send(request).await
}

#[tokio::test]
async fn a_refusal_has_a_known_content_type_and_its_metadata_where_the_protocol_expects_it() {
    let address = serve(guard(), Wire::Http2).await;
    for (content_type, answered, protocols) in [
        ("application/grpc", "application/grpc", &[Protocol::H2c][..]),
        ("application/grpc+proto", "application/grpc+proto", &[Protocol::H2c]),
        ("application/grpc+json", "application/grpc+json", &[Protocol::H2c]),
        ("application/grpc+chosen-by-the-caller", "application/grpc", &[Protocol::H2c]),
        ("application/grpc-web", "application/grpc-web", BOTH),
        ("application/grpc-web+proto;charset=utf-8", "application/grpc-web+proto", BOTH),
        ("application/grpc-web+chosen-by-the-caller", "application/grpc-web", BOTH),
        ("application/grpc-web-text", "application/grpc-web-text", BOTH),
        ("application/grpc-web-text+proto", "application/grpc-web-text+proto", BOTH),
    ] {
        for protocol in protocols.iter().copied() {
            let answer = post(address, content_type, protocol).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.header("content-type"), Some(answered), "{answer:?}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
            assert_eq!(metadata(&answer, answered), UNAUTHENTICATED, "{answer:?}");
        }
    }
    for content_type in ["application/json", "application/grpcurl"] {
        let answer = post(address, content_type, Protocol::H2c).await;
        assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (401, None), "{content_type}");
    }
}

const METADATA: [&str; 3] = ["grpc-status", "grpc-message", "www-authenticate"];
const UNAUTHENTICATED: [Option<&str>; 3] =
    [Some("16"), Some("an access token is needed"), Some(r#"Bearer realm="https://api.example.com""#)];

/// Returns the metadata of a refusal: in the headers for gRPC, and in the body for gRPC-Web, whose headers have none.
fn metadata<'a>(answer: &'a Answer, content_type: &str) -> [Option<&'a str>; 3] {
    let headers = METADATA.map(|name| answer.header(name));
    if !content_type.starts_with("application/grpc-web") {
        assert!(answer.body.is_empty(), "{answer:?}");
        return headers;
    }
    assert_eq!(headers, [None; 3], "{answer:?}");
    let is_text = content_type.contains("-text");
    let body = if is_text { STANDARD.decode(&answer.body).unwrap() } else { answer.body.to_vec() };
    let (head, trailers) = body.split_first_chunk::<5>().unwrap();
    assert_eq!(head, &[0x80, 0, 0, 0, u8::try_from(trailers.len()).unwrap()], "{answer:?}");
    let trailers: &'a str = String::from_utf8(trailers.to_vec()).unwrap().leak();
    METADATA.map(|name| trailers.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(':')))
}

const BOTH: &[Protocol] = &[Protocol::Http1, Protocol::H2c];

/// Every refusal of a layer, by its HTTP status.
fn refusals() -> [(BearerAuthLayer, Option<String>, u16); 6] {
    let unsure = guard().policy(|_, _| Err(Unavailable::by_policy("the ledger is closed").into()));
    let forbids = guard().policy(|_, _| Err(Forbidden::new("not on a Sunday").into()));
    [
        (guard(), None, 401),
        (guard(), Some("Bearer a b".to_owned()), 400),
        (guard(), Some("Bearer a.b.c".to_owned()), 401),
        (guard().require_scope(WRITE), Some(bearer("invoices:read")), 403),
        (forbids, Some(bearer("")), 403),
        (unsure, Some(bearer("")), 503),
    ]
}

async fn refused_call(guard: BearerAuthLayer, authorization: Option<&str>, of: (&str, Protocol)) -> Answer {
    let (content_type, protocol) = of;
    let address = serve(guard, Wire::Http2).await;
    let mut request = common::request::post(&b"\0\0\0\0\0"[..]).content_types(&[content_type]).to("/test.Echo/unary");
    if let Some(value) = authorization {
        request = request.header(http::header::AUTHORIZATION, value);
    }
    Site::at(address, protocol).send(request).await
}

fn assert_refused_as_http(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!((answer.header("grpc-status"), answer.header("grpc-message")), (None, None), "{answer:?}");
    assert_eq!(answer.header("content-type"), None, "{answer:?}");
    let name = if status == 503 { "retry-after" } else { "www-authenticate" };
    assert!(answer.header(name).is_some(), "{answer:?}");
}

#[tokio::test]
async fn a_grpc_call_over_http_1_is_refused_by_its_http_status() {
    for (guard, authorization, status) in refusals() {
        for content_type in ["application/grpc", "application/grpc+proto", "application/grpc+chosen-by-the-caller"] {
            let call = (content_type, Protocol::Http1);
            let answer = refused_call(guard.clone(), authorization.as_deref(), call).await;
            assert_refused_as_http(&answer, status);
        }
    }
}

/// An extractor refuses by the same rule as the layer of its route.
#[tokio::test]
async fn an_extractor_refuses_grpc_by_http_status_over_http_1_and_by_grpc_status_over_http_2() {
    struct Write;
    impl tower_client_credentials::resource_server::Permission for Write {
        const SCOPE: tower_client_credentials::Scope = WRITE;
    }
    let route = axum::routing::post(async |_: tower_client_credentials::resource_server::Authorized<Write>| ());
    let served = |guard: BearerAuthLayer| axum::Router::new().route("/", route.clone().layer(guard));
    let off = served(guard().without_grpc_refusals());
    let on = served(guard());
    for (app, version, status, grpc_status) in [
        (&on, http::Version::HTTP_11, 403, None),
        (&on, http::Version::HTTP_2, 200, Some("7")),
        (&off, http::Version::HTTP_2, 403, None),
    ] {
        let request = http::Request::post("/").version(version).header("content-type", "application/grpc");
        let request = request.header("authorization", bearer("invoices:read")).body(axum::body::Body::empty()).unwrap();
        let answer = app.clone().oneshot(request).await.unwrap();
        let told = answer.headers().get("grpc-status").map(|value| value.to_str().unwrap());
        assert_eq!((answer.status().as_u16(), told), (status, grpc_status), "{version:?}");
    }
}

#[tokio::test]
async fn without_grpc_refusals_every_call_is_refused_by_its_http_status() {
    for (guard, authorization, status) in refusals() {
        for content_type in ["application/grpc", "application/grpc-web", "application/grpc-web-text"] {
            for protocol in [Protocol::Http1, Protocol::H2c] {
                let guard = guard.clone().without_grpc_refusals();
                let answer = refused_call(guard, authorization.as_deref(), (content_type, protocol)).await;
                assert_refused_as_http(&answer, status);
            }
        }
    }
}

/// A gRPC-Web layer outside of the guard translates the HTTP status into a gRPC status, without our message.
#[tokio::test]
async fn inside_a_grpc_web_translation_the_http_status_becomes_a_grpc_status() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let http = Server::builder().accept_http1(true).layer(GrpcWebLayer::new()).layer(guard());
    tokio::spawn(http.serve_with_incoming(service_fn(echo), TcpIncoming::from(listener)));
    let status = call(address, Wire::WebOutside, Kind::Unary, None).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    assert_eq!(call(address, Wire::WebOutside, Kind::Unary, Some(&bearer(""))).await.unwrap().0, "hello billing");
}

#[tokio::test]
async fn the_token_endpoint_is_on_the_same_port() {
    for wire in WIRES {
        let address = serve(guard(), wire).await;
        for protocol in [Protocol::Http1, Protocol::H2c] {
            let token = Site::at(address, protocol).send(billing_asks(GRANT)).await.assert_token();
            let authorization = format!("Bearer {token}");
            let (greeting, _) = call(address, wire, Kind::Unary, Some(&authorization)).await.unwrap();
            assert_eq!(greeting, "hello billing");
        }
    }
}

/// The remaining life of a `good()` token: its 600 seconds, and the leeway.
const LEFT: Duration = Duration::from_secs(605);
const ALMOST: Duration = Duration::from_secs(604);

/// A stream that has sent a message and has no more. Time is paused from here on.
async fn open_stream(guard: BearerAuthLayer, wire: Wire, kind: Kind) -> Streaming<String> {
    let address = serve(guard, wire).await;
    let (_, open) = call(address, wire, kind, Some(&bearer(""))).await.unwrap();
    tokio::time::pause();
    open.unwrap()
}

/// Advances the time, and lets all tasks react.
async fn pass(time: Duration) {
    tokio::time::advance(time).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Waits for something that must already have happened: paused time advances when all tasks are idle.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("an end in time")
}

#[tokio::test]
async fn a_stream_ends_as_unauthenticated_when_its_token_expires_where_enabled() {
    for (wire, kind) in [
        (Wire::Http2, Kind::ServerStreaming),
        (Wire::Http2, Kind::Streaming),
        (Wire::WebInside, Kind::ServerStreaming),
        (Wire::WebOutside, Kind::ServerStreaming),
    ] {
        let mut open = open_stream(guard().end_at_expiry(), wire, kind).await;
        pass(ALMOST).await;
        assert!(open.message().now_or_never().is_none(), "it is open yet");
        pass(Duration::from_secs(2)).await;
        let status = soon(open.message()).await.unwrap_err();
        let expected = (Code::Unauthenticated, "the access token has expired");
        assert_eq!((status.code(), status.message()), expected, "{kind:?} over {wire:?}: {status:?}");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_stream_outlives_its_token_by_default() {
    let mut open = open_stream(guard(), Wire::Http2, Kind::ServerStreaming).await;
    pass(LEFT * 2).await;
    assert!(open.message().now_or_never().is_none());
}

#[tokio::test]
async fn a_call_without_a_response_yet_is_refused_when_its_token_expires() {
    let (events, mut listener) = event::channel();
    let address = serve(guard().end_at_expiry().events(events), Wire::Http2).await;
    let call = tokio::spawn(async move { call(address, Wire::Http2, Kind::ClientStreaming, Some(&bearer(""))).await });
    assert!(matches!(listener.recv().await.unwrap().outcome, Outcome::Admitted { .. }));
    tokio::time::pause();
    pass(ALMOST).await;
    assert!(!call.is_finished());
    pass(Duration::from_secs(2)).await;
    let status = soon(call).await.unwrap().unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "the access token is not valid here"));
}

#[tokio::test]
async fn a_stream_of_grpc_web_text_ends_in_base64() {
    let address = serve(guard().end_at_expiry(), Wire::WebInside).await;
    let message = STANDARD.encode(b"\0\0\0\0\0");
    let request = common::request::post(message)
        .content_types(&["application/grpc-web-text"])
        .header(http::header::ACCEPT, "application/grpc-web-text")
        .header(http::header::AUTHORIZATION, &bearer(""))
        .to("/test.Echo/server_streaming");
    let client: Client<_, common::stack::Body> = Client::builder(TokioExecutor::new()).build_http();
    let mut request = http::Request::from(request);
    *request.uri_mut() = format!("http://{address}{}", request.uri()).parse().unwrap();
    let mut body = client.request(request).await.unwrap().into_body();
    let greeting = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(STANDARD.decode(&greeting).unwrap().ends_with(b"hello billing"));
    tokio::time::pause();
    pass(LEFT + Duration::from_secs(1)).await;
    let end = soon(body.frame()).await.unwrap().unwrap().into_data().unwrap();
    let text = String::from_utf8(STANDARD.decode(&end).unwrap().split_off(5)).unwrap();
    assert_eq!(text, "grpc-status:16\r\ngrpc-message:the access token has expired\r\n");
    assert!(body.frame().await.is_none());
}
