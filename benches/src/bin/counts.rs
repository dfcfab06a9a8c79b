//! Counts the cost of the hot paths instead of timing it, so that a busy machine does not affect the result: allocations, or,
//! under callgrind, instructions. `scripts/counts` runs it and compares the result with `benches/counts-baseline.txt`.
//!
//! With the name of a path as an argument, it runs only that path, to show under callgrind
//! (`--toggle-collect='counts::measured*'`) where its instructions are spent.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::routing::{MethodRouter, get};
use benches::assertions::Signing;
use benches::attached;
use benches::bare::Bare;
use benches::measure::now;
use benches::subject::{API, Body, Empty, Subject, basic, bearer, handler, plain};
use http::Request;
use http_body_util::BodyExt as _;
use tower::layer::layer_fn;
use tower::{Layer as _, Service};
use tower_client_credentials::clock::Clock;
use tower_client_credentials::{
    Algorithm, AuthorizationServer, BearerAuthLayer, ClientSecret, KeyRing, MemoryStore, Scopes, TokenEndpointLayer,
};

const ROUNDS: usize = 200;

/// RSA signatures are blinded, which takes a random amount of work. It evens out over many signatures.
const ROUNDS_OF_RSA: usize = 1_200;

/// Nothing is subtracted.
const ALL: &str = "-";

fn main() {
    for algorithm in [Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256] {
        let bare = Bare::new(algorithm);
        let subject = Subject::new(algorithm, 10);
        let (message, _) = subject.token.rsplit_once('.').unwrap();
        let (public, signature) = (bare.public(), bare.sign(message.as_bytes()));
        let signature = &signature[..bare.signature_len()];
        let signed = format!("bare signature, {algorithm}");
        let rounds = if algorithm == Algorithm::RS256 { ROUNDS_OF_RSA } else { ROUNDS };
        count_over(rounds, &signed, "", || (), |()| bare.sign(message.as_bytes()));
        let token = format!("token, {algorithm}");
        count_over(rounds, &token, &signed, || subject.request(1), |request| subject.ask(request));
        let verified = format!("bare verification, {algorithm}");
        count(&verified, "", || (), |()| public.verify_sig(message.as_bytes(), signature).unwrap());
        // The cost of an ES256 verification depends on the key and the signature, so it has no limit.
        let base = if algorithm == Algorithm::ES256 { "" } else { &verified };
        let verifier = subject.verifier.clone().without_cache();
        count(&format!("verification, {algorithm}"), base, || (), |()| verifier.verify_now(&subject.token).unwrap());
    }
    let subject = Subject::new(Algorithm::ES256, 10);
    count(
        "token, client_secret_post",
        "bare signature, ES256",
        || subject.request_by_post(),
        |request| subject.ask(request),
    );
    let signing = Signing::default();
    count("token, private_key_jwt", "", || signing.request(), |request| signing.ask(request));
    let repeating = Subject::with(Algorithm::ES256, 10, |builder| builder.reuse_tokens(50));
    count("token, repeated", ALL, || repeating.request(1), |request| repeating.ask(request));
    count("verification, seen before", ALL, || (), |()| subject.verifier.verify_now(&subject.token).unwrap());
    let garbage = "a".repeat(subject.token.len());
    count("garbage token", ALL, || (), |()| subject.verifier.verify_now(&garbage).unwrap_err());
    let other = AuthorizationServer::new("https://o.example", KeyRing::generate().unwrap(), MemoryStore::default());
    let stranger = other.unwrap().verifier(API).unwrap();
    count("token of an unknown key", ALL, || (), |()| stranger.verify_now(&subject.token).unwrap_err());
    let scopes = "invoices:read invoices:write orders:read orders:write";
    count("four scopes, parsed", ALL, || (), |()| scopes.parse::<Scopes>().unwrap());
    passing(&subject);
    attaching();
    // After a hundred of them in a minute the response changes. The minute does not end here, so it is always the same mixture.
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let subject = Subject::with(Algorithm::ES256, 10, |builder| builder.clock(Stopped(time)));
    let wrong = ClientSecret::generate().unwrap();
    count("wrong secret", ALL, || basic("client-1", wrong.expose()), |request| subject.ask(request));
    count("unknown client", ALL, || basic("client-x", wrong.expose()), |request| subject.ask(request));
}

