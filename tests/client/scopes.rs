//! A resource server that requires more scopes, and a client that may request some of them.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use tower::{Layer as _, Service as _, service_fn};
use tower_client_credentials::client::SecretSource;
use tower_client_credentials::{ClientCredentials, ClientCredentialsLayer, Scopes};

const API: &str = "https://api.example.com";

fn scopes(text: &str) -> Scopes {
    text.parse().unwrap()
}

/// Calls each path in turn, and returns the statuses and the requested scopes. A path names the scopes that the resource server
/// requires; a token names the scopes that it has.
async fn call(max: Option<&str>, granted: &'static str, paths: &[&str]) -> (Vec<u16>, Vec<String>) {
    let requested = Arc::new(Mutex::new(Vec::new()));
    let record = requested.clone();
    let issuer = service_fn(move |request: Request<Full<Bytes>>| {
        let record = record.clone();
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let form: Vec<(String, String)> = serde_urlencoded::from_bytes(&body).unwrap();
            let scope = form.into_iter().find(|(name, _)| name == "scope").unwrap().1;
            let has = scope.split(' ').filter(|scope| granted.split(' ').any(|granted| granted == *scope));
            let token = has.collect::<Vec<_>>().join("_");
            record.lock().unwrap().push(scope);
            let body = format!(r#"{{"access_token": "{token}", "token_type": "Bearer", "expires_in": 600}}"#);
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(body)))
        }
    });
    let api = service_fn(|request: Request<Full<Bytes>>| {
        let token = request.headers()[header::AUTHORIZATION].to_str().unwrap().strip_prefix("Bearer ").unwrap();
        let required = request.uri().path().trim_start_matches('/').replace('+', " ");
        let has_all = required.split(' ').all(|scope| token.split('_').any(|own| own == scope));
        let mut response = Response::new(());
        if !has_all {
            *response.status_mut() = http::StatusCode::FORBIDDEN;
            let challenge = format!(r#"Bearer error="insufficient_scope", scope="{required}""#);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
        }
        async { Ok::<_, Infallible>(response) }
    });
    let mut credentials =
        ClientCredentials::new("https://auth.example.com", "agent", SecretSource::from_value("secret"))
            .token_endpoint("https://auth.example.com/token")
            .resource(API)
            .scopes(scopes("read"))
            .http_service(issuer);
    if let Some(max) = max {
        credentials = credentials.max_scopes(scopes(max));
    }
    let mut service = ClientCredentialsLayer::new(credentials).unwrap().layer(api);
    let mut statuses = Vec::new();
    for path in paths {
        let request = Request::get(format!("{API}/{path}")).body(Full::default()).unwrap();
        statuses.push(service.call(request).await.unwrap().status().as_u16());
    }
    let requested = requested.lock().unwrap().clone();
    (statuses, requested)
}

#[tokio::test]
async fn scopes_within_the_maximum_are_requested_once_and_kept() {
    let (statuses, requested) = call(Some("write admin"), "read write", &["read", "write", "read+write", "read"]).await;
    assert_eq!(statuses, [200, 200, 200, 200]);
    assert_eq!(requested, ["read", "read write"]);
}

#[tokio::test]
async fn no_scope_beyond_the_maximum_is_requested() {
    for (max, path) in [(None, "write"), (Some("write"), "admin"), (Some("write"), "write+admin")] {
        let (statuses, requested) = call(max, "read write admin", &[path, path]).await;
        assert_eq!((statuses, requested), (vec![403, 403], vec!["read".to_owned()]), "{max:?} {path}");
    }
}

#[tokio::test]
async fn scopes_that_the_issuer_does_not_grant_are_requested_once() {
    let (statuses, requested) = call(Some("write"), "read", &["write", "write", "read", "write"]).await;
    assert_eq!(statuses, [403, 403, 200, 403]);
    assert_eq!(requested, ["read", "read write"]);
}

#[tokio::test]
async fn more_scopes_are_requested_step_by_step() {
    let (statuses, requested) = call(Some("write admin"), "read write admin", &["write", "admin", "write"]).await;
    assert_eq!(statuses, [200, 200, 200]);
    assert_eq!(requested, ["read", "read write", "read write admin"]);
}
