//! The file store: the conformance suite, invalid files, and concurrent changes by other programs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)] // helpers of tests, which may

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::follower::{Follower, is_woken_by_each_change_of_a_client};
use common::forge::{Draft, encode};
use common::request::{GRANT, TokenRequest, post};
use common::stack::Stack;
use common::{API, ISSUER, NOW, READ, at, client, clock, settings};
use serde_json::json;
use tempfile::TempDir;
use tower_client_credentials::authorization_server::ClientAssertions;
use tower_client_credentials::registration::Credential;
use tower_client_credentials::store::conformance::{self, Violation};
use tower_client_credentials::store::{
    AdminError, Change, ChangeFeed, ClientAdmin, Cursor, FileStore, Replay, ReplayId, ReplayLog, Revocation,
    RevocationStore,
};
use tower_client_credentials::{AuthorizationServer, Client, ClientId, ClientStore, KeyRing};

/// Random enough, and used nowhere else.
const HASH: &str = "$sha256$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// How long a change may take to become effective.
const LIVE: Duration = Duration::from_secs(1);

fn entry(id: &str) -> String {
    format!(
        "[[clients]]\nclient_id = \"{id}\"\naudiences = [\"{API}\"]\n\
         client_secrets = [{{ label = \"1\", hash = \"{HASH}\" }}]\n\n"
    )
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clients.toml");
    (folder, path)
}

async fn open(path: &Path) -> FileStore {
    FileStore::builder(path).clock(clock()).open().await.unwrap()
}

async fn has(store: &FileStore, id: &str) -> bool {
    store.find(&id.parse().unwrap()).await.unwrap().is_some()
}

/// Waits for another process or the file watch. Returns how long it took.
async fn until<F: Future<Output = bool>>(mut condition: impl FnMut() -> F) -> Duration {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "timed out");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

/// Replaces the file atomically, like an editor or `kubectl`.
fn put(path: &Path, content: impl AsRef<[u8]>) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_the_conformance_suite() -> Result<(), Violation> {
    let (folder, _) = folder();
    let number = AtomicU64::new(0);
    let empty = || {
        let path = folder.path().join(format!("{}.toml", number.fetch_add(1, Ordering::Relaxed)));
        async move { FileStore::builder(path).create_missing().open().await.unwrap() }
    };
    conformance::clients(empty).await?;
    conformance::revocations(empty).await?;
    conformance::client_changes(empty).await?;
    conformance::replay_log(empty).await
}

#[tokio::test]
async fn a_valid_change_is_effective_within_a_second_and_reported_by_the_feed() {
    let (_folder, path) = folder();
    put(&path, entry("billing"));
    let store = open(&path).await;
    assert!(has(&store, "billing").await);
    let start = store.changes(&Cursor::start()).await.unwrap().cursor;

    put(&path, entry("billing") + &entry("reports"));
    let took = until(|| has(&store, "reports")).await;
    println!("a change of the file is live after {took:?}");
    assert!(took < LIVE, "{took:?}");
    let told = store.changes(&start).await.unwrap();
    assert_eq!(told.changes, [Change::Client(ClientId::from_static("reports"))], "and of no other");

    put(&path, entry("reports"));
    until(|| async { !has(&store, "billing").await }).await;
    let told = store.changes(&told.cursor).await.unwrap().changes;
    let billing = ClientId::from_static("billing");
    let revoked = Revocation::former_client(billing.clone(), at(NOW), store.longest_token_lifetime());
    assert_eq!(told, [Change::Revoked(revoked), Change::Client(billing)]);
}

#[tokio::test]
async fn a_file_behind_swapped_links_is_followed() {
    let (folder, path) = folder();
    for (version, id) in [("..1", "billing"), ("..2", "reports")] {
        fs::create_dir(folder.path().join(version)).unwrap();
        fs::write(folder.path().join(version).join("clients.toml"), entry(id)).unwrap();
    }
    let data = folder.path().join("..data");
    symlink("..1", &data).unwrap();
    symlink("..data/clients.toml", &path).unwrap();
    let store = open(&path).await;
    assert!(has(&store, "billing").await);

    symlink("..2", folder.path().join("..new")).unwrap();
    fs::rename(folder.path().join("..new"), data).unwrap();
    let took = until(|| has(&store, "reports")).await;
    assert!(took < LIVE, "{took:?}");
    assert!(!has(&store, "billing").await);
}

