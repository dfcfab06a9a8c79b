//! Measures the in-process cost of the crate against the bare work and against other implementations, in turn in one run, as
//! medians of ratios. Prints rows of tab-separated figures, which `scripts/bench` formats.
//!
//! Each pair is measured for about a second, in batches of 16, in turn. Building the requests is outside of the measured time.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::RsaKeyPair;
use benches::assertions::Signing;
use benches::bare::Bare;
use benches::lean::Lean;
use benches::measure::{Figure, Work, interleaved, now};
use benches::slots::Slots;
use benches::subject::{API, FORM, Subject, basic, bearer, client_id, handler, plain};
use http_body_util::BodyExt as _;
use tower::{Layer as _, Service};
use tower_client_credentials::authorization_server::AttemptLimits;
use tower_client_credentials::{
    Algorithm, AuthorizationServer, BearerAuthLayer, ClientSecret, KeyRing, MemoryStore, Scopes, TokenEndpointLayer,
};

const TIME: Duration = Duration::from_millis(1_500);

/// The measurements, by the names that select them on the command line.
const PARTS: &[(&str, fn())] = &[
    ("issuing", || ALGORITHMS.into_iter().for_each(issuing)),
    ("authentication", ways_to_authenticate),
    ("assertions", assertions),
    ("clients", many_clients),
    ("verifying", || ALGORITHMS.into_iter().for_each(verifying)),
    ("seen", seen_before),
    ("refusing", refusing),
    ("small", small_things),
    ("threads", threads),
    ("keys", generating),
    #[cfg(feature = "peers")]
    ("remote", remote::threads),
    #[cfg(feature = "peers")]
    ("peers", peers::protected_routes),
];

const ALGORITHMS: [Algorithm; 3] = [Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256];

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    for (name, part) in PARTS {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            part();
        }
    }
}

/// Prints a ratio and its target; `None` if there is no target.
fn row(what: &str, reference: &str, figures: [&Figure; 2], most: Option<f64>) {
    let [own, other] = figures;
    let most = most.map_or(String::new(), |most| most.to_string());
    println!(
        "{what}\t{reference}\t{:.0}\t{:.0}\t{:.0}\t{:.0}\t{:.3}\t{most}",
        own.median,
        own.low,
        own.high,
        other.median,
        own.ratio_to(other),
    );
}

fn issuing(algorithm: Algorithm) {
    let (subject, bare) = (Subject::new(algorithm, 10), Bare::new(algorithm));
    let lean = Lean::new(algorithm, (0..10).map(client_id), &subject.secret);
    let message = subject.token.rsplit_once('.').unwrap().0.as_bytes();
    let [own, signature, lean] = interleaved(
        [
            Work::new(|| subject.request(1), |request| subject.ask(request)),
            Work::bare(|| bare.sign(message)),
            Work::new(|| subject.request(1), |request| lean.answer(request.headers(), FORM.as_bytes()).unwrap()),
        ],
        TIME * if algorithm == Algorithm::RS256 { 2 } else { 1 },
    );
    let most = match algorithm {
        Algorithm::ES256 => 1.20,
        Algorithm::EdDSA => 1.30,
        _ => 1.03,
    };
    row(&format!("token endpoint, {algorithm}"), "the bare signature", [&own, &signature], Some(most));
    row(&format!("a lean handler, {algorithm}"), "the bare signature", [&lean, &signature], None);
}

fn ways_to_authenticate() {
    let subject = Subject::new(Algorithm::ES256, 10);
    let repeating = Subject::with(Algorithm::ES256, 10, |builder| builder.reuse_tokens(50));
    let [basic, post, repeated] = interleaved(
        [
            Work::new(|| subject.request(1), |request| subject.ask(request)),
            Work::new(|| subject.request_by_post(), |request| subject.ask(request)),
            Work::new(|| repeating.request(1), |request| repeating.ask(request)),
        ],
        TIME,
    );
    row("token endpoint, client_secret_post", "client_secret_basic", [&post, &basic], None);
    row("token endpoint, a repeated request", "one with a signature", [&repeated, &basic], None);
}

