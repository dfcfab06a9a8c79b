//! Which token a thread gets without waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::advance;

use super::access_token::AccessToken;
use super::lifetime::Lifetime;
use super::ready_tokens::{KeptToken, ReadyToken};
use crate::clock::{Clock, ManualClock, Moment, SharedClock, SystemClock};

fn clock() -> ManualClock {
    ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000))
}

fn get(ready: &ReadyToken, clock: &ManualClock) -> Option<AccessToken> {
    ready.get(&SharedClock::new(clock.clone()))
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
                scope.spawn(|| assert_eq!(get(&ready, &clock), Some(token.clone())));
            }
        });
    }
    ready.set(None);
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| assert_eq!(get(&ready, &clock), None));
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
        assert!(get(&ready, &clock).is_some());
    };
    fresh_token();
    clock.advance(seconds(479));
    advance(seconds(479)).await;
    assert!(get(&ready, &clock).is_some());
    clock.advance(Duration::from_millis(999));
    assert!(get(&ready, &clock).is_some());
    clock.advance(Duration::from_millis(1));
    assert!(get(&ready, &clock).is_none());
    // The machine sleeps.
    fresh_token();
    clock.advance(seconds(3_600));
    assert!(get(&ready, &clock).is_none());
    // The wall clock is set back, by little and by much.
    for back in [1, 86_400] {
        fresh_token();
        clock.set(clock.now() - seconds(back));
        advance(seconds(479)).await;
        assert!(get(&ready, &clock).is_some());
        clock.set(clock.now() - seconds(back));
        advance(seconds(1)).await;
        assert!(get(&ready, &clock).is_none());
    }
    // The wall clock stands still.
    fresh_token();
    advance(seconds(480)).await;
    assert!(get(&ready, &clock).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_service_does_not_keep_a_token_beyond_its_time_if_the_wall_clock_stands_still() {
    let (ready, clock) = (ReadyToken::new(), clock());
    let mut service = KeptToken::default();
    ready.set(Some(&token("a", &clock)));
    assert!(kept(&ready, &mut service, &clock).is_some());
    advance(Duration::from_secs(480)).await;
    assert!(kept(&ready, &mut service, &clock).is_none());
}

/// At the first look and at those that follow at the same tick.
#[test]
fn a_token_that_has_ended_by_the_clock_of_the_system_is_not_given() {
    let ready = ReadyToken::new();
    let now = Moment::now(&SystemClock);
    let past = Moment { wall: now.wall - Duration::from_secs(480), ..now };
    let lifetime = |requested| Lifetime::new(requested, Duration::from_secs(600), Duration::from_secs(5), 0.0);
    let mut service = KeptToken::default();
    for (requested, is_fresh) in [(past, false), (now, true), (past, false)] {
        ready.set(Some(&AccessToken::new("a", Some(lifetime(requested)), None, None).unwrap()));
        for _ in 0..100 {
            assert_eq!(ready.get(&SharedClock::System).is_some(), is_fresh);
            assert_eq!(ready.update(&mut service, &SharedClock::System), is_fresh);
        }
    }
}

/// A clock that asks the tokens of which it is the clock, once.
#[derive(Debug)]
struct Reentrant(Arc<ReadyToken>, AtomicBool);

impl Clock for Reentrant {
    fn now(&self) -> SystemTime {
        if !self.1.swap(true, Ordering::Relaxed) {
            self.0.get(&SharedClock::System);
        }
        clock().now()
    }
}

#[test]
fn a_clock_of_the_application_is_not_asked_under_a_lock() {
    let ready = Arc::new(ReadyToken::new());
    ready.set(Some(&token("a", &clock())));
    let reentrant = SharedClock::new(Reentrant(ready.clone(), AtomicBool::new(false)));
    assert!(ready.get(&reentrant).is_some());
}

/// The token that a service gets, if it is fresh.
fn kept(ready: &ReadyToken, service: &mut KeptToken, clock: &ManualClock) -> Option<AccessToken> {
    ready.update(service, &SharedClock::new(clock.clone())).then(|| service.token().unwrap().clone())
}

#[test]
fn a_service_does_not_keep_a_token_that_was_replaced() {
    let (ready, clock) = (ReadyToken::new(), clock());
    let mut service = KeptToken::default();
    assert_eq!(kept(&ready, &mut service, &clock), None);
    for text in ["first", "second"] {
        let token = token(text, &clock);
        ready.set(Some(&token));
        for _ in 0..3 {
            assert_eq!(kept(&ready, &mut service, &clock), Some(token.clone()));
        }
    }
    ready.set(None);
    assert_eq!(kept(&ready, &mut service, &clock), None);
    // A token of another cache.
    let (other, own) = (ReadyToken::new(), token("other", &clock));
    other.set(Some(&own));
    ready.set(Some(&token("third", &clock)));
    assert_eq!(kept(&ready, &mut service, &clock), Some(token("third", &clock)));
    assert_eq!(kept(&other, &mut service, &clock), Some(own));
}

#[tokio::test(start_paused = true)]
async fn a_service_does_not_keep_a_token_beyond_its_time_by_either_clock() {
    let clock = clock();
    let ready = ReadyToken::new();
    let mut service = KeptToken::default();
    let seconds = Duration::from_secs;
    let mut is_fresh = |ready: &ReadyToken| kept(ready, &mut service, &clock).is_some();
    ready.set(Some(&token("a", &clock)));
    assert!(is_fresh(&ready));
    clock.advance(seconds(480));
    assert!(!is_fresh(&ready), "the machine slept");
    ready.set(Some(&token("b", &clock)));
    assert!(is_fresh(&ready));
    clock.set(clock.now() - seconds(86_400));
    advance(seconds(479)).await;
    assert!(is_fresh(&ready));
    clock.set(clock.now() - seconds(1));
    advance(seconds(1)).await;
    assert!(!is_fresh(&ready), "the wall clock was set back");
}

#[test]
fn a_clone_of_a_service_gets_the_copy_of_its_own_thread() {
    let (ready, clock) = (ReadyToken::new(), clock());
    ready.set(Some(&token("a", &clock)));
    let mut service = KeptToken::default();
    assert!(ready.update(&mut service, &SharedClock::new(clock)));
    assert!(service.clone().token().is_none());
}

#[test]
fn a_token_without_a_lifetime_is_not_reused() {
    let ready = ReadyToken::new();
    ready.set(Some(&AccessToken::bearer("a").unwrap()));
    assert_eq!(get(&ready, &clock()), None);
}
