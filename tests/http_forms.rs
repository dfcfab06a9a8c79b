//! HTTP as other ecosystems send it, byte by byte: expectations, HTTP/1.0, pipelined requests, chunked and compressed bodies,
//! extra line ends, OPTIONS, and conditional requests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::request::{GRANT, billing_asks};
use common::stack::{Protocol, Site, Stack, on_every_stack};
use common::{API, SECRET, clients, clock, server, settings};
use http::Request;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tower::Layer as _;
use tower_client_credentials::resource_server::{ResourceMetadata, ResourceMetadataLayer};
use tower_client_credentials::{AuthorizationServer, MemoryStore, Revocations};

const KIB: usize = 1024;
const JWKS: &str = "/.well-known/jwks.json";
const METADATA: &str = "/.well-known/oauth-authorization-server";
const RESOURCE: &str = "/.well-known/oauth-protected-resource";

/// A server that has every endpoint.
async fn whole_server() -> AuthorizationServer {
    let revocations = Revocations::follow(MemoryStore::default()).clock(clock()).await.unwrap();
    let settings = settings(MemoryStore::try_from(clients()).unwrap()).revocations(revocations);
    settings.authorization_path("/authorize").build().unwrap()
}

/// Runs on each framework, over HTTP/1.
async fn over_http_1(row: impl AsyncFn(Stack)) {
    on_every_stack(async |stack| {
        if stack.protocol == Protocol::Http1 {
            row(stack).await;
        }
    })
    .await;
}

/// The head of a token request, with further headers.
fn head(version: &str, more: &str) -> String {
    let credentials = STANDARD.encode(format!("billing:{}", *SECRET));
    format!(
        "POST /token {version}\r\nHost: h\r\nAuthorization: Basic {credentials}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n{more}\r\n"
    )
}

fn request(version: &str, more: &str) -> String {
    head(version, &format!("Content-Length: {}\r\n{more}", GRANT.len())) + GRANT
}

/// A connection whose responses are read one at a time.
struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
}

/// One response, as raw bytes.
#[derive(Debug)]
struct Raw {
    head: String,
    body: Vec<u8>,
}

impl Raw {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find_map(|(own, value)| own.eq_ignore_ascii_case(name).then_some(value))
    }

    #[track_caller]
    fn assert_token(&self) {
        assert_eq!(self.status(), 200, "{self:?}");
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert!(json["access_token"].is_string(), "{json}");
    }
}

impl Wire {
    async fn new(site: &Site) -> Self {
        Self { stream: site.connect().await, received: Vec::new() }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads more, and returns whether there was any.
    async fn fill(&mut self) -> bool {
        let read = tokio::time::timeout(Duration::from_secs(5), self.stream.read_buf(&mut self.received));
        read.await.expect("an answer in time").is_ok_and(|length| length > 0)
    }

    /// Returns the next response to a request that was not HEAD, or `None` at the end of the connection.
    async fn answer(&mut self) -> Option<Raw> {
        self.answer_to("").await
    }

    async fn answer_to(&mut self, method: &str) -> Option<Raw> {
        let end = loop {
            match self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None if self.fill().await => {}
                None => return None,
            }
        };
        let head = String::from_utf8(self.received.drain(..end).collect()).unwrap();
        let mut raw = Raw { head, body: Vec::new() };
        let has_body = method != "HEAD" && !matches!(raw.status(), 100 | 204 | 304);
        let length: usize =
            if has_body { raw.header("content-length").map_or(0, |length| length.parse().unwrap()) } else { 0 };
        while self.received.len() < length {
            assert!(self.fill().await, "a body that breaks off: {raw:?}");
        }
        raw.body = self.received.drain(..length).collect();
        Some(raw)
    }

    /// Asserts that the connection ends without further data.
    async fn assert_ends(&mut self) {
        if let Some(answer) = self.answer().await {
            panic!("unexpected response: {answer:?}");
        }
    }
}

/// Sends a request on a new connection and returns the response.
async fn exchange(site: &Site, bytes: &str) -> Raw {
    let mut wire = Wire::new(site).await;
    wire.send(bytes).await;
    let method = bytes.split(' ').next().unwrap();
    wire.answer_to(method).await.expect("an answer")
}

mod expect {
    use super::*;