/// A token by `private_key_jwt` (ES256, keys inline, the replay log in memory), against the two unavoidable operations.
fn assertions() {
    let (subject, signing, bare) =
        (Subject::new(Algorithm::ES256, 10), Signing::default(), Bare::new(Algorithm::ES256));
    // Each is verified in turn: with one signature again and again, the processor would learn its branches.
    let (public, mut next) = (bare.public(), 0);
    let signed: Vec<_> = (0..4_096).map(|number| format!("{number:0300}")).collect();
    let signed: Vec<_> = signed.into_iter().map(|message| (bare.sign(message.as_bytes()), message)).collect();
    let length = bare.signature_len();
    let [own, operations, basic] = interleaved(
        [
            Work::new(|| signing.request(), |request| signing.ask(request)),
            Work::bare(|| {
                next = (next + 1) % signed.len();
                let (signature, message) = &signed[next];
                public.verify_sig(message.as_bytes(), &signature[..length]).unwrap();
                bare.sign(message.as_bytes())
            }),
            Work::new(|| subject.request(1), |request| subject.ask(request)),
        ],
        TIME,
    );
    let reference = "a bare verification and a bare signature";
    row("token endpoint, private_key_jwt, ES256", reference, [&own, &operations], Some(1.10));
    row("token endpoint, private_key_jwt, ES256", "client_secret_basic", [&own, &basic], None);
}

/// Each request is from another client, selected by a stride that is coprime to their number.
fn many_clients() {
    let few = Subject::new(Algorithm::ES256, 10);
    for (count, most) in [(10_000, None), (1_000_000, Some(1.1))] {
        let many = Subject::new(Algorithm::ES256, count);
        let (mut next, mut other) = (0, 0);
        let figures = interleaved(
            [
                Work::new(
                    || {
                        next = (next + 7_919) % count;
                        many.request(next)
                    },
                    |request| many.ask(request),
                ),
                Work::new(
                    || {
                        other = (other + 3) % 10;
                        few.request(other)
                    },
                    |request| few.ask(request),
                ),
            ],
            TIME,
        );
        row(&format!("token endpoint, {count} clients"), "10 clients", figures.each_ref(), most);
    }
}

fn verifying(algorithm: Algorithm) {
    let (subject, bare) = (Subject::new(algorithm, 10), Bare::new(algorithm));
    let message = subject.token.rsplit_once('.').unwrap().0.as_bytes();
    let (public, signature) = (bare.public(), bare.sign(message));
    let signature = &signature[..bare.signature_len()];
    let verifier = subject.verifier.clone().without_cache();
    let figures = interleaved(
        [
            Work::bare(|| verifier.verify_now(&subject.token).unwrap()),
            Work::bare(|| public.verify_sig(message, signature).unwrap()),
        ],
        TIME,
    );
    row(
        &format!("verification, not seen before, {algorithm}"),
        "the bare verification",
        figures.each_ref(),
        Some(1.06),
    );
}

/// That many tokens, all of one client, are used in turn.
fn seen_before() {
    let mut map = HashMap::new();
    for count in [1_usize, 10_000] {
        let subject = Subject::new(Algorithm::EdDSA, 10);
        let protect = BearerAuthLayer::new(subject.verifier.clone());
        let (mut guarded, mut empty) = (protect.layer(handler()), handler());
        let tokens: Vec<String> = (0..count).map(|_| subject.another_token()).collect();
        for token in &tokens {
            drop(now(guarded.call(bearer(token))));
            map.insert(token.clone(), ());
        }
        let (mut one, mut two, mut three, mut four) = (0, 0, 0, 0);
        let mut slots = Slots::new(&tokens).around(handler());
        let turn = |place: &mut usize| {
            *place = (*place + 7_919) % count;
            *place
        };
        let [own, without, slot, look_up] = interleaved(
            [
                Work::new(
                    || {
                        one = (one + 7_919) % count;
                        bearer(&tokens[one])
                    },
                    |request| now(guarded.call(request)).unwrap(),
                ),
                Work::new(
                    || {
                        two = (two + 7_919) % count;
                        bearer(&tokens[two])
                    },
                    |request| now(empty.call(request)).unwrap(),
                ),
                Work::new(
                    || {
                        four = (four + 7_919) % count;
                        bearer(&tokens[four])
                    },
                    |request| now(slots.call(request)).unwrap(),
                ),
                Work::new(|| &tokens[turn(&mut three)], |token| map.contains_key(token)),
            ],
            TIME,
        );
        let title = format!("protected route, {count} token(s) seen before");
        row(&title, "the handler without a layer", [&own, &without], None);
        let more = own.more_than(&without);
        println!(
            "{title}: difference from the handler\tns\t{:.0}\t{:.0}\t{:.0}\t\t\t250",
            more.median, more.low, more.high
        );
        row(&title, "a look-up in std's HashMap alone", [&more, &look_up], None);
        let bare = slot.more_than(&without);
        row(&title, "a bare look-up by the token's end in the same kind of layer", [&more, &bare], None);
    }
}

