//! Events of the machine, the clock and the issuer while a process runs. Each sequence recovers without a restart.

use std::pin::pin;
use std::time::Duration;

use futures_util::poll;
use tokio::time::sleep;
use tower_client_credentials::client::{AccessToken, TokenSource as _, TokenSourceErrorKind};

use super::world::{Issue, World};

const DAY: i64 = 24 * 60 * 60;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn world() -> World {
    World::new(|_| Issue::Token(Some(600)))
}

/// Returns the expiry of the token that a caller gets now, by the issuer's clock.
async fn end_of_token(world: &World, source: &tower_client_credentials::client::CachedTokenSource) -> Duration {
    let token = source.token().await.unwrap();
    let end = world.lock().tokens[token.expose()].end.unwrap();
    assert!(world.time() < end, "an expired token was returned");
    end
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_was_suspended_for_an_hour_gets_a_new_token_first() {
    let world = world();
    let source = world.source();
    end_of_token(&world, &source).await;
    world.machine_sleeps(seconds(3_600));
    end_of_token(&world, &source).await;
    assert_eq!(world.token_requests(), 2);
    println!("sleep for an hour: {} requests for a token", world.token_requests());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_a_day_ahead_and_back_costs_one_token() {
    let world = world();
    let source = world.source();
    end_of_token(&world, &source).await;
    world.set_clock_error(DAY);
    end_of_token(&world, &source).await;
    assert_eq!(world.token_requests(), 2);
    world.set_clock_error(0);
    for _ in 0..60 {
        end_of_token(&world, &source).await;
        sleep(seconds(9)).await;
    }
    end_of_token(&world, &source).await;
    sleep(seconds(1)).await;
    assert_eq!(world.token_requests(), 3, "one for the jump, and one when the token was old by the monotonic clock");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_by_a_day_extends_no_token() {
    let world = world();
    let source = world.source();
    end_of_token(&world, &source).await;
    world.set_clock_error(-DAY);
    end_of_token(&world, &source).await;
    assert_eq!(world.token_requests(), 1);
    for _ in 0..200 {
        sleep(seconds(10)).await;
        end_of_token(&world, &source).await;
    }
    println!("set back by a day: {} requests for a token in 2,000 s", world.token_requests());
    assert!((4..=5).contains(&world.token_requests()));
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_down_at_the_start_is_used_when_it_comes_up() {
    let world = World::new(|now| if now < seconds(60) { Issue::NoConnection } else { Issue::Token(Some(600)) });
    let source = world.source();
    let error = source.token().await.unwrap_err();
    assert_eq!(error.kind(), TokenSourceErrorKind::Unavailable);
    assert!(error.to_string().contains("connection refused"), "{error}");
    // Another caller gets the same error at once, and the time of the next attempt.
    let error = source.token().await.unwrap_err();
    assert!(error.retry_after().unwrap() <= seconds(1), "{error}");
    assert_eq!(world.token_requests(), 1);
    while let Err(error) = source.token().await {
        sleep(error.retry_after().unwrap()).await;
    }
    assert!(world.time() < seconds(60 + 31), "it was found up after {:?}", world.time());
    println!("down for a minute: {} requests for a token", world.token_requests());
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_ends_30_seconds_before_the_token_expires_is_not_noticed() {
    let is_down = |now: Duration| (seconds(400)..seconds(560)).contains(&now);
    let world = World::new(move |now| if is_down(now) { Issue::Status(503, None) } else { Issue::Token(Some(600)) });
    let source = world.source();
    for _ in 0..1_000 {
        end_of_token(&world, &source).await;
        sleep(seconds(1)).await;
    }
    assert_eq!(source.statistics().waited, 1, "{:?}", source.statistics());
    println!("an outage of 160 s: {:?}", source.statistics());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_caller_cancels_no_token_request() {
    let world = world().issue_latency(seconds(2));
    let source = world.source();
    for _ in 0..10 {
        let cancelled = tokio::time::timeout(Duration::from_millis(100), source.token()).await;
        assert!(cancelled.is_err());
    }
    source.token().await.unwrap();
    assert_eq!(world.token_requests(), 1);
}

/// A caller that the runtime lets run long after its token came.
#[tokio::test(start_paused = true)]
async fn a_caller_that_runs_late_gets_no_token_that_was_refused_or_has_expired_since() {
    let world = world();
    let source = world.source();
    let mut late = pin!(source.token());
    assert!(poll!(late.as_mut()).is_pending());
    let refused = source.token().await.unwrap();
    source.invalidate(&refused);
    assert_ne!(late.await.unwrap(), refused);

    let world = self::world();
    let source = world.source();
    let mut late = pin!(source.token());
    assert!(poll!(late.as_mut()).is_pending());
    sleep(seconds(700)).await;
    let token = late.await.unwrap();
    assert!(world.time() < world.lock().tokens[token.expose()].end.unwrap(), "it has expired");
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_does_not_affect_its_successor() {
    let world = world();
    let source = world.source();
    let first = source.token().await.unwrap();
    source.invalidate(&first);
    let second = source.token().await.unwrap();
    assert_ne!(first, second);
    // A late report about the first token.
    source.invalidate(&first);
    assert_eq!(source.token().await.unwrap(), second);
    assert_eq!((world.token_requests(), source.statistics().refused), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_of_a_source_that_is_gone_does_not_become_that_of_its_replacement() {
    let world = world();
    let token = world.source().token().await.unwrap();
    world.issue_rule(|_| Issue::NoConnection);
    let replacement = world.source();
    replacement.refused_without_explanation(&token);
    replacement.refused_without_explanation(&AccessToken::bearer("static").unwrap());
    assert!(replacement.token().await.is_err());
    assert_eq!(replacement.statistics().refused, 0);
}

#[tokio::test(start_paused = true)]
async fn a_watch_looks_again_when_the_error_said() {
    let world = world();
    let source = world.source();
    let mut tokens = source.watch();
    // Tokens that are refused from the start are replaced after pauses.
    for _ in 0..2 {
        source.invalidate(&tokens.next().await.unwrap());
    }
    let wait = tokens.next().await.unwrap_err().retry_after().unwrap();
    sleep(wait).await;
    let before = world.time();
    tokens.next().await.unwrap();
    assert!(world.time() < before + seconds(1), "it took {:?}", world.time().saturating_sub(before));
}

#[tokio::test(start_paused = true)]
async fn a_watch_returns_each_token_once_and_refreshes_without_a_caller() {
    let world = world();
    let source = world.source();
    let mut tokens = source.watch();
    let first = tokens.next().await.unwrap();
    let second = tokens.next().await.unwrap();
    assert!(first != second && world.time() < seconds(600), "the second token came after {:?}", world.time());
    // A refusal wakes it at once.
    let before = world.time();
    source.invalidate(&second);
    let third = tokens.next().await.unwrap();
    assert!(third != second && world.time() < before + seconds(1));
    assert_eq!(world.token_requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn each_combination_of_scopes_and_resources_has_its_own_token_which_is_shared() {
    let world = World::new(|_| Issue::Token(Some(600)));
    let source = world.source();
    let token = source.token().await.unwrap();
    let other = source.with_scopes("read".parse::<tower_client_credentials::Scopes>().unwrap()).unwrap();
    assert_eq!(other.token().await.unwrap(), token, "the same query");
    let api = tower_client_credentials::Audience::from_static("https://api.example.com/v2");
    let (one, two) = (source.with_resource(&api).unwrap(), source.with_resource(&api).unwrap());
    assert_ne!(one.token().await.unwrap(), token);
    assert_eq!(one.token().await.unwrap(), two.token().await.unwrap());
    assert_eq!(world.token_requests(), 2);
}

#[test]
fn a_runtime_that_ends_does_not_affect_other_runtimes() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let first = runtime();
    let world = first.block_on(async { World::new(|_| Issue::Never) });
    let source = world.source();
    first.block_on(async {
        assert!(tokio::time::timeout(Duration::from_millis(10), source.token()).await.is_err());
    });
    drop(first);
    world.issue_rule(|_| Issue::Token(Some(600)));
    runtime().block_on(async {
        let error = source.token().await.unwrap_err();
        assert_eq!(error.kind(), TokenSourceErrorKind::Internal);
        sleep(seconds(2)).await;
        source.token().await.unwrap();
    });
}

#[test]
fn a_runtime_that_stands_still_delays_other_runtimes_for_a_bounded_time() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let first = runtime();
    let world = first.block_on(async { World::new(|_| Issue::Token(Some(600))) });
    let source = world.source();
    first.block_on(async {
        assert!(tokio::time::timeout(Duration::from_millis(10), source.token()).await.is_err());
    });
    // The first runtime exists, and does not run.
    let token = runtime().block_on(async {
        let token = tokio::time::timeout(seconds(90), source.token()).await.expect("it waits without end").unwrap();
        assert_eq!(source.token().await.unwrap(), token);
        token
    });
    // The request of the first runtime ends late, and replaces nothing.
    first.block_on(async {
        sleep(seconds(1)).await;
        assert_eq!(source.token().await.unwrap(), token);
    });
    assert_eq!((world.token_requests(), source.statistics().obtained), (2, 1));
}

#[test]
fn a_request_that_was_given_up_and_fails_late_does_not_affect_the_next_one() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (first, second) = (runtime(), runtime());
    let world = first.block_on(async { World::new(|_| Issue::NoConnection) });
    let source = world.source();
    let call = |time| tokio::time::timeout(time, source.token());
    first.block_on(async { assert!(call(Duration::from_millis(10)).await.is_err()) });
    world.issue_rule(|_| Issue::Token(Some(600)));
    // After 80 s the first request counts as lost, and a second one starts, which takes 50 ms.
    second.block_on(async { assert!(call(Duration::from_millis(80_020)).await.is_err()) });
    assert_eq!(world.token_requests(), 2);
    first.block_on(async { sleep(seconds(1)).await });
    second.block_on(async { source.token().await.unwrap() });
    assert_eq!((world.token_requests(), source.statistics().failed), (2, 0));
}

#[test]
fn a_refresh_in_a_runtime_that_stands_still_delays_no_caller_of_another_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let first = runtime();
    let world = first.block_on(async { World::new(|_| Issue::Token(Some(600))) });
    let source = world.source();
    let token = first.block_on(async {
        let token = source.token().await.unwrap();
        sleep(seconds(485)).await;
        assert_eq!(source.token().await.unwrap(), token);
        token
    });
    // It has started a refresh, which does not end. Both clocks show 100 s more.
    let second = runtime();
    second.block_on(async {
        sleep(seconds(585)).await;
        assert_eq!(source.token().await.unwrap(), token);
        sleep(seconds(1)).await;
        assert_ne!(source.token().await.unwrap(), token);
    });
}
