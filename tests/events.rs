//! Every outcome is an event, and no response waits for a listener.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::request::{GRANT, TokenRequest, billing_asks, post};
use common::stack::{Answer, Stack};
use common::{API, NOW, READ, SECRET, WRONG_SECRET, at, client, clients, clock, settings};
use http::Request;
use tower::ServiceExt as _;
use tower_client_credentials::authorization_server::{AttemptLimits, TokenErrorKind};
use tower_client_credentials::event::{self, Outcome};
use tower_client_credentials::registration::RegisteredClient;
use tower_client_credentials::resource_server::BearerError;
use tower_client_credentials::store::{StoreError, StoreFuture};
use tower_client_credentials::{AuthorizationServer, BearerAuthLayer, ClientId, ClientStore, MemoryStore};

#[tokio::test]
async fn each_outcome_is_an_event_with_the_client_and_the_reason_and_no_secret() {
    let (events, mut listener) = event::channel();
    let server = settings(MemoryStore::try_from(clients()).unwrap()).events(events.clone()).build().unwrap();
    let guard = BearerAuthLayer::new(server.verifier(API).unwrap()).require_scope(READ).events(events);
    let site = Stack::PLAIN.protect(&server, [guard]).await;

    let token = site.send(billing_asks(GRANT).param("scope", "invoices:read")).await.assert_token();
    let issued = listener.try_recv().unwrap();
    assert_eq!((issued.at, issued.client_id.as_deref()), (at(NOW), Some("billing")));
    let Outcome::Issued { token_id, scopes, audiences, .. } = &issued.outcome else { panic!("{issued:?}") };
    assert_eq!((scopes.as_str(), audiences[0].as_str()), ("invoices:read", API));

    site.get_authorized(&format!("Bearer {token}")).await;
    let admitted = listener.try_recv().unwrap();
    assert!(matches!(&admitted.outcome, Outcome::Admitted { token_id: own, .. } if own == token_id), "{admitted:?}");
    assert_eq!(admitted.client_id.as_deref(), Some("billing"));

    site.send(post(GRANT).basic("billing", &WRONG_SECRET)).await;
    let failed = listener.try_recv().unwrap();
    assert!(
        matches!(&failed.outcome, Outcome::AuthenticationFailed(error) if error.reason() == TokenErrorKind::InvalidClient.code())
    );
    assert_eq!(failed.client_id.as_deref(), Some("billing"));

    site.send(billing_asks(GRANT).param("scope", "admin")).await;
    let refused = listener.try_recv().unwrap();
    assert!(
        matches!(&refused.outcome, Outcome::Refused(error) if error.reason() == TokenErrorKind::InvalidScope.code())
    );
    assert_eq!(refused.client_id.as_deref(), Some("billing"));

    let powerless = site.send(billing_asks(GRANT).param("scope", "invoices:write")).await.assert_token();
    listener.try_recv().unwrap();
    site.get_authorized(&format!("Bearer {powerless}")).await;
    let rejected = listener.try_recv().unwrap();
    assert!(
        matches!(&rejected.outcome, Outcome::Rejected(failure) if matches!(failure.downcast_ref(), Some(BearerError::InsufficientScope { .. })))
    );
    assert_eq!(rejected.client_id.as_deref(), Some("billing"));

    for event in [issued, admitted, failed, refused, rejected] {
        let shown = format!("{event:?}");
        assert!(
            ![SECRET.as_str(), WRONG_SECRET.as_str(), &token].iter().any(|secret| shown.contains(secret)),
            "{shown}"
        );
    }
}

#[derive(Debug)]
struct Broken;

impl ClientStore for Broken {
    fn find<'a>(&'a self, _: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        StoreFuture::new(async move { Err(StoreError::new("the database is gone")) })
    }
}

#[tokio::test]
async fn a_store_failure_and_a_rate_limited_attempt_are_distinguished_from_refusals() {
    let (events, mut listener) = event::channel();
    let server = settings(Broken).events(events.clone()).build().unwrap();
    server.token_service().oneshot(Request::from(billing_asks(GRANT))).await.unwrap();
    assert!(matches!(listener.try_recv().unwrap().outcome, Outcome::Unavailable(_)));

    let limits = AttemptLimits::default().generated_by_address(0);
    let server =
        settings(MemoryStore::try_from(clients()).unwrap()).attempt_limits(limits).events(events).build().unwrap();
    let guess = post(GRANT).basic("billing", &WRONG_SECRET);
    let response = server.token_service().oneshot(Request::from(guess)).await.unwrap();
    assert_eq!(response.status(), 429);
    let event = listener.try_recv().unwrap();
    assert!(matches!(event.outcome, Outcome::AuthenticationFailed(_)));
    assert_eq!(event.client_id.as_deref(), Some("billing"));
}

#[tokio::test]
async fn an_ignored_audience_parameter_is_reported_once_an_hour_for_each_authenticated_client() {
    let (events, mut listener) = event::channel();
    let now = clock();
    let clients = ["billing", "other"].map(|id| client(id).audience(API));
    let builder =
        || settings(MemoryStore::try_from(clients.clone()).unwrap()).clock(now.clone()).events(events.clone());
    let server = builder().build().unwrap();
    let mut warned = async |server: &AuthorizationServer, request: TokenRequest| {
        server.token_service().oneshot(Request::from(request)).await.unwrap();
        let events = std::iter::from_fn(|| listener.try_recv());
        let warned = events.filter(|event| matches!(event.outcome, Outcome::AudienceParameterIgnored));
        warned.map(|event| event.client_id.unwrap().to_string()).collect::<Vec<_>>()
    };
    let with_audience = |id, secret: &str| post(GRANT).basic(id, secret).param("audience", API);
    assert!(warned(&server, post(GRANT).basic("billing", &SECRET)).await.is_empty());
    assert!(warned(&server, with_audience("billing", &WRONG_SECRET)).await.is_empty(), "a stranger");
    assert_eq!(warned(&server, with_audience("billing", &SECRET)).await, ["billing"]);
    assert!(warned(&server, with_audience("billing", &SECRET)).await.is_empty(), "it was reported");
    assert_eq!(warned(&server, with_audience("other", &SECRET)).await, ["other"]);
    now.advance(Duration::from_secs(60 * 60));
    assert_eq!(warned(&server, with_audience("billing", &SECRET)).await, ["billing"]);
    let accepting = builder().accept_audience_parameter().build().unwrap();
    assert!(warned(&accepting, with_audience("billing", &SECRET)).await.is_empty());
}

#[tokio::test]
async fn an_event_has_the_extensions_of_its_request() {
    let (events, mut listener) = event::channel();
    let server = settings(MemoryStore::try_from(clients()).unwrap()).events(events).build().unwrap();
    let mut request = Request::from(billing_asks(GRANT));
    request.extensions_mut().insert("a request id");
    server.token_service().oneshot(request).await.unwrap();
    assert_eq!(listener.recv().await.unwrap().extensions.get(), Some(&"a request id"));
}

#[tokio::test]
async fn a_slow_listener_does_not_affect_responses() {
    let (events, listener) = event::channel_with_capacity(3);
    let server = settings(MemoryStore::try_from(clients()).unwrap()).events(events).build().unwrap();
    for _ in 0..10 {
        let response = server.token_service().oneshot(Request::from(billing_asks(GRANT))).await.unwrap();
        Answer::read(response).await.assert_token();
    }
    assert_eq!(listener.dropped(), 7);
}
