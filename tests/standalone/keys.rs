//! Keys that change while the service runs: a file that is read again at SIGHUP, and a ring in the store.

#![allow(clippy::indexing_slicing)] // helpers of tests, which may

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
#[cfg(feature = "sqlite")]
use tower_client_credentials::keys::rotation::KeyStore as _;
use tower_client_credentials::{Algorithm, SigningKey};

use super::{GOOD, Service, file, refusal, standalone};

/// Long enough for a machine that is busy with other work.
const PATIENCE: Duration = Duration::from_secs(120);

const DONE: &str = "reloaded the configuration";
const FAILED: &str = "could not reload the configuration";

/// 32 bytes in base64, and others.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER: &str = "AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

impl Service {
    /// Returns the `kid`s of the key set.
    fn key_ids(&self) -> Vec<String> {
        let keys = self.json("/.well-known/jwks.json")["keys"].clone();
        keys.as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    /// Returns the keys in the store with their states, as the health check shows them.
    fn states(&self) -> Vec<(String, String)> {
        let keys = self.json("/health/ready")["keys"]["keys"].clone();
        let member = |key: &Value, name: &str| key[name].as_str().unwrap().to_owned();
        keys.as_array().unwrap().iter().map(|key| (member(key, "kid"), member(key, "state"))).collect()
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn in_the_store(settings: &str) -> String {
    GOOD.replace("generate = \"ES256\"", &format!("rotate_days = 90\n{settings}"))
}

/// Runs `clients keys` and returns its exit code and its output.
fn clients(store: &str, key: &str, arguments: &[&str]) -> (i32, String) {
    let mut path = std::env::current_exe().unwrap();
    path.pop(); // the test
    path.pop(); // deps
    path.push("examples/clients");
    let mut command = Command::new(path);
    command.arg("keys").args(arguments).env("TCC_STORE", store).env("TCC_KEY_ENCRYPTION_KEY", key);
    let end = Instant::now() + PATIENCE;
    loop {
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        let code = output.status.code().unwrap();
        // 1: the store did not answer in time, which can happen on a busy machine.
        if code != 1 || Instant::now() > end {
            return (code, said);
        }
    }
}

#[test]
fn a_key_file_that_was_replaced_is_read_again_at_a_reload_and_the_old_key_stays_published() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signing.pem");
    let setting = format!("load_or_create = {:?}", path.display().to_string());
    let content = GOOD.replace("generate = \"ES256\"", &setting);
    let config = file("key-file", &content);
    let mut service = Service::start_with(&config, &[("TCC_STORE", "memory:")]);
    let first = service.key_ids();
    assert_eq!(first.len(), 1);
    let token = service.token();

    let key = SigningKey::generate(Algorithm::EdDSA).unwrap();
    fs::write(&path, key.to_pkcs8_pem().unwrap().expose()).unwrap();
    // A reload that fails changes nothing, and does not publish a valid key either.
    fs::write(&config, content.replacen("/api/read\"\nscope = \"read\"", "/api/read\"\nscope = \"write\"", 1)).unwrap();
    assert_eq!(service.reload(), FAILED);
    assert_eq!(service.key_ids(), first);
    fs::write(&config, &content).unwrap();
    assert_eq!(service.reload(), DONE);
    let both = [first[0].as_str(), key.key_id()];
    assert_eq!(service.key_ids(), both);
    assert_eq!(service.reads(&token), "200");

    fs::write(&path, "no key").unwrap();
    fs::write(&config, content.replacen("/api/read\"", "/api/new\"", 1)).unwrap();
    assert_eq!(service.reload(), FAILED);
    assert_eq!(service.key_ids(), both);
    assert_eq!(service.reads(&token), "200", "a broken key file changes nothing");
    fs::remove_file(&path).unwrap();
    assert_eq!(service.reload(), FAILED, "no other key is created");
}

#[test]
fn a_key_that_is_put_into_the_folder_is_published_and_a_restart_keeps_all_keys() {
    let folder = tempfile::tempdir().unwrap();
    let setting = format!("load_or_create = {:?}", folder.path().display().to_string());
    let config = file("key-folder", &GOOD.replace("generate = \"ES256\"", &setting));
    let environment = [("TCC_STORE", "memory:")];
    let mut service = Service::start_with(&config, &environment);
    let first = service.key_ids();
    assert_eq!(first.len(), 1);
    let token = service.token();

    let path = folder.path().join("next.pem");
    fs::write(&path, "half a key").unwrap();
    assert_eq!(service.reload(), FAILED);
    assert_eq!(service.key_ids(), first);
    let key = SigningKey::generate(Algorithm::EdDSA).unwrap();
    fs::write(&path, key.to_pkcs8_pem().unwrap().expose()).unwrap();
    assert_eq!(service.reload(), DONE);
    let both = [first[0].as_str(), key.key_id()];
    assert_eq!(service.key_ids(), both);
    assert_eq!(service.reads(&token), "200");
    drop(service);
    let service = Service::start_with(&config, &environment);
    assert_eq!(service.key_ids(), both);
}

#[test]
fn a_reload_keeps_a_generated_key_although_the_trusted_keys_change() {
    let mut service = Service::start("generated-trust", &[("TCC_STORE", "memory:")]);
    let first = service.key_ids();
    let token = service.token();
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/p256.pub.pem");
    let trust = format!("generate = \"ES256\"\ntrust = [{key:?}]");
    file("generated-trust", &GOOD.replace("generate = \"ES256\"", &trust));
    assert_eq!(service.reload(), DONE);
    assert_eq!((service.key_ids().len(), service.key_ids().contains(&first[0])), (2, true));
    assert_eq!(service.reads(&token), "200");
}

#[test]
fn keys_in_memory_survive_a_reload_and_their_settings_need_a_restart() {
    let content = in_the_store("encryption_key_env = \"RING_SECRET\"");
    let config = file("ring-in-memory", &content);
    let environment = [("TCC_STORE", "memory:"), ("RING_SECRET", KEY)];
    let mut service = Service::start_with(&config, &environment);
    let (before, token) = (service.states(), service.token());
    assert_eq!(before.iter().map(|(_, state)| state.as_str()).collect::<Vec<_>>(), ["signing", "published"]);
    assert_eq!(service.key_ids().len(), 2);
    fs::write(&config, content.replacen("[tokens]", "[tokens]\nlifetime_seconds = 60", 1)).unwrap();
    assert_eq!(service.reload(), DONE);
    assert_eq!((service.states(), service.reads(&token).as_str()), (before.clone(), "200"));
    for changed in [
        content.replacen("rotate_days = 90", "rotate_days = 91", 1),
        content.replacen("RING_SECRET", "BILLING_SECRET", 1),
        content.replacen("encryption_key_env", "previous_encryption_key_file = \"p\"\nencryption_key_env", 1),
        GOOD.to_owned(),
    ] {
        fs::write(&config, &changed).unwrap();
        assert_eq!(service.reload(), FAILED, "{changed}");
        assert_eq!((service.states(), service.reads(&token).as_str()), (before.clone(), "200"), "{changed}");
    }
    assert!(service.request_token().starts_with("HTTP/1.1 200 "));

    let mut command = standalone();
    command.arg("--config").arg(file("ring-health", &content)).arg("--health").envs(environment);
    let healthy = command.env("TCC_LISTEN", service.address.to_string()).output().unwrap();
    assert!(healthy.status.success(), "{}", String::from_utf8_lossy(&healthy.stderr));
    service.terminate();
    assert_eq!(service.line(), "drained");
    assert!(service.child.wait().unwrap().success(), "it leaves the ring");
}

#[cfg(feature = "sqlite")]
#[test]
fn keys_in_the_store_are_shown_rotated_and_distrusted_while_the_service_runs() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite://{}", folder.path().join("state.db").display());
    // A variable with the prefix of settings may have the key.
    let config = file("ring", &in_the_store("encryption_key_env = \"TCC_KEY_ENCRYPTION_KEY\""));
    assert_eq!(clients(&store, KEY, &["status"]).0, 1, "the tool creates no store");
    let environment = |key| [("TCC_STORE", store.as_str()), ("TCC_KEY_ENCRYPTION_KEY", key)];
    let service = Service::start_with(&config, &environment(KEY));
    let before = service.states();

    let (code, said) = clients(&store, KEY, &["status"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(&before[0].0) && said.contains("ES256 signing since "), "{said}");
    let (code, said) = clients(&store, KEY, &["rotate"]);
    assert!(code == 4 && said.contains("too early"), "{code}: {said}");
    assert_eq!(clients(&store, KEY, &["distrust", "another"]).0, 3);
    assert_eq!(clients(&store, KEY, &["change-algorithm", "HS256"]).0, 2);
    let published = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/p256.pem");
    let (code, said) = clients(&store, KEY, &["publish", published]);
    assert_eq!(code, 0, "{said}");
    until("the service publishes the key of the operator", || service.key_ids().len() == 3);
    let (code, said) = clients(&store, KEY, &["distrust", &before[0].0]);
    assert_eq!(code, 0, "{said}");
    until("the service refuses the distrusted key", || !service.key_ids().contains(&before[0].0));
    until("the next key signs", || service.states().contains(&(before[1].0.clone(), "signing".to_owned())));
    drop(service);

    // Another key-encryption key, first without and then with the previous one.
    let (code, said) = clients(&store, OTHER, &["status"]);
    assert!(code != 0 && said.contains("--previous-encryption-key-file"), "{code}: {said}");
    let previous = folder.path().join("previous");
    fs::write(&previous, KEY).unwrap();
    let arguments = ["--previous-encryption-key-file", previous.to_str().unwrap(), "reseal"];
    let (code, said) = clients(&store, OTHER, &arguments);
    assert_eq!(code, 0, "{said}");
    let mut command = standalone();
    command.arg("--config").arg(&config).envs(environment(KEY)).env("RUST_LOG", "off");
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("keys.previous_encryption_key_file"), "{said}");
    let again = Service::start_with(&config, &environment(OTHER));
    assert!(again.states().contains(&(before[0].0.clone(), "distrusted".to_owned())), "a restart keeps the ring");
}

#[cfg(feature = "file")]
#[test]
fn the_tool_accepts_a_store_that_was_restored_while_the_service_runs() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("file:{}", folder.path().join("clients.toml").display());
    let (ring, backup) = (folder.path().join("clients.toml.keys"), folder.path().join("backup"));
    fs::write(folder.path().join("clients.toml"), "clients = []\n").unwrap();
    let config = file("ring-restored", &in_the_store("encryption_key_env = \"RING_SECRET\""));
    let service = Service::start_with(&config, &[("TCC_STORE", store.as_str()), ("RING_SECRET", KEY)]);
    let first = service.states()[0].0.clone();
    fs::copy(&ring, &backup).unwrap();
    assert_eq!(clients(&store, KEY, &["distrust", &first]).0, 0);
    until("the service refuses the distrusted key", || !service.key_ids().contains(&first));
    // While the service renews its lease, it writes the file that it has read.
    let has_last = |(version, lease): (&Value, &Value)| lease[0] == *version;
    let (mut current, mut lock) = (Value::Null, None);
    until("a replica reports the last version", || {
        let file = fs::File::create(folder.path().join("clients.toml.keys.lock")).unwrap();
        file.lock().unwrap();
        current = serde_json::from_slice(&fs::read(&ring).unwrap()).unwrap();
        let own = &current["rings"]["default"];
        let is_reported = own["replicas"].as_object().unwrap().values().any(|lease| has_last((&own["version"], lease)));
        lock = is_reported.then_some(file);
        is_reported
    });
    let mut restored: Value = serde_json::from_slice(&fs::read(&backup).unwrap()).unwrap();
    // The leases of the replicas that have the last version, which do not end during this test, however long its steps take.
    let (last, mut replicas) =
        (&current["rings"]["default"]["version"], current["rings"]["default"]["replicas"].clone());
    for lease in replicas.as_object_mut().unwrap().values_mut().filter(|lease| has_last((last, lease))) {
        lease[1] = 4_102_444_800_000_u64.into();
    }
    restored["rings"]["default"]["replicas"] = replicas;
    fs::write(&backup, restored.to_string()).unwrap();
    fs::rename(&backup, &ring).unwrap();
    drop(lock);
    let (code, said) = clients(&store, KEY, &["status"]);
    assert!(code == 5 && said.contains("restored from an older copy; the known ring is used"), "{code}: {said}");
    let (code, said) = clients(&store, KEY, &["accept-stored"]);
    assert_eq!(code, 0, "{said}");
    // The service knows of the distrust, which the copy lacks.
    let distrusted = (first.clone(), "distrusted".to_owned());
    let is_distrusted = || {
        let (code, said) = clients(&store, KEY, &["status"]);
        code == 0 && said.contains("distrusted")
    };
    until("the service repeats the distrust", is_distrusted);
    until("the service follows", || service.states().contains(&distrusted));
    assert!(!service.key_ids().contains(&first));
}

