//! The logs of the crate: they show the outcome of each request under stable names, and contain no secret.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::convert::Infallible;
use std::error::Error;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::forge::{self, good};
use common::request::{GRANT, billing_asks, post};
use common::stack::{Answer, Body};
use common::{API, READ, SECRET, WRITE, WRONG_SECRET, server};
use http::{Request, Response, StatusCode};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_client_credentials::authorization_server::TokenError;
use tower_client_credentials::registration::{RegisteredClient, RegisteredSecret};
use tower_client_credentials::resource_server::{BearerError, ResourceMetadata};
use tower_client_credentials::store::{StoreError, StoreFuture};
use tower_client_credentials::verification::{InvalidToken, Unavailable};
use tower_client_credentials::{
    AuthorizationServer, BearerAuthLayer, Client, ClientId, ClientSecret, ClientStore, KeyRing, MemoryStore,
};
use tracing::Instrument as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Captures everything logged on this thread, at every level and with every span, until this is dropped.
struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: tracing::subscriber::DefaultGuard,
}

#[derive(Clone)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn new() -> Self {
        let text = Arc::new(Mutex::default());
        let sink = Sink(Arc::clone(&text));
        common::enable_log_lines();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_span_events(FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(move || sink.clone())
            .finish();
        Self { text, _guard: tracing::subscriber::set_default(subscriber) }
    }

    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.text.lock().unwrap())).unwrap()
    }
}

async fn ask(request: impl Into<Request<Body>>) -> Answer {
    Answer::read(server().token_service().oneshot(request.into()).await.unwrap()).await
}

/// Sends these credentials to a route behind the layer.
async fn show(layer: BearerAuthLayer, authorization: &str) -> StatusCode {
    let inner = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::default())));
    let request = Request::get("/").header("authorization", authorization).body(Body::default()).unwrap();
    layer.layer(inner).oneshot(request).await.unwrap().status()
}

fn layer() -> BearerAuthLayer {
    BearerAuthLayer::new(server().verifier(API).unwrap())
}

#[tokio::test]
async fn no_token_and_no_secret_is_in_any_log_from_issue_to_admission_and_refusal() {
    let log = Log::new();
    let token = ask(billing_asks(GRANT).param("scope", "invoices:read")).await.assert_token();
    let in_body = format!("{GRANT}&client_id=reports&client_secret={}", &*SECRET);
    let other = ask(post(in_body)).await.assert_token();
    assert_eq!(ask(post(GRANT).basic("billing", &WRONG_SECRET)).await.status, 401);
    assert_eq!(ask(billing_asks(GRANT).param("scope", "admin")).await.status, 400);
    assert_eq!(ask(billing_asks(GRANT).param("client_secret", &SECRET)).await.status, 400);

    assert_eq!(show(layer(), &format!("Bearer {token}")).await, 200);
    assert_eq!(show(layer().require_scope(WRITE), &format!("Bearer {token}")).await, 403);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut refused = vec![
        good().sign_with(&forge::foreign_key()),
        good().header("kid", token.as_str()).sign(),
        good().header("alg", token.as_str()).sign(),
        good().header("typ", token.as_str()).sign(),
        good().claim("iss", token.as_str()).sign(),
        good().claim("client_id", token.as_str()).sign(),
        good().claim("exp", token.as_str()).sign(),
        good().claims_text(format!("{{\"{token}\"")).sign(),
        format!("{token}="),
        format!("{signature}.{signed}"),
    ];
    for bad in &refused {
        assert_eq!(show(layer(), &format!("Bearer {bad}")).await, 401);
    }
    assert_eq!(show(layer(), &format!("Bearer {token} {token}")).await, 400);
    assert_eq!(show(layer(), &format!("Basic {token}")).await, 401);
    let query = Request::get(format!("/?access_token={token}&access_token={token}")).body(Body::default()).unwrap();
    let inner = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::default())));
    let answer = layer().dangerous_token_in_query().layer(inner).oneshot(query).await.unwrap();
    assert_eq!(answer.status(), 400);

    let log = log.take();
    for line in ["answered a client", "admitted a request to", "refused a client", "refused a request to"] {
        assert!(log.contains(line), "{line}");
    }
    refused.extend([token.clone(), other]);
    let parts = refused.iter().flat_map(|token| token.split('.')).filter(|part| part.len() > 40);
    let secrets = [&**SECRET, &**WRONG_SECRET].into_iter().flat_map(|secret| {
        let basic = STANDARD.encode(format!("billing:{secret}"));
        // The part after the prefix that every generated secret has.
        [secret.to_owned(), secret[secret.len() - 20..].to_owned(), basic]
    });
    // Headers are not secret, and many tokens share theirs; they are not logged either.
    for secret in parts.map(str::to_owned).chain(secrets) {
        assert!(!log.contains(&secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn an_ignored_audience_parameter_is_a_warning_that_names_the_option() {
    let log = Log::new();
    ask(billing_asks(GRANT).param("audience", API)).await.assert_token();
    let text = log.take();
    assert!(text.contains("WARN") && text.contains(".accept_audience_parameter()"), "{text}");
    assert!(text.contains("oauth.client_id=billing"), "{text}");
}

#[tokio::test]
async fn no_query_is_in_any_log() {
    let log = Log::new();
    let endpoint = async |service: tower_client_credentials::authorization_server::EndpointService,
                          request: Request<Body>| {
        service.oneshot(request).await.unwrap().status()
    };
    let in_query = |path: &str| billing_asks("token=x").to(&format!("{path}?client_secret={}", &*SECRET));
    assert_eq!(endpoint(server().token_service(), in_query("/token").into()).await, 400);
    assert_eq!(endpoint(server().introspection_service(), in_query("/introspect").into()).await, 400);
    for uri in ["/.well-known/jwks.json", "/.well-known/oauth-authorization-server"] {
        endpoint(server().jwks_service(), in_query(uri).into()).await;
        endpoint(server().metadata_service(), in_query(uri).into()).await;
    }
    let token = ask(billing_asks(GRANT).param("scope", "invoices:read")).await.assert_token();
    for layer in [layer(), layer().dangerous_token_in_query(), layer().require_scope(WRITE)] {
        let request = Request::get(format!("/?access_token={token}")).body(Body::default()).unwrap();
        let inner = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::default())));
        layer.layer(inner).oneshot(request).await.unwrap();
    }
    let log = log.take();
    assert!(log.contains("refused a client") && log.contains("refused a request to"), "{log}");
    assert!(!log.contains(&**SECRET) && !log.contains(&token) && !log.contains('?'), "{log}");
}

