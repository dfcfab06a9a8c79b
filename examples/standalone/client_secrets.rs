//! Checks that the key-encryption key decrypts the secrets of `client_secret_jwt` that are in the store.

use std::num::NonZeroUsize;

use tower_client_credentials::registration::{ClientAuthMethod, RegisteredClient};
use tower_client_credentials::store::ClientAdmin as _;

use crate::config::{Config, Mistake, Source};
use crate::keys::optional_encryption_key;
use crate::store::{Store, chain};

/// The number of clients that are looked at. A wrong key shows at the first of them, and a start must not read a large store.
const LOOKED_AT: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();

/// Refuses to start with a key-encryption key that decrypts none of the secrets. If it decrypts some, the others are reported by the
/// log and by 503 to their clients only.
pub(crate) async fn check(config: &Config, source: &Source, store: &Store) -> Result<(), Mistake> {
    if !config.assertions.client_secret_jwt {
        return Ok(());
    }
    let clients = match store.list(None, LOOKED_AT).await {
        Ok(clients) => clients,
        // The requests of clients that cannot be read get 503, and others are served.
        Err(error) => {
            tracing::warn!(error = chain(&error), "could not check the secrets of clients in the store");
            return Ok(());
        }
    };
    let key = optional_encryption_key(&config.keys, source)?;
    let why_not = |client: &RegisteredClient| match &key {
        Some(key) => client.edit().encrypt_secrets(key).register().err().map(|error| error.to_string()),
        None => Some(format!("client `{}` has an encrypted secret, and there is no key-encryption key", client.id())),
    };
    let with_secrets = clients.iter().filter(|client| {
        client.credentials().iter().any(|credential| credential.method() == ClientAuthMethod::ClientSecretJwt)
    });
    let mut mistake = None;
    for client in with_secrets {
        match why_not(client) {
            None => return Ok(()),
            Some(why) => _ = mistake.get_or_insert(why),
        }
    }
    let setting = if key.is_some() { "keys.encryption_key_file" } else { "keys" };
    mistake.map_or(Ok(()), |why| {
        Err(source.mistake_in(
            setting,
            format!("{why}; set encryption_key_file or encryption_key_env to the key that `clients` used"),
        ))
    })
}
