//! Sequences of events that are harmless separately: revocation and restart, deletion and new creation, rotation at another
//! replica, clocks that differ or jump, keys that differ.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing)]

mod common;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::request::{GRANT, post};
use common::servers::{Port, Postgres, Redis};
use common::stack::{Answer, Body, Site, Stack};
use common::{API, ISSUER, KEY, NOW, READ, SECRET, WRITE, at, chain, client, forge};
use futures_util::future::join_all;
use http::{Request, Response};
use tempfile::TempDir;
use tokio::time::sleep;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_client_credentials::clock::{Clock, ManualClock, SystemClock};
use tower_client_credentials::store::{
    ClientAdmin, FileStore, PostgresStore, RedisStore, RevocationStore, SecretRotation, SqliteStore,
};
use tower_client_credentials::{
    AuthorizationServer, BearerAuthLayer, Client, ClientId, ClientSecret, ClientStore, KeyRing, MemoryStore,
    Revocations, SigningKey,
};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// How long a replica that reaches the store may act on the previous state.
const BOUND: Duration = Duration::from_secs(1);

/// How long it may take on a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_secs(10);

/// A server and its protected route, as one of several processes.
struct Replica {
    site: Site,
    revocations: Revocations,
}

impl Replica {
    async fn of<S: ClientStore + RevocationStore + Clone>(store: &S) -> Self {
        Self::with(store, KeyRing::from_pem(KEY).unwrap(), SystemClock).await
    }

    async fn with<S>(store: &S, keys: KeyRing, clock: impl Clock + Clone) -> Self
    where
        S: ClientStore + RevocationStore + Clone,
    {
        let revocations = Revocations::follow(store.clone()).clock(clock.clone()).await.unwrap();
        let server = AuthorizationServer::builder(ISSUER, keys, store.clone());
        let server = server.clock(clock).revocations(revocations.clone()).build().unwrap();
        let guard = BearerAuthLayer::new(server.verifier(API).unwrap());
        Self { site: Stack::PLAIN.protect(&server, [guard]).await, revocations }
    }

    async fn ask(&self, id: &str, secret: &str) -> Answer {
        self.site.send(post(GRANT).param("scope", "invoices:read").basic(id, secret)).await
    }

    async fn token(&self, id: &str) -> String {
        self.ask(id, &SECRET).await.assert_token()
    }

    async fn using(&self, token: &str) -> Answer {
        self.site.get_authorized(&format!("Bearer {token}")).await
    }

    async fn give_back(&self, id: &str, token: &str) -> Answer {
        self.site.send(post(format!("token={token}")).to("/revoke").basic(id, &SECRET)).await
    }
}

/// A key of another type.
fn other_key() -> SigningKey {
    SigningKey::from_pem(include_str!("keys/p384.pem")).unwrap()
}

fn own_key() -> SigningKey {
    SigningKey::from_pem(KEY).unwrap()
}

fn postgres() -> Postgres {
    Postgres::with(&["fsync=off"])
}

fn id(text: &str) -> ClientId {
    text.parse().unwrap()
}

fn registered(text: &str) -> Client {
    client(text).scopes([READ, WRITE]).audience(API)
}

/// Returns the last time, after `since`, at which a request with this status was sent.
async fn last_of(status: u16, since: Instant, ask: impl AsyncFn() -> u16) -> Duration {
    let (mut last, mut others) = (Duration::ZERO, 0);
    while others < 20 {
        let sent = since.elapsed();
        match ask().await {
            found if found == status => (last, others) = (sent, 0),
            401 | 429 => others += 1,
            other => panic!("{other} after {sent:?}"),
        }
        assert!(sent < 20 * SECOND, "{status} for ever");
        sleep(10 * MILLI).await;
    }
    last
}

/// Each owner has a different secret under the same id, one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_disabled_deleted_and_created_again_within_a_second_belongs_only_to_the_new_owner() {
    let (postgres, redis) = (postgres(), Redis::start());
    let on_postgres = ids_with_two_owners("Postgres", async || PostgresStore::connect(postgres.url()).await.unwrap());
    let on_redis = ids_with_two_owners("Redis", async || RedisStore::connect(&redis.url()).await.unwrap());
    tokio::join!(on_postgres, on_redis);
}

