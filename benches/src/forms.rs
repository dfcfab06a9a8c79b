//! Forms of the maximum size that a server reads, with a wrong secret: work that an unauthenticated caller can cause.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use tower::Service as _;
use tower_client_credentials::authorization_server::AttemptLimits;
use tower_client_credentials::{AuthorizationServer, Client, ClientSecret, KeyRing, MemoryStore, Scope};

use crate::measure::now;
use crate::subject::{API, Body, ISSUER};

pub const WHAT: &str = "a wrong secret with a form of 64 KiB";

/// The rest of the form after the grant type, by name.
pub fn bodies() -> [(&'static str, String); 8] {
    const LARGE: usize = 64 * 1024 - 200;
    let repeated = |part: &str| part.repeat(LARGE / part.len());
    [
        ("usual", "&scope=invoices%3Aread".to_owned()),
        ("parameters `&a`", repeated("&a")),
        ("60 parameters of 1 KiB", (0..60).map(|n| format!("&p{n}={}", "x".repeat(1_080))).collect()),
        ("one scope", format!("&scope={}", "s".repeat(LARGE - 10))),
        ("scopes of one character", format!("&scope={}", repeated("s+"))),
        ("scopes of 7", format!("&scope={}", (0..8_000).map(|n| format!("s:{n:05}+")).collect::<String>())),
        ("escaped", format!("&x={}", repeated("%41"))),
        ("resources", repeated("&resource=https://api.example.com")),
    ]
}

/// A server that does not count failures, and a wrong secret.
pub struct Guesses {
    server: AuthorizationServer,
    secret: ClientSecret,
}

impl Guesses {
    #[allow(clippy::new_without_default)] // it makes a key
    pub fn new() -> Self {
        let client = Client::new("billing", ClientSecret::generate().unwrap()).audience(API);
        let clients = MemoryStore::try_from([client.scope(Scope::from_static("invoices:read"))]).unwrap();
        let server = AuthorizationServer::builder(ISSUER, KeyRing::generate().unwrap(), clients);
        let server = server.attempt_limits(AttemptLimits::default().generated_by_address(u32::MAX));
        Self { server: server.build().unwrap(), secret: ClientSecret::generate().unwrap() }
    }

    pub fn request(&self, body: &str) -> Request<Body> {
        let credentials = STANDARD.encode(format!("billing:{}", self.secret.expose()));
        let head = Request::post("/token").header("authorization", format!("Basic {credentials}"));
        let head = head.header("content-type", "application/x-www-form-urlencoded");
        head.body(format!("grant_type=client_credentials{body}").into()).unwrap()
    }

    pub fn status(&self, request: Request<Body>) -> u16 {
        now(self.server.token_service().call(request)).unwrap().status().as_u16()
    }
}
