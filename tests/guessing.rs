//! Guessing secrets is rate-limited, and never locks out a client with a generated secret (RFC 6749 §2.3.1).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::request::{GRANT, TokenRequest, billing_asks, post};
use common::stack::{Answer, on_every_stack};
use common::{API, NOW, SECRET, WRONG_SECRET, at, clients, clock, settings};
use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use tower::ServiceExt as _;
use tower_client_credentials::authorization_server::{
    ConfigError, EndpointService, ForwardedHeader, TokenError, TrustedProxies,
};
use tower_client_credentials::clock::ManualClock;
use tower_client_credentials::{AuthorizationServer, Client, ClientSecret, MemoryStore, TokenEndpointLayer};

/// The secret chosen by a person.
const CHOSEN: &str = "correct horse";

struct Guarded {
    service: EndpointService,
    clock: ManualClock,
}

impl Guarded {
    /// One client has two of the three places for slow checks.
    fn new() -> Self {
        Self::with_places(3)
    }

    /// Creates a server that does this many slow checks at the same time.
    fn with_places(at_once: usize) -> Self {
        let clock = clock();
        let person = Client::new("person", ClientSecret::new(CHOSEN).unwrap())
            .secret(ClientSecret::new(SECRET.as_str()).unwrap())
            .audience(API);
        let former = Client::new("former", ClientSecret::new(CHOSEN).unwrap()).audience(API).disabled();
        let server: AuthorizationServer =
            settings(MemoryStore::try_from(clients().into_iter().chain([person, former]).collect::<Vec<_>>()).unwrap())
                .clock(clock.clone())
                .peer_address(|extensions| extensions.get().copied())
                .slow_checks(at_once, 13)
                .build()
                .unwrap();
        Self { service: server.token_service(), clock }
    }

    async fn send(&self, request: TokenRequest, peer: u8) -> Answer {
        let mut request = Request::from(request);
        request.extensions_mut().insert(IpAddr::from([192, 0, 2, peer]));
        Answer::read(self.service.clone().oneshot(request).await.unwrap()).await
    }

    async fn statuses(&self, request: &TokenRequest, peer: u8, times: usize) -> Vec<u16> {
        let mut statuses = Vec::new();
        for _ in 0..times {
            statuses.push(self.send(request.clone(), peer).await.status.as_u16());
        }
        statuses
    }
}

#[tokio::test]
async fn wrong_generated_secrets_beyond_a_hundred_a_minute_get_429_and_the_correct_one_still_passes() {
    let guarded = Guarded::new();
    // 13 s into a minute.
    guarded.clock.set(at(NOW - NOW % 60 + 13));
    let wrong = post(GRANT).basic("billing", &WRONG_SECRET);
    assert_eq!(guarded.statuses(&wrong, 1, 100).await, [401; 100]);
    let answer = guarded.send(wrong.clone(), 1).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str()), (429, Some("temporarily_unavailable")));
    assert_eq!(answer.header("retry-after"), Some("47"), "the rest of the minute");
    guarded.send(billing_asks(GRANT), 1).await.assert_token();
    guarded.send(wrong.clone(), 2).await.assert_refused(401, "invalid_client");
    guarded.clock.advance(Duration::from_secs(46));
    assert_eq!(guarded.send(wrong.clone(), 1).await.header("retry-after"), Some("1"));
    guarded.clock.advance(Duration::from_secs(1));
    guarded.send(wrong, 1).await.assert_refused(401, "invalid_client");
}

#[tokio::test]
async fn guessing_over_a_socket_is_rate_limited_on_every_stack() {
    on_every_stack(async |stack| {
        let site = stack.issue(&common::server()).await;
        let wrong = post(GRANT).basic("billing", &WRONG_SECRET);
        for _ in 0..100 {
            site.send(wrong.clone()).await.assert_refused(401, "invalid_client");
        }
        let answer = site.send(wrong).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after").is_some()), (429, true));
        site.send(billing_asks(GRANT)).await.assert_token();
    })
    .await;
}

#[tokio::test]
async fn an_unknown_client_is_limited_like_a_known_one() {
    let guarded = Guarded::new();
    let unknown = post(GRANT).basic("nobody", &WRONG_SECRET);
    assert_eq!(guarded.statuses(&unknown, 1, 101).await.last(), Some(&429));
}

#[tokio::test]
async fn the_limit_does_not_reveal_a_disabled_client_whose_secret_leaked() {
    let guarded = Guarded::new();
    let right = post(GRANT).basic("retired", &SECRET);
    let statuses = guarded.statuses(&right, 1, 101).await;
    assert_eq!((statuses[99], statuses[100]), (401, 429));
}

