//! Discovery of the issuer of a resource, with metadata that takes long or cannot be had.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use tokio::time::{sleep, timeout};
use tower::{Layer as _, Service, service_fn};
use tower_client_credentials::client::{CallError, SecretSource};
use tower_client_credentials::{ClientCredentials, ClientCredentialsLayer};

const RESOURCE: &str = "https://mcp.example.com/mcp";
const FIRST: &str = "https://first.example.com";
const SECOND: &str = "https://second.example.com";
/// It asks for another issuer, and does not say that the token is invalid.
const OTHER_ISSUER: &str =
    r#"Bearer resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/mcp""#;
const CHALLENGE: &str = r#"Bearer error="invalid_token", resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/mcp""#;

/// Two issuers, and the metadata of the resource.
#[derive(Clone)]
struct Site {
    metadata_requests: Arc<AtomicUsize>,
    tokens: Arc<AtomicUsize>,
    delay: Arc<Mutex<Duration>>,
    /// The issuer that the metadata names.
    issuer: Arc<Mutex<&'static str>>,
    /// The tokens that the resource refuses.
    refused: Arc<Mutex<Vec<String>>>,
    sent: Arc<Mutex<Vec<String>>>,
}

impl Site {
    fn new(delay: Duration) -> Self {
        Self {
            metadata_requests: Arc::default(),
            tokens: Arc::default(),
            delay: Arc::new(Mutex::new(delay)),
            issuer: Arc::new(Mutex::new(FIRST)),
            refused: Arc::default(),
            sent: Arc::default(),
        }
    }

    fn credentials(&self, issuer: &'static str) -> ClientCredentials {
        let site = self.clone();
        let service = service_fn(move |request: Request<Full<Bytes>>| {
            let site = site.clone();
            async move {
                let body = if request.uri().path() == "/token" {
                    let number = site.tokens.fetch_add(1, Relaxed);
                    format!(r#"{{"access_token": "t{number}", "token_type": "Bearer", "expires_in": 3600}}"#)
                } else {
                    site.metadata_requests.fetch_add(1, Relaxed);
                    let (delay, issuer) = (*site.delay.lock().unwrap(), *site.issuer.lock().unwrap());
                    sleep(delay).await;
                    format!(r#"{{"resource": "{RESOURCE}", "authorization_servers": ["{issuer}"]}}"#)
                };
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(body)))
            }
        });
        ClientCredentials::new(issuer, "agent", SecretSource::from_value("the-secret"))
            .token_endpoint(format!("{issuer}/token"))
            .http_service(service)
    }

    /// The resource, called through the layer. A request to `/slow` is answered after 10 s.
    fn service(
        &self,
    ) -> impl Service<Request<Full<Bytes>>, Response = Response<()>, Error = CallError, Future: Send> + Clone + Send + 'static
    {
        let site = self.clone();
        let api = service_fn(move |request: Request<Full<Bytes>>| {
            let site = site.clone();
            async move {
                let token = request.headers()[header::AUTHORIZATION].to_str().unwrap().replace("Bearer ", "");
                site.sent.lock().unwrap().push(token.clone());
                if request.uri().path() == "/slow" {
                    sleep(Duration::from_secs(10)).await;
                }
                let mut response = Response::new(());
                if site.refused.lock().unwrap().contains(&token) {
                    *response.status_mut() = StatusCode::UNAUTHORIZED;
                    let challenge = if request.uri().path() == "/other" { OTHER_ISSUER } else { CHALLENGE };
                    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
                }
                Ok::<_, Infallible>(response)
            }
        });
        let credentials = [self.credentials(FIRST), self.credentials(SECOND)];
        ClientCredentialsLayer::discover(RESOURCE, credentials).unwrap().layer(api)
    }
}

fn request() -> Request<Full<Bytes>> {
    Request::post(RESOURCE).body(Full::default()).unwrap()
}

