//! Requests with the token of a workload and without `client_id`, on every store, and databases that were written without the index of
//! workloads.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests, which may

mod common;

use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

use common::forge::{Draft, encode};
use common::request::{GRANT, TokenRequest, post};
use common::servers::{Postgres, Redis};
use common::stack::{Answer, Site, Stack};
use common::{API, ISSUER, NOW, READ, client, clock, settings};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tower_client_credentials::authorization_server::{
    AssertionRule, ClientAssertions, InvalidAssertion, PlatformIssuer, TokenError, TrustDomain,
};
use tower_client_credentials::clock::ManualClock;
use tower_client_credentials::event::{self, EventReceiver, Outcome};
use tower_client_credentials::keys::KeySet;
use tower_client_credentials::registration::{Credential, RegisteredClient};
use tower_client_credentials::store::{
    ClientAdmin, ClientStore, FileStore, PostgresStore, RedisStore, ReplayLog, SqliteStore, StoreFuture,
};
use tower_client_credentials::{Client, ClientId, MemoryStore};

const CLUSTER: &str = "https://kubernetes.default.svc.cluster.local";
const ACCOUNT: &str = "system:serviceaccount:prod:billing";
const SVID: &str = "spiffe://example.org/ns/prod/billing";
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const JWT_SPIFFE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";

/// How long a call of a store may take: a disk that is busy with other tests must not fail a test.
const PATIENCE: Duration = Duration::from_secs(30);

fn signer(seed: u8) -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&[seed; 32]).unwrap()
}

fn keys(seed: u8, purpose: Option<&str>) -> Value {
    let point = signer(seed).verifying_key().to_encoded_point(false);
    let (x, y) = (encode(point.x().unwrap()), encode(point.y().unwrap()));
    let mut jwk = json!({"kty": "EC", "crv": "P-256", "kid": "k", "x": x, "y": y});
    if let Some(purpose) = purpose {
        jwk["use"] = purpose.into();
    }
    json!({ "keys": [jwk] })
}

fn account() -> Credential {
    Credential::service_account(CLUSTER, "prod", "billing").unwrap()
}

fn spiffe(id: &str) -> Credential {
    Credential::spiffe_id(id.parse().unwrap())
}

fn with(id: &str, credential: Credential) -> RegisteredClient {
    Client::with_credential(id, credential).scope(READ).audience(API).register().unwrap()
}

fn send(kind: &str, header: Value, claims: Value, seed: u8) -> TokenRequest {
    let draft = Draft { header: header.to_string(), claims: claims.to_string() };
    let assertion = draft.sign_with(&signer(seed));
    post(GRANT).param("client_assertion_type", kind).param("client_assertion", &assertion)
}

/// A request by a service account.
fn by_account() -> TokenRequest {
    let claims = json!({"iss": CLUSTER, "sub": ACCOUNT, "aud": ISSUER, "iat": NOW, "exp": NOW + 3_600});
    send(JWT_BEARER, json!({"alg": "ES256", "kid": "k"}), claims, 21)
}

/// A request by the workload with this SPIFFE ID.
fn by_svid(id: &str) -> TokenRequest {
    let claims = json!({"sub": id, "aud": ISSUER, "iat": NOW, "exp": NOW + 300});
    send(JWT_SPIFFE, json!({"alg": "ES256", "kid": "k"}), claims, 23)
}

struct World {
    site: Site,
    events: EventReceiver,
    clock: ManualClock,
}

impl World {
    async fn of<S: ClientAdmin + ReplayLog + Clone>(store: S) -> Self {
        Self::with(store.clone(), store).await
    }

    async fn with(store: impl ClientStore, log: impl ReplayLog) -> Self {
        let trusted = |set: Value| KeySet::from_jwks(set.to_string()).unwrap();
        let assertions = ClientAssertions::new(log)
            .platform(PlatformIssuer::new(CLUSTER, trusted(keys(21, None))).also_named("https://new.cluster.example"))
            .trust_domain(TrustDomain::new("example.org", keys(23, Some("jwt-svid")).to_string()).unwrap());
        let (sender, events) = event::channel();
        let clock = clock();
        let settings = settings(store).client_assertions(assertions).events(sender).clock(clock.clone());
        let server = settings.store_timeout(PATIENCE).build().unwrap();
        Self { site: Stack::PLAIN.issue(&server).await, events, clock }
    }

