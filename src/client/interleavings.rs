//! Interleavings of threads in the cache of tokens, which shuttle chooses. The same source is compiled here once more, with
//! mutexes and tasks of shuttle. A thread is interrupted before each lock and while the issuer works on a request.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response, Uri};
use shuttle::future::block_on;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, MaxSteps, Runner, thread};

// Where the copies of the two modules below look for their siblings.
use super::{
    access_token, attempts, in_flight, issuer_client, refusal, refused_tokens, statistics, token_error, token_request,
    token_source,
};

mod concurrency {
    //! The parts of shuttle.

    pub(super) use shuttle::sync::atomic::{AtomicU64, Ordering};
    pub(super) use shuttle::sync::{Mutex, MutexGuard};

    pub(super) use super::super::concurrency::next_number;

    pub(super) fn cores() -> usize {
        2
    }

    pub(super) fn thread_number() -> usize {
        shuttle::thread::current().id().into()
    }

    pub(super) struct Runtime;

    #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "as the original")]
    impl Runtime {
        pub(super) fn current() -> Option<Self> {
            Some(Self)
        }

        pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
            drop(shuttle::future::spawn(task));
        }
    }
}

#[allow(dead_code, unfulfilled_lint_expectations, clippy::duplicate_mod, reason = "a copy")]
#[path = "ready_tokens.rs"]
mod ready_tokens;
#[allow(dead_code, unfulfilled_lint_expectations, clippy::duplicate_mod, reason = "a copy")]
#[path = "token_cache/mod.rs"]
mod token_cache;

use self::access_token::AccessToken;
use self::issuer_client::{IssuerClient, IssuerSettings};
use self::ready_tokens::KeptToken;
use self::token_cache::{Siblings, Tokens};
use self::token_error::TokenSourceError;
use self::token_request::TokenQuery;
use self::token_source::TokenSource as _;
use super::discovery::TokenEndpoint;
use super::transport::LIMITS;
use crate::client_authentication::ClientAuthentication;
use crate::clock::{ManualClock, SharedClock};
use crate::crypto::SystemRandom;
use crate::transport::{HttpClient, HttpFuture, Limits};
use crate::uri::PlainHttp;

const TIMEOUT: Duration = Duration::from_secs(10);

/// An issuer that gives `token-0`, `token-1`, …
#[derive(Debug, Default)]
struct TestIssuer {
    requests: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

impl HttpClient for TestIssuer {
    fn send(&self, _: Request<Bytes>, _: usize) -> HttpFuture<'_> {
        HttpFuture::new(async move {
            let number = self.requests.fetch_add(1, Ordering::Relaxed);
            let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
            self.most_in_flight.fetch_max(in_flight, Ordering::Relaxed);
            thread::yield_now();
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            let body = format!(r#"{{"access_token": "token-{number}", "token_type": "Bearer", "expires_in": 600}}"#);
            Ok(Response::new(Bytes::from(body)))
        })
    }
}

struct NoSiblings;

impl Siblings for NoSiblings {
    fn tokens(self: Arc<Self>, _: TokenQuery) -> Result<Tokens, TokenSourceError> {
        unreachable!("no scopes are added")
    }
}

struct World {
    tokens: Tokens,
    issuer: Arc<TestIssuer>,
    clock: ManualClock,
}

impl World {
    /// A time-out of zero makes every request for a token count as lost at once.
    fn new(timeout: Duration) -> Self {
        let issuer = Arc::new(TestIssuer::default());
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
        let client = IssuerClient::new(IssuerSettings {
            issuer: "https://auth.example.com".parse().unwrap(),
            client_id: "billing".parse().unwrap(),
            authentication: ClientAuthentication::certificate(),
            endpoint: TokenEndpoint::At(Uri::from_static("https://auth.example.com/token")),
            assertion_audience: None,
            http: Arc::new(issuer.clone()),
            plain_http: PlainHttp::Loopback,
            limits: Limits { time: timeout, ..LIMITS },
            margin: Duration::from_secs(5),
            max_scopes: None,
            assumed_life: None,
            clock: SharedClock::new(clock.clone()),
            random: Arc::new(SystemRandom),
            events: None,
        });
        let siblings: Weak<NoSiblings> = Weak::new();
        Self { tokens: Tokens::new(Arc::new(client), siblings, TokenQuery::default()), issuer, clock }
    }

    fn requests(&self) -> usize {
        self.issuer.requests.load(Ordering::Relaxed)
    }

    /// Has each of the threads do something at the same time.
    fn on_threads<T: Send + 'static>(
        &self,
        threads: usize,
        work: impl Fn(&Tokens, usize) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let start = |number| {
            let (tokens, work) = (self.tokens.clone(), work.clone());
            thread::spawn(move || work(&tokens, number))
        };
        let threads: Vec<_> = (0..threads).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    }
}

fn token(tokens: &Tokens) -> AccessToken {
    block_on(Tokens::token(tokens)).unwrap()
}

/// Runs a test with many interleavings: random ones, and those that change the thread seldom.
fn interleaved(test: fn()) {
    let config = || {
        let mut config = Config::new();
        config.stack_size = 0x8_0000;
        // Threads can give up each other's requests in turn without end.
        config.max_steps = MaxSteps::ContinueAfter(3_000);
        config
    };
    Runner::new(RandomScheduler::new(150), config()).run(test);
    Runner::new(PctScheduler::new(3, 100), config()).run(test);
}

