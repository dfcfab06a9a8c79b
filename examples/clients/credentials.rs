//! `clients credentials`: the credentials of a client, other than the secrets that `rotate-secret` makes.

use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use serde_json::json;
use tower_client_credentials::clock::Rfc3339;
use tower_client_credentials::keys::rotation::KeyEncryptionKey;
use tower_client_credentials::keys::{HmacAlgorithm, KeyError};
use tower_client_credentials::registration::{
    ClientAuthMethod, ClientError, Credential, RegisteredClient, RegisteredSecret,
};
use tower_client_credentials::store::{AdminError, ClientAdmin as _, Revocation, RevocationStore as _};
use tower_client_credentials::{Client, ClientId, ClientSecret};

use crate::hints::{FOLLOWERS, NEW_TOKENS, OLD_API_KEY, OTHERS, explain};
use crate::key_commands::lacks_encryption_key;
use crate::store::{Store, printable};
use crate::{Failure, invalid, print, print_secret};

#[derive(Subcommand)]
pub(crate) enum CredentialCommand {
    /// Lists the secrets and the other credentials of a client.
    List { id: ClientId },
    /// Adds public keys for `private_key_jwt`: a JWK Set in a file, or the URL at which the client publishes it.
    AddKeys {
        id: ClientId,
        /// The file with the JWK Set.
        #[arg(long, required_unless_present = "jwks_uri", conflicts_with = "jwks_uri")]
        jwks: Option<PathBuf>,
        #[arg(long)]
        jwks_uri: Option<String>,
        /// The label of the credential; by default a number.
        #[arg(long)]
        label: Option<String>,
    },
    /// Adds a secret for `client_secret_jwt`, encrypted by the key-encryption key, and prints it.
    AddHmac {
        id: ClientId,
        /// The file with a random secret, instead of a new one.
        #[arg(long)]
        secret_file: Option<PathBuf>,
        /// The only algorithm of its assertions: HS256, HS384 or HS512. By default each for which the secret is long enough.
        #[arg(long)]
        algorithm: Option<String>,
        /// The label of the credential; by default a number.
        #[arg(long)]
        label: Option<String>,
        #[command(flatten)]
        key: EncryptionKeyArguments,
    },
    /// Removes the secret or the credential with this label, or those that have expired. `rotate-secret` removes expired secrets
    /// as well.
    Remove {
        id: ClientId,
        #[arg(required_unless_present = "expired", conflicts_with = "expired")]
        label: Option<String>,
        /// Removes the secrets and the credentials that have expired.
        #[arg(long)]
        expired: bool,
        /// Also revokes all tokens that the client has, whichever credential obtained them: a token does not tell. The client gets
        /// new ones with its other credentials.
        #[arg(long)]
        revoke: bool,
    },
    /// Encrypts the secrets of all clients with the current key-encryption key, after it was replaced.
    Reseal {
        #[command(flatten)]
        key: EncryptionKeyArguments,
    },
}

#[derive(Args)]
pub(crate) struct EncryptionKeyArguments {
    /// The environment variable with the key-encryption key of the token service, in base64.
    #[arg(long, default_value = "TCC_KEY_ENCRYPTION_KEY")]
    encryption_key_env: String,
    /// The file with the key-encryption key, in base64, instead of the variable.
    #[arg(long)]
    encryption_key_file: Option<PathBuf>,
    /// The file with the previous key-encryption key, if secrets in the store may be encrypted with it.
    #[arg(long)]
    previous_encryption_key_file: Option<PathBuf>,
}

impl EncryptionKeyArguments {
    /// Returns the key, or `None` if neither the file nor the variable is set.
    pub(crate) fn read_if_set(&self) -> Result<Option<KeyEncryptionKey>, Failure> {
        let is_set = self.encryption_key_file.is_some() || std::env::var_os(&self.encryption_key_env).is_some();
        is_set.then(|| self.read()).transpose()
    }

    fn read(&self) -> Result<KeyEncryptionKey, Failure> {
        let read = || {
            let current = match &self.encryption_key_file {
                Some(path) => KeyEncryptionKey::from_file(path),
                None => KeyEncryptionKey::from_env(&self.encryption_key_env),
            }?;
            let previous = self.previous_encryption_key_file.as_ref().map(KeyEncryptionKey::from_file).transpose()?;
            Ok(previous.into_iter().fold(current, KeyEncryptionKey::also))
        };
        if self.encryption_key_file.is_none() && std::env::var_os(&self.encryption_key_env).is_none() {
            return Err(Failure(2, lacks_encryption_key(&self.encryption_key_env)));
        }
        read().map_err(|error: KeyError| Failure(2, error.to_string()))
    }
}

