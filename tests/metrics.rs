//! The metrics, as a recorder receives them; and that no caller can increase their number.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use common::forge::{self, good};
use common::request::{GRANT, billing_asks, post};
use common::stack::{Answer, Body};
use common::{API, ISSUER, NOW, SECRET, WRITE, WRONG_SECRET, clock, server};
use http::{Request, Response};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_client_credentials::clock::ManualClock;
use tower_client_credentials::transport::{HttpClient, HttpError, HttpFuture};
use tower_client_credentials::{AuthorizationServer, BearerAuthLayer, MemoryStore, RemoteIssuer, Revocations};

/// Returns the counters and gauges recorded while `work` runs, which stays on one thread: `name label=value …` → number.
fn recorded<T>(work: impl Future<Output = T>) -> BTreeMap<String, f64> {
    let recorder = DebuggingRecorder::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let result = metrics::with_local_recorder(&recorder, || runtime.block_on(work));
    let snapshot = recorder.snapshotter().snapshot().into_vec();
    drop(result);
    let named = |(key, _, _, value): (metrics_util::CompositeKey, _, _, DebugValue)| {
        let value = match value {
            DebugValue::Counter(count) => u32::try_from(count).unwrap().into(),
            DebugValue::Gauge(value) => *value,
            DebugValue::Histogram(_) => return None,
        };
        let labels = key.key().labels().map(|label| format!(" {}={}", label.key(), label.value()));
        let name = key.key().name().strip_prefix("client_credentials_").unwrap();
        Some((format!("{name}{}", labels.collect::<String>()), value))
    };
    snapshot.into_iter().filter_map(named).collect()
}

/// Returns the histogram of token requests: `method outcome` → the recorded times.
fn timed<T>(work: impl Future<Output = T>) -> BTreeMap<String, Vec<f64>> {
    let recorder = DebuggingRecorder::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    drop(metrics::with_local_recorder(&recorder, || runtime.block_on(work)));
    let times = |(key, _, _, value): (metrics_util::CompositeKey, _, _, DebugValue)| {
        let DebugValue::Histogram(values) = value else { return None };
        assert_eq!(key.key().name(), "client_credentials_token_request_duration_seconds");
        let labels: Vec<_> = key.key().labels().map(|label| label.value().to_owned()).collect();
        Some((labels.join(" "), values.into_iter().map(f64::from).collect()))
    };
    recorder.snapshotter().snapshot().into_vec().into_iter().filter_map(times).collect()
}

#[test]
fn the_time_of_token_requests_is_recorded_by_method_and_outcome_and_each_series_exists_from_the_start() {
    assert_eq!(timed(async { server() }).len(), 12, "four methods and three outcomes");
    let timed = timed(async {
        let server = server();
        ask(&server, billing_asks(GRANT)).await.assert_token();
        ask(&server, billing_asks(GRANT)).await.assert_token();
        ask(&server, post(GRANT).basic("billing", &WRONG_SECRET)).await.assert_refused(401, "invalid_client");
        ask(&server, post("grant_type=other")).await.assert_refused(400, "unsupported_grant_type");
    });
    let counts = timed.iter().filter(|(_, times)| !times.is_empty()).map(|(key, times)| (&**key, times.len()));
    let counts: Vec<_> = counts.collect();
    let expected = [("client_secret_basic done", 2), ("client_secret_basic refused", 1), ("none refused", 1)];
    assert_eq!(counts, expected);
    assert!(timed.values().flatten().all(|time| (0.0..60.0).contains(time)), "{timed:?}");
}

async fn ask(server: &AuthorizationServer, request: impl Into<Request<Body>>) -> Answer {
    Answer::read(server.token_service().oneshot(request.into()).await.unwrap()).await
}

async fn show(layer: &BearerAuthLayer, authorization: &str) -> u16 {
    let inner = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::default())));
    let request = Request::get("/").header("authorization", authorization).body(Body::default()).unwrap();
    layer.clone().layer(inner).oneshot(request).await.unwrap().status().as_u16()
}

fn assert_has(recorded: &BTreeMap<String, f64>, expected: &[(&str, f64)]) {
    let expected: BTreeMap<String, f64> = expected.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    assert_eq!(*recorded, expected);
}

#[track_caller]
fn assert_is(recorded: &BTreeMap<String, f64>, name: &str, expected: f64) {
    let value = recorded.get(name).unwrap_or_else(|| panic!("{name} in {recorded:?}"));
    assert!((value - expected).abs() < 0.5, "{name} is {value}");
}

#[test]
fn requests_to_the_token_endpoint_are_counted_by_outcome_and_code() {
    let recorded = recorded(async {
        let server = server();
        ask(&server, billing_asks(GRANT)).await.assert_token();
        ask(&server, billing_asks(GRANT)).await.assert_token();
        ask(&server, post(GRANT).basic("billing", &WRONG_SECRET)).await;
        ask(&server, billing_asks(GRANT).param("scope", "admin")).await;
        ask(&server, billing_asks("grant_type=password")).await;
    });
    assert_has(
        &recorded,
        &[
            ("endpoint_requests_total endpoint=token endpoint outcome=done error=", 2.0),
            ("endpoint_requests_total endpoint=token endpoint outcome=refused error=invalid_client", 1.0),
            ("endpoint_requests_total endpoint=token endpoint outcome=refused error=invalid_scope", 1.0),
            ("endpoint_requests_total endpoint=token endpoint outcome=refused error=unsupported_grant_type", 1.0),
        ],
    );
}

