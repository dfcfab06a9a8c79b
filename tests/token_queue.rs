//! With `token_queue`, a limited number of requests waits for a token, and the others are asked to retry.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::request::{GRANT, TokenRequest, billing_asks, post};
use common::stack::{Body, Site, on_every_stack};
use common::{READ, SECRET, client, settings};
use futures_util::future::join_all;
use http::{Request, StatusCode};
use tokio::sync::{Notify, Semaphore};
use tower::ServiceExt as _;
use tower_client_credentials::authorization_server::{
    AuthorizationServerBuilder, GrantHook, HookFuture, PendingGrant, TokenError,
};
use tower_client_credentials::registration::RegisteredClient;
use tower_client_credentials::store::StoreFuture;
use tower_client_credentials::{AuthorizationServer, ClientId, ClientStore, MemoryStore};

/// How many requests are queued, in addition to those that are served.
const QUEUED: usize = 10;

/// The number of concurrent requests: more than are served and queued, on any number of cores.
fn at_once() -> usize {
    served_and_queued() + 100
}

/// As many requests are served at once as there are cores.
fn served_and_queued() -> usize {
    std::thread::available_parallelism().unwrap().get() + QUEUED
}

/// Waits in real time, so that a request which is never answered fails its test.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("no result within a minute")
}

fn settings_with_billing() -> AuthorizationServerBuilder {
    settings(MemoryStore::try_from([client("billing").scope(READ).audience(common::API)]).unwrap())
}

/// Returns how many concurrent requests get a token, after each of the others was asked to retry.
async fn served(server: &AuthorizationServer) -> usize {
    let ask = async |_| {
        let request: Request<Body> = billing_asks(GRANT).into();
        server.token_service().oneshot(request).await.unwrap()
    };
    let answers = soon(join_all((0..at_once()).map(ask))).await;
    let refused = answers.iter().filter(|answer| answer.status() != StatusCode::OK);
    for answer in refused.clone() {
        assert_eq!(
            (answer.status(), &answer.headers()["retry-after"]),
            (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap())
        );
        assert!(answer.extensions().get::<TokenError>().unwrap().to_string().contains("the queue for tokens is full"));
    }
    answers.len() - refused.count()
}

#[tokio::test]
async fn requests_beyond_the_limit_get_a_503_and_a_token_when_they_retry() {
    let server = settings_with_billing().token_queue(QUEUED).build().unwrap();
    for _ in 0..3 {
        assert_eq!(served(&server).await, served_and_queued());
    }
}

#[tokio::test]
async fn without_it_all_requests_are_served() {
    assert_eq!(served(&settings_with_billing().build().unwrap()).await, at_once());
}

/// A store with one connection, on which look-ups take turns. Only `billing` is found at once. The test decides when a look-up
/// ends.
#[derive(Clone, Debug)]
struct SlowStore {
    clients: MemoryStore,
    /// How many look-ups have begun, with notification.
    begun: Arc<(AtomicUsize, Notify)>,
    /// One permit for each look-up that may end, in the order in which they began.
    passed: Arc<Semaphore>,
}

impl ClientStore for SlowStore {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        StoreFuture::new(async move {
            if id == "billing" {
                return self.clients.find(id).await;
            }
            self.begun.0.fetch_add(1, Ordering::SeqCst);
            self.begun.1.notify_one();
            self.passed.acquire().await.unwrap().forget();
            Ok(None)
        })
    }
}

impl SlowStore {
    fn new() -> Self {
        let clients = MemoryStore::try_from([client("billing").scope(READ).audience(common::API)]).unwrap();
        Self { clients, begun: Arc::default(), passed: Arc::new(Semaphore::new(0)) }
    }

    /// Sends a request, and waits until it has reached the store, or was answered without it.
    async fn begin(&self, site: &Site, request: TokenRequest) -> tokio::task::JoinHandle<StatusCode> {
        soon(self.begin_at_some_time(site, request)).await
    }