#[tokio::test]
async fn beyond_the_limit_the_operator_reads_that_a_client_is_disabled_and_the_caller_reads_the_same_as_a_guesser() {
    let guarded = Guarded::new();
    let mut bodies = Vec::new();
    for (id, secret, expected) in [
        ("retired", SECRET.as_str(), "failed because the client is disabled"),
        ("billing", WRONG_SECRET.as_str(), "failed because the secret matches none of the client's current secrets"),
        ("nobody", WRONG_SECRET.as_str(), "failed because the client is not registered"),
        ("former", CHOSEN, "until the next one; the client is disabled"),
    ] {
        let request = post(GRANT).basic(id, secret);
        guarded.statuses(&request, 1, 100).await;
        let mut request = Request::from(request);
        request.extensions_mut().insert(IpAddr::from([192, 0, 2, 1]));
        let response = guarded.service.clone().oneshot(request).await.unwrap();
        let error = response.extensions().get::<TokenError>().unwrap();
        assert!(error.to_string().ends_with(expected), "{error}");
        let answer = Answer::read(response).await;
        bodies.push((answer.status, answer.header("retry-after").map(str::to_owned), answer.json()));
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
}

#[tokio::test]
async fn correct_and_wrong_chosen_secrets_of_a_disabled_client_are_limited_alike() {
    let guarded = Guarded::new();
    for (peer, secret) in [(1, CHOSEN), (2, "battery staple")] {
        let statuses = guarded.statuses(&post(GRANT).basic("former", secret), peer, 11).await;
        assert_eq!(statuses, [[401; 10].as_slice(), &[429]].concat(), "{secret}");
    }
}

#[tokio::test]
async fn a_client_that_moves_to_a_generated_secret_is_never_locked_out() {
    let guarded = Guarded::new();
    let wrong = post(GRANT).basic("person", "battery staple");
    assert_eq!(guarded.statuses(&wrong, 1, 11).await.last(), Some(&429));
    guarded.send(post(GRANT).basic("person", &SECRET), 1).await.assert_token();
}

#[tokio::test]
async fn concurrent_correct_chosen_secrets_are_not_counted() {
    let guarded = Guarded::new();
    let right = post(GRANT).basic("person", CHOSEN);
    let answers = (0..8).map(|_| guarded.send(right.clone(), 1));
    for answer in futures_util::future::join_all(answers).await {
        answer.assert_token();
    }
    let wrong = post(GRANT).basic("person", "battery staple");
    assert_eq!(guarded.statuses(&wrong, 1, 11).await, [[401; 10].as_slice(), &[429]].concat());
}

#[tokio::test]
async fn disconnecting_does_not_undo_a_guess() {
    // With one place, a check starts only after the result of the check before it was counted.
    let guarded = Guarded::with_places(1);
    let wrong = post(GRANT).basic("person", "battery staple");
    for _ in 0..10 {
        // After one poll the check is in progress; then the caller disconnects.
        let mut answer = Box::pin(guarded.send(wrong.clone(), 1));
        assert!(futures_util::poll!(&mut answer).is_pending());
        drop(answer);
        guarded.send(post(GRANT).basic("person", CHOSEN), 2).await.assert_token();
    }
    let refused = guarded.send(post(GRANT).basic("person", CHOSEN), 1).await;
    assert_eq!(refused.status, 429, "ten guesses count");
}

#[tokio::test]
async fn a_chosen_secret_can_be_tried_ten_times_a_minute_from_one_address() {
    let guarded = Guarded::new();
    let (right, wrong) = (post(GRANT).basic("person", CHOSEN), post(GRANT).basic("person", "battery staple"));
    guarded.send(right.clone(), 1).await.assert_token();
    assert_eq!(guarded.statuses(&wrong, 1, 10).await, [401; 10]);
    assert_eq!(guarded.statuses(&right, 1, 1).await, [429], "not hashed");
    guarded.send(right.clone(), 2).await.assert_token();
    guarded.clock.advance(Duration::from_secs(60));
    guarded.send(right, 1).await.assert_token();
}

/// A random secret chosen by the user, as `openssl rand -hex 32` prints it.
const RANDOM: &str = "1f0c9d7be5a34482c6d1907f5e3b8a264d90ce17ab83f5620c7d4e9f18b2a635";

/// How often each status occurred, for the output of a test.
fn counted(statuses: &[u16]) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for status in statuses {
        *counts.entry(status).or_insert(0) += 1;
    }
    format!("{counts:?}")
}

#[tokio::test]
async fn wrong_guesses_never_lock_a_client_with_its_own_random_secret_out() {
    on_every_stack(async |stack| {
        let own = Client::new("own", ClientSecret::assume_random(RANDOM).unwrap()).audience(API);
        let site = stack.issue(&settings(MemoryStore::try_from([own]).unwrap()).build().unwrap()).await;
        let (right, wrong) = (post(GRANT).basic("own", RANDOM), post(GRANT).basic("own", &RANDOM.replace('1', "2")));
        let mut statuses = Vec::new();
        for _ in 0..10 {
            statuses.push(site.send(wrong.clone()).await.status.as_u16());
        }
        let after_ten = site.send(right.clone()).await.status.as_u16();
        for _ in 0..110 {
            statuses.push(site.send(wrong.clone()).await.status.as_u16());
        }
        let after_all = site.send(right).await.status.as_u16();
        println!(
            "120 wrong guesses: {}; the right secret: {after_ten} after 10, {after_all} after 120",
            counted(&statuses)
        );
        assert_eq!(statuses, [[401; 100].as_slice(), &[429; 20]].concat());
        assert_eq!((after_ten, after_all), (200, 200));
    })
    .await;
}