#[test]
fn decisions_on_protected_routes_are_counted_by_reason_and_cache_look_ups_by_outcome() {
    let recorded = recorded(async {
        let verifier = server().verifier(API).unwrap().cache(2, 1 << 20);
        let layer = BearerAuthLayer::new(verifier);
        let bearer = |number: usize| format!("Bearer {}", good().claim("jti", number.to_string()).sign());
        let token = bearer(1);
        assert_eq!((show(&layer, &token).await, show(&layer, &token).await), (200, 200));
        assert_eq!((show(&layer, &bearer(2)).await, show(&layer, &bearer(3)).await), (200, 200));
        assert_eq!(show(&layer, &format!("Bearer {}", good().sign_with(&forge::foreign_key()))).await, 401);
        assert_eq!(show(&layer, "Bearer a.b.c").await, 401);
        assert_eq!(show(&layer, "Bearer").await, 400);
        assert_eq!(show(&layer, "Basic YTpi").await, 401);
        assert_eq!(show(&layer.clone().optional(), "Basic YTpi").await, 200);
        assert_eq!(show(&layer.clone().require_scope(WRITE), &bearer(3)).await, 403);
        layer
    });
    let bytes = recorded["token_cache_bytes"];
    assert!((1_000.0..5_000.0).contains(&bytes), "{bytes}");
    assert_has(
        &recorded,
        &[
            ("bearer_requests_total outcome=admitted reason=", 4.0),
            ("bearer_requests_total outcome=anonymous reason=", 1.0),
            ("bearer_requests_total outcome=refused reason=insufficient_scope", 1.0),
            ("bearer_requests_total outcome=refused reason=invalid_request", 1.0),
            ("bearer_requests_total outcome=refused reason=malformed", 1.0),
            ("bearer_requests_total outcome=refused reason=no_credentials", 1.0),
            ("bearer_requests_total outcome=refused reason=signature", 1.0),
            ("token_cache_bytes", bytes),
            ("token_cache_evictions_total", 1.0),
            ("token_cache_lookups_total outcome=hit", 1.0),
            ("token_cache_lookups_total outcome=miss", 7.0), // text that is not a token is looked up, too
            ("token_cache_tokens", 2.0),
        ],
    );
}

#[test]
fn a_dropped_cache_counts_as_empty() {
    let recorded = recorded(async {
        let layer = BearerAuthLayer::new(server().verifier(API).unwrap());
        show(&layer, &format!("Bearer {}", good().sign())).await;
        drop(layer);
    });
    assert_eq!((recorded["token_cache_tokens"], recorded["token_cache_bytes"]), (0.0, 0.0));
}

/// Publishes these keys, or is down.
#[derive(Debug)]
struct Site(Option<Bytes>);

impl HttpClient for Site {
    fn send(&self, _: Request<Bytes>, _: usize) -> HttpFuture<'_> {
        HttpFuture::new(
            async move { self.0.clone().map(Response::new).ok_or_else(|| HttpError::new("connection refused")) },
        )
    }
}

async fn keys() -> Bytes {
    let request = Request::get("/jwks").body(Body::default()).unwrap();
    Answer::read(server().jwks_service().oneshot(request).await.unwrap()).await.body
}

#[test]
fn key_fetches_are_counted_and_their_time_is_reported() {
    let recorded = recorded(async {
        let issuer = |keys| RemoteIssuer::new(ISSUER, API).unwrap().http_client(Site(keys)).clock(clock());
        let good_one =
            issuer(Some(keys().await)).jwks_url("https://auth.example.com/jwks").unwrap().connect().await.unwrap();
        let bad_one = issuer(None).jwks_url("https://down.example.com/jwks").unwrap().build().unwrap();
        let token = good().sign();
        assert_eq!(show(&BearerAuthLayer::new(good_one), &format!("Bearer {token}")).await, 200);
        assert_eq!(show(&BearerAuthLayer::new(bad_one), &format!("Bearer {token}")).await, 503);
    });
    let now = f64::from(u32::try_from(NOW).unwrap());
    assert_is(&recorded, "key_fetches_total source=https://auth.example.com/jwks outcome=fetched", 1.0);
    assert_is(&recorded, "key_fetches_total source=https://down.example.com/jwks outcome=failed", 1.0);
    assert_is(&recorded, "keys_fetched_timestamp_seconds source=https://auth.example.com/jwks", now);
    assert_is(&recorded, "bearer_requests_total outcome=unavailable reason=keys", 1.0);
}

/// Publishes these keys after four seconds.
#[derive(Debug)]
struct Slow(Bytes, ManualClock);

