//! gRPC clients in other languages, with a service that has each kind of call behind a guard, unguarded health checks and
//! reflection, and the token endpoint on the same port.
//!
//! `scripts/test-clients` installs the clients and names their interpreters in `GRPC_NODE` and `GRPC_PYTHON`. Each client
//! starts as many sites as it needs, and reads the decisions of a site's guard from it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use axum::extract::{Path as PathParameter, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use common::forge::{foreign_key, good};
use common::{API, NOW, READ, SECRET, clients, clock, settings};
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use http::HeaderName;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;
use tonic::codegen::{Body as HttpBody, StdError};
use tonic::server::NamedService;
use tonic::service::LayerExt as _;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tonic_web::GrpcWebLayer;
use tower::util::option_layer;
use tower::{Service, ServiceBuilder, service_fn};
use tower_client_credentials::clock::ManualClock;
use tower_client_credentials::event::{self, EventReceiver, Outcome};
use tower_client_credentials::store::{
    ChangeFeed, Changes, Cursor, Revocation, RevocationStore, StoreError, StoreFuture,
};
use tower_client_credentials::{BearerAuthLayer, MemoryStore, Revocations, TokenEndpointLayer, VerifiedToken};
use tower_http::cors::{Any, CorsLayer};

/// A service with a method of each kind. Its messages are `google.protobuf.StringValue`, which prost maps to `String`.
#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl<B> Service<http::Request<B>> for Echo
where
    B: HttpBody<Error: Into<StdError> + Send> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<String, String>::default());
            Ok(match request.uri().path() {
                "/test.Echo/Unary" => grpc.unary(service_fn(unary), request).await,
                "/test.Echo/ServerStreaming" => grpc.server_streaming(service_fn(server_streaming), request).await,
                "/test.Echo/ClientStreaming" => grpc.client_streaming(service_fn(client_streaming), request).await,
                "/test.Echo/Streaming" => grpc.streaming(service_fn(streaming), request).await,
                path => Status::unimplemented(path).into_http(),
            })
        }
        .boxed()
    }
}

fn caller<T>(request: &Request<T>) -> String {
    let token: &VerifiedToken = request.extensions().get().expect("a proof");
    token.client_id().to_string()
}

async fn unary(request: Request<String>) -> Result<Response<String>, Status> {
    Ok(Response::new(format!("{} said {}", caller(&request), request.get_ref())))
}

/// Responds three times. After `wait` it responds once and does not end.
async fn server_streaming(
    request: Request<String>,
) -> Result<Response<impl Stream<Item = Result<String, Status>>>, Status> {
    let answer = format!("{} said {}", caller(&request), request.get_ref());
    let times = if request.get_ref() == "wait" { 1 } else { 3 };
    let end = if times == 1 { stream::pending().left_stream() } else { stream::empty().right_stream() };
    Ok(Response::new(stream::iter((0..times).map(move |_| Ok(answer.clone()))).chain(end)))
}

async fn client_streaming(request: Request<Streaming<String>>) -> Result<Response<String>, Status> {
    let caller = caller(&request);
    let mut messages = request.into_inner();
    let mut count = 0;
    while messages.message().await?.is_some() {
        count += 1;
    }
    Ok(Response::new(format!("{caller} sent {count}")))
}

async fn streaming(
    request: Request<Streaming<String>>,
) -> Result<Response<impl Stream<Item = Result<String, Status>>>, Status> {
    let caller = caller(&request);
    let answer = move |message: Result<String, Status>| message.map(|message| format!("{caller} said {message}"));
    Ok(Response::new(request.into_inner().map(answer)))
}

/// Revocations in memory that can be made unavailable.
#[derive(Clone, Debug, Default)]
struct Store {
    revocations: MemoryStore,
    is_down: Arc<AtomicBool>,
}

impl Store {
    fn reach(&self) -> Result<&MemoryStore, StoreError> {
        if self.is_down.load(Ordering::SeqCst) { Err(StoreError::new("out of reach")) } else { Ok(&self.revocations) }
    }
}

impl ChangeFeed for Store {
    fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes> {
        StoreFuture::new(async move { self.reach()?.changes(cursor).await })
    }
}

impl RevocationStore for Store {
    fn revoke(&self, revocation: Revocation) -> StoreFuture<'_, ()> {
        StoreFuture::new(async move { self.reach()?.revoke(revocation).await })
    }

    fn purge(&self, now: SystemTime) -> StoreFuture<'_, u64> {
        StoreFuture::new(async move { self.reach()?.purge(now).await })
    }
}

/// A separate server for one test of a client.
struct Site {
    url: String,
    store: Store,
    clock: ManualClock,
    events: EventReceiver,
    /// How often the guard made each decision.
    counts: BTreeMap<String, u64>,
}

