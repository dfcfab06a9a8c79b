//! A resource server with a path that answers 401 for its own reasons, and paths that accept the same token.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use tokio::time::{Instant, sleep};
use tower::{BoxError, Layer as _, Service, service_fn};
use tower_client_credentials::ClientCredentialsLayer;
use tower_client_credentials::client::{CachedTokenSource, CallError};

use super::world::{API, Dice, Issue, World};

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("{API}{path}")).body(Full::default()).unwrap()
}

/// The tokens that a resource server received.
type Received = Arc<Mutex<Vec<String>>>;

/// A resource server whose `/login` answers each request with a 401 that has no challenge, called through the layer.
fn api_with_login(
    source: CachedTokenSource,
    tokens: &Received,
) -> impl Service<Request<Full<Bytes>>, Response = Response<()>, Error = CallError, Future: Send> + Clone + Send + 'static
{
    let record = tokens.clone();
    let api = service_fn(move |request: Request<Full<Bytes>>| {
        let record = record.clone();
        async move {
            record.lock().unwrap().push(request.headers()[header::AUTHORIZATION].to_str().unwrap().to_owned());
            sleep(Duration::from_millis(20)).await;
            let mut response = Response::new(());
            if request.uri().path() == "/login" {
                *response.status_mut() = StatusCode::UNAUTHORIZED;
            }
            Ok::<_, BoxError>(response)
        }
    });
    ClientCredentialsLayer::from_source(source, API).unwrap().layer(api)
}

