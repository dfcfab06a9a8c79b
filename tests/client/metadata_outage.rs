//! Metadata of an issuer that cannot be had any more, while its token endpoint works.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::{Instant, sleep};
use tower::service_fn;
use tower_client_credentials::ClientCredentials;
use tower_client_credentials::client::{CachedTokenSource, SecretSource};
use tower_client_credentials::clock::Clock;

use super::world::{API, ISSUER};

#[derive(Clone, Debug)]
struct SimulatedClock(Instant);

impl Clock for SimulatedClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + self.0.elapsed()
    }
}

/// What an issuer answers, and how often it was asked.
#[derive(Clone)]
struct Server {
    metadata: Arc<Mutex<(u16, String)>>,
    /// The path of the token endpoint that answers.
    token_path: Arc<Mutex<&'static str>>,
    metadata_requests: Arc<AtomicUsize>,
    /// Whether the metadata comes with `Retry-After: 120`.
    asks_to_wait: bool,
}

fn metadata(path: &str) -> (u16, String) {
    (200, format!(r#"{{"issuer": "{ISSUER}", "token_endpoint": "{ISSUER}{path}"}}"#))
}

impl Server {
    fn new() -> Self {
        let metadata = Arc::new(Mutex::new(metadata("/token")));
        Self {
            metadata,
            token_path: Arc::new(Mutex::new("/token")),
            metadata_requests: Arc::default(),
            asks_to_wait: false,
        }
    }

    fn source(&self) -> CachedTokenSource {
        let (server, start) = (self.clone(), Instant::now());
        let service = service_fn(move |request: Request<Full<Bytes>>| {
            let path = request.uri().path();
            let (status, body) = if path.contains(".well-known") {
                server.metadata_requests.fetch_add(1, Relaxed);
                server.metadata.lock().unwrap().clone()
            } else if path == *server.token_path.lock().unwrap() {
                let number = start.elapsed().as_secs();
                (200, format!(r#"{{"access_token": "t{number}", "token_type": "Bearer", "expires_in": 3600}}"#))
            } else {
                (503, String::new())
            };
            let mut response = Response::builder().status(status);
            if server.asks_to_wait {
                response = response.header("retry-after", "120");
            }
            let response = response.body(Full::<Bytes>::from(body)).unwrap();
            std::future::ready(Ok::<_, Infallible>(response))
        });
        ClientCredentials::new(ISSUER, "agent", SecretSource::from_value("the-secret"))
            .resource(API)
            .http_service(service)
            .clock(SimulatedClock(start))
            .build()
            .unwrap()
    }
}

async fn minutes(source: &CachedTokenSource, minutes: usize) -> usize {
    let mut failed = 0;
    for _ in 0..minutes {
        failed += usize::from(source.token().await.is_err());
        sleep(Duration::from_secs(60)).await;
    }
    failed
}

#[tokio::test(start_paused = true)]
async fn retry_after_of_the_metadata_is_honoured() {
    let server = Server { asks_to_wait: true, ..Server::new() };
    *server.metadata.lock().unwrap() = (429, String::new());
    let source = server.source();
    let error = source.token().await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(120)));
    sleep(Duration::from_secs(119)).await;
    source.token().await.unwrap_err();
    assert_eq!(server.metadata_requests.load(Relaxed), 2, "one at each of the two URLs");
    *server.metadata.lock().unwrap() = metadata("/token");
    sleep(Duration::from_secs(1)).await;
    source.token().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn tokens_are_requested_at_the_known_endpoint_while_the_metadata_cannot_be_had() {
    let server = Server::new();
    let source = server.source();
    assert_eq!(minutes(&source, 60).await, 0);
    *server.metadata.lock().unwrap() = (403, String::new());
    assert_eq!(minutes(&source, 72 * 60).await, 0);
    // The metadata is requested again, at its two URLs, for each token after the first day.
    let requests = server.metadata_requests.load(Relaxed);
    assert!((40..=150).contains(&requests), "{requests} requests for metadata");
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_token_endpoint_makes_the_client_check_it_and_not_forget_it() {
    let server = Server::new();
    let source = server.source();
    assert_eq!(minutes(&source, 10).await, 0);
    *server.metadata.lock().unwrap() = (403, String::new());
    *server.token_path.lock().unwrap() = "/none";
    assert!(minutes(&source, 120).await > 0);
    *server.token_path.lock().unwrap() = "/token";
    sleep(Duration::from_secs(60)).await;
    assert_eq!(minutes(&source, 10).await, 0);
    // A token endpoint that moved is found by the metadata.
    *server.metadata.lock().unwrap() = metadata("/moved");
    *server.token_path.lock().unwrap() = "/moved";
    assert_eq!(minutes(&source, 120).await, 0);
}
