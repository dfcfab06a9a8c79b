//! Three processes of the example `standalone` on one store, under load from this process: a token issued by one is accepted by
//! all, and a token revoked at one, or by the operator, is refused by all within a second.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)] // helpers of tests, which may

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::forge::{Draft, encode, foreign_key};
use common::servers::{Postgres, Redis};
use common::{SECRET, client};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower_client_credentials::registration::Credential;
use tower_client_credentials::store::{ClientAdmin, PostgresStore, RedisStore};
use tower_client_credentials::{ClientId, Scope};

/// How long a revoked token may still be accepted.
const BOUND: Duration = Duration::from_secs(1);

/// How long it may take on a machine that is busy with other tests. The tests print how long it takes.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a replica may take to follow its store again, or to answer, after the store is back: a hanging call ends with its
/// deadline of two seconds, and the next poll comes within 0.8. The rest is for a busy machine.
const REFOLLOWED: Duration = Duration::from_secs(20);
/// The number of rounds for each measurement.
const ROUNDS: usize = 8;

/// The key comes from a file, so that all replicas sign with it. The clients are in the store.
const SETTINGS: &str = r#"listen = "127.0.0.1:0"
issuer = "http://127.0.0.1:3000"

[keys]
sign = "KEY"

[tokens]
scope = "read"

[[resources]]
audience = "https://api.example.test/"

[[routes]]
path = "/api/read"
scope = "read"
"#;

#[derive(Clone)]
struct Caller {
    http: Client<HttpConnector, Full<Bytes>>,
    replicas: Vec<SocketAddr>,
}

impl Caller {
    async fn send(&self, request: Request<Full<Bytes>>) -> (StatusCode, Bytes) {
        let answer = self.http.request(request).await.unwrap();
        let status = answer.status();
        (status, answer.into_body().collect().await.unwrap().to_bytes())
    }