#[tokio::test]
async fn the_outcome_of_a_request_is_logged_under_stable_names() {
    let log = Log::new();
    ask(billing_asks(GRANT)).await.assert_token();
    let issued = log.take();
    for field in ["token_request", "otel.kind=\"internal\"", "oauth.client_id=billing", "http.response.status_code=200"]
    {
        assert!(issued.contains(field), "{field} in {issued}");
    }
    ask(post(GRANT).basic("billing", &WRONG_SECRET)).await;
    let failed = log.take();
    for field in ["error.type=\"invalid_client\"", "http.response.status_code=401"] {
        assert!(failed.contains(field), "{field} in {failed}");
    }
    show(layer(), &format!("Bearer {}", good().sign_with(&forge::foreign_key()))).await;
    let refused = log.take();
    for field in ["error.type=\"signature\"", "http.response.status_code=401"] {
        assert!(refused.contains(field), "{field} in {refused}");
    }
}

/// A store that checks no client when a server is built.
#[derive(Debug)]
struct Elsewhere(MemoryStore);

impl ClientStore for Elsewhere {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        StoreFuture::new(async move { self.0.find(id).await })
    }
}

#[tokio::test]
async fn a_client_has_the_same_field_name_in_every_line() {
    let log = Log::new();
    let old = RegisteredSecret::new("old", ClientSecret::new(SECRET.as_str()).unwrap()).unwrap();
    let new = RegisteredSecret::new("new", ClientSecret::generate().unwrap()).unwrap();
    let billing = Client::new("billing", ClientSecret::generate().unwrap()).without_secret("1");
    let billing = billing.registered_secret(old).registered_secret(new).scope(WRITE).audience(API);
    let store = Elsewhere(MemoryStore::try_from([billing]).unwrap());
    let server = common::settings(store).known_scopes(READ).build().unwrap();
    let request: Request<Body> = billing_asks(GRANT).into();
    Answer::read(server.token_service().oneshot(request).await.unwrap()).await.assert_token();
    let log = log.take();
    for line in ["a client still uses an old secret", "a client's registration is invalid under the settings"] {
        let line = log.lines().find(|logged| logged.contains(line)).unwrap_or_else(|| panic!("{line}: {log}"));
        assert!(line.contains(" oauth.client_id=billing"), "{line}");
    }
}

/// Panics if the text of an error contains that of one of its sources, since a chain would then print it twice.
fn assert_each_cause_once(error: &dyn Error) {
    let (mut texts, mut next) = (vec![error.to_string()], error.source());
    while let Some(source) = next {
        texts.push(source.to_string());
        next = source.source();
    }
    for (place, text) in texts.iter().enumerate() {
        let earlier = texts[..place].iter().find(|earlier| earlier.contains(text.as_str()));
        assert_eq!(earlier, None, "`{text}` is there twice in {texts:#?}");
    }
}

/// No token has these.
#[derive(Debug, serde::Deserialize)]
struct OtherClaims {
    _nothing: u8,
}

/// An unavailable store.
#[derive(Debug)]
struct Away;

impl ClientStore for Away {
    fn find<'a>(&'a self, _: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        StoreFuture::new(async move {
            let inner = StoreError::new(io::Error::other("no route to the database"));
            Err(StoreError::new(inner))
        })
    }
}

