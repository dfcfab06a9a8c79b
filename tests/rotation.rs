//! Rotation under load: replicas issue tokens and verify those of each other, remote verifiers follow their key sets, and keys rotate
//! all the time, while replicas are killed, started and cut off from the store.
//!
//! `cargo test` runs a short form with generous leases, in which only a wrong refusal fails: a machine without free cores may
//! answer 503. `scripts/rotation` runs the whole form for a minute on each store, where a 503 counts as refused, too.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;
#[path = "rotation/replica.rs"]
mod replica;

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::forge;
use common::servers::{Postgres, Redis};
use common::{API, ISSUER};
use http::Request;
use hyper::body::Bytes;
use replica::{Failure, Replica};
use tower_client_credentials::crypto::{Random as _, SystemRandom};
use tower_client_credentials::transport::{HttpClient, HttpError, HttpFuture};
use tower_client_credentials::{RemoteIssuer, Verifier};

const TOKEN_LIFE: Duration = Duration::from_secs(10);

/// How long before its expiry a token is no longer verified, so that no verification takes it past its end.
const SPARE: Duration = Duration::from_secs(2);

/// One whose replica is killed and started again and again; the next never comes back; the last is cut off from the store.
const SLOTS: usize = 5;
const RESTARTED: usize = 3;
const NEVER_BACK: usize = 3;
const CUT_OFF: usize = 4;

/// How the scenario runs.
#[derive(Clone, Copy)]
struct Form {
    time: Duration,
    lease: Duration,
    every: Duration,
    kill_every: Duration,
    workers: usize,
    /// How many replicas have a process of their own.
    apart: usize,
}

impl Form {
    fn short() -> Self {
        let second = Duration::from_secs(1);
        Self { time: 6 * second, lease: 60 * second, every: second, kill_every: 120 * second, workers: 2, apart: 1 }
    }

    /// `ROTATION_SECONDS` selects the whole form.
    fn whole() -> Option<Self> {
        let seconds = std::env::var("ROTATION_SECONDS").ok()?.parse().unwrap();
        let millis = Duration::from_millis;
        let (time, lease) = (Duration::from_secs(seconds), millis(1_500));
        Some(Self { time, lease, every: millis(2_000), kill_every: millis(5_000), workers: 4, apart: SLOTS })
    }
}

/// The replicas behind a load balancer.
struct Site {
    slots: Vec<Mutex<Option<Arc<Replica>>>>,
    /// What the observer saw last of each replica: when, of which one, and the names of its key set.
    seen: Vec<Mutex<Option<Sight>>>,
    tokens: Mutex<VecDeque<(Instant, String)>>,
    counts: Counts,
    ends: AtomicBool,
}

struct Sight {
    at: Instant,
    of: std::sync::Weak<Replica>,
    key_ids: HashSet<String>,
}

#[derive(Default)]
struct Counts {
    issued: AtomicUsize,
    verified: AtomicUsize,
    verified_remotely: AtomicUsize,
    refused: AtomicUsize,
    unavailable: AtomicUsize,
    unavailable_at_the_cut_off: AtomicUsize,
    /// Requests to a process that was killed before it answered.
    lost: AtomicUsize,
    unpublished: AtomicUsize,
    observations: AtomicUsize,
}

fn add(count: &AtomicUsize) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn below(bound: usize) -> usize {
    let mut bytes = [0; 4];
    SystemRandom.fill(&mut bytes).unwrap();
    u32::from_ne_bytes(bytes) as usize % bound
}

impl Site {
    fn any(&self) -> Option<Arc<Replica>> {
        self.slots[below(SLOTS)].lock().unwrap().clone()
    }

    /// Kills a replica, and sends it no more requests.
    fn kill(&self, number: usize) {
        let replica = self.slots[number].lock().unwrap().take();
        if let Some(replica) = replica {
            replica.kill();
        }
    }

