//! Random sequences of calls, refusals, outages and clock changes, checked against a model of the rules.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::{Instant, sleep, timeout};
use tower_client_credentials::client::TokenSourceErrorKind;

use super::world::{Issue, World};

#[derive(Clone, Copy, Debug)]
enum Step {
    Call,
    /// A call that is cancelled at once.
    CancelledCall,
    /// The last token that a caller got is refused.
    Refuse,
    Pass(u64),
    Sleep(u64),
    SetClock(i64),
    Issuer(Issue),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let issue = prop_oneof![
        6 => prop::sample::select(vec![1, 2, 5, 12, 60, 600]).prop_map(|life| Issue::Token(Some(life))),
        1 => Just(Issue::Token(None)),
        1 => Just(Issue::Token(Some(0))),
        2 => Just(Issue::NoConnection),
        1 => Just(Issue::Never),
        1 => Just(Issue::Status(429, Some(20))),
        1 => Just(Issue::SameToken),
    ];
    let step = prop_oneof![
        10 => Just(Step::Call),
        2 => Just(Step::CancelledCall),
        3 => Just(Step::Refuse),
        6 => (1_u64..20_000).prop_map(Step::Pass),
        2 => (1_u64..700_000).prop_map(Step::Pass),
        1 => (1_u64..4_000).prop_map(Step::Sleep),
        1 => (-100_000_i64..100_000).prop_map(Step::SetClock),
        4 => issue.prop_map(Step::Issuer),
    ];
    prop::collection::vec(step, 1..60)
}

async fn follow(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut issue = Issue::Token(Some(60));
    let world = World::new(move |_| issue);
    let source = world.source();
    let mut last = None;
    let mut has_token = false;
    let (mut clock, mut clock_was_set, mut slept, mut was_set_back) = (0, false, false, false);
    // Until when an attempt may be delayed: 30 s after a failure, or as long as the issuer asked.
    let mut held_back_until = Instant::now();
    for step in steps {
        match *step {
            Step::Pass(milliseconds) => sleep(Duration::from_millis(milliseconds)).await,
            // A clock that is set back as far as the machine was suspended hides the suspension, so a sequence has only one of
            // them.
            Step::Sleep(_) if was_set_back => {}
            Step::Sleep(seconds) => {
                slept = true;
                world.machine_sleeps(Duration::from_secs(seconds));
            }
            Step::SetClock(seconds) if slept && seconds < clock => {}
            Step::SetClock(seconds) => {
                clock_was_set = true;
                was_set_back |= seconds < clock;
                clock = seconds;
                world.set_clock_error(seconds);
            }
            Step::Issuer(Issue::SameToken) if !has_token => {}
            Step::Issuer(new) => {
                issue = new;
                world.issue_rule(move |_| new);
            }
            Step::Refuse => {
                if let Some(token) = &last {
                    let refused = source.statistics().refused;
                    source.invalidate(token);
                    // An accepted token stays in use while no other one may be requested.
                    let was_dropped = source.statistics().refused > refused;
                    if was_dropped && let Some(minted) = world.lock().tokens.get_mut(token.expose()) {
                        minted.refused = true;
                    }
                }
            }
            Step::CancelledCall => {
                let _ = timeout(Duration::from_millis(1), source.token()).await;
                held_back_until = held_back_until.max(Instant::now() + Duration::from_secs(40));
            }
            Step::Call => {
                let (start, has_usable_token) = (Instant::now(), world.has_usable_token());
                let outcome = source.token().await;
                // With a clock that jumped, the client may consider a token older than it is.
                if has_usable_token && !clock_was_set {
                    prop_assert!(outcome.is_ok() && start.elapsed().is_zero(), "it waited though there was a token");
                }
                match &outcome {
                    Ok(token) => {
                        has_token = true;
                        let state = world.lock();
                        let minted = &state.tokens[token.expose()];
                        prop_assert!(!minted.refused, "a refused token was returned");
                        let end = minted.end;
                        drop(state);
                        prop_assert!(end.is_none_or(|end| world.time() < end), "an expired token was returned");
                    }
                    Err(error) => {
                        let is_sound = matches!(issue, Issue::Token(Some(2..) | None));
                        prop_assert!(
                            !is_sound || start < held_back_until || error.kind() == TokenSourceErrorKind::TokenRefused,
                            "the issuer is up, and nothing holds an attempt back: {error}"
                        );
                        let pause = error.retry_after().unwrap_or(Duration::from_secs(30));
                        held_back_until = held_back_until.max(Instant::now() + pause.max(Duration::from_secs(30)));
                    }
                }
                // A failed refresh in the background delays the next attempt as well.
                if !matches!(issue, Issue::Token(Some(2..) | None)) {
                    held_back_until = held_back_until.max(Instant::now() + Duration::from_secs(40));
                }
                last = outcome.ok().or(last);
            }
        }
        prop_assert!(world.lock().seen.most_in_flight <= 1, "two requests for a token were in flight");
        prop_assert_eq!(&world.lock().seen.violations, &Vec::<String>::new());
    }
    // It recovers after every sequence.
    world.issue_rule(|_| Issue::Token(Some(600)));
    sleep(Duration::from_secs(60)).await;
    prop_assert!(source.token().await.is_ok(), "it does not recover");
    // It then waits for nothing.
    let start = Instant::now();
    prop_assert!(source.token().await.is_ok() && start.elapsed().is_zero());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_sequence_follows_the_rules(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(follow(&steps))?;
    }
}
