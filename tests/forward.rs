//! Other grants are forwarded to the service behind, byte for byte. Our grant is answered here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::convert::Infallible;

use common::request::{GRANT, Stream, TokenRequest, billing_asks, post};
use common::stack::{Framework, Site, Stack, on_every_stack};
use common::{clients, server, settings};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};
use tower_client_credentials::authorization_server::{ForwardGrantsLayer, ForwardedBody};
use tower_client_credentials::{AuthorizationServer, MemoryStore};

const CODE: &str = "code=%41+b%2f&grant_type=authorization_code&&x=%zz";

/// An existing token endpoint, which echoes the request.
async fn existing(request: Request<ForwardedBody<Incoming>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let credentials = request.headers().get("authorization").cloned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert("x-existing", credentials.unwrap_or(http::HeaderValue::from_static("none")));
    Ok(response)
}

async fn serve(stack: Stack, server: AuthorizationServer) -> Site {
    let layer = ForwardGrantsLayer::new(server);
    match stack.framework {
        Framework::Hyper => stack.serve(layer.layer(service_fn(existing))).await,
        Framework::Axum => {
            let echo = async |headers: http::HeaderMap, body: Bytes| {
                let credentials = headers.get("authorization").cloned();
                ([("x-existing", credentials.unwrap_or(http::HeaderValue::from_static("none")))], body)
            };
            stack.serve(axum::Router::new().fallback(echo).layer(layer)).await
        }
    }
}

fn other(body: &str) -> TokenRequest {
    post(body.to_owned())
}

#[tokio::test]
async fn another_grant_is_forwarded_byte_for_byte_with_its_credentials() {
    on_every_stack(async |stack| {
        let site = serve(stack, server()).await;
        let answer = site.send(other(CODE)).await;
        assert_eq!((answer.header("x-existing"), &answer.body[..]), (Some("none"), CODE.as_bytes()));
        let pieces = Stream::of([&CODE[..7], &CODE[7..]]);
        let answer = site.send(other("").header(http::header::AUTHORIZATION, "Basic ||").stream(pieces)).await;
        assert_eq!((answer.header("x-existing"), &answer.body[..]), (Some("Basic ||"), CODE.as_bytes()));
    })
    .await;
}

#[tokio::test]
async fn our_grant_and_requests_without_another_grant_are_answered_here() {
    on_every_stack(async |stack| {
        let site = serve(stack, server()).await;
        site.send(billing_asks(GRANT)).await.assert_token();
        for (body, status, error) in [
            ("", 400, "invalid_request"),
            ("grant_type=", 400, "invalid_request"),
            ("grant_type=client_credentials&grant_type=password", 400, "invalid_request"),
            ("grant_type=client_credentials", 401, "invalid_client"),
        ] {
            site.send(other(body)).await.assert_refused(status, error);
        }
        site.send(other(CODE).method("PUT")).await.assert_refused(405, "invalid_request");
        site.send(other(CODE).content_types(&["text/plain"])).await.assert_refused(400, "invalid_request");
    })
    .await;
}

#[tokio::test]
async fn a_request_that_cannot_have_another_grant_is_refused_before_the_body_is_read() {
    on_every_stack(async |stack| {
        let site = serve(stack, server()).await;
        for (request, status) in [(other("").method("GET"), 405), (other("").content_types(&["application/json"]), 400)]
        {
            let mut request = request.stream(Stream::of([CODE]).then_stalls());
            request.headers_mut().insert(http::header::CONTENT_LENGTH, (CODE.len() + 1).into());
            site.send(request).await.assert_refused(status, "invalid_request");
        }
    })
    .await;
}

/// The wrapped service decides about the query of a request for its own grants.
#[tokio::test]
async fn credentials_in_the_query_are_refused_with_our_grant_and_forwarded_with_another() {
    const QUERY: &str = "/token?client_secret=x";
    on_every_stack(async |stack| {
        let site = serve(stack, server()).await;
        let answer = site.send(other(CODE).to(QUERY)).await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, CODE.as_bytes()));
        site.send(billing_asks(GRANT).to(QUERY)).await.assert_refused(400, "invalid_request");
    })
    .await;
}

#[tokio::test]
async fn the_limit_of_the_body_applies_to_other_grants_too() {
    let server = settings(MemoryStore::try_from(clients()).unwrap()).body_limit(CODE.len()).build().unwrap();
    on_every_stack(async |stack| {
        let site = serve(stack, server.clone()).await;
        assert_eq!(site.send(other(CODE)).await.status, 200);
        site.send(other(&format!("{CODE}x"))).await.assert_refused(413, "invalid_request");
    })
    .await;
}

#[tokio::test]
async fn other_paths_are_forwarded_with_their_body() {
    on_every_stack(async |stack| {
        let site = serve(stack, server()).await;
        let answer = site.send(post(GRANT).to("/elsewhere")).await;
        assert_eq!((answer.header("x-existing"), &answer.body[..]), (Some("none"), GRANT.as_bytes()));
        assert!(site.get("/.well-known/jwks.json").await.json()["keys"].is_array());
    })
    .await;
}

#[tokio::test]
async fn a_service_with_one_place_is_asked_for_it_after_the_body_has_arrived() {
    let limited = tower::limit::ConcurrencyLimit::new(service_fn(existing_of_bytes), 1);
    let mut service = ForwardGrantsLayer::new(server()).layer(limited);
    for _ in 0..3 {
        let request = Request::from(other(CODE));
        let answer = service.ready().await.unwrap().call(request);
        let answer =
            tokio::time::timeout(std::time::Duration::from_secs(5), answer).await.expect("no deadlock").unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), CODE);
    }
}

async fn existing_of_bytes(
    request: Request<ForwardedBody<common::stack::Body>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(request.into_body().collect().await.unwrap().to_bytes())))
}
