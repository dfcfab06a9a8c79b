//! The keys: one that is generated, one in a file that is read again, or a ring in the store that rotates automatically.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tower_client_credentials::event::EventSender;
use tower_client_credentials::keys::rotation::{
    KeyEncryptionKey, KeyFile, KeyFileBuilder, KeyManager, KeyManagerBuilder, KeyStore, KeyStoreError, MemoryKeyStore,
    Replica, RingStatus,
};
use tower_client_credentials::keys::{KeyError, VerifyingKey};
use tower_client_credentials::{Algorithm, KeyRing, SigningKey};

use crate::build::read_file;
use crate::config::{Keys, Mistake, Source};
use crate::store::{chain, is_missing_in_a_folder};
use crate::wording::with_settings;

/// The keys of the service. Clones share them.
#[derive(Clone)]
pub(crate) enum ServiceKeys {
    /// A key that is read at each reload.
    Fixed(KeyRing),
    /// A key that a reload keeps.
    Generated(Generated),
    /// A key in a file that may be replaced. A reload keeps it, since it remembers the keys that the file had before.
    File(FileSettings, KeyFile),
    /// A ring in the store, which a reload keeps.
    Managed(KeyManager),
}

#[derive(Clone)]
pub(crate) struct Generated {
    /// The algorithms that it was generated for.
    settings: (String, Option<Algorithm>),
    /// The key alone.
    alone: KeyRing,
    /// With the keys that only verify, which a reload may change.
    ring: KeyRing,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct FileSettings {
    path: PathBuf,
    chosen: Option<Algorithm>,
    trusted: Vec<String>,
}

/// The name of the ring in the store, that of `KeyManagerBuilder::name`.
const RING: &str = "default";

impl ServiceKeys {
    /// Returns the keys unless they are in the store. A missing file is not created if `creates` is false.
    pub(crate) fn outside_the_store(
        keys: &Keys,
        source: &Source,
        kept: Option<&Self>,
        creates: bool,
    ) -> Result<Option<Self>, Mistake> {
        let at = |setting| move |error: KeyError| source.mistake_in(setting, error);
        let chosen = chosen(keys, source)?;
        if keys.rotate_days.is_some() {
            return Ok(None);
        }
        let trusted = trusted(keys, source)?;
        let with_chosen = |signing: SigningKey| match chosen {
            Some(algorithm) => signing.with_algorithm(algorithm).map(KeyRing::new).map_err(at("keys.algorithm")),
            None => Ok(KeyRing::new(signing)),
        };
        let with_trusted = |ring: KeyRing| trusted.iter().fold(ring, |ring, (_, key)| ring.also_trust(key.clone()));
        let opened = match (&keys.generate, &keys.sign, &keys.load_or_create) {
            (Some(name), ..) => {
                let settings = (name.clone(), chosen);
                let alone = match kept {
                    Some(Self::Generated(same)) if same.settings == settings => same.alone.clone(),
                    _ => {
                        let algorithm = algorithm(name).map_err(|why| source.mistake_in("keys.generate", why))?;
                        with_chosen(SigningKey::generate(algorithm).map_err(at("keys.generate"))?)?
                    }
                };
                Self::Generated(Generated { settings, ring: with_trusted(alone.clone()), alone })
            }
            (None, Some(path), _) => {
                let key = SigningKey::from_file(source.resolve(path)).map_err(at("keys.sign"))?;
                Self::Fixed(with_trusted(with_chosen(key)?))
            }
            (None, None, Some(path)) => {
                let texts = trusted.iter().map(|(text, _)| text.clone()).collect();
                let settings = FileSettings { path: source.resolve(path), chosen, trusted: texts };
                match kept {
                    Some(Self::File(same, file)) if *same == settings => Self::File(settings, file.clone()),
                    _ if !creates && is_missing_in_a_folder(&settings.path) => {
                        Self::Fixed(KeyRing::generate().map_err(at("keys.load_or_create"))?)
                    }
                    _ => {
                        let mut builder = KeyFile::builder(&settings.path);
                        builder = chosen.into_iter().fold(builder, KeyFileBuilder::algorithm);
                        let trusted = trusted.iter().map(|(_, key)| key.clone());
                        builder = trusted.fold(builder, KeyFileBuilder::also_trust);
                        Self::File(settings, builder.open().map_err(at("keys.load_or_create"))?)
                    }
                }
            }
            (None, None, None) => {
                let choice = "there is no key; set load_or_create = \"FILE\", sign = \"FILE\", generate = \"ES256\" or \
                              rotate_days = 90";
                return Err(source.mistake_in("keys", choice));
            }
        };
        Ok(Some(opened))
    }

