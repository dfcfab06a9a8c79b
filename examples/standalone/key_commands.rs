//! `clients keys`: the commands of the example `clients` for the keys of a token service that keeps them in its store.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use serde_json::json;
use tower_client_credentials::clock::Rfc3339;
use tower_client_credentials::keys::rotation::{
    KeyEncryptionKey, KeyManager, KeyRingError, KeyRingErrorKind, KeyStore, RingStatus,
};
use tower_client_credentials::{Algorithm, SigningKey};

use crate::store::{chain, printable};
use crate::wording::with_commands;

#[derive(Args)]
pub(crate) struct KeyArguments {
    /// The environment variable with the key-encryption key, in base64.
    #[arg(long, global = true, default_value = "TCC_KEY_ENCRYPTION_KEY")]
    encryption_key_env: String,
    /// The file with the key-encryption key, in base64, instead of the variable.
    #[arg(long, global = true)]
    encryption_key_file: Option<PathBuf>,
    /// The file with the previous key-encryption key, if the keys in the store may be encrypted with it.
    #[arg(long, global = true)]
    previous_encryption_key_file: Option<PathBuf>,
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Shows the keys, their states, and when their next steps are possible.
    Status,
    /// Lets the next key sign, if every verifier can have it.
    Rotate,
    /// Rotates to keys of another algorithm: ES256, ES384 or EdDSA.
    ChangeAlgorithm { algorithm: String },
    /// Publishes the private key in a file, which then signs after those that were published before.
    Publish { file: PathBuf },
    /// Removes a key that is no longer needed, before the schedule does.
    Remove { kid: String },
    /// Distrusts a key that leaked. Its tokens are refused within a second, and another key signs at once.
    Distrust { kid: String },
    /// Encrypts the keys with the current key-encryption key.
    Reseal,
    /// Accepts the keys in the store, although the store was restored from an older copy or altered.
    AcceptStored,
}

/// Runs a command. Returns the exit code and the message of an error.
pub(crate) async fn run(arguments: KeyArguments, store: Arc<dyn KeyStore>, json: bool) -> Result<(), (u8, String)> {
    let encryption_key = match &arguments.encryption_key_file {
        Some(path) => KeyEncryptionKey::from_file(path),
        None if std::env::var_os(&arguments.encryption_key_env).is_none() => {
            return Err((2, lacks_encryption_key(&arguments.encryption_key_env)));
        }
        None => KeyEncryptionKey::from_env(&arguments.encryption_key_env),
    };
    let previous = arguments.previous_encryption_key_file.as_ref().map(KeyEncryptionKey::from_file).transpose();
    let encryption_key = encryption_key.and_then(|current| Ok((current, previous?)));
    let encryption_key = match encryption_key.map_err(|error| (2, with_commands(&error.to_string())))? {
        (current, Some(previous)) => current.also(previous),
        (current, None) => current,
    };
    let stored = store.load_ring("default").await.map_err(|error| (1, chain(&error)))?;
    if stored.version == 0 {
        return Err((3, "the store has no keys; start the token service with keys.rotate_days first".to_owned()));
    }
    // No schedule and no waits of its own: those of the service count.
    let builder = KeyManager::builder(store, encryption_key)
        .every(None)
        .max_age(Duration::ZERO)
        .longest_token(Duration::from_secs(1))
        .leeway(Duration::ZERO)
        .margin(Duration::ZERO);
    let builder = match arguments.command {
        KeyCommand::AcceptStored => builder.accept_stored(),
        _ => builder,
    };
    let manager = builder.connect().await.map_err(failure)?;
    let done = execute(&arguments.command, &manager).await;
    if done.is_ok() && !matches!(arguments.command, KeyCommand::Status) {
        wait_for_replicas(&manager).await;
    }
    let left = manager.leave().await;
    done?;
    left.map_err(failure)?;
    show(&manager.status(), json)
        .map_err(|error| (u8::from(error.kind() != io::ErrorKind::BrokenPipe), error.to_string()))
}

/// Returns the text for a missing key-encryption key. A new key could not decrypt the stored keys.
pub(crate) fn lacks_encryption_key(variable: &str) -> String {
    format!(
        "{variable} is not set; set it to the key-encryption key of the token service, or name its file with --encryption-key-file"
    )
}

/// Waits for up to three seconds until each live replica has the last version: they look for it a few times a second.
async fn wait_for_replicas(manager: &KeyManager) {
    for _ in 0..12 {
        if manager.status().lagging.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
        // An error is shown by the next command.
        let _ = manager.refresh().await;
    }
}

async fn execute(command: &KeyCommand, manager: &KeyManager) -> Result<(), (u8, String)> {
    let done = match command {
        KeyCommand::Status => manager.refresh().await,
        KeyCommand::Rotate => manager.rotate().await.map(drop),
        KeyCommand::ChangeAlgorithm { algorithm } => {
            let known = [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
            let found = known.into_iter().find(|known| known.name() == algorithm);
            let found = found.ok_or_else(|| (2, format!("`{algorithm}` is not one of ES256, ES384 and EdDSA")))?;
            manager.change_algorithm(found).await
        }
        KeyCommand::Publish { file } => {
            let key = SigningKey::from_file(file).map_err(|error| (5, error.to_string()))?;
            manager.publish(key).await
        }
        KeyCommand::Remove { kid } => manager.remove(kid).await,
        KeyCommand::Distrust { kid } => manager.distrust(kid).await,
        KeyCommand::Reseal => manager.reseal().await,
        KeyCommand::AcceptStored => Ok(()), // when it was opened
    };
    done.map_err(failure)
}

fn failure(error: KeyRingError) -> (u8, String) {
    let code = match error.kind() {
        KeyRingErrorKind::NotFound => 3,
        KeyRingErrorKind::TooEarly | KeyRingErrorKind::WrongState => 4,
        KeyRingErrorKind::Refused => 5,
        _ => 1,
    };
    (code, with_commands(&chain(&error)))
}

fn show(status: &RingStatus, json: bool) -> io::Result<()> {
    let mut out = io::stdout();
    for key in &status.keys {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (since, may_step_at) = (seconds(key.since), key.may_step_at.map(seconds));
        let (key_id, state) = (&key.key_id, key.state.name());
        if json {
            let alg = key.algorithm.name();
            let line = json!({ "kid": key_id, "alg": alg, "state": state, "since": since, "may_step_at": may_step_at });
            writeln!(out, "{line}")?;
        } else {
            let step = key.may_step_at.map_or_else(String::new, |at| format!(", may step at {}", Rfc3339(at)));
            let since = Rfc3339(key.since);
            writeln!(out, "{} {} {state} since {since}{step}", printable(key_id), key.algorithm)?;
        }
    }
    for replica in &status.lagging {
        eprintln!(
            "replica `{}` does not have the last version yet; if it is cut off, it counts until its lease ends",
            printable(replica)
        );
    }
    for problem in &status.problems {
        eprintln!("the stored keys are not trusted completely: {}", printable(problem));
    }
    Ok(())
}