    #[tokio::test]
    async fn continue_is_sent_once_the_head_is_accepted_and_the_body_is_read() {
        over_http_1(async |stack| {
            let site = stack.issue(&server()).await;
            for name in ["100-continue", "100-Continue"] {
                let mut wire = Wire::new(&site).await;
                let length = GRANT.len();
                wire.send(head("HTTP/1.1", &format!("Expect: {name}\r\nContent-Length: {length}\r\n"))).await;
                assert_eq!(wire.answer().await.unwrap().status(), 100, "{name}");
                wire.send(GRANT).await;
                wire.answer().await.unwrap().assert_token();
                // The connection stays open.
                wire.send(request("HTTP/1.1", "")).await;
                wire.answer().await.unwrap().assert_token();
            }
        })
        .await;
    }

    #[tokio::test]
    async fn a_request_decided_by_its_head_gets_the_final_response_and_no_continue() {
        over_http_1(async |stack| {
            let site = stack.issue(&whole_server().await).await;
            let good = head("HTTP/1.1", "Expect: 100-continue\r\nContent-Length: 29\r\n");
            let mut answers = 0;
            for (request, status) in [
                (good.replace("POST", "PUT"), 405),
                (good.replace("x-www-form-urlencoded", "json"), 400),
                (good.replace("/token", "/token?client_secret=s"), 400),
                (good.replace("Expect", "Content-Encoding: gzip\r\nExpect"), 415),
                (good.replace("Length: 29", "Length: 70000"), 413),
                (good.replace("/token", JWKS), 405),
                (good.replace("/token", METADATA), 405),
                (good.replace("/token", "/authorize"), 400),
                (good.replace("/token", "/introspect").replace("x-www-form-urlencoded", "json"), 400),
                (good.replace("/token", "/revoke").replace("x-www-form-urlencoded", "json"), 400),
            ] {
                assert_ne!(request, good);
                let mut wire = Wire::new(&site).await;
                wire.send(&request).await;
                assert_eq!(wire.answer().await.unwrap().status(), status, "{request}");
                // A body that is sent regardless is never read as a request.
                wire.stream.write_all(b"GET /inner HTTP/1.1\r\nHost: h\r\n\r\n").await.ok();
                wire.assert_ends().await;
                answers += 1;
            }
            assert_eq!(answers, 10);
        })
        .await;
    }

    #[tokio::test]
    async fn another_expectation_and_one_over_http_1_0_are_ignored() {
        over_http_1(async |stack| {
            let site = stack.issue(&server()).await;
            exchange(&site, &request("HTTP/1.1", "Expect: 102-processing\r\n")).await.assert_token();
            exchange(&site, &request("HTTP/1.0", "Expect: 100-continue\r\n")).await.assert_token();
            // The whole body is read before it is refused. Otherwise the caller's connection might be reset.
            let body = "a".repeat(70_000);
            let too_large = format!("Expect: 100-continue\r\nContent-Length: {}\r\n", body.len());
            assert_eq!(exchange(&site, &(head("HTTP/1.0", &too_large) + &body)).await.status(), 413);
        })
        .await;
    }
}

mod http_1_0 {
    use super::*;