impl Site {
    /// `web` says on which side of the guard gRPC-Web is translated, and whether pages of other origins may call.
    async fn start(web: &str) -> Self {
        let (store, clock) = (Store::default(), clock());
        let revocations = Revocations::follow(store.clone()).clock(clock.clone());
        let revocations = revocations.poll_interval(Duration::from_millis(20)).await.unwrap();
        let server = settings(MemoryStore::try_from(clients()).unwrap()).revocations(revocations).build().unwrap();
        let (sender, events) = event::channel();
        let guard = BearerAuthLayer::new(server.verifier(API).unwrap()).require_scope(READ).end_at_expiry();
        let guard = guard.events(sender);

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let (_, health) = tonic_health::server::health_reporter();
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1alpha()
            .unwrap();
        let http = Server::builder().accept_http1(true).layer(TokenEndpointLayer::new(server));
        if web.starts_with("outside") {
            let echo = guard.dangerous_grpc_refusals_over_http1().named_layer(Echo);
            // tonic-web leaves the status of a refusal in the headers, where pages of other origins see it if it is exposed.
            let exposed = ["grpc-status", "grpc-message", "www-authenticate", "retry-after"];
            let cors = CorsLayer::new().allow_origin(Any).expose_headers(exposed.map(HeaderName::from_static));
            let cors = (web == "outside-cors").then_some(cors);
            let mut http = http.layer(option_layer(cors)).layer(GrpcWebLayer::new());
            tokio::spawn(
                http.add_service(health).add_service(reflection).add_service(echo).serve_with_incoming(incoming),
            );
        } else {
            let echo = ServiceBuilder::new().layer(guard).layer(GrpcWebLayer::new()).named_layer(Echo);
            // For pages of other origins, which then see none of our headers.
            let cors = (web == "cors").then(|| CorsLayer::new().allow_origin(Any).allow_headers(Any));
            let mut http = http.layer(option_layer(cors));
            tokio::spawn(
                http.add_service(health).add_service(reflection).add_service(echo).serve_with_incoming(incoming),
            );
        }
        Self { url, store, clock, events, counts: BTreeMap::new() }
    }

    fn break_store(&self) {
        self.store.is_down.store(true, Ordering::SeqCst);
        self.clock.advance(Duration::from_secs(31)); // older than the view may be
    }

    fn counts(&mut self) -> Value {
        while let Some(event) = self.events.try_recv() {
            let decision = match event.outcome {
                Outcome::Admitted { .. } => "admitted",
                Outcome::Rejected(ref error) | Outcome::VerificationUnavailable(ref error) => error.reason(),
                _ => "other",
            };
            *self.counts.entry(decision.to_owned()).or_default() += 1;
        }
        json!(self.counts)
    }
}

type Sites = Arc<Mutex<Vec<Site>>>;

/// Starts sites, breaks and repairs their stores, and reports the decisions of their guards.
async fn control(sites: Sites) -> String {
    let start = async |State(sites): State<Sites>, PathParameter(web): PathParameter<String>| {
        let site = Site::start(&web).await;
        let url = site.url.clone();
        let mut sites = sites.lock().unwrap();
        sites.push(site);
        Json(json!({"id": sites.len() - 1, "url": url}))
    };
    let change = async |State(sites): State<Sites>, PathParameter((id, store)): PathParameter<(usize, String)>| {
        let site = &sites.lock().unwrap()[id];
        if store == "down" { site.break_store() } else { site.store.is_down.store(false, Ordering::SeqCst) }
    };
    let counts = async |State(sites): State<Sites>, PathParameter(id): PathParameter<usize>| {
        Json(sites.lock().unwrap()[id].counts())
    };
    let router = Router::new()
        .route("/start/{web}", post(start))
        .route("/{id}/store/{state}", post(change))
        .route("/{id}/counts", get(counts))
        .with_state(sites);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await });
    url
}

/// The tokens that a client sends. The clock of a site stands still: `short` is valid for one second after each admission.
fn tokens() -> Value {
    let ends_at = |time| good().claim("iat", NOW - 600).claim("exp", time).sign();
    json!({
        "good": good().sign(),
        "forged": good().sign_with(&foreign_key()),
        "malformed": "a.b.c",
        "narrow": good().claim("scope", "invoices:write").sign(),
        "expired": ends_at(NOW - 6),
        "short": ends_at(NOW - 4),
    })
}

/// Runs the tests of a client, which must start this many sites.
async fn run(interpreter: &str, arguments: &[&str], starts: usize) {
    let interpreter =
        std::env::var(interpreter).unwrap_or_else(|_| panic!("no {interpreter}; see scripts/test-clients"));
    let sites = Sites::default();
    let status = Command::new(interpreter)
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients"))
        .env("CONTROL", control(sites.clone()).await)
        .env("TOKENS", tokens().to_string())
        .env("SECRET", SECRET.as_str())
        .kill_on_drop(true)
        .status();
    let status = tokio::time::timeout(Duration::from_secs(120), status).await.expect("an end in time").unwrap();
    assert!(status.success(), "{arguments:?}: {status}");
    assert_eq!(sites.lock().unwrap().len(), starts, "sites");
}

const NODE: [&str; 2] = ["--test", "--test-reporter=spec"];

#[tokio::test(flavor = "multi_thread")]
async fn grpcio_is_refused_served_and_retries_by_the_rules_of_grpc() {
    run("GRPC_PYTHON", &["python/test_grpc.py"], 11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_js_is_refused_served_and_retries_by_the_rules_of_grpc() {
    run("GRPC_NODE", &[NODE[0], NODE[1], "node/grpc-js.test.js"], 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_node_reads_each_refusal_over_grpc_and_grpc_web() {
    run("GRPC_NODE", &[NODE[0], NODE[1], "node/connect-node.test.js"], 22).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grpc_web_client_of_browsers_reads_each_refusal() {
    run("GRPC_NODE", &[NODE[0], NODE[1], "node/grpc-web.test.js"], 8).await;
}
