//! The crate under test: a server with clients, and requests for it.

use std::convert::Infallible;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use tower::{Service, service_fn};
use tower_client_credentials::authorization_server::AuthorizationServerBuilder;
use tower_client_credentials::{
    Algorithm, AuthorizationServer, Client, ClientAuthMethod, ClientSecret, KeyRing, MemoryStore, Scope, SigningKey,
    Verifier,
};

use crate::bare::RSA;
use crate::measure::now;

pub const ISSUER: &str = "https://auth.example.com";
pub const API: &str = "https://api.example.com";
pub const READ: Scope = Scope::from_static("invoices:read");
/// The client that is registered for `client_secret_post`.
pub const POST_CLIENT: &str = "client-post";

pub type Body = Full<Bytes>;

pub struct Subject {
    pub server: AuthorizationServer,
    pub verifier: Verifier,
    pub secret: String,
    /// A valid token.
    pub token: String,
}

impl Subject {
    /// Creates a server with that many clients, all with the same secret, which signs with `algorithm`.
    pub fn new(algorithm: Algorithm, clients: usize) -> Self {
        Self::with(algorithm, clients, |builder| builder)
    }

    pub fn with(
        algorithm: Algorithm,
        clients: usize,
        settings: impl FnOnce(AuthorizationServerBuilder) -> AuthorizationServerBuilder,
    ) -> Self {
        let secret = ClientSecret::generate().unwrap();
        let stored = secret.to_stored().unwrap();
        let client = |id: String| Client::new(id, stored.clone()).scope(READ).audience(API);
        let post = client(POST_CLIENT.to_owned()).authentication(ClientAuthMethod::ClientSecretPost);
        let clients: Vec<_> = (0..clients).map(|n| client(client_id(n))).chain([post]).collect();
        let clients = MemoryStore::try_from(clients).unwrap();
        let key = match algorithm {
            Algorithm::RS256 => SigningKey::from_pem(RSA).unwrap(),
            other => SigningKey::generate(other).unwrap(),
        };
        let server = settings(AuthorizationServer::builder(ISSUER, KeyRing::new(key), clients)).build().unwrap();
        let verifier = server.verifier(API).unwrap();
        let mut subject = Self { server, verifier, secret: secret.expose().to_owned(), token: String::new() };
        subject.token = subject.another_token();
        subject
    }

    /// Creates a server whose clients have secrets chosen by people, so that each of their tokens takes an argon2id hash. The
    /// valid token is another client's.
    pub fn of_people(clients: usize) -> Self {
        Self::of_people_with(clients, |builder| builder)
    }

    pub fn of_people_with(
        clients: usize,
        settings: impl FnOnce(AuthorizationServerBuilder) -> AuthorizationServerBuilder,
    ) -> Self {
        let (chosen, generated) = (ClientSecret::new("correct horse").unwrap(), ClientSecret::generate().unwrap());
        let stored = chosen.to_stored().unwrap();
        let client = |n| Client::new(client_id(n), stored.clone()).scope(READ).audience(API);
        let other = Client::new("other", &generated).scope(READ).audience(API);
        let clients: Vec<_> = (0..clients).map(client).chain([other]).collect();
        let clients = MemoryStore::try_from(clients).unwrap();
        let builder = AuthorizationServer::builder(ISSUER, KeyRing::generate().unwrap(), clients);
        let server = settings(builder).build().unwrap();
        let verifier = server.verifier(API).unwrap();
        let mut subject = Self { server, verifier, secret: chosen.expose().to_owned(), token: String::new() };
        subject.token = subject.token_for(basic("other", generated.expose()));
        subject
    }

    pub fn another_token(&self) -> String {
        self.token_for(self.request(1))
    }

    fn token_for(&self, request: Request<Body>) -> String {
        let answer: serde_json::Value = serde_json::from_slice(&self.ask(request)).unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// Creates a client's request with `client_secret_basic`.
    pub fn request(&self, client: usize) -> Request<Body> {
        basic(&client_id(client), &self.secret)
    }

    /// Creates a request with `client_secret_post`.
    pub fn request_by_post(&self) -> Request<Body> {
        let secret = &self.secret;
        form(Request::post("/token"), format!("{FORM}&client_id={POST_CLIENT}&client_secret={secret}"))
    }

    /// Returns the body of the response. Panics if the future had to wait.
    pub fn ask(&self, request: Request<Body>) -> Bytes {
        let response = now(self.server.token_service().call(request)).unwrap();
        now(response.into_body().collect()).unwrap().to_bytes()
    }
}

pub fn client_id(n: usize) -> String {
    format!("client-{n}")
}

/// The body of every token request.
pub const FORM: &str = "grant_type=client_credentials&scope=invoices%3Aread";

pub fn basic(id: &str, secret: &str) -> Request<Body> {
    let credentials = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
    form(Request::post("/token").header("authorization", credentials), FORM.to_owned())
}

fn form(head: http::request::Builder, body: String) -> Request<Body> {
    head.header("content-type", "application/x-www-form-urlencoded").body(Body::from(body)).unwrap()
}

/// Creates a request to a protected route.
pub fn bearer(token: &str) -> Request<Body> {
    Request::get("/invoices").header("authorization", format!("Bearer {token}")).body(Body::default()).unwrap()
}

pub fn plain() -> Request<Body> {
    Request::get("/invoices").body(Body::default()).unwrap()
}

/// A service that does nothing.
pub fn handler() -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone {
    service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::default())))
}

/// A layer that does nothing. It shows the cost of any layer in axum, which boxes the inner service.
#[derive(Clone)]
pub struct Empty<S>(pub S);

impl<S: Service<R>, R> Service<R> for Empty<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.0.call(request)
    }
}
