//! Connections that are not used: they are closed, and those with a request in progress are not.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::Service;

/// An HTTP/2 connection, frame by frame (RFC 9113 §4.1).
struct Http2(TcpStream);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `SETTINGS_INITIAL_WINDOW_SIZE` (§6.5.2) of 0: no DATA may be sent.
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

struct Frame {
    kind: u8,
    flags: u8,
    payload: Vec<u8>,
}

impl Http2 {
    fn connect(service: &Service, settings: &[u8]) -> Self {
        let mut connection = Self(service.connect());
        connection.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        connection.send(SETTINGS, 0, 0, settings);
        connection
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        // A server that is about to close reads no further.
        let _ = self.0.write_all(&[&head, payload].concat());
    }

    /// `None` at the end of the connection. Acknowledges what has to be.
    fn receive(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        match self.0.read_exact(&mut head) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("the connection stays open"),
            Err(_) => return None,
            Ok(()) => {}
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).ok()?;
        let (kind, flags) = (head[3], head[4]);
        if matches!(kind, SETTINGS | PING) && flags & ACK == 0 {
            let echo = if kind == PING { payload.as_slice() } else { &[] };
            self.send(kind, ACK, 0, echo);
        }
        Some(Frame { kind, flags, payload })
    }

    /// Sends the head of a request, in literals of HPACK without Huffman codes.
    fn request(&mut self, method: &str, path: &str, more: &[(&str, &str)], flags: u8) {
        let mut block = Vec::new();
        let fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "h")];
        for (name, value) in fields.iter().chain(more) {
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend(text.as_bytes());
            }
        }
        self.send(HEADERS, flags | END_HEADERS, 1, &block);
    }

    /// The next frame of this kind on the connection.
    fn wait_for(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.receive().expect("a frame before the end of the connection");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Acknowledges PINGs until the server closes the connection; returns the kinds of frames that came.
    fn until_closed(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| self.receive()).map(|frame| frame.kind).collect()
    }
}

/// `:status: 200` is entry 8 of HPACK's static table.
const STATUS_200: u8 = 0x88;

fn service(test: &str) -> Service {
    let long = [("TCC_LIMITS_HEAD_SECONDS", "600"), ("TCC_LIMITS_BODY_SECONDS", "600")];
    Service::start(test, &[&long[..], &[("TCC_LIMITS_IDLE_SECONDS", "1")]].concat())
}

#[test]
fn an_http_2_connection_that_only_acknowledges_pings_is_closed() {
    let service = service("idle-h2");
    let mut connection = Http2::connect(&service, &[]);
    connection.request("GET", "/health/live", &[], END_STREAM);
    let answer = connection.wait_for(HEADERS);
    assert_ne!(answer.flags & END_STREAM, 0, "204 has no body");
    let kinds = connection.until_closed();
    assert!(kinds.contains(&GOAWAY), "the client is told, so that it sends no request that gets lost: {kinds:?}");
}

#[test]
fn an_http_2_connection_whose_answer_is_not_read_is_closed() {
    let service = service("idle-window");
    let mut connection = Http2::connect(&service, &NO_WINDOW);
    connection.request("GET", "/.well-known/jwks.json", &[], END_STREAM);
    assert_eq!(connection.wait_for(HEADERS).payload[0], STATUS_200);
    let kinds = connection.until_closed();
    assert!(!kinds.contains(&DATA), "{kinds:?}");
}

/// `SETTINGS_MAX_CONCURRENT_STREAMS` (§6.5.2).
const MAX_CONCURRENT_STREAMS: [u8; 2] = [0, 3];

#[test]
fn the_requests_at_once_on_one_http_2_connection_are_bounded() {
    for (test, environment, expected) in
        [("streams", &[][..], [0, 0, 0, 32]), ("streams-set", &[("TCC_LIMITS_STREAMS", "300")], [0, 0, 1, 44])]
    {
        let service = Service::start(test, environment);
        let mut connection = Http2::connect(&service, &[]);
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
    let mut http_2 = Http2::connect(&service, &[]);
    let fields = [
        ("authorization", "Basic YmlsbGluZzpjb3JyZWN0K2hvcnNl"),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    http_2.request("POST", "/token", &fields, 0);
    http_2.send(DATA, 0, 1, b"grant_type=client_credential");

    // Its time begins after that of the two above: when it is closed, they would be, too.
    let mut idle = Http2::connect(&service, &[]);
    idle.request("GET", "/health/live", &[], END_STREAM);
    idle.until_closed();

    http_1.write_all(b"s").unwrap();
    let mut answer = [0; 12];
    http_1.read_exact(&mut answer).expect("an answer over HTTP/1.1");
    assert_eq!(&answer, b"HTTP/1.1 200");
    http_2.send(DATA, END_STREAM, 1, b"s");
    assert_eq!(http_2.wait_for(HEADERS).payload[0], STATUS_200);
}
