//! Floods of frames against the examples `standalone` and `hyper`: other callers are served meanwhile, and memory stays
//! bounded.

#![cfg(target_os = "linux")] // it reads /proc
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::SECRET;
use common::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, NO_WINDOW, Outcome, PING, PRIORITY,
    RST_STREAM, SETTINGS, Seen, Sent, WINDOW_UPDATE, frame, head, status, string,
};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const GRANT: &[u8] = b"grant_type=client_credentials";

/// The maximum growth of a server's memory during a flood on few connections.
const MAX_GROWTH_KIB: u64 = 48 * 1024;

/// The maximum growth for a connection of 32 slow bodies over HTTP/2 and one over HTTP/1.1: each body with its stream takes
/// less than 16 KiB here, and the last one is of 60 KB.
const MAX_GROWTH_PER_CONNECTION_KIB: u64 = 32 * 16 + 80;

/// The maximum waiting time of another caller meanwhile: both share two cores, and the server is not optimized.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Floods run one after another, so that they do not affect each other's measurements.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[derive(Clone, Copy, Debug, PartialEq)]
enum Example {
    Standalone,
    Hyper,
}

/// A running example, which ends with the test.
struct Server {
    example: Example,
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(example: Example, test: &str) -> Self {
        let mut path = std::env::current_exe().unwrap();
        path.pop(); // the test
        path.pop(); // deps
        path.push(match example {
            Example::Standalone => "examples/standalone",
            Example::Hyper => "examples/hyper",
        });
        assert!(path.exists(), "{} is not built: cargo build --examples --all-features", path.display());
        let mut command = Command::new(path);
        command.env("BILLING_SECRET", &*SECRET).env("RUST_LOG", "off");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        if example == Example::Standalone {
            let config = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("floods-{test}.toml"));
            fs::write(&config, CONFIG).unwrap();
            command.arg("--config").arg(config);
        } else {
            command.arg("127.0.0.1:0");
        }
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| Some(line.unwrap().strip_prefix("listening on http://")?.parse().unwrap()));
        let server = Self { example, child, address: address.expect("an address") };
        // It prints nothing more until it is stopped. Failing to write a line would be an error of its own.
        thread::spawn(move || lines.for_each(drop));
        server
    }

    /// Returns a figure of `/proc/PID/status`, in KiB.
    fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a running process");
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn http2(&self) -> Http2 {
        Http2::connect(self.address, &[])
    }

    fn http1(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Returns the time of a token request, over HTTP/1.1 on a new connection.
    fn time_of_a_token(address: SocketAddr) -> Duration {
        let start = Instant::now();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let request = format!(
            "POST /token HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: {}\r\nContent-Type: {}\r\n\
             Content-Length: {}\r\n\r\n",
            basic(),
            FORM.1,
            GRANT.len()
        );
        stream.write_all(&[request.as_bytes(), GRANT].concat()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("access_token"), "{answer}");
        start.elapsed()
    }

    fn has_short_times(&self) -> bool {
        self.example == Example::Standalone
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// With times that are short enough for a test; the example `hyper` has the defaults of 10 seconds.
const CONFIG: &str = r#"listen = "127.0.0.1:0"
store = "memory:"

[limits]
head_seconds = 2
body_seconds = 2
idle_seconds = 2

[keys]
generate = "ES256"

[tokens]
scope = "invoices:read"

[[resources]]
audience = "https://api.example.test/"

[[clients]]
client_id = "billing"
client_secret_env = "BILLING_SECRET"
scope = "invoices:read"

[[routes]]
path = "/api/read"
"#;

fn basic() -> String {
    format!("Basic {}", STANDARD.encode(format!("billing:{}", *SECRET)))
}

/// A caller unrelated to the flood, which requests one token after another.
struct Bystander {
    stop: Arc<AtomicBool>,
    caller: JoinHandle<(usize, Duration)>,
}

impl Bystander {
    fn start(server: &Server) -> Self {
        let (stop, address) = (Arc::new(AtomicBool::new(false)), server.address);
        let stopping = stop.clone();
        let caller = thread::spawn(move || {
            let (mut tokens, mut slowest) = (0, Duration::ZERO);
            while tokens < 5 || !stopping.load(Ordering::Relaxed) {
                slowest = slowest.max(Server::time_of_a_token(address));
                tokens += 1;
                thread::sleep(Duration::from_millis(5));
            }
            (tokens, slowest)
        });
        Self { stop, caller }
    }

    fn stop(self) -> (usize, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.caller.join().expect("every request is served")
    }
}

/// Floods both examples, one after another.
fn flood(test: &str, attack: impl Fn(&Server) -> String) {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    on_both(test, MAX_GROWTH_KIB, attack);
}

/// The same for an attack that mostly waits.
fn on_both(test: &str, max_growth: u64, attack: impl Fn(&Server) -> String) {
    for example in [Example::Standalone, Example::Hyper] {
        let server = Server::start(example, test);
        for _ in 0..20 {
            Server::time_of_a_token(server.address);
        }
        let before = server.memory("VmHWM");
        let bystander = Bystander::start(&server);
        let counts = attack(&server);
        let (tokens, slowest) = bystander.stop();
        let growth = server.memory("VmHWM") - before;
        println!(
            "{test}, {example:?}: {counts}; {tokens} tokens for other callers meanwhile, the slowest in {slowest:?}; memory growth {growth} KiB"
        );
        assert!(slowest < LONGEST_WAIT, "{slowest:?}");
        assert!(growth < max_growth, "{growth} KiB");
        Server::time_of_a_token(server.address);
    }
}

/// The requests of a flood, spread over connections. A new connection replaces each that the server closes.
struct Flood<'a> {
    server: &'a Server,
    connection: Http2,
    watch: JoinHandle<Seen>,
    stream: u32,
    closed: usize,
}

impl<'a> Flood<'a> {
    fn new(server: &'a Server) -> Self {
        let connection = server.http2();
        let watch = connection.watch();
        Self { server, connection, watch, stream: 1, closed: 0 }
    }

    /// Sends frames for the next streams, all in one write.
    fn send(&mut self, streams: usize, frames: impl Fn(u32) -> Vec<u8>) {
        let mut bytes = Vec::new();
        for _ in 0..streams {
            bytes.extend(frames(self.stream));
            self.stream += 2;
        }
        // A stalled server has an answer to write, which the watcher reads.
        if self.connection.send(&bytes) == Sent::Closed {
            let closed = self.closed + 1;
            *self = Self { closed, ..Self::new(self.server) };
        }
    }

    /// Returns how many connections the server closed. If there is no other, it waits for the last one.
    fn closed(self) -> usize {
        let start = Instant::now();
        while self.closed == 0 && !self.watch.is_finished() && start.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(5));
        }
        let closed = self.closed + usize::from(self.watch.is_finished());
        self.connection.close();
        closed
    }
}

