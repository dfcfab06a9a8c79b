//! Load tests: callers send many made-up tokens of several kinds, while others send valid ones.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{API, ISSUER, Introspection, NOW, SECOND, SECRET, WallClock, active};
use crate::ClientSecret;
use crate::transport::{HttpClient, HttpError, HttpFuture};
use crate::verification::{UnavailableKind, Verifier, VerifyError};
use crate::watchdog::Watchdog;

/// A server whose answer depends on the token's first word: `good`, `hang`, or a status. Other tokens are inactive.
#[derive(Clone, Debug)]
struct Server(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    takes: Duration,
    /// The answer for unknown tokens, in the same words.
    unknown: Mutex<&'static str>,
    /// One in this many connections is refused; 0 for none.
    refuses_one_in: usize,
    asked: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    _watchdog: Watchdog,
}

impl Server {
    fn taking(takes: Duration) -> Self {
        Self::with_unknown("inactive", takes)
    }

    fn with_unknown(unknown: &'static str, takes: Duration) -> Self {
        Self::with(unknown, takes, 0)
    }

    fn with(unknown: &'static str, takes: Duration, refuses_one_in: usize) -> Self {
        let zero = AtomicUsize::default;
        Self(Arc::new(Inner {
            takes,
            unknown: Mutex::new(unknown),
            refuses_one_in,
            asked: zero(),
            at_once: zero(),
            most_at_once: zero(),
            _watchdog: Watchdog::start(),
        }))
    }

    fn verifier(&self) -> Verifier {
        let secret = ClientSecret::new(SECRET).unwrap();
        let asking = Introspection::new(ISSUER, API).unwrap().client_secret_basic("api", secret).unwrap();
        let asking = asking.at("https://auth.example.com/introspect").unwrap();
        asking.http_client(self.clone()).clock(WallClock::new()).build().unwrap()
    }

    /// Returns the number of requests, and of concurrent requests at most, since the last call.
    fn counts(&self) -> (usize, usize) {
        (self.0.asked.swap(0, Ordering::SeqCst), self.0.most_at_once.swap(0, Ordering::SeqCst))
    }
}

struct Leaves<'a>(&'a AtomicUsize);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl HttpClient for Server {
    fn send(&self, request: Request<Bytes>, _: usize) -> HttpFuture<'_> {
        HttpFuture::new(async move {
            let Inner { takes, unknown, refuses_one_in, asked, at_once, most_at_once, .. } = &*self.0;
            let number = asked.fetch_add(1, Ordering::SeqCst) as u64;
            // In pseudorandom order.
            let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
            if *refuses_one_in > 0 && hash.is_multiple_of(*refuses_one_in as u64) {
                return Err(HttpError::no_connection("one of several hosts is down"));
            }
            most_at_once.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let _leaves = Leaves(at_once);
            sleep(*takes).await;
            let unknown = *unknown.lock().unwrap();
            let body = std::str::from_utf8(request.body()).unwrap();
            let token = body["token=".len()..].split('&').next().unwrap();
            let (status, answer) = match token.split_once('-').map_or(unknown, |(word, _)| word) {
                "good" => {
                    let mut answer = active();
                    answer["exp"] = json!(NOW + 100_000);
                    (200, answer)
                }
                "inactive" => (200, json!({"active": false})),
                "hang" => std::future::pending().await,
                status => (status.parse().unwrap(), json!({})),
            };
            Ok(Response::builder().status(status).body(answer.to_string().into()).unwrap())
        })
    }
}

