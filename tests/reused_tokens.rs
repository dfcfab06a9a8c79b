//! With `reuse_tokens`, identical requests of a client get the same token for a part of its lifetime.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use common::request::{GRANT, TokenRequest, billing_asks};
use common::stack::{Answer, Body, Stack};
use common::{API, OTHER_API, READ, SECRET, WRITE, client, clock, forge, settings};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use tower_client_credentials::authorization_server::{AuthorizationServerBuilder, PendingGrant};
use tower_client_credentials::crypto::{Random, RandomError};
use tower_client_credentials::store::ClientAdmin as _;
use tower_client_credentials::{AuthorizationServer, ClientId, MemoryStore, Revocations};

const LIFE: u64 = 600;

fn store() -> MemoryStore {
    let clients =
        ["billing", "other"].map(|id| client(id).scopes([READ, WRITE]).default_audience(API).audience(OTHER_API));
    MemoryStore::try_from(clients).unwrap().clock(clock())
}

fn repeating() -> AuthorizationServerBuilder {
    repeating_for(store())
}

fn repeating_for(clients: MemoryStore) -> AuthorizationServerBuilder {
    settings(clients).token_lifetime(Duration::from_secs(LIFE)).reuse_tokens(50)
}

async fn ask(server: &AuthorizationServer, request: TokenRequest) -> Answer {
    Stack::PLAIN.issue(server).await.send(request).await
}

async fn token(server: &AuthorizationServer, request: TokenRequest) -> String {
    ask(server, request).await.assert_token()
}

#[tokio::test]
async fn each_request_gets_a_new_token_by_default() {
    let server =
        settings(MemoryStore::try_from([client("billing").scope(READ).audience(API)]).unwrap()).build().unwrap();
    assert_ne!(token(&server, billing_asks(GRANT)).await, token(&server, billing_asks(GRANT)).await);
}

#[tokio::test]
async fn an_identical_request_gets_the_same_token_until_half_of_its_life_with_its_remaining_lifetime() {
    let clock = clock();
    let server = repeating().clock(clock.clone()).build().unwrap();
    let first = token(&server, billing_asks(GRANT)).await;
    for (passed, same) in [(0, true), (LIFE / 2 - 1, true), (1, false)] {
        clock.advance(Duration::from_secs(passed));
        let again = ask(&server, billing_asks(GRANT)).await;
        assert_eq!(again.assert_token() == first, same, "{passed} s later");
        let claims = forge::parts(&again.assert_token()).1;
        let now = clock_seconds(&clock);
        assert_eq!(again.json()["expires_in"], claims["exp"].as_u64().unwrap() - now, "{passed} s later");
        assert!(again.json()["expires_in"].as_u64().unwrap() > LIFE / 2, "{passed} s later");
    }
}

