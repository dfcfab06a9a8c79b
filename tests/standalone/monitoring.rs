//! The listener for monitoring.

#![cfg(feature = "metrics")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{GOOD, Service, file, refusal};

/// A service with a listener for monitoring.
pub(crate) fn monitored(test: &str, content: &str, environment: &[(&str, &str)]) -> (Service, SocketAddr) {
    let listen = [("TCC_METRICS_LISTEN", "127.0.0.1:0"), ("TCC_STORE", "memory:")];
    let mut service = Service::start_with(&file(test, content), &[&listen[..], environment].concat());
    let line = service.line();
    let address = line.strip_prefix("metrics on http://").and_then(|rest| rest.strip_suffix("/metrics"));
    (service, address.expect(&line).parse().unwrap())
}

/// Returns the answer of the listener for monitoring.
pub(crate) fn ask(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Returns the value of a series.
pub(crate) fn value(address: SocketAddr, series: &str) -> Option<f64> {
    let answer = ask(address, "/metrics");
    answer.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn the_metrics_are_on_a_listener_of_their_own() {
    let (service, monitoring) = monitored("metrics", GOOD, &[]);
    let token = service.token();
    assert_eq!(service.reads(&token), "200");
    assert_eq!(service.reads("x.y.z"), "401");
    let answer = ask(monitoring, "/metrics");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\ncontent-type: text/plain; version=0.0.4"), "{answer}");
    for line in [
        "# TYPE client_credentials_endpoint_requests_total counter",
        "client_credentials_endpoint_requests_total{endpoint=\"token endpoint\",outcome=\"done\",error=\"\"} 1",
        "client_credentials_bearer_requests_total{outcome=\"admitted\",reason=\"\"} 1",
        "client_credentials_bearer_requests_total{outcome=\"refused\",reason=\"malformed\"} 1",
        "# TYPE client_credentials_revocations_read_timestamp_seconds gauge",
        "# HELP client_credentials_token_cache_tokens Tokens in the cache of verified tokens",
        "standalone_reloads_total{outcome=\"failed\"} 0",
        "client_credentials_store_losses_total 0",
        "client_credentials_legacy_assertions_total{claim=\"aud\"} 0",
        concat!("standalone_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(answer.lines().any(|answered| answered == line), "`{line}` is not in\n{answer}");
    }
    let loaded = value(monitoring, "standalone_last_reload_timestamp_seconds");
    assert!(loaded.is_some_and(|time| time > 1e9), "the time of the start: {loaded:?}");
    assert!(service.get("/metrics").starts_with("HTTP/1.1 404 "), "not for the callers of the service");
    for path in ["/token", "/api/read", "/.well-known/jwks.json"] {
        assert!(ask(monitoring, path).starts_with("HTTP/1.1 404 "), "{path} is not for monitoring");
    }
}

#[test]
fn the_time_of_token_requests_is_a_histogram_that_exists_from_the_start() {
    const NAME: &str = "client_credentials_token_request_duration_seconds";
    let (service, monitoring) = monitored("histogram", GOOD, &[]);
    let of = |part: &str, method: &str, outcome: &str, more: &str| {
        value(monitoring, &format!("{NAME}_{part}{{method=\"{method}\",outcome=\"{outcome}\"{more}}}"))
    };
    assert_eq!(of("count", "client_secret_basic", "unavailable", ""), Some(0.0));
    assert_eq!(of("bucket", "assertion", "refused", ",le=\"0.0005\""), Some(0.0));
    service.token();
    assert_eq!(of("count", "client_secret_basic", "done", ""), Some(1.0));
    assert_eq!(of("bucket", "client_secret_basic", "done", ",le=\"+Inf\""), Some(1.0));
    let sum = of("sum", "client_secret_basic", "done", "").unwrap();
    assert!(sum > 0.0 && sum < 60.0, "{sum}");
    let bounds = ["0.0005", "0.01", "0.1", "1", "10"];
    let counts: Vec<_> =
        bounds.iter().filter_map(|le| of("bucket", "client_secret_basic", "done", &format!(",le=\"{le}\""))).collect();
    assert!(counts.len() == bounds.len() && counts.is_sorted(), "{counts:?}");
    let answer = ask(monitoring, "/metrics");
    assert!(
        answer.contains(&format!("# TYPE {NAME} histogram\n")) && answer.contains(&format!("# HELP {NAME} ")),
        "{answer}"
    );
}

#[test]
fn monitoring_sees_that_the_service_drains() {
    let (mut service, monitoring) = monitored("drains", GOOD, &[("TCC_LIMITS_NOTICE_SECONDS", "600")]);
    assert!(ask(monitoring, "/health/ready").starts_with("HTTP/1.1 204 "));
    service.terminate();
    assert!(ask(monitoring, "/health/ready").starts_with("HTTP/1.1 503 "));
    assert!(ask(monitoring, "/health/live").starts_with("HTTP/1.1 204 "));
    assert!(ask(monitoring, "/metrics").starts_with("HTTP/1.1 200 "));
}

#[test]
fn an_address_in_use_is_rejected_with_its_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = refusal("metrics-taken", GOOD, &[("TCC_METRICS_LISTEN", &address), ("TCC_STORE", "memory:")]);
    assert!(said.starts_with("TCC_METRICS_LISTEN: cannot listen on ") && said.contains("choose another"), "{said}");
}