#[cfg(feature = "sqlite")]
#[test]
fn check_creates_no_keys_in_a_store_and_changes_none() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("service.toml");
    fs::write(&config, in_the_store("encryption_key_env = \"RING_SECRET\"")).unwrap();
    let check = |config: &Path, key: &str| {
        let mut command = standalone();
        command.arg("--config").arg(config).arg("--check").env("RING_SECRET", key).env("RUST_LOG", "warn");
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(check(&config, KEY), (true, String::new()));
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["service.toml"]);

    // The store exists, without keys.
    let store = format!("sqlite://{}", folder.path().join("service.db").display());
    fs::write(folder.path().join("service.db"), "").unwrap();
    assert_eq!(clients(&store, KEY, &["status"]).0, 3, "the tool creates no keys");
    assert_eq!(check(&config, KEY), (true, String::new()));
    assert_eq!(clients(&store, KEY, &["status"]).0, 3, "the check created no keys");

    // The keys of a service that was killed, so that nothing else changes them.
    drop(Service::start_with(&config, &[("RING_SECRET", KEY)]));
    let stored = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let opened = tower_client_credentials::store::SqliteStore::open(&store).await.unwrap();
            opened.load_ring("default").await.unwrap()
        })
    };
    let before = stored();
    assert!(before.version > 0);
    assert_eq!(check(&config, KEY), (true, String::new()));
    let (succeeded, said) = check(&config, OTHER);
    assert!(!succeeded && said.contains("keys.previous_encryption_key_file"), "{said}");
    let after = stored();
    assert_eq!((after.version, after.document), (before.version, before.document));
    // The lease of the service may end meanwhile.
    assert!(after.replicas.iter().all(|replica| before.replicas.contains(replica)), "the check is no replica");
}

