//! Assertions at several replicas: the bounds of the log of used ones, restarts of its store, and keys of clients that change.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests, which may

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::forge::{Draft, encode};
use common::request::{GRANT, post};
use common::servers::{Postgres, Redis};
use common::{API, ISSUER, READ};
use futures_util::future::join_all;
use http_body_util::BodyExt as _;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tower::ServiceExt as _;
use tower_client_credentials::authorization_server::ClientAssertions;
use tower_client_credentials::event::{self, EventReceiver, Outcome};
use tower_client_credentials::keys::rotation::{KeyStore as _, Replica};
use tower_client_credentials::registration::{Credential, RegisteredClient};
use tower_client_credentials::store::{
    ClientAdmin, ClientStore, PostgresStore, RedisStore, Replay, ReplayBounds, ReplayId, ReplayLog, RevocationStore,
    SqliteStore,
};
use tower_client_credentials::{AuthorizationServer, Client, ClientId, KeyRing, MemoryStore, Revocations};

const ONE: ClientId = ClientId::from_static("one");

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// How long a lease lasts, and what a later statement on it may take.
const LEASE: Duration = Duration::from_secs(60);

/// How long a call of a store may take: a disk that is busy with other tests must not fail a test.
const PATIENCE: Duration = Duration::from_secs(30);

async fn postgres(server: &Postgres) -> PostgresStore {
    PostgresStore::builder(server.url()).call_timeout(PATIENCE).connect().await.unwrap()
}

async fn redis(server: &Redis) -> RedisStore {
    RedisStore::builder(&server.url()).call_timeout(PATIENCE).connect().await.unwrap()
}

async fn sqlite(url: &str) -> SqliteStore {
    SqliteStore::builder(url).call_timeout(PATIENCE).open().await.unwrap()
}

async fn run(postgres: &Postgres, statement: &str) {
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
}

/// A replica of the log, which allows this many entries of an owner, and in all.
#[derive(Clone)]
struct Log {
    store: Arc<dyn ReplayLog>,
    of_owner: u32,
    in_all: u32,
}

impl Log {
    /// Uses the credential of an owner at a time.
    async fn used(&self, owner: &str, name: &str, now: SystemTime) -> Replay {
        let bounds = ReplayBounds::new(owner, self.of_owner, self.in_all);
        let id = ReplayId::new(owner, name);
        self.store.check_and_insert_within(&id, bounds, now + MINUTE, now).await.unwrap()
    }
}

/// Returns two replicas on one store.
async fn replicas<S: ReplayLog>(connect: impl AsyncFn() -> S, of_owner: u32, in_all: u32) -> [Log; 2] {
    let log = async || Log { store: Arc::new(connect().await), of_owner, in_all };
    [log().await, log().await]
}

/// Two replicas that allow 5 entries of each owner count them together.
async fn count_together([one, other]: [Log; 2]) {
    let now = SystemTime::now();
    for number in 0..5 {
        let log = if number % 2 == 0 { &one } else { &other };
        assert_eq!(log.used("a", &number.to_string(), now).await, Replay::Fresh);
        // A repetition is not counted.
        assert_eq!(other.used("a", &number.to_string(), now).await, Replay::Seen, "{number}");
        assert_eq!(one.used("a", &number.to_string(), now).await, Replay::Seen, "{number}");
    }
    for log in [&one, &other] {
        assert_eq!(log.used("a", "more", now).await, Replay::OwnerFull);
        assert_eq!(
            log.used("b", "more", now).await,
            if Arc::ptr_eq(&log.store, &one.store) { Replay::Fresh } else { Replay::Seen }
        );
    }
    // The entries expire after a minute, and the count of them within 10 seconds more.
    assert_eq!(one.used("a", "more", now + MINUTE - SECOND).await, Replay::OwnerFull);
    let later = now + MINUTE + 10 * SECOND;
    for number in 0..5 {
        // The same names as before, whose entries have expired.
        assert_eq!(other.used("a", &number.to_string(), later).await, Replay::Fresh, "{number}");
    }
    assert_eq!(one.used("a", "more", later).await, Replay::OwnerFull);
}

