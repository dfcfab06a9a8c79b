//! The client over sockets, with a server of this crate: hyper over HTTP/1.1 and HTTP/2, reqwest, and each kind of call of
//! tonic. Each client calls, has its token revoked, and calls again successfully.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::uri::PathAndQuery;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tonic::client::Grpc;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::{Layer as _, Service as _, ServiceBuilder, ServiceExt as _, service_fn};
use tower_client_credentials::client::{CachedTokenSource, CallError, ClientCredentialsService, Replay};
use tower_client_credentials::{
    AuthorizationServer, BearerAuthLayer, Client, ClientCredentials, ClientCredentialsLayer, ClientId, ClientSecret,
    KeyRing, MemoryStore, Revocations, Scope, TokenEndpointLayer, VerifiedToken,
};

const API: &str = "https://api.example.com";
const READ: Scope = Scope::from_static("read");
const BILLING: ClientId = ClientId::from_static("billing");

/// A server with a token endpoint, and with a protected echo for HTTP and gRPC.
struct Site {
    url: String,
    revocations: Revocations,
    source: CachedTokenSource,
}

impl Site {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let secret = ClientSecret::generate().unwrap();
        let store = MemoryStore::try_from([Client::new("billing", &secret).scope(READ).audience(API)]).unwrap();
        let revocations = Revocations::follow(store.clone()).await.unwrap();
        let server = AuthorizationServer::builder(&url, KeyRing::generate().unwrap(), store)
            .revocations(revocations.clone())
            .build()
            .unwrap();
        let protect = BearerAuthLayer::new(server.verifier(API).unwrap()).require_scope(READ);
        let service = Server::builder().accept_http1(true).layer(TokenEndpointLayer::new(server)).layer(protect);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        tokio::spawn(service.serve_with_incoming(service_fn(echo), incoming));
        // Uses the HTTP client of feature `remote`, and discovery.
        let source = ClientCredentials::new(&url, "billing", secret).resource(API).scope(READ).build().unwrap();
        Self { url, revocations, source }
    }

    fn layer(&self) -> ClientCredentialsLayer {
        ClientCredentialsLayer::from_source(self.source.clone(), &self.url).unwrap()
    }

    /// Revokes the token in use, so that the next call is first refused.
    async fn revoke(&self) {
        let token = self.source.token().await.unwrap();
        let claims = URL_SAFE_NO_PAD.decode(token.expose().split('.').nth(1).unwrap()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        self.revocations.revoke_token(&BILLING, claims["jti"].as_str().unwrap()).await.unwrap();
    }

    /// Checks that two tokens were obtained: the first, and its replacement after the revocation.
    fn assert_renewed_once(&self) {
        let statistics = self.source.statistics();
        assert_eq!((statistics.obtained, statistics.refused, statistics.failed), (2, 1, 0), "{statistics:?}");
    }
}

type Messages = Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;

async fn echo(request: http::Request<tonic::body::Body>) -> Result<http::Response<tonic::body::Body>, Infallible> {
    let mut grpc = tonic::server::Grpc::new(ProstCodec::<String, String>::default());
    Ok(match request.uri().path() {
        "/test.Echo/unary" => grpc.unary(service_fn(unary), request).await,
        "/test.Echo/server_streaming" => grpc.server_streaming(service_fn(server_streaming), request).await,
        "/test.Echo/client_streaming" => grpc.client_streaming(service_fn(client_streaming), request).await,
        "/test.Echo/streaming" => grpc.streaming(service_fn(streaming), request).await,
        _ => {
            let token: &VerifiedToken = request.extensions().get().unwrap();
            let greeting = format!("{} says ", token.client_id());
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let body = [greeting.as_bytes(), &body].concat();
            http::Response::new(tonic::body::Body::new(Full::<Bytes>::from(body)))
        }
    })
}

async fn unary(request: Request<String>) -> Result<Response<String>, Status> {
    Ok(Response::new(request.into_inner()))
}

async fn server_streaming(request: Request<String>) -> Result<Response<Messages>, Status> {
    Ok(Response::new(stream::iter([Ok(request.into_inner()), Ok("end".to_owned())]).boxed()))
}

async fn client_streaming(request: Request<Streaming<String>>) -> Result<Response<String>, Status> {
    let messages: Vec<String> = request.into_inner().map(Result::unwrap).collect().await;
    Ok(Response::new(messages.join(",")))
}

async fn streaming(request: Request<Streaming<String>>) -> Result<Response<Messages>, Status> {
    Ok(Response::new(request.into_inner().boxed()))
}

