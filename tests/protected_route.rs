//! A protected route over sockets, on every stack.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::stack::on_every_stack;
use common::{API, forge, server};
use tower_client_credentials::BearerAuthLayer;

#[tokio::test]
async fn a_good_token_opens_the_route() {
    on_every_stack(async |stack| {
        let server = server();
        let site = stack.protect(&server, [BearerAuthLayer::new(server.verifier(API).unwrap())]).await;
        let answer = site.get_authorized(&format!("Bearer {}", forge::good().sign())).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    })
    .await;
}