fn token_head(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &head("POST", "/token", &[FORM, ("authorization", &basic())]))
}

fn cancel(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

/// CVE-2023-44487.
fn rapid_reset(scale: usize) {
    flood("rapid-reset", |server| {
        let mut flood = Flood::new(server);
        for _ in 0..20 * scale {
            flood.send(100, |stream| [token_head(stream), cancel(stream)].concat());
        }
        let closed = flood.closed();
        assert!(closed > 0, "the server closes such a connection");
        format!("{} requests, {closed} connections closed", 2_000 * scale)
    });
}

#[test]
fn requests_that_are_reset_at_once_close_the_connection_and_delay_no_other_caller() {
    rapid_reset(1);
}

#[test]
#[ignore = "long: run by scripts/attack"]
fn attack_rapid_reset() {
    rapid_reset(100);
}

/// Complete requests, each cancelled after the server has started to process it.
fn late_reset(scale: usize) {
    flood("late-reset", |server| {
        let mut flood = Flood::new(server);
        for _ in 0..100 * scale {
            flood.send(10, |stream| [token_head(stream), frame(DATA, END_STREAM, stream, GRANT)].concat());
            let first = flood.stream.saturating_sub(20).max(1);
            let canceled: Vec<u8> = (first..flood.stream).step_by(2).flat_map(cancel).collect();
            if flood.stream > first {
                flood.connection.send(&canceled);
            }
        }
        format!("{} requests, {} connections closed", 1_000 * scale, flood.closed)
    });
}

#[test]
fn requests_that_are_reset_while_they_are_served_delay_no_other_caller() {
    late_reset(1);
}

#[test]
#[ignore = "long: run by scripts/attack"]
fn attack_late_reset() {
    late_reset(50);
}

/// CVE-2025-8671: the server resets each stream itself, because of an increment of 0 (RFC 9113 §6.9).
fn made_to_reset(scale: usize) {
    flood("made-to-reset", |server| {
        let mut flood = Flood::new(server);
        for _ in 0..20 * scale {
            flood.send(50, |stream| [token_head(stream), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat());
        }
        let closed = flood.closed();
        assert!(closed > 0, "the server closes such a connection");
        format!("{} requests, {closed} connections closed", 1_000 * scale)
    });
}

#[test]
fn requests_that_make_the_server_reset_them_close_the_connection_and_delay_no_other_caller() {
    made_to_reset(1);
}

#[test]
#[ignore = "long: run by scripts/attack"]
fn attack_made_to_reset() {
    made_to_reset(100);
}

/// CVE-2024-27316: header blocks that never end, of full and of empty frames.
fn continuation(scale: usize) {
    flood("continuation", |server| {
        let mut sent = Vec::new();
        for payload in [&b"\0\x01a\x02bb"[..], &[], &[0; 16_000]] {
            let payload = if payload.len() == 16_000 {
                [&[0, 1, b'a'], &*string(&"b".repeat(15_900))].concat()
            } else {
                payload.to_vec()
            };
            for _ in 0..scale {
                let mut connection = server.http2();
                let watch = connection.watch();
                let start = head("POST", "/token", &[]);
                connection.send(&frame(HEADERS, 0, 1, &start));
                let frames = (0..1_000_000).find(|_| {
                    let batch = frame(CONTINUATION, 0, 1, &payload).repeat(10);
                    connection.send(&batch) != Sent::Whole
                });
                let frames = 10 * frames.unwrap();
                connection.close();
                watch.join().unwrap();
                // Data in the buffers of both sockets count as sent.
                assert!(frames * (payload.len() + 9) < 16 * 1024 * 1024, "{frames} frames of {}", payload.len());
                sent.push(frames);
            }
        }
        format!("closed behind these frames: {:?}", &sent[sent.len() - 3..])
    });
}

#[test]
fn an_endless_header_block_closes_the_connection() {
    continuation(1);
}

#[test]
#[ignore = "long: run by scripts/attack"]
fn attack_continuation() {
    continuation(50);
}

/// Control frames with and without answers, from a client that reads, and from one that does not.
fn control_frames(scale: usize) {
    let open = token_head(1);
    let frames = [
        ("PING", frame(PING, 0, 0, b"are you?")),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("SETTINGS with a value", frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ("an unknown type", frame(0xBB, 0, 0, b"unknown")),
        ("an empty DATA", frame(DATA, 0, 1, &[])),
        ("a DATA of padding", frame(DATA, 8, 1, &[0])),
    ];
    flood("control-frames", |server| {
        let mut counts = Vec::new();
        for (name, bytes) in &frames {
            let mut connection = server.http2();
            let watch = connection.watch();
            connection.send(&open);
            let rounds = 100 * scale;
            let outcome = (0..rounds).map(|_| connection.send(&bytes.repeat(100))).find(|sent| *sent == Sent::Closed);
            let is_data = bytes[3] == DATA;
            if !is_data {
                thread::sleep(Duration::from_millis(50));
                connection.close();
            }
            // Without a stall, at the end of the connection by the server.
            let seen = watch.join().unwrap();
            counts.push(format!("{name}: {outcome:?} {:?}", seen.frames));
            let is_closed = outcome.is_some() || seen.frames.contains_key(&GOAWAY);
            // A long flood is closed as well, because no request arrives within the idle limit.
            assert!(is_closed == is_data || (is_closed && scale > 1), "{name}: {seen:?}");
        }
        counts.join("; ")
    });
}

#[test]
fn control_frames_delay_no_other_caller_and_empty_data_frames_close_the_connection() {
    control_frames(1);
}

#[test]
#[ignore = "long: run by scripts/attack"]
fn attack_control_frames() {
    control_frames(100);
}

#[test]
fn the_server_stops_reading_from_a_client_that_requests_answers_and_does_not_read_them() {
    flood("no-reader", |server| {
        let mut sent = Vec::new();
        for bytes in [frame(PING, 0, 0, b"are you?"), frame(SETTINGS, 0, 0, &[])] {
            let mut connection = server.http2();
            let batch = bytes.repeat(1_000);
            // The buffers of the two sockets take some MiB.
            let frames = (0..4_000).find(|_| connection.send(&batch) != Sent::Whole);
            sent.push(frames.expect("the server reads on, and what it has to send is in memory") * 1_000);
            connection.close();
        }
        // Pipelined requests over HTTP/1.1: each response is larger than its request.
        let mut stream = server.http1();
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let batch = "GET /.well-known/oauth-authorization-server HTTP/1.1\r\nHost: h\r\n\r\n".repeat(100);
        let requests = (0..10_000).find(|_| stream.write_all(batch.as_bytes()).is_err());
        sent.push(requests.expect("the server reads on, and its answers are in memory") * 100);
        format!("stalled behind these frames and requests: {sent:?}")
    });
}

#[test]
fn header_lists_are_limited_by_their_decoded_size() {
    flood("header-lists", |server| {
        let mut outcomes = Vec::new();
        for (size, is_served) in [(8_000, true), (17_000, false), (60_000, false)] {
            let mut connection = server.http2();
            let value = "v".repeat(size);
            let fields = head("GET", "/.well-known/jwks.json", &[("x-long", &value)]);
            let (first, rest) = fields.split_at(fields.len().min(16_000));
            connection.send(&frame(HEADERS, END_STREAM, 1, first));
            let parts: Vec<_> = rest.chunks(16_000).collect();
            for part in &parts {
                connection.send(&frame(CONTINUATION, 0, 1, part));
            }
            connection.send(&frame(CONTINUATION, END_HEADERS, 1, &[]));
            let outcome = connection.outcome(1);
            assert_eq!(outcome == Outcome::Status(200), is_served, "{size}: {outcome:?}");
            outcomes.push(outcome);
        }
        // A table entry of 3,900 bytes, referenced 12,000 times: 47 MB from 16 KB (RFC 7541 §7.3).
        for _ in 0..20 {
            let mut connection = server.http2();
            let entry = [&[0x40], &*string("x-bomb"), &*string(&"b".repeat(3_900))].concat();
            let bomb = [head("GET", "/.well-known/jwks.json", &[]), entry, vec![0xBE; 12_000]].concat();
            let (first, rest) = bomb.split_at(8_000);
            connection.send(&frame(HEADERS, END_STREAM, 1, first));
            connection.send(&frame(CONTINUATION, END_HEADERS, 1, rest));
            let outcome = connection.outcome(1);
            assert_ne!(outcome, Outcome::Status(200));
            outcomes.push(outcome);
        }
        // The same over HTTP/1.1: a head that is too long, and a head with too many lines.
        for lines in [format!("X-Long: {}\r\n", "v".repeat(100_000)), "X: y\r\n".repeat(1_000)] {
            let mut stream = server.http1();
            stream.write_all(format!("GET /health/live HTTP/1.1\r\nHost: h\r\n{lines}\r\n").as_bytes()).ok();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "), "{answer:?}");
        }
        format!("{:?}", &outcomes[..4])
    });
}

/// Bodies that stop before their end, on every stream that a connection may have, and on many connections.
fn slow_bodies(connections: usize) {
    const STREAMS: u32 = 32;
    const REFUSED_STREAM: u32 = 7;
    on_both("slow-bodies", connections as u64 * MAX_GROWTH_PER_CONNECTION_KIB, |server| {
        let floods: Vec<_> = (0..connections)
            .map(|_| {
                let mut connection = server.http2();
                // As much as a connection may send without a window update: 65,535 bytes (RFC 9113 §6.9.2).
                for stream in (1..2 * STREAMS).step_by(2) {
                    connection.send(&[token_head(stream), frame(DATA, 0, stream, &[b'a'; 2_000])].concat());
                }
                connection.send(&token_head(2 * STREAMS + 1));
                let watch = connection.watch();
                (connection, watch)
            })
            .collect();
        // Over HTTP/1.1, almost the maximum size of a body.
        let slow: Vec<_> = (0..connections)
            .map(|_| {
                let mut stream = server.http1();
                let head = format!(
                    "POST /token HTTP/1.1\r\nHost: h\r\nContent-Type: {}\r\nContent-Length: 60000\r\n\r\n",
                    FORM.1
                );
                stream.write_all(&[head.as_bytes(), &*vec![b'a'; 59_999]].concat()).unwrap();
                stream
            })
            .collect();
        thread::sleep(Duration::from_secs(if server.has_short_times() { 5 } else { 14 }));
        let (mut too_slow, mut refused) = (0, 0);
        for (connection, watch) in floods {
            connection.close();
            let seen = watch.join().unwrap();
            too_slow += seen.statuses.get(&408).copied().unwrap_or_default();
            refused += seen.resets.get(&REFUSED_STREAM).copied().unwrap_or_default();
        }
        assert_eq!((too_slow, refused), (connections * STREAMS as usize, connections));
        for mut stream in slow {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        }
        format!("{too_slow} answers of 408 over HTTP/2 and {connections} over HTTP/1.1, {refused} streams refused")
    });
}

#[test]
fn slow_bodies_on_many_streams_are_refused_in_time_and_delay_no_other_caller() {
    slow_bodies(20);
}

#[test]
#[ignore = "long: run by scripts/attack"]
fn attack_slow_bodies() {
    slow_bodies(200);
}

/// Connections that never finish the head of a request.
fn slow_heads(connections: usize) {
    on_both("slow-heads", MAX_GROWTH_KIB, |server| {
        let mut half_open = Vec::new();
        for number in 0..connections {
            let mut stream = server.http1();
            let start: &[u8] = match number % 4 {
                0 => b"",
                1 => b"POST /token HTTP/1.1\r\nHost: h\r\nX-Slow: ",
                2 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                // A header block without its end.
                _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\0\0\0\0\x01\x82",
            };
            stream.write_all(start).unwrap();
            half_open.push(stream);
        }
        let start = Instant::now();
        for stream in &mut half_open {
            let mut rest = Vec::new();
            match stream.read_to_end(&mut rest) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("a connection stays open"),
                _ => {}
            }
        }
        let time = start.elapsed();
        let most = if server.has_short_times() { 8 } else { 18 };
        assert!(time < Duration::from_secs(most), "{time:?}");
        format!("{connections} connections closed after {time:?}")
    });
}

#[test]
fn connections_without_a_complete_head_are_closed_in_time_and_delay_no_other_caller() {
    slow_heads(200);
}

/// Heads that grow to the server's limit, and do not end.
#[test]
fn endless_heads_over_http_1_are_refused_before_they_fill_the_memory() {
    flood("long-heads", |server| {
        let line = format!("X-Long: {}\r\n", "v".repeat(1_000));
        let mut refused = 0;
        let mut open: Vec<_> = (0..200)
            .map(|_| {
                let mut stream = server.http1();
                stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
                let long = line.repeat(95); // of at most 100 lines
                stream.write_all(format!("POST /token HTTP/1.1\r\nHost: h\r\n{long}X-Last: ").as_bytes()).ok();
                for _ in 0..280 {
                    if stream.write_all(&[b'v'; 1_000]).is_err() {
                        break;
                    }
                }
                stream
            })
            .collect();
        for stream in &mut open {
            let mut answer = [0; 12];
            // If the server closed before it had read everything, the response may be lost.
            refused += usize::from(stream.read_exact(&mut answer).is_err() || &answer == b"HTTP/1.1 431");
        }
        assert_eq!(refused, open.len());
        format!("{refused} heads of 375 KB refused")
    });
}

/// Responses that the client requests and never reads.
#[test]
fn unread_responses_are_bounded_and_the_connection_is_closed() {
    const CONNECTIONS: usize = 40;
    let server = Server::start(Example::Standalone, "unread");
    Server::time_of_a_token(server.address);
    let before = server.memory("VmHWM");
    let bystander = Bystander::start(&server);
    let watches: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut connection = Http2::connect(server.address, &NO_WINDOW);
            for stream in (1..200).step_by(2) {
                let request = head("GET", "/.well-known/oauth-authorization-server", &[]);
                connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &request));
            }
            let watch = connection.watch();
            (connection, watch)
        })
        .collect();
    let mut answers = 0;
    for (_, watch) in watches {
        let seen = watch.join().unwrap(); // at the end of the connection
        assert!(!seen.frames.contains_key(&DATA), "{seen:?}");
        answers += seen.statuses[&200];
    }
    let (tokens, slowest) = bystander.stop();
    let growth = server.memory("VmHWM") - before;
    println!(
        "{answers} unread responses; {tokens} tokens for other callers, the slowest in {slowest:?}; memory growth {growth} KiB"
    );
    assert_eq!(answers, CONNECTIONS * 32);
    assert!(slowest < LONGEST_WAIT && growth < MAX_GROWTH_KIB);
}