/// A clock that does not run.
#[derive(Debug)]
struct Stopped(SystemTime);

impl Clock for Stopped {
    fn now(&self) -> SystemTime {
        self.0
    }
}

/// The layers around a service, and the service alone.
fn passing(subject: &Subject) {
    let protect = BearerAuthLayer::new(subject.verifier.clone());
    route("empty layer, another path", "", plain, handler());
    route("empty layer, a bearer token", "", || bearer(&subject.token), handler());
    let tokens = TokenEndpointLayer::new(subject.server.clone());
    let empty = "empty layer, another path";
    route("another path", empty, plain, tokens.layer(handler()));
    route("protected route, no token", empty, plain, protect.layer(handler()));
    let seen = "protected route, seen before";
    route(seen, "empty layer, a bearer token", || bearer(&subject.token), protect.layer(handler()));
    let axum = |method: MethodRouter| Router::new().route("/invoices", method).into_service::<Body>();
    let invoices = || get(async || "invoices");
    let empty = "empty layer, in axum";
    route(empty, "", || bearer(&subject.token), axum(invoices().layer(layer_fn(Empty))));
    let seen = "protected route, seen before, in axum";
    route(seen, empty, || bearer(&subject.token), axum(invoices().layer(protect.clone())));
}

/// The layer of the client role around a service, and the service alone.
fn attaching() {
    let layer = attached::layer();
    let (base, calls) = ("call without a token", attached::request);
    count(base, "", calls, |request| attached::call(&mut attached::Inner, request));
    let mut once = layer.clone().without_repeat().layer(attached::Inner);
    count("token attached, without repetition", base, calls, |request| attached::call(&mut once, request));
    let mut twice = layer.layer(attached::Inner);
    count("token attached", base, calls, |request| attached::call(&mut twice, request));
}

fn route<S, R>(name: &str, base: &str, request: impl Fn() -> Request<Body>, mut service: S)
where
    S: Service<Request<Body>, Response = http::Response<R>, Error = std::convert::Infallible>,
    R: http_body::Body,
{
    count(name, base, request, move |request| {
        let response = now(service.call(request)).unwrap();
        drop(now(response.into_body().collect()));
    });
}

/// Counts one piece of work, whose input is prepared in advance. The cost of `base` is subtracted. A figure without a base has
/// no limit.
fn count<T, R>(name: &str, base: &str, prepare: impl FnMut() -> T, work: impl FnMut(T) -> R) {
    count_over(ROUNDS, name, base, prepare, work);
}

fn count_over<T, R>(
    rounds: usize,
    name: &str,
    base: &str,
    mut prepare: impl FnMut() -> T,
    mut work: impl FnMut(T) -> R,
) {
    if std::env::args().nth(1).is_some_and(|only| only != name) {
        return;
    }
    for _ in 0..20 {
        black_box(work(prepare()));
    }
    let allocations = (0..20).map(|_| {
        let input = prepare();
        allocation_counter::measure(|| drop(black_box(work(input)))).count_total
    });
    let allocations = median(allocations.collect());
    let inputs: Vec<T> = (0..rounds).map(|_| prepare()).collect();
    measured(inputs, &mut work);
    println!("{name}\t{base}\t{allocations}\t{rounds}");
}

/// Returns the most frequent count. A nonce that begins with a zero, or a map that grows, makes a few runs take more. The
/// lowest count would hide an allocation that all runs but one make.
fn median(mut counts: Vec<u64>) -> u64 {
    counts.sort_unstable();
    counts[counts.len() / 2]
}

/// The function whose cost callgrind collects, selected by its name.
#[inline(never)]
fn measured<T, R>(inputs: Vec<T>, work: &mut impl FnMut(T) -> R) {
    for input in inputs {
        black_box(work(black_box(input)));
    }
}
