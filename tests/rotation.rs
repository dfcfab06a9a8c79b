//! Rotation under load: replicas issue tokens and verify those of each other, remote verifiers follow their key sets, and keys rotate
//! all the time, while replicas are killed, started and cut off from the store.
//!
//! `cargo test` runs a short form with generous leases, in which only a wrong refusal fails: a machine without free cores may
//! answer 503. `scripts/rotation` runs the whole form for a minute on each store, where a 503 counts as refused, too.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::forge;
use common::request::{GRANT, billing_asks};
use common::servers::{Postgres, Redis};
use common::stack::Body;
use common::{API, ISSUER, chain};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use serde_json::Value;
use tower::ServiceExt as _;
use tower_client_credentials::crypto::{Random as _, SystemRandom};
use tower_client_credentials::keys::rotation::{
    KeyEncryptionKey, KeyManager, KeyStore, KeyStoreError, KeyStoreFuture, Replica as Alive, StoredRing,
};
use tower_client_credentials::store::{PostgresStore, RedisStore};
use tower_client_credentials::transport::{HttpClient, HttpError, HttpFuture};
use tower_client_credentials::verification::VerifyError;
use tower_client_credentials::{AuthorizationServer, MemoryStore, RemoteIssuer, Verifier};

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
}

impl Form {
    fn short() -> Self {
        let second = Duration::from_secs(1);
        Self { time: 6 * second, lease: 60 * second, every: second, kill_every: 120 * second, workers: 2 }
    }

    /// `ROTATION_SECONDS` selects the whole form.
    fn whole() -> Option<Self> {
        let seconds = std::env::var("ROTATION_SECONDS").ok()?.parse().unwrap();
        let millis = Duration::from_millis;
        let (time, lease) = (Duration::from_secs(seconds), millis(1_500));
        Some(Self { time, lease, every: millis(2_000), kill_every: millis(5_000), workers: 4 })
    }
}

/// A store from which a replica can be cut off.
#[derive(Clone, Debug)]
struct Link {
    store: Arc<dyn KeyStore>,
    is_cut: Arc<AtomicBool>,
}

impl Link {
    fn check(&self) -> Result<(), KeyStoreError> {
        if self.is_cut.load(Ordering::SeqCst) { Err(KeyStoreError::new("cut off")) } else { Ok(()) }
    }
}

impl KeyStore for Link {
    fn load_ring<'a>(&'a self, ring: &'a str) -> KeyStoreFuture<'a, StoredRing> {
        Box::pin(async move {
            self.check()?;
            self.store.load_ring(ring).await
        })
    }

    fn save_ring<'a>(&'a self, ring: &'a str, over: u64, version: u64, document: &'a str) -> KeyStoreFuture<'a, bool> {
        Box::pin(async move {
            self.check()?;
            self.store.save_ring(ring, over, version, document).await
        })
    }

    fn renew_lease<'a>(&'a self, ring: &'a str, replica: &'a Alive, lease: Duration) -> KeyStoreFuture<'a, ()> {
        Box::pin(async move {
            self.check()?;
            self.store.renew_lease(ring, replica, lease).await
        })
    }
}

struct Replica {
    number: usize,
    manager: KeyManager,
    server: AuthorizationServer,
    verifier: Verifier,
}

impl Replica {
    async fn start(number: usize, link: Link, form: Form) -> Arc<Self> {
        let manager = KeyManager::builder(link, KeyEncryptionKey::from_bytes((0..32).collect::<Vec<u8>>()).unwrap())
            .every(form.every)
            .max_age(Duration::from_secs(1))
            .longest_token(TOKEN_LIFE)
            .margin(Duration::from_millis(200))
            .lease(form.lease)
            .poll_interval(Duration::from_millis(50))
            .connect()
            .await
            .unwrap();
        let server =
            AuthorizationServer::builder(ISSUER, manager.ring(), MemoryStore::try_from(common::clients()).unwrap());
        let server = server.token_lifetime(TOKEN_LIFE).build().unwrap();
        let verifier = server.verifier(API).unwrap();
        Arc::new(Self { number, manager, server, verifier })
    }

    /// Returns a token, or the reason of a 503.
    async fn token(&self) -> Result<String, String> {
        let request: Request<Body> = billing_asks(GRANT).into();
        let request = request.map(|_| Full::new(Bytes::from(GRANT)));
        let response = self.server.token_service().oneshot(request).await.unwrap();
        if let Some(error) = response.extensions().get::<tower_client_credentials::authorization_server::TokenError>() {
            return Err(chain(error));
        }
        let json: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
        Ok(json["access_token"].as_str().unwrap().to_owned())
    }

    async fn document(&self, path: &str) -> Response<Bytes> {
        let request = Request::get("/").body(Full::<Bytes>::default()).unwrap();
        let service =
            if path.ends_with("jwks.json") { self.server.jwks_service() } else { self.server.metadata_service() };
        let (head, body) = service.oneshot(request).await.unwrap().into_parts();
        Response::from_parts(head, body.collect().await.unwrap().to_bytes())
    }

