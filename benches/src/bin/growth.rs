//! Measures how the cost of a request grows with the input that a caller, a client registration or a store controls. Each row
//! has the figures for several sizes, measured in turn by the processor time of the thread. Prints rows of tab-separated texts,
//! which `scripts/bench` formats: the row number, what grows, the figures, the judged quantity, its value, and the target.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use benches::bare::{Bare, RSA};
use benches::forms::{self, Guesses};
use benches::measure::{Figure, Work, in_rounds, interleaved, now};
use benches::subject::{API, Body, ISSUER, READ, Subject, basic, bearer, client_id, handler, plain};
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use tower::{Layer as _, Service};
use tower_client_credentials::authorization_server::{
    AttemptLimits, AuthorizationServerBuilder, ForwardedHeader, TrustedProxies,
};
use tower_client_credentials::keys::KeySet;
use tower_client_credentials::registration::RegisteredClient;
use tower_client_credentials::store::Revocation;
use tower_client_credentials::{
    Algorithm, AuthorizationServer, BearerAuthLayer, Client, ClientId, ClientSecret, KeyRing, MemoryStore, Revocations,
    Scope, Scopes, SigningKey, Verifier,
};

const TIME: Duration = Duration::from_millis(1_500);

/// The measurements, by the names that select them on the command line.
const PARTS: &[(&str, fn())] = &[
    ("scopes", scopes),
    ("required", required_scopes),
    #[cfg(feature = "file")]
    ("file", file::creating),
    #[cfg(feature = "sqlite")]
    ("sqlite", sqlite::look_ups),
    ("cache", full_cache),
    ("clients", clients),
    ("unseen", unseen_when_full),
    ("too-long", too_long),
    ("forms", forms),
    ("secrets", secrets),
    ("audiences", audiences),
    ("resources", resources),
    ("issuers", issuers),
    ("keys", keys),
    ("revocations", revocations),
    ("headers", headers),
    ("hops", hops),
];

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    for (name, part) in PARTS {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            part();
        }
    }
}

/// A figure by its size.
type Sized<'a> = (String, &'a Figure);

fn sized<const N: usize>(sizes: [usize; N], figures: &[Figure; N]) -> Vec<Sized<'_>> {
    sizes.into_iter().map(thousands).zip(figures).collect()
}

