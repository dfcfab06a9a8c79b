//! Measures the token endpoint under four times the load that it can serve. The server runs on one core. Callers on another
//! core send on schedule whether or not they are answered, as far as the connections allow. In addition, one caller sends a
//! token to a protected route of the same server every 5 ms. Prints a table of all servers, or of those named in the arguments.

use std::cell::RefCell;
use std::ops::AddAssign;
use std::rc::Rc;
use std::time::{Duration, Instant};

use benches::caller::{Connection, Server, on_core, quantiles};
use tokio::task::{JoinHandle, LocalSet};

/// The numbers of connections: those of a pool in front of the process, and those of many direct callers.
const CONNECTIONS: [u32; 2] = [64, 512];
/// The duration of one load, and the number of rounds.
const TIME: Duration = Duration::from_secs(1);
const ROUNDS: u32 = 7;

/// The name of the server, its description, and how many callers keep it busy, each sending again at once, without being
/// refused.
const SERVERS: [(&str, &str, u32); 7] = [
    ("flood-es256", "ES256, no limit", 16),
    ("flood-es256-queue", "ES256, `token_queue(16)`", 16),
    ("flood-es256-long-queue", "ES256, `token_queue(1024)`", 16),
    ("flood-rs256", "RS256, no limit", 16),
    ("flood-rs256-queue", "RS256, `token_queue(16)`", 16),
    ("flood-argon2", "argon2id secrets, with only their own limit", 4),
    ("flood-argon2-yielding", "the same, on a thread with a lower priority (`slow_checks_on`)", 4),
];

fn main() {
    on_core("1");
    println!(
        "| server | peak, tokens/s | connections | offered load at 4 × | tokens/s | of the peak | refused/s | refusal, p50 and p99, ms | verification, p50 and p99, ms: idle | at 0.8 × | at 4 × |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let asked: Vec<String> = std::env::args().skip(1).collect();
    for (place, (name, title, enough)) in SERVERS.into_iter().enumerate() {
        if !asked.is_empty() && !asked.iter().any(|asked| asked == name) {
            continue;
        }
        let port = 17_600 + u16::try_from(place).unwrap();
        let server = Server::start(name, port, "0");
        LocalSet::new().block_on(&runtime, measure(&server, title, enough));
    }
}

async fn measure(server: &Server, title: &str, enough: u32) {
    let [mut idle, mut busy] = [(); 2].map(|()| Seen::default());
    let mut loads = CONNECTIONS.map(|connections| (connections, Seen::default(), Seen::default(), Vec::new()));
    for _ in 0..ROUNDS {
        idle += probed(server, None).await;
        let now = probed(server, Some((enough, f64::INFINITY))).await;
        let rate = now.good as f64 / TIME.as_secs_f64();
        busy += now;
        for (connections, most, flooded, parts) in &mut loads {
            *most += probed(server, Some((*connections, rate * 0.8))).await;
            let now = probed(server, Some((*connections, rate * 4.0))).await;
            parts.push(now.good as f64 / TIME.as_secs_f64() / rate);
            *flooded += now;
        }
    }
    let peak = busy.good_per_second();
    let millis = |(p50, p99): (f64, f64)| if p50.is_nan() { "–".to_owned() } else { format!("{p50:.1}, {p99:.1}") };
    for (connections, most, flooded, parts) in &loads {
        println!(
            "| {title} | {peak:.0} | {connections} | {:.0} | {:.0} | {:.0} % | {:.0} | {} | {} | {} | {} |",
            flooded.sent_per_second(),
            flooded.good_per_second(),
            // Compares figures of the same round, so that a machine that is slow for a while is slow for both.
            100.0 * quantiles(parts).0,
            flooded.refused.len() as f64 / (TIME * ROUNDS).as_secs_f64(),
            millis(quantiles(&flooded.refused)),
            millis(quantiles(&idle.probes)),
            millis(quantiles(&most.probes)),
            millis(quantiles(&flooded.probes)),
        );
    }
}

#[derive(Default)]
struct Seen {
    sent: usize,
    good: usize,
    /// The time of each refusal and of each verification, in ms.
    refused: Vec<f64>,
    probes: Vec<f64>,
}

impl Seen {
    fn good_per_second(&self) -> f64 {
        self.good as f64 / (TIME * ROUNDS).as_secs_f64()
    }

    fn sent_per_second(&self) -> f64 {
        self.sent as f64 / (TIME * ROUNDS).as_secs_f64()
    }
}

impl AddAssign for Seen {
    fn add_assign(&mut self, more: Self) {
        self.sent += more.sent;
        self.good += more.good;
        self.refused.extend(more.refused);
        self.probes.extend(more.probes);
    }
}

/// Runs callers at a total rate, and the caller with the token in addition.
async fn probed(server: &Server, callers: Option<(u32, f64)>) -> Seen {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let start = Instant::now() + Duration::from_millis(100);
    let mut tasks: Vec<JoinHandle<()>> = Vec::new();
    for caller in 0..callers.map_or(0, |(callers, _)| callers) {
        let (callers, rate) = callers.unwrap();
        let every = Duration::from_secs_f64(f64::from(callers) / rate);
        let first = start + every.mul_f64(f64::from(caller) / f64::from(callers));
        let (mut connection, seen) = (Connection::open(server.port).await, seen.clone());
        let request = server.token_request.clone();
        tasks.push(tokio::task::spawn_local(async move {
            let mut next = first;
            while start.elapsed() < TIME {
                // A sleep of zero lasts until the next millisecond of the timer.
                if next > Instant::now() {
                    tokio::time::sleep_until(next.min(start + TIME).into()).await;
                }
                let sent = Instant::now();
                // Requests scheduled later are not sent, and responses that arrive later do not count.
                if sent.duration_since(start) >= TIME {
                    break;
                }
                let status = connection.ask(&request).await;
                if start.elapsed() >= TIME {
                    break;
                }
                let mut seen = seen.borrow_mut();
                seen.sent += 1;
                match status {
                    200 => seen.good += 1,
                    429 | 503 => seen.refused.push(sent.elapsed().as_secs_f64() * 1e3),
                    other => panic!("a status of {other}"),
                }
                // A late caller sends at once and does not make up for requests that it missed.
                next = (next + every).max(Instant::now());
            }
        }));
    }
    let (mut probe, others, request) =
        (Connection::open(server.port).await, seen.clone(), server.route_request.clone());
    tasks.push(tokio::task::spawn_local(async move {
        tokio::time::sleep_until(start.into()).await;
        while start.elapsed() < TIME {
            let sent = Instant::now();
            assert_eq!(probe.ask(&request).await, 200);
            others.borrow_mut().probes.push(sent.elapsed().as_secs_f64() * 1e3);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }));
    for task in tasks {
        task.await.unwrap();
    }
    Rc::into_inner(seen).unwrap().into_inner()
}