/// Invalid files, each with a part of its error. The secret in some of them must not be shown.
fn broken() -> Vec<(Vec<u8>, usize, &'static str)> {
    let good = entry("billing"); // 5 lines
    let with = |line: &str| format!("{good}[[clients]]\nclient_id = \"b\"\n{line}\n");
    let secret = |member: &str| with(&format!("client_secrets = [{{ label = \"1\", {member} }}]"));
    [
        (String::new(), 1, "file is empty"),
        (format!("{good}[[clients]"), 6, ""),
        (" \n\n".to_owned(), 1, "file is empty"),
        (format!("{good}client_id"), 6, ""),
        (format!("{good}[[clients]]\n"), 6, "client_id"),
        (good.replace("[[clients]]", "[[client]]"), 1, "unknown field `client`"),
        (good.replace("[[clients]]", "[clients]"), 1, "invalid type: map"),
        ("clients = [[\"hunter2\"]]\n".to_owned(), 1, "expected an object"),
        (with("client_secrets = [[\"1\", \"hunter2\"]]"), 8, "expected an object"),
        (format!("{good}x = \"hunter2"), 6, ""),
        (with("client_id = \"c\""), 8, "duplicate key"),
        (with("allowed_ips = [\"10.0.0.1\"]"), 8, "unknown field `allowed_ips`"),
        (with("audiences = [\"api\"]"), 6, "client `b`: audiences[0]: `api` is not an audience"),
        (with("scope = \"a\\\"b\""), 6, "scope"),
        (with("default_scope = \"read\""), 6, "default scope `read`"),
        (with("token_lifetime = 0"), 6, "lifetime"),
        (with("token_lifetime = -1"), 8, "token_lifetime: invalid value: integer `…`"),
        (with("token_lifetime = \"hunter2\""), 8, "token_lifetime: invalid type: string \"…\""),
        (with("enabled = \"hunter2\""), 8, "invalid type: string \"…\""),
        (with("enabled = 4815162342"), 8, "invalid type: integer `…`, expected a boolean"),
        (secret("dangerous_plain = 4815162342"), 8, "a secret or hash must be a string"),
        (with("client_secrets = \"hunter2\""), 8, "client_secrets: invalid type: string \"…\""),
        (with("token_endpoint_auth_method = \"none\""), 8, "unsupported method"),
        (secret("hash = \"hunter2\""), 6, "client `b`: client_secrets[0].hash: "),
        (secret("secret = \"hunter2\""), 8, "unknown field `secret`"),
        (secret(&format!("hash = \"{HASH}\", dangerous_plain = \"hunter2\"")), 6, "hash"),
        (secret("hash = 5"), 8, "client_secrets[0].hash: a secret or hash must be a string"),
        (secret(&format!("hash = \"{HASH}\", expires_at = 99999999999999999999")), 8, ""),
        (format!("{good}{good}"), 6, "duplicate client id `billing`"),
        (good.replace("\"billing\"", &format!("\"{}\"", "b".repeat(256))), 1, "client id"),
    ]
    .map(|(text, line, reason)| (text.into_bytes(), line, reason))
    .into_iter()
    .chain([
        ([good.as_bytes(), b"# \xff\n"].concat(), 6, "not UTF-8"),
        ([good.as_bytes(), b"\0\0\0\0"].concat(), 6, ""),
        (good.as_bytes()[..30].to_vec(), 2, ""),
    ])
    .collect()
}

#[tokio::test]
async fn invalid_files_are_rejected_with_line_and_reason_while_the_old_content_stays_in_use() {
    let (_folder, path) = folder();
    let good = entry("billing") + &entry("reports");
    put(&path, &good);
    let store = open(&path).await;
    let broken = broken();
    let count = broken.len();
    let mut last = None;
    for (content, line, reason) in broken {
        put(&path, &content);
        until(|| async { store.fault() != last }).await;
        let fault = store.fault().unwrap();
        let text = String::from_utf8_lossy(&content).into_owned();
        assert_eq!(fault.line(), Some(line), "{fault}\n{text}");
        assert!(fault.reason().contains(reason) && !fault.reason().is_empty(), "{fault}\n{text}");
        let said = fault.to_string();
        assert!(!said.contains("hunter2") && !said.contains("4815162342"), "{said}");
        assert!(has(&store, "billing").await && has(&store, "reports").await, "after {fault}");
        let error = FileStore::open(&path).await.unwrap_err();
        assert_eq!(error, fault, "no server starts from it either");
        last = Some(fault);
    }
    put(&path, &good);
    until(|| async { store.fault().is_none() }).await;
    println!("{count} broken files refused, each with line and reason, while the earlier clients stayed in use");
}