#[cfg(feature = "sqlite")]
#[test]
fn a_start_with_a_key_that_does_not_decrypt_the_secrets_of_clients_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite://{}", folder.path().join("state.db").display());
    let tool = |arguments: &[&str]| {
        let mut path = std::env::current_exe().unwrap();
        path.pop(); // the test
        path.pop(); // deps
        path.push("examples/clients");
        let environment = [("TCC_STORE", store.as_str()), ("TCC_KEY_ENCRYPTION_KEY", KEY)];
        let (end, mut is_repeated) = (Instant::now() + PATIENCE, false);
        loop {
            let output = Command::new(&path).args(arguments).envs(environment).output().unwrap();
            // 1: the store did not answer in time, which can happen on a busy machine. A repeated command is refused then.
            match output.status.code() {
                Some(1) if Instant::now() < end => is_repeated = true,
                Some(0) => break,
                Some(4 | 5) if is_repeated => break,
                _ => panic!("{}", String::from_utf8_lossy(&output.stderr)),
            }
        }
    };
    tool(&["create", "partner"]);
    tool(&["credentials", "add-hmac", "partner", "--label", "hmac"]);
    let with_key = GOOD.replace("[tokens]", "encryption_key_env = \"RING_SECRET\"\n\n[tokens]")
        + "\n[assertions]\nclient_secret_jwt = true\n";
    let environment = |key| {
        [("TCC_STORE", store.as_str()), ("RING_SECRET", key), ("BILLING_SECRET", "Jw5vS1qk0Zt8mYc3xRb7uLp2nHf6dGe9")]
    };
    drop(Service::start_with(&file("hmac-key", &with_key), &environment(KEY)));
    let said = refusal("hmac-other-key", &with_key, &environment(OTHER));
    assert!(said.contains("client `partner`") && said.contains("encryption_key_env"), "{said}");
    let without_key = with_key.replace("encryption_key_env = \"RING_SECRET\"\n", "");
    let said = refusal("hmac-no-key", &without_key, &environment(KEY));
    assert!(said.contains("client `partner`") && said.contains("there is no key-encryption key"), "{said}");
    // Without client_secret_jwt, the secrets are not used.
    let off = without_key.replace("client_secret_jwt = true", "");
    drop(Service::start_with(&file("hmac-off", &off), &environment(KEY)));
}