#[tokio::test]
async fn hyper_over_http_1_and_2() {
    for is_http2 in [false, true] {
        let site = Site::start().await;
        let client = HyperClient::builder(TokioExecutor::new()).http2_only(is_http2).build_http::<Full<Bytes>>();
        let mut service = site.layer().layer(client);
        for round in 0..3 {
            if round == 2 {
                site.revoke().await;
            }
            let request = http::Request::post(format!("{}/echo", site.url)).body(Full::from("hello")).unwrap();
            let response = service.ready().await.unwrap().call(request).await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "billing says hello");
        }
        site.assert_renewed_once();
    }
}

#[tokio::test]
async fn reqwest_behind_a_conversion() {
    let site = Site::start().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut service = ServiceBuilder::new()
        .layer(site.layer())
        .map_request(|request: http::Request<Bytes>| reqwest::Request::try_from(request).unwrap())
        .map_response(http::Response::<reqwest::Body>::from)
        .service(client);
    for round in 0..2 {
        if round == 1 {
            site.revoke().await;
        }
        let request = http::Request::post(format!("{}/echo", site.url)).body(Bytes::from("hello")).unwrap();
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "billing says hello");
    }
    site.assert_renewed_once();
}

type Channel = ClientCredentialsService<tonic::transport::Channel, Replay<tonic::body::Body>>;

async fn grpc(site: &Site) -> Grpc<Channel> {
    let channel = Endpoint::from_shared(site.url.clone()).unwrap().connect().await.unwrap();
    let layer = site.layer().base_origin(&site.url).unwrap().replay(tonic::body::Body::new);
    let mut grpc = Grpc::new(layer.layer(channel));
    grpc.ready().await.unwrap();
    grpc
}

fn codec() -> ProstCodec<String, String> {
    ProstCodec::default()
}

fn messages() -> impl Stream<Item = String> {
    stream::iter(["a", "b", "c"].map(str::to_owned))
}

/// Messages that are sent one by one, also after the call was refused.
fn slow_messages() -> impl Stream<Item = String> {
    messages().then(|message| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        message
    })
}

const UNARY: PathAndQuery = PathAndQuery::from_static("/test.Echo/unary");

#[tokio::test]
async fn each_kind_of_call_of_tonic() {
    let path = |kind| PathAndQuery::try_from(format!("/test.Echo/{kind}")).unwrap();
    let rest = async |answer: Response<Streaming<String>>| {
        answer.into_inner().map(Result::unwrap).collect::<Vec<_>>().await.join(",")
    };
    for kind in
        ["unary", "server_streaming", "client_streaming", "slow_client_streaming", "streaming", "slow_streaming"]
    {
        let site = Site::start().await;
        let mut grpc = grpc(&site).await;
        for round in 0..2 {
            if round == 1 {
                site.revoke().await;
            }
            grpc.ready().await.unwrap();
            let answer = match kind {
                "unary" => grpc.unary(Request::new("a".to_owned()), path(kind), codec()).await.unwrap().into_inner(),
                "server_streaming" => {
                    let request = Request::new("a".to_owned());
                    rest(grpc.server_streaming(request, path(kind), codec()).await.unwrap()).await
                }
                "client_streaming" => {
                    let request = Request::new(messages());
                    grpc.client_streaming(request, path(kind), codec()).await.unwrap().into_inner()
                }
                "slow_client_streaming" => {
                    let request = Request::new(slow_messages());
                    grpc.client_streaming(request, path("client_streaming"), codec()).await.unwrap().into_inner()
                }
                "streaming" => rest(grpc.streaming(Request::new(messages()), path(kind), codec()).await.unwrap()).await,
                _ => {
                    let request = Request::new(slow_messages());
                    rest(grpc.streaming(request, path("streaming"), codec()).await.unwrap()).await
                }
            };
            let expected = match kind {
                "unary" => "a",
                "server_streaming" => "a,end",
                _ => "a,b,c",
            };
            assert_eq!(answer, expected, "{kind}, round {round}");
        }
        site.assert_renewed_once();
    }
}

#[tokio::test]
async fn a_call_without_a_token_is_a_status_of_tonic_and_reaches_no_server() {
    let site = Site::start().await;
    let channel = Endpoint::from_shared(site.url.clone()).unwrap().connect().await.unwrap();
    let wrong = ClientSecret::generate().unwrap();
    let source = ClientCredentials::new(&site.url, "billing", wrong).resource(API).build().unwrap();
    let layer = ClientCredentialsLayer::from_source(source, &site.url).unwrap();
    let layer = layer.base_origin(&site.url).unwrap().replay(tonic::body::Body::new);
    let mut grpc = Grpc::new(layer.layer(channel));
    grpc.ready().await.unwrap();
    let status = grpc.unary(Request::new("a".to_owned()), UNARY, codec()).await.unwrap_err();
    let source = std::error::Error::source(&status).unwrap();
    let error = source.downcast_ref::<CallError>().unwrap();
    assert!(matches!(error, CallError::Token(error) if error.code() == Some("invalid_client")), "{error}");
}