/// Sends made-up tokens of these kinds in turn, about `per_second`, at pseudorandom times, without end.
async fn flood(verifier: Verifier, kinds: &'static [&'static str], per_second: usize) {
    let (mut shown, mut millis, mut random) = (0, 0, 0x1234_5678_9abc_def1_u64);
    loop {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let pause = 1 + usize::try_from(random % 19).unwrap();
        sleep(Duration::from_millis(pause as u64)).await;
        millis += pause;
        while shown < millis * per_second / 1_000 {
            let (verifier, token) = (verifier.clone(), format!("{}-{shown}", kinds[shown % kinds.len()]));
            tokio::spawn(async move { verifier.verify(&token).await });
            shown += 1;
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Good {
    /// The server called them active before, and is asked about each again.
    Known,
    New,
}

/// Returns how many of `count` different valid tokens are admitted, one of which is sent per `gap`.
async fn admitted(
    server: &Server,
    (kinds, per_second): (&'static [&'static str], usize),
    good: Good,
    (count, gap): (usize, Duration),
) -> usize {
    let verifier = server.verifier();
    if matches!(good, Good::Known) {
        for number in 0..count {
            while verifier.verify(&format!("good-{number}")).await.is_err() {
                sleep(SECOND).await;
            }
        }
        sleep(31 * SECOND).await;
    }
    let stranger = tokio::spawn(flood(verifier.clone(), kinds, per_second));
    // Long enough for the server to count as down, if it does.
    sleep(6 * SECOND).await;
    let mut shown = Vec::new();
    for number in 0..count {
        let (verifier, token) = (verifier.clone(), format!("good-{number}"));
        shown.push(tokio::spawn(async move { verifier.verify(&token).await.is_ok() }));
        sleep(gap + Duration::from_millis(number as u64 * 7 % 31)).await;
    }
    stranger.abort();
    let mut admitted = 0;
    for verified in shown {
        admitted += usize::from(verified.await.unwrap());
    }
    println!("{good:?}, one per {gap:?}, with {per_second} a second of {kinds:?}: {admitted} of {count} admitted");
    admitted
}

#[tokio::test(start_paused = true)]
async fn made_up_tokens_do_not_use_the_slots_of_active_tokens() {
    let server = Server::taking(SECOND / 5);
    for per_second in [1_000, 4_000] {
        let strangers = (&["inactive"][..], per_second);
        let admitted = admitted(&server, strangers, Good::Known, (100, SECOND / 20)).await;
        assert_eq!(admitted, 100, "{per_second}");
    }
    let (_, most_at_once) = server.counts();
    assert!((193..=256).contains(&most_at_once), "{most_at_once}");
}

#[tokio::test(start_paused = true)]
async fn unanswered_tokens_do_not_block_active_tokens() {
    for per_second in [60, 500] {
        let server = Server::taking(SECOND / 50);
        let admitted = admitted(&server, (&["hang"], per_second), Good::Known, (150, SECOND / 10)).await;
        assert_eq!(admitted, 150, "{per_second}");
        assert!(server.counts().1 <= 256);
    }
}

#[tokio::test(start_paused = true)]
async fn alternating_kinds_of_errors_do_not_block_active_tokens() {
    let server = Server::taking(SECOND / 50);
    for kinds in [&["500", "403"], &["429", "403"], &["hang", "403"], &["500", "429"]] {
        // With a gap in which the server counts as down again each time.
        let admitted = admitted(&server, (kinds, 100), Good::Known, (20, 6 * SECOND)).await;
        assert_eq!(admitted, 20, "{kinds:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn occasionally_refused_connections_affect_only_their_own_tokens() {
    for (refuses_one_in, least) in [(2, 85), (50, 190)] {
        for per_second in [0, 50, 200] {
            for good in [Good::Known, Good::New] {
                let server = Server::with("inactive", SECOND / 50, refuses_one_in);
                let admitted = admitted(&server, (&["inactive"], per_second), good, (200, SECOND / 5)).await;
                assert!(admitted >= least, "one in {refuses_one_in}: {admitted}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_token_is_reported_as_such_unless_the_server_is_down() {
    let kind = async |verifier: &Verifier, token: &str| match verifier.verify(token).await {
        Err(VerifyError::Unavailable(unavailable)) => unavailable.kind(),
        other => panic!("{other:?}"),
    };
    let server = Server::taking(SECOND / 50);
    let verifier = server.verifier();
    verifier.verify("good-1").await.unwrap();
    for token in ["403-a", "500-a", "500-b", "500-c", "500-a"] {
        assert_eq!(kind(&verifier, token).await, UnavailableKind::UnansweredToken, "{token}");
    }
    *server.0.unknown.lock().unwrap() = "500";
    sleep(6 * SECOND).await;
    // The fourth failure in a row, after which the probe is sent.
    assert_eq!(kind(&verifier, "500-d").await, UnavailableKind::UnansweredToken);
    sleep(SECOND / 2).await;
    for token in ["500-g", "good-2", "500-d"] {
        assert_eq!(kind(&verifier, token).await, UnavailableKind::Introspection, "{token}: the server is down");
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_that_fail_immediately_do_not_block_new_tokens_of_a_quiet_api() {
    let server = Server::taking(SECOND / 50);
    for (per_second, count, gap) in [(10, 100, 10 * SECOND), (50, 20, 10 * SECOND), (200, 30, SECOND)] {
        let admitted = admitted(&server, (&["500"], per_second), Good::New, (count, gap)).await;
        assert_eq!(admitted, count, "{per_second}, {gap:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn unanswered_tokens_block_few_new_tokens() {
    // At the start, no token has an answer. The first new token with an answer ends that state, which may take a while.
    for (per_second, least) in [(4, 300), (60, 300), (90, 240)] {
        let server = Server::taking(SECOND / 50);
        let admitted = admitted(&server, (&["hang"], per_second), Good::New, (300, SECOND)).await;
        assert!(admitted >= least, "{per_second}: {admitted}");
        assert!(server.counts().1 <= 256);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_for_every_token_is_asked_about_one_token_and_one_probe_per_second() {
    for (kind, takes, max_a_second) in [
        ("500", SECOND / 50, 2),
        ("500", 4 * SECOND, 2),
        ("502", 4 * SECOND, 2),
        ("hang", Duration::ZERO, 2),
        ("429", SECOND / 50, 1),
        ("503", SECOND / 50, 1),
        ("401", SECOND / 50, 1),
    ] {
        let server = Server::with_unknown(kind, takes);
        let kinds: &'static [&'static str] = Box::leak(Box::new([kind]));
        let stranger = tokio::spawn(flood(server.verifier(), kinds, 500));
        // Also the requests from before the outage have ended.
        sleep(16 * SECOND).await;
        server.counts();
        sleep(20 * SECOND).await;
        let (asked, at_once) = server.counts();
        println!("{kind} after {takes:?}, 500 tokens a second: {asked} asked in 20 s, {at_once} at once");
        assert!(asked <= 20 * max_a_second && at_once <= 12, "{kind}, {takes:?}: {asked}, {at_once}");
        assert!(asked >= 18, "{kind}, {takes:?}: it is asked until it answers");
        stranger.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_recovered_server_is_detected_even_if_it_cannot_answer_for_any_attempted_token() {
    let server = Server::with_unknown("500", SECOND / 50);
    let verifier = server.verifier();
    let stranger = tokio::spawn(flood(verifier.clone(), &["500"], 500));
    sleep(16 * SECOND).await;
    assert!(verifier.verify("good-1").await.is_err(), "it is down");
    *server.0.unknown.lock().unwrap() = "inactive";
    sleep(2 * SECOND).await;
    for number in 2..100 {
        assert!(verifier.verify(&format!("good-{number}")).await.is_ok(), "{number}");
        sleep(SECOND).await;
    }
    stranger.abort();
}

#[tokio::test(start_paused = true)]
async fn a_token_that_loses_its_slot_gets_503_and_its_request_is_cancelled() {
    let server = Server::taking(Duration::ZERO);
    let verifier = server.verifier();
    let first = {
        let verifier = verifier.clone();
        tokio::spawn(async move { timeout(3 * SECOND, verifier.verify("hang-first")).await })
    };
    sleep(SECOND / 10).await;
    for number in 1..192 {
        let verifier = verifier.clone();
        tokio::spawn(async move { verifier.verify(&format!("hang-{number}")).await });
    }
    sleep(SECOND).await;
    assert!(verifier.verify("good-1").await.is_err(), "no slot is free");
    sleep(SECOND.mul_f64(0.95)).await;
    assert!(verifier.verify("good-2").await.is_ok());
    let error = first.await.unwrap().expect("an answer before five seconds are over").unwrap_err();
    let cause = std::error::Error::source(&error).and_then(std::error::Error::source).map(ToString::to_string);
    assert!(format!("{error:?} {cause:?}").contains("its slot was needed for another token"), "{error:?}");
    assert_eq!(server.0.at_once.load(Ordering::SeqCst), 191, "the others still wait");
}
