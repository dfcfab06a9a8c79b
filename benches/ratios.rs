//! What we cost beside the least that anybody could: each pair measured in turn in one run, and told as a ratio of
//! medians. `cargo bench --bench ratios`.
//!
//! Machines differ, so the absolute times are for orientation. Nothing here fails: it is read, not judged.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::convert::Infallible;
use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, ParsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};
use tower_client_credentials::{
    AuthorizationServer, BearerAuthLayer, Client, ClientSecret, KeyRing, MemoryStore, Scope, TokenEndpointLayer,
    Verifier,
};

const API: &str = "https://api.example.com";
const READ: Scope = Scope::from_static("invoices:read");

type Body = Full<Bytes>;

fn main() {
    let bench = Bench::new();
    println!("{:<58} {:>10} {:>10} {:>7}", "what / beside what", "ns", "ns", "ratio");
    bench.issuing();
    bench.verifying();
    bench.refusing();
    bench.passing_through();
    bench.seen_before();
}

struct Bench {
    runtime: tokio::runtime::Runtime,
    server: AuthorizationServer,
    verifier: Verifier,
    secret: String,
    token: String,
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let secret = ClientSecret::generate().unwrap();
        let client = |id: String| Client::new(id, &secret).scope(READ).audience(API);
        let clients: MemoryStore = (0..10).map(|n| client(format!("client-{n}"))).collect();
        let keys = KeyRing::generate().unwrap();
        let server = AuthorizationServer::new("https://auth.example.com", keys, clients).unwrap();
        let verifier = server.verifier(API).unwrap().without_cache();
        let mut bench = Self { runtime, server, verifier, secret: secret.expose().to_owned(), token: String::new() };
        bench.token = bench.token();
        bench
    }

    fn token(&self) -> String {
        let answer: serde_json::Value = serde_json::from_slice(&self.ask("client-1", &self.secret)).unwrap();
        answer.get("access_token").and_then(|token| token.as_str()).unwrap().to_owned()
    }

    /// A request for a token, from its first byte in memory to the last of its answer.
    fn ask(&self, id: &str, secret: &str) -> Bytes {
        let request = Request::post("/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))))
            .body(Body::from("grant_type=client_credentials&scope=invoices%3Aread"))
            .unwrap();
        self.runtime.block_on(async {
            let response = self.server.token_service().oneshot(request).await.unwrap();
            response.into_body().collect().await.unwrap().to_bytes()
        })
    }

    fn issuing(&self) {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let message = self.token.rsplit_once('.').unwrap().0.as_bytes();
        compare(
            "token endpoint, ES256 / the bare signature",
            2_000,
            || drop(black_box(self.ask("client-1", &self.secret))),
            || _ = black_box(pair.sign(&SystemRandom::new(), message).unwrap()),
        );
    }

    fn verifying(&self) {
        let (message, signature) = self.token.rsplit_once('.').unwrap();
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let bare = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref()).unwrap();
        let own = pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(signature).unwrap().len(), own.as_ref().len());
        compare(
            "verification, ES256 / the bare verification",
            2_000,
            || drop(black_box(self.verifier.verify_now(&self.token).unwrap())),
            || bare.verify_sig(black_box(message.as_bytes()), own.as_ref()).unwrap(),
        );
    }

    fn refusing(&self) {
        let wrong = ClientSecret::generate().unwrap();
        let (known, unknown) = ("client-1", "client-x");
        compare(
            "an unknown client / a wrong secret",
            20_000,
            || drop(black_box(self.ask(unknown, wrong.expose()))),
            || drop(black_box(self.ask(known, wrong.expose()))),
        );
        compare(
            "a wrong secret / a good one",
            2_000,
            || drop(black_box(self.ask(known, wrong.expose()))),
            || drop(black_box(self.ask(known, &self.secret))),
        );
        let garbage = "a".repeat(self.token.len());
        compare(
            "a garbage token / a good one",
            2_000,
            || _ = black_box(self.verifier.verify_now(&garbage).unwrap_err()),
            || drop(black_box(self.verifier.verify_now(&self.token).unwrap())),
        );
        let other = AuthorizationServer::new("https://o.example", KeyRing::generate().unwrap(), MemoryStore::default());
        let stranger = other.unwrap().verifier(API).unwrap();
        compare(
            "a token with an unknown kid / a good one",
            2_000,
            || _ = black_box(stranger.verify_now(&self.token).unwrap_err()),
            || drop(black_box(self.verifier.verify_now(&self.token).unwrap())),
        );
    }

    /// What a token that was verified before costs over a layer that does nothing, by how many tokens come in turn.
    fn seen_before(&self) {
        let inner =
            service_fn(|_: Request<Body>| std::future::ready(Ok::<_, Infallible>(Response::new(Body::default()))));
        let nothing = tower::util::MapRequestLayer::new(|request: Request<Body>| request).layer(inner);
        for count in [1, 10_000] {
            let guarded = BearerAuthLayer::new(self.verifier.clone().cache(count, usize::MAX)).layer(inner);
            let token = || format!("Bearer {}", self.token());
            let tokens: Vec<String> = (0..count).map(|_| token()).collect();
            for threads in [1, std::thread::available_parallelism().map_or(1, usize::from)] {
                let (ours, bare) = beside_each_other(threads, &tokens, &guarded, &nothing);
                let what = format!("a token seen before, one of {count}, threads: {threads}");
                println!("{what:<58} {ours:>10.0} {bare:>10.0} {:>+7.0}", ours - bare);
            }
        }
    }

    fn passing_through(&self) {
        let inner = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::default())));
        let mut ours = TokenEndpointLayer::new(self.server.clone()).layer(inner);
        let mut bare = inner;
        let request = || Request::get("/invoices").body(Body::default()).unwrap();
        compare(
            "another path through TokenEndpointLayer / without it",
            20_000,
            || drop(black_box(self.runtime.block_on(ours.call(request())).unwrap())),
            || drop(black_box(self.runtime.block_on(bare.call(request())).unwrap())),
        );
        let protect = BearerAuthLayer::new(self.verifier.clone());
        let mut guarded = protect.layer(inner);
        let request = || {
            Request::get("/invoices")
                .header("authorization", format!("Bearer {}", self.token))
                .body(Body::default())
                .unwrap()
        };
        compare(
            "a protected route / the verification alone",
            2_000,
            || drop(black_box(self.runtime.block_on(guarded.call(request())).unwrap())),
            || drop(black_box(self.verifier.verify_now(&self.token).unwrap())),
        );
    }
}