    #[tokio::test]
    async fn is_answered_and_closed_unless_keep_alive_is_requested() {
        over_http_1(async |stack| {
            let site = stack.issue(&server()).await;
            let mut wire = Wire::new(&site).await;
            wire.send(request("HTTP/1.0", "").replace("Host: h\r\n", "")).await;
            wire.answer().await.unwrap().assert_token();
            wire.assert_ends().await;

            let mut wire = Wire::new(&site).await;
            for _ in 0..3 {
                wire.send(request("HTTP/1.0", "Connection: keep-alive\r\n")).await;
                let answer = wire.answer().await.unwrap();
                answer.assert_token();
                assert_eq!(answer.header("connection"), Some("keep-alive"), "{answer:?}");
            }
            for path in [JWKS, METADATA] {
                let answer = exchange(&site, &format!("GET {path} HTTP/1.0\r\n\r\n")).await;
                assert_eq!(answer.status(), 200);
                assert!(answer.header("transfer-encoding").is_none(), "{answer:?}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn has_no_chunks_and_no_body_without_a_length() {
        over_http_1(async |stack| {
            let site = stack.issue(&server()).await;
            let chunked = head("HTTP/1.0", "Transfer-Encoding: chunked\r\n") + "1d\r\n" + GRANT + "\r\n0\r\n\r\n";
            let mut wire = Wire::new(&site).await;
            wire.send(chunked).await;
            assert_eq!(wire.answer().await.unwrap().status(), 400);
            wire.assert_ends().await;

            let answer = exchange(&site, &(head("HTTP/1.0", "") + GRANT)).await;
            assert_eq!(answer.status(), 400, "{answer:?}");
        })
        .await;
    }
}

mod pipelined {
    use super::*;

    #[tokio::test]
    async fn requests_are_answered_in_order() {
        over_http_1(async |stack| {
            let site = stack.issue(&server()).await;
            let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
            let round = [
                request("HTTP/1.1", ""),
                get(JWKS),
                get("/inner"),
                request("HTTP/1.1", "").replace("client_credentials", "authorization_code"),
                get(METADATA),
                // Line ends that old clients send after the body, before the next request (RFC 9112 §2.2).
                request("HTTP/1.1", "") + "\r\n",
                "\r\n\r\n".to_owned() + &get("/inner"),
            ];
            let mut wire = Wire::new(&site).await;
            wire.send(round.concat().repeat(10)).await;
            let mut answers = 0;
            for _ in 0..10 {
                for expected in [
                    "access_token",
                    "\"keys\"",
                    "\"path\"",
                    "unsupported_grant_type",
                    "\"issuer\"",
                    "access_token",
                    "\"path\"",
                ] {
                    let answer = wire.answer().await.unwrap();
                    let body = String::from_utf8(answer.body).unwrap();
                    assert!(body.contains(expected), "{expected}: {body}");
                    answers += 1;
                }
            }
            assert_eq!(answers, 70);
        })
        .await;
    }

    #[tokio::test]
    async fn a_request_in_the_body_of_a_refused_one_is_not_served() {
        over_http_1(async |stack| {
            let site = stack.issue(&whole_server().await).await;
            let hidden = "GET /inner HTTP/1.1\r\nHost: h\r\n\r\n".repeat(20);
            let outer = head("HTTP/1.1", &format!("Content-Length: {}\r\n", hidden.len()));
            for (request, status) in [
                (outer.replace("urlencoded", "other"), 400),
                (outer.replace("POST", "PUT"), 405),
                (outer.replace("Length: ", "Length: 0"), 400),
                (outer.replace("Content-Type", "Content-Encoding: br\r\nContent-Type"), 415),
                (outer.replace("/token", JWKS), 405),
                (outer.replace("/token", METADATA), 405),
                (outer.replace("POST /token", &format!("GET {JWKS}")), 200),
                (outer.replace("POST /token", &format!("GET {METADATA}")), 200),
                (outer.replace("/token", "/authorize"), 400),
                (outer.replace("/token", "/revoke").replace("urlencoded", "other"), 400),
                (outer.replace("/token", "/introspect").replace("urlencoded", "other"), 400),
            ] {
                assert_ne!(request, outer);
                let mut wire = Wire::new(&site).await;
                wire.send(request.clone() + &hidden).await;
                assert_eq!(wire.answer().await.unwrap().status(), status, "{request}");
                // The body was read, or the connection ends.
                wire.stream.shutdown().await.ok();
                wire.assert_ends().await;
            }
        })
        .await;
    }
}

mod chunked {
    use super::*;

    fn chunks(parts: &[&str]) -> String {
        let parts = parts.iter().map(|part| format!("{:x}\r\n{part}\r\n", part.len()));
        parts.collect::<String>() + "0\r\n\r\n"
    }

    fn chunked(body: &str) -> String {
        head("HTTP/1.1", "Transfer-Encoding: chunked\r\n") + body
    }

    #[tokio::test]
    async fn bodies_are_read_regardless_of_their_chunk_sizes() {
        over_http_1(async |stack| {
            let site = stack.issue(&server()).await;
            let letters: Vec<&str> = GRANT.split("").filter(|letter| !letter.is_empty()).collect();
            let mut wire = Wire::new(&site).await;
            for body in [
                chunks(&[GRANT]),
                chunks(&letters),
                format!("001D\r\n{GRANT}\r\n000\r\n\r\n"),
                format!("1d;name=value;other=\"quoted\"\r\n{GRANT}\r\n0;last\r\n\r\n"),
                format!("1d\r\n{GRANT}\r\n0\r\nDigest: sha-256=abc\r\nX-Trailer: yes\r\n\r\n"),
            ] {
                wire.send(chunked(&body)).await;
                wire.answer().await.unwrap_or_else(|| panic!("the end behind {body}")).assert_token();
            }
            // The head and each chunk are sent separately.
            let mut wire = Wire::new(&site).await;
            wire.send(chunked("")).await;
            for letter in letters {
                wire.send(format!("1\r\n{letter}\r\n")).await;
                tokio::task::yield_now().await;
            }
            wire.send("0\r\n\r\n").await;
            wire.answer().await.unwrap().assert_token();
        })
        .await;
    }

    #[tokio::test]
    async fn bodies_that_are_too_large_or_malformed_are_refused_and_close_the_connection() {
        over_http_1(async |stack| {
            let site = stack.issue(&server()).await;
            let large = "a".repeat(KIB);
            let too_large = chunks(&vec![large.as_str(); 65]);
            for (body, status) in [
                (too_large, 413),
                (chunks(&vec!["a"; 64 * KIB + 1]), 413),
                (format!("zz\r\n{GRANT}\r\n0\r\n\r\n"), 400),
                (format!("-1\r\n{GRANT}\r\n0\r\n\r\n"), 400),
                (format!("ffffffffffffffffff\r\n{GRANT}\r\n0\r\n\r\n"), 400),
                (format!("1c\r\n{GRANT}\r\n0\r\n\r\n"), 400),
            ] {
                let mut wire = Wire::new(&site).await;
                wire.stream.write_all(chunked(&body).as_bytes()).await.ok();
                let answer = wire.answer().await.unwrap_or_else(|| panic!("no answer to {body:.80}"));
                assert_eq!(answer.status(), status, "{body:.80}");
                wire.assert_ends().await;
            }
            // It breaks off before the last chunk, so the body is incomplete.
            let mut wire = Wire::new(&site).await;
            wire.send(chunked(&format!("1d\r\n{GRANT}\r\n"))).await;
            wire.stream.shutdown().await.unwrap();
            assert_eq!(wire.answer().await.unwrap().status(), 400);
            wire.assert_ends().await;
        })
        .await;
    }

    /// RFC 9112 §6.1 and §6.3: if one recipient reads a length, no other may read chunks.
    #[tokio::test]
    async fn a_length_with_chunks_or_a_second_length_smuggles_no_request() {
        over_http_1(async |stack| {
            let site = stack.issue(&server()).await;
            let hidden = "GET /inner HTTP/1.1\r\nHost: h\r\n\r\n";
            let body = chunks(&[GRANT]);
            let mut served = Vec::new();
            for more in [
                format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", body.len() + hidden.len()),
                "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n".to_owned(),
                "Transfer-Encoding: chunked, gzip\r\n".to_owned(),
                "Transfer-Encoding: xchunked\r\n".to_owned(),
                "Transfer-Encoding:\u{b}chunked\r\nContent-Length: 4\r\n".to_owned(),
                "Content-Length: 4\r\nContent-Length: 29\r\n".to_owned(),
                "Content-Length: +39\r\n".to_owned(),
                "Content-Length: 4, 4\r\n".to_owned(),
            ] {
                let mut wire = Wire::new(&site).await;
                wire.send(head("HTTP/1.1", &more) + &body + hidden).await;
                let mut statuses = Vec::new();
                wire.stream.shutdown().await.unwrap();
                while let Some(answer) = wire.answer().await {
                    let is_inner = String::from_utf8_lossy(&answer.body).contains("\"path\"");
                    statuses.push((answer.status(), is_inner));
                }
                println!("{more:?}: {statuses:?}");
                served.push(statuses);
            }
            for statuses in served {
                // Either a token by the chunks or a refusal, and then the end of the connection.
                assert!(matches!(statuses[..], [(200 | 400, false)]), "{statuses:?}");
            }
        })
        .await;
    }
}

mod compressed {
    use super::*;

    #[tokio::test]
    async fn bodies_are_refused_with_a_415_that_names_the_accepted_encoding() {
        on_every_stack(async |stack| {
            let site = stack.issue(&whole_server().await).await;
            let mut refused = 0;
            for path in ["/token", "/introspect", "/revoke"] {
                for coding in ["gzip", "x-gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip", "aws-chunked"] {
                    let request = billing_asks(GRANT).to(path).header(CONTENT_ENCODING, coding);
                    let answer = site.send(request).await;
                    answer.assert_refused(415, "invalid_request");
                    assert_eq!(answer.header("accept-encoding"), Some("identity"), "{answer:?}");
                    let reason = answer.reason.unwrap();
                    assert!(reason.contains("Content-Encoding is ") && reason.contains(coding), "{reason}");
                    refused += 1;
                }
            }
            assert_eq!(refused, 24);
            for coding in ["identity", "Identity", "", "identity, identity"] {
                site.send(billing_asks(GRANT).header(CONTENT_ENCODING, coding)).await.assert_token();
            }
        })
        .await;
    }

    #[tokio::test]
    async fn the_operators_reason_is_bounded_and_escaped() {
        let site = Stack::PLAIN.issue(&server()).await;
        let long = format!("gzip\t{}", "x".repeat(5_000));
        let reason = site.send(billing_asks(GRANT).header(CONTENT_ENCODING, &long)).await.reason.unwrap();
        assert!(reason.len() < 400 && reason.contains("gzip\\t"), "{reason}");
    }
}

mod options {
    use super::*;

    async fn allowed(site: &Site, method: &str, path: &str) -> (u16, Option<String>, usize) {
        let request = Request::builder().method(method).uri(path).header(CONTENT_LENGTH, 0);
        let answer = site.send(request.body(common::stack::Body::default()).unwrap()).await;
        (answer.status.as_u16(), answer.header("allow").map(ToOwned::to_owned), answer.body.len())
    }

    #[tokio::test]
    async fn of_every_endpoint_list_its_methods() {
        on_every_stack(async |stack| {
            let site = stack.issue(&whole_server().await).await;
            let mut asked = 0;
            for (path, methods) in [
                ("/token", "POST"),
                ("/introspect", "POST"),
                ("/revoke", "POST"),
                ("/authorize", "GET, HEAD, POST"),
                (JWKS, "GET, HEAD"),
                (METADATA, "GET, HEAD"),
            ] {
                for method in ["OPTIONS", "TRACE", "PROPFIND"] {
                    let (status, allow, _) = allowed(&site, method, path).await;
                    assert_eq!((status, allow.as_deref()), (405, Some(methods)), "{method} {path}");
                    asked += 1;
                }
            }
            let metadata = ResourceMetadata::builder(API).authorization_server(common::ISSUER).build().unwrap();
            let resource = stack.serve(ResourceMetadataLayer::new(metadata).layer(stack.app(&server(), []))).await;
            for method in ["OPTIONS", "TRACE", "PROPFIND"] {
                let (status, allow, _) = allowed(&resource, method, RESOURCE).await;
                assert_eq!((status, allow.as_deref()), (405, Some("GET, HEAD")), "{method}");
                asked += 1;
            }
            assert_eq!(asked, 21);
            // A response to HEAD has no body.
            for (path, status) in [
                ("/token", 405),
                ("/introspect", 405),
                ("/revoke", 405),
                ("/authorize", 400),
                (JWKS, 200),
                (METADATA, 200),
            ] {
                let (found, _, length) = allowed(&site, "HEAD", path).await;
                assert_eq!((found, length), (status, 0), "{path}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn of_cross_origin_documents_answer_a_preflight() {
        on_every_stack(async |stack| {
            let server = settings(MemoryStore::try_from(clients()).unwrap()).cross_origin_documents().build().unwrap();
            let site = stack.issue(&server).await;
            for path in [JWKS, METADATA] {
                assert_eq!(allowed(&site, "OPTIONS", path).await.0, 204, "{path}");
                assert_eq!(allowed(&site, "PUT", path).await.1.as_deref(), Some("GET, HEAD, OPTIONS"));
            }
            assert_eq!(allowed(&site, "OPTIONS", "/token").await.0, 405);
        })
        .await;
    }

    /// `OPTIONS *` is about the server as a whole (RFC 9110 §9.3.7), which is not our endpoint.
    #[tokio::test]
    async fn of_the_whole_server_are_passed_on() {
        over_http_1(async |stack| {
            let site = stack.issue(&server()).await;
            let answer = exchange(&site, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").await;
            assert!(String::from_utf8(answer.body).unwrap().contains(r#""path":"*""#));
        })
        .await;
    }
}

mod paths {
    use super::*;

    #[tokio::test]
    async fn are_compared_byte_by_byte_and_the_host_of_an_absolute_uri_is_ignored() {
        over_http_1(async |stack| {
            let site = stack.issue(&server()).await;
            let good = request("HTTP/1.1", "");
            for path in ["/token", "/token?", "/token?a=b", "http://other.example/token", "http://h/token?a=b"] {
                exchange(&site, &good.replace("POST /token", &format!("POST {path}"))).await.assert_token();
            }
            // The last two have no path at all: they read as the authority of a CONNECT.
            let mut passed_on = 0;
            for path in [
                "//token",
                "/token/",
                "/%74oken",
                "/./token",
                "/a/../token",
                "/Token",
                "/token;a=b",
                "/token%2F",
                "/token%3Fa",
                "/tok%65n",
                "/token//",
                "http://h//token",
                "/token%00",
                "token",
                "*token",
            ] {
                let answer = exchange(&site, &good.replace("POST /token", &format!("POST {path}"))).await;
                let body = String::from_utf8(answer.body.clone()).unwrap();
                assert!(body.contains(r#""path":"#), "{path}: {answer:?}");
                passed_on += 1;
            }
            assert_eq!(passed_on, 15);
            for malformed in ["/to ken", "http:///token", "\\token"] {
                let answer = exchange(&site, &good.replace("POST /token", &format!("POST {malformed}"))).await;
                assert_eq!(answer.status(), 400, "{malformed}: {answer:?}");
            }
        })
        .await;
    }
}

mod conditional {
    use super::*;

    /// Every document that this crate serves, with the path of each.
    async fn sites(stack: Stack) -> [(Site, &'static str); 3] {
        let metadata = ResourceMetadata::builder(API).authorization_server(common::ISSUER).build().unwrap();
        let server = server();
        let issuer = stack.issue(&server).await;
        let resource = stack.serve(ResourceMetadataLayer::new(metadata).layer(stack.app(&server, []))).await;
        [(issuer.clone(), JWKS), (issuer, METADATA), (resource, RESOURCE)]
    }

    #[tokio::test]
    async fn requests_are_decided_by_their_entity_tags() {
        over_http_1(async |stack| {
            let mut decided = 0;
            for (site, path) in sites(stack).await {
                let get = async |method: &str, more: &str| {
                    exchange(&site, &format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{more}\r\n")).await
                };
                let plain = get("GET", "").await;
                let tag = plain.header("etag").unwrap();
                let bare = tag.trim_matches('"');
                for (condition, status) in [
                    (format!("If-None-Match: {tag}\r\n"), 304),
                    (format!("If-None-Match: W/{tag}\r\n"), 304),
                    (format!("if-none-match: \"a\", {tag}, \"b\"\r\n"), 304),
                    (format!("If-None-Match: \"a,b\",W/{tag}\r\n"), 304),
                    (format!("If-None-Match: \"a\"\r\nIf-None-Match: {tag}\r\n"), 304),
                    ("If-None-Match: *\r\n".to_owned(), 304),
                    ("If-None-Match: \"a,*,b\"\r\n".to_owned(), 200),
                    (format!("If-None-Match: \"a, {bare}\"\r\n"), 200),
                    (format!("If-None-Match: {bare}\r\n"), 200),
                    ("If-None-Match: W/\"\"\r\n".to_owned(), 200),
                    ("If-None-Match:\r\n".to_owned(), 200),
                    (format!("If-Match: {tag}\r\n"), 200),
                    (format!("If-Match: \"a\", {tag}\r\n"), 200),
                    ("If-Match: *\r\n".to_owned(), 200),
                    (format!("If-Match: W/{tag}\r\n"), 412), // the comparison is strong (RFC 9110 §13.1.1)
                    ("If-Match: \"a\"\r\n".to_owned(), 412),
                    ("If-Match:\r\n".to_owned(), 412),
                    (format!("If-Match: {tag}\r\nIf-None-Match: {tag}\r\n"), 304),
                    (format!("If-Match: \"a\"\r\nIf-None-Match: {tag}\r\n"), 412),
                    // The documents have no date, so conditions by date are ignored.
                    ("If-Modified-Since: Sun, 29 Nov 2099 00:00:00 GMT\r\n".to_owned(), 200),
                    ("If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n".to_owned(), 200),
                    ("Range: bytes=0-3\r\nIf-Range: \"a\"\r\n".to_owned(), 200),
                ] {
                    for method in ["GET", "HEAD"] {
                        let answer = get(method, &condition).await;
                        assert_eq!(answer.status(), status, "{method} {path} {condition}");
                        assert_eq!(answer.header("etag"), Some(tag), "{condition}");
                        let caching = plain.header("cache-control").filter(|_| status != 412);
                        assert_eq!(answer.header("cache-control"), caching, "{condition}");
                        let body: &[u8] = if (method, status) == ("GET", 200) { &plain.body } else { b"" };
                        assert_eq!(answer.body, body, "{method} {condition}");
                        decided += 1;
                    }
                }
                // RFC 9110 §13.2.1: a condition is ignored if the response would be a refusal.
                assert_eq!(get("POST", "If-Match: \"a\"\r\nContent-Length: 0\r\n").await.status(), 405);
            }
            assert_eq!(decided, 3 * 22 * 2);
        })
        .await;
    }
}