#[test]
fn a_secret_for_assertions_comes_from_a_file_or_a_variable_and_never_from_the_configuration_file() {
    const SECRET: &str = "Jw5vS1qk0Zt8mYc3xRb7uLp2nHf6dGe9";
    let with = |setting: &str| {
        let method = format!("token_endpoint_auth_method = \"client_secret_jwt\"\n{setting}");
        GOOD.replace("client_secret_env = \"BILLING_SECRET\"", &method) + "\n[assertions]\nclient_secret_jwt = true\n"
    };
    let environment = [("TCC_STORE", "memory:"), ("HMAC_SECRET", SECRET), ("SHORT_SECRET", &SECRET[1..])];
    let from_variable = with("client_secret_env = \"HMAC_SECRET\"");
    drop(Service::start_with(&file("hmac-variable", &from_variable), &environment));
    for (setting, says) in [
        (format!("dangerous_plain_client_secret = \"{SECRET}\""), "client_secret_file or client_secret_env"),
        (
            "client_secret_hash = \"$sha256$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"".to_owned(),
            "client_secret_file or client_secret_env",
        ),
        (String::new(), "needs one of client_secret_file and client_secret_env"),
        ("client_secret_env = \"SHORT_SECRET\"".to_owned(), "at least 32 bytes"),
        (
            "client_secret_env = \"HMAC_SECRET\"\ntoken_endpoint_auth_signing_alg = \"HS512\"".to_owned(),
            "at least 64 bytes",
        ),
        ("client_secret_env = \"HMAC_SECRET\"\ntoken_endpoint_auth_signing_alg = \"ES256\"".to_owned(), "HS256, HS384"),
    ] {
        let said = refusal("hmac-refused", &with(&setting), &environment);
        assert!(said.contains(says) && !said.contains(SECRET) && !said.contains(&SECRET[1..]), "{said}");
    }
    let off = from_variable.replace("client_secret_jwt = true", "client_secret_jwt = false");
    let said = refusal("hmac-not-accepted", &off, &environment);
    assert!(said.contains("`client_secret_jwt`, which the server does not accept"), "{said}");
}
