//! Key rings that replicas share, in each store: the conformance suite, rotation, distrust, and what a copy of the store shows.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::request::{GRANT, billing_asks};
use common::servers::{Postgres, Redis};
use common::stack::{Answer, Body};
use common::{API, ISSUER};
use http_body_util::Full;
use hyper::body::Bytes;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use tower::ServiceExt as _;
use tower_client_credentials::keys::rotation::{
    KeyEncryptionKey, KeyManager, KeyRingError, KeyState, KeyStore, MemoryKeyStore, Replica as Lease,
};
use tower_client_credentials::store::conformance::{self, Violation};
use tower_client_credentials::store::{FileKeyStore, PostgresStore, RedisStore, SqliteStore};
use tower_client_credentials::{Algorithm, AuthorizationServer, MemoryStore, SigningKey, Verifier};

/// Long enough for a machine that is busy with other work.
const PATIENCE: Duration = Duration::from_secs(120);

/// Opens stores, each of them empty.
struct Fresh<S> {
    server: S,
    made: AtomicUsize,
}

impl<S> Fresh<S> {
    fn on(server: S) -> Self {
        Self { server, made: AtomicUsize::new(0) }
    }

    fn name(&self) -> String {
        format!("fresh_{}", self.made.fetch_add(1, Ordering::Relaxed))
    }
}

impl Fresh<Postgres> {
    async fn url(&self) -> String {
        let name = self.name();
        let mut connection = PgConnection::connect(&self.server.url()).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE SCHEMA {name}"))).execute(&mut connection).await.unwrap();
        format!("{}&options=-csearch_path%3D{name}", self.server.url())
    }
}

async fn postgres(url: &str) -> PostgresStore {
    PostgresStore::builder(url).call_timeout(Duration::from_secs(20)).connect().await.unwrap()
}

async fn redis(url: &str, prefix: &str) -> RedisStore {
    RedisStore::builder(url).prefix(prefix).call_timeout(Duration::from_secs(20)).connect().await.unwrap()
}