async fn ids_with_two_owners<S: ClientAdmin + RevocationStore + Clone>(on: &str, connect: impl AsyncFn() -> S) {
    let operator = connect().await;
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Replica::of(&connect().await).await);
    }
    let replicas: Arc<[Replica]> = replicas.into();
    let rounds = (0..4).map(|round| one_id_with_two_owners(round, &operator, &replicas));
    for (took, waited, tries) in join_all(rounds).await {
        println!(
            "{on}: changed hands within {took:?}; the new owner had its first lasting token after {waited:?}; {tries} tries by \
             the old one, none of which worked after a second"
        );
        assert!(tries > 100, "{tries}");
    }
}

async fn one_id_with_two_owners(
    round: usize,
    operator: &impl ClientAdmin,
    replicas: &Arc<[Replica]>,
) -> (Duration, Duration, usize) {
    let name = format!("again-{round}");
    operator.create(registered(&name).register().unwrap()).await.unwrap();
    let mut old_tokens = Vec::new();
    for replica in replicas.iter() {
        old_tokens.push(replica.token(&name).await);
        assert_eq!(replica.using(&old_tokens[0]).await.status, 200);
    }
    // The old owner continues at all replicas, with its secret and with a token.
    let is_over = Arc::new(AtomicBool::new(false));
    let old_owner = (0..replicas.len()).map(|at| {
        let (replicas, is_over, name, token) =
            (replicas.clone(), is_over.clone(), name.clone(), old_tokens[at].clone());
        tokio::spawn(async move {
            let mut found = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let sent = Instant::now();
                let answer = replicas[at].ask(&name, &SECRET).await;
                let token_is_used = replicas[at].using(&token).await.status.as_u16();
                let status = answer.status.as_u16();
                found.push((sent, status, token_is_used, (status == 200).then(|| answer.assert_token())));
                sleep(20 * MILLI).await;
            }
            found
        })
    });
    let old_owner: Vec<_> = old_owner.collect();
    sleep(200 * MILLI).await;

    let secret = ClientSecret::generate().unwrap();
    let new = Client::new(name.as_str(), &secret).scope(READ).audience(API).register().unwrap();
    let begun = Instant::now();
    if round.is_multiple_of(2) {
        operator.disable(&id(&name)).await.unwrap();
        operator.delete(&id(&name)).await.unwrap();
    } else {
        let revocations = &replicas[0].revocations;
        revocations.disable(operator, &id(&name)).await.unwrap();
        revocations.delete(operator, &id(&name)).await.unwrap();
    }
    operator.create(new).await.unwrap();
    let done = Instant::now();

    // Within the first second a replica may not know the new owner, and refuses it. It may also not know that the old owner's
    // tokens are revoked, and count a new token among them. After that the new owner may be asked to retry, but is never
    // refused.
    let mut new_tokens = Vec::new();
    for replica in replicas.iter() {
        loop {
            let sent = done.elapsed();
            let answer = replica.ask(&name, secret.expose()).await;
            match answer.status.as_u16() {
                200 if sent < BOUND => drop(answer.assert_token()),
                200 => break new_tokens.push(answer.assert_token()),
                503 => assert!(answer.header("retry-after").is_some()),
                401 => assert!(sent < LIMIT, "the new owner is refused {sent:?} after it was registered"),
                other => panic!("{other}"),
            }
            assert!(sent < 20 * SECOND, "the new owner never gets a token");
            sleep(50 * MILLI).await;
        }
    }
    let waited = done.elapsed();
    for token in &new_tokens {
        let (_, claims) = forge::parts(token);
        assert_eq!(claims["scope"], "invoices:read", "only the rights of the new owner");
        for replica in replicas.iter() {
            assert_eq!(replica.using(token).await.status, 200, "a token of the new owner");
        }
    }
    for replica in replicas.iter() {
        let more = post(GRANT).param("scope", "invoices:write").basic(&name, secret.expose());
        replica.site.send(more).await.assert_refused(400, "invalid_scope");
    }
    is_over.store(true, Ordering::Relaxed);
    let mut tries = 0;
    for at_one in join_all(old_owner).await {
        for (sent, with_secret, with_token, token) in at_one.unwrap() {
            tries += 1;
            old_tokens.extend(token);
            let since = sent.saturating_duration_since(done);
            let is_late = sent > done + BOUND;
            assert!(matches!(with_secret, 200 | 401 | 429 | 503), "{with_secret}");
            assert!(!is_late || matches!(with_secret, 401 | 429), "the old secret: {with_secret} after {since:?}");
            assert!(!is_late || with_token == 401, "an old token: {with_token} after {since:?}");
        }
    }
    // Including the tokens that the old owner got from a replica that did not know of the change yet.
    for token in &old_tokens {
        for replica in replicas.iter() {
            assert_eq!(replica.using(token).await.status, 401, "a token of the old owner");
        }
    }
    (done - begun, waited, tries)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_rotated_at_one_replica_is_refused_at_the_others_within_a_second_and_the_new_one_is_accepted_at_once()
{
    let server = postgres();
    let operator = PostgresStore::connect(server.url()).await.unwrap();
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Replica::of(&PostgresStore::connect(server.url()).await.unwrap()).await);
    }
    let mut slowest = Duration::ZERO;
    for round in 0..4 {
        let name = format!("rotated-{round}");
        operator.create(registered(&name).register().unwrap()).await.unwrap();
        for replica in &replicas {
            replica.token(&name).await;
        }
        let rotation = SecretRotation::new().keep_old_for(Duration::ZERO);
        let rotated = operator.rotate_secret(&id(&name), rotation).await.unwrap();
        let since = Instant::now();
        // A wrong secret makes a replica ask the store. Half of the rounds have none.
        for replica in replicas.iter().filter(|_| round % 2 == 0) {
            assert_eq!(replica.ask(&name, rotated.secret.expose()).await.status, 200, "the new secret");
        }
        let old = replicas
            .iter()
            .map(|replica| last_of(200, since, || async { replica.ask(&name, &SECRET).await.status.as_u16() }));
        slowest = join_all(old).await.into_iter().max().unwrap().max(slowest);
        for replica in &replicas {
            assert_eq!(replica.ask(&name, rotated.secret.expose()).await.status, 200, "the new secret");
        }
    }
    println!("an old secret was last accepted {slowest:?} after it was rotated");
    assert!(slowest < LIMIT, "{slowest:?}");
}

