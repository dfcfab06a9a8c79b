//! Measures how a flood of wrong secrets for one client affects another client, if people chose the secrets of both: how long
//! the other waits for a token without other requests, and during the flood, in turn. Prints a table.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use benches::caller::{Connection, Server, on_core, quantiles, token_request};
use benches::subject::client_id;
use tokio::task::{JoinHandle, LocalSet};

/// The number of attackers and their total rate in guesses per second, many times what a core can hash.
const CALLERS: u8 = 32;
const RATE: f64 = 800.0;

/// How often the other client requests a token in each round.
const TIMES: usize = 100;
const ROUNDS: usize = 4;

struct Case {
    /// Beyond the limit on failed attempts, nothing is hashed for a minute. Below it, as much is hashed as possible. A server
    /// without the limit stays below it during the measurement.
    is_limited: bool,
    addresses: u8,
}

const CASES: [Case; 3] = [
    Case { is_limited: false, addresses: CALLERS },
    Case { is_limited: true, addresses: CALLERS },
    Case { is_limited: true, addresses: 1 },
];

fn main() {
    on_core("1");
    println!(
        "| cores of the server | wrong secrets | from | hashed/s | 503/s | 429/s | another client without flood, p50 and p99, ms | in the flood | ratio of p50 | ratio of p99 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut port = 17_650;
    for cores in ["0", "0,1"] {
        for case in &CASES {
            let server = Server::start(if case.is_limited { "guessed" } else { "guessed-unlimited" }, port, cores);
            port += 1;
            LocalSet::new().block_on(&runtime, measure(&server, case, cores.split(',').count()));
        }
    }
}

async fn measure(server: &Server, case: &Case, cores: usize) {
    // The clock of the server stands still, so a client that has reached the limit stays there.
    while case.is_limited && !Flood::of_a_second(server, case.addresses).await.is_over_the_limit() {}
    let mut other = Connection::open(server.port).await;
    let (mut alone, mut flooded, mut answers) = (Vec::new(), Vec::new(), Answers::default());
    for _ in 0..ROUNDS {
        ask(&mut other, server, &mut alone).await;
        let flood = Flood::begin(server, case.addresses).await;
        ask(&mut other, server, &mut flooded).await;
        answers.add(flood.end().await);
    }
    let ((alone50, alone99), (flooded50, flooded99)) = (quantiles(&alone), quantiles(&flooded));
    let [hashed, busy, limited] = answers.per_second();
    println!(
        "| {cores} | {} | {} | {hashed:.0} | {busy:.0} | {limited:.0} | {alone50:.1}, {alone99:.1} | {flooded50:.1}, {flooded99:.1} | {:.2} | {:.2} |",
        if case.is_limited { "after the limit" } else { "before the limit" },
        if case.addresses == 1 { "one address".to_owned() } else { format!("{} addresses", case.addresses) },
        flooded50 / alone50,
        flooded99 / alone99,
    );
}

/// Sends one request after another, with pauses, and records the time of each in ms.
async fn ask(connection: &mut Connection, server: &Server, times: &mut Vec<f64>) {
    for _ in 0..TIMES {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let sent = Instant::now();
        assert_eq!(
            connection.ask(&server.token_request).await,
            200,
            "the attackers cause another client to be refused"
        );
        times.push(sent.elapsed().as_secs_f64() * 1e3);
    }
}

/// The responses to the attackers.
#[derive(Default)]
struct Answers {
    time: Duration,
    /// Wrong secret; queue full; limit on failed attempts reached.
    counts: [usize; 3],
}

impl Answers {
    fn add(&mut self, other: Self) {
        self.time += other.time;
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
    }

    fn per_second(&self) -> [f64; 3] {
        self.counts.map(|count| count as f64 / self.time.as_secs_f64())
    }

    fn is_over_the_limit(&self) -> bool {
        matches!(self.counts, [0, 0, limited] if limited > 0)
    }
}

struct Flood {
    begun: Instant,
    is_over: Rc<Cell<bool>>,
    callers: Vec<JoinHandle<[usize; 3]>>,
}

impl Flood {
    /// Sends wrong secrets for a client, at a rate, from so many addresses. Returns when the flood has started.
    async fn begin(server: &Server, addresses: u8) -> Self {
        let wrong = token_request(&format!("Basic {}", STANDARD.encode(format!("{}:battery staple", client_id(0)))));
        let (begun, is_over) = (Instant::now(), Rc::new(Cell::new(false)));
        let every = Duration::from_secs_f64(f64::from(CALLERS) / RATE);
        let mut callers = Vec::new();
        for caller in 0..CALLERS {
            let address = Ipv4Addr::new(127, 1, 0, 1 + caller % addresses);
            let mut connection = Connection::open_from(address, server.port).await;
            let (is_over, wrong) = (is_over.clone(), wrong.clone());
            let mut next = begun + every.mul_f64(f64::from(caller) / f64::from(CALLERS));
            callers.push(tokio::task::spawn_local(async move {
                let mut counts = [0; 3];
                while !is_over.get() {
                    tokio::time::sleep_until(next.into()).await;
                    match connection.ask(&wrong).await {
                        401 => counts[0] += 1,
                        503 => counts[1] += 1,
                        429 => counts[2] += 1,
                        other => panic!("a status of {other}"),
                    }
                    // A late caller sends at once and does not make up for requests that it missed.
                    next = (next + every).max(Instant::now());
                }
                counts
            }));
        }
        tokio::time::sleep(2 * every).await;
        Self { begun, is_over, callers }
    }

    /// Returns after the last of them was answered, so that no request is left in the queue.
    async fn end(self) -> Answers {
        self.is_over.set(true);
        let mut answers = Answers::default();
        for caller in self.callers {
            answers.add(Answers { time: Duration::ZERO, counts: caller.await.unwrap() });
        }
        Answers { time: self.begun.elapsed(), ..answers }
    }

    async fn of_a_second(server: &Server, addresses: u8) -> Answers {
        let flood = Self::begin(server, addresses).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        flood.end().await
    }
}