#[test]
fn trailers_after_a_body_are_ignored_and_malformed_ones_are_refused() {
    for example in [Example::Standalone, Example::Hyper] {
        let server = Server::start(example, "trailers");
        let with = |trailers: &[u8], flags: u8| {
            let mut connection = server.http2();
            let body = frame(DATA, 0, 1, GRANT);
            connection.send(&[token_head(1), body, frame(HEADERS, flags, 1, trailers)].concat());
            let outcome = connection.outcome(1);
            println!("{example:?}: {} bytes of trailers, flags {flags}: {outcome:?}", trailers.len());
            outcome
        };
        let plain = common::http2::block(&[("digest", "sha-256=abc"), ("x-trailer", "yes")]);
        let all = END_HEADERS | END_STREAM;
        assert_eq!(with(&plain, all), Outcome::Status(200));
        assert_eq!(with(&[], all), Outcome::Status(200));
        let long = common::http2::block(&[("x-long", &"v".repeat(16_000))]);
        assert_eq!(with(&long, all), Outcome::Status(200), "ignored, not kept");
        // A credential or a path in a trailer changes nothing.
        for forged in [&[("authorization", "Basic eDp5"), ("content-type", "text/plain")][..], &[(":path", "/nowhere")]]
        {
            assert_eq!(with(&common::http2::block(forged), all), Outcome::Status(200));
        }
        let mut refused = 0;
        for (trailers, flags) in [
            (common::http2::block(&[("connection", "close")]), all),
            (common::http2::block(&[("Digest", "upper case")]), all),
            (plain, END_HEADERS), // without the end of the stream (RFC 9113 §8.1)
        ] {
            let outcome = with(&trailers, flags);
            assert_ne!(outcome, Outcome::Status(200));
            refused += 1;
        }
        assert_eq!(refused, 3);
    }
}

