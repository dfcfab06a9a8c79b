//! One of the servers that `scripts/bench` loads, on one thread: `serve NAME PORT`. When it listens, it prints one line: the
//! `Authorization` header for callers.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::SystemTime;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use axum::routing::{Route, get};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use benches::lean::Lean;
use benches::slots::Slots;
use benches::subject::{Empty, READ, Subject, client_id};
use http_body_util::{Either, Full};
use thread_priority::ThreadPriority;
use thread_priority::unix::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};
use tower::ServiceExt;
use tower::layer::layer_fn;
use tower_client_credentials::authorization_server::AttemptLimits;
use tower_client_credentials::clock::Clock;
use tower_client_credentials::{Algorithm, BearerAuthLayer, TokenEndpointLayer};

const CLIENTS: usize = 10;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (name, port) = (arguments.next().unwrap(), arguments.next().unwrap());
    if name == "start" {
        return start(&port).await;
    }
    let subject = match name.as_str() {
        "ours-repeated" => Subject::with(Algorithm::ES256, CLIENTS, |builder| builder.reuse_tokens(50)),
        "flood-es256-queue" => Subject::with(Algorithm::ES256, CLIENTS, |builder| builder.token_queue(16)),
        "flood-es256-long-queue" => Subject::with(Algorithm::ES256, CLIENTS, |builder| builder.token_queue(1_024)),
        "flood-rs256" => Subject::new(Algorithm::RS256, CLIENTS),
        "flood-rs256-queue" => Subject::with(Algorithm::RS256, CLIENTS, |builder| builder.token_queue(16)),
        "flood-argon2" => Subject::of_people(CLIENTS),
        "flood-argon2-yielding" => Subject::of_people_with(CLIENTS, |builder| {
            let checks = yielding_thread();
            builder.slow_checks(1, 4).slow_checks_on(move |check| checks.send(check).unwrap())
        }),
        "guessed" => guessed(AttemptLimits::default()),
        "guessed-unlimited" => guessed(AttemptLimits::default().chosen_by_address(u32::MAX).chosen_by_client(u32::MAX)),
        _ => Subject::new(Algorithm::ES256, CLIENTS),
    };
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.unwrap();
    let basic = STANDARD.encode(format!("{}:{}", client_id(1), subject.secret));
    let protected = matches!(
        name.as_str(),
        "open"
            | "empty"
            | "slots"
            | "protected"
            | "jwt-authorizer"
            | "axum-jwt-auth"
            | "tower-oauth2-resource-server"
            | "oauth-resource-server"
    );
    println!("{}", if protected { format!("Bearer {}", subject.token) } else { format!("Basic {basic}") });
    println!("Bearer {}", subject.token);
    serve(&name, subject, listener).await;
}

/// Handles requests whenever the core has nothing else to do.
fn yielding_thread() -> mpsc::Sender<Box<dyn FnOnce() + Send>> {
    let (work, waiting) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
    thread::spawn(move || {
        let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy).unwrap();
        for work in waiting {
            work();
        }
    });
    work
}

/// An axum hello server, to compare the start of `standalone` with.
async fn start(port: &str) {
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.unwrap();
    axum::serve(listener, Router::new().route("/", get(async || "hello"))).await.unwrap();
}

/// A server that knows the addresses of its callers, and whose limits never reset.
fn guessed(limits: AttemptLimits) -> Subject {
    Subject::of_people_with(CLIENTS, |builder| {
        builder
            .attempt_limits(limits)
            .peer_address(|extensions| extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.ip()))
            .clock(Stopped(SystemTime::now()))
    })
}

#[derive(Debug)]
struct Stopped(SystemTime);

impl Clock for Stopped {
    fn now(&self) -> SystemTime {
        self.0
    }
}

async fn serve(name: &str, subject: Subject, listener: tokio::net::TcpListener) {
    let ids = || (0..CLIENTS).map(client_id);
    let router = match name {
        // Only axum's router and a handler, for both kinds of request.
        "hello" => Router::new().route("/token", axum::routing::post(async || "hello")),
        // Reads the form, ignores it, and answers the bytes of a token: an upper limit for any token server.
        "same-bytes" => {
            let token = subject.ask(subject.request(1));
            let headers = [("content-type", "application/json"), ("cache-control", "no-store"), ("pragma", "no-cache")];
            Router::new().route("/token", axum::routing::post(async move |_: Bytes| (headers, token.clone())))
        }
        "open" => Router::new().route("/invoices", get(async || "invoices")),
        "empty" => Router::new().route("/invoices", get(async || "invoices").layer(layer_fn(Empty))),
        // A layer that can refuse needs its own body type.
        "slots" => {
            let slots = Slots::new(std::slice::from_ref(&subject.token));
            let layer = layer_fn(move |inner: Route| {
                let own_body = |response: Response| response.map(Either::<_, Full<Bytes>>::Left);
                slots.around(ServiceExt::<Request>::map_response(inner, own_body))
            });
            Router::new().route("/invoices", get(async || "invoices").layer(layer))
        }
        "ours" | "ours-repeated" => both(&subject),
        "protected" => protected(&subject),
        flood if flood.starts_with("flood-") => both(&subject),
        guessed if guessed.starts_with("guessed") => {
            let router = both(&subject).into_make_service_with_connect_info::<SocketAddr>();
            return axum::serve(listener, router).await.unwrap();
        }
        "lean" => Lean::new(Algorithm::ES256, ids(), &subject.secret).router(),
        #[cfg(feature = "peers")]
        peer => {
            use benches::peers;
            peers::settle_jsonwebtoken();
            let jwks = jwks(&subject).await;
            match peer {
                "jwt-authorizer" => {
                    let router = peers::jwt_authorizer(&jwks).await;
                    return axum07::serve(listener, router).await.unwrap();
                }
                "axum-jwt-auth" => peers::axum_jwt_auth(&jwks),
                "tower-oauth2-resource-server" => peers::tower_oauth2_resource_server(&jwks).await,
                "oauth-resource-server" => peers::oauth_resource_server(&jwks),
                "oxide-auth" => peers::oxide_auth(ids(), &subject.secret),
                "authkestra" => peers::authkestra(ids()).await,
                other => panic!("unknown server {other}"),
            }
        }
        #[cfg(not(feature = "peers"))]
        other => panic!("unknown server {other}; the peers need feature `peers`"),
    };
    axum::serve(listener, router).await.unwrap();
}

/// A protected route on a separate server, as the peers have it.
fn protected(subject: &Subject) -> Router {
    let protect = BearerAuthLayer::new(subject.verifier.clone()).require_scope(READ);
    Router::new().route("/invoices", get(async || "invoices").layer(protect))
}

/// The token endpoint and a protected route on one server, as in the quick-start.
fn both(subject: &Subject) -> Router {
    protected(subject).layer(TokenEndpointLayer::new(subject.server.clone()))
}

#[cfg(feature = "peers")]
async fn jwks(subject: &Subject) -> String {
    use benches::subject::Body;
    use http_body_util::BodyExt as _;
    let request = http::Request::get("/").body(Body::default()).unwrap();
    let answer = subject.server.jwks_service().oneshot(request).await.unwrap();
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}
