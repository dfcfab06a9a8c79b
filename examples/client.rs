//! The client role: a hyper client and a reqwest client that share their tokens, and a request authorized without a layer.
//!
//! `cargo run --features axum,remote --example client` starts a service with a token endpoint, calls it in each of these ways, and
//! exits.

#![allow(clippy::print_stdout)] // its output is for people

#[path = "common/failure.rs"]
mod failure;

use axum::{Router, routing::get};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};
use tower_client_credentials::client::CallError;
use tower_client_credentials::{
    AuthorizationServer, BearerAuthLayer, Client, ClientCredentials, ClientCredentialsLayer, ClientSecret, KeyRing,
    MemoryStore, Scope, TokenEndpointLayer, VerifiedToken,
};

use self::failure::Failure;

const READ: Scope = Scope::from_static("invoices:read");

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let secret = ClientSecret::generate()?;
    let url = serve(&secret).await?;
    let invoices = format!("{url}/invoices");

    // One token source for all clients of this process. The token endpoint is discovered from the issuer's metadata.
    let tokens = ClientCredentials::new(&url, "billing", secret).resource(&url).scope(READ).build()?;
    let layer = ClientCredentialsLayer::from_source(tokens.clone(), &url)?;

    let mut hyper = layer.layer(HyperClient::builder(TokioExecutor::new()).build_http::<Full<Bytes>>());
    let response = hyper.ready().await?.call(Request::get(&invoices).body(Full::default())?).await?;
    println!("hyper: {}", text(response.into_body().collect().await?.to_bytes()));

    // reqwest has its own types for requests and responses. It must not follow redirects, because a redirected request would
    // carry the token that is meant for this origin.
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let mut reqwest = layer.layer(service_fn(move |request: Request<Bytes>| {
        let client = client.clone();
        async move {
            let response = client.execute(reqwest::Request::try_from(request)?).await?;
            Ok::<_, reqwest::Error>(http::Response::<reqwest::Body>::from(response))
        }
    }));
    let response = reqwest.ready().await?.call(Request::get(&invoices).body(Bytes::new())?).await?;
    println!("reqwest: {}", text(response.into_body().collect().await?.to_bytes()));

    let mut by_hand = Request::get(&invoices).body(Full::<Bytes>::default())?;
    tokens.authorize(by_hand.headers_mut()).await?;
    let response = hyper.get_ref().request(by_hand).await?;
    println!("without a layer: {}", text(response.into_body().collect().await?.to_bytes()));

    // A token is sent to no other origin.
    let elsewhere = Request::get("https://other.example.com/").body(Full::default())?;
    match hyper.call(elsewhere).await {
        Err(CallError::Destination(_)) => println!("another host: the request was not sent"),
        other => println!("another host: {other:?}"),
    }
    println!("{} token was requested for 3 calls", tokens.statistics().obtained);
    Ok(())
}

fn text(body: Bytes) -> String {
    String::from_utf8_lossy(&body).into_owned()
}

/// Starts a service with a protected route and a token endpoint, and returns its URL.
async fn serve(secret: &ClientSecret) -> Result<String, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let clients = MemoryStore::try_from([Client::new("billing", secret).scope(READ).audience(&url)])?;
    let server = AuthorizationServer::new(&url, KeyRing::generate()?, clients)?;
    let protect = BearerAuthLayer::new(server.verifier(&url)?).require_scope(READ);
    let app = Router::new()
        .route(
            "/invoices",
            get(async |token: VerifiedToken| format!("invoices for {}", token.client_id())).layer(protect),
        )
        .layer(TokenEndpointLayer::new(server));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(url)
}