/// Of 200 concurrent uses at two replicas, those within the bound are fresh, and no other.
async fn hold_the_bound_under_load([one, other]: [Log; 2]) {
    let now = SystemTime::now();
    let uses = (0..200).map(|number| {
        let log = if number % 2 == 0 { one.clone() } else { other.clone() };
        tokio::spawn(async move { log.used("a", &number.to_string(), now).await })
    });
    let answers = join_all(uses).await.into_iter().map(Result::unwrap);
    let fresh = answers.filter(|answer| *answer == Replay::Fresh).count();
    assert_eq!(fresh, usize::try_from(one.of_owner).unwrap());
    assert_eq!(one.used("a", "more", now).await, Replay::OwnerFull);
}

/// The bound on all entries holds for owners that have not reached their own.
async fn hold_the_bound_on_all(logs: [Log; 2]) {
    let now = SystemTime::now();
    let mut fresh = 0;
    for number in 0..2_000_u32 {
        match logs[number as usize % 2].used(&format!("owner {}", number % 100), &number.to_string(), now).await {
            Replay::Fresh => fresh += 1,
            answer => assert_eq!(answer, Replay::Full, "{number}"),
        }
    }
    assert!(fresh <= logs[0].in_all && fresh >= logs[0].in_all / 2, "{fresh}");
    assert_eq!(logs[0].used("owner 1", "later", now + MINUTE + 10 * SECOND).await, Replay::Fresh);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_on_postgres_count_the_used_assertions_of_a_client_together() {
    let server = Postgres::start();
    let connect = async || postgres(&server).await;
    count_together(replicas(connect, 5, 1_000_000).await).await;
    run(&server, "TRUNCATE tcc_replays, tcc_replay_shares").await;
    hold_the_bound_under_load(replicas(connect, 20, 1_000_000).await).await;
    run(&server, "TRUNCATE tcc_replays, tcc_replay_shares").await;
    hold_the_bound_on_all(replicas(connect, 1_000, 320).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_on_redis_count_the_used_assertions_of_a_client_together() {
    let server = Redis::start();
    let connect = async || redis(&server).await;
    count_together(replicas(connect, 5, 1_000_000).await).await;
    assert!(server.ask("FLUSHALL").contains("OK"));
    hold_the_bound_under_load(replicas(connect, 20, 1_000_000).await).await;
    assert!(server.ask("FLUSHALL").contains("OK"));
    hold_the_bound_on_all(replicas(connect, 1_000, 320).await).await;
}

#[tokio::test]
async fn a_database_of_an_earlier_version_gets_the_table_of_the_counts() {
    let server = Postgres::start();
    let connect = async || postgres(&server).await;
    let before = replicas(connect, 5, 1_000_000).await;
    run(&server, "DROP TABLE tcc_replay_shares").await;
    count_together(before).await;
    run(&server, "DROP TABLE tcc_replay_shares; DELETE FROM tcc_replays").await;
    count_together(replicas(connect, 5, 1_000_000).await).await;
}

/// Two that update rows in place, and then remove expired ones, can wait for each other: `SKIP LOCKED` does not skip a row that was
/// updated since the statement began.
#[tokio::test]
async fn an_assertion_that_has_expired_is_recorded_again_without_an_update_of_its_row() {
    let server = Postgres::start();
    let log = replicas(async || postgres(&server).await, 5, 1_000_000).await;
    let trigger = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'updated'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON tcc_replays FOR EACH ROW EXECUTE FUNCTION refuse()";
    run(&server, trigger).await;
    let now = SystemTime::now();
    for (time, expected) in [(now, Replay::Fresh), (now, Replay::Seen), (now + MINUTE, Replay::Fresh)] {
        assert_eq!(log[0].used("a", "name", time).await, expected);
        let id = ReplayId::new("plain", "name");
        assert_eq!(log[1].store.check_and_insert(&id, time + MINUTE, time).await.unwrap(), expected);
    }
}

/// Many clients at once record assertions again that have expired. None of them fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_uses_of_assertions_that_have_expired_do_not_fail() {
    let server = Postgres::with(&["fsync=off"]);
    let logs = replicas(async || postgres(&server).await, 50_000, 1_000_000).await;
    let start = SystemTime::now();
    for round in 0..20_u32 {
        // Long after the last round, so that each use also removes entries of earlier rounds.
        let now = start + round * 10 * MINUTE;
        let uses = (0..80).map(|number| {
            let log = logs[number % 2].clone();
            tokio::spawn(
                async move { log.used(&format!("owner {}", number % 3), &(number % 40).to_string(), now).await },
            )
        });
        for answer in join_all(uses).await {
            assert!([Replay::Fresh, Replay::Seen].contains(&answer.unwrap()));
        }
    }
}

/// A replica renews its lease while the ended lease of another one is locked by its own renewal.
#[tokio::test]
async fn two_replicas_whose_leases_ended_do_not_wait_for_each_other() {
    let server = Postgres::start();
    let store = postgres(&server).await;
    let replica = |name: &str| Replica { name: name.to_owned(), version: 1, proof: "p".to_owned() };
    for name in ["one", "other"] {
        store.renew_lease("ring", &replica(name), LEASE).await.unwrap();
    }
    run(&server, "UPDATE tcc_key_leases SET ends_at = now() - interval '1 minute'").await;
    let mut other = PgConnection::connect(&server.url()).await.unwrap();
    let mut renewal = other.begin().await.unwrap();
    let update = "UPDATE tcc_key_leases SET ends_at = now() WHERE replica = 'other'";
    sqlx::query(update).execute(&mut *renewal).await.unwrap();
    store.renew_lease("ring", &replica("one"), LEASE).await.unwrap();
    renewal.commit().await.unwrap();
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn seeded(seed: u8) -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&[seed; 32]).unwrap()
}

fn key() -> p256::ecdsa::SigningKey {
    seeded(7)
}

/// A server with the clients `one` and `other`, which have the same key.
struct Server {
    server: AuthorizationServer,
    events: EventReceiver,
}

impl Server {
    fn new(log: impl ReplayLog) -> Self {
        let point = key().verifying_key().to_encoded_point(false);
        let jwk =
            json!({"kty": "EC", "crv": "P-256", "x": encode(point.x().unwrap()), "y": encode(point.y().unwrap())});
        let client = |id: &str| {
            let keys = Credential::jwks(json!({"keys": [jwk]}).to_string()).unwrap();
            Client::with_credential(id, keys).scope(READ).audience(API)
        };
        let clients: Arc<dyn ClientStore> = Arc::new(MemoryStore::try_from([client("one"), client("other")]).unwrap());
        let (sender, events) = event::channel();
        let builder = AuthorizationServer::builder(ISSUER, KeyRing::from_pem(common::KEY).unwrap(), clients);
        let server = builder
            .client_assertions(ClientAssertions::new(log))
            .events(sender)
            .store_timeout(PATIENCE)
            .build()
            .unwrap();
        Self { server, events }
    }

    /// Sends an assertion, and returns the status and the text for the operator.
    async fn send(&mut self, client: &str, jti: &str) -> (u16, String) {
        let claims = json!({"iss": client, "sub": client, "aud": ISSUER, "exp": now() + 200, "jti": jti}).to_string();
        let assertion = Draft { header: json!({"alg": "ES256"}).to_string(), claims }.sign_with(&key());
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let request = post(GRANT).param("client_assertion_type", kind).param("client_assertion", &assertion);
        let request: http::Request<_> = request.into();
        let answer = self.server.token_service().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        answer.into_body().collect().await.unwrap();
        let text = match self.events.try_recv().unwrap().outcome {
            Outcome::AuthenticationFailed(error) | Outcome::Unavailable(error) => common::chain(&error),
            outcome => format!("{outcome:?}"),
        };
        (status, text)
    }
}

/// A replica whose clients are in the store. It learns of changes from the feed.
struct Follower(AuthorizationServer);

impl Follower {
    async fn start<S: ClientStore + RevocationStore + ReplayLog + Clone>(store: &S) -> Self {
        let revocations = Revocations::follow(store.clone()).await.unwrap();
        let builder = AuthorizationServer::builder(ISSUER, KeyRing::from_pem(common::KEY).unwrap(), store.clone());
        let builder = builder.client_assertions(ClientAssertions::new(store.clone())).revocations(revocations);
        Self(builder.store_timeout(PATIENCE).build().unwrap())
    }

    /// Sends a new assertion that this key signs, until the status is the expected one.
    async fn until(&self, seed: u8, expected: u16) {
        let begun = Instant::now();
        loop {
            let status = self.ask(seed).await;
            if status == expected {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "the key {seed} still gets {status} and not {expected}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn ask(&self, seed: u8) -> u16 {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let jti = NUMBER.fetch_add(1, Ordering::SeqCst).to_string();
        let claims = json!({"iss": "one", "sub": "one", "aud": ISSUER, "exp": now() + 200, "jti": jti}).to_string();
        let assertion = Draft { header: json!({"alg": "ES256"}).to_string(), claims }.sign_with(&seeded(seed));
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let request = post(GRANT).param("client_assertion_type", kind).param("client_assertion", &assertion);
        let request: http::Request<_> = request.into();
        self.0.token_service().oneshot(request).await.unwrap().status().as_u16()
    }
}

/// The client `one` with these keys.
fn client_with(seeds: &[u8]) -> RegisteredClient {
    let jwk = |seed: &u8| {
        let point = seeded(*seed).verifying_key().to_encoded_point(false);
        json!({"kty": "EC", "crv": "P-256", "x": encode(point.x().unwrap()), "y": encode(point.y().unwrap())})
    };
    let keys = seeds.iter().map(|seed| Credential::jwks(json!({"keys": [jwk(seed)]}).to_string()).unwrap());
    let client = keys.fold(None, |client: Option<Client>, keys| match client {
        None => Some(Client::with_credential("one", keys)),
        Some(client) => Some(client.credential(keys)),
    });
    client.unwrap().scope(READ).audience(API).register().unwrap()
}

/// A key is added, removed and restored while replicas restart. What counts is the store, on each replica.
async fn follow_the_keys_of_a_client<S>(connect: impl AsyncFn() -> S)
where
    S: ClientAdmin + RevocationStore + ReplayLog + Clone,
{
    let operator = connect().await;
    let change = async |seeds: &[u8]| {
        let (_, revision) = operator.load(&ONE).await.unwrap().unwrap();
        operator.replace(client_with(seeds), revision).await.unwrap();
    };
    operator.create(client_with(&[7])).await.unwrap();
    let mut replicas = [Follower::start(&connect().await).await, Follower::start(&connect().await).await];
    let both = async |replicas: &[Follower; 2], accepted: &[u8], refused: &[u8]| {
        for replica in replicas {
            for seed in accepted {
                replica.until(*seed, 200).await;
            }
            for seed in refused {
                replica.until(*seed, 401).await;
                // It stays refused.
                assert_eq!(replica.ask(*seed).await, 401);
            }
        }
    };
    both(&replicas, &[7], &[8]).await;
    change(&[7, 8]).await;
    both(&replicas, &[7, 8], &[9]).await;
    replicas[0] = Follower::start(&connect().await).await;
    change(&[8]).await;
    both(&replicas, &[8], &[7]).await;
    replicas[1] = Follower::start(&connect().await).await;
    assert_eq!(replicas[1].ask(7).await, 401, "the removed key, after a restart");
    change(&[7]).await;
    both(&replicas, &[7], &[8]).await;
    replicas[0] = Follower::start(&connect().await).await;
    assert_eq!((replicas[0].ask(7).await, replicas[0].ask(8).await), (200, 401));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_a_client_that_is_added_removed_and_restored_counts_on_each_replica_on_postgres() {
    let server = Postgres::with(&["fsync=off"]);
    follow_the_keys_of_a_client(async || postgres(&server).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_a_client_that_is_added_removed_and_restored_counts_on_each_replica_on_redis() {
    let server = Redis::start();
    follow_the_keys_of_a_client(async || redis(&server).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_a_client_that_is_added_removed_and_restored_counts_in_each_process_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = format!("sqlite://{}", folder.path().join("store.sqlite").display());
    follow_the_keys_of_a_client(async || sqlite(&path).await).await;
}

/// `fill` fills the share of the client `one`, which has one assertion in it.
async fn a_full_client_is_refused_everywhere(mut servers: [Server; 2], fill: impl AsyncFnOnce()) {
    assert_eq!(servers[0].send("one", "first").await.0, 200);
    fill().await;
    for (number, server) in servers.iter_mut().enumerate() {
        let (status, text) = server.send("one", "second").await;
        assert!(status == 503 && text.contains("50,000 recorded assertions"), "{status} {text}");
        assert_eq!(server.send("other", &number.to_string()).await.0, 200);
    }
}

#[tokio::test]
async fn a_client_that_fills_its_share_at_one_replica_on_postgres_gets_503_at_each_and_others_are_served() {
    let server = Postgres::start();
    let connect = async || Server::new(postgres(&server).await);
    let servers = [connect().await, connect().await];
    let fill = "UPDATE tcc_replay_shares SET total = 50000, counts = jsonb_build_object(next_end::text, 50000)
        WHERE owner = 'client:one'";
    a_full_client_is_refused_everywhere(servers, async || run(&server, fill).await).await;
}

#[tokio::test]
async fn a_client_that_fills_its_share_at_one_replica_on_redis_gets_503_at_each_and_others_are_served() {
    let server = Redis::start();
    let connect = async || Server::new(redis(&server).await);
    let servers = [connect().await, connect().await];
    let fill = async || {
        let end = now().div_ceil(10) * 10 + 100;
        assert_eq!(server.ask(&format!("HSET {{tcc}}:share:one {end} 49999")), ":1\r\n");
    };
    a_full_client_is_refused_everywhere(servers, fill).await;
}

/// `restart` restarts the store, and returns a new connection.
async fn stays_recorded<S: ReplayLog + Clone>(store: S, restart: impl AsyncFnOnce() -> S) {
    let mut server = Server::new(store);
    assert_eq!(server.send("one", "first").await.0, 200);
    let mut next = Server::new(restart().await);
    let (status, text) = next.send("one", "first").await;
    assert!(status == 401 && text.contains("jti"), "{status} {text}");
    assert_eq!(next.send("one", "second").await.0, 200);
}

#[tokio::test]
async fn a_used_assertion_stays_used_after_postgres_was_killed_and_restarted() {
    let mut server = Postgres::start();
    let store = postgres(&server).await;
    stays_recorded(store, async || {
        server.kill();
        server.restart();
        postgres(&server).await
    })
    .await;
}

#[tokio::test]
async fn a_used_assertion_stays_used_after_redis_with_its_file_was_killed_and_restarted() {
    let mut server = Redis::start();
    let store = redis(&server).await;
    stays_recorded(store, async || {
        server.kill();
        server.restart();
        redis(&server).await
    })
    .await;
}

#[tokio::test]
async fn a_used_assertion_stays_used_after_the_process_with_sqlite_was_restarted() {
    let folder = tempfile::tempdir().unwrap();
    let path = format!("sqlite://{}", folder.path().join("store.sqlite").display());
    let store = sqlite(&path).await;
    stays_recorded(store, async || sqlite(&path).await).await;
}