    async fn send(&self, request: TokenRequest) -> Answer {
        self.site.send(request).await
    }

    /// Sends the request, and returns the client that got a token.
    async fn client_of(&mut self, request: TokenRequest) -> String {
        let answer = self.send(request).await;
        let event = self.events.try_recv().unwrap();
        assert!(matches!(event.outcome, Outcome::Issued { .. }), "{answer:?} {:?}", event.outcome);
        event.client_id.unwrap().to_string()
    }

    /// Sends the request, which is refused like a wrong secret, and returns the rule and the text for the operator.
    async fn refused(&mut self, request: TokenRequest) -> (AssertionRule, String) {
        let wrong_secret = self.send(post(GRANT).basic("unknown", "wrong")).await;
        self.events.try_recv().unwrap();
        let answer = self.send(request).await;
        assert_eq!((answer.status, &answer.body), (wrong_secret.status, &wrong_secret.body));
        let names = |answer: &Answer| {
            answer
                .headers
                .iter()
                .filter(|(name, _)| *name != "date")
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&answer), names(&wrong_secret));
        let Outcome::AuthenticationFailed(failure) = self.events.try_recv().unwrap().outcome else {
            panic!("accepted")
        };
        let error: &TokenError = failure.downcast_ref().unwrap();
        let invalid: &InvalidAssertion = error.source().and_then(|source| source.downcast_ref()).unwrap();
        (invalid.rule(), error.to_string())
    }
}