/// The clock of a host, wrong by that many seconds.
#[derive(Clone, Copy, Debug)]
struct Off(i64);

impl Clock for Off {
    fn now(&self) -> SystemTime {
        let by = Duration::from_secs(self.0.unsigned_abs());
        if self.0 < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
    }
}

/// The clock of a host that is wrong by that many seconds, until it is set to a time and stands still.
#[derive(Clone, Debug)]
struct Held {
    off: Off,
    /// In seconds since 1970; 0 until it is set.
    at: Arc<AtomicU64>,
}

impl Held {
    fn new(off: i64) -> Self {
        Self { off: Off(off), at: Arc::default() }
    }

    fn hold(&self, at: u64) {
        self.at.store(at, Ordering::SeqCst);
    }
}

impl Clock for Held {
    fn now(&self) -> SystemTime {
        match self.at.load(Ordering::SeqCst) {
            0 => self.off.now(),
            held => at(held),
        }
    }
}

/// Clocks may differ by 5 seconds. Beyond that, tokens are refused for some seconds, and the operator sees both times. Tokens
/// revoked by id are refused in any case.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_clock_is_ten_seconds_off_refuses_revoked_tokens_and_reports_its_clock() {
    let server = postgres();
    let operator = PostgresStore::connect(server.url()).await.unwrap();
    operator.create(registered("billing").register().unwrap()).await.unwrap();
    let mut replicas = Vec::new();
    let clocks = [-10, 0, 10].map(Held::new);
    for clock in &clocks {
        let store = PostgresStore::builder(server.url()).clock(clock.clone()).connect().await.unwrap();
        replicas.push(Replica::with(&store, KeyRing::from_pem(KEY).unwrap(), clock.clone()).await);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let old = |name: &str| forge::good().claim("iat", now - 60).claim("exp", now + 600).claim("jti", name).sign();
    for (at, replica) in replicas.iter().enumerate() {
        let token = old(&format!("from {at}"));
        for replica in &replicas {
            assert_eq!(replica.using(&token).await.status, 200, "a token of a minute ago");
        }
        let since = Instant::now();
        assert_eq!(replica.give_back("billing", &token).await.status, 200);
        for replica in &replicas {
            let last = last_of(200, since, || async { replica.using(&token).await.status.as_u16() }).await;
            assert!(last < LIMIT, "revoked at {at}, accepted after {last:?}");
        }
    }
    let [behind, right, ahead] = &replicas[..] else { panic!() };
    let token = right.token("billing").await;
    assert_eq!(right.using(&token).await.status, 200);
    assert_eq!(ahead.using(&token).await.status, 200);
    let issued = forge::parts(&token).1["iat"].as_u64().unwrap();
    clocks[0].hold(issued - 10);
    let answer = behind.using(&token).await;
    assert_eq!(answer.status, 401);
    let reason = answer.reason.unwrap();
    assert!(reason.contains("`iat` is ") && reason.contains("10 s after now"), "the operator reads why: {reason}");
    // It is refused as long as the clocks differ by more than 5 seconds.
    for (seconds, status) in [(6, 401), (5, 200)] {
        clocks[0].hold(issued - seconds);
        assert_eq!(behind.using(&token).await.status, status, "{seconds} s behind");
    }
}