#[test]
fn callers_without_a_token_share_one_request() {
    interleaved(|| {
        let world = World::new(TIMEOUT);
        let got: HashSet<_> = world.on_threads(3, |tokens, _| token(tokens).expose().to_owned()).into_iter().collect();
        assert_eq!(got.len(), 1, "{got:?}");
        assert_eq!(world.requests(), 1);
    });
}

#[test]
fn callers_with_an_old_token_do_not_wait_and_cause_one_refresh() {
    interleaved(|| {
        let world = World::new(TIMEOUT);
        token(&world.tokens);
        world.clock.advance(Duration::from_secs(500));
        let mut changes = world.tokens.changes();
        for ready in world.on_threads(3, |tokens, _| tokens.ready().map(|token| token.expose().to_owned())) {
            // A thread that comes late finds the new one.
            assert!(ready.is_some(), "a caller waits though there is a token");
        }
        block_on(changes.changed()).unwrap();
        assert_eq!(token(&world.tokens).expose(), "token-1");
        assert_eq!((world.requests(), world.issuer.most_in_flight.load(Ordering::Relaxed)), (2, 1));
    });
}

#[test]
fn a_token_is_not_given_out_after_its_refusal() {
    interleaved(|| {
        let world = World::new(TIMEOUT);
        // Recorded without a lock of shuttle, so that no thread is interrupted between the refusal and its record.
        let refused = Arc::new(std::sync::Mutex::new(HashSet::new()));
        world.on_threads(3, move |tokens, _| {
            for _ in 0..2 {
                let before = refused.lock().unwrap().clone();
                let got = tokens.ready().unwrap_or_else(|| token(tokens));
                assert!(!before.contains(got.expose()), "{} was given out after its refusal", got.expose());
                got.accepted();
                tokens.invalidate(&got);
                refused.lock().unwrap().insert(got.expose().to_owned());
            }
        });
    });
}

/// Each thread has a service of its own, which keeps what it was given.
#[test]
fn no_service_keeps_a_token_after_its_refusal() {
    interleaved(|| {
        let world = World::new(TIMEOUT);
        let refused = Arc::new(std::sync::Mutex::new(HashSet::new()));
        world.on_threads(3, move |tokens, _| {
            let mut kept = KeptToken::default();
            for _ in 0..3 {
                let before = refused.lock().unwrap().clone();
                let got = tokens.ready_kept(&mut kept).cloned().unwrap_or_else(|| token(tokens));
                assert!(!before.contains(got.expose()), "{} was given out after its refusal", got.expose());
                got.accepted();
                tokens.invalidate(&got);
                refused.lock().unwrap().insert(got.expose().to_owned());
            }
        });
    });
}

/// A refresh replaces the copies one after the other, while the services look at them.
#[test]
fn services_that_kept_a_token_get_the_one_of_a_refresh() {
    interleaved(|| {
        let world = World::new(TIMEOUT);
        token(&world.tokens);
        world.clock.advance(Duration::from_secs(500));
        world.on_threads(3, |tokens, _| {
            let mut kept = KeptToken::default();
            let mut changes = tokens.changes();
            assert!(tokens.ready_kept(&mut kept).is_some());
            if kept.token().unwrap().expose() == "token-0" {
                block_on(changes.changed()).unwrap();
            }
            assert_eq!(tokens.ready_kept(&mut kept).unwrap().expose(), "token-1");
        });
    });
}

#[test]
fn refusals_of_one_token_by_several_callers_replace_it_once() {
    interleaved(|| {
        let world = World::new(TIMEOUT);
        let first = token(&world.tokens);
        first.accepted();
        world.on_threads(3, move |tokens, _| {
            tokens.invalidate(&first);
            assert_eq!(token(tokens).expose(), "token-1");
        });
        assert_eq!(world.requests(), 2);
    });
}

/// The first request is refused while another one is in flight, or after that.
#[test]
fn a_refusal_during_a_refresh_drops_only_the_token_that_was_refused() {
    interleaved(|| {
        let world = World::new(TIMEOUT);
        let first = token(&world.tokens);
        first.accepted();
        world.clock.advance(Duration::from_secs(500));
        world.on_threads(3, move |tokens, number| match number {
            0 => tokens.invalidate(&first),
            _ => drop(tokens.ready()),
        });
        assert_eq!(token(&world.tokens).expose(), "token-1");
        assert_eq!(world.requests(), 2);
    });
}

/// Each request counts as lost at once, so that several are in flight.
#[test]
fn a_request_that_was_given_up_does_not_replace_the_token_in_use() {
    interleaved(|| {
        let world = World::new(Duration::ZERO);
        let seen = world.on_threads(3, |tokens, _| {
            let got = token(tokens);
            // In use from now on, since it is not refused.
            let in_use = tokens.ready();
            thread::yield_now();
            (got.expose().to_owned(), in_use.map(|token| token.expose().to_owned()))
        });
        let in_use = token(&world.tokens);
        for (got, ready) in seen {
            assert_eq!(Some(got.as_str()), ready.as_deref());
            assert_eq!(got, in_use.expose(), "a request that was given up replaced the token in use");
        }
    });
}