    async fn begin_at_some_time(&self, site: &Site, request: TokenRequest) -> tokio::task::JoinHandle<StatusCode> {
        let (before, site) = (self.begun.0.load(Ordering::SeqCst), site.clone());
        let mut answer = tokio::spawn(async move { site.send_patiently(request).await.status });
        while self.begun.0.load(Ordering::SeqCst) == before && !answer.is_finished() {
            tokio::select! {
                () = self.begun.1.notified() => {}
                status = &mut answer => return tokio::spawn(async move { status.unwrap() }),
            }
        }
        answer
    }
}

/// 12 unknown ids a second, and a store that takes 300 ms for each, one after another: the backlog grows. The valid client,
/// which is cached, sends as many requests.
#[tokio::test]
async fn unauthenticated_requests_that_wait_for_the_store_take_no_place_in_the_queue() {
    const GOOD: usize = 100;
    const STRANGERS_A_SECOND: usize = 12;
    const LOOK_UP_MS: usize = 300;
    on_every_stack(async |stack| {
        let store = SlowStore::new();
        let settings = settings(store.clone()).token_queue(8).store_timeout(Duration::from_secs(600));
        let site = stack.issue(&settings.build().unwrap()).await;
        site.send(billing_asks(GRANT)).await.assert_token();
        let (mut strangers, mut served, mut unavailable, mut looked_up) = (Vec::new(), 0, 0, 0);
        for number in 0..GOOD {
            // The current time in milliseconds.
            let now = number * 1_000 / STRANGERS_A_SECOND;
            let due = now / LOOK_UP_MS;
            store.passed.add_permits(due - looked_up);
            looked_up = due;
            let stranger = post(GRANT).basic(&format!("stranger-{number}"), &SECRET);
            strangers.push(store.begin(&site, stranger).await);
            match site.send(billing_asks(GRANT)).await.status {
                StatusCode::OK => served += 1,
                StatusCode::SERVICE_UNAVAILABLE => unavailable += 1,
                other => panic!("{other}"),
            }
        }
        let backlog = strangers.iter().filter(|stranger| !stranger.is_finished()).count();
        store.passed.add_permits(GOOD);
        let refused = soon(join_all(strangers)).await.into_iter().filter(|status| *status.as_ref().unwrap() == 401).count();
        println!(
            "good requests: {served} of {GOOD} got a token, {unavailable} a 503; unknown clients: {refused} of {GOOD} got a 401, \
             {backlog} were waiting for the store at the end"
        );
        assert_eq!((served, unavailable, refused), (GOOD, 0, GOOD));
        assert!(backlog > 50, "the unknown clients were waiting: {backlog}");
    })
    .await;
}

/// A hook that decides when it has a permit.
struct SlowHook(Arc<Semaphore>);

impl GrantHook for SlowHook {
    fn decide<'a>(&'a self, _: &'a mut PendingGrant, _: &'a http::Extensions) -> HookFuture<'a> {
        HookFuture::new(async {
            self.0.acquire().await.unwrap().forget();
            Ok(())
        })
    }
}

#[tokio::test]
async fn a_place_is_taken_once_the_grant_is_decided_and_only_by_a_grant_that_is_signed() {
    const WAITING: usize = 50;
    let decided = Arc::new(Semaphore::new(0));
    let server = settings_with_billing().token_queue(0).grant_hook(SlowHook(decided.clone())).build().unwrap();
    let mut waiting: Vec<_> = (0..WAITING)
        .map(|_| Box::pin(server.token_service().oneshot(Request::<Body>::from(billing_asks(GRANT)))))
        .collect();
    for request in &mut waiting {
        assert!(futures_util::poll!(request).is_pending(), "the hook has not decided");
    }
    // Each is decided and signed before the next, so there is always a place.
    for request in waiting {
        decided.add_permits(1);
        assert_eq!(soon(request).await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_reused_token_takes_no_place() {
    let server = settings_with_billing().token_queue(0).reuse_tokens(50).build().unwrap();
    let ask = || server.token_service().oneshot(Request::<Body>::from(billing_asks(GRANT)));
    assert_eq!(soon(ask()).await.unwrap().status(), StatusCode::OK);
    assert_eq!(served(&server).await, at_once(), "nothing is signed for them");
}