    async fn post(&self, replica: usize, path: &str, id: &str, form: String) -> (StatusCode, Bytes) {
        let credentials = STANDARD.encode(format!("{id}:{}", SECRET.as_str()));
        let request = Request::post(format!("http://{}{path}", self.replicas[replica]))
            .header(AUTHORIZATION, format!("Basic {credentials}"))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(Full::from(form)).unwrap()).await
    }

    async fn ask(&self, replica: usize, id: &str) -> (StatusCode, Bytes) {
        self.post(replica, "/token", id, "grant_type=client_credentials&scope=read".to_owned()).await
    }

    async fn token(&self, replica: usize, id: &str) -> String {
        let (status, body) = self.ask(replica, id).await;
        assert_eq!(status, StatusCode::OK, "{body:?}");
        let answer: Value = serde_json::from_slice(&body).unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// Uses a token at the protected route.
    async fn read(&self, replica: usize, token: &str) -> StatusCode {
        let request = Request::get(format!("http://{}/api/read", self.replicas[replica]));
        let request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        self.send(request.body(Full::default()).unwrap()).await.0
    }

    /// Returns the time from `since` to the last request that a replica accepted. The statuses in `unavailable` count as neither
    /// accepted nor refused.
    async fn last_accepted<F>(
        &self,
        since: Instant,
        unavailable: &[StatusCode],
        attempt: impl Fn(Self, usize) -> F,
    ) -> Duration
    where
        F: Future<Output = StatusCode>,
    {
        let replicas = (0..self.replicas.len()).map(async |replica| {
            let (mut last, mut refused) = (Duration::ZERO, 0);
            // The decision is final after several refusals in a row.
            while refused < 5 {
                let sent = since.elapsed();
                match attempt(self.clone(), replica).await {
                    StatusCode::OK => (last, refused) = (sent, 0),
                    StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS => refused += 1,
                    other if unavailable.contains(&other) => {}
                    other => panic!("{other}"),
                }
                assert!(sent < Duration::from_secs(20), "replica {replica} never refuses it");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            last
        });
        futures_util::future::join_all(replicas).await.into_iter().max().unwrap()
    }
}

/// The processes, which end when this is dropped.
struct Replicas {
    children: Vec<Child>,
    caller: Caller,
    _folder: TempDir,
}

impl Replicas {
    fn start(count: usize, store: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("standalone.toml");
        let key = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/p256.pem");
        fs::write(&settings, SETTINGS.replace("KEY", key)).unwrap();
        let mut path = std::env::current_exe().unwrap();
        path.pop(); // the test
        path.pop(); // deps
        path.push("examples/standalone");
        assert!(path.exists(), "{} is not built: cargo build --all-features --example standalone", path.display());
        let mut children = Vec::new();
        let mut replicas = Vec::new();
        for _ in 0..count {
            let mut command = Command::new(&path);
            command.arg("--config").arg(&settings).env("TCC_STORE", store).env("RUST_LOG", "off");
            children.push(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
        }
        for child in &mut children {
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            replicas.push(line.trim_end().strip_prefix("listening on http://").unwrap().parse().unwrap());
        }
        let http = Client::builder(TokioExecutor::new()).build_http();
        Self { children, caller: Caller { http, replicas }, _folder: folder }
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Requests tokens at any replica and uses them at any other, until it is stopped. No request may fail.
fn load(caller: &Caller, stop: &Arc<AtomicBool>, served: &Arc<AtomicU64>) -> Vec<tokio::task::JoinHandle<()>> {
    let task = |worker: usize| {
        let (caller, stop, served) = (caller.clone(), stop.clone(), served.clone());
        tokio::spawn(async move {
            let count = caller.replicas.len();
            for round in worker.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let token = caller.token(round % count, "load").await;
                for use_of_it in 1..=4 {
                    let status = caller.read((round + use_of_it) % count, &token).await;
                    assert_eq!(status, StatusCode::OK);
                }
                served.fetch_add(5, Ordering::Relaxed);
            }
        })
    };
    (0..4).map(task).collect()
}

async fn replicas_agree(name: &str, url: &str, store: impl ClientAdmin) {
    let registered = |id: &str| client(id).scope(Scope::from_static("read")).register().unwrap();
    store.create(registered("load")).await.unwrap();
    store.create(registered("billing")).await.unwrap();
    let running = Replicas::start(3, url);
    let caller = &running.caller;
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let workers = load(caller, &stop, &served);

    let (mut revoked, mut disabled, mut shut_out) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for round in 0..ROUNDS {
        let at = round % 3;
        let token = caller.token(at, "billing").await;
        for replica in 0..3 {
            assert_eq!(caller.read(replica, &token).await, StatusCode::OK, "a token from {at} at {replica}");
        }
        let (status, body) = caller.post(at, "/revoke", "billing", format!("token={token}")).await;
        assert_eq!(status, StatusCode::OK, "{body:?}");
        let last = caller.last_accepted(Instant::now(), &[], |caller, replica| {
            let token = token.clone();
            async move { caller.read(replica, &token).await }
        });
        revoked = revoked.max(last.await);
        assert!(revoked < LIMIT, "a revoked token was accepted after {revoked:?}");

        let id = format!("victim-{round}");
        store.create(registered(&id)).await.unwrap();
        let mut token = String::new();
        for replica in 0..3 {
            token = caller.token(replica, &id).await; // and each has the client in its cache
        }
        store.disable(&id.parse::<ClientId>().unwrap()).await.unwrap();
        let since = Instant::now();
        let by_token = caller.last_accepted(since, &[], |caller, replica| {
            let token = token.clone();
            async move { caller.read(replica, &token).await }
        });
        // If the revocation is already known but the disabled client is not yet, it gets a 503.
        let by_secret = caller.last_accepted(since, &[StatusCode::SERVICE_UNAVAILABLE], |caller, replica| {
            let id = id.clone();
            async move { caller.ask(replica, &id).await.0 }
        });
        let (by_token, by_secret) = futures_util::future::join(by_token, by_secret).await;
        (disabled, shut_out) = (disabled.max(by_token), shut_out.max(by_secret));
        assert!(disabled < LIMIT, "a token of a disabled client was accepted after {disabled:?}");
        assert!(shut_out < LIMIT, "a disabled client got a token after {shut_out:?}");
    }
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    println!(
        "3 replicas on {name}, {ROUNDS} rounds, {} other requests served meanwhile and none refused: a revoked token was \
         last accepted {revoked:?} after its revocation, a token of a disabled client {disabled:?} after that, its secret \
         {shut_out:?}",
        served.load(Ordering::Relaxed)
    );
    assert!(served.load(Ordering::Relaxed) > 100, "there was no load");
}

/// Sends one assertion in 200 simultaneous requests to two replicas. Each of them may get a token, and only one does.
async fn one_of_200_requests_gets_a_token(name: &str, url: &str, store: impl ClientAdmin) {
    let key = foreign_key();
    let point = key.verifying_key().to_encoded_point(false);
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": encode(point.x().unwrap()), "y": encode(point.y().unwrap())});
    let keys = Credential::jwks(json!({"keys": [jwk]}).to_string()).unwrap();
    let signer = tower_client_credentials::Client::with_credential("signer", keys);
    store.create(signer.scope(Scope::from_static("read")).register().unwrap()).await.unwrap();
    let running = Replicas::start(2, url);
    // A machine that is busy may answer some requests with 503. Another assertion is sent then.
    for attempt in 0..20 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({
            "iss": "signer", "sub": "signer", "aud": "http://127.0.0.1:3000", "exp": now + 240,
            "jti": format!("attempt {attempt}"),
        });
        let assertion = Draft { header: r#"{"alg":"ES256"}"#.to_owned(), claims: claims.to_string() }.sign_with(&key);
        let form = format!(
            "grant_type=client_credentials&client_assertion={assertion}\
             &client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        );
        let send = |number: usize| {
            let request = Request::post(format!("http://{}/token", running.caller.replicas[number % 2]))
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Full::from(form.clone()))
                .unwrap();
            let caller = running.caller.clone();
            tokio::spawn(async move { caller.send(request).await.0 })
        };
        let answers: Vec<_> = (0..200).map(send).collect();
        let mut counts = BTreeMap::new();
        for status in answers {
            *counts.entry(status.await.unwrap().as_u16()).or_insert(0) += 1;
        }
        println!("200 simultaneous requests with one assertion at two replicas on {name}: {counts:?}");
        let tokens = counts.get(&200).copied().unwrap_or(0);
        assert!(tokens <= 1 && counts.keys().all(|status| [200, 401, 503].contains(status)), "{counts:?}");
        if !counts.contains_key(&503) {
            assert_eq!(tokens, 1, "{counts:?}");
            return;
        }
    }
    panic!("requests got 503 in each attempt");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_assertion_is_accepted_once_by_two_replicas_on_one_postgres() {
    let server = Postgres::start();
    let url = server.url();
    let store = PostgresStore::connect(url.as_str()).await.unwrap();
    one_of_200_requests_gets_a_token("Postgres", &url, store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_assertion_is_accepted_once_by_two_replicas_on_one_redis() {
    let server = Redis::start();
    let store = RedisStore::connect(&server.url()).await.unwrap();
    one_of_200_requests_gets_a_token("Redis", &server.url(), store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_on_one_postgres_agree_within_a_second() {
    let server = Postgres::start();
    let url = server.url();
    let store = PostgresStore::connect(url.as_str()).await.unwrap();
    replicas_agree("Postgres", &url, store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_on_one_redis_agree_within_a_second() {
    let server = Redis::start();
    let store = RedisStore::connect(&server.url()).await.unwrap();
    replicas_agree("Redis", &server.url(), store).await;
}

/// The outcomes of the requests of one kind.
#[derive(Default)]
struct Counts {
    served: AtomicU64,
    unavailable: AtomicU64,
}

impl Counts {
    /// Counts a response, which must be a success or a temporary failure. Returns whether it was a success.
    fn note(&self, what: &str, status: StatusCode, served: StatusCode) -> bool {
        let count = match status {
            StatusCode::SERVICE_UNAVAILABLE => &self.unavailable,
            status if status == served => &self.served,
            other => panic!("{what}: {other}"),
        };
        count.fetch_add(1, Ordering::Relaxed);
        status == served
    }

    fn unavailable(&self) -> u64 {
        self.unavailable.load(Ordering::Relaxed)
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} served and {} times 503", self.served.load(Ordering::Relaxed), self.unavailable())
    }
}

#[derive(Default)]
struct Outage {
    /// Tokens for clients that are not in the cache of the replica.
    issued: Counts,
    revoked: Counts,
    read: Counts,
    refused: Counts,
    /// Tokens whose revocation was acknowledged, and when.
    acknowledged: std::sync::Mutex<Vec<(String, Instant)>>,
    /// When the replicas were cut off from the store. Some of them do not know the last revocations before that.
    cut_off: std::sync::Mutex<Option<Instant>>,
    next: AtomicUsize,
    stop: AtomicBool,
}

impl Outage {
    fn acknowledged(&self) -> Vec<(String, Instant)> {
        self.acknowledged.lock().unwrap().clone()
    }

    /// Returns the last token that every replica must refuse by now.
    fn known_to_all(&self) -> Option<String> {
        let until = self.cut_off.lock().unwrap().unwrap_or_else(Instant::now);
        let known = |(_, since): &(String, Instant)| *since + BOUND < until;
        self.acknowledged().into_iter().rfind(known).map(|(token, _)| token)
    }

    /// One client after another gets a token, revokes it, and checks that it is refused. A valid one stays valid.
    async fn run(&self, caller: &Caller, good: &str) {
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let (here, there) = (number % 3, (number + 1) % 3);
            self.read.note("a good token", caller.read(there, good).await, StatusCode::OK);
            let id = format!("c{number}");
            let (status, body) = caller.ask(here, &id).await;
            if self.issued.note("a registered client", status, StatusCode::OK) {
                let token =
                    serde_json::from_slice::<Value>(&body).unwrap()["access_token"].as_str().unwrap().to_owned();
                let (status, _) = caller.post(here, "/revoke", &id, format!("token={token}")).await;
                if self.revoked.note("a revocation", status, StatusCode::OK) {
                    self.acknowledged.lock().unwrap().push((token, Instant::now()));
                }
            }
            if let Some(token) = self.known_to_all() {
                self.refused.note("a revoked token", caller.read(there, &token).await, StatusCode::UNAUTHORIZED);
            }
        }
    }
}

/// Waits until every replica refuses a token that is revoked now at another one, so that each follows the store again.
async fn until_all_follow(caller: &Caller, id: &str) {
    let begun = Instant::now();
    let wait = async |what: &str, replica: usize| {
        assert!(begun.elapsed() < REFOLLOWED, "{what} is still unavailable at replica {replica}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    for revoker in 0..2 {
        while caller.ask(revoker, id).await.0 == StatusCode::SERVICE_UNAVAILABLE {
            wait("a token", revoker).await;
        }
        let token = caller.token(revoker, id).await;
        while caller.post(revoker, "/revoke", id, format!("token={token}")).await.0 != StatusCode::OK {
            wait("revocation", revoker).await;
        }
        for replica in 0..caller.replicas.len() {
            while caller.read(replica, &token).await != StatusCode::UNAUTHORIZED {
                wait("the feed", replica).await;
            }
        }
    }
}

/// Waits for real processes, which cannot be controlled by a simulated clock.
async fn until(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "timed out");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_causes_at_worst_a_503_and_loses_nothing() {
    let mut server = Redis::start();
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let registered = |id: String| client(&id).scope(Scope::from_static("read")).register().unwrap();
    store.create_all((0..20_000).map(|number| registered(format!("c{number}"))).collect()).await.unwrap();
    store.create(registered("load".to_owned())).await.unwrap();
    let running = Replicas::start(3, &server.url());
    let good = running.caller.token(0, "load").await;
    let outage = Arc::new(Outage::default());
    let workers = (0..4).map(|_| {
        let (outage, caller, good) = (outage.clone(), running.caller.clone(), good.clone());
        tokio::spawn(async move { outage.run(&caller, &good).await })
    });
    let workers: Vec<_> = workers.collect();

    until(|| outage.refused.served.load(Ordering::Relaxed) > 50).await;
    let died = Instant::now();
    *outage.cut_off.lock().unwrap() = Some(died);
    server.kill();
    until(|| outage.issued.unavailable() > 20).await;
    server.restart();
    let (back, before) = (Instant::now(), outage.acknowledged().len());
    until(|| outage.acknowledged().len() > before).await;
    let recovered = back.elapsed();
    assert!(recovered < REFOLLOWED, "{recovered:?}");
    // A view whose store failed asks it again within 0.8 seconds, and is cut off until then.
    until_all_follow(&running.caller, "load").await;
    *outage.cut_off.lock().unwrap() = None;
    let before = outage.acknowledged().len();
    until(|| outage.acknowledged().len() > before + 50).await;
    outage.stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }

    let acknowledged = outage.acknowledged();
    let (last, since) = acknowledged.last().unwrap().clone();
    let last = running.caller.last_accepted(since, &[], |caller, replica| {
        let token = last.clone();
        async move { caller.read(replica, &token).await }
    });
    // The workers have ended, so the token is refused from its first use on, unless the time limit is exceeded.
    let last = last.await;
    assert!(last < LIMIT, "the last token was accepted {last:?} after its revocation");
    for (token, _) in &acknowledged {
        for replica in 0..3 {
            assert_eq!(running.caller.read(replica, token).await, StatusCode::UNAUTHORIZED, "a revocation is lost");
        }
    }
    println!(
        "redis-server killed for {:?} under 3 replicas: tokens for clients not in a cache {}; revocations {}, of which 0 lost; \
         good tokens {}; revoked ones refused {}; no wrong 401 or 403; revocations taken again {recovered:?} after it was back",
        back - died,
        outage.issued,
        outage.revoked,
        outage.read,
        outage.refused
    );
    assert_eq!(outage.read.unavailable(), 0, "the view was never too old");
}