/// By whichever clock a client is revoked, no token that another host dates by the right clock stays valid.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_has_is_revoked_whole_by_a_host_whose_clock_is_off() {
    let (postgres, redis) = (postgres(), Redis::start());
    revoked_by_clocks_that_are_off("Postgres", async |seconds| {
        PostgresStore::builder(postgres.url()).clock(Off(seconds)).connect().await.unwrap()
    })
    .await;
    revoked_by_clocks_that_are_off("Redis", async |seconds| {
        RedisStore::builder(&redis.url()).clock(Off(seconds)).connect().await.unwrap()
    })
    .await;
}

async fn revoked_by_clocks_that_are_off<S>(on: &str, connect: impl AsyncFn(i64) -> S)
where
    S: ClientAdmin + RevocationStore + Clone,
{
    let operator = connect(0).await;
    let right = Replica::of(&operator).await;
    for seconds in [10, -10] {
        let clock = Off(seconds);
        let off = Replica::with(&connect(seconds).await, KeyRing::from_pem(KEY).unwrap(), clock).await;
        let name = format!("revoked-{seconds}");
        operator.create(registered(&name).register().unwrap()).await.unwrap();
        let token = right.token(&name).await;
        assert_eq!(right.using(&token).await.status, 200);
        let since = Instant::now();
        off.revocations.revoke_client(&id(&name)).await.unwrap();
        let last = last_of(200, since, || async { right.using(&token).await.status.as_u16() }).await;
        assert!(last < LIMIT, "{on}, {seconds}: {last:?}");
    }
    // By an administrator whose clock is far behind: what the client still gets meanwhile is revoked as well.
    operator.create(registered("disabled").register().unwrap()).await.unwrap();
    let late = connect(-30).await;
    let mut tokens = vec![right.token("disabled").await];
    late.disable(&id("disabled")).await.unwrap();
    let since = Instant::now();
    while since.elapsed() < BOUND {
        let answer = right.ask("disabled", &SECRET).await;
        tokens.extend((answer.status == 200).then(|| answer.assert_token()));
    }
    for token in &tokens {
        assert_eq!(right.using(token).await.status, 401, "{on}: one of {}", tokens.len());
    }
}