    /// Looks at every key set again and again.
    async fn observe(&self) {
        while !self.ends.load(Ordering::Relaxed) {
            for (slot, seen) in self.slots.iter().zip(&self.seen) {
                let replica = slot.lock().unwrap().clone();
                let at = Instant::now();
                let sight = match &replica {
                    Some(replica) => {
                        let key_ids = replica.key_ids().await;
                        let sight = |key_ids: Vec<String>| Sight {
                            at,
                            of: Arc::downgrade(replica),
                            key_ids: key_ids.into_iter().collect(),
                        };
                        key_ids.map(sight)
                    }
                    None => None,
                };
                *seen.lock().unwrap() = sight;
                add(&self.counts.observations);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Checks that every replica that was seen before the token was requested published its key then.
    fn check_published(&self, token: &str, requested_at: Instant) {
        let header = forge::parts(token).0;
        let key_id = header["kid"].as_str().unwrap();
        for seen in &self.seen {
            let seen = seen.lock().unwrap();
            let Some(sight) = seen.as_ref() else { continue };
            let is_recent = sight.at <= requested_at && requested_at - sight.at < Duration::from_millis(500);
            let is_alive = sight.of.upgrade().is_some_and(|replica| !replica.is_dead());
            if is_recent && is_alive && !sight.key_ids.contains(key_id) {
                println!("signed by {key_id}, which a replica did not publish");
                add(&self.counts.unpublished);
            }
        }
    }

    /// Issues and verifies, as fast as the machine can.
    async fn work(&self, remote: &[Verifier]) {
        while !self.ends.load(Ordering::Relaxed) {
            if let Some(replica) = self.any() {
                let requested_at = Instant::now();
                match replica.token().await {
                    Ok(token) => {
                        add(&self.counts.issued);
                        self.check_published(&token, requested_at);
                        let mut tokens = self.tokens.lock().unwrap();
                        tokens.push_back((requested_at, token));
                        if tokens.len() > 2_000 {
                            tokens.pop_front();
                        }
                    }
                    Err(failure) => self.failed(failure, replica.number, "token", ""),
                }
            }
            for _ in 0..4 {
                self.verify(remote).await;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn verify(&self, remote: &[Verifier]) {
        let Some((issued_at, token)) = ({
            let tokens = self.tokens.lock().unwrap();
            if tokens.is_empty() { None } else { tokens.get(below(tokens.len())).cloned() }
        }) else {
            return;
        };
        if issued_at.elapsed() + SPARE > TOKEN_LIFE {
            return;
        }
        if below(2) == 0 {
            let verifier = &remote[below(remote.len())];
            let result = verifier.verify(&token).await.map(drop).map_err(Failure::from);
            self.count(result, usize::MAX, &self.counts.verified_remotely, &token);
        } else if let Some(replica) = self.any() {
            self.count(replica.verify(&token).await, replica.number, &self.counts.verified, &token);
        }
    }

    fn count(&self, verified: Result<(), Failure>, by: usize, done: &AtomicUsize, token: &str) {
        match verified {
            Ok(()) => add(done),
            Err(failure) => self.failed(failure, by, "verification", token),
        }
    }

    fn failed(&self, failure: Failure, by: usize, what: &str, token: &str) {
        match failure {
            Failure::Lost => add(&self.counts.lost),
            Failure::Unavailable(why) => self.unavailable(by, &format!("{what} by {by}: {why}")),
            Failure::Refused(why) => {
                let header = if token.is_empty() { String::new() } else { forge::parts(token).0.to_string() };
                println!("refused by {by}: {what}: {why}; {header}");
                add(&self.counts.refused);
            }
        }
    }

    fn unavailable(&self, by: usize, why: &str) {
        if by == CUT_OFF {
            add(&self.counts.unavailable_at_the_cut_off);
        } else {
            if self.counts.unavailable.load(Ordering::Relaxed) < 10 {
                println!("unavailable: {why}");
            }
            add(&self.counts.unavailable);
        }
    }
}

/// The load balancer, as remote verifiers reach it.
#[derive(Clone)]
struct Balancer(Arc<Site>);

impl std::fmt::Debug for Balancer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Balancer")
    }
}

impl HttpClient for Balancer {
    fn send(&self, request: Request<Bytes>, _: usize) -> HttpFuture<'_> {
        HttpFuture::new(async move {
            for _ in 0..20 {
                if let Some(replica) = self.0.any() {
                    match replica.document(request.uri().path()).await {
                        Some(response) if response.status() != 503 => return Ok(response),
                        _ => {}
                    }
                }
            }
            Err(HttpError::no_connection("no replica answers"))
        })
    }
}

async fn start_replica(number: usize, url: &str, form: Form) -> Arc<Replica> {
    if number < form.apart { Replica::apart(number, url, form).await } else { Replica::here(number, url, form).await }
}

async fn runs(url: &str, form: Form) -> (Arc<Site>, usize) {
    let site = Arc::new(Site {
        slots: (0..SLOTS).map(|_| Mutex::new(None)).collect(),
        seen: (0..SLOTS).map(|_| Mutex::new(None)).collect(),
        tokens: Mutex::default(),
        counts: Counts::default(),
        ends: AtomicBool::new(false),
    });
    for number in 0..SLOTS {
        let replica = start_replica(number, url, form).await;
        *site.slots[number].lock().unwrap() = Some(replica);
    }
    let mut remote = Vec::new();
    for _ in 0..2 {
        let issuer = RemoteIssuer::new(ISSUER, API).unwrap().http_client(Balancer(site.clone()));
        let issuer = issuer.jwks_url(format!("{ISSUER}/.well-known/jwks.json")).unwrap();
        let issuer = issuer.least_freshness(Duration::from_secs(1)).unknown_key_cooldown(Duration::from_secs(1));
        remote.push(issuer.connect().await.unwrap());
    }
    let observer = tokio::spawn({
        let site = site.clone();
        async move { site.observe().await }
    });
    let workers: Vec<_> = (0..form.workers)
        .map(|_| {
            let (site, remote) = (site.clone(), remote.clone());
            tokio::spawn(async move { site.work(&remote).await })
        })
        .collect();

    let (start, mut rotations, mut signing, mut killed) = (Instant::now(), 0, None, 0);
    // In the short form, as long as a slow machine needs for some rotations.
    while start.elapsed() < form.time || (rotations < 2 && start.elapsed() < Duration::from_secs(240)) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let replica = site.slots[0].lock().unwrap().clone().or_else(|| site.slots[1].lock().unwrap().clone());
        let now = match replica {
            Some(replica) => replica.signing().await,
            None => None,
        };
        if now.is_some() && now != signing {
            rotations += usize::from(signing.is_some());
            signing = now;
        }
        let due = u32::try_from(killed + 1).unwrap() * form.kill_every;
        if start.elapsed() >= due {
            // Killed without notice: its lease ends in its time.
            let number = killed % RESTARTED;
            site.kill(number);
            killed += 1;
            let (restarted, url) = (site.clone(), url.to_owned());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let replica = start_replica(number, &url, form).await;
                *restarted.slots[number].lock().unwrap() = Some(replica);
            });
            if killed == 2 {
                site.kill(NEVER_BACK);
            }
            let cut_off = site.slots[CUT_OFF].lock().unwrap().clone();
            if killed == 3
                && let Some(replica) = cut_off
            {
                replica.cut_off().await;
            }
        }
    }
    site.ends.store(true, Ordering::Relaxed);
    for task in workers.into_iter().chain([observer]) {
        task.await.unwrap();
    }
    (site, rotations)
}