/// A workload is found by its token, and a request of one that several clients have needs `client_id`.
async fn finds_the_client_of_a_workload<S: ClientAdmin + ReplayLog + Clone>(store: S) {
    store.create(with("kube", account())).await.unwrap();
    store.create(with("exact", spiffe("spiffe://example.org/other"))).await.unwrap();
    store.create(with("below", spiffe("spiffe://example.org/ns/*"))).await.unwrap();
    store.create(client("secret").audience(API).register().unwrap()).await.unwrap();
    let mut world = World::of(store.clone()).await;
    assert_eq!(world.client_of(by_account()).await, "kube");
    assert_eq!(world.client_of(by_svid("spiffe://example.org/other")).await, "exact");
    assert_eq!(world.client_of(by_svid(SVID)).await, "below");
    for id in ["spiffe://example.org/ns", "spiffe://example.org/nsx/a", "spiffe://example.org/other/a"] {
        let (rule, text) = world.refused(by_svid(id)).await;
        assert_eq!(rule, AssertionRule::Client, "{id}: {text}");
        assert!(text.contains("no client has a credential for the workload") && text.contains(id), "{text}");
    }

    let second = Client::with_credential("second", account()).credential(spiffe(SVID)).scope(READ).audience(API);
    store.create(second.register().unwrap()).await.unwrap();
    world.clock.advance(Duration::from_secs(61));
    for (request, names) in [(by_account(), ["kube", "second"]), (by_svid(SVID), ["below", "second"])] {
        let (rule, text) = world.refused(request.clone()).await;
        assert_eq!(rule, AssertionRule::ClientId, "{text}");
        assert!(names.iter().all(|name| text.contains(&format!("\"{name}\""))) && text.contains("client_id"), "{text}");
        for name in names {
            assert_eq!(world.client_of(request.clone().param("client_id", name)).await, name);
        }
    }
    let (rule, _) = world.refused(by_account().param("client_id", "secret")).await;
    assert_eq!(rule, AssertionRule::Credential);

    // The second one is removed. Later, the workload moves to it, after the server has cached the first for less time than the workload.
    store.delete(&ClientId::from_static("second")).await.unwrap();
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(world.client_of(by_account().param("client_id", "kube")).await, "kube");
    world.clock.advance(Duration::from_secs(30));
    assert_eq!(world.client_of(by_account()).await, "kube");
    store.create(with("second", account())).await.unwrap();
    let moved = |client: &RegisteredClient| {
        client.edit().credential(spiffe("spiffe://example.org/moved")).without_credential("1")
    };
    store.update(&ClientId::from_static("kube"), moved).await.unwrap();
    world.clock.advance(Duration::from_secs(31));
    assert_eq!(world.client_of(by_account()).await, "second", "a stale answer refuses no one");
    store.disable(&ClientId::from_static("second")).await.unwrap();
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(world.refused(by_account()).await.0, AssertionRule::Client);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_is_found_without_client_id_on_every_store_unless_several_clients_have_it() {
    finds_the_client_of_a_workload(MemoryStore::default()).await;
    let folder = TempDir::new().unwrap();
    let file = FileStore::builder(folder.path().join("clients.toml")).create_missing().open().await.unwrap();
    finds_the_client_of_a_workload(file).await;
    finds_the_client_of_a_workload(sqlite(folder.path()).await).await;
    let server = Postgres::start();
    finds_the_client_of_a_workload(postgres(&server.url()).await).await;
    let server = Redis::start();
    finds_the_client_of_a_workload(redis(&server).await).await;
}

async fn postgres(url: &str) -> PostgresStore {
    PostgresStore::builder(url).call_timeout(PATIENCE).connect().await.unwrap()
}

async fn redis(server: &Redis) -> RedisStore {
    RedisStore::builder(&server.url()).call_timeout(PATIENCE).connect().await.unwrap()
}

async fn sqlite(folder: &Path) -> SqliteStore {
    let url = format!("sqlite://{}/clients.db", folder.display());
    SqliteStore::builder(url).call_timeout(PATIENCE).open().await.unwrap()
}

/// A store without an index.
#[derive(Debug)]
struct Plain(MemoryStore);

impl ClientStore for Plain {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<std::sync::Arc<RegisteredClient>>> {
        self.0.find(id)
    }
}

#[tokio::test]
async fn a_store_without_an_index_needs_client_id_and_the_event_says_so() {
    let store = MemoryStore::default();
    store.create(with(ACCOUNT, account())).await.unwrap();
    let mut world = World::with(Plain(store.clone()), store).await;
    let (rule, text) = world.refused(by_account()).await;
    assert_eq!(rule, AssertionRule::ClientId);
    assert!(text.contains("the client store has no index of workloads") && text.contains("client_id"), "{text}");
    assert_eq!(world.client_of(by_account().param("client_id", ACCOUNT)).await, ACCOUNT);
}

#[tokio::test]
async fn a_platform_with_two_names_is_found_by_either() {
    let store = MemoryStore::default();
    let renamed = Credential::service_account("https://new.cluster.example", "prod", "billing").unwrap();
    store.create(with("renamed", renamed)).await.unwrap();
    let mut world = World::of(store.clone()).await;
    assert_eq!(world.client_of(by_account()).await, "renamed");
    store.create(with("old", account())).await.unwrap();
    assert_eq!(world.refused(by_account()).await.0, AssertionRule::ClientId);
}

/// Counts the look-ups.
#[derive(Clone, Debug)]
struct Counting(MemoryStore, std::sync::Arc<std::sync::atomic::AtomicUsize>);

impl ClientStore for Counting {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<std::sync::Arc<RegisteredClient>>> {
        self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.0.find(id)
    }

    fn find_by_workload<'a>(
        &'a self,
        keys: &'a [tower_client_credentials::registration::WorkloadKey],
    ) -> StoreFuture<'a, Option<Vec<ClientId>>> {
        self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.0.find_by_workload(keys)
    }
}

