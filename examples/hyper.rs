//! Both server layers on plain hyper, without a framework: HTTP/1.1 and h2c (HTTP/2 without TLS) on one port.
//!
//! Run `BILLING_SECRET=… cargo run --example hyper`, then
//! `curl -u billing:$BILLING_SECRET -d grant_type=client_credentials http://127.0.0.1:3000/token`. Add
//! `--http2-prior-knowledge` for HTTP/2. An optional argument sets another address. Ctrl-C stops the server after the requests
//! in progress.

#![allow(clippy::print_stdout)] // prints the listening address

#[path = "standalone/connection.rs"]
mod connection;
#[path = "common/failure.rs"]
mod failure;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use http_body_util::Full;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower::ServiceBuilder;
use tower_client_credentials::{
    AuthorizationServer, BearerAuthLayer, Client, ClientSecret, KeyRing, MemoryStore, Scope, TokenEndpointLayer,
    VerifiedToken,
};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::timeout::RequestBodyDeadlineLayer;
use tower_http::trace::TraceLayer;

use self::connection::IdleLimits;
use self::failure::Failure;

const API: &str = "https://api.example.com";
const READ: Scope = Scope::from_static("invoices:read");

/// The maximum number of concurrent connections. Further connections wait in the listener's queue.
const MAX_CONNECTIONS: usize = 10_000;

/// The maximum number of concurrent requests per HTTP/2 connection. Each may hold a body.
const MAX_STREAMS: u32 = 32;

/// The limits after which an unused connection is closed.
const IDLE_LIMITS: IdleLimits = IdleLimits { first_request: Duration::from_secs(10), idle: Duration::from_secs(60) };

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // Not DEBUG for all crates: at that level h2 logs the path of a malformed request, including its query.
    tracing_subscriber::fmt().with_env_filter("info,tower_client_credentials=debug,tower_http=debug").init();

    let secret = ClientSecret::from_env("BILLING_SECRET")?;
    let clients =
        MemoryStore::try_from([Client::new("billing", secret).scope(READ).default_scopes(READ).audience(API)])?;
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    let issuer = format!("http://{}", listener.local_addr()?);
    let server = AuthorizationServer::new(&issuer, KeyRing::generate()?, clients)?;
    let protect = BearerAuthLayer::new(server.verifier(API)?).require_scope(READ);

    let service = ServiceBuilder::new()
        .layer(SetSensitiveRequestHeadersLayer::new([AUTHORIZATION])) // outermost, before anything that could log it
        .layer(TraceLayer::new_for_http().make_span_with(path_only))
        .layer(TokenEndpointLayer::new(server))
        .layer(RequestBodyDeadlineLayer::new(Duration::from_secs(30))) // the token endpoint has its own deadline
        .layer(protect)
        .service_fn(invoices);

    println!("listening on {issuer}");
    let (stop_connections, stopping) = watch::channel(false);
    let http = connection::server(IDLE_LIMITS.first_request, MAX_STREAMS);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut stop = pin!(tokio::signal::ctrl_c());

    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            _ = &mut stop => break,
        };
        let Ok((stream, _)) = accepted else {
            // Either this connection failed, or there are too many at the moment. Neither is a reason to stop.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let connection = connection::serve(http.clone(), stream, service.clone(), IDLE_LIMITS, stopping.clone());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection failed");
            }
            drop(place);
        });
    }

    drop((listener, stopping));
    stop_connections.send_replace(true);
    tokio::select! {
        () = stop_connections.closed() => {} // every connection has ended
        () = tokio::time::sleep(Duration::from_secs(10)) => tracing::warn!("some requests were aborted"),
    }
    Ok(())
}

/// Creates the span that is logged for a request, without the query, which may contain a secret or a token.
fn path_only<B>(request: &Request<B>) -> tracing::Span {
    tracing::debug_span!("request", method = %request.method(), path = request.uri().path())
}

/// Behind `BearerAuthLayer` the request always has a `VerifiedToken`.
async fn invoices<B>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let caller = request.extensions().get().map_or("nobody", |token: &VerifiedToken| token.client_id());
    Ok(Response::new(Full::from(format!("invoices for {caller}\n"))))
}