fn row(row: &str, what: &str, figures: &[Sized<'_>], judged: &str, value: &str, target: &str) {
    let figures: Vec<String> =
        figures.iter().map(|(size, figure)| format!("{size}: {}", time(figure.median))).collect();
    println!("{row}\t{what}\t{}\t{judged}\t{value}\t{target}", figures.join("; "));
}

/// A row without a target: the ratio of the largest to the smallest.
fn shape(what: &str, figures: &[Sized<'_>]) {
    let [(small, first), .., (large, last)] = figures else { unreachable!("two sizes at least") };
    row("D", what, figures, &format!("{large} / {small}"), &format!("{:.2} ×", last.ratio_to(first)), "");
}

fn time(nanos: f64) -> String {
    match nanos.abs() {
        ..1_000.0 => format!("{nanos:.0} ns"),
        ..100_000.0 => format!("{:.2} µs", nanos / 1e3),
        ..1_000_000.0 => format!("{:.0} µs", nanos / 1e3),
        ..1_000_000_000.0 => format!("{:.1} ms", nanos / 1e6),
        _ => format!("{:.2} s", nanos / 1e9),
    }
}

fn thousands(number: usize) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", thousands(number / 1_000), number % 1_000) }
}

/// A server with clients of one secret, and requests for it.
struct Served {
    server: AuthorizationServer,
    secret: String,
}

impl Served {
    fn new(
        key: SigningKey,
        clients: impl FnOnce(&ClientSecret) -> Vec<Client>,
        settings: impl FnOnce(AuthorizationServerBuilder) -> AuthorizationServerBuilder,
    ) -> Self {
        let secret = ClientSecret::generate().unwrap();
        let clients = MemoryStore::try_from(clients(&secret)).unwrap();
        let server = settings(AuthorizationServer::builder(ISSUER, KeyRing::new(key), clients)).build().unwrap();
        Self { server, secret: secret.expose().to_owned() }
    }

    fn request(&self, id: &str, more: &str) -> Request<Body> {
        form(id, &self.secret, format!("grant_type=client_credentials{more}").into())
    }

    fn status(&self, request: Request<Body>) -> u16 {
        let response = now(self.server.token_service().call(request)).unwrap();
        response.status().as_u16()
    }

    /// Requests a token and checks that one was issued.
    fn ask(&self, request: Request<Body>) {
        assert_eq!(self.status(request), 200);
    }

    fn token(&self, request: Request<Body>) -> String {
        let response = now(self.server.token_service().call(request)).unwrap();
        let answer = now(response.into_body().collect()).unwrap().to_bytes();
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }
}

fn form(id: &str, secret: &str, body: Bytes) -> Request<Body> {
    let credentials = STANDARD.encode(format!("{id}:{secret}"));
    let head = Request::post("/token").header("authorization", format!("Basic {credentials}"));
    head.header("content-type", "application/x-www-form-urlencoded").body(Body::from(body)).unwrap()
}

fn ed25519() -> SigningKey {
    SigningKey::generate(Algorithm::EdDSA).unwrap()
}

fn names(count: usize) -> Vec<Scope> {
    (0..count).map(|number| format!("s:{number:04}").parse().unwrap()).collect()
}

/// The parameter that requests so many scopes.
fn asking_for(count: usize) -> String {
    let names: Vec<_> = names(count).iter().map(|scope| scope.as_str().to_owned()).collect();
    format!("&scope={}", names.join("+"))
}

/// Row 1: scopes of a client and of a request.
fn scopes() {
    const SIZES: [(usize, usize); 4] = [(1, 1), (20, 10), (200, 100), (2_000, 1_000)];
    let clients = |secret: &ClientSecret| {
        SIZES.map(|(own, _)| Client::new(client_id(own), secret).audience(API).scopes(names(own))).into()
    };
    let served = Served::new(ed25519(), clients, |server| server);
    let figures = interleaved(
        SIZES.map(|(own, asked)| {
            let (served, more) = (&served, asking_for(asked));
            Work::on_processor(move || served.request(&client_id(own), &more), move |request| served.ask(request))
        }),
        TIME * 2,
    );
    let named: Vec<Sized<'_>> = SIZES
        .iter()
        .zip(&figures)
        .map(|((own, asked), figure)| (format!("{}/{}", thousands(*own), thousands(*asked)), figure))
        .collect();
    let what = "scopes of the client / of its request for a token, EdDSA";
    let [one, few, many, most] = &figures;
    let more = [few, many, most].map(|figure| figure.more_than(one).median);
    row("1", what, &named, "200/100 minus 1/1", &time(more[1]), "≤ 25 µs");
    let value = format!("{:.1} ×, {:.1} ×", more[1] / more[0], more[2] / more[1]);
    row("1", what, &named, "growth per tenfold size, for each step", &value, "≤ 10 ×");

    const BUILT: [usize; 3] = [100, 1_000, 10_000];
    let secret = ClientSecret::generate().unwrap();
    let figures = interleaved(
        BUILT.map(|count| {
            let (secret, names) = (&secret, names(count));
            let work = move |names| Client::new("billing", secret).scopes(names).register().unwrap();
            Work::once_on_processor(move || names.clone(), work)
        }),
        TIME,
    );
    per_piece("1", "`Client::scopes` and `register`, scopes", BUILT, &figures);
    read_records("1", "parsing a client record, scopes", |count| Client::new("billing", &secret).scopes(names(count)));
    let figures = interleaved(
        BUILT.map(|count| {
            let (secret, names) = (&secret, names(count));
            let work = move |names: Vec<Scope>| {
                names.into_iter().fold(Client::new("billing", secret), Client::scope).register().unwrap()
            };
            Work::once_on_processor(move || names.clone(), work)
        }),
        TIME,
    );
    shape("`Client::scope` called once per scope", &sized(BUILT, &figures));
}

/// The cost per item at the largest size, relative to the smallest.
fn per_piece<const N: usize>(number: &str, what: &str, sizes: [usize; N], figures: &[Figure; N]) {
    let (small, large) = (&figures[0], &figures[N - 1]);
    let grown = sizes[N - 1] / sizes[0];
    let value = format!("{:.2} ×", large.ratio_to(small) / grown as f64);
    let judged = format!("per item, {} / {}", thousands(sizes[N - 1]), thousands(sizes[0]));
    row(number, what, &sized(sizes, figures), &judged, &value, "≤ 1 (linear)");
}

/// The step that ends every look-up of a store that keeps records: SQLite, Postgres and Redis.
fn read_records(number: &str, what: &str, client: impl Fn(usize) -> Client) {
    const SIZES: [usize; 3] = [10, 100, 1_000];
    let records = SIZES.map(|count| serde_json::to_string(&client(count).register().unwrap()).unwrap());
    let figures = interleaved(
        records.each_ref().map(|record| {
            Work::once_on_processor(|| (), move |()| serde_json::from_str::<RegisteredClient>(record).unwrap())
        }),
        TIME,
    );
    per_piece(number, what, SIZES, &figures);
}

/// Row 2: scopes of a token that was seen before, and of its route.
fn required_scopes() {
    const SIZES: [(usize, usize); 4] = [(1, 1), (10, 5), (100, 5), (1_000, 5)];
    let clients = |secret: &ClientSecret| {
        SIZES.map(|(own, _)| Client::new(client_id(own), secret).audience(API).scopes(names(own))).into()
    };
    let served = Served::new(ed25519(), clients, |server| server);
    let verifier = served.server.verifier(API).unwrap();
    let figures = interleaved(
        SIZES.map(|(own, required)| {
            let token = served.token(served.request(&client_id(own), &asking_for(own)));
            let layer = BearerAuthLayer::new(verifier.clone());
            let mut service = layer.require_scopes(names(required).into_iter().collect::<Scopes>()).layer(handler());
            let work = move |request| assert_eq!(now(service.call(request)).unwrap().status(), 200);
            Work::on_processor(move || bearer(&token), work)
        }),
        TIME * 2,
    );
    let named: Vec<Sized<'_>> = SIZES
        .iter()
        .zip(&figures)
        .map(|((own, required), figure)| (format!("{}/{required}", thousands(*own)), figure))
        .collect();
    let more = figures[2].more_than(&figures[0]).median;
    let what = "scopes of a token that was seen before / that its route requires";
    row("2", what, &named, "100/5 minus 1/1", &time(more), "≤ 100 ns");
}

/// Row 4: tokens used in turn, slightly more than the default cache of a verifier holds.
fn full_cache() {
    const SIZES: [usize; 5] = [1_000, 9_900, 10_001, 11_000, 20_000];
    let subject = Subject::new(Algorithm::EdDSA, 10);
    let tokens: Vec<String> = (0..SIZES[4]).map(|_| subject.another_token()).collect();
    let fresh = subject.verifier.clone().without_cache();
    let mut works: Vec<Work<'_>> = SIZES
        .iter()
        .map(|count| {
            let verifier = subject.server.verifier(API).unwrap();
            let tokens = &tokens[..*count];
            for token in tokens.iter().chain(tokens) {
                verifier.verify_now(token).unwrap();
            }
            let mut at = 0;
            let next = move || {
                at = (at + 1) % tokens.len();
                &tokens[at]
            };
            Work::on_processor(next, move |token| verifier.verify_now(token).unwrap())
        })
        .collect();
    works.push(Work::on_processor(|| &tokens[0], |token| fresh.verify_now(token).unwrap()));
    let works: [Work<'_>; 6] = works.try_into().unwrap_or_else(|_| unreachable!());
    let figures = interleaved(works, TIME * 6);
    let [.., unseen] = &figures;
    let means: Vec<Figure> = figures.iter().map(|figure| Figure::of(vec![figure.mean()])).collect();
    let mut named: Vec<Sized<'_>> = SIZES.into_iter().map(thousands).zip(&means).collect();
    named.push(("nothing cached".to_owned(), &means[5]));
    let share = |place: usize| 100.0 * (means[place].median - means[1].median) / (unseen.mean() - means[1].median);
    let what = "tokens used in turn, mean time of a verification with the default cache (10,000 tokens, 24 MiB)";
    row("4", what, &named, "share of look-ups that miss, 10,001 tokens", &format!("{:.1} %", share(2)), "most hit");
    row("4", what, &named, "the same, 11,000 and 20,000 tokens", &format!("{:.0} %, {:.0} %", share(3), share(4)), "");
}

/// Row 5: clients in memory, with ids of the same length. Each request is from another client, selected by a stride that is
/// coprime to their number.
fn clients() {
    const SIZES: [usize; 3] = [10, 10_000, 1_000_000];
    let id = |number: usize| format!("client-{number:07}");
    let served = SIZES.map(|count| {
        let client = |secret: &ClientSecret, number| Client::new(id(number), secret).scope(READ).audience(API);
        let clients = |secret: &ClientSecret| (0..count).map(|number| client(secret, number)).collect();
        Served::new(SigningKey::generate(Algorithm::ES256).unwrap(), clients, |server| server)
    });
    let figures = interleaved(
        [0, 1, 2].map(|place| {
            let (served, count) = (&served[place], SIZES[place]);
            let mut next = 0;
            let request = move || {
                next = (next + 7_919) % count;
                served.request(&id(next), "&scope=invoices%3Aread")
            };
            Work::on_processor(request, move |request| served.ask(request))
        }),
        TIME * 4,
    );
    let value = format!("{:.3} ×", figures[2].ratio_to(&figures[0]));
    let what = "clients in memory, a token with ES256";
    row("5", what, &sized(SIZES, &figures), "1,000,000 / 10", &value, "≤ 1.1 ×");
}

/// Row 6: each token is new and evicts another one.
fn unseen_when_full() {
    const FULL: usize = 10_000;
    const NEW: usize = 4_000;
    const VERIFIERS: usize = 4;
    let subject = Subject::new(Algorithm::RS256, 10);
    let tokens: Vec<String> = (0..FULL + NEW).map(|_| subject.another_token()).collect();
    let (fill, new) = tokens.split_at(FULL);
    // Tokens that one of them has seen are new to the others.
    let verifiers: Vec<Verifier> = (0..2 * VERIFIERS).map(|_| subject.server.verifier(API).unwrap()).collect();
    for verifier in &verifiers {
        for token in fill {
            verifier.verify_now(token).unwrap();
        }
    }
    let public = Bare::new(Algorithm::RS256).public();
    let split = |token: &str| {
        let (message, signature) = token.rsplit_once('.').unwrap();
        (message.to_owned(), URL_SAFE_NO_PAD.decode(signature).unwrap())
    };
    let without = verifiers[0].clone().without_cache();
    let counter = || {
        let mut number = 0;
        move || {
            number += 1;
            (number - 1) / NEW % VERIFIERS * NEW + (number - 1) % NEW
        }
    };
    let (mut one, mut two, mut three, mut four) = (counter(), counter(), counter(), counter());
    // At most as many tokens as exist: 64 in each round. Each is copied in advance, as if it had just been received; otherwise
    // only the first of the three would wait for its text.
    let figures = in_rounds(
        [
            Work::on_processor(
                || {
                    let number = one();
                    (&verifiers[number / NEW], new[number % NEW].clone())
                },
                |(verifier, token)| verifier.verify_now(&token).unwrap(),
            ),
            // If the cache is full, a token is stored at its second use, and only then evicts another one.
            Work::on_processor(
                || {
                    let number = four();
                    let (verifier, token) = (&verifiers[VERIFIERS + number / NEW], new[number % NEW].clone());
                    verifier.verify_now(&token).unwrap();
                    (verifier, token)
                },
                |(verifier, token)| verifier.verify_now(&token).unwrap(),
            ),
            Work::on_processor(|| new[two() % NEW].clone(), |token| without.verify_now(&token).unwrap()),
            Work::on_processor(
                || split(&new[three() % NEW]),
                |(message, signature)| public.verify_sig(message.as_bytes(), &signature).unwrap(),
            ),
        ],
        |rounds| rounds < VERIFIERS * NEW / 64,
    );
    let [full, again, uncached, bare] = &figures;
    let named = [
        ("default cache, full", full),
        ("the same, second use", again),
        ("without a cache", uncached),
        ("the bare verification", bare),
    ]
    .map(|(name, figure)| (name.to_owned(), figure));
    let value = |figure: &Figure| format!("{:.3} ×", figure.ratio_to(bare));
    let what = "an unseen RS256 token";
    row("6", what, &named, "with the cache full / the bare verification", &value(full), "≤ 1.06 ×");
    let judged = "with the cache full, second use (stored, another one evicted) / the bare verification";
    row("6", what, &named, judged, &value(again), "≤ 1.06 ×");
    row("6", what, &named, "without a cache / the bare verification", &value(uncached), "");
}

/// Row 7: a token that is too long is not signed.
fn too_long() {
    let clients = |secret: &ClientSecret| vec![Client::new("billing", secret).audience(API).scopes(names(2_000))];
    let served = Served::new(SigningKey::from_pem(RSA).unwrap(), clients, |server| server);
    let figures = interleaved(
        [(1_000, 200), (2_000, 503)].map(|(count, status)| {
            let (served, more) = (&served, asking_for(count));
            let work = move |request| assert_eq!(served.status(request), status);
            Work::on_processor(move || served.request("billing", &more), work)
        }),
        TIME,
    );
    let [signed, refused] = &figures;
    let named = [("signed, 1,000 scopes".to_owned(), signed), ("refused, 2,000 scopes".to_owned(), refused)];
    let value = format!("{:.3} ×", refused.ratio_to(signed));
    row("7", "a token beyond 16 KiB, RS256", &named, "refused / signed", &value, "≤ 1 (nothing is signed)");
}

/// Row 8: the cost of a wrong secret with a body of 64 KiB. The binary `allocated` counts its allocations.
fn forms() {
    let (bodies, guesses) = (forms::bodies(), Guesses::new());
    let figures = interleaved(
        bodies.each_ref().map(|(_, body)| {
            let guesses = &guesses;
            Work::on_processor(move || guesses.request(body), move |request| guesses.status(request))
        }),
        TIME * 2,
    );
    let named: Vec<Sized<'_>> = bodies
        .iter()
        .zip(&figures)
        .map(|((name, body), figure)| (format!("{name} ({})", guesses.status(guesses.request(body))), figure))
        .collect();
    let most = figures.iter().map(|figure| figure.median).fold(0.0, f64::max);
    row("8", forms::WHAT, &named, "the slowest", &time(most), "was 698 µs");
}

fn secrets() {
    const SIZES: [usize; 3] = [1, 10, 100];
    let stored = ClientSecret::generate().unwrap().to_stored().unwrap();
    let clients = |secret: &ClientSecret| {
        let client = |count: usize| {
            let client = (1..count)
                .fold(Client::new(client_id(count), stored.clone()), |client, _| client.secret(stored.clone()));
            client.secret(secret).audience(API)
        };
        SIZES.map(client).into()
    };
    let served = Served::new(ed25519(), clients, |server| server);
    let figures = interleaved(
        SIZES.map(|count| {
            let served = &served;
            Work::on_processor(move || served.request(&client_id(count), ""), move |request| served.ask(request))
        }),
        TIME,
    );
    shape("secrets of a client, a token with the last one", &sized(SIZES, &figures));
}

fn audience(number: usize) -> String {
    format!("https://api.example.com/{number:05}")
}

fn audiences() {
    const SIZES: [usize; 4] = [1, 10, 100, 1_000];
    let clients = |secret: &ClientSecret| {
        SIZES.map(|count| Client::new(client_id(count), secret).audiences((0..count).map(audience))).into()
    };
    let served = Served::new(ed25519(), clients, |server| server);
    for (what, named) in [
        ("audiences of a client, a token for the last one", audience as fn(usize) -> String),
        ("the same, in another spelling", |number| audience(number).replace("https", "HTTPS")),
        ("the same, 32 resources in one request", |number| {
            let first = number.saturating_sub(31);
            (first..=number).map(audience).collect::<Vec<_>>().join("&resource=")
        }),
    ] {
        let figures = interleaved(
            SIZES.map(|count| {
                let (served, more) = (&served, format!("&resource={}", named(count - 1)));
                Work::on_processor(move || served.request(&client_id(count), &more), move |request| served.ask(request))
            }),
            TIME,
        );
        shape(what, &sized(SIZES, &figures));
    }
    let secret = ClientSecret::generate().unwrap();
    read_records("D", "parsing a client record, audiences", |count| {
        Client::new("billing", &secret).audiences((0..count).map(audience))
    });
}

fn resources() {
    const SIZES: [usize; 3] = [1, 100, 10_000];
    let served = SIZES.map(|count| {
        let clients = |secret: &ClientSecret| {
            vec![Client::new("billing", secret).audience(audience(count - 1)).scope(names(1).remove(0))]
        };
        Served::new(ed25519(), clients, |server| {
            (0..count).fold(server, |server, number| server.resource_with_scopes(audience(number), names(1).remove(0)))
        })
    });
    let figures = interleaved(
        served.each_ref().map(|served| {
            Work::on_processor(move || served.request("billing", &asking_for(1)), move |request| served.ask(request))
        }),
        TIME,
    );
    shape("resources that a server knows, a token for one of them", &sized(SIZES, &figures));
}

fn issuers() {
    const SIZES: [usize; 3] = [1, 10, 100];
    let server = |number: usize| {
        let clients = |secret: &ClientSecret| vec![Client::new("billing", secret).audience(API)];
        let secret = ClientSecret::generate().unwrap();
        let clients = MemoryStore::try_from(clients(&secret)).unwrap();
        let issuer = format!("https://auth.example.com/{number:03}");
        let server = AuthorizationServer::new(issuer, KeyRing::new(ed25519()), clients).unwrap();
        Served { server, secret: secret.expose().to_owned() }
    };
    let servers: Vec<Served> = (0..SIZES[2]).map(server).collect();
    let cases = SIZES.map(|count| {
        let mut verifiers = servers.iter().take(count).map(|served| served.server.verifier(API).unwrap());
        let first = verifiers.next().unwrap();
        let verifier = verifiers.fold(first, |all, other| all.or(other).unwrap());
        let last = &servers[count - 1];
        (verifier, last.token(last.request("billing", "")))
    });
    let seen = interleaved(
        cases.each_ref().map(|(verifier, token)| Work::on_processor(|| (), |()| verifier.verify_now(token).unwrap())),
        TIME,
    );
    shape("issuers of a verifier, a token of the last issuer, seen before", &sized(SIZES, &seen));
    let unseen = interleaved(
        cases.each_ref().map(|(verifier, token)| {
            let verifier = verifier.clone().without_cache();
            Work::on_processor(|| (), move |()| verifier.verify_now(token).unwrap())
        }),
        TIME,
    );
    shape("the same, not seen before", &sized(SIZES, &unseen));
    let stranger = server(999);
    let stranger = stranger.token(stranger.request("billing", ""));
    let refused = interleaved(
        cases.each_ref().map(|(verifier, _)| {
            let stranger = &stranger;
            Work::on_processor(|| (), move |()| verifier.verify_now(stranger).unwrap_err())
        }),
        TIME,
    );
    shape("the same, a token of an unknown issuer", &sized(SIZES, &refused));
}

fn keys() {
    const SIZES: [usize; 3] = [1, 10, 100];
    let cases = SIZES.map(|count| {
        let key = ed25519();
        let ring = (1..count).fold(KeyRing::new(key), |ring, _| ring.also_trust(ed25519().verifying_key()));
        let secret = ClientSecret::generate().unwrap();
        let clients = MemoryStore::try_from([Client::new("billing", &secret).audience(API)]).unwrap();
        let server = AuthorizationServer::new(ISSUER, ring, clients).unwrap();
        let answer = now(server.jwks_service().call(Request::get("/jwks").body(Body::default()).unwrap())).unwrap();
        let jwks = now(answer.into_body().collect()).unwrap().to_bytes();
        let set = Verifier::with_keys(ISSUER, API, KeySet::from_jwks(&jwks).unwrap()).unwrap();
        let served = Served { server, secret: secret.expose().to_owned() };
        let token = served.token(served.request("billing", ""));
        (served.server.verifier(API).unwrap(), set, token)
    });
    let stranger = Subject::new(Algorithm::EdDSA, 10).token;
    for (what, verifier, token) in [
        ("keys that a server trusts, an unseen token", 0, None),
        ("keys of a key set, an unseen token", 1, None),
        ("keys of a key set, a token of an unknown key", 1, Some(&stranger)),
    ] {
        let figures = interleaved(
            cases.each_ref().map(|(own, set, good)| {
                let verifier = if verifier == 0 { own } else { set }.clone().without_cache();
                let shown = token.unwrap_or(good);
                Work::on_processor(|| (), move |()| assert_eq!(verifier.verify_now(shown).is_ok(), token.is_none()))
            }),
            TIME,
        );
        shape(what, &sized(SIZES, &figures));
    }
    let figures = interleaved(
        cases.each_ref().map(|(_, set, token)| Work::on_processor(|| (), |()| set.verify_now(token).unwrap())),
        TIME,
    );
    shape("keys of a key set, a token seen before", &sized(SIZES, &figures));
}

fn revocations() {
    const SIZES: [usize; 3] = [0, 900, 100_000];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let cases = SIZES.map(|count| {
        let secret = ClientSecret::generate().unwrap();
        let store = MemoryStore::try_from([Client::new("billing", &secret).audience(API)]).unwrap();
        let revocations = runtime.block_on(async { Revocations::follow(store.clone()).await.unwrap() });
        let clock = std::time::SystemTime::now();
        for number in 0..count {
            // The first 900 are of the client whose token is verified. More than 1,000 of one client would be combined.
            let client = if number < 900 { "billing".to_owned() } else { client_id(number / 900) };
            let client: ClientId = client.parse().unwrap();
            let token = format!("token-{number}");
            let entry = Revocation::token(token, client, clock, clock + Duration::from_secs(3_000));
            runtime.block_on(revocations.revoke(entry)).unwrap();
        }
        let server = AuthorizationServer::builder(ISSUER, KeyRing::new(ed25519()), store);
        let server = server.revocations(revocations).build().unwrap();
        Served { server, secret: secret.expose().to_owned() }
    });
    let verifiers = cases
        .each_ref()
        .map(|served| (served.server.verifier(API).unwrap(), served.token(served.request("billing", ""))));
    let figures = interleaved(
        verifiers.each_ref().map(|(own, token)| Work::on_processor(|| (), |()| own.verify_now(token).unwrap())),
        TIME,
    );
    shape("revoked tokens, 900 of the client itself, a token seen before", &sized(SIZES, &figures));
    let figures = interleaved(
        cases.each_ref().map(|served| {
            Work::on_processor(move || served.request("billing", ""), move |request| served.ask(request))
        }),
        TIME,
    );
    shape("the same, issuing a token", &sized(SIZES, &figures));
}

fn headers() {
    const SIZES: [usize; 3] = [0, 10, 100];
    let subject = Subject::new(Algorithm::EdDSA, 10);
    let service = || BearerAuthLayer::new(subject.verifier.clone()).layer(handler());
    let with = |mut request: Request<Body>, count: usize| {
        for number in 0..count {
            let name: http::HeaderName = format!("x-header-{number}").parse().unwrap();
            request.headers_mut().insert(name, http::HeaderValue::from_static("a value of some length"));
        }
        request
    };
    // The headers are dropped with the request, here as by a service that does nothing.
    let guarded = interleaved(
        SIZES.map(|count| {
            let (subject, mut service) = (&subject, service());
            Work::on_processor(
                move || with(bearer(&subject.token), count),
                move |request| drop(now(service.call(request)).unwrap()),
            )
        }),
        TIME,
    );
    shape(
        "other headers of a request, protected route, seen before (including the drop of the headers)",
        &sized(SIZES, &guarded),
    );
    let issued = interleaved(
        SIZES.map(|count| {
            let subject = &subject;
            Work::on_processor(move || with(subject.request(1), count), move |request| subject.ask(request))
        }),
        TIME,
    );
    shape("the same, issuing a token", &sized(SIZES, &issued));

    const LENGTHS: [usize; 4] = [100, 1_000, 10_000, 100_000];
    let authorization = |mut request: Request<Body>, value: String| {
        request.headers_mut().insert("authorization", value.parse().unwrap());
        request
    };
    let garbage = interleaved(
        LENGTHS.map(|length| {
            let mut service = service();
            Work::on_processor(
                move || authorization(plain(), format!("Bearer {}", "a".repeat(length))),
                move |request| assert_eq!(now(service.call(request)).unwrap().status(), 401),
            )
        }),
        TIME,
    );
    shape("length of `Authorization`, protected route, garbage", &sized(LENGTHS, &garbage));
    let dots = interleaved(
        LENGTHS.map(|length| {
            let mut service = service();
            Work::on_processor(
                move || authorization(plain(), format!("Bearer {}", "a.".repeat(length / 2))),
                move |request| assert_eq!(now(service.call(request)).unwrap().status(), 401),
            )
        }),
        TIME,
    );
    shape("the same, dots", &sized(LENGTHS, &dots));
    let basics = interleaved(
        LENGTHS.map(|length| {
            let subject = &subject;
            let value = format!("Basic {}", STANDARD.encode(format!("client-1:{}", "a".repeat(length * 3 / 4))));
            Work::on_processor(
                move || authorization(subject.request(1), value.clone()),
                move |request| subject.ask(request),
            )
        }),
        TIME,
    );
    shape("length of `Authorization`, token endpoint", &sized(LENGTHS, &basics));
    let queries = interleaved(
        LENGTHS.map(|length| {
            let (subject, query) = (&subject, format!("/token?{}", "a=%41&".repeat(length / 6).trim_end_matches('&')));
            let request = move || {
                let mut request = subject.request(1);
                // A URI has 65,534 bytes at most.
                *request.uri_mut() = query.get(..query.len().min(65_500)).unwrap_or_default().parse().unwrap();
                request
            };
            Work::on_processor(request, move |request| subject.ask(request))
        }),
        TIME,
    );
    shape("length of the query at the token endpoint (the last: 65,500)", &sized(LENGTHS, &queries));
}

fn hops() {
    const SIZES: [usize; 4] = [1, 10, 100, 1_000];
    let clients = |secret: &ClientSecret| vec![Client::new("billing", secret).audience(API)];
    let limits = AttemptLimits::default().generated_by_address(u32::MAX);
    let served = Served::new(ed25519(), clients, |server| {
        let proxies = TrustedProxies::new(ForwardedHeader::XForwardedFor, ["10.0.0.0/8"]).unwrap();
        let server = server.attempt_limits(limits).peer_address(|_| Some([10, 0, 0, 1].into()));
        server.trusted_proxies(proxies)
    });
    let wrong = ClientSecret::generate().unwrap();
    let wrong = wrong.expose();
    for (what, address) in [
        ("hops in `X-Forwarded-For`, all trusted, a wrong secret", "10.0.0.2"),
        ("the same, hops that are not trusted", "192.0.2.1"),
    ] {
        let figures = interleaved(
            SIZES.map(|count| {
                let (served, value) = (&served, vec![address; count].join(", "));
                let request = move || {
                    let mut request = basic("billing", wrong);
                    request.headers_mut().insert("x-forwarded-for", value.parse().unwrap());
                    request
                };
                Work::on_processor(request, move |request| assert_eq!(served.status(request), 401))
            }),
            TIME,
        );
        shape(what, &sized(SIZES, &figures));
    }
}

/// Row 3: a new client in a file that has many.
#[cfg(feature = "file")]
mod file {
    use tokio::runtime::Runtime;
    use tower_client_credentials::store::{ClientAdmin as _, FileStore};

    use super::*;

    const CREATED: usize = 5;

    pub(super) fn creating() {
        // Stores move work to threads, which a single thread would run only with the next request.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let folder = std::env::temp_dir().join(format!("growth-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let sizes = [1_000, 10_000, 100_000];
        let (creates, ages): (Vec<Figure>, Vec<Figure>) =
            sizes.iter().map(|count| create(&runtime, &folder.join(format!("{count}.toml")), *count)).unzip();
        std::fs::remove_dir_all(&folder).unwrap();
        let labels = || sizes.into_iter().map(thousands);
        let creates: Vec<Sized<'_>> = labels().zip(&creates).collect();
        let what = "clients in a file, creating one more; processor time of all threads";
        row("3", what, &creates, "100,000", &time(creates[2].1.median), "≤ 2 s");
        let ages: Vec<Sized<'_>> = labels().zip(&ages).collect();
        let what = "the same, maximum age of the revocation view meanwhile, wall-clock time";
        row("3", what, &ages, "100,000", &time(ages[2].1.median), "≤ 1 s");
    }

    /// Returns the processor time of a few creations, one after another, and the highest age of the view.
    fn create(runtime: &Runtime, path: &std::path::Path, count: usize) -> (Figure, Figure) {
        let secret = ClientSecret::generate().unwrap();
        let client = |number: usize| Client::new(client_id(number), &secret).audience(API).register().unwrap();
        let store = runtime.block_on(FileStore::builder(path).create_missing().open()).unwrap();
        runtime.block_on(store.create_all((0..count).map(client).collect())).unwrap();
        let revocations = runtime.block_on(async { Revocations::follow(store.clone()).await.unwrap() });
        let (mut times, mut oldest) = (Vec::new(), Duration::ZERO);
        for number in count..count + CREATED {
            let before = process_time();
            let (store, client) = (store.clone(), client(number));
            let created = runtime.spawn(async move { store.create(client).await });
            while !created.is_finished() {
                oldest = oldest.max(revocations.age());
                std::thread::sleep(Duration::from_millis(1));
            }
            runtime.block_on(created).unwrap().unwrap();
            times.push((process_time() - before).as_nanos() as f64);
        }
        (Figure::of(times), Figure::of(vec![oldest.as_nanos() as f64]))
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use tower_client_credentials::store::{ClientAdmin as _, SqliteStore};
    use tower_client_credentials::ClientStore as _;

    use super::*;

    const SIZES: [usize; 4] = [1, 10, 100, 1_000];
    const ROUNDS: usize = 200;

    /// Row 1: a look-up, by the time of all threads, since SQLite has its own threads.
    pub(super) fn look_ups() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let path = std::env::temp_dir().join(format!("growth-{}.db", std::process::id()));
        let store = runtime.block_on(SqliteStore::open(format!("sqlite://{}", path.display()))).unwrap();
        let secret = ClientSecret::generate().unwrap();
        for count in SIZES {
            let client = Client::new(client_id(count), &secret).audience(API).scopes(names(count));
            runtime.block_on(store.create(client.register().unwrap())).unwrap();
        }
        let mut times = [const { Vec::new() }; SIZES.len()];
        for _ in 0..ROUNDS {
            for (count, times) in SIZES.into_iter().zip(&mut times) {
                let id = client_id(count).parse().unwrap();
                let before = process_time();
                assert!(runtime.block_on(store.find(&id)).unwrap().is_some());
                times.push((process_time() - before).as_nanos() as f64);
            }
        }
        drop(store);
        for file in ["", "-wal", "-shm"].map(|end| format!("{}{end}", path.display())) {
            let _ = std::fs::remove_file(file);
        }
        let figures = times.map(Figure::of);
        let value = format!("{:.2} ×", figures[3].ratio_to(&figures[2]));
        let what = "scopes of a client, a look-up in SQLite; the time of all threads of the process";
        row("1", what, &sized(SIZES, &figures), "1,000 / 100", &value, "≤ 10 × (linear); 1,000 took 10.6 ms");
    }
}

#[cfg(any(feature = "file", feature = "sqlite"))]
fn process_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}
