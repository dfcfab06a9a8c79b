//! By option, a bounded number of requests waits for a token, and the others are told to come back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use common::request::{GRANT, billing_asks};
use common::stack::Body;
use common::{READ, client, settings};
use futures_util::future::join_all;
use http::{Request, StatusCode};
use tower::ServiceExt as _;
use tower_client_credentials::{AuthorizationServer, AuthorizationServerBuilder, MemoryStore, TokenError};

const AT_ONCE: usize = 200;

fn settings_with_billing() -> AuthorizationServerBuilder {
    settings(MemoryStore::from([client("billing").scope(READ).audience(common::API)]))
}

/// How many of those who ask at once get a token, once each of the others was told when to come back.
async fn served(server: &AuthorizationServer) -> usize {
    let ask = async |_| {
        let request: Request<Body> = billing_asks(GRANT).into();
        server.token_service().oneshot(request).await.unwrap()
    };
    let answers = join_all((0..AT_ONCE).map(ask)).await;
    let refused = answers.iter().filter(|answer| answer.status() != StatusCode::OK);
    for answer in refused.clone() {
        assert_eq!(
            (answer.status(), &answer.headers()["retry-after"]),
            (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap())
        );
        assert!(answer.extensions().get::<TokenError>().unwrap().to_string().contains("too many requests wait"));
    }
    AT_ONCE - refused.count()
}

#[tokio::test]
async fn those_beyond_it_get_a_503_and_those_who_come_back_later_a_token() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let server = settings_with_billing().token_queue(10).build().unwrap();
    for _ in 0..3 {
        assert_eq!(served(&server).await, (cores + 10).min(AT_ONCE));
    }
}

#[tokio::test]
async fn without_it_everybody_is_served() {
    assert_eq!(served(&settings_with_billing().build().unwrap()).await, AT_ONCE);
}