/// During an update of a service, a later release may have written the file.
#[tokio::test]
async fn a_member_of_a_later_release_is_kept_in_the_file_unless_it_must_be_understood() {
    let (_folder, path) = folder();
    let later = entry("billing") + "version = 2\nnote = { team = \"b\" }\n";
    put(&path, &(later.clone() + &entry("reports")));
    let store = open(&path).await;
    store.disable(&ClientId::from_static("billing")).await.unwrap();
    let written: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
    let billing = &written["clients"][0];
    assert_eq!(billing["note"]["team"].as_str(), Some("b"), "{written}");
    assert_eq!((billing["version"].as_integer(), billing["enabled"].as_bool()), (Some(2), Some(false)));
    assert!(written["clients"][1].get("version").is_none());

    put(&path, &(later + "must_understand = [\"note\"]\n"));
    let fault = FileStore::open(&path).await.unwrap_err();
    let reason = "client `billing`: must_understand: this release does not know the member `note`";
    assert!(fault.reason().contains(reason), "{fault}");
}

type Make = fn(&Path);

#[tokio::test]
async fn a_path_that_is_not_a_file_is_rejected_and_recovered_from() {
    let (folder, path) = folder();
    put(&path, entry("billing"));
    let store = open(&path).await;
    let pipe = |path: &Path| {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    let things: [(&str, Make); 5] = [
        ("No such file", |_| {}),
        ("not a regular file", |path| fs::create_dir(path).unwrap()),
        ("not a regular file", pipe),
        ("No such file", |path| symlink("nowhere", path).unwrap()),
        ("symbolic link", |path| symlink("clients.toml", path).unwrap()),
    ];
    for (reason, make) in things {
        fs::rename(&path, folder.path().join("away")).unwrap();
        make(&path);
        until(|| async { store.fault().is_some() }).await;
        let fault = store.fault().unwrap();
        assert!(fault.reason().contains(reason), "{fault}");
        assert!(has(&store, "billing").await);
        assert!(matches!(store.create(client("new").register().unwrap()).await, Err(AdminError::Store(_))));
        if path.is_dir() {
            fs::remove_dir(&path).unwrap();
        } else {
            let _ = fs::remove_file(&path);
        }
        fs::rename(folder.path().join("away"), &path).unwrap();
        until(|| async { store.fault().is_none() }).await;
    }
}

#[tokio::test]
async fn a_file_is_checked_against_the_rules_of_the_server_too() {
    let (_folder, path) = folder();
    put(&path, entry("billing"));
    let store = open(&path).await;
    let keys = KeyRing::generate().unwrap();
    let _server =
        AuthorizationServer::builder("https://auth.example.com", keys, store.clone()).resource(API).build().unwrap();
    put(&path, entry("billing") + &entry("reports").replace(API, "https://elsewhere.example.com"));
    until(|| async { store.fault().is_some() }).await;
    let fault = store.fault().unwrap();
    assert!(fault.line() == Some(6) && fault.reason().contains("which the server does not know"), "{fault}");
    let stranger = client("stranger").audience("https://elsewhere.example.com").register().unwrap();
    put(&path, entry("billing"));
    assert!(matches!(store.create(stranger).await, Err(AdminError::Invalid(_))));
}

#[tokio::test]
async fn administration_rewrites_the_file_and_keeps_its_mode_owner_and_link() {
    let (folder, link) = folder();
    let path = folder.path().join("real.toml");
    fs::write(&path, entry("billing")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let own = (fs::metadata(&path).unwrap().uid(), fs::metadata(&path).unwrap().gid());
    if own.0 == 0 {
        std::os::unix::fs::chown(&path, Some(1234), Some(4321)).unwrap();
    } else if let Some(group) = groups().into_iter().find(|group| *group != own.1) {
        // A user can only give a file to a group of its own.
        std::os::unix::fs::chown(&path, None, Some(group)).unwrap();
    } else {
        println!("this user is in one group only: that the group of the file stays is not tested");
    }
    let owner = (fs::metadata(&path).unwrap().uid(), fs::metadata(&path).unwrap().gid());
    symlink("real.toml", &link).unwrap();
    let store = open(&link).await;
    store.create(client("reports").audience(API).register().unwrap()).await.unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o640);
    assert_eq!((metadata.uid(), metadata.gid()), owner);
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "nothing is left over but the lock: {names:?}");
    let lock = fs::metadata(folder.path().join("real.toml.lock")).unwrap();
    assert_eq!((lock.uid(), lock.gid(), lock.mode() & 0o777), (owner.0, owner.1, 0o600), "its owner can take it");
    let again = open(&path).await;
    assert!(has(&again, "reports").await && has(&again, "billing").await);
}

