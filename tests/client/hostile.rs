//! 1,000 callers for 10 simulated minutes, with servers that fail in every way.
//!
//! Each test checks that the following never happens: an expired or refused token is sent, a request is sent without a token or
//! more than twice, two token requests are in flight, a caller waits while a token can be reused. It prints the number of token
//! requests, and the maximum that the rules allow.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::time::{Instant, sleep};
use tower::{Layer as _, Service as _};
use tower_client_credentials::ClientCredentialsLayer;
use tower_client_credentials::client::{CallError, Statistics};

use super::world::{Dice, Issue, RESOURCE_LATENCY, ResourceServer, Seen, Verdict, World};

const CALLERS: u64 = 1_000;
const MINUTES: Duration = Duration::from_secs(600);

struct Outcome {
    seen: Seen,
    statistics: Statistics,
    answered: usize,
    without_token: usize,
}

/// Runs the callers, and returns the outcome. `most` is the maximum number of token requests that the rules allow.
async fn run(name: &str, world: World, most: f64) -> Outcome {
    let source = world.source();
    let layer = ClientCredentialsLayer::from_source(source.clone(), super::world::API).unwrap();
    let service = layer.layer(ResourceServer(world.clone()));
    let end = Instant::now() + MINUTES;
    let callers = (0..CALLERS).map(|caller| {
        let (world, mut service) = (world.clone(), service.clone());
        tokio::spawn(async move {
            let mut dice = Dice::new(caller + 1);
            let (mut answered, mut without_token) = (0, 0);
            for number in 0.. {
                sleep(Duration::from_millis(dice.roll(20_000))).await;
                if Instant::now() >= end {
                    break;
                }
                let path = format!("/{caller}/{number}");
                let uri = format!("{}{path}", super::world::API);
                let request = Request::get(uri).body(Full::<Bytes>::default()).unwrap();
                let (had_token, start) = (world.has_usable_token(), Instant::now());
                match service.call(request).await {
                    Ok(_) => answered += 1,
                    Err(CallError::Token(_)) => without_token += 1,
                    Err(error) => panic!("{error}"),
                }
                let was_sent_once = world.arrivals(&path) == 1;
                if had_token && (!was_sent_once || start.elapsed() > RESOURCE_LATENCY + Duration::from_millis(2)) {
                    let was_repeated = world.arrivals(&path) == 2;
                    // A call whose token was refused waits for the next one, or fails.
                    if !(was_repeated || was_sent_once && world.lock().seen.refused > 0) {
                        let what = format!("{path} waited {:?} though there was a token", start.elapsed());
                        world.lock().seen.violations.push(what);
                    }
                }
            }
            (answered, without_token)
        })
    });
    let (mut answered, mut without_token) = (0, 0);
    for caller in callers.collect::<Vec<_>>() {
        let (more_answered, more_without) = caller.await.unwrap();
        answered += more_answered;
        without_token += more_without;
    }
    let seen = world.lock().seen.clone();
    let statistics = source.statistics();
    println!(
        "{name}: {} requests for a token, at most {most:.0} allowed; {answered} calls answered ({} refused), {without_token} \
         without a token; {statistics:?}",
        seen.token_requests, seen.refused
    );
    assert_eq!(seen.violations, Vec::<String>::new(), "{name}");
    assert!(seen.most_in_flight <= 1, "{name}: {} requests in flight", seen.most_in_flight);
    assert!(seen.token_requests as f64 <= most, "{name}: {} requests for a token", seen.token_requests);
    assert!(seen.token_requests > 0 && answered + without_token > 40_000, "{name}: the callers did not call");
    Outcome { seen, statistics, answered, without_token }
}

/// One at the start, and one per 72 % of a lifetime at the earliest.
fn refreshes(life: f64) -> f64 {
    1.0 + MINUTES.as_secs_f64() / (0.72 * life)
}

