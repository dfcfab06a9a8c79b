//! What the hot paths take, counted rather than timed, so that a noisy machine tells the same: allocations, or, under
//! callgrind, instructions. `scripts/counts` runs it, and holds it against the figures of `benches/counts.txt`.

use std::hint::black_box;

use benches::bare::Bare;
use benches::measure::now;
use benches::subject::{API, Body, Subject, basic, bearer, handler, plain};
use http::Request;
use http_body_util::BodyExt as _;
use tower::{Layer as _, Service};
use tower_client_credentials::{
    Algorithm, AuthorizationServer, BearerAuthLayer, ClientSecret, KeyRing, MemoryStore, Scopes, TokenEndpointLayer,
};

const ROUNDS: usize = 200;

fn main() {
    for algorithm in [Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256] {
        let bare = Bare::new(algorithm);
        let subject = Subject::new(algorithm, 10);
        let (message, _) = subject.token.rsplit_once('.').unwrap();
        let (public, signature) = (bare.public(), bare.sign(message.as_bytes()));
        let signature = &signature[..bare.signature_len()];
        count(&format!("bare signature, {algorithm}"), || (), |()| bare.sign(message.as_bytes()));
        count(&format!("token, {algorithm}"), || subject.request(1), |request| subject.ask(request));
        count(
            &format!("bare verification, {algorithm}"),
            || (),
            |()| public.verify_sig(message.as_bytes(), signature).unwrap(),
        );
        count(
            &format!("verification, {algorithm}"),
            || (),
            |()| subject.verifier.verify_now(&subject.token).unwrap(),
        );
    }
    let subject = Subject::new(Algorithm::ES256, 10);
    count("token, client_secret_post", || subject.request_by_post(), |request| subject.ask(request));
    let wrong = ClientSecret::generate().unwrap();
    count("wrong secret", || basic("client-1", wrong.expose()), |request| subject.ask(request));
    count("unknown client", || basic("client-x", wrong.expose()), |request| subject.ask(request));
    let garbage = "a".repeat(subject.token.len());
    count("garbage token", || (), |()| subject.verifier.verify_now(&garbage).unwrap_err());
    let other = AuthorizationServer::new("https://o.example", KeyRing::generate().unwrap(), MemoryStore::default());
    let stranger = other.unwrap().verifier(API).unwrap();
    count("unknown kid", || (), |()| stranger.verify_now(&subject.token).unwrap_err());
    let scopes = "invoices:read invoices:write orders:read orders:write";
    count("four scopes, parsed", || (), |()| scopes.parse::<Scopes>().unwrap());
    passing(&subject);
}

/// The layers around a service, and the service alone.
fn passing(subject: &Subject) {
    let protect = BearerAuthLayer::new(subject.verifier.clone());
    route("empty layer", plain, handler());
    route("another path", plain, TokenEndpointLayer::new(subject.server.clone()).layer(handler()));
    route("protected route", || bearer(&subject.token), protect.layer(handler()));
    route("protected route, no token", plain, protect.layer(handler()));
}

fn route<S, R>(name: &str, request: impl Fn() -> Request<Body>, mut service: S)
where
    S: Service<Request<Body>, Response = http::Response<R>, Error = std::convert::Infallible>,
    R: http_body::Body,
{
    count(name, request, move |request| {
        let response = now(service.call(request)).unwrap();
        drop(now(response.into_body().collect()));
    });
}

/// Counts one piece of work; what it needs is made before.
fn count<T, R>(name: &str, mut prepare: impl FnMut() -> T, mut work: impl FnMut(T) -> R) {
    for _ in 0..20 {
        black_box(work(prepare()));
    }
    let input = prepare();
    let allocations = allocation_counter::measure(|| drop(black_box(work(input)))).count_total;
    let inputs: Vec<T> = (0..ROUNDS).map(|_| prepare()).collect();
    measured(inputs, &mut work);
    println!("{name}\t{allocations}\t{ROUNDS}");
}

/// The function that callgrind looks into, by its name.
#[inline(never)]
fn measured<T, R>(inputs: Vec<T>, work: &mut impl FnMut(T) -> R) {
    for input in inputs {
        black_box(work(black_box(input)));
    }
}