#[tokio::test]
async fn a_stranger_causes_no_look_up_of_a_workload_and_a_deep_spiffe_id_none_either() {
    let store = Counting(MemoryStore::default(), std::sync::Arc::default());
    let mut world = World::with(store.clone(), MemoryStore::default()).await;
    let claims = |issuer: &str, audience: &str| json!({"iss": issuer, "sub": ACCOUNT, "aud": audience, "iat": NOW, "exp": NOW + 60, "jti": "x"});
    let header = || json!({"alg": "ES256", "kid": "k"});
    for request in [
        send(JWT_BEARER, header(), claims(CLUSTER, ISSUER), 99),
        send(JWT_BEARER, header(), claims("https://stranger.example", ISSUER), 21),
        send(JWT_BEARER, header(), claims(CLUSTER, CLUSTER), 21),
        send(JWT_SPIFFE, header(), json!({"sub": SVID, "aud": ISSUER, "exp": NOW + 60}), 99),
        send(JWT_SPIFFE, header(), json!({"sub": "spiffe://stranger.org/a", "aud": ISSUER, "exp": NOW + 60}), 23),
        by_svid(&format!("spiffe://example.org{}", "/a".repeat(33))),
    ] {
        let answer = world.send(request).await;
        assert_eq!(answer.status.as_u16(), 401);
        assert!(matches!(world.events.try_recv().unwrap().outcome, Outcome::AuthenticationFailed(_)));
        assert_eq!(store.1.load(std::sync::atomic::Ordering::SeqCst), 0);
    }
    // A workload without a client costs one look-up in 5 seconds.
    for _ in 0..20 {
        world.send(by_account()).await;
    }
    assert_eq!(store.1.load(std::sync::atomic::Ordering::SeqCst), 1);
}

async fn has(store: &impl ClientStore, expected: &[&str]) {
    let keys = with("any", account()).workload_keys();
    let mut found = store.find_by_workload(&keys).await.unwrap().unwrap();
    found.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    assert_eq!(found, expected);
}

/// A client with the account, as a record of a store.
fn record(id: &str) -> String {
    serde_json::to_string(&with(id, account())).unwrap()
}

#[tokio::test]
async fn an_sqlite_file_without_the_index_gets_one_and_a_version_without_it_can_delete_clients() {
    let folder = TempDir::new().unwrap();
    let store = sqlite(folder.path()).await;
    store.create(with("kube", account())).await.unwrap();
    store.create(client("secret").audience(API).register().unwrap()).await.unwrap();
    has(&store, &["kube"]).await;
    drop(store);
    let url = format!("sqlite://{}/clients.db", folder.path().display());
    let run = async |statement: &str| {
        let mut connection = SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
    };
    run("DROP TRIGGER tcc_workloads_deleted; DROP TABLE tcc_workloads").await;
    let store = sqlite(folder.path()).await;
    has(&store, &["kube"]).await;
    run("DELETE FROM tcc_clients WHERE id = 'kube'").await;
    has(&store, &[]).await;
    store.create(with("kube", spiffe(SVID))).await.unwrap();
    has(&store, &[]).await;
}

#[tokio::test]
async fn postgres_tables_without_the_index_get_one_also_for_what_a_version_without_it_wrote() {
    let server = Postgres::start();
    let store = postgres(&server.url()).await;
    store.create(with("kube", account())).await.unwrap();
    store.create(client("secret").audience(API).register().unwrap()).await.unwrap();
    let run = async |statement: String| {
        let mut connection = PgConnection::connect(&server.url()).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    };
    let revision = async || {
        let mut connection = PgConnection::connect(&server.url()).await.unwrap();
        let revision = "SELECT revision FROM tcc_clients WHERE id = 'kube'";
        sqlx::query_scalar::<_, i64>(revision).fetch_one(&mut connection).await.unwrap()
    };
    let before = revision().await;
    run("ALTER TABLE tcc_clients DROP COLUMN workloads".to_owned()).await;
    let store = postgres(&server.url()).await;
    has(&store, &["kube"]).await;
    assert_eq!(revision().await, before, "the index is no change of a client");
    let insert = "INSERT INTO tcc_clients (id, revision, record) VALUES";
    run(format!("{insert} ('broken', nextval('tcc_revision'), '{{\"credentials\": 5}}')")).await;
    has(&store, &["kube"]).await;
    run(format!("{insert} ('other', nextval('tcc_revision'), '{}')", record("other"))).await;
    let keys = with("any", account()).workload_keys();
    let error = common::chain(&store.find_by_workload(&keys).await.unwrap_err());
    assert!(error.contains("the index of workloads lacks the client \"other\""), "{error}");
    let store = postgres(&server.url()).await;
    has(&store, &["kube", "other"]).await;
    run("DELETE FROM tcc_clients WHERE id = 'kube'".to_owned()).await;
    has(&store, &["other"]).await;
}