/// hyper sends no 100 over HTTP/2: it waits for the body, and a refusal by the head or by the length is sent at once.
#[test]
fn an_expectation_over_http_2_gets_the_final_response() {
    let server = Server::start(Example::Standalone, "expect");
    let ask = |length: &str, content_type: &str, body: &[u8]| {
        let start = Instant::now();
        let mut connection = server.http2();
        let authorization = basic();
        let fields = [
            ("content-type", content_type),
            ("authorization", &*authorization),
            ("expect", "100-continue"),
            ("content-length", length),
        ];
        connection.send(&frame(HEADERS, END_HEADERS, 1, &head("POST", "/token", &fields)));
        if !body.is_empty() {
            connection.send(&frame(DATA, END_STREAM, 1, body));
        }
        (connection.outcome(1), start.elapsed())
    };
    let length = GRANT.len().to_string();
    assert_eq!(ask(&length, FORM.1, GRANT).0, Outcome::Status(200));
    // The first frame of headers is the final response, and no other precedes it.
    let (outcome, time) = ask(&length, FORM.1, b"");
    assert_eq!(outcome, Outcome::Status(408));
    assert!(time > Duration::from_secs(1), "{time:?}");
    for (length, content_type, status) in [("70000", FORM.1, 413), (&*length, "application/json", 400)] {
        let (outcome, time) = ask(length, content_type, b"");
        assert_eq!(outcome, Outcome::Status(status));
        assert!(time < Duration::from_secs(2), "{time:?}");
    }
}

