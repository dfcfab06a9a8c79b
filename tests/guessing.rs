//! Who guesses secrets is slowed down, and locks nobody out of a generated one (RFC 6749 §2.3.1).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::net::IpAddr;
use std::time::Duration;

use common::request::{GRANT, TokenRequest, billing_asks, post};
use common::stack::{Answer, on_every_stack};
use common::{API, WRONG_SECRET, clients, clock, settings};
use http::Request;
use tower::ServiceExt as _;
use tower_client_credentials::{AuthorizationServer, Client, ClientSecret, EndpointService, ManualClock, MemoryStore};

/// The secret that a person chose.
const CHOSEN: &str = "correct horse";

struct Guarded {
    service: EndpointService,
    clock: ManualClock,
}

impl Guarded {
    fn new() -> Self {
        let clock = clock();
        let person = Client::new("person", ClientSecret::new(CHOSEN).unwrap())
            .secret(ClientSecret::new(common::SECRET.as_str()).unwrap())
            .audience(API);
        let server: AuthorizationServer = settings(clients().into_iter().chain([person]).collect::<MemoryStore>())
            .clock(clock.clone())
            .peer_address(|extensions| extensions.get().copied())
            // One client has two of the three.
            .slow_checks(3, 13)
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
async fn wrong_generated_secrets_beyond_a_hundred_a_minute_get_429_and_the_right_one_passes_all_the_same() {
    let guarded = Guarded::new();
    let wrong = post(GRANT).basic("billing", &WRONG_SECRET);
    assert_eq!(guarded.statuses(&wrong, 1, 100).await, [401; 100]);
    let answer = guarded.send(wrong.clone(), 1).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str()), (429, Some("temporarily_unavailable")));
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    guarded.send(billing_asks(GRANT), 1).await.assert_token();
    guarded.send(wrong.clone(), 2).await.assert_refused(401, "invalid_client");
    guarded.clock.advance(Duration::from_secs(wait));
    guarded.send(wrong, 1).await.assert_refused(401, "invalid_client");
}

#[tokio::test]
async fn guessing_over_a_socket_is_slowed_down_on_every_stack() {
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
async fn the_limit_does_not_tell_a_disabled_client_whose_secret_leaked() {
    let guarded = Guarded::new();
    let right = post(GRANT).basic("retired", &common::SECRET);
    let statuses = guarded.statuses(&right, 1, 101).await;
    assert_eq!((statuses[99], statuses[100]), (401, 429));
}

#[tokio::test]
async fn a_client_that_moves_to_a_generated_secret_is_never_locked_out() {
    let guarded = Guarded::new();
    let wrong = post(GRANT).basic("person", "battery staple");
    assert_eq!(guarded.statuses(&wrong, 1, 11).await.last(), Some(&429));
    guarded.send(post(GRANT).basic("person", &common::SECRET), 1).await.assert_token();
}

#[tokio::test]
async fn right_secrets_of_people_at_the_same_time_count_for_nothing() {
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
async fn hanging_up_does_not_undo_a_guess() {
    let guarded = Guarded::new();
    let wrong = post(GRANT).basic("person", "battery staple");
    for _ in 0..10 {
        // Polled once, the check is under way; then the caller is gone.
        let mut answer = Box::pin(guarded.send(wrong.clone(), 1));
        assert!(futures_util::poll!(&mut answer).is_pending());
        drop(answer);
        // The next check of the same client waits for its turn behind those.
        guarded.send(post(GRANT).basic("person", CHOSEN), 2).await.assert_token();
    }
    let counted = async {
        while guarded.send(post(GRANT).basic("person", CHOSEN), 1).await.status != 429 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), counted).await.expect("ten guesses to count");
}

#[tokio::test]
async fn a_persons_secret_is_tried_ten_times_a_minute_from_one_address() {
    let guarded = Guarded::new();
    let (right, wrong) = (post(GRANT).basic("person", CHOSEN), post(GRANT).basic("person", "battery staple"));
    guarded.send(right.clone(), 1).await.assert_token();
    assert_eq!(guarded.statuses(&wrong, 1, 10).await, [401; 10]);
    assert_eq!(guarded.statuses(&right, 1, 1).await, [429], "not even hashed");
    guarded.send(right.clone(), 2).await.assert_token();
    guarded.clock.advance(Duration::from_secs(60));
    guarded.send(right, 1).await.assert_token();
}
