//! A layer is ready when its inner service is, and fails as it does (the contract of `tower::Service`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll, Waker};

use common::{API, server};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Bytes;
use tower::{Layer, Service};
use tower_client_credentials::authorization_server::ForwardGrantsLayer;
use tower_client_credentials::{BearerAuthLayer, TokenEndpointLayer};

type Body = Full<Bytes>;

/// A service that is ready, not yet ready, or broken.
#[derive(Clone, Debug, PartialEq)]
struct Inner(Poll<Result<(), &'static str>>);

impl<B> Service<Request<B>> for Inner {
    type Response = Response<Body>;
    type Error = &'static str;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        self.0
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Err("the call failed"))
    }
}

const STATES: [Poll<Result<(), &str>>; 3] =
    [Poll::Pending, Poll::Ready(Ok(())), Poll::Ready(Err("the service is broken"))];

fn readiness<S: Service<Request<Body>>>(mut service: S) -> Poll<Result<(), S::Error>> {
    service.poll_ready(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn each_layer_is_ready_exactly_when_its_inner_service_is() {
    let server = server();
    for state in STATES {
        let inner = || Inner(state);
        let guard = BearerAuthLayer::new(server.verifier(API).unwrap());
        assert_eq!(readiness(TokenEndpointLayer::new(server.clone()).layer(inner())), state);
        assert_eq!(readiness(ForwardGrantsLayer::new(server.clone()).layer(inner())), state);
        assert_eq!(readiness(guard.layer(inner())), state);
    }
    let Poll::Ready(Ok::<(), Infallible>(())) = readiness(server.token_service()) else {
        panic!("the token service is not ready")
    };
}

#[tokio::test]
async fn a_layer_passes_on_the_error_of_its_inner_service() {
    let server = server();
    let inner = || Inner(Poll::Ready(Ok(())));
    let request = || Request::get("/elsewhere").body(Body::default()).unwrap();
    let guard = BearerAuthLayer::new(server.verifier(API).unwrap()).optional();
    assert_eq!(
        TokenEndpointLayer::new(server.clone()).layer(inner()).call(request()).await.unwrap_err(),
        "the call failed"
    );
    assert_eq!(guard.layer(inner()).call(request()).await.unwrap_err(), "the call failed");
    let mut forward = ForwardGrantsLayer::new(server).layer(inner());
    assert_eq!(forward.call(request()).await.unwrap_err(), "the call failed");
}

#[test]
fn the_inner_service_can_be_borrowed_and_taken_out() {
    let server = server();
    let inner = Inner(Poll::Pending);
    let mut endpoint = TokenEndpointLayer::new(server.clone()).layer(inner.clone());
    assert_eq!(endpoint.get_ref(), &inner);
    assert_eq!(endpoint.get_mut(), &inner);
    assert_eq!(endpoint.into_inner(), inner);
    let mut guarded = BearerAuthLayer::new(server.verifier(API).unwrap()).layer(inner.clone());
    assert_eq!(guarded.get_ref(), &inner);
    assert_eq!(guarded.get_mut(), &inner);
    assert_eq!(guarded.into_inner(), inner);
}
