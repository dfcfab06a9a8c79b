//! Keys in `SoftHSM`, which did not come from us: the example `pkcs11`, and a slow token under load.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;
#[path = "../examples/pkcs11/signer.rs"]
mod signer;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::request::{GRANT, billing_asks};
use common::stack::{Answer, Body};
use common::{API, ISSUER};
use http_body_util::Full;
use hyper::body::Bytes;
use signer::Pkcs11Signer;
use tokio::time::{Instant, sleep};
use tower::ServiceExt as _;
use tower_client_credentials::keys::{SignFuture, Signer, SignerLimits, VerifyingKey};
use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore, SigningKey};

const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
];

fn module() -> &'static str {
    let found = MODULES.into_iter().find(|path| Path::new(path).exists());
    found.expect("SoftHSM is not installed: apt-get install softhsm2")
}

/// Creates a token that is labelled `tokens` in this folder.
fn create_token(folder: &Path) {
    let tokens = folder.join("tokens");
    fs::create_dir(&tokens).unwrap();
    let configuration = format!("directories.tokendir = {}\nobjectstore.backend = file\n", tokens.display());
    fs::write(folder.join("softhsm2.conf"), configuration).unwrap();
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", "tokens", "--pin", "1234", "--so-pin", "5678"])
        .env("SOFTHSM2_CONF", folder.join("softhsm2.conf"))
        .output()
        .expect("SoftHSM is not installed: apt-get install softhsm2");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Runs the example with a token in this folder.
fn run(folder: &Path, pin: &str) -> Output {
    let mut path = std::env::current_exe().unwrap();
    path.pop(); // the test
    path.pop(); // deps
    path.push("examples/pkcs11");
    let mut command = Command::new(path);
    command.args([module(), "tokens"]).env("PKCS11_PIN", pin).env("SOFTHSM2_CONF", folder.join("softhsm2.conf"));
    command.output().unwrap()
}

#[test]
fn a_key_in_softhsm_signs_several_tokens_at_once_and_stays_there() {
    let folder = tempfile::tempdir().unwrap();
    create_token(folder.path());
    let said = |output: &Output| {
        let said = [output.stdout.as_slice(), &output.stderr].concat();
        String::from_utf8(said).unwrap()
    };
    let first = run(folder.path(), "1234");
    let lines = said(&first);
    assert!(first.status.success(), "{lines}");
    let lines: Vec<&str> = lines.lines().collect();
    assert!(lines[0].starts_with("ES256 ") && lines[1] == "issued and verified 100 tokens", "{lines:?}");
    let again = said(&run(folder.path(), "1234"));
    assert_eq!(again.lines().next(), Some(lines[0]), "the key is still there");
    let wrong = run(folder.path(), "4321");
    assert!(!wrong.status.success() && said(&wrong).contains("PIN is incorrect"), "{}", said(&wrong));
}

const SESSIONS: usize = 20;
const LATENCY: Duration = Duration::from_millis(20);
const DEADLINE: Duration = Duration::from_secs(2);

/// A real token that takes longer, or hangs.
#[derive(Clone, Debug)]
struct Slow(Arc<State>);

#[derive(Debug)]
struct State {
    token: Pkcs11Signer,
    hangs: AtomicBool,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    signatures: AtomicUsize,
}

impl Signer for Slow {
    fn verifying_key(&self) -> VerifyingKey {
        self.0.token.verifying_key()
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a> {
        Box::pin(async move {
            if self.0.hangs.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            let now = self.0.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
            self.0.most_in_flight.fetch_max(now, Ordering::SeqCst);
            sleep(LATENCY).await;
            let signed = self.0.token.sign(message).await;
            self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
            self.0.signatures.fetch_add(1, Ordering::SeqCst);
            signed
        })
    }
}

/// `SoftHSM` finds its configuration by the environment, so this runs in a process of its own.
#[test]
fn a_slow_token_in_softhsm_is_used_to_its_limit_and_a_dead_one_does_not_stop_verification() {
    let folder = tempfile::tempdir().unwrap();
    create_token(folder.path());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "slow_token", "--nocapture"]);
    let output = command.env("SOFTHSM2_CONF", folder.path().join("softhsm2.conf")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1000 signatures by SoftHSM"), "{said}");
}

/// Time is simulated, and stands still while a thread signs. So the figures are the same on every machine.
#[tokio::test(start_paused = true)]
#[ignore = "the test above starts it as a process"]
async fn slow_token() {
    let token = Pkcs11Signer::open(module(), "tokens", "1234", "signing", SESSIONS).unwrap();
    let counts = || AtomicUsize::new(0);
    let slow = Slow(Arc::new(State {
        token,
        hangs: AtomicBool::new(false),
        in_flight: counts(),
        most_in_flight: counts(),
        signatures: counts(),
    }));
    let limits = SignerLimits::default().at_once(SESSIONS).deadline(DEADLINE);
    let key = SigningKey::from_signer(slow.clone(), limits).unwrap();
    let clients = MemoryStore::try_from(common::clients()).unwrap();
    let server = AuthorizationServer::builder(ISSUER, KeyRing::new(key), clients).build().unwrap();
    let verifier = server.verifier(API).unwrap().without_cache();
    let ask = || {
        let request: http::Request<Body> = billing_asks(GRANT).into();
        let service = server.token_service();
        tokio::spawn(async move {
            Answer::read(service.oneshot(request.map(|_| Full::new(Bytes::from(GRANT)))).await.unwrap()).await
        })
    };

    let start = Instant::now();
    let requests: Vec<_> = (0..1_000).map(|_| ask()).collect();
    let mut last = String::new();
    for request in requests {
        last = request.await.unwrap().assert_token();
        verifier.verify(&last).await.unwrap();
    }
    // The token signs `SESSIONS / LATENCY` times a second: no place is idle, and no more are used.
    assert_eq!(start.elapsed(), LATENCY * u32::try_from(1_000 / SESSIONS).unwrap());
    assert_eq!(slow.0.most_in_flight.load(Ordering::SeqCst), SESSIONS);
    assert_eq!(slow.0.signatures.load(Ordering::SeqCst), 1_000);

    slow.0.hangs.store(true, Ordering::SeqCst);
    let start = Instant::now();
    let requests: Vec<_> = (0..100).map(|_| ask()).collect();
    sleep(DEADLINE / 2).await;
    verifier.verify(&last).await.unwrap();
    for request in requests {
        let answer = request.await.unwrap();
        answer.assert_refused(503, "temporarily_unavailable");
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(start.elapsed(), DEADLINE, "also those that waited for their turn");
    verifier.verify(&last).await.unwrap();
    slow.0.hangs.store(false, Ordering::SeqCst);
    verifier.verify(&ask().await.unwrap().assert_token()).await.unwrap();
    println!("1000 signatures by SoftHSM, {SESSIONS} at once, and a dead token is a 503 after {DEADLINE:?}");
}
