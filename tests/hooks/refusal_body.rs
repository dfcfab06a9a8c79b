//! A hook writes the body of a refusal, and nothing else of it.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use serde_json::{Value, json};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};
use tower_client_credentials::clock::ManualClock;
use tower_client_credentials::resource_server::{Authorized, Permission};
use tower_client_credentials::transport::RefusalBody;
use tower_client_credentials::{AuthorizationServer, BearerAuthLayer, MemoryStore, Scope, TokenEndpointLayer};

use crate::common::request::{GRANT, billing_asks, post};
use crate::common::{API, NOW, READ, WRITE, at, clients, settings};

/// An extension that an outer layer sets.
#[derive(Clone)]
struct RequestId(&'static str);

type Body = Full<Bytes>;

fn problem(title: &str, code: Option<&str>, extensions: &http::Extensions) -> RefusalBody {
    let id = extensions.get::<RequestId>().map(|id| id.0);
    RefusalBody::problem_json(&json!({"title": title, "error": code, "request": id}))
}

fn server() -> AuthorizationServer {
    settings(MemoryStore::try_from(clients()).unwrap()).build().unwrap()
}

fn server_with_hook() -> AuthorizationServer {
    let write = |error: &tower_client_credentials::authorization_server::TokenError, extensions: &_| {
        problem(error.description(), Some(error.kind().code()), extensions)
    };
    settings(MemoryStore::try_from(clients()).unwrap()).refusal_body(write).build().unwrap()
}

fn guard(server: &AuthorizationServer) -> BearerAuthLayer {
    BearerAuthLayer::new(server.verifier(API).unwrap())
}

fn guard_with_hook(server: &AuthorizationServer) -> BearerAuthLayer {
    guard(server).refusal_body(|error, extensions| problem(error.description(), error.code(), extensions))
}

async fn token(server: &AuthorizationServer) -> String {
    let request: Request<crate::common::stack::Body> = billing_asks(format!("{GRANT}&scope={READ}")).into();
    let (_, body) = parts(server.token_service().oneshot(request).await.unwrap()).await;
    serde_json::from_slice::<Value>(&body).unwrap()["access_token"].as_str().unwrap().to_owned()
}

async fn parts<B: http_body::Body>(response: Response<B>) -> (http::response::Parts, Bytes)
where
    B::Error: std::fmt::Debug,
{
    let (parts, body) = response.into_parts();
    (parts, body.collect().await.unwrap().to_bytes())
}

/// Returns the headers other than those of the body.
fn without_content(mut headers: HeaderMap) -> HeaderMap {
    headers.remove(CONTENT_TYPE);
    headers.remove(CONTENT_LENGTH);
    headers
}

async fn ask<S, B>(service: S, mut request: Request<Body>) -> (http::response::Parts, Bytes)
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: std::fmt::Debug,
    B: http_body::Body,
    B::Error: std::fmt::Debug,
{
    request.extensions_mut().insert(RequestId("r-1"));
    parts(service.oneshot(request).await.unwrap()).await
}

#[tokio::test]
async fn the_hook_writes_the_body_of_each_refusal_of_an_endpoint_and_no_other_header() {
    let requests = [
        ("client", post(GRANT).basic("billing", "wrong"), StatusCode::UNAUTHORIZED, "invalid_client"),
        ("grant", billing_asks("grant_type=password"), StatusCode::BAD_REQUEST, "unsupported_grant_type"),
        ("method", post("").method("PUT"), StatusCode::METHOD_NOT_ALLOWED, "invalid_request"),
        ("type", post(GRANT).content_types(&["text/plain"]), StatusCode::BAD_REQUEST, "invalid_request"),
        ("revoke", post("token=x").to("/revoke"), StatusCode::UNAUTHORIZED, "invalid_client"),
        ("introspect", billing_asks("token=x").to("/introspect"), StatusCode::BAD_REQUEST, "unauthorized_client"),
    ];
    let service = |with_hook: bool| async move {
        let store = MemoryStore::try_from(clients()).unwrap();
        let revocations = tower_client_credentials::Revocations::follow(store.clone()).await.unwrap();
        let mut builder = settings(store).revocations(revocations);
        if with_hook {
            builder = builder
                .refusal_body(|error, extensions| problem(error.description(), Some(error.kind().code()), extensions));
        }
        let inner = service_fn(async |_: Request<_>| Ok::<_, std::convert::Infallible>(Response::new(Body::default())));
        TokenEndpointLayer::new(builder.build().unwrap()).layer(inner)
    };
    for (name, request, status, code) in requests {
        let with_id = || {
            let mut request: Request<crate::common::stack::Body> = request.clone().into();
            request.extensions_mut().insert(RequestId("r-1"));
            request
        };
        let (usual, usual_body) = parts(service(false).await.oneshot(with_id()).await.unwrap()).await;
        let (own, own_body) = parts(service(true).await.oneshot(with_id()).await.unwrap()).await;
        assert_eq!((usual.status, own.status), (status, status), "{name}");
        assert_eq!(own.headers[CONTENT_TYPE], "application/problem+json", "{name}");
        let (usual_body, own_body): (Value, Value) =
            (serde_json::from_slice(&usual_body).unwrap(), serde_json::from_slice(&own_body).unwrap());
        assert_eq!(
            own_body,
            json!({"title": usual_body["error_description"], "error": code, "request": "r-1"}),
            "{name}"
        );
        assert_eq!(without_content(own.headers), without_content(usual.headers), "{name}");
    }
}

#[tokio::test]
async fn an_issued_token_is_not_changed_by_the_hook() {
    assert!(token(&server_with_hook()).await.split('.').count() == 3);
}

#[tokio::test]
async fn the_hook_writes_the_body_of_each_refusal_of_a_protected_route_and_no_other_header() {
    let server = server();
    let token = token(&server).await;
    for (authorization, layer, status, code) in [
        (None, guard as fn(&_) -> _, StatusCode::UNAUTHORIZED, Value::Null),
        (Some("Bearer x.y.z".to_owned()), guard, StatusCode::UNAUTHORIZED, "invalid_token".into()),
        (Some("Bearer a b".to_owned()), guard, StatusCode::BAD_REQUEST, "invalid_request".into()),
        (
            Some(format!("Bearer {token}")),
            |server| guard(server).require_scope(WRITE),
            StatusCode::FORBIDDEN,
            "insufficient_scope".into(),
        ),
    ] {
        let request = |method: Method| {
            let mut request = Request::builder().method(method).uri("/");
            if let Some(authorization) = &authorization {
                request = request.header(AUTHORIZATION, authorization);
            }
            request.body(Body::default()).unwrap()
        };
        let inner =
            || service_fn(async |_: Request<Body>| Ok::<_, std::convert::Infallible>(Response::new(Body::default())));
        let own_layer =
            layer(&server).refusal_body(|error, extensions| problem(error.description(), error.code(), extensions));
        let (usual, usual_body) = ask(layer(&server).layer(inner()), request(Method::GET)).await;
        let (own, body) = ask(own_layer.layer(inner()), request(Method::GET)).await;
        assert_eq!((usual.status, own.status), (status, status));
        assert!(usual_body.is_empty());
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["error"], &body["request"]), (&code, &"r-1".into()), "{body}");
        assert_eq!(own.headers[CONTENT_TYPE], "application/problem+json");
        assert_eq!(without_content(own.headers), without_content(usual.headers));

        let (head, body) = ask(own_layer.layer(inner()), request(Method::HEAD)).await;
        assert!(body.is_empty() && head.headers.contains_key(CONTENT_LENGTH), "{:?}", head.headers);
    }
}

