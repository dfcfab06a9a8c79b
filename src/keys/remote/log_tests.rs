//! Tests of how much an issuer can cause to be logged with arbitrary answers.

use super::tests::{
    BearerAuthLayer, Body, ISSUER, Infallible, KEYS, METADATA, OPENID, Request, Response, SECOND, Site, Verifier,
    connected, issuer, json, naming, ring, service_fn, sleep,
};
use crate::deadline::in_time;
use crate::log_capture::LogCapture;
use tower::{Layer as _, ServiceExt as _};

/// Sends `count` requests, each with a token that names another key.
async fn requests(verifier: &Verifier, count: u32) {
    let inner = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::default())));
    let layer = BearerAuthLayer::new(verifier.clone());
    for name in 0..count {
        let request = Request::get("/").header("authorization", format!("Bearer {}", naming(&name.to_string())));
        let response = layer.layer(inner).oneshot(request.body(Body::default()).unwrap()).await.unwrap();
        assert!([503, 401].contains(&response.status().as_u16()));
    }
}

/// Returns metadata that fills the limit of 256 KiB.
fn bad_metadata() -> [String; 2] {
    [
        json!({"issuer": "\u{e0001}".repeat(64_000), "jwks_uri": KEYS}).to_string(),
        json!({"issuer": ISSUER, "jwks_uri": format!("https://keys.example.com/{}", "a".repeat(65_000))}).to_string(),
    ]
}

#[test]
fn the_error_of_a_bad_issuer_is_short() {
    in_time(async {
        for metadata in bad_metadata() {
            let site = Site::of(&ring());
            site.set(METADATA, &metadata);
            site.set(OPENID, &metadata);
            let error = issuer(&site).connect_timeout(SECOND).connect().await.unwrap_err().to_string();
            assert!(error.len() < 3_000, "{} bytes", error.len());
            assert!(error.contains("https://"), "{error}");
        }
    });
}

#[test]
fn the_answer_of_a_bad_issuer_is_logged_once_per_fetch_and_truncated() {
    in_time(async {
        for metadata in bad_metadata() {
            let (log, _guard) = LogCapture::start();
            let site = Site::of(&ring());
            site.set(METADATA, &metadata);
            site.set(OPENID, &metadata);
            let verifier = issuer(&site).build().unwrap();
            sleep(20 * SECOND).await;
            let fetches = log.take();
            let lines = fetches.lines().filter(|line| line.contains("cannot fetch the keys of an issuer")).count();
            assert!((3..=8).contains(&lines), "{fetches}");
            assert!(fetches.lines().all(|line| line.len() < 3_000 && line.contains(ISSUER)), "{fetches}");
            requests(&verifier, 10).await;
            let requests = log.take();
            assert!(requests.lines().count() >= 10 && requests.lines().all(|line| line.len() < 500), "{requests}");
            // This is what an operator needs to find the cause.
            let line = requests.lines().find(|line| line.contains("cannot be verified now")).unwrap();
            assert!(line.contains("error.type=\"keys\"") && line.contains(ISSUER), "{line}");
            assert!(!line.contains("metadata"), "{line}");
        }
    });
}

#[test]
fn a_request_with_a_random_key_name_logs_the_issuer_but_not_the_last_fetch_error() {
    in_time(async {
        let (log, _guard) = LogCapture::start();
        let site = Site::of(&ring());
        let verifier = connected(&site).await;
        let [metadata, _] = bad_metadata();
        site.set(METADATA, &metadata);
        site.set(OPENID, &metadata);
        site.remove(KEYS);
        sleep(11 * 60 * SECOND).await;
        requests(&verifier, 3).await;
        log.take();
        requests(&verifier, 100).await;
        let requests = log.take();
        assert_eq!(requests.lines().count(), 100);
        assert!(requests.lines().all(|line| line.len() < 500 && line.contains(ISSUER)), "{requests}");
        assert!(requests.lines().all(|line| line.contains("error.type=\"unknown_key\"")), "{requests}");
    });
}

/// The error of an HTTP client may quote text from the server, such as the names in its certificate.
#[test]
fn the_error_of_an_http_client_is_truncated_and_escaped() {
    let text = super::tests::HttpError::new(format!("certificate\n{}", "é".repeat(10_000))).to_string();
    assert!(text.len() < 600 && text.starts_with(r"certificate\né") && text.ends_with('…'), "{text}");
    assert_eq!(super::tests::HttpError::new("connection refused").to_string(), "connection refused");
}