/// Compares two cases that an outsider must not be able to distinguish; the ratio is the larger one of both directions.
fn same(what: &str, reference: &str, figures: [&Figure; 2], most: f64) {
    let [own, other] = figures;
    let ratio = own.ratio_to(other);
    println!(
        "{what}\t{reference}, in either direction\t{:.0}\t{:.0}\t{:.0}\t{:.0}\t{:.3}\t{most}",
        own.median,
        own.low,
        own.high,
        other.median,
        ratio.max(1.0 / ratio),
    );
}

/// Compares an unknown client with a wrong secret of a registered client, which must take the same work. Each is one client
/// that is requested repeatedly, as an attacker would do.
fn guessing() {
    let limits = AttemptLimits::default().generated_by_address(u32::MAX);
    let subject = Subject::with(Algorithm::ES256, 10, |builder| builder.attempt_limits(limits));
    let wrong = ClientSecret::generate().unwrap();
    let [known, unknown] = ["client-1", "client-x"].map(|id| {
        let (subject, secret) = (&subject, wrong.expose().to_owned());
        Work::new(move || basic(id, &secret), move |request| subject.ask(request))
    });
    let [wrong, unknown] = interleaved([known, unknown], TIME * 4);
    same("an unknown client", "a wrong secret", [&unknown, &wrong], 1.01);
}

fn refusing() {
    guessing();
    // The limits on failed attempts are not part of this measurement: each request is from another client.
    const CLIENTS: usize = 10_000;
    let subject = Subject::new(Algorithm::ES256, CLIENTS);
    let wrong = ClientSecret::generate().unwrap();
    let garbage = "a".repeat(subject.token.len());
    let other = AuthorizationServer::new("https://o.example", KeyRing::generate().unwrap(), MemoryStore::default());
    let stranger = other.unwrap().verifier(API).unwrap();
    let mut next = 0;
    let fresh = subject.verifier.clone().without_cache();
    let [wrong, good, garbage, foreign, fresh] = interleaved(
        [
            Work::new(
                || {
                    next = (next + 7_919) % CLIENTS;
                    basic(&client_id(next), wrong.expose())
                },
                |request| subject.ask(request),
            ),
            Work::new(|| subject.request(1), |request| subject.ask(request)),
            Work::bare(|| fresh.verify_now(&garbage).unwrap_err()),
            Work::bare(|| stranger.verify_now(&subject.token).unwrap_err()),
            Work::bare(|| fresh.verify_now(&subject.token).unwrap()),
        ],
        TIME,
    );
    row("a wrong generated secret", "a valid one", [&wrong, &good], Some(1.0));
    row("a garbage token", "a valid one, not seen before", [&garbage, &fresh], Some(1.0));
    row("a token of an unknown key", "a valid one, not seen before", [&foreign, &fresh], Some(1.0));
}

