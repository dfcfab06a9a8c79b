//! Which token a thread gets without waiting.

use std::time::{Duration, SystemTime};

use tokio::time::advance;

use super::access_token::AccessToken;
use super::lifetime::Lifetime;
use super::ready_tokens::ReadyToken;
use crate::clock::{Clock as _, ManualClock, Moment};

fn clock() -> ManualClock {
    ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000))
}

/// A token that is due for a refresh after 480 s.
fn token(text: &str, clock: &ManualClock) -> AccessToken {
    let lifetime = Lifetime::new(Moment::now(clock), Duration::from_secs(600), Duration::from_secs(5), 0.0);
    AccessToken::new(text, Some(lifetime), None, None).unwrap()
}

#[test]
fn every_thread_gets_the_token_that_was_set_last() {
    let (ready, clock) = (ReadyToken::new(), clock());
    for text in ["first", "second"] {
        let token = token(text, &clock);
        ready.set(Some(&token));
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| assert_eq!(ready.get(&clock), Some(token.clone())));
            }
        });
    }
    ready.set(None);
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| assert_eq!(ready.get(&clock), None));
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_token_is_fresh_until_either_clock_says_otherwise() {
    let clock = clock();
    let ready = ReadyToken::new();
    let seconds = Duration::from_secs;
    let fresh_token = || {
        ready.set(Some(&token("a", &clock)));
        assert!(ready.get(&clock).is_some());
    };
    fresh_token();
    clock.advance(seconds(479));
    advance(seconds(479)).await;
    assert!(ready.get(&clock).is_some());
    clock.advance(Duration::from_millis(999));
    assert!(ready.get(&clock).is_some());
    clock.advance(Duration::from_millis(1));
    assert!(ready.get(&clock).is_none());
    // The machine sleeps.
    fresh_token();
    clock.advance(seconds(3_600));
    assert!(ready.get(&clock).is_none());
    // The wall clock is set back, by little and by much.
    for back in [1, 86_400] {
        fresh_token();
        clock.set(clock.now() - seconds(back));
        advance(seconds(479)).await;
        assert!(ready.get(&clock).is_some());
        clock.set(clock.now() - seconds(back));
        advance(seconds(1)).await;
        assert!(ready.get(&clock).is_none());
    }
    // The wall clock stands still from one second after the check on.
    fresh_token();
    clock.advance(seconds(1));
    advance(seconds(480)).await;
    assert!(ready.get(&clock).is_none());
}

#[test]
fn a_token_without_a_lifetime_is_not_reused() {
    let ready = ReadyToken::new();
    ready.set(Some(&AccessToken::bearer("a").unwrap()));
    assert_eq!(ready.get(&clock()), None);
}