impl HttpClient for Slow {
    fn send(&self, _: Request<Bytes>, _: usize) -> HttpFuture<'_> {
        HttpFuture::new(async move {
            self.1.advance(Duration::from_secs(4));
            Ok(Response::new(self.0.clone()))
        })
    }
}

#[test]
fn the_time_of_keys_is_that_of_their_request() {
    let recorded = recorded(async {
        let clock = clock();
        let issuer = RemoteIssuer::new(ISSUER, API).unwrap().http_client(Slow(keys().await, clock.clone()));
        issuer.clock(clock).jwks_url("https://auth.example.com/jwks").unwrap().connect().await.unwrap()
    });
    let now = f64::from(u32::try_from(NOW).unwrap());
    assert_is(&recorded, "keys_fetched_timestamp_seconds source=https://auth.example.com/jwks", now);
}

#[test]
fn tokens_with_random_key_names_that_get_503_have_their_own_counter() {
    let recorded = recorded(async {
        let issuer = RemoteIssuer::new(ISSUER, API).unwrap().http_client(Site(Some(keys().await))).clock(clock());
        let verifier = issuer.jwks_url("https://auth.example.com/jwks").unwrap().connect().await.unwrap();
        let layer = BearerAuthLayer::new(verifier);
        for number in 0..10 {
            let token = good().header("kid", format!("attacker-{number}")).sign();
            let status = show(&layer, &format!("Bearer {token}")).await;
            assert_eq!(status, if number < 3 { 401 } else { 503 });
        }
        assert_eq!(show(&layer, &format!("Bearer {}", good().sign())).await, 200);
    });
    assert_is(&recorded, "unknown_key_unavailable_total source=https://auth.example.com/jwks", 7.0);
    assert_is(&recorded, "bearer_requests_total outcome=unavailable reason=unknown_key", 7.0);
    assert_is(&recorded, "bearer_requests_total outcome=refused reason=unknown_key", 3.0);
    assert_is(&recorded, "key_fetches_total source=https://auth.example.com/jwks outcome=fetched", 4.0);
    assert!(!recorded.keys().any(|name| name.contains("attacker")), "{recorded:?}");
}

#[test]
fn a_name_that_the_last_key_set_lacks_is_counted_when_it_gets_503() {
    let recorded = recorded(async {
        let issuer = RemoteIssuer::new(ISSUER, API).unwrap().http_client(Site(Some(keys().await))).clock(clock());
        let verifier = issuer.jwks_url("https://auth.example.com/jwks").unwrap().connect().await.unwrap();
        let layer = BearerAuthLayer::new(verifier);
        let token = format!("Bearer {}", good().header("kid", "attacker").sign());
        // The set was fetched for this request. The token of the next one may be newer than the set.
        assert_eq!((show(&layer, &token).await, show(&layer, &token).await), (401, 503));
    });
    assert_is(&recorded, "unknown_key_unavailable_total source=https://auth.example.com/jwks", 1.0);
}

#[test]
fn the_age_of_the_revocation_view_is_reported() {
    let recorded = recorded(async { Revocations::follow(MemoryStore::default()).clock(clock()).await.unwrap() });
    let now = f64::from(u32::try_from(NOW).unwrap());
    assert_is(&recorded, "revocations_read_timestamp_seconds", now);
    // An alert on an increase needs the series before the first event.
    assert_is(&recorded, "store_losses_total", 0.0);
}

#[test]
fn no_caller_input_creates_another_series() {
    let recorded = recorded(async {
        let server = server();
        let layer = BearerAuthLayer::new(server.verifier(API).unwrap());
        for number in 0..100 {
            let name = format!("attacker-{number}");
            ask(&server, post(GRANT).basic(&name, &SECRET)).await;
            ask(&server, billing_asks(GRANT).param("scope", &name)).await;
            ask(&server, billing_asks(GRANT).param("resource", &format!("https://{name}.example"))).await;
            ask(&server, billing_asks(format!("grant_type={name}"))).await;
            for token in [
                good().header("kid", name.as_str()).sign(),
                good().header("alg", name.as_str()).sign(),
                good().header("typ", name.as_str()).sign(),
                good().claim("iss", name.as_str()).sign(),
                good().claim("aud", name.as_str()).sign(),
                good().claim("client_id", name.as_str()).claim("jti", name.as_str()).sign(),
            ] {
                show(&layer, &format!("Bearer {token}")).await;
            }
        }
    });
    let names = recorded.keys().cloned().collect::<Vec<_>>().join("\n");
    assert!(recorded.len() < 20 && !names.contains("attacker"), "{names}");
    let counted = |prefix: &str| -> f64 {
        let of_prefix = recorded.iter().filter(|(name, _)| name.starts_with(prefix));
        of_prefix.map(|(_, count)| count).sum()
    };
    assert_eq!(
        (counted("endpoint_requests_total "), counted("bearer_requests_total ")),
        (400.0, 600.0),
        "{recorded:?}"
    );
    println!("{} series after 1,000 requests", recorded.len());
}