#[tokio::test]
async fn a_chain_of_errors_has_each_cause_once() {
    let settings = || common::settings(MemoryStore::default());
    let keys = || KeyRing::from_pem(common::KEY).unwrap();
    let no_client = [Client::new("é", ClientSecret::generate().unwrap())];
    for error in [
        settings().default_audience("api").build().unwrap_err(),
        settings().public_url("auth").build().unwrap_err(),
        AuthorizationServer::new("auth", keys(), MemoryStore::default()).unwrap_err(),
        MemoryStore::try_from(no_client).unwrap_err().into(),
    ] {
        assert_each_cause_once(&error);
    }
    let metadata = ResourceMetadata::builder(API).authorization_server("auth").build().unwrap_err();
    assert_each_cause_once(&metadata);
    assert_each_cause_once(&BearerError::from(InvalidToken::Expired));
    let unavailable = BearerError::from(Unavailable::by_policy("the policy's database is away"));
    assert_each_cause_once(&unavailable);
    assert!(common::chain(&unavailable).ends_with("the policy's database is away"), "it is not lost either");

    let token = server().verifier(API).unwrap().verify(&good().sign()).await.unwrap();
    assert_each_cause_once(&token.claims::<OtherClaims>().unwrap_err());

    let server = common::settings(Away).build().unwrap();
    let request: Request<Body> = billing_asks(GRANT).into();
    let answer = server.token_service().oneshot(request).await.unwrap();
    let error = answer.extensions().get::<TokenError>().unwrap();
    assert_each_cause_once(error);
    assert!(common::chain(error).ends_with("no route to the database"), "{}", common::chain(error));
}

#[cfg(all(feature = "postgres", feature = "redis", feature = "remote"))]
#[tokio::test]
async fn a_chain_of_errors_of_a_client_library_has_each_cause_once() {
    use std::time::Duration;

    use tower_client_credentials::RemoteIssuer;
    use tower_client_credentials::store::{PostgresStore, RedisStore};

    let postgres = PostgresStore::connect("postgres://u@127.0.0.1:1/d").await.unwrap_err();
    let redis = RedisStore::connect("redis://127.0.0.1:1/").await.unwrap_err();
    let issuer = RemoteIssuer::new("http://127.0.0.1:1", API).unwrap().connect_timeout(Duration::from_secs(1));
    let issuer = issuer.connect().await.unwrap_err();
    for error in [&postgres as &dyn Error, &redis, &issuer] {
        assert_each_cause_once(error);
        assert!(common::chain(error).contains("refused"), "{}", common::chain(error));
    }
}

#[tokio::test]
async fn the_span_around_a_request_gets_the_client_and_the_reason_if_it_has_fields_for_them() {
    let log = Log::new();
    let span = || {
        tracing::info_span!("request", oauth.client_id = tracing::field::Empty, "error.type" = tracing::field::Empty)
    };
    show(layer(), &format!("Bearer {}", good().sign())).instrument(span()).await;
    assert!(log.take().contains("request{oauth.client_id=billing}:"), "nothing is wrong");
    let lacking = layer().require_scopes([READ, WRITE]);
    show(lacking, &format!("Bearer {}", good().sign())).instrument(span()).await;
    assert!(log.take().contains("request{oauth.client_id=billing error.type=\"insufficient_scope\"}"));
}

#[cfg(feature = "remote")]
#[derive(Debug)]
struct KeySet(hyper::body::Bytes);

#[cfg(feature = "remote")]
impl tower_client_credentials::transport::HttpClient for KeySet {
    fn send(&self, _: Request<hyper::body::Bytes>, _: usize) -> tower_client_credentials::transport::HttpFuture<'_> {
        tower_client_credentials::transport::HttpFuture::ready(Ok(Response::new(self.0.clone())))
    }
}

#[cfg(feature = "remote")]
#[tokio::test]
async fn a_token_with_a_random_key_name_is_not_a_warning_regardless_of_the_response() {
    let request = Request::get("/jwks").body(Body::default()).unwrap();
    let keys = Answer::read(server().jwks_service().oneshot(request).await.unwrap()).await.body;
    let issuer = tower_client_credentials::RemoteIssuer::new(common::ISSUER, API).unwrap();
    let issuer = issuer.jwks_url("https://auth.example.com/jwks").unwrap().http_client(KeySet(keys));
    let verifier = issuer.clock(common::clock()).connect().await.unwrap();
    let log = Log::new();
    for (number, status) in [401, 401, 401, 503, 503].into_iter().enumerate() {
        let token = good().header("kid", format!("stranger {number}")).sign();
        assert_eq!(show(BearerAuthLayer::new(verifier.clone()), &format!("Bearer {token}")).await, status);
    }
    let log = log.take();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    assert_eq!(log.matches("answered 503 to a request to a protected route").count(), 2, "{log}");
    assert_eq!(log.matches("error.type=\"unknown_key\"").count(), 5, "{log}");
}