    /// Opens the ring in the store. If `creates` is false, it checks that the store permits what a start does, and opens a copy in
    /// memory, so that the ring does not change.
    pub(crate) async fn in_the_store(
        keys: &Keys,
        source: &Source,
        (store, store_url): (Arc<dyn KeyStore>, &str),
        events: Option<EventSender>,
        creates: bool,
    ) -> Result<Self, Mistake> {
        let encryption_key = encryption_key(keys, source)?;
        let failed =
            |error: &dyn std::error::Error| source.mistake_in("keys.rotate_days", with_settings(&chain(error)));
        let store = if creates {
            store
        } else {
            check_rights(&*store, store_url).await.map_err(|error| failed(&error))?;
            copy(&*store).await.map_err(|error| failed(&error))?
        };
        let every = keys.rotate_days.map(|days| Duration::from_secs(u64::from(days.get()) * 24 * 60 * 60));
        let builder = KeyManager::builder(store, encryption_key).name(RING).every(every);
        let builder = chosen(keys, source)?.into_iter().fold(builder, KeyManagerBuilder::algorithm);
        let builder = events.into_iter().fold(builder, KeyManagerBuilder::events);
        builder.connect().await.map(Self::Managed).map_err(|error| failed(&error))
    }

    pub(crate) fn ring(&self) -> KeyRing {
        match self {
            Self::Fixed(ring) | Self::Generated(Generated { ring, .. }) => ring.clone(),
            Self::File(_, file) => file.ring(),
            Self::Managed(manager) => manager.ring(),
        }
    }

    /// Returns the manager of a ring in the store.
    pub(crate) fn manager(&self) -> Option<&KeyManager> {
        match self {
            Self::Managed(manager) => Some(manager),
            Self::Fixed(_) | Self::Generated(..) | Self::File(..) => None,
        }
    }

    /// Reads a key file again. If it was replaced, the new key is published at once. An error changes nothing.
    pub(crate) fn read_again(&self) -> Result<(), String> {
        match self {
            Self::File(_, file) => file.reload().map(drop).map_err(|error| chain(&error)),
            Self::Fixed(_) | Self::Generated(..) | Self::Managed(_) => Ok(()),
        }
    }

    /// Takes the steps that are due after a key file was replaced or put into the folder.
    pub(crate) fn look(&self) {
        let Self::File(settings, file) = self else { return };
        let is_rotating = file.ring().key_ids().count() > 1 + settings.trusted.len();
        // A folder is watched. A file is read again by a reload only. An error is logged once, and changes nothing.
        if is_rotating || settings.path.is_dir() {
            let _ = self.read_again();
        }
    }