#[tokio::test]
async fn a_grpc_refusal_is_not_changed_by_the_hook() {
    let server = server();
    let call = || {
        let request = Request::post("/p.S/M").version(Version::HTTP_2).header(CONTENT_TYPE, "application/grpc");
        request.body(Body::default()).unwrap()
    };
    let inner =
        || service_fn(async |_: Request<Body>| Ok::<_, std::convert::Infallible>(Response::new(Body::default())));
    let (usual, _) = ask(guard(&server).layer(inner()), call()).await;
    let (own, body) = ask(guard_with_hook(&server).layer(inner()), call()).await;
    assert_eq!((own.status, own.headers), (usual.status, usual.headers));
    assert!(body.is_empty());
}

struct MayWrite;

impl Permission for MayWrite {
    const SCOPE: Scope = WRITE;
}

#[tokio::test]
async fn the_hook_writes_the_body_of_a_refusal_by_an_extractor() {
    let server = server();
    let app: Router =
        Router::new().route("/", get(async |_: Authorized<MayWrite>| "written")).layer(guard_with_hook(&server));
    let request = Request::get("/").header(AUTHORIZATION, format!("Bearer {}", token(&server).await));
    let request = request.body(axum::body::Body::empty()).unwrap();
    let (refusal, body) = parts(app.oneshot(request).await.unwrap()).await;
    assert_eq!(refusal.status, StatusCode::FORBIDDEN);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["error"], "insufficient_scope");
}

#[tokio::test(start_paused = true)]
async fn the_hook_writes_the_body_of_a_request_that_outlives_its_token() {
    let clock = ManualClock::at(at(NOW));
    let server = settings(MemoryStore::try_from(clients()).unwrap()).clock(clock).build().unwrap();
    let token = token(&server).await;
    let never = service_fn(async |_: Request<Body>| {
        std::future::pending::<Result<Response<Body>, std::convert::Infallible>>().await
    });
    let service = guard_with_hook(&server).end_at_expiry().layer(never);
    let request = Request::get("/").header(AUTHORIZATION, format!("Bearer {token}")).body(Body::default()).unwrap();
    let (refusal, body) = tokio::time::timeout(Duration::from_secs(86_400), ask(service, request)).await.unwrap();
    assert_eq!(refusal.status, StatusCode::UNAUTHORIZED);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["error"], &body["request"]), (&"invalid_token".into(), &"r-1".into()));
}

#[tokio::test]
async fn a_body_that_cannot_be_serialized_leaves_the_usual_one() {
    let unserializable = std::collections::HashMap::from([((1, 2), "keys of JSON are text")]);
    let write = move |_: &_, _: &_| RefusalBody::json(&unserializable);
    let server = settings(MemoryStore::try_from(clients()).unwrap()).refusal_body(write).build().unwrap();
    let request: Request<crate::common::stack::Body> = post(GRANT).into();
    let (refusal, body) = parts(server.token_service().oneshot(request).await.unwrap()).await;
    assert_eq!(refusal.headers[CONTENT_TYPE], "application/json");
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["error"], "invalid_client");
}