impl CredentialCommand {
    /// Returns the client that the command is for.
    pub(crate) fn client_id(&self) -> Option<&str> {
        match self {
            Self::List { id } | Self::AddKeys { id, .. } | Self::AddHmac { id, .. } | Self::Remove { id, .. } => {
                Some(id)
            }
            Self::Reseal { .. } => None,
        }
    }
}

pub(crate) async fn run(command: CredentialCommand, store: &Store, json: bool) -> Result<(), Failure> {
    match command {
        CredentialCommand::List { id } => {
            let (client, _) = store.load(&id).await?.ok_or(AdminError::NotFound)?;
            list(&client, json)
        }
        CredentialCommand::AddKeys { id, jwks, jwks_uri, label } => {
            let credential = match (jwks, jwks_uri) {
                (Some(path), _) => Credential::jwks(read(&path)?),
                (None, url) => Credential::jwks_uri(url.unwrap_or_default()),
            };
            let credential = labelled(credential.map_err(invalid)?, label)?;
            store.update(&id, |client| client.edit().credential(credential.clone())).await?;
            done(&id, "changed", json)
        }
        CredentialCommand::AddHmac { id, secret_file, algorithm, label, key } => {
            let (key, is_new) = (key.read()?, secret_file.is_none());
            let secret = match secret_file {
                Some(path) => ClientSecret::assume_random(read(&path)?.trim_end_matches('\n')).map_err(invalid)?,
                None => new_secret()?,
            };
            let credential = labelled(Credential::client_secret_jwt(&secret).map_err(invalid)?, label)?;
            let credential = match algorithm {
                Some(name) => {
                    let algorithm = HmacAlgorithm::from_name(&name);
                    let wrong = || Failure(2, format!("`{name}` is not one of HS256, HS384 and HS512"));
                    credential.hmac_algorithm(algorithm.ok_or_else(wrong)?).map_err(invalid)?
                }
                None => credential,
            };
            store.update(&id, |client| client.edit().credential(credential.clone()).encrypt_secrets(&key)).await?;
            if !is_new {
                return done(&id, "changed", json);
            }
            let (client, _) = store.load(&id).await?.ok_or(AdminError::NotFound)?;
            let label = client.credentials().last().map_or("", Credential::label);
            print_secret(&id, label, &secret, json)
        }
        CredentialCommand::Remove { id, label, revoke, .. } => {
            match label {
                Some(label) => {
                    store.try_update(&id, |client| without(client, &label)).await?;
                    done(&id, "changed", json)?;
                    explain(json, &format!("{FOLLOWERS} refuse the credential within a second; {OTHERS}"));
                    explain(json, OLD_API_KEY);
                }
                None => remove_expired(store, &id, json).await?,
            }
            if revoke { revoke_tokens(store, &id, json).await } else { Ok(()) }
        }
        CredentialCommand::Reseal { key } => reseal(store, &key.read()?, json).await,
    }
}

/// Returns a new secret that is long enough for each algorithm: two generated ones, of which only the characters count.
fn new_secret() -> Result<ClientSecret, Failure> {
    let generate = || ClientSecret::generate().map_err(invalid);
    let (one, other) = (generate()?, generate()?);
    ClientSecret::assume_random(format!("hmac_{}{}", one.expose(), other.expose())).map_err(invalid)
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure(5, format!("{}: {error}", path.display())))
}

fn labelled(credential: Credential, label: Option<String>) -> Result<Credential, Failure> {
    match label {
        Some(label) => credential.with_label(label).map_err(invalid),
        None => Ok(credential),
    }
}

fn done(id: &ClientId, what: &str, json: bool) -> Result<(), Failure> {
    if json {
        return print(json!({ "client_id": id, "done": what }));
    }
    eprintln!("client `{id}` is {what}");
    Ok(())
}

fn without(client: &RegisteredClient, label: &str) -> Result<Client, AdminError> {
    let is_credential = client.credentials().iter().any(|credential| credential.label() == label);
    if !is_credential && client.secret(label).is_none() {
        let labels = labels(client).map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let why = format!("the client has no credential `{label}`; it has {labels}");
        return Err(AdminError::Invalid(ClientError::new(client.id(), why)));
    }
    Ok(if is_credential { client.edit().without_credential(label) } else { client.edit().without_secret(label) })
}