#[tokio::test]
async fn a_host_whose_clock_differs_from_that_of_the_database_logs_a_warning_once_an_hour() {
    #[derive(Clone, Default)]
    struct Log(Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let server = postgres();
    for (seconds, expected) in [(0, 0), (-10, 1), (10, 1)] {
        let log = Log::default();
        let writer = log.clone();
        common::enable_log_lines();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let guard = tracing::subscriber::set_default(subscriber);
        let store = PostgresStore::builder(server.url()).clock(Off(seconds)).connect().await.unwrap();
        let revocations = Revocations::follow(store).clock(Off(seconds)).await.unwrap();
        sleep(2 * SECOND).await;
        assert!(revocations.is_ready());
        drop(guard);
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("the clock of this host differs")).collect();
        assert_eq!(lines.len(), expected, "{text}");
        // The slow way to the answer counts in favour of the clock.
        let shown = [seconds, seconds - seconds.signum()].map(|seconds| format!("seconds_ahead={seconds} "));
        assert!(lines.iter().all(|line| shown.iter().any(|shown| format!("{line} ").contains(shown))), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_another_signing_key_is_named_to_the_operator_and_trusted_once_the_others_have_its_key() {
    let server = postgres();
    let store = async || PostgresStore::connect(server.url()).await.unwrap();
    store().await.create(registered("billing").register().unwrap()).await.unwrap();
    let other_ring = || KeyRing::new(other_key());
    let (one, other) =
        (Replica::of(&store().await).await, Replica::with(&store().await, other_ring(), SystemClock).await);
    let (of_one, of_other) = (one.token("billing").await, other.token("billing").await);
    for (replica, token, key) in [(&one, &of_other, other_key().key_id()), (&other, &of_one, &forge::key_id())] {
        let answer = replica.using(token).await;
        assert_eq!(answer.status, 401);
        let reason = answer.reason.unwrap();
        assert!(reason.contains(&key[..13]), "the operator reads which key: {reason}");
    }
    // Revoking it where its key is unknown is not an error (RFC 7009 §2.2), and it stays valid at its issuer.
    assert_eq!(one.give_back("billing", &of_other).await.status, 200);
    assert_eq!(other.using(&of_other).await.status, 200);

    // Each replica trusts the key of the other before the other signs: nothing is refused, and a token revoked at one is
    // refused at both.
    let trusting = |keys: KeyRing, key: &SigningKey| keys.also_trust(key.verifying_key());
    let keys = [trusting(KeyRing::from_pem(KEY).unwrap(), &other_key()), trusting(other_ring(), &own_key())];
    let mut replicas = Vec::new();
    for keys in keys {
        replicas.push(Replica::with(&store().await, keys, SystemClock).await);
    }
    for token in [of_one, of_other] {
        for replica in &replicas {
            assert_eq!(replica.using(&token).await.status, 200);
        }
        let since = Instant::now();
        assert_eq!(replicas[0].give_back("billing", &token).await.status, 200);
        for replica in &replicas {
            let last = last_of(200, since, || async { replica.using(&token).await.status.as_u16() }).await;
            assert!(last < LIMIT, "{last:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_can_read_but_not_write_issues_verifies_and_follows_and_answers_503_to_a_revocation() {
    let server = postgres();
    let operator = PostgresStore::connect(server.url()).await.unwrap();
    for name in ["billing", "reports"] {
        operator.create(registered(name).register().unwrap()).await.unwrap();
    }
    let writer = Replica::of(&operator).await;
    // Like a database that allows no writes for a while, or a role without write permission.
    let url = format!("{}&options=-cdefault_transaction_read_only%3Don", server.url());
    let reader = Replica::of(&PostgresStore::connect(url).await.unwrap()).await;
    let token = reader.token("billing").await;
    for replica in [&writer, &reader] {
        assert_eq!(replica.using(&token).await.status, 200);
    }
    assert_eq!(reader.give_back("billing", &token).await.status, 503);
    for replica in [&writer, &reader] {
        assert_eq!(replica.using(&token).await.status, 200, "an unacknowledged revocation has no effect");
    }
    let since = Instant::now();
    assert_eq!(writer.give_back("billing", &token).await.status, 200);
    operator.disable(&id("reports")).await.unwrap();
    let last = last_of(200, since, || async { reader.using(&token).await.status.as_u16() }).await;
    assert!(last < LIMIT, "{last:?}");
    assert_eq!(reader.ask("reports", &SECRET).await.status, 401);
    assert!(reader.revocations.is_ready());
}

/// Revokes in each way, ends the process, and starts another one on the same store.
async fn survives_a_restart<S>(name: &str, open: impl AsyncFn() -> S)
where
    S: ClientStore + ClientAdmin + RevocationStore + Clone,
{
    let (token, other, of_disabled, of_revoked, of_deleted) = {
        let store = open().await;
        for name in ["billing", "disabled", "revoked", "deleted"] {
            store.create(registered(name).register().unwrap()).await.unwrap();
        }
        let replica = Replica::of(&store).await;
        let token = replica.token("billing").await;
        let tokens = (
            token.clone(),
            replica.token("billing").await,
            replica.token("disabled").await,
            replica.token("revoked").await,
            replica.token("deleted").await,
        );
        assert_eq!(replica.give_back("billing", &token).await.status, 200, "{name}");
        store.disable(&id("disabled")).await.unwrap();
        replica.revocations.revoke_client(&id("revoked")).await.unwrap();
        store.delete(&id("deleted")).await.unwrap();
        tokens
    };
    let store = open().await;
    let replica = Replica::of(&store).await;
    for token in [&token, &of_disabled, &of_revoked, &of_deleted] {
        let answer = replica.using(token).await;
        assert_eq!(answer.status, 401, "{name}");
        assert!(answer.reason.unwrap().contains("revoked"), "{name}");
    }
    assert_eq!(replica.using(&other).await.status, 200, "{name}");
    assert_eq!(replica.ask("disabled", &SECRET).await.status, 401, "{name}");
    assert_eq!(replica.ask("deleted", &SECRET).await.status, 401, "{name}");
    // The key is replaced: a token that was verified a moment ago is refused, and tokens of the new key are accepted.
    replica.revocations.revoke_key(&forge::key_id()).await.unwrap();
    assert_eq!(replica.using(&other).await.status, 401, "{name}");
    assert_eq!(replica.ask("billing", &SECRET).await.status, 503, "{name}: the key no longer signs");
    drop(replica);
    let keys = KeyRing::new(other_key()).also_trust(own_key().verifying_key());
    let replica = Replica::with(&store, keys, SystemClock).await;
    assert_eq!(replica.using(&other).await.status, 401, "{name}");
    let new = replica.token("billing").await;
    assert_eq!(replica.using(&new).await.status, 200, "{name}");
    let replica = Replica::with(&store, KeyRing::new(other_key()), SystemClock).await;
    assert_eq!(replica.using(&other).await.status, 401, "{name}: its key is not trusted");
    assert_eq!(replica.using(&new).await.status, 200, "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn revocations_disabled_and_deleted_clients_survive_a_restart_on_every_durable_store() {
    let folder = TempDir::new().unwrap();
    let sqlite = format!("sqlite://{}", folder.path().join("store.db").display());
    survives_a_restart("SQLite", async || SqliteStore::open(&sqlite).await.unwrap()).await;
    let file = folder.path().join("clients.toml");
    std::fs::write(&file, "clients = []").unwrap();
    survives_a_restart("a file", async || FileStore::open(&file).await.unwrap()).await;
    let postgres = postgres();
    survives_a_restart("Postgres", async || PostgresStore::connect(postgres.url()).await.unwrap()).await;
    let redis = Redis::start();
    survives_a_restart("Redis", async || RedisStore::connect(&redis.url()).await.unwrap()).await;
}

#[tokio::test]
async fn a_store_that_is_down_at_the_start_is_an_error_within_the_deadline_and_starts_no_server_without_revocations() {
    let nothing = Port::free();
    let begun = Instant::now();
    let url = Postgres::url_at(nothing.number(), "postgres");
    let said = chain(&PostgresStore::connect(url).await.unwrap_err());
    assert!(said.contains("refused"), "{said}");
    let said = chain(&RedisStore::connect(&format!("redis://127.0.0.1:{}", nothing.number())).await.unwrap_err());
    assert!(said.contains("refused"), "{said}");
    let mut server = postgres();
    let store = PostgresStore::connect(server.url()).await.unwrap();
    server.kill();
    let error = Revocations::follow(store.clone()).await.unwrap_err();
    assert!(chain(&error).contains("could not answer"), "{}", chain(&error));
    assert!(begun.elapsed() < 20 * SECOND, "{:?}", begun.elapsed());
    server.restart();
    assert!(Revocations::follow(store).await.unwrap().is_ready());
}

/// One process in simulated time: its endpoint, and its protected route.
struct Process {
    server: AuthorizationServer,
    guard: BearerAuthLayer,
    revocations: Revocations,
    clock: ManualClock,
}

impl Process {
    async fn start(store: &MemoryStore, clock: &ManualClock) -> Self {
        let revocations = Revocations::follow(store.clone()).clock(clock.clone()).await.unwrap();
        let server = AuthorizationServer::builder(ISSUER, KeyRing::from_pem(KEY).unwrap(), store.clone());
        let server = server.clock(clock.clone()).revocations(revocations.clone()).build().unwrap();
        let guard = BearerAuthLayer::new(server.verifier(API).unwrap());
        Self { server, guard, revocations, clock: clock.clone() }
    }

    async fn ask(&self, id: &str) -> Answer {
        let request: Request<Body> = post(GRANT).basic(id, &SECRET).into();
        Answer::read(self.server.token_service().oneshot(request).await.unwrap()).await
    }

    async fn using(&self, token: &str) -> u16 {
        let inner = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::default())));
        let request =
            Request::get("/").header("authorization", format!("Bearer {token}")).body(Body::default()).unwrap();
        self.guard.clone().layer(inner).oneshot(request).await.unwrap().status().as_u16()
    }

    /// Advances the wall clock and the monotonic clock together.
    async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            self.clock.advance(SECOND);
            sleep(SECOND).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_by_a_day_and_back_while_the_process_runs_admits_no_revoked_token_and_refuses_no_valid_one()
{
    let clock = ManualClock::at(at(NOW));
    let all = ["billing", "steady", "disabled"].map(registered);
    let store = MemoryStore::try_from(all).unwrap().clock(clock.clone());
    let process = Process::start(&store, &clock).await;
    let (good, revoked) = (process.ask("steady").await.assert_token(), process.ask("billing").await.assert_token());
    let of_disabled = process.ask("disabled").await.assert_token();
    let (_, claims) = forge::parts(&revoked);
    process.revocations.revoke_token(&id("billing"), claims["jti"].as_str().unwrap()).await.unwrap();
    process.revocations.disable(&store, &id("disabled")).await.unwrap();

    let mut tokens = vec![(NOW, good)];
    let mut shown = NOW;
    for (step, days) in [1, -1, -1, 1, 1, -1].into_iter().enumerate() {
        let time = clock.now();
        clock.set(if days > 0 { time + DAY } else { time - DAY });
        shown = if days > 0 { shown + 86_400 } else { shown - 86_400 };
        // Long enough for two purges and many polls, and too short for a token to expire.
        process.pass(120).await;
        shown += 120;
        assert!(process.revocations.is_ready(), "step {step}");
        for (what, token) in [("a revoked token", &revoked), ("a token of a disabled client", &of_disabled)] {
            assert_eq!(process.using(token).await, 401, "{what}, step {step}");
        }
        assert_eq!(process.ask("disabled").await.status, 401, "step {step}");
        // Tokens that are valid by this clock are accepted, and no others.
        for (issued_at, token) in &tokens {
            let is_good = *issued_at <= shown + 5 && shown < *issued_at + 600 + 5;
            assert_eq!(process.using(token).await == 200, is_good, "issued at {issued_at}, shown {shown}, step {step}");
        }
        for name in ["steady", "billing"] {
            let token = process.ask(name).await.assert_token();
            assert_eq!(process.using(&token).await, 200, "{name}, step {step}");
            if name == "steady" {
                tokens.push((shown, token));
            }
        }
    }
    // Another process on the same store, with the corrected clock.
    let process = Process::start(&store, &clock).await;
    assert_eq!(process.using(&of_disabled).await, 401);
    assert_eq!(process.ask("disabled").await.status, 401);
    let held = process.revocations.entries();
    assert_eq!(held, 2, "neither was forgotten while the clock showed tomorrow");
}
