//! Keys from files, as an operator has them.

#![allow(clippy::unwrap_used, clippy::expect_used)] // also in the helpers

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tower_client_credentials::{Algorithm, KeyError, KeyRing, SigningKey, VerifyingKey};

/// A file in the target directory, which is gone with the test.
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

/// What is logged while `work` runs.
fn logged<T>(work: impl FnOnce() -> T) -> (T, String) {
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
fn a_file_is_read_by_its_content_and_a_private_one_is_no_news() {
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
fn a_file_that_others_can_read_or_write_is_loaded_with_a_warning_without_the_key() {
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

#[test]
fn a_file_without_a_key_is_refused_with_its_path_and_the_mend() {
    for (name, content, mend) in [
        ("empty", String::new(), "openssl genpkey"),
        ("cut.pem", P256[..100].to_owned(), "cut"),
        ("set.jwk", format!(r#"{{"keys":[{JWK}]}}"#), "JWK Set"),
        ("public.pem", include_str!("p256.pub.pem").to_owned(), "VerifyingKey"),
        ("encrypted.pem", include_str!("p256.encrypted.pem").to_owned(), "encrypted_pem"),
        ("long.pem", P256.to_owned() + &" ".repeat(65_536), "64 KiB"),
    ] {
        let file = KeyFile::new(name, content);
        let refusal = refusal(SigningKey::from_file(&file.0));
        assert!(refusal.contains(mend) && refusal.contains(name), "{refusal}");
    }
    let refusal = refusal(SigningKey::from_file("/there/is/no/such.pem"));
    assert!(refusal.contains("/there/is/no/such.pem"), "{refusal}");
}

#[test]
fn keys_go_to_any_thread() {
    fn assert_shared<T: Send + Sync + 'static>() {}
    assert_shared::<SigningKey>();
    assert_shared::<VerifyingKey>();
    assert_shared::<KeyRing>();
    assert_shared::<KeyError>();
}

#[test]
fn a_ring_trusts_public_keys_that_came_without_their_private_halves() {
    let ring = KeyRing::generate()
        .unwrap()
        .also_trust(VerifyingKey::from_pem(include_str!("p384.pub.pem")).unwrap())
        .also_trust(VerifyingKey::from_pem(include_str!("rsa2048.pub.pem")).unwrap())
        .also_trust(VerifyingKey::from_jwk(include_str!("rfc7515-a2.public.jwk")).unwrap());
    assert_eq!(ring.key_ids().count(), 4);
}