/// How long a request takes in either of two services, in nanoseconds: medians over batches in turn, on so many threads
/// that each have a copy of their own.
fn beside_each_other<S, T>(threads: usize, tokens: &[String], one: &S, other: &T) -> (f64, f64)
where
    S: Service<Request<Body>, Response: Send, Error = Infallible> + Clone + Sync,
    T: Service<Request<Body>, Response: Send, Error = Infallible> + Clone + Sync,
{
    let batch = |round: usize, call: &mut dyn FnMut(Request<Body>)| {
        let (before, after) = tokens.split_at(round * usize::from(BATCH) % tokens.len());
        let begin = Instant::now();
        for token in after.iter().chain(before).cycle().take(BATCH.into()) {
            call(Request::get("/invoices").header("authorization", token).body(Body::default()).unwrap());
        }
        begin.elapsed()
    };
    let rounds = || {
        let (mut one, mut other) = (one.clone(), other.clone());
        let times = (0..BATCHES).map(|round| {
            let one = batch(round, &mut |request| drop(black_box(one.call(request).now_or_never().unwrap())));
            (one, batch(round, &mut |request| drop(black_box(other.call(request).now_or_never().unwrap()))))
        });
        times.collect::<Vec<_>>()
    };
    let times: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(rounds)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let (ones, others) = times.into_iter().unzip();
    let each = |times| median(times).as_secs_f64() * 1e9 / f64::from(BATCH);
    (each(ones), each(others))
}

/// Short, so that most are done before the machine turns to somebody else.
const BATCH: u16 = 100;
const BATCHES: usize = 5_000;

/// Times both in turn, and prints the medians and their ratio.
fn compare(what: &str, rounds: usize, mut one: impl FnMut(), mut other: impl FnMut()) {
    let (mut ones, mut others) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
    for round in 0..rounds + rounds / 10 {
        let times = (time(&mut one), time(&mut other));
        // The first tenth warms up.
        if round >= rounds / 10 {
            ones.push(times.0);
            others.push(times.1);
        }
    }
    let (one, other) = (median(ones), median(others));
    println!(
        "{what:<58} {:>10} {:>10} {:>7.3}",
        one.as_nanos(),
        other.as_nanos(),
        one.as_secs_f64() / other.as_secs_f64()
    );
}

fn time(work: &mut impl FnMut()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
