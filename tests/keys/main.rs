//! Key files as operators have them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use tower_client_credentials::keys::{KeyError, VerifyingKey};
use tower_client_credentials::{Algorithm, KeyRing, SigningKey};

/// A file in the target directory, which is removed with the test.
struct KeyFile(PathBuf);

impl KeyFile {
    fn new(name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
        fs::write(&path, content).unwrap();
        let file = Self(path);
        file.set_mode(0o600);
        file
    }

    #[cfg(unix)]
    fn set_mode(&self, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&self.0, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[cfg(not(unix))]
    fn set_mode(&self, _: u32) {}
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Returns the log of `work`.
fn logged<T>(work: impl FnOnce() -> T) -> (T, String) {
    static ENABLED: std::sync::Once = std::sync::Once::new();

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let log = Log::default();
    let writer = log.clone();
    // Otherwise, a line that a thread without a subscriber reaches first may stay disabled for all threads.
    ENABLED.call_once(|| tracing::subscriber::set_global_default(tracing_subscriber::registry()).unwrap());
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let result = tracing::subscriber::with_default(subscriber, work);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    (result, text)
}

fn refusal(key: Result<SigningKey, KeyError>) -> String {
    key.expect_err("a bad key").to_string()
}

const P256: &str = include_str!("p256.pem");
const JWK: &str = include_str!("rfc8037-a1.jwk");

#[test]
fn a_file_is_read_by_its_content_and_a_private_one_causes_no_warning() {
    let name = SigningKey::from_pem(P256).unwrap().key_id().to_owned();
    for (file, content) in [
        ("content.pem", P256.as_bytes()),
        ("content.sec1", include_bytes!("p256.sec1.pem")),
        ("content.der", include_bytes!("p256.der")),
        ("content.txt", format!("A key:\n\n{P256}\nand nothing else\n").as_bytes()),
    ] {
        let file = KeyFile::new(file, content);
        let (key, log) = logged(|| SigningKey::from_file(&file.0).unwrap());
        assert_eq!((key.key_id(), log.as_str()), (name.as_str(), ""));
    }
    let file = KeyFile::new("content.jwk", format!("\n{JWK}"));
    assert_eq!(SigningKey::from_file(&file.0).unwrap().algorithm(), Algorithm::EdDSA);
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_read_or_write_is_loaded_with_a_warning_that_does_not_show_the_key() {
    let file = KeyFile::new("shared.pem", P256);
    for (mode, warned) in [
        (0o600, false),
        (0o400, false),
        (0o700, false),
        (0o640, true),
        (0o604, true),
        (0o644, true),
        (0o620, true),
        (0o602, true),
    ] {
        file.set_mode(mode);
        let (key, log) = logged(|| SigningKey::from_file(&file.0));
        assert!(key.is_ok(), "{mode:o}");
        assert_eq!(log.contains("WARN") && log.contains("shared.pem"), warned, "{mode:o} {log}");
        assert_eq!(log.contains(&format!("{mode:o}")), warned, "{mode:o} {log}");
        assert!(P256.lines().all(|line| !log.contains(line)), "{log}");
    }
}

/// Only root can give a file to another user. Otherwise the test prints that it was not run.
#[cfg(target_os = "linux")]
#[test]
fn a_file_of_another_user_is_loaded_with_a_warning_that_names_the_owner() {
    use std::os::unix::fs::chown;
    let file = KeyFile::new("owned.pem", P256);
    if chown(&file.0, Some(65_534), None).is_err() {
        println!("not root: only the unit tests check the warning");
        return;
    }
    let (key, log) = logged(|| SigningKey::from_file(&file.0));
    assert!(key.is_ok() && log.contains("WARN") && log.contains("owned.pem"), "{log}");
    assert!(log.contains("owner=65534") && log.contains("user=0") && log.contains("chown"), "{log}");
    chown(&file.0, Some(0), None).unwrap();
    let (_, log) = logged(|| SigningKey::from_file(&file.0).unwrap());
    assert_eq!(log, "");
}

#[cfg(unix)]
#[test]
fn a_path_that_is_not_a_regular_file_is_rejected_at_once_even_a_pipe_without_a_writer() {
    let folder = tempfile::tempdir().unwrap();
    let (pipe, link) = (folder.path().join("pipe.pem"), folder.path().join("link.pem"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::os::unix::fs::symlink(&pipe, &link).unwrap();
    for path in [pipe, link, folder.path().to_owned()] {
        let (done, is_done) = std::sync::mpsc::channel();
        let given = path.clone();
        thread::spawn(move || {
            let refusals = [SigningKey::from_file(&given).err(), KeyRing::load_or_create(&given).err()];
            // Sending fails if the test has already failed.
            let _ = done.send(refusals.map(|error| error.map(|error| error.to_string())));
        });
        let refusals = is_done.recv_timeout(std::time::Duration::from_secs(30)).expect("it waits for a writer");
        for refusal in refusals.map(Option::unwrap) {
            assert!(refusal.contains("not a regular file") && refusal.contains(path.to_str().unwrap()), "{refusal}");
        }
    }
}

#[test]
fn a_file_without_a_key_is_rejected_with_its_path_and_how_to_fix_it() {
    for (name, content, fix) in [
        ("empty", String::new(), "openssl genpkey"),
        ("cut.pem", P256[..100].to_owned(), "cut"),
        ("set.jwk", format!(r#"{{"keys":[{JWK}]}}"#), "JWK Set"),
        ("public.pem", include_str!("p256.pub.pem").to_owned(), "VerifyingKey"),
        ("encrypted.pem", include_str!("p256.encrypted.pem").to_owned(), "encrypted_pem"),
        ("long.pem", P256.to_owned() + &" ".repeat(65_536), "64 KiB"),
    ] {
        let file = KeyFile::new(name, content);
        let refusal = refusal(SigningKey::from_file(&file.0));
        assert!(refusal.contains(fix) && refusal.contains(name), "{refusal}");
    }
    let refusal = refusal(SigningKey::from_file("/there/is/no/such.pem"));
    assert!(refusal.contains("/there/is/no/such.pem"), "{refusal}");
}

#[test]
fn keys_can_be_sent_to_and_shared_between_threads() {
    fn assert_shared<T: Send + Sync + 'static>() {}
    assert_shared::<SigningKey>();
    assert_shared::<VerifyingKey>();
    assert_shared::<KeyRing>();
    assert_shared::<KeyError>();
}

#[test]
fn a_ring_trusts_public_keys_without_their_private_keys() {
    let ring = KeyRing::generate()
        .unwrap()
        .also_trust(VerifyingKey::from_pem(include_str!("p384.pub.pem")).unwrap())
        .also_trust(VerifyingKey::from_pem(include_str!("rsa2048.pub.pem")).unwrap())
        .also_trust(VerifyingKey::from_jwk(include_str!("rfc7515-a2.public.jwk")).unwrap());
    assert_eq!(ring.key_ids().count(), 4);
}

/// Returns everything in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
fn assert_private(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600, "{mode:o}");
    }
}

fn first_key_id(ring: &KeyRing) -> String {
    ring.key_ids().next().unwrap()
}

#[test]
fn a_created_key_is_the_same_after_a_restart_and_readable_only_by_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signing.pem");
    let (ring, log) = logged(|| KeyRing::load_or_create(&path).unwrap());
    let key_id = first_key_id(&ring);
    assert!(log.contains("INFO") && log.contains("signing.pem") && log.contains(&key_id), "{log}");
    assert_private(&path);
    assert_eq!(names(folder.path()), ["signing.pem"]);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.lines().all(|line| !log.contains(line)), "{log}");

    let (again, log) = logged(|| KeyRing::load_or_create(&path).unwrap());
    assert_eq!((first_key_id(&again), log.as_str()), (key_id.clone(), ""));
    let key = SigningKey::from_file(&path).unwrap();
    assert_eq!((key.key_id(), key.algorithm()), (key_id.as_str(), Algorithm::ES256));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_key_is_created_for_an_algorithm_and_loaded_for_no_other() {
    let folder = tempfile::tempdir().unwrap();
    for algorithm in [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
        let path = folder.path().join(algorithm.name());
        let created = SigningKey::load_or_create(&path, algorithm).unwrap();
        let loaded = SigningKey::load_or_create(&path, algorithm).unwrap();
        assert_eq!((loaded.key_id(), loaded.algorithm()), (created.key_id(), algorithm));
        assert_eq!(first_key_id(&KeyRing::load_or_create(&path).unwrap()), created.key_id());
        let refusal = refusal(SigningKey::load_or_create(&path, Algorithm::RS256));
        assert!(refusal.contains("RS256") && refusal.contains(&path.display().to_string()), "{refusal}");
    }
    let path = folder.path().join("rsa.pem");
    let missing = refusal(SigningKey::load_or_create(&path, Algorithm::PS256));
    assert!(missing.contains("openssl genpkey -algorithm RSA") && missing.contains("rsa.pem"), "{missing}");
    assert!(!path.exists());
    #[cfg(feature = "aws_lc_rs")]
    {
        fs::write(&path, include_str!("rsa2048.pem")).unwrap();
        assert_eq!(SigningKey::load_or_create(&path, Algorithm::PS256).unwrap().algorithm(), Algorithm::PS256);
    }
}

#[test]
fn threads_that_create_a_key_concurrently_all_get_the_same_key() {
    const THREADS: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    for round in 0..50 {
        let path = folder.path().join("signing.pem");
        let barrier = Barrier::new(THREADS);
        let start = || {
            barrier.wait();
            first_key_id(&KeyRing::load_or_create(&path).unwrap())
        };
        let key_ids: Vec<String> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(key_ids.iter().all(|key_id| *key_id == key_ids[0]), "round {round}: {key_ids:?}");
        assert_eq!(names(folder.path()), ["signing.pem"]);
        assert_private(&path);
        fs::remove_file(path).unwrap();
    }
}

const KEY_FILE: &str = "TCC_TEST_KEY_FILE";
const CREATED: &str = "key: ";

#[ignore = "started by the test below, several times at once"]
#[test]
fn the_process_that_the_test_below_starts() {
    let Some(path) = std::env::var_os(KEY_FILE).map(PathBuf::from) else { return };
    // The processes start when a file appears.
    while !path.with_extension("go").exists() {
        thread::yield_now();
    }
    println!("{CREATED}{}", first_key_id(&KeyRing::load_or_create(path).unwrap()));
}

#[test]
fn processes_that_create_a_key_concurrently_all_get_the_same_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signing.pem");
    let start = |_| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_process_that_the_test_below_starts", "--ignored", "--nocapture"])
            .env(KEY_FILE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let processes: Vec<_> = (0..6).map(start).collect();
    fs::write(path.with_extension("go"), "").unwrap();
    let key_ids: Vec<String> = processes
        .into_iter()
        .map(|process| {
            let said = String::from_utf8(process.wait_with_output().unwrap().stdout).unwrap();
            let line = said.lines().find_map(|line| line.split_once(CREATED));
            line.unwrap_or_else(|| panic!("no key: {said}")).1.to_owned()
        })
        .collect();
    println!("{} processes, one key: {}", key_ids.len(), key_ids[0]);
    assert!(key_ids.iter().all(|key_id| *key_id == key_ids[0]), "{key_ids:?}");
    assert_eq!(SigningKey::from_file(&path).unwrap().key_id(), key_ids[0]);
    assert_eq!(names(folder.path()), ["signing.go", "signing.pem"]);
    assert_private(&path);
}

#[test]
fn an_existing_file_is_never_replaced_regardless_of_its_content() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("empty.pem", ""),
        ("cut.pem", &P256[..100]),
        ("public.pem", include_str!("p256.pub.pem")),
        ("text.pem", "not a key"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let refusal = KeyRing::load_or_create(&path).unwrap_err().to_string();
        assert!(refusal.contains(&path.display().to_string()) && refusal.contains("not replaced"), "{refusal}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    let folder_as_file = KeyRing::load_or_create(folder.path()).unwrap_err().to_string();
    assert!(folder_as_file.contains(&folder.path().display().to_string()), "{folder_as_file}");
    let nowhere = folder.path().join("none").join("signing.pem");
    let refusal = KeyRing::load_or_create(&nowhere).unwrap_err().to_string();
    assert!(refusal.contains(&nowhere.display().to_string()) && refusal.contains("folder must exist"), "{refusal}");
    #[cfg(unix)]
    {
        let link = folder.path().join("link.pem");
        std::os::unix::fs::symlink(&nowhere, &link).unwrap();
        let refusal = KeyRing::load_or_create(&link).unwrap_err().to_string();
        assert!(refusal.contains("link.pem"), "a link that leads nowhere: {refusal}");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(!names(folder.path()).iter().any(|name| name.contains(".tmp")), "{:?}", names(folder.path()));
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_read_is_loaded_with_the_same_warning_as_from_file() {
    let file = KeyFile::new("shared-or-created.pem", P256);
    file.set_mode(0o644);
    let (ring, log) = logged(|| KeyRing::load_or_create(&file.0).unwrap());
    assert_eq!(first_key_id(&ring), SigningKey::from_pem(P256).unwrap().key_id());
    assert!(log.contains("WARN") && log.contains("shared-or-created.pem") && log.contains("644"), "{log}");
}
