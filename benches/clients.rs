//! Compares the cost of a registry of a million clients with one of ten, in SQLite and in Postgres, and checks whether issuing
//! a million tokens leaves anything behind. Run `cargo bench --bench clients --features sqlite,postgres`, with another number
//! of clients after `--` if needed. The cost of a new client in a file is a row of `benches/src/bin/growth.rs`.
//!
//! Nothing here fails; the output is for reading.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/common/servers.rs"]
#[allow(dead_code, unreachable_pub)]
mod servers;

use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;
use tower_client_credentials::authorization_server::ClientCacheLimits;
use tower_client_credentials::registration::RegisteredClient;
use tower_client_credentials::store::{ChangeFeed as _, ClientAdmin, Cursor, PostgresStore, SqliteStore};
use tower_client_credentials::{AuthorizationServer, Client, ClientSecret, KeyRing};

const API: &str = "https://api.example.com";

/// How many of the many clients are requested repeatedly. The cache holds ten times as many.
const HOT: usize = 1_000;
const FEW: usize = 10;
const TOKENS: usize = 1_000_000;

fn main() {
    let many = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    // Stores return connections in tasks, which a single thread would run only with the next request.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let bench = Bench { runtime, secret: ClientSecret::generate().unwrap(), many };
    let folder = tempfile::tempdir().unwrap();
    let sqlite =
        |name: &str| bench.runtime.block_on(SqliteStore::open(format!("sqlite://{}/{name}", folder.path().display())));
    bench.run("SQLite", sqlite("few.db").unwrap(), sqlite("many.db").unwrap());
    let (few, many) = (servers::Postgres::start(), servers::Postgres::start());
    let postgres = |server: &servers::Postgres| bench.runtime.block_on(PostgresStore::connect(server.url()));
    bench.run("Postgres", postgres(&few).unwrap(), postgres(&many).unwrap());
    bench.million_tokens(sqlite("tokens.db").unwrap());
}

struct Bench {
    runtime: Runtime,
    secret: ClientSecret,
    many: usize,
}

impl Bench {
    fn run<S: ClientAdmin + Clone>(&self, name: &str, few: S, many: S) {
        println!("{name}, {} clients compared with {FEW}; this process has {}", self.many, memory());
        self.fill(&few, FEW);
        let start = Instant::now();
        self.fill(&many, self.many);
        println!("  created in {:?}; {}", start.elapsed(), memory());
        let cached = [
            Self::server(&few, Some(ClientCacheLimits::default())),
            Self::server(&many, Some(ClientCacheLimits::default())),
        ];
        let [mut of_few, mut of_hot, mut of_all] = [draw(FEW), draw(HOT.min(self.many)), draw(self.many)];
        // Puts the hot clients into the cache.
        for number in 0..HOT.min(self.many) {
            self.ask(&cached[1], number);
        }
        compare(
            "a token, of the hot / of ten",
            5_000,
            || self.ask(&cached[1], of_hot()),
            || self.ask(&cached[0], of_few()),
        );
        // Each request bypasses the cache: nearly always with the many clients, and always with the few.
        let nothing = ClientCacheLimits::default().entries(0);
        let cold = Self::server(&few, Some(nothing));
        compare(
            "a token, of all / of ten, looked up cold",
            20_000,
            || self.ask(&cached[1], of_all()),
            || self.ask(&cold, of_few()),
        );
        let [many, few] = [Self::server(&many, None), Self::server(&few, None)];
        compare(
            "the same without a cache to go past",
            20_000,
            || self.ask(&many, of_all()),
            || self.ask(&few, of_few()),
        );
        println!("  a cache full of clients: {}", memory());
    }

    fn million_tokens(&self, store: SqliteStore) {
        self.fill(&store, FEW);
        let server = Self::server(&store, Some(ClientCacheLimits::default()));
        let rows = || self.runtime.block_on(store.changes(&Cursor::start())).unwrap().changes.len();
        for number in 0..TOKENS / 100 {
            self.ask(&server, number % FEW);
        }
        let (before, rows_before) = (memory(), rows());
        for number in 0..TOKENS {
            self.ask(&server, number % FEW);
        }
        println!("{TOKENS} tokens: {before} before, {} after; {rows_before} rows before, {} after", memory(), rows());
    }

    fn fill<S: ClientAdmin>(&self, store: &S, count: usize) {
        let mut clients = (0..count).map(|number| self.client(number)).peekable();
        while clients.peek().is_some() {
            let some = clients.by_ref().take(50_000).collect();
            self.runtime.block_on(store.create_all(some)).unwrap();
        }
    }

    fn client(&self, number: usize) -> RegisteredClient {
        Client::new(id(number), &self.secret).audience(API).register().unwrap()
    }

    fn server<S: ClientAdmin + Clone>(store: &S, cache: Option<ClientCacheLimits>) -> AuthorizationServer {
        let server =
            AuthorizationServer::builder("https://auth.example.com", KeyRing::generate().unwrap(), store.clone());
        server.client_cache(cache).build().unwrap()
    }

    /// The time of a token request, from its first byte in memory to the head of its response.
    fn ask(&self, server: &AuthorizationServer, number: usize) {
        let credentials = STANDARD.encode(format!("{}:{}", id(number), self.secret.expose()));
        let request = Request::post("/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", format!("Basic {credentials}"))
            .body(Full::new(Bytes::from_static(b"grant_type=client_credentials")))
            .unwrap();
        let answer = self.runtime.block_on(server.token_service().oneshot(request)).unwrap();
        assert_eq!(black_box(answer).status(), 200);
    }
}

fn id(number: usize) -> String {
    format!("client-{number:07}")
}

/// Returns numbers below a limit, evenly distributed and the same in each run (xorshift64).
fn draw(below: usize) -> impl FnMut() -> usize {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    }
}

/// Measures both in turn, and prints the medians and their ratio.
fn compare(what: &str, rounds: usize, mut one: impl FnMut(), mut other: impl FnMut()) {
    let (mut ones, mut others) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
    for round in 0..rounds + rounds / 10 {
        let times = (time(&mut one), time(&mut other));
        // The first tenth is warm-up.
        if round >= rounds / 10 {
            ones.push(times.0);
            others.push(times.1);
        }
    }
    let (one, other) = (median(ones), median(others));
    println!("  {what:<44} {one:>10.1?} {other:>10.1?} {:>7.3}", one.as_secs_f64() / other.as_secs_f64());
}

fn time(work: &mut impl FnMut()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Returns the resident part of it.
struct Memory(u64);

fn memory() -> Memory {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    Memory(line.trim().trim_end_matches(" kB").parse().unwrap())
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0 / 1024)
    }
}
