//! The example `pkcs11` with `SoftHSM`, which did not come from us.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
];

/// Runs the example with a token in this folder.
fn run(folder: &Path, pin: &str) -> Output {
    let module = MODULES
        .iter()
        .find(|path| Path::new(path).exists())
        .expect("SoftHSM is not installed: apt-get install softhsm2");
    let mut path = std::env::current_exe().unwrap();
    path.pop(); // the test
    path.pop(); // deps
    path.push("examples/pkcs11");
    let mut command = Command::new(path);
    command.args([module, &"tokens"]).env("PKCS11_PIN", pin).env("SOFTHSM2_CONF", folder.join("softhsm2.conf"));
    command.output().unwrap()
}

#[test]
fn a_key_in_softhsm_signs_several_tokens_at_once_and_stays_there() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    fs::create_dir(&tokens).unwrap();
    let configuration = format!("directories.tokendir = {}\nobjectstore.backend = file\n", tokens.display());
    fs::write(folder.path().join("softhsm2.conf"), configuration).unwrap();
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", "tokens", "--pin", "1234", "--so-pin", "5678"])
        .env("SOFTHSM2_CONF", folder.path().join("softhsm2.conf"))
        .output()
        .expect("SoftHSM is not installed: apt-get install softhsm2");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

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
    assert!(!wrong.status.success() && said(&wrong).contains("Pkcs11"), "{}", said(&wrong));
}