fn small_things() {
    let subject = Subject::new(Algorithm::ES256, 10);
    let (mut ours, mut empty) = (TokenEndpointLayer::new(subject.server.clone()).layer(handler()), handler());
    let [own, without] = interleaved(
        [
            Work::new(plain, |request| drop(now(ours.call(request)).unwrap())),
            Work::new(plain, |request| drop(now(empty.call(request)).unwrap())),
        ],
        TIME,
    );
    let more = own.more_than(&without);
    println!(
        "another path through TokenEndpointLayer: difference from the handler\tns\t{:.0}\t{:.0}\t{:.0}\t\t\t30",
        more.median, more.low, more.high
    );
    let (one, four) = ("invoices:read", "invoices:read invoices:write orders:read orders:write");
    let figures = interleaved(
        [Work::bare(|| four.parse::<Scopes>().unwrap()), Work::bare(|| one.parse::<Scopes>().unwrap())],
        TIME,
    );
    row("four scopes, parsed", "one scope", figures.each_ref(), None);
    let mut layered = BearerAuthLayer::new(subject.verifier.clone()).layer(handler());
    let none = interleaved(
        [
            Work::new(plain, |request| now(layered.call(request)).unwrap()),
            Work::new(|| bearer(&subject.token), |request| now(empty.call(request)).unwrap()),
        ],
        TIME,
    );
    row("a protected route, no token", "the handler without a layer", none.each_ref(), None);
    // Checks that the measured case is the intended one.
    let answer = now(layered.call(bearer(&subject.token))).unwrap();
    assert_eq!(answer.status(), 200);
    drop(now(answer.into_body().collect()));
}

/// Returns the time of one thread when so many threads work independently.
fn run(threads: usize, work: &(dyn Fn(usize) + Sync)) -> Figure {
    let each = |thread| {
        let (start, mut times) = (Instant::now(), Vec::new());
        while start.elapsed() < TIME / 2 {
            let batch = Instant::now();
            (0..64).for_each(|_| work(thread));
            times.push(batch.elapsed().as_nanos() as f64 / 64.0);
        }
        times
    };
    let times = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || each(thread))).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    Figure::of(times)
}

/// Compares that many threads with one thread.
fn threads() {
    let subject = Subject::new(Algorithm::ES256, 10);
    let verifier = &subject.verifier;
    let tokens: Vec<String> = (0..8).map(|_| subject.another_token()).collect();
    let seen = |_| drop(verifier.verify_now(&subject.token).unwrap());
    let own = |thread: usize| drop(verifier.verify_now(&tokens[thread]).unwrap());
    let issue = |_| drop(subject.ask(subject.request(1)));
    // The machine's own limit: two threads may share more hardware than expected.
    let (bare, message) = (Bare::new(Algorithm::ES256), [0; 400]);
    let sign = |_| {
        black_box(bare.sign(&message));
    };
    for count in [2, 4, 8] {
        row(
            &format!("verification, seen before, {count} threads, same token"),
            "1 thread",
            [&run(count, &seen), &run(1, &seen)],
            None,
        );
        row(
            &format!("verification, seen before, {count} threads, one token each"),
            "1 thread",
            [&run(count, &own), &run(1, &own)],
            None,
        );
        row(&format!("the bare signature, {count} threads"), "1 thread", [&run(count, &sign), &run(1, &sign)], None);
        row(
            &format!("token endpoint, {count} threads, including building the request"),
            "1 thread",
            [&run(count, &issue), &run(1, &issue)],
            None,
        );
    }
}

/// The cost of the first start of a server that keeps no key; our servers generate no RSA key.
fn generating() {
    let figures = interleaved(
        [Work::once(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap()), Work::once(|| KeyRing::generate().unwrap())],
        TIME * 4,
    );
    row("generating an RSA key of 2,048 bits, aws-lc-rs", "KeyRing::generate, ES256", figures.each_ref(), None);
}

/// Built here, because it needs an HTTP client, as some of the peers do.
#[cfg(feature = "peers")]
mod remote {
    use benches::subject::Body;
    use bytes::Bytes;
    use http::{Request, Response};
    use tower_client_credentials::RemoteIssuer;
    use tower_client_credentials::transport::{HttpClient, HttpError, HttpFuture};

    use super::*;

    #[derive(Debug)]
    struct Site(Bytes);