/// 20 at once, and one per second, for tokens that were accepted before they were refused.
const REFUSALS: f64 = 20.0 + 600.0;

/// The pauses after failures are at least 0.5, 1, 2, 4, 8, 15, 15, … s.
fn failures_in(seconds: f64) -> f64 {
    1.0 + 5.0 + ((seconds - 15.5) / 15.0).max(0.0)
}

fn token(life: u64) -> impl Fn(Duration) -> Issue + Send + 'static {
    move |_| Issue::Token(Some(life))
}

#[tokio::test(start_paused = true)]
async fn a_correct_server_gets_one_request_per_lifetime() {
    let outcome = run("honest", World::new(token(300)), refreshes(300.0)).await;
    assert_eq!(outcome.without_token, 0);
    assert_eq!(outcome.statistics.failed, 0);
    assert!(outcome.statistics.waited < CALLERS, "only the first callers wait: {:?}", outcome.statistics);
}

#[tokio::test(start_paused = true)]
async fn a_slow_server_delays_no_caller_once_there_is_a_token() {
    let world = World::new(token(60)).issue_latency(Duration::from_secs(9));
    let outcome = run("slow", world, refreshes(60.0)).await;
    assert_eq!(outcome.without_token, 0);
    assert_eq!(outcome.statistics.obtained as usize, outcome.seen.token_requests);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_gets_requests_at_growing_intervals() {
    let outcome = run("down", World::new(|_| Issue::NoConnection), failures_in(600.0)).await;
    assert_eq!((outcome.answered, outcome.seen.calls), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up_after_10_seconds_each_time() {
    let outcome = run("hanging", World::new(|_| Issue::Never), failures_in(600.0)).await;
    assert_eq!((outcome.answered, outcome.seen.calls), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_flapping_server_costs_a_few_attempts_per_outage() {
    let is_up = |now: Duration| (now.as_secs() / 10).is_multiple_of(2);
    let world = World::new(move |now| if is_up(now) { Issue::Token(Some(25)) } else { Issue::NoConnection });
    let outcome = run("flapping", world, refreshes(25.0) + 30.0 * failures_in(10.0)).await;
    assert!(outcome.answered > outcome.without_token * 10, "{} and {}", outcome.answered, outcome.without_token);
}

#[tokio::test(start_paused = true)]
async fn a_resource_server_that_refuses_at_random_causes_a_bounded_number_of_token_requests() {
    let mut dice = Dice::new(7);
    let world = World::new(token(300)).resource_rule(move |_, _| match dice.roll(400) {
        0 => Verdict::InvalidToken,
        1 => Verdict::Bare401,
        _ => Verdict::Accept,
    });
    let outcome = run("random 401", world.may_keep_refused(), refreshes(300.0) + REFUSALS).await;
    assert!(outcome.statistics.refused > 50, "{:?}", outcome.statistics);
    assert!(outcome.without_token * 50 < outcome.answered, "a few refusals affect the other callers");
}

#[tokio::test(start_paused = true)]
async fn a_resource_server_that_refuses_everything_causes_a_bounded_number_of_token_requests() {
    let world = World::new(token(300)).resource_rule(|_, _| Verdict::InvalidToken);
    let outcome = run("always 401", world, 2.0 + failures_in(600.0)).await;
    assert_eq!(outcome.seen.accepted, 0);
}

#[tokio::test(start_paused = true)]
async fn revoked_tokens_are_replaced_and_every_call_is_repeated_successfully() {
    let world = World::new(token(300)).resource_rule(|now, token| {
        let is_revoked = token.requested.as_secs() / 41 < now.as_secs() / 41;
        if is_revoked { Verdict::InvalidToken } else { Verdict::Accept }
    });
    let outcome = run("revoking", world, refreshes(300.0) + 600.0 / 41.0 + 1.0).await;
    assert_eq!(outcome.without_token, 0);
    assert_eq!(outcome.seen.accepted, outcome.answered, "each call succeeded in the end");
}

#[tokio::test(start_paused = true)]
async fn keys_that_rotate_without_notice_cost_one_token_each() {
    let world = World::new(token(600)).resource_rule(|now, token| {
        let is_old_key = token.requested.as_secs() / 97 < now.as_secs() / 97;
        if is_old_key { Verdict::Bare401 } else { Verdict::Accept }
    });
    let outcome = run("rotating keys", world, refreshes(600.0) + 600.0 / 97.0 + 1.0).await;
    assert_eq!((outcome.without_token, outcome.seen.accepted), (0, outcome.answered));
}

#[tokio::test(start_paused = true)]
async fn a_resource_server_whose_clock_is_30_seconds_ahead_gets_newer_tokens() {
    let world = World::new(token(60)).resource_rule(|now, token| {
        let is_over = token.end.is_some_and(|end| now + Duration::from_secs(30) >= end);
        if is_over { Verdict::InvalidToken } else { Verdict::Accept }
    });
    let outcome = run("skewed by 30 s", world, 600.0 / 30.0 + 1.0).await;
    assert_eq!((outcome.without_token, outcome.seen.accepted), (0, outcome.answered));
}

#[tokio::test(start_paused = true)]
async fn a_token_without_a_lifetime_is_shared_by_waiting_callers_and_not_reused() {
    // Each takes 50 ms.
    let outcome = run("expires_in absent", World::new(|_| Issue::Token(None)), 600.0 / 0.05 + 1.0).await;
    assert_eq!(outcome.without_token, 0);
    assert!(outcome.seen.token_requests * 5 < outcome.answered, "callers share requests");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_lives_for_one_second_is_shared_by_waiting_callers() {
    let outcome = run("expires_in 1", World::new(token(1)), 600.0 / 0.05 + 1.0).await;
    assert_eq!(outcome.without_token, 0);
}

#[tokio::test(start_paused = true)]
async fn a_token_with_a_lifetime_of_zero_is_never_sent() {
    let outcome = run("expires_in 0", World::new(token(0)), failures_in(600.0)).await;
    assert_eq!((outcome.answered, outcome.seen.calls), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_token_with_an_unlimited_lifetime_is_requested_once() {
    let outcome = run("expires_in huge", World::new(token(u64::MAX)), 1.0).await;
    assert_eq!(outcome.without_token, 0);
}

#[tokio::test(start_paused = true)]
async fn html_responses_for_half_the_time_are_failures_and_not_tokens() {
    let world =
        World::new(|now| if (now.as_secs() / 60).is_multiple_of(2) { Issue::Token(Some(40)) } else { Issue::Html });
    run("HTML", world, refreshes(40.0) + 5.0 * failures_in(60.0)).await;
}

#[tokio::test(start_paused = true)]
async fn a_redirect_to_another_host_is_not_followed() {
    let outcome = run("redirect", World::new(|_| Issue::Redirect), failures_in(600.0)).await;
    assert_eq!(outcome.answered, 0);
}

#[tokio::test(start_paused = true)]
async fn retry_after_of_a_429_is_honoured() {
    let outcome = run("429 with Retry-After", World::new(|_| Issue::Status(429, Some(45))), 600.0 / 45.0 + 1.0).await;
    assert_eq!(outcome.answered, 0);
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_repeats_a_refused_token_is_asked_again_and_the_token_is_not_sent() {
    let world = World::new(|now| match now.as_secs() {
        1..300 => Issue::SameToken,
        _ => Issue::Token(Some(600)),
    });
    let world = world.resource_rule(move |now, token| {
        let is_first = token.requested < Duration::from_secs(1);
        if is_first && now.as_secs() >= 10 { Verdict::InvalidToken } else { Verdict::Accept }
    });
    let outcome = run("the same token again", world, 2.0 + failures_in(300.0)).await;
    assert!(outcome.without_token > 0 && outcome.seen.accepted > outcome.without_token / 2);
}
