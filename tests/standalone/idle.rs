//! Unused connections are closed, and connections with a request in progress are not.

use std::io::{Read as _, Write as _};

use super::Service;
use super::http2::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, NO_WINDOW, SETTINGS, frame, head, status};

fn connect(service: &Service, settings: &[u8]) -> Http2 {
    Http2::connect(service.address, settings)
}

/// Sends the head of the first request of a connection.
fn request(connection: &mut Http2, method: &str, path: &str, more: &[(&str, &str)], flags: u8) {
    connection.send(&frame(HEADERS, flags | END_HEADERS, 1, &head(method, path, more)));
}

fn service(test: &str) -> Service {
    let long = [("TCC_LIMITS_HEAD_SECONDS", "600"), ("TCC_LIMITS_BODY_SECONDS", "600")];
    Service::start(test, &[&long[..], &[("TCC_LIMITS_IDLE_SECONDS", "1")]].concat())
}

#[test]
fn an_http_2_connection_that_only_acknowledges_pings_is_closed() {
    let service = service("idle-h2");
    let mut connection = connect(&service, &[]);
    request(&mut connection, "GET", "/health/live", &[], END_STREAM);
    let answer = connection.wait_for(HEADERS);
    assert_ne!(answer.flags & END_STREAM, 0, "204 has no body");
    let kinds = connection.until_closed();
    assert!(kinds.contains(&GOAWAY), "GOAWAY tells the client to send no further request: {kinds:?}");
}

#[test]
fn an_http_2_connection_whose_response_is_not_read_is_closed() {
    let service = service("idle-window");
    let mut connection = connect(&service, &NO_WINDOW);
    request(&mut connection, "GET", "/.well-known/jwks.json", &[], END_STREAM);
    assert_eq!(status(&connection.wait_for(HEADERS).payload), 200);
    let kinds = connection.until_closed();
    assert!(!kinds.contains(&DATA), "{kinds:?}");
}

/// `SETTINGS_MAX_CONCURRENT_STREAMS` (§6.5.2).
const MAX_CONCURRENT_STREAMS: [u8; 2] = [0, 3];

#[test]
fn the_concurrent_requests_of_one_http_2_connection_are_limited() {
    for (test, environment, expected) in
        [("streams", &[][..], [0, 0, 0, 32]), ("streams-set", &[("TCC_LIMITS_STREAMS", "300")], [0, 0, 1, 44])]
    {
        let service = Service::start(test, environment);
        let mut connection = connect(&service, &[]);
        let settings = connection.wait_for(SETTINGS).payload;
        let streams = settings.chunks(6).find_map(|setting| setting.strip_prefix(&MAX_CONCURRENT_STREAMS));
        assert_eq!(streams, Some(&expected[..]), "{settings:?}");
    }
}

#[test]
fn an_http_1_connection_without_another_request_is_closed() {
    let service = service("idle-h1");
    let mut connection = service.connect();
    connection.write_all(b"GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("the connection stays open");
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
}

#[test]
fn a_connection_with_a_request_in_progress_is_not_idle() {
    let service = service("idle-slow");
    let mut http_1 = service.begin_token_request();
    let mut http_2 = connect(&service, &[]);
    let fields = [
        ("authorization", "Basic YmlsbGluZzpjb3JyZWN0K2hvcnNl"),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    request(&mut http_2, "POST", "/token", &fields, 0);
    http_2.send(&frame(DATA, 0, 1, b"grant_type=client_credential"));

    // Its time begins after that of the two above: when it is closed, they would have been closed too.
    let mut idle = connect(&service, &[]);
    request(&mut idle, "GET", "/health/live", &[], END_STREAM);
    idle.until_closed();

    http_1.write_all(b"s").unwrap();
    let mut answer = [0; 12];
    http_1.read_exact(&mut answer).expect("an answer over HTTP/1.1");
    assert_eq!(&answer, b"HTTP/1.1 200");
    http_2.send(&frame(DATA, END_STREAM, 1, b"s"));
    assert_eq!(status(&http_2.wait_for(HEADERS).payload), 200);
}
