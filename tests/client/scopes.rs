//! A resource server that requires more scopes, and a client that may request some of them.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use tokio::time::Instant;
use tower::util::BoxCloneService;
use tower::{Layer as _, Service as _, service_fn};
use tower_client_credentials::client::{CachedTokenSource, CallError, SecretSource};
use tower_client_credentials::clock::ManualClock;
use tower_client_credentials::{ClientCredentials, ClientCredentialsLayer, Scopes};

const API: &str = "https://api.example.com";

fn scopes(text: &str) -> Scopes {
    text.parse().unwrap()
}

/// What an issuer does with scopes that the client may not have.
#[derive(Clone, Copy, PartialEq)]
enum Others {
    Omitted,
    Refused,
}

/// Calls each path in turn, and returns the statuses and the requested scopes. A path names the scopes that the resource server
/// requires; a token names the scopes that it has.
async fn call(max: Option<&str>, granted: &'static str, paths: &[&str]) -> (Vec<u16>, Vec<String>) {
    let granted = Arc::new(Mutex::new((granted, Others::Omitted)));
    let (mut service, requested) = service(max, granted, &ManualClock::at(SystemTime::UNIX_EPOCH));
    let mut statuses = Vec::new();
    for path in paths {
        statuses.push(status(&mut service.layered, path).await);
    }
    let requested = requested.lock().unwrap().clone();
    (statuses, requested)
}
/// Makes a service, and the list of the scopes that it requests. What the issuer grants can be changed.
fn service(
    max: Option<&str>,
    granted: Arc<Mutex<(&'static str, Others)>>,
    clock: &ManualClock,
) -> (Service, Arc<Mutex<Vec<String>>>) {
    let requested = Arc::new(Mutex::new(Vec::new()));
    let record = requested.clone();
    let issuer = service_fn(move |request: Request<Full<Bytes>>| {
        let (record, (granted, others)) = (record.clone(), *granted.lock().unwrap());
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let form: Vec<(String, String)> = serde_urlencoded::from_bytes(&body).unwrap();
            let scope = form.into_iter().find(|(name, _)| name == "scope").unwrap().1;
            let (has, has_not): (Vec<_>, Vec<_>) =
                scope.split(' ').partition(|scope| granted.split(' ').any(|granted| granted == *scope));
            let token = has.join("_");
            let (status, body) = if others == Others::Refused && !has_not.is_empty() {
                (StatusCode::BAD_REQUEST, r#"{"error": "invalid_scope"}"#.to_owned())
            } else {
                (StatusCode::OK, format!(r#"{{"access_token": "{token}", "token_type": "Bearer", "expires_in": 600}}"#))
            };
            record.lock().unwrap().push(scope);
            let mut response = Response::new(Full::<Bytes>::from(body));
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }
    });
    let api = service_fn(|request: Request<Full<Bytes>>| {
        let token = request.headers()[header::AUTHORIZATION].to_str().unwrap().strip_prefix("Bearer ").unwrap();
        let required = request.uri().path().trim_start_matches('/').replace('+', " ");
        let has_all = required.split(' ').all(|scope| token.split('_').any(|own| own == scope));
        let mut response = Response::new(());
        if !has_all {
            *response.status_mut() = StatusCode::FORBIDDEN;
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
            .clock(clock.clone())
            .http_service(issuer);
    if let Some(max) = max {
        credentials = credentials.max_scopes(scopes(max));
    }
    let source = credentials.build().unwrap();
    let layer = ClientCredentialsLayer::from_source(source.clone(), API).unwrap();
    let once = layer.clone().without_repeat().layer(api);
    (Service { layered: BoxCloneService::new(layer.layer(api)), once: BoxCloneService::new(once), source }, requested)
}

type Layered = BoxCloneService<Request<Full<Bytes>>, Response<()>, CallError>;

struct Service {
    layered: Layered,
    /// Without repetition.
    once: Layered,
    source: CachedTokenSource,
}

/// Calls a path, and returns the status.
async fn status(service: &mut Layered, path: &str) -> u16 {
    let request = Request::get(format!("{API}/{path}")).body(Full::default()).unwrap();
    service.call(request).await.unwrap().status().as_u16()
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

#[tokio::test]
async fn scopes_that_the_issuer_refuses_do_not_stop_the_calls_that_do_not_need_them() {
    let clock = ManualClock::at(SystemTime::UNIX_EPOCH);
    let granted = Arc::new(Mutex::new(("read admin", Others::Refused)));
    let (Service { mut layered, .. }, requested) = service(Some("write admin"), granted.clone(), &clock);
    for (path, expected) in [("write", 403), ("read", 200), ("write", 403), ("read", 200), ("admin", 200)] {
        assert_eq!(status(&mut layered, path).await, expected, "{path}");
    }
    assert_eq!(*requested.lock().unwrap(), ["read", "read write", "read admin"], "the pause after a failure holds");
    granted.lock().unwrap().0 = "read write admin";
    clock.advance(Duration::from_secs(2));
    assert_eq!(status(&mut layered, "write").await, 200);
}

#[tokio::test]
async fn when_the_issuer_takes_scopes_back_the_calls_that_do_not_need_them_continue() {
    let clock = ManualClock::at(SystemTime::UNIX_EPOCH);
    let granted = Arc::new(Mutex::new(("read write", Others::Refused)));
    let (Service { mut layered, .. }, requested) = service(Some("write"), granted.clone(), &clock);
    assert_eq!(status(&mut layered, "write").await, 200);
    granted.lock().unwrap().0 = "read";
    clock.advance(Duration::from_secs(700));
    for (path, expected) in [("read", 200), ("write", 403), ("read", 200)] {
        assert_eq!(status(&mut layered, path).await, expected, "{path}");
    }
    assert_eq!(*requested.lock().unwrap(), ["read", "read write", "read write", "read"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_follows_to_the_tokens_with_more_scopes() {
    let granted = Arc::new(Mutex::new(("read write", Others::Refused)));
    let (Service { mut layered, source, .. }, _) =
        service(Some("write"), granted, &ManualClock::at(SystemTime::UNIX_EPOCH));
    let mut tokens = source.watch();
    assert_eq!(tokens.next().await.unwrap().expose(), "read");
    assert_eq!(status(&mut layered, "write").await, 200);
    let wider = tokens.next().await.unwrap();
    assert_eq!(wider.expose(), "read_write");
    let next = tokio::spawn(async move { tokens.next().await });
    tokio::task::yield_now().await;
    let before = Instant::now();
    source.invalidate(&wider);
    // The issuer repeats the refused token, so the one with fewer scopes is in use again.
    assert_eq!(next.await.unwrap().unwrap().expose(), "read");
    assert!(before.elapsed() < Duration::from_secs(1), "the refusal wakes it");
}

#[tokio::test]
async fn more_scopes_are_requested_for_the_next_calls_if_the_request_cannot_be_repeated() {
    let granted = Arc::new(Mutex::new(("read write", Others::Refused)));
    let (Service { mut once, .. }, requested) =
        service(Some("write"), granted, &ManualClock::at(SystemTime::UNIX_EPOCH));
    assert_eq!(status(&mut once, "write").await, 403);
    while requested.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
    assert_eq!(status(&mut once, "write").await, 200);
}