#[test]
fn paths_are_compared_byte_by_byte_over_http_2() {
    for example in [Example::Standalone, Example::Hyper] {
        let server = Server::start(example, "paths");
        let ask = |method: &str, path: &str| {
            let mut connection = server.http2();
            let fields = head(method, path, &[FORM, ("authorization", &basic())]);
            let body = frame(DATA, END_STREAM, 1, GRANT);
            connection.send(&[frame(HEADERS, END_HEADERS, 1, &fields), body].concat());
            connection.outcome(1)
        };
        let passed_on = ask("POST", "/nowhere");
        let expected = if example == Example::Standalone { 404 } else { 401 };
        assert_eq!(passed_on, Outcome::Status(expected));
        for path in ["/token", "/token?", "/token?a=b"] {
            assert_eq!(ask("POST", path), Outcome::Status(200), "{path}");
        }
        let mut other = 0;
        for path in [
            "//token",
            "/token/",
            "/%74oken",
            "/./token",
            "/a/../token",
            "/Token",
            "/token;a=b",
            "/token%2F",
            "/token%00",
            "*",
        ] {
            assert_eq!(ask("POST", path), passed_on, "{path}");
            other += 1;
        }
        assert_eq!(ask("OPTIONS", "*"), passed_on);
        for path in ["", "token", "http://h/token", "/to ken", "\\token", "/token\0"] {
            let outcome = ask("POST", path);
            println!("{example:?}: {path:?}: {outcome:?}");
            assert!(
                outcome == passed_on || matches!(outcome, Outcome::Reset(1) | Outcome::Status(400)),
                "{path:?}: {outcome:?}"
            );
            other += 1;
        }
        assert_eq!(other, 16);
    }
}

#[test]
fn a_status_is_read_in_each_of_its_forms() {
    assert_eq!(status(&[0x88]), 200);
    assert_eq!(status(&[0x20, 0x8D]), 404);
    assert_eq!(status(&[8, 3, b'4', b'0', b'1']), 401);
    // RFC 7541 appendix C.6.1: 302.
    assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), 302);
}