/// The supplementary groups of this user.
fn groups() -> Vec<u32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    groups.split_whitespace().map(|group| group.parse().unwrap()).collect()
}

#[tokio::test]
async fn writes_of_another_process_are_seen_and_kept() {
    let (_folder, path) = folder();
    put(&path, entry("billing"));
    let (service, tool) = (open(&path).await, open(&path).await);
    tool.create(client("reports").audience(API).register().unwrap()).await.unwrap();
    // Immediately, since the tool's write is on the disk.
    service.create(client("third").audience(API).register().unwrap()).await.unwrap();
    assert!(has(&service, "reports").await && has(&service, "third").await);
    until(|| has(&tool, "third")).await;

    let (billing, revision) = tool.load(&ClientId::from_static("billing")).await.unwrap().unwrap();
    service.disable(billing.id()).await.unwrap();
    let late = tool.replace((*billing).clone(), revision).await;
    assert!(matches!(late, Err(AdminError::Conflict)), "{late:?}");

    let revocation = Revocation::key("old-key", at(NOW), Duration::from_secs(60));
    tool.revoke(revocation.clone()).await.unwrap();
    let told = |store: &FileStore| {
        let store = store.clone();
        async move { store.changes(&Cursor::start()).await.unwrap().changes }
    };
    let late = until(|| async { told(&service).await.contains(&Change::Revoked(revocation.clone())) }).await;
    assert!(late < LIVE, "{late:?}");

    service.purge(at(NOW + 100_000)).await.unwrap();
    assert_eq!(fs::read_to_string(path.with_extension("toml.revoked")).unwrap(), "");
}

#[tokio::test]
async fn a_follower_sees_a_write_of_this_process_at_once() {
    let (_folder, path) = folder();
    put(&path, entry("billing"));
    let store = FileStore::open(&path).await.unwrap();
    Follower::of(store.clone()).await.hears_at_once(&store).await;
    is_woken_by_each_change_of_a_client(&store, &store, async || true).await;
}

#[tokio::test]
async fn the_pages_of_a_listing_do_not_each_read_the_file() {
    let (_folder, path) = folder();
    put(&path, ["a", "b", "c"].map(entry).concat());
    let store = open(&path).await;
    let one = 1.try_into().unwrap();
    let first = store.list(None, one).await.unwrap();
    fs::remove_file(&path).unwrap();
    let second = store.list(Some(first[0].id()), one).await.unwrap();
    assert_eq!(second[0].id().as_str(), "b");
}

#[tokio::test]
async fn revocations_outlive_the_process_and_an_incomplete_line_does_no_harm() {
    let (_folder, path) = folder();
    put(&path, entry("billing"));
    let named = |name: &str| Revocation::key(name, at(NOW), Duration::from_secs(60));
    open(&path).await.revoke(named("one")).await.unwrap();
    let journal = path.with_extension("toml.revoked");
    let torn = fs::read_to_string(&journal).unwrap() + "{\"key\":{\"key_id\":\"to";
    fs::write(&journal, torn).unwrap();
    let store = open(&path).await;
    store.revoke(named("two")).await.unwrap();
    drop(store);
    let told = open(&path).await.changes(&Cursor::start()).await.unwrap().changes;
    for name in ["one", "two"] {
        assert!(told.contains(&Change::Revoked(named(name))), "{told:?}");
    }
}