/// Makes 20 calls per second for so many seconds. Returns how many succeeded and failed.
async fn calls<S>(service: &S, seconds: u64, patience: Duration) -> (usize, usize)
where
    S: Service<Request<Full<Bytes>>, Response = Response<()>, Error = CallError, Future: Send> + Clone + Send + 'static,
{
    let mut tasks = Vec::new();
    for _ in 0..20 * seconds {
        let mut service = service.clone();
        tasks.push(tokio::spawn(async move {
            let answer = timeout(patience, service.call(request())).await;
            matches!(answer, Ok(Ok(answer)) if answer.status() == 200)
        }));
        sleep(Duration::from_millis(50)).await;
    }
    let (mut succeeded, mut failed) = (0, 0);
    for task in tasks {
        if task.await.unwrap() { succeeded += 1 } else { failed += 1 }
    }
    (succeeded, failed)
}

#[tokio::test(start_paused = true)]
async fn callers_less_patient_than_the_metadata_get_a_token_once_it_is_there() {
    let site = Site::new(Duration::from_secs(3));
    let (succeeded, failed) = calls(&site.service(), 60, Duration::from_secs(1)).await;
    assert_eq!(succeeded + failed, 1_200);
    assert!(failed <= 61, "only the calls of the first 3 s fail: {failed}");
    assert_eq!(site.metadata_requests.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn metadata_that_never_comes_is_requested_at_growing_intervals() {
    let site = Site::new(Duration::from_secs(3_600));
    let (succeeded, _) = calls(&site.service(), 300, Duration::from_secs(1)).await;
    // Each of them is given up after 10 s, and the pauses grow to 30 s.
    let requests = site.metadata_requests.load(Relaxed);
    assert!(succeeded == 0 && (5..=20).contains(&requests), "{requests} requests");
}

#[tokio::test(start_paused = true)]
async fn the_issuer_that_was_found_before_stays_in_use_while_the_metadata_is_read_again() {
    let site = Site::new(Duration::ZERO);
    let service = site.service();
    assert_eq!(calls(&service, 61, Duration::from_secs(1)).await, (1_220, 0));
    *site.delay.lock().unwrap() = Duration::from_secs(3_600);
    site.refused.lock().unwrap().push("t0".to_owned());
    let (_, failed) = calls(&service, 60, Duration::from_secs(1)).await;
    // The call whose token was refused waits for the metadata, and calls of the same moment do.
    assert!(failed <= 1, "{failed} calls failed");
    assert_eq!((site.metadata_requests.load(Relaxed), site.tokens.load(Relaxed)), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_late_refusal_drops_the_token_at_the_issuer_that_gave_it() {
    let site = Site::new(Duration::ZERO);
    let mut service = site.service();
    assert_eq!(service.call(request()).await.unwrap().status(), 200);
    sleep(Duration::from_secs(61)).await;
    // It was sent with the token of the first issuer.
    let late = Request::post("https://mcp.example.com/slow").body(Full::default()).unwrap();
    let late = tokio::spawn(service.call(late));
    tokio::task::yield_now().await;
    // The resource moves to the second issuer.
    site.refused.lock().unwrap().push("t0".to_owned());
    *site.issuer.lock().unwrap() = SECOND;
    let other = Request::post("https://mcp.example.com/other").body(Full::default()).unwrap();
    assert_eq!(service.call(other).await.unwrap().status(), 200);
    assert_eq!(late.await.unwrap().unwrap().status(), 200);
    // It moves back.
    sleep(Duration::from_secs(61)).await;
    *site.issuer.lock().unwrap() = FIRST;
    site.refused.lock().unwrap().push("t1".to_owned());
    assert_eq!(service.call(request()).await.unwrap().status(), 200);
    let mut sent = site.sent.lock().unwrap().clone();
    sent.dedup();
    assert_eq!(sent, ["t0", "t1", "t2"]);
}