/// A server that counts failures by address, and trusts the load balancer at 127.0.0.10.
struct Balanced(SocketAddr);

impl Balanced {
    const BALANCER: &str = "127.0.0.10";

    async fn start(header: ForwardedHeader) -> Self {
        let server = settings(MemoryStore::try_from(clients()).unwrap())
            .peer_address(|extensions| extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.ip()))
            .trusted_proxies(TrustedProxies::new(header, [format!("{}/32", Self::BALANCER)]).unwrap())
            .build()
            .unwrap();
        let app: Router = Router::new().fallback(async || ()).layer(TokenEndpointLayer::new(server));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self(address)
    }

    /// Returns the status of one request, from this address of the loopback network, with these headers.
    async fn ask(&self, from: &str, secret: &str, headers: &str) -> u16 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        let mut stream = socket.connect(self.0).await.unwrap();
        let credentials = STANDARD.encode(format!("billing:{secret}"));
        let request = format!(
            "POST /token HTTP/1.1\r\nhost: h\r\nconnection: close\r\nauthorization: Basic {credentials}\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n{headers}\r\n{GRANT}",
            GRANT.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Sends a hundred and one wrong secrets, each with the headers for its number.
    async fn guess(&self, from: &str, headers: impl Fn(usize) -> String) -> Vec<u16> {
        let mut statuses = Vec::new();
        for number in 0..101 {
            statuses.push(self.ask(from, &WRONG_SECRET, &headers(number)).await);
        }
        statuses
    }
}

fn used_up() -> Vec<u16> {
    [[401; 100].as_slice(), &[429]].concat()
}

#[tokio::test]
async fn two_callers_behind_one_trusted_load_balancer_have_separate_counts() {
    for (header, own, other) in [
        (
            ForwardedHeader::XForwardedFor,
            "x-forwarded-for: 198.51.100.N, 203.0.113.1\r\n",
            "x-forwarded-for: 203.0.113.2\r\n",
        ),
        (
            ForwardedHeader::Forwarded,
            "x-forwarded-for: 198.51.100.N\r\nforwarded: for=198.51.100.N, for=\"203.0.113.1:N\";proto=https\r\n",
            "x-forwarded-for: 203.0.113.1\r\nforwarded: for=203.0.113.2\r\n",
        ),
    ] {
        let server = Balanced::start(header).await;
        // Text that the caller adds on the left, or in the other header, does not change its count.
        let first = server.guess(Balanced::BALANCER, |number| own.replace('N', &(number + 1).to_string())).await;
        let second = server.ask(Balanced::BALANCER, &WRONG_SECRET, other).await;
        let right = server.ask(Balanced::BALANCER, &SECRET, &own.replace('N', "1")).await;
        println!("by {header}: one caller {}, the other {second}, the right secret {right}", counted(&first));
        assert_eq!((first, second, right), (used_up(), 401, 200));
    }
}

#[tokio::test]
async fn a_forged_header_of_an_untrusted_peer_counts_for_the_peer() {
    let server = Balanced::start(ForwardedHeader::XForwardedFor).await;
    let forged = |number| format!("x-forwarded-for: 203.0.113.{number}\r\n");
    let statuses = server.guess("127.0.0.20", forged).await;
    let elsewhere = server.ask("127.0.0.21", &WRONG_SECRET, &forged(1)).await;
    let behind = server.ask(Balanced::BALANCER, &WRONG_SECRET, &forged(1)).await;
    println!(
        "a peer with 101 forged addresses: {}; another peer {elsewhere}; the real caller {behind}",
        counted(&statuses)
    );
    assert_eq!((statuses, elsewhere, behind), (used_up(), 401, 401));
}

#[tokio::test]
async fn a_header_without_an_address_counts_for_the_load_balancer() {
    let server = Balanced::start(ForwardedHeader::XForwardedFor).await;
    let statuses = server.guess(Balanced::BALANCER, |_| "x-forwarded-for: 203.0.113.1, unknown\r\n".to_owned()).await;
    assert_eq!(statuses, used_up());
    assert_eq!(server.ask(Balanced::BALANCER, &WRONG_SECRET, "").await, 429);
    assert_eq!(server.ask(Balanced::BALANCER, &WRONG_SECRET, "x-forwarded-for: 203.0.113.1\r\n").await, 401);
}

#[tokio::test]
async fn trusted_proxies_without_a_peer_address_are_an_invalid_setting() {
    let proxies = TrustedProxies::new(ForwardedHeader::Forwarded, ["10.0.0.0/8"]).unwrap();
    let mistake = settings(MemoryStore::try_from(clients()).unwrap()).trusted_proxies(proxies).build().unwrap_err();
    assert!(matches!(mistake, ConfigError::NoPeerAddress), "{mistake:?}");
    assert!(mistake.to_string().contains(".peer_address(…)"), "{mistake}");
}