#[tokio::test]
async fn a_client_disabled_in_the_file_has_no_valid_tokens_even_if_that_was_written_while_no_server_ran() {
    let (_folder, path) = folder();
    put(&path, entry("billing").replace("[[clients]]\n", "[[clients]]\nenabled = false\n"));
    let told = open(&path).await.changes(&Cursor::start()).await.unwrap().changes;
    assert!(told.iter().any(|change| matches!(change, Change::Revoked(Revocation::Client { .. }))), "{told:?}");
}

/// Returns a request with an assertion of `signer`, with this `jti`.
fn asserted(jti: &str) -> TokenRequest {
    let key = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
    let claims = json!({"iss": "signer", "sub": "signer", "aud": ISSUER, "exp": NOW + 60, "jti": jti});
    let draft = Draft { header: json!({"alg": "ES256"}).to_string(), claims: claims.to_string() };
    let assertion = draft.sign_with(&key);
    post(GRANT)
        .param("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
        .param("client_assertion", &assertion)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_assertion_stays_used_over_a_restart_and_is_a_503_if_it_cannot_be_recorded() {
    let (folder, path) = folder();
    let point = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap().verifying_key().to_encoded_point(false);
    let (x, y) = (encode(point.x().unwrap()), encode(point.y().unwrap()));
    let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "x": x, "y": y}]}).to_string();
    let start = async || {
        let store = FileStore::builder(&path).clock(clock()).create_missing().open().await.unwrap();
        let assertions = ClientAssertions::new(store.clone());
        let server = settings(store.clone())
            .client_assertions(assertions)
            .store_timeout(Duration::from_secs(30))
            .build()
            .unwrap();
        (store, Stack::PLAIN.issue(&server).await)
    };
    let (store, site) = start().await;
    let signer = Client::with_credential("signer", Credential::jwks(keys).unwrap()).scope(READ).audience(API);
    store.create(signer.register().unwrap()).await.unwrap();
    site.send(asserted("one")).await.assert_token();
    site.send(asserted("one")).await.assert_refused(401, "invalid_client");
    drop((store, site));
    let (store, site) = start().await;
    site.send(asserted("one")).await.assert_refused(401, "invalid_client");
    site.send(asserted("two")).await.assert_token();

    // The file cannot be written, and so nothing is accepted.
    let used = folder.path().join("clients.toml.used");
    let kept = folder.path().join("kept");
    fs::rename(&used, &kept).unwrap();
    fs::create_dir(&used).unwrap();
    for jti in ["three", "one", "three"] {
        site.send(asserted(jti)).await.assert_refused(503, "temporarily_unavailable");
    }
    fs::remove_dir(&used).unwrap();
    fs::rename(&kept, &used).unwrap();
    site.send(asserted("three")).await.assert_token();
    site.send(asserted("two")).await.assert_refused(401, "invalid_client");
    drop((store, site));

    // A line that may be a used credential cannot be read.
    fs::write(&used, "?\n").unwrap();
    let fault = FileStore::open(&path).await.unwrap_err();
    assert!(fault.path() == used && fault.line() == Some(1), "{fault}");
}

#[tokio::test]
async fn used_credentials_are_in_the_folder_of_the_revocations_unless_their_own_path_is_set() {
    let (folder, path) = folder();
    let [revoked, used] = ["state/revoked", "used"].map(|name| folder.path().join(name));
    fs::create_dir(folder.path().join("state")).unwrap();
    let builder = || FileStore::builder(&path).create_missing().revocations_at(&revoked);
    let use_one = async |store: FileStore| {
        let id = ReplayId::new("issuer", "a");
        assert_eq!(store.check_and_insert(&id, at(NOW + 60), at(NOW)).await.unwrap(), Replay::Fresh);
    };
    use_one(builder().clock(clock()).open().await.unwrap()).await;
    assert!(folder.path().join("state/revoked.used").exists());
    use_one(builder().clock(clock()).used_credentials_at(&used).open().await.unwrap()).await;
    assert!(used.exists());

    // The files of two stores have one name in two folders, and their revocations are in one folder.
    for store in ["one", "two"] {
        fs::create_dir(folder.path().join(store)).unwrap();
        let clients = folder.path().join(store).join("clients.toml");
        let revoked = folder.path().join(format!("state/{store}.revoked"));
        let builder = FileStore::builder(clients).create_missing().revocations_at(revoked).clock(clock());
        use_one(builder.open().await.unwrap()).await;
        assert!(folder.path().join(format!("state/{store}.used")).exists(), "{store}");
    }
}