async fn sqlite(folder: &Path, name: &str) -> SqliteStore {
    let url = format!("sqlite://{}", folder.join(name).display());
    SqliteStore::builder(url).call_timeout(Duration::from_secs(20)).open().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stores_without_a_server_pass_the_conformance_suite() -> Result<(), Violation> {
    conformance::key_store(|| async { MemoryKeyStore::default() }).await?;
    let folder = Fresh::on(tempfile::tempdir().unwrap());
    conformance::key_store(|| async { FileKeyStore::new(folder.server.path().join(folder.name())) }).await?;
    conformance::key_store(|| async { sqlite(folder.server.path(), &folder.name()).await }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_passes_the_conformance_suite() -> Result<(), Violation> {
    let server = Fresh::on(Postgres::with(&["fsync=off"]));
    conformance::key_store(|| async { postgres(&server.url().await).await }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_passes_the_conformance_suite() -> Result<(), Violation> {
    let server = Fresh::on(Redis::with(&["--appendfsync", "no"]));
    conformance::key_store(|| async { redis(&server.server.url(), &server.name()).await }).await
}

fn by() -> KeyEncryptionKey {
    KeyEncryptionKey::from_bytes((0..32).collect::<Vec<u8>>()).unwrap()
}

/// A replica of an authorization server, with a verifier in the same process.
struct Replica {
    manager: KeyManager,
    server: AuthorizationServer,
    verifier: Verifier,
}

impl Replica {
    async fn start(store: impl KeyStore) -> Self {
        // Short waits; nothing else is assumed about the time that anything takes.
        let manager = KeyManager::builder(store, by())
            .every(None)
            .max_age(Duration::from_secs(1))
            .margin(Duration::ZERO)
            .store_timeout(Duration::from_secs(20))
            .lease(PATIENCE)
            .poll_interval(Duration::from_millis(50))
            .connect()
            .await
            .unwrap();
        let server =
            AuthorizationServer::builder(ISSUER, manager.ring(), MemoryStore::try_from(common::clients()).unwrap())
                .build();
        let server = server.unwrap();
        let verifier = server.verifier(API).unwrap();
        Self { manager, server, verifier }
    }

    fn signing(&self) -> String {
        self.manager.status().signing().unwrap().key_id.clone()
    }

    async fn token(&self) -> String {
        let request: http::Request<Body> = billing_asks(GRANT).into();
        let request = request.map(|_| Full::new(Bytes::from(GRANT)));
        Answer::read(self.server.token_service().oneshot(request).await.unwrap()).await.assert_token()
    }
}

/// Waits until something holds, for as long as a slow machine may need.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Lets the next key sign as soon as it may, while the replicas issue tokens and verify those of each other.
async fn rotate(replicas: &[Replica]) -> String {
    let mut rotated = None;
    until("the next key may sign", async || {
        for issuing in replicas {
            let token = issuing.token().await;
            for verifying in replicas {
                verifying.verifier.verify_now(&token).unwrap();
            }
        }
        rotated = match replicas[1].manager.rotate().await {
            Ok(signs) => Some(signs),
            Err(KeyRingError::TooEarly { .. } | KeyRingError::NotEverywhere { .. }) => None,
            Err(error) => panic!("{error}"),
        };
        rotated.is_some()
    })
    .await;
    rotated.unwrap()
}

/// Three replicas on one store: they start with the same keys, rotate, distrust a key, and one of them restarts.
async fn three_replicas_share_a_ring<S: KeyStore, F: Future<Output = S>>(open: impl Fn() -> F) {
    let mut replicas = vec![];
    for store in futures_util::future::join_all([open(), open(), open()]).await {
        replicas.push(store);
    }
    let mut replicas = futures_util::future::join_all(replicas.into_iter().map(Replica::start)).await;
    let first = replicas[0].signing();
    assert!(replicas.iter().all(|replica| replica.signing() == first));

    let own = SigningKey::generate(Algorithm::EdDSA).unwrap();
    let own_id = own.key_id().to_owned();
    replicas[0].manager.publish(own).await.unwrap();
    let second = rotate(&replicas).await;
    assert_eq!(rotate(&replicas).await, own_id);
    for replica in &replicas {
        until("a replica follows", async || replica.signing() == own_id).await;
    }
    let old = replicas[2].token().await;
    assert!(replicas[0].verifier.verify_now(&old).is_ok());

    replicas[2] = Replica::start(open().await).await;
    assert_eq!(replicas[2].signing(), own_id, "a restart keeps the ring");
    replicas[1].manager.distrust(&own_id).await.unwrap();
    for replica in &replicas {
        until("a replica refuses the distrusted key", async || replica.verifier.verify_now(&old).is_err()).await;
        until("a replica signs with another key", async || replica.signing() != own_id).await;
    }
    let states: Vec<_> = replicas[0].manager.status().keys.iter().map(|key| (key.key_id.clone(), key.state)).collect();
    assert!(
        states.contains(&(first, KeyState::Retired)) && states.contains(&(second, KeyState::Retired)),
        "{states:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_a_ring_in_a_file_and_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    three_replicas_share_a_ring(|| async { FileKeyStore::new(folder.path().join("ring.json")) }).await;
    three_replicas_share_a_ring(|| async { sqlite(folder.path(), "ring.db").await }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_a_ring_in_postgres() {
    let server = Fresh::on(Postgres::with(&["fsync=off"]));
    let url = server.url().await;
    three_replicas_share_a_ring(|| async { postgres(&url).await }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_an_earlier_version_without_a_proof_does_not_prevent_reading_a_ring_in_redis() {
    let server = Redis::with(&["--appendfsync", "no"]);
    let store = redis(&server.url(), "tcc").await;
    let key = KeyEncryptionKey::from_bytes((0..32).collect::<Vec<u8>>()).unwrap();
    let manager = KeyManager::builder(store.clone(), key).connect().await.unwrap();
    let name = server.ask("KEYS *replicas*").lines().last().unwrap().trim().to_owned();
    // A lease that has not ended, one that has ended, and another value.
    for (replica, value) in [("lives", "1 9999999999999"), ("ended", "1 5"), ("other", "nonsense")] {
        server.ask(&format!("HSET {name} {replica} \"{value}\""));
    }
    manager.refresh().await.unwrap();
    let loaded = store.load_ring("default").await.unwrap();
    let own = loaded.replicas.iter().filter(|replica| !replica.proof.is_empty()).count();
    let names: Vec<_> = loaded.replicas.iter().map(|replica| replica.name.as_str()).collect();
    assert!(own == 1 && names.len() == 2 && names.contains(&"lives"), "{names:?}");
    let replica = Lease { name: "new".to_owned(), version: 1, proof: "a proof".to_owned() };
    store.renew_lease("default", &replica, Duration::from_secs(60)).await.unwrap();
    let left = server.ask(&format!("HKEYS {name}"));
    assert!(
        left.contains("lives") && left.contains("new") && !left.contains("ended") && !left.contains("other"),
        "{left}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_a_ring_in_redis() {
    let server = Redis::with(&["--appendfsync", "no"]);
    three_replicas_share_a_ring(|| async { redis(&server.url(), "tcc").await }).await;
}

/// A key that the tests know, so that they can search for its private half.
fn known_key() -> SigningKey {
    SigningKey::from_pem(common::KEY).unwrap()
}

/// Saves the known key in the ring of a store.
async fn publish_known_key(store: Arc<dyn KeyStore>) -> KeyManager {
    let manager = KeyManager::builder(store, by()).store_timeout(Duration::from_secs(20)).lease(PATIENCE);
    let manager = manager.connect().await.unwrap();
    manager.publish(known_key()).await.unwrap();
    assert!(manager.status().keys.iter().any(|found| found.key_id == known_key().key_id()));
    manager
}

/// The private number of the known key as it would be in raw bytes, PKCS#8, hexadecimal, base64 of any kind, and PEM.
fn private_forms() -> Vec<Vec<u8>> {
    let lines: Vec<&str> = common::KEY.lines().filter(|line| !line.starts_with("--")).collect();
    let der = STANDARD.decode(lines.concat()).unwrap();
    // In DER it is behind the version and the name of the curve.
    let number = &der[36..68];
    let known: p256::SecretKey = p256::pkcs8::DecodePrivateKey::from_pkcs8_pem(common::KEY).unwrap();
    assert_eq!(number, &known.to_bytes()[..]);
    let hex = number.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let mut forms = vec![number.to_vec(), hex.clone().into_bytes(), hex.to_uppercase().into_bytes()];
    // In PEM, the line ends within the number.
    forms.push(lines[1].as_bytes()[..24].to_vec());
    // In base64, the bytes around the number decide about its first and its last character.
    for shift in 0..3 {
        let encoded = STANDARD.encode([&vec![0; shift], number].concat());
        let inner = encoded[4..40].to_owned();
        forms.extend([inner.replace('+', "-").replace('/', "_").into_bytes(), inner.into_bytes()]);
    }
    forms
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    let (Some(first), mut rest) = (part.first(), bytes) else { return true };
    while let Some(place) = rest.iter().position(|byte| byte == first) {
        if rest[place..].starts_with(part) {
            return true;
        }
        rest = &rest[place + 1..];
    }
    false
}

/// Searches all files in a folder and those below for the private half of the known key. Returns the names of the files that contain
/// its name, so that it is certain that the search looked at the right bytes.
fn search(folder: &Path) -> Vec<String> {
    let (forms, key_id) = (private_forms(), known_key().key_id().to_owned());
    let (mut folders, mut with_name) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Ok(bytes) = std::fs::read(&path) else { continue }; // a temporary file
            assert!(forms.iter().all(|form| !has(&bytes, form)), "{}", path.display());
            if has(&bytes, key_id.as_bytes()) {
                with_name.push(path.display().to_string());
            }
        }
    }
    with_name
}

#[test]
fn the_search_finds_a_private_key_in_each_form() {
    let known = common::KEY.lines().filter(|line| !line.starts_with("--")).collect::<String>();
    let der = STANDARD.decode(&known).unwrap();
    let forms = private_forms();
    for text in [
        der.clone(),
        common::KEY.as_bytes().to_vec(),
        STANDARD.encode([&[0; 12][..], &der, &[0; 16]].concat()).into_bytes(),
        STANDARD.encode([&[0; 13][..], &der].concat()).into_bytes(),
        der.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}")).into_bytes(),
    ] {
        assert!(forms.iter().any(|form| has(&text, form)), "{}", String::from_utf8_lossy(&text));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_file_or_of_sqlite_contains_no_private_key_that_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    drop(publish_known_key(Arc::new(FileKeyStore::new(folder.path().join("ring.json")))).await);
    // Kept open: SQLite removes its log when it is closed.
    let sqlite = Arc::new(sqlite(folder.path(), "ring.db").await);
    let manager = publish_known_key(sqlite.clone()).await;
    let found = search(folder.path());
    assert!(found.iter().any(|name| name.contains("ring.json")), "{found:?}");
    assert!(found.iter().any(|name| name.contains("ring.db")), "{found:?}");
    drop((manager, sqlite));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_postgres_contains_no_private_key_that_can_be_read() {
    let server = Postgres::with(&["fsync=off", "wal_compression=off"]);
    let manager = publish_known_key(Arc::new(postgres(&server.url()).await)).await;
    // Postgres compresses long texts, in which nothing could be found.
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    for statement in ["ALTER TABLE tcc_key_rings ALTER COLUMN document SET STORAGE PLAIN", "CHECKPOINT"] {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
        manager.publish(SigningKey::generate(Algorithm::ES256).unwrap()).await.unwrap();
    }
    sqlx::raw_sql(AssertSqlSafe("CHECKPOINT".to_owned())).execute(&mut connection).await.unwrap();
    let found = search(server.folder());
    assert!(found.iter().any(|name| name.contains("/base/")), "the table: {found:?}");
    assert!(found.iter().any(|name| name.contains("/pg_wal/")), "the log: {found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_redis_contains_no_private_key_that_can_be_read() {
    // Compressed, nothing could be found in the dump.
    let server = Redis::with(&["--appendfsync", "always", "--rdbcompression", "no"]);
    let manager = publish_known_key(Arc::new(redis(&server.url(), "tcc").await)).await;
    server.ask("SAVE");
    until("the dump is written", async || server.folder().join("dump.rdb").exists()).await;
    let found = search(server.folder());
    assert!(found.iter().any(|name| name.ends_with("dump.rdb")), "{found:?}");
    assert!(found.iter().any(|name| name.contains("appendonly")), "{found:?}");
    drop(manager);
}
