//! A guarded gRPC service, an unguarded health check, the token endpoint on the same port, and a client whose channel attaches
//! and renews tokens.
//!
//! `cargo run --example tonic` starts the service, calls it without a token and with one, and exits. The command
//! `BILLING_SECRET=… cargo run --example tonic -- 127.0.0.1:50051` serves until it is stopped. The code that `tonic-prost-build` would generate from a
//! `.proto` file is written by hand here, so that the example does not need `protoc`.

#![allow(clippy::print_stdout)] // its output is for people

#[path = "common/failure.rs"]
mod failure;

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::uri::PathAndQuery;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::BoxFuture;
use tonic::codegen::StdError;
use tonic::server::NamedService;
use tonic::service::LayerExt as _;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::{Layer as _, Service, service_fn};
use tower_client_credentials::resource_server::{Authorized, Permission};
use tower_client_credentials::{
    AuthorizationServer, BearerAuthLayer, Client, ClientCredentials, ClientCredentialsLayer, ClientSecret, KeyRing,
    MemoryStore, Scope, TokenEndpointLayer, VerifiedToken,
};

use self::failure::Failure;

const API: &str = "https://api.example.com";
const READ: Scope = Scope::from_static("invoices:read");
const LIST: &str = "/example.Invoices/List";

#[derive(Clone, PartialEq, prost::Message)]
struct ListRequest {
    #[prost(uint32, tag = "1")]
    most: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListResponse {
    #[prost(string, repeated, tag = "1")]
    invoices: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0")).await?;
    let url = format!("http://{}", listener.local_addr()?);

    let secret = if address.is_some() { ClientSecret::from_env("BILLING_SECRET")? } else { ClientSecret::generate()? };
    let clients =
        MemoryStore::try_from([Client::new("billing", &secret).scope(READ).default_scopes(READ).audience(API)])?;
    let server = AuthorizationServer::new(&url, KeyRing::generate()?, clients)?;
    let protect = BearerAuthLayer::new(server.verifier(API)?).end_at_expiry(); // a long stream ends with its token

    let (_, health) = tonic_health::server::health_reporter();
    let service = Server::builder()
        .accept_http1(true) // most OAuth clients request tokens over HTTP/1.1
        .layer(TokenEndpointLayer::new(server))
        .add_service(health) // for a load balancer, which has no token
        .add_service(protect.named_layer(Invoices))
        .serve_with_incoming(TcpIncoming::from(listener));
    if address.is_some() {
        println!("listening on {url}");
        return Ok(service.await?);
    }
    tokio::spawn(service);

    let channel = Channel::from_shared(url.clone())?.connect().await?;
    match list(channel.clone()).await {
        Ok(answer) => println!("without a token: {answer:?}"),
        Err(status) => println!("without a token: {:?}, {}", status.code(), status.message()),
    }

    // Uses hyper, so that the example needs no feature; feature `remote` provides a default HTTP client.
    let tokens = ClientCredentials::new(&url, "billing", secret)
        .resource(API)
        .scope(READ)
        .http_service(HttpClient::builder(TokioExecutor::new()).build_http())
        .build()?;
    // tonic's requests do not contain their origin, so it is set here. Their bodies are recorded in case the token is refused.
    let layer = ClientCredentialsLayer::from_source(tokens.clone(), &url)?.base_origin(&url)?.replay(Body::new);
    let channel = layer.layer(channel);
    println!("with a token: {:?}", list(channel.clone()).await?.invoices);

    // After a token is refused, for example because it was revoked, the channel gets a new one.
    tokens.invalidate(&tokens.token().await?);
    println!("with another: {:?}", list(channel).await?.invoices);
    Ok(())
}

/// The scope of a method as a type: holding `Authorized<ReadInvoices>` proves that the caller has it.
struct ReadInvoices;

impl Permission for ReadInvoices {
    const SCOPE: Scope = READ;
}

/// Behind `BearerAuthLayer` the extensions of every request contain a `VerifiedToken`.
async fn list_invoices(request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
    let token = request.extensions().get::<VerifiedToken>().ok_or(Status::internal("the service has no guard"))?;
    let caller: Authorized<ReadInvoices> =
        token.authorize().map_err(|_| Status::permission_denied("scope invoices:read is required"))?;
    let invoices = (1..=request.get_ref().most).map(|number| format!("invoice {number} for {}", caller.client_id()));
    Ok(Response::new(ListResponse { invoices: invoices.collect() }))
}

/// The service that `tonic-prost-build` would generate.
#[derive(Clone)]
struct Invoices;

impl NamedService for Invoices {
    const NAME: &'static str = "example.Invoices";
}

impl Service<http::Request<Body>> for Invoices {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
            Ok(match request.uri().path() {
                LIST => grpc.unary(service_fn(list_invoices), request).await,
                _ => Status::unimplemented("unknown method").into_http(),
            })
        })
    }
}

/// The client that `tonic-prost-build` would generate.
async fn list<S>(service: S) -> Result<ListResponse, Status>
where
    S: GrpcService<Body, Error: Into<StdError>>,
    S::ResponseBody: http_body::Body<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
{
    let mut grpc = tonic::client::Grpc::new(service);
    grpc.ready().await.map_err(|error| Status::unavailable(error.into().to_string()))?;
    let request = Request::new(ListRequest { most: 2 });
    let answer = grpc.unary(request, PathAndQuery::from_static(LIST), ProstCodec::default()).await?;
    Ok(answer.into_inner())
}