/// Removes what has expired. A client without it is as before: a server accepts no expired credential.
async fn remove_expired(store: &Store, id: &ClientId, json: bool) -> Result<(), Failure> {
    let now = SystemTime::now();
    let expired = |client: &RegisteredClient| -> Vec<String> {
        let all = expiries(client).into_iter();
        all.filter(|(.., end)| is_over(*end, now)).map(|(_, label, _)| label.to_owned()).collect()
    };
    let (client, _) = store.load(id).await?.ok_or(AdminError::NotFound)?;
    let labels = expired(&client);
    if labels.is_empty() {
        return done(id, "unchanged: none of its credentials has expired", json);
    }
    store
        .update(id, |client| {
            expired(client)
                .iter()
                .fold(client.edit(), |edited, label| edited.without_secret(label).without_credential(label))
        })
        .await?;
    let labels = labels.iter().map(|label| format!("`{}`", printable(label))).collect::<Vec<_>>().join(", ");
    done(id, &format!("changed: {labels} removed"), json)
}

fn is_over(end: Option<SystemTime>, now: SystemTime) -> bool {
    end.is_some_and(|end| end <= now)
}

/// Returns the method, the label and the end of each secret and credential.
fn expiries(client: &RegisteredClient) -> Vec<(ClientAuthMethod, &str, Option<SystemTime>)> {
    let secrets = client.secrets().iter().map(|secret| (client.authentication(), secret.label(), secret.expires()));
    let others = client.credentials().iter().map(|other| (other.method(), other.label(), other.expires()));
    secrets.chain(others).collect()
}

fn labels(client: &RegisteredClient) -> impl Iterator<Item = &str> {
    client.secrets().iter().map(RegisteredSecret::label).chain(client.credentials().iter().map(Credential::label))
}

/// Revokes by client and date. A server that follows the store learns of the removal before the revocation, so a token that the
/// removed credential obtains meanwhile is dated before its end.
async fn revoke_tokens(store: &Store, id: &ClientId, json: bool) -> Result<(), Failure> {
    let longest = store.longest_token_lifetime();
    let revoked = store.revoke(Revocation::client(id.clone(), SystemTime::now(), longest)).await;
    if let Err(error) = revoked {
        let Failure(code, why) = error.into();
        return Err(Failure(
            code,
            format!(
                "the credential was removed, but the tokens were not revoked: {why}; run `clients revoke-tokens {id}`"
            ),
        ));
    }
    done(id, "without tokens: its tokens are revoked in the store", json)?;
    explain(json, NEW_TOKENS);
    Ok(())
}

fn list(client: &RegisteredClient, json: bool) -> Result<(), Failure> {
    let (now, seconds) =
        (SystemTime::now(), |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs());
    for (method, label, end) in expiries(client) {
        let has_expired = is_over(end, now);
        if json {
            let end = end.map(seconds);
            print(json!({ "label": label, "method": method, "expires_at": end, "has_expired": has_expired }))?;
        } else {
            let verb = if has_expired { "expired" } else { "expires" };
            let end = end.map_or_else(String::new, |at| format!("\t{verb} at {}", Rfc3339(at)));
            writeln!(io::stdout(), "{}\t{method}{end}", printable(label))?;
        }
    }
    Ok(())
}

async fn reseal(store: &Store, key: &KeyEncryptionKey, json: bool) -> Result<(), Failure> {
    let (mut after, mut resealed) = (None, 0);
    let page = const { NonZeroUsize::new(1_000).unwrap() };
    loop {
        let clients = store.list(after.as_ref(), page).await?;
        let Some(last) = clients.last() else { break };
        after = Some(last.id().clone());
        for client in clients {
            let method = ClientAuthMethod::ClientSecretJwt;
            if !client.credentials().iter().any(|credential| credential.method() == method) {
                continue;
            }
            if client.edit().encrypt_secrets(key).register().map_err(invalid)? != *client {
                store.update(client.id(), |client| client.edit().encrypt_secrets(key)).await?;
                resealed += 1;
            }
        }
    }
    if json {
        return print(json!({ "resealed": resealed }));
    }
    eprintln!("the secrets of {resealed} clients were encrypted again by the key-encryption key `{}`", key.name());
    Ok(())
}