async fn rotation(name: &str, url: &str) {
    let whole = Form::whole();
    let form = whole.unwrap_or_else(Form::short);
    let (site, rotations) = runs(url, form).await;
    let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    let counts = &site.counts;
    println!(
        "{name}: {rotations} rotations, {} tokens issued, {} verified by replicas, {} by remote verifiers, {} refused, {} \
         unavailable, {} unavailable at the replica that is cut off, {} lost with a process that was killed, {} signed by a key that was not published everywhere, {} \
         looks at key sets",
        count(&counts.issued),
        count(&counts.verified),
        count(&counts.verified_remotely),
        count(&counts.refused),
        count(&counts.unavailable),
        count(&counts.unavailable_at_the_cut_off),
        count(&counts.lost),
        count(&counts.unpublished),
        count(&counts.observations),
    );
    assert_eq!((count(&counts.refused), count(&counts.unpublished)), (0, 0));
    assert!(count(&counts.verified) > 0 && count(&counts.verified_remotely) > 0 && rotations >= 2);
    if whole.is_some() {
        assert_eq!(count(&counts.unavailable), 0);
        // A rotation every 2 s, so 25 in the whole minute.
        let expected = usize::try_from(form.time.as_secs() * 5 / 12).unwrap();
        assert!(rotations >= expected, "{rotations} of {expected}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_under_load_on_postgres_without_a_refused_token() {
    let server = Postgres::with(&["fsync=off"]);
    rotation("Postgres", &server.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_under_load_on_redis_without_a_refused_token() {
    let server = Redis::with(&["--appendfsync", "no"]);
    rotation("Redis", &server.url()).await;
}

/// Not a test of its own: what a replica with a process of its own runs.
#[tokio::test]
#[ignore = "another test of this file starts it as a process"]
async fn replica_process() {
    replica::serve().await;
}