    impl HttpClient for Site {
        fn send(&self, _: Request<Bytes>, _: usize) -> HttpFuture<'_> {
            HttpFuture::new(async move {
                Ok(Response::new(self.0.clone()))
            })
        }
    }

    /// Every look-up asks the key cache whether the keys are still trusted.
    pub(super) fn threads() {
        let subject = Subject::new(Algorithm::ES256, 10);
        let answer = now(subject.server.jwks_service().call(Request::get("/jwks").body(Body::default()).unwrap()));
        let site = Site(now(answer.unwrap().into_body().collect()).unwrap().to_bytes());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let verifier = runtime.block_on(async {
            let issuer = RemoteIssuer::new(benches::subject::ISSUER, API).unwrap().http_client(site);
            issuer.jwks_url("https://auth.example.com/jwks").unwrap().connect().await.unwrap()
        });
        let seen = |_| drop(verifier.verify_now(&subject.token).unwrap());
        for count in [2, 4, 8] {
            let title = format!("the same with the keys of a remote issuer, {count} threads, same token");
            row(&title, "1 thread", [&run(count, &seen), &run(1, &seen)], None);
        }
    }
}

#[cfg(feature = "peers")]
mod peers {
    use axum::Router;
    use axum::routing::get;
    use benches::{peers, subject};
    use http::{Request, Response};
    use tower::layer::layer_fn;

    use super::*;

    type Answered<B> = Response<B>;

    /// Measures the same axum route behind each of the layers. The token is always the same, as for a real client.
    pub(super) fn protected_routes() {
        peers::settle_jsonwebtoken();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let subject = Subject::new(Algorithm::ES256, 10);
        let _guard = runtime.enter();
        let jwks = {
            let request = Request::get("/").body(subject::Body::default()).unwrap();
            let answer = now(subject.server.jwks_service().call(request)).unwrap();
            String::from_utf8(now(answer.into_body().collect()).unwrap().to_bytes().to_vec()).unwrap()
        };
        let token = &subject.token;
        let request = || {
            Request::get("/invoices")
                .header("authorization", format!("Bearer {token}"))
                .body(axum::body::Body::empty())
                .unwrap()
        };
        let old_request = || {
            let head = Request::get("/invoices").header("authorization", format!("Bearer {token}"));
            head.body(axum07::body::Body::empty()).unwrap()
        };
        let protect = BearerAuthLayer::new(subject.verifier.clone()).require_scope(subject::READ);
        let mut ours: Router = Router::new().route("/invoices", get(async || "invoices").layer(protect));
        let mut open: Router = Router::new().route("/invoices", get(async || "invoices"));
        let mut empty: Router =
            Router::new().route("/invoices", get(async || "invoices").layer(layer_fn(subject::Empty)));
        let mut axum_jwt_auth = peers::axum_jwt_auth(&jwks);
        let mut tower_oauth2 = runtime.block_on(peers::tower_oauth2_resource_server(&jwks));
        let mut oauth = peers::oauth_resource_server(&jwks);
        let mut authorizer = runtime.block_on(peers::jwt_authorizer(&jwks));
        let ask = |router: &mut Router, request: Request<axum::body::Body>| {
            ok(runtime.block_on(router.call(request)).unwrap())
        };
        let figures = interleaved(
            [
                Work::new(request, |request| ask(&mut ours, request)),
                Work::new(request, |request| ask(&mut open, request)),
                Work::new(request, |request| ask(&mut empty, request)),
                Work::new(request, |request| ask(&mut axum_jwt_auth, request)),
                Work::new(request, |request| ask(&mut tower_oauth2, request)),
                Work::new(request, |request| ask(&mut oauth, request)),
                Work::new(old_request, |request| {
                    let answer = runtime.block_on(tower::Service::call(&mut authorizer, request)).unwrap();
                    assert_eq!(answer.status(), 200);
                }),
            ],
            TIME * 3,
        );
        let [ours, open, empty, others @ ..] = figures;
        row("axum route behind BearerAuthLayer", "behind an empty layer", [&ours, &empty], None);
        row("axum route behind an empty layer", "the route without a layer", [&empty, &open], None);
        let names = ["axum-jwt-auth", "tower-oauth2-resource-server", "oauth-resource-server", "jwt-authorizer"];
        for (name, other) in names.into_iter().zip(others) {
            row(
                &format!("{name}, difference from an empty layer"),
                "BearerAuthLayer, difference from an empty layer",
                [&other.more_than(&empty), &ours.more_than(&empty)],
                None,
            );
        }
    }

    fn ok<B>(answer: Answered<B>) {
        assert_eq!(answer.status(), 200);
    }
}