#[tokio::test]
async fn a_postgres_role_that_may_not_add_the_index_is_told_what_the_owner_must_run_and_a_reader_needs_none() {
    let server = Postgres::start();
    postgres(&server.url()).await.create(with("kube", account())).await.unwrap();
    let run = async |statement: &str| {
        let mut connection = PgConnection::connect(&server.url()).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
    };
    run("CREATE ROLE runtime LOGIN PASSWORD 'runtime'; CREATE ROLE reader LOGIN PASSWORD 'reader';
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO runtime;
        GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA public TO runtime;
        GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;
        ALTER TABLE tcc_clients DROP COLUMN workloads")
    .await;
    let of = |role: &str| format!("postgres://{role}:{role}@127.0.0.1:{}/postgres?sslmode=disable", server.port());
    let said = common::chain(&PostgresStore::connect(of("runtime")).await.unwrap_err());
    assert!(said.contains("role runtime") && said.contains("tcc_clients_workloads"), "{said}");
    let reader = postgres(&of("reader")).await;
    let keys = with("any", account()).workload_keys();
    reader.find_by_workload(&keys).await.unwrap_err();
    assert!(reader.find(&ClientId::from_static("kube")).await.unwrap().is_some());
    let (_, statements) = said.split_once("owner of the tables: ").unwrap();
    run(statements).await;
    // The tables have the index, which no process has completed yet.
    let early = postgres(&of("reader")).await;
    for reader in [&reader, &early] {
        let error = common::chain(&reader.find_by_workload(&keys).await.unwrap_err());
        assert!(error.contains("the index of workloads lacks the client \"kube\""), "{error}");
    }
    has(&postgres(&of("runtime")).await, &["kube"]).await;
    has(&reader, &["kube"]).await;
}

#[tokio::test]
async fn redis_without_the_index_is_an_error_until_a_process_that_starts_makes_it_again() {
    let server = Redis::start();
    let store = redis(&server).await;
    has(&store, &[]).await;
    store.create(client("secret").audience(API).register().unwrap()).await.unwrap();
    store.create(with("kube", account())).await.unwrap();
    has(&store, &["kube"]).await;
    let keys = with("any", account()).workload_keys();
    for evicted in ["{tcc}:workloads", "{tcc}:indexed"] {
        server.ask(&format!("DEL {evicted}"));
        let error = common::chain(&store.find_by_workload(&keys).await.unwrap_err());
        assert!(error.contains("the index of workloads is missing"), "{error}");
        // A change does not make an incomplete index look complete.
        store.create(client(evicted).register().unwrap()).await.unwrap();
        store.find_by_workload(&keys).await.unwrap_err();
        has(&redis(&server).await, &["kube"]).await;
        has(&store, &["kube"]).await;
    }
    // A client changes while only its own list is missing, and its former entry stays.
    server.ask("DEL {tcc}:indexed");
    let moved = |client: &RegisteredClient| client.edit().credential(spiffe(SVID)).without_credential("1");
    store.update(&ClientId::from_static("kube"), moved).await.unwrap();
    let _index = redis(&server).await;
    has(&store, &[]).await;
    store.create(with("next", account())).await.unwrap();
    has(&store, &["next"]).await;
    store.delete(&ClientId::from_static("next")).await.unwrap();
    let back = |client: &RegisteredClient| client.edit().credential(account());
    store.update(&ClientId::from_static("kube"), back).await.unwrap();
    has(&store, &["kube"]).await;

    // A version without the index deletes the client, and another one is registered under its id.
    server.ask("HDEL {tcc}:clients kube");
    server.ask("ZREM {tcc}:ids kube");
    has(&store, &[]).await;
    store.create(client("kube").register().unwrap()).await.unwrap();
    has(&store, &[]).await;
    for number in 0..2_500 {
        let id = format!("c{number}");
        let client = if number == 2_400 { with(&id, account()) } else { client(&id).register().unwrap() };
        store.create_all(vec![client]).await.unwrap();
    }
    server.ask("DEL {tcc}:workloads {tcc}:indexed");
    has(&redis(&server).await, &["c2400"]).await;
}