    /// Returns the names of the key set, or `None` if it is not served now.
    async fn key_ids(&self) -> Option<HashSet<String>> {
        let response = self.document("jwks.json").await;
        let json: Value = serde_json::from_slice(response.body()).ok()?;
        Some(json["keys"].as_array()?.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect())
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

    /// Looks at every key set again and again.
    async fn observe(&self) {
        while !self.ends.load(Ordering::Relaxed) {
            for (slot, seen) in self.slots.iter().zip(&self.seen) {
                let replica = slot.lock().unwrap().clone();
                let at = Instant::now();
                let sight = match &replica {
                    Some(replica) => {
                        replica.key_ids().await.map(|key_ids| Sight { at, of: Arc::downgrade(replica), key_ids })
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
            if is_recent && sight.of.strong_count() > 0 && !sight.key_ids.contains(key_id) {
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
                    Err(why) => self.unavailable(replica.number, &format!("token: {why}")),
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
            self.count(verifier.verify(&token).await.map(drop), usize::MAX, &self.counts.verified_remotely, &token);
        } else if let Some(replica) = self.any() {
            self.count(replica.verifier.verify_now(&token).map(drop), replica.number, &self.counts.verified, &token);
        }
    }

    fn count(&self, verified: Result<(), VerifyError>, by: usize, done: &AtomicUsize, token: &str) {
        match verified {
            Ok(()) => add(done),
            Err(VerifyError::Unavailable(error)) => self.unavailable(by, &format!("verifier {by}: {}", chain(&error))),
            Err(error) => {
                println!("refused by {by}: {}; {}", chain(&error), forge::parts(token).0);
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
                    let response = replica.document(request.uri().path()).await;
                    if response.status() != 503 {
                        return Ok(response);
                    }
                }
            }
            Err(HttpError::no_connection("no replica answers"))
        })
    }
}

async fn runs(store: Arc<dyn KeyStore>, form: Form) -> (Arc<Site>, usize) {
    let links: Vec<Link> = (0..SLOTS).map(|_| Link { store: store.clone(), is_cut: Arc::default() }).collect();
    let site = Arc::new(Site {
        slots: (0..SLOTS).map(|_| Mutex::new(None)).collect(),
        seen: (0..SLOTS).map(|_| Mutex::new(None)).collect(),
        tokens: Mutex::default(),
        counts: Counts::default(),
        ends: AtomicBool::new(false),
    });
    for (number, link) in links.iter().enumerate() {
        *site.slots[number].lock().unwrap() = Some(Replica::start(number, link.clone(), form).await);
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
        let now = replica.and_then(|replica| replica.manager.status().signing().map(|key| key.key_id.clone()));
        if now.is_some() && now != signing {
            rotations += usize::from(signing.is_some());
            signing = now;
        }
        let due = u32::try_from(killed + 1).unwrap() * form.kill_every;
        if start.elapsed() >= due {
            // Killed without notice: its lease ends in its time.
            let number = killed % RESTARTED;
            drop(site.slots[number].lock().unwrap().take());
            killed += 1;
            let (restarted, link) = (site.clone(), links[number].clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let replica = Replica::start(number, link, form).await;
                *restarted.slots[number].lock().unwrap() = Some(replica);
            });
            if killed == 2 {
                drop(site.slots[NEVER_BACK].lock().unwrap().take());
            }
            if killed == 3 {
                links[CUT_OFF].is_cut.store(true, Ordering::SeqCst);
            }
        }
    }
    site.ends.store(true, Ordering::Relaxed);
    for task in workers.into_iter().chain([observer]) {
        task.await.unwrap();
    }
    (site, rotations)
}

async fn rotation(name: &str, store: Arc<dyn KeyStore>) {
    let whole = Form::whole();
    let (site, rotations) = runs(store, whole.unwrap_or_else(Form::short)).await;
    let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    let counts = &site.counts;
    println!(
        "{name}: {rotations} rotations, {} tokens issued, {} verified by replicas, {} by remote verifiers, {} refused, {} \
         unavailable, {} unavailable at the replica that is cut off, {} signed by a key that was not published everywhere, {} \
         looks at key sets",
        count(&counts.issued),
        count(&counts.verified),
        count(&counts.verified_remotely),
        count(&counts.refused),
        count(&counts.unavailable),
        count(&counts.unavailable_at_the_cut_off),
        count(&counts.unpublished),
        count(&counts.observations),
    );
    assert_eq!((count(&counts.refused), count(&counts.unpublished)), (0, 0));
    assert!(count(&counts.verified) > 0 && count(&counts.verified_remotely) > 0 && rotations >= 2);
    if whole.is_some() {
        assert_eq!(count(&counts.unavailable), 0);
        assert!(rotations >= 25, "{rotations}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_under_load_on_postgres_without_a_refused_token() {
    let server = Postgres::with(&["fsync=off"]);
    let store = PostgresStore::connect(server.url()).await.unwrap();
    rotation("Postgres", Arc::new(store)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_under_load_on_redis_without_a_refused_token() {
    let server = Redis::with(&["--appendfsync", "no"]);
    let store = RedisStore::connect(&server.url()).await.unwrap();
    rotation("Redis", Arc::new(store)).await;
}