/// So many callers each make about one call per second for 5 minutes. The good ones start after `good_start`, the bad ones after
/// `bad_start`, in milliseconds. Returns how many good calls succeeded and failed.
async fn good_and_bad_calls(world: &World, good: u64, bad: u64, good_start: u64, bad_start: u64) -> (usize, usize) {
    let service = api_with_login(world.source(), &Received::default());
    let (succeeded, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let end = Instant::now() + Duration::from_secs(300);
    let callers = (0..good).map(|caller| ("/good", caller, good)).chain((0..bad).map(|caller| ("/login", caller, bad)));
    let tasks: Vec<_> = callers
        .map(|(path, caller, of)| {
            let (mut service, succeeded, failed) = (service.clone(), succeeded.clone(), failed.clone());
            tokio::spawn(async move {
                let start = if path == "/good" { good_start } else { bad_start };
                sleep(Duration::from_millis(start + 1_000 * caller / of)).await;
                let mut dice = Dice::new(caller + 1);
                while Instant::now() < end {
                    let answer = service.call(get(path)).await;
                    if path == "/good" {
                        let is_good = answer.is_ok_and(|answer| answer.status() == 200);
                        if is_good { &succeeded } else { &failed }.fetch_add(1, Relaxed);
                    }
                    sleep(Duration::from_millis(dice.roll(2_000))).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    (succeeded.load(Relaxed), failed.load(Relaxed))
}

#[tokio::test(start_paused = true)]
async fn a_path_that_refuses_every_token_fails_no_call_of_another_path() {
    for (good, bad) in [(50, 1), (50, 5), (2, 5), (5, 50), (1, 10)] {
        let world = World::new(|_| Issue::Token(Some(600)));
        // By the time of the first bad call, a token was accepted.
        let (succeeded, failed) = good_and_bad_calls(&world, good, bad, 0, 2_000).await;
        println!("{good} good and {bad} bad per second: {failed} of {} good calls failed", succeeded + failed);
        assert!(succeeded > 200 && failed == 0, "{good} good and {bad} bad per second: {succeeded} and {failed}");
        // 20 in a row, and one per second.
        assert!(world.token_requests() <= 20 + 302, "{} requests for a token", world.token_requests());
    }
}

/// The issuer gives a new token each time, or the same one, or is down once it has given one.
#[tokio::test(start_paused = true)]
async fn a_path_that_refuses_every_token_from_the_start_fails_no_call_of_another_path() {
    /// What the issuer answers to the first request, and to the others.
    type Rule = fn(bool) -> Issue;
    let rules: [(&str, f64, Rule); 3] = [
        ("new tokens", 20.0 + 302.0, |_| Issue::Token(Some(600))),
        ("the same token", 20.0 + 302.0, |is_first| if is_first { Issue::Token(Some(600)) } else { Issue::SameToken }),
        ("down", 40.0, |is_first| if is_first { Issue::Token(Some(600)) } else { Issue::NoConnection }),
    ];
    for (name, most, rule) in rules {
        for (good, bad, good_start) in
            [(50, 1, 300), (50, 5, 300), (2, 5, 300), (2, 5, 20_000), (5, 50, 0), (1, 10, 60_000)]
        {
            let mut is_first = true;
            let world = World::new(move |_| rule(std::mem::take(&mut is_first)));
            let (succeeded, failed) = good_and_bad_calls(&world, good, bad, good_start, 0).await;
            let requests = world.token_requests();
            println!(
                "{name}, {good} good and {bad} bad per second: {failed} of {} good calls failed",
                succeeded + failed
            );
            assert!(succeeded > 150 && failed == 0, "{name}, {good} good and {bad} bad: {succeeded} and {failed}");
            assert!(requests as f64 <= most, "{name}, {good} good and {bad} bad: {requests} requests for a token");
        }
    }
}

/// A resource server that never accepts a token and explains nothing.
#[tokio::test(start_paused = true)]
async fn tokens_that_are_refused_without_an_explanation_are_replaced_less_and_less_often() {
    let world = World::new(|_| Issue::Token(Some(600)));
    let mut service = api_with_login(world.source(), &Received::default());
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(300) {
        assert_eq!(
            service.call(get("/login")).await.unwrap().status(),
            401,
            "each call gets the answer of the resource server"
        );
        sleep(Duration::from_millis(100)).await;
    }
    // One at the start, one at once, and then after pauses of at least 0.5, 1, 2, 4, 8, 15, 15, … s.
    assert!((8..=2 + 5 + 19).contains(&world.token_requests()), "{} requests for a token", world.token_requests());
}

#[tokio::test(start_paused = true)]
async fn a_repetition_that_is_refused_as_well_drops_no_second_token() {
    let world = World::new(|_| Issue::Token(Some(600)));
    let source = world.source();
    let sent = Received::default();
    let mut service = api_with_login(source.clone(), &sent);
    for (path, status) in [("/good", 200), ("/login", 401), ("/good", 200)] {
        assert_eq!(service.call(get(path)).await.unwrap().status(), status, "{path}");
    }
    let sent = sent.lock().unwrap().clone();
    assert_eq!(sent, ["Bearer token-0", "Bearer token-0", "Bearer token-1", "Bearer token-1"]);
    assert_eq!((world.token_requests(), source.statistics().refused), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn an_accepted_token_is_replaced_while_that_is_allowed_and_then_stays_in_use() {
    let world = World::new(|_| Issue::Token(Some(600))).issue_latency(Duration::ZERO);
    let source = world.source();
    let sent = Received::default();
    let mut service = api_with_login(source.clone(), &sent);
    let start = Instant::now();
    for _ in 0..40 {
        for (path, status) in [("/good", 200), ("/login", 401)] {
            assert_eq!(service.call(get(path)).await.unwrap().status(), status, "{path}");
        }
    }
    assert!(start.elapsed() < Duration::from_secs(3));
    assert!((21..=24).contains(&world.token_requests()), "{} requests for a token", world.token_requests());
    // No token is sent after another one has taken its place.
    let mut sent = sent.lock().unwrap().clone();
    sent.dedup();
    assert_eq!(sent.len(), world.token_requests());
}

/// The first token is refused by one call and, at the same time, accepted by another one.
#[tokio::test(start_paused = true)]
async fn a_token_that_is_accepted_just_after_its_refusal_counts_as_accepted() {
    let world = World::new(|_| Issue::Token(Some(600))).issue_latency(Duration::ZERO);
    let source = world.source();
    let service = api_with_login(source, &Received::default());
    for _ in 0..5 {
        let (mut bad, mut good) = (service.clone(), service.clone());
        let bad = tokio::spawn(async move { bad.call(get("/login")).await.unwrap().status().as_u16() });
        sleep(Duration::from_millis(1)).await;
        assert_eq!(good.call(get("/good")).await.unwrap().status(), 200);
        assert_eq!(bad.await.unwrap(), 401);
    }
}