fn clock_seconds(clock: &tower_client_credentials::clock::ManualClock) -> u64 {
    use tower_client_credentials::clock::Clock as _;
    clock.now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn setting_a_clock_back_extends_no_token() {
    let clock = clock();
    let server = repeating().clock(clock.clone()).build().unwrap();
    let first = token(&server, billing_asks(GRANT)).await;
    clock.set(common::at(common::NOW - 1));
    let again = ask(&server, billing_asks(GRANT)).await;
    assert_ne!(again.assert_token(), first);
    assert_eq!(again.json()["expires_in"], LIFE);
}

#[tokio::test]
async fn a_revoked_token_is_not_issued_again() {
    let billing = ClientId::from_static("billing");
    let (store, now) = (store(), clock());
    let revocations = Revocations::follow(store.clone()).clock(clock()).await.unwrap();
    let server = repeating_for(store.clone()).clock(now.clone()).revocations(revocations.clone()).client_cache(None);
    let server = server.build().unwrap();
    let mut given = HashSet::new();
    let mut ask = async || {
        let (one, again) = (token(&server, billing_asks(GRANT)).await, token(&server, billing_asks(GRANT)).await);
        assert_eq!(one, again);
        assert!(given.insert(one.clone()), "it was revoked");
        one
    };
    let first = ask().await;
    let token_id = forge::parts(&first).1["jti"].as_str().unwrap().to_owned();
    revocations.revoke_token(&billing, &token_id).await.unwrap();
    ask().await;
    revocations.revoke_client(&billing).await.unwrap();
    now.advance(Duration::from_secs(3));
    ask().await;
}

#[tokio::test]
async fn a_request_for_another_token_content_gets_another_token() {
    let server = repeating().build().unwrap();
    let read = || billing_asks(GRANT).param("scope", &READ);
    let requests = [
        read(),
        billing_asks(GRANT).param("scope", &WRITE),
        billing_asks(GRANT).param("scope", "invoices:read invoices:write"),
        read().param("resource", OTHER_API),
        read().param("resource", OTHER_API).param("resource", API),
        common::request::post(GRANT).basic("other", &SECRET).param("scope", &READ),
    ];
    let mut tokens = HashSet::new();
    for request in &requests {
        tokens.insert(token(&server, request.clone()).await);
    }
    assert_eq!(tokens.len(), requests.len());
    for request in requests {
        assert!(!tokens.insert(token(&server, request).await), "the second round brings nothing new");
    }
}

#[tokio::test]
async fn a_client_with_a_changed_subject_or_lifetime_gets_another_token() {
    let (store, billing) = (store(), ClientId::from_static("billing"));
    let server = repeating_for(store.clone()).client_cache(None).build().unwrap();
    let says = async || {
        let token = token(&server, billing_asks(GRANT)).await;
        let claims = forge::parts(&token).1;
        let life = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        (claims["sub"].as_str().unwrap().to_owned(), life)
    };
    assert_eq!(says().await, ("billing".to_owned(), LIFE));
    store.update(&billing, |client| client.edit().subject("service-7")).await.unwrap();
    assert_eq!(says().await, ("service-7".to_owned(), LIFE));
    store.update(&billing, |client| client.edit().token_lifetime(Duration::from_secs(60))).await.unwrap();
    assert_eq!(says().await, ("service-7".to_owned(), 60));
    store.update(&billing, |client| client.edit().without_token_lifetime()).await.unwrap();
    assert_eq!(says().await, ("service-7".to_owned(), LIFE));
}

#[tokio::test]
async fn the_changes_of_a_hook_are_part_of_the_comparison_and_the_hook_runs_each_time() {
    let (runs, tenant) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let hook = {
        let (runs, tenant) = (runs.clone(), tenant.clone());
        move |grant: &mut PendingGrant| {
            grant.add_response_member("run", runs.fetch_add(1, Ordering::SeqCst));
            grant.add_claim("tenant", tenant.load(Ordering::SeqCst));
            Ok(())
        }
    };
    let server = repeating().grant_hook(hook).build().unwrap();
    let first = ask(&server, billing_asks(GRANT)).await;
    let again = ask(&server, billing_asks(GRANT)).await;
    assert_eq!(again.assert_token(), first.assert_token());
    assert_eq!((first.json()["run"].as_u64(), again.json()["run"].as_u64()), (Some(0), Some(1)));
    tenant.store(1, Ordering::SeqCst);
    assert_ne!(token(&server, billing_asks(GRANT)).await, first.assert_token());
}

#[tokio::test]
async fn a_token_that_is_too_long_to_cache_is_still_issued() {
    let hook = |grant: &mut PendingGrant| {
        grant.add_claim("much", "x".repeat(2_048));
        Ok(())
    };
    let server = repeating().grant_hook(hook).build().unwrap();
    assert_ne!(token(&server, billing_asks(GRANT)).await, token(&server, billing_asks(GRANT)).await);
}

/// Counts the signed tokens, each of which draws a random id.
#[derive(Clone, Debug, Default)]
struct Signed(Arc<AtomicUsize>);

impl Random for Signed {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        tower_client_credentials::crypto::SystemRandom.fill(bytes)
    }
}

#[test]
fn concurrent_identical_requests_cause_one_signature() {
    const THREADS: usize = 16;
    let signed = Signed::default();
    let server = repeating().random(signed.clone()).build().unwrap();
    let start = Barrier::new(THREADS);
    let ask = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let request: http::Request<Body> = billing_asks(GRANT).into();
        start.wait();
        runtime.block_on(async {
            let answer = server.token_service().oneshot(request).await.unwrap();
            answer.into_body().collect().await.unwrap().to_bytes()
        })
    };
    let answers: HashSet<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!((answers.len(), signed.0.load(Ordering::SeqCst)), (1, 1));
}

#[test]
fn a_share_of_zero_or_of_the_whole_lifetime_is_an_error() {
    for percent in [0, 91, 100, 255] {
        let error = repeating().reuse_tokens(percent).build().unwrap_err().to_string();
        assert!(error.contains("1 to 90"), "{error}");
    }
}
