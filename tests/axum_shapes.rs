//! The router forms in the documentation of `TokenEndpointLayer`: which of them reach the token endpoint, over a socket and
//! with `axum::serve`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::get;
use axum::{Router, ServiceExt};
use common::request::{GRANT, billing_asks};
use common::server;
use common::stack::{Answer, Protocol, Site};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_client_credentials::TokenEndpointLayer;
use tower_client_credentials::transport::ResponseBody;

fn layer() -> TokenEndpointLayer {
    TokenEndpointLayer::new(server())
}

/// A router with a route of its own.
fn router() -> Router {
    Router::new().route("/invoices", get(async || "invoices"))
}

fn other() -> Router {
    Router::new().route("/other", get(async || "other"))
}

async fn serve(app: Router) -> Site {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, app).await });
    Site::at(address, Protocol::Http1)
}

async fn ask(site: &Site, path: &str) -> Answer {
    site.send(billing_asks(GRANT).to(path)).await
}

/// Asserts that the token endpoint answers at `path`, and that the other routes still work.
async fn assert_reached(site: Site, path: &str, routes: &[&str]) {
    ask(&site, path).await.assert_token();
    assert_routed(&site, routes).await;
}

async fn assert_routed(site: &Site, routes: &[&str]) {
    for route in routes {
        assert_eq!(site.get(route).await.status, 200, "{route}");
    }
    assert_eq!(site.get("/nowhere").await.status, 404);
}

/// Asserts that the paths of the endpoints do not exist.
async fn assert_not_reached(site: Site, routes: &[&str]) {
    for path in ["/token", "/api/token"] {
        assert_eq!(ask(&site, path).await.status, 404, "{path}");
    }
    assert_eq!(site.get("/.well-known/jwks.json").await.status, 404);
    assert_routed(&site, routes).await;
}

#[tokio::test]
async fn a_layer_of_the_router_is_reached() {
    assert_reached(serve(router().layer(layer())).await, "/token", &["/invoices", "/.well-known/jwks.json"]).await;
}

#[tokio::test]
async fn a_layered_router_that_is_merged_into_another_is_reached() {
    let app = other().merge(router().layer(layer()));
    assert_reached(serve(app).await, "/token", &["/invoices", "/other", "/.well-known/jwks.json"]).await;
}

#[tokio::test]
async fn the_layer_around_the_whole_router_is_reached_once_the_body_is_mapped() {
    let app = ServiceBuilder::new()
        .map_response(|response: Response<ResponseBody<Body>>| response.map(Body::new))
        .layer(layer())
        .service(router());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, ServiceExt::<Request>::into_make_service(app)).await });
    assert_reached(Site::at(address, Protocol::Http1), "/token", &["/invoices", "/.well-known/jwks.json"]).await;
}

#[tokio::test]
async fn the_standalone_services_are_reached_wherever_they_are_routed() {
    let server = server();
    let app = router()
        .route_service("/oauth/token", server.token_service())
        .route_service("/keys", server.jwks_service())
        .route_service("/metadata", server.metadata_service());
    let site = serve(app.clone()).await;
    assert!(site.get("/keys").await.json()["keys"].is_array());
    assert_eq!(site.get("/metadata").await.json()["issuer"], common::ISSUER);
    assert_eq!(ask(&site, "/token").await.status, 404);
    assert_reached(site, "/oauth/token", &["/invoices", "/keys", "/metadata"]).await;
    // A nested router cannot have the layer, but it can have a service.
    assert_reached(serve(Router::new().nest("/api", app)).await, "/api/oauth/token", &["/api/invoices"]).await;
}

#[tokio::test]
async fn a_route_layer_is_not_reached() {
    assert_not_reached(serve(router().route_layer(layer())).await, &["/invoices"]).await;
}

#[tokio::test]
async fn a_layered_router_that_another_is_merged_into_is_not_reached() {
    let app = router().layer(layer()).merge(other());
    assert_not_reached(serve(app).await, &["/invoices", "/other"]).await;
}

#[tokio::test]
async fn a_layer_before_a_fallback_is_not_reached() {
    let app = router().layer(layer()).fallback(async || (http::StatusCode::NOT_FOUND, "fallback"));
    assert_not_reached(serve(app).await, &["/invoices"]).await;
}

#[tokio::test]
async fn a_layered_router_that_is_nested_is_not_reached() {
    let app = Router::new().nest("/api", router().layer(layer()));
    assert_not_reached(serve(app).await, &["/api/invoices"]).await;
}

/// The nested router lacks a fallback: axum gives it the outer one's, which no inner layer sees.
#[tokio::test]
async fn a_layered_router_that_is_nested_with_a_fallback_of_its_own_is_reached_below_the_prefix() {
    let fallback = async || (http::StatusCode::NOT_FOUND, "fallback");
    let app = Router::new().nest("/api", router().fallback(fallback).layer(layer()));
    let site = serve(app).await;
    assert_eq!(ask(&site, "/token").await.status, 404);
    assert_reached(site, "/api/token", &["/api/invoices", "/api/.well-known/jwks.json"]).await;
}