    /// Ends the lease of this replica. Call it after the last request.
    pub(crate) async fn leave(&self) {
        if let Some(manager) = self.manager()
            && let Err(error) = manager.leave().await
        {
            tracing::warn!(error = chain(&error), "other replicas wait until the lease of this replica ends");
        }
    }
}

/// Rejects settings of two kinds of keys, and settings without effect. `encrypts_secrets` tells whether the secrets of clients need
/// the key-encryption key.
pub(crate) fn refuse_contradictions(keys: &Keys, encrypts_secrets: bool, source: &Source) -> Result<(), Mistake> {
    let kinds = [
        ("keys.generate", keys.generate.is_some()),
        ("keys.load_or_create", keys.load_or_create.is_some()),
        ("keys.sign", keys.sign.is_some()),
        ("keys.rotate_days", keys.rotate_days.is_some()),
    ];
    let mut set = kinds.iter().filter(|(_, is_set)| *is_set).map(|(setting, _)| *setting);
    if let (Some(other), Some(setting)) = (set.next(), set.next()) {
        return Err(source.mistake_in(setting, format_args!("{other} is set as well; keep one of them")));
    }
    if keys.rotate_days.is_some() {
        if !keys.trust.is_empty() {
            return Err(
                source.mistake_in("keys.trust", "a ring in the store has all its keys there; remove keys.trust")
            );
        }
        return Ok(());
    }
    if encrypts_secrets {
        return Ok(());
    }
    let of_a_ring = [
        ("keys.encryption_key_env", keys.encryption_key_env.is_some()),
        ("keys.encryption_key_file", keys.encryption_key_file.is_some()),
        ("keys.previous_encryption_key_file", keys.previous_encryption_key_file.is_some()),
    ];
    match of_a_ring.iter().find(|(_, is_set)| *is_set) {
        Some((setting, _)) => {
            let why = "it is for keys and client secrets in the store; set keys.rotate_days or assertions.client_secret_jwt, \
                       too, or remove it";
            Err(source.mistake_in(setting, why))
        }
        None => Ok(()),
    }
}

/// Returns the key-encryption key, if one is set.
pub(crate) fn optional_encryption_key(keys: &Keys, source: &Source) -> Result<Option<KeyEncryptionKey>, Mistake> {
    let is_set = keys.encryption_key_env.is_some() || keys.encryption_key_file.is_some();
    if !is_set && keys.previous_encryption_key_file.is_some() {
        let why = "the current key is missing; set the variable TCC_KEY_ENCRYPTION_KEY, encryption_key_file or encryption_key_env, too";
        return Err(source.mistake_in("keys.previous_encryption_key_file", why));
    }
    is_set.then(|| encryption_key(keys, source)).transpose()
}

fn encryption_key(keys: &Keys, source: &Source) -> Result<KeyEncryptionKey, Mistake> {
    let at = |setting| move |error: KeyError| source.mistake_in(setting, error);
    let from_file = |path: &Path| KeyEncryptionKey::from_file(source.resolve(path));
    let current = match (&keys.encryption_key_env, &keys.encryption_key_file) {
        (Some(variable), None) => KeyEncryptionKey::from_env(variable).map_err(at("keys.encryption_key_env")),
        (None, Some(path)) => from_file(path).map_err(at("keys.encryption_key_file")),
        _ => Err(source.mistake_in(
            "keys.rotate_days",
            "keys in the store are encrypted; set the variable TCC_KEY_ENCRYPTION_KEY, or set either encryption_key_file or \
             encryption_key_env: to the key of the other replicas, or for a new store to the output of \
             `openssl rand -base64 32`",
        )),
    }?;
    match &keys.previous_encryption_key_file {
        Some(path) => Ok(current.also(from_file(path).map_err(at("keys.previous_encryption_key_file"))?)),
        None => Ok(current),
    }
}

/// Checks that the store permits what a start does: to write a ring, and to write a lease. No ring changes: no ring of this name
/// has a first version to replace, and the lease ends at once. A database in a file is not checked, since that would write the file.
async fn check_rights(store: &dyn KeyStore, store_url: &str) -> Result<(), KeyStoreError> {
    if !["postgres:", "postgresql:", "redis:", "rediss:"].iter().any(|scheme| store_url.starts_with(scheme)) {
        return Ok(());
    }
    let replica = Replica { name: "check".to_owned(), version: 0, proof: String::new() };
    store.save_ring("check", 1, 2, "").await?;
    store.renew_lease("check", &replica, Duration::from_millis(1)).await
}

/// Returns a store in memory with the stored ring.
async fn copy(store: &dyn KeyStore) -> Result<Arc<dyn KeyStore>, KeyStoreError> {
    let (stored, copy) = (store.load_ring(RING).await?, MemoryKeyStore::default());
    if stored.version > 0 {
        copy.save_ring(RING, 0, stored.version, &stored.document).await?;
    }
    Ok(Arc::new(copy))
}

fn chosen(keys: &Keys, source: &Source) -> Result<Option<Algorithm>, Mistake> {
    let chosen = keys.algorithm.as_deref().map(algorithm).transpose();
    chosen.map_err(|why| source.mistake_in("keys.algorithm", why))
}

pub(crate) fn algorithm(name: &str) -> Result<Algorithm, String> {
    const ALL: [Algorithm; 7] = [
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
    ];
    let found = ALL.into_iter().find(|algorithm| algorithm.name() == name);
    found.ok_or_else(|| format!("`{name}` is not an algorithm; use one of {}", ALL.map(Algorithm::name).join(", ")))
}

/// Returns the keys that only verify, with their texts, by which a reload tells whether they changed.
fn trusted(keys: &Keys, source: &Source) -> Result<Vec<(String, VerifyingKey)>, Mistake> {
    let read = |path: &PathBuf| {
        public_key(&source.resolve(path))
            .map_err(|why| source.mistake_in("keys.trust", format_args!("{}: {why}", path.display())))
    };
    keys.trust.iter().map(read).collect()
}

fn public_key(path: &Path) -> Result<(String, VerifyingKey), String> {
    let text = read_file(path).map_err(|error| format!("{error}; put a public key there, in PEM or JWK"))?;
    let is_jwk = text.trim_start().starts_with('{');
    let key = if is_jwk { VerifyingKey::from_jwk(&text) } else { VerifyingKey::from_pem(&text) };
    key.map(|key| (text, key)).map_err(|error| error.to_string())
}

/// Returns the state of a ring as JSON, for the health check, which anyone may ask: key ids are public, and of problems and
/// replicas it has only the numbers.
pub(crate) fn status_json(status: &RingStatus) -> Value {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let keys = status.keys.iter().map(|key| {
        json!({
            "kid": key.key_id,
            "alg": key.algorithm.name(),
            "state": key.state.name(),
            "since": seconds(key.since),
            "may_step_at": key.may_step_at.map(seconds),
        })
    });
    json!({
        "version": status.version,
        "keys": keys.collect::<Vec<_>>(),
        "next_step": status.next_step.map(seconds),
        "lagging_replicas": status.lagging.len(),
        "problems": status.problems.len(),
    })
}
