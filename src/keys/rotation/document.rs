//! A ring as text: every row is authenticated under the key-encryption key, and private keys are encrypted with it.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::history::{Head, History};
use super::key_encryption::{KeyEncryptionKey, Sealed, unambiguous};
use super::lifecycle::{KeyEntry, KeyState, RingState, Waits};
use crate::keys::{Algorithm, KeyError, SigningKey, VerifyingKey};

/// The version of the format.
const FORMAT: u32 = 2;

/// The private halves of the keys of a ring that this process has, by `kid`.
pub(super) type PrivateKeys = HashMap<String, Arc<SigningKey>>;

#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    version: u64,
    /// The random name of this version.
    mark: String,
    /// The versions that it descends from.
    earlier: Vec<Head>,
    /// When an operator last accepted a stored ring, or 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    accepted_at: u64,
    before_signing: u64,
    before_removal: u64,
    algorithm: String,
    rotate: bool,
    /// The `kid`s of all keys that were ever distrusted.
    distrusted: Vec<String>,
    keys: Vec<Row>,
    /// The name of the key-encryption key.
    encrypted_by: String,
    /// Authenticates all other members and the list of the rows.
    seal: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde needs")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize, Deserialize)]
struct Row {
    kid: String,
    state: String,
    since: u64,
    since_version: u64,
    everywhere_at: Option<u64>,
    /// The public key as a JWK, in JSON.
    public: String,
    /// The private key in PKCS#8, encrypted, or nothing, encrypted, if it never signs again or is behind a signer.
    private: String,
}

/// The authentic contents of a document.
pub(super) struct Opened {
    pub(super) state: RingState,
    pub(super) private: PrivateKeys,
    /// The parts that are not authentic, for the operator. Such rows are left out.
    pub(super) problems: Vec<String>,
    /// Whether the settings and the history in `state` are those of the document, and not those of the fallback.
    pub(super) is_listed: bool,
    /// The name of the key-encryption key.
    pub(super) encrypted_by: String,
}

/// Writes the ring under `state.version`.
pub(super) fn seal(
    ring: &str,
    state: &RingState,
    private: &PrivateKeys,
    by: &KeyEncryptionKey,
) -> Result<String, KeyError> {
    let mut keys = Vec::with_capacity(state.keys.len());
    for entry in &state.keys {
        keys.push(seal_row(ring, state, entry, private, by)?);
    }
    let mut document = Document {
        format: FORMAT,
        version: state.version,
        mark: state.history.mark.clone(),
        earlier: state.history.earlier.clone(),
        accepted_at: state.history.accepted_at,
        before_signing: state.waits.before_signing,
        before_removal: state.waits.before_removal,
        algorithm: state.algorithm.name().to_owned(),
        rotate: state.rotate,
        distrusted: state.distrusted.clone(),
        keys,
        encrypted_by: by.name().to_owned(),
        seal: String::new(),
    };
    document.seal = by.seal(&document.context(ring), b"")?.text;
    serde_json::to_string(&document)
        .map_err(|error| KeyError::backend(format!("the key ring cannot be written: {error}")))
}

fn seal_row(
    ring: &str,
    state: &RingState,
    entry: &KeyEntry,
    private: &PrivateKeys,
    by: &KeyEncryptionKey,
) -> Result<Row, KeyError> {
    let jwk = entry.public.to_jwk().ok_or_else(|| {
        KeyError::unsupported(
            "a secret for HS256 cannot be in a shared ring: verifiers elsewhere could not check its tokens",
        )
    })?;
    let public = serde_json::to_string(&jwk);
    let mut row = Row {
        kid: entry.key_id().to_owned(),
        state: entry.state.name().to_owned(),
        since: entry.since,
        since_version: entry.since_version,
        everywhere_at: entry.everywhere_at,
        public: public.map_err(|error| KeyError::backend(format!("the public key cannot be written: {error}")))?,
        private: String::new(),
    };
    // What never signs again is not kept.
    let may_sign = matches!(entry.state, KeyState::Published | KeyState::Signing);
    let own = private.get(entry.key_id()).filter(|key| may_sign && !key.is_external());
    let pkcs8 = own.map(|key| key.to_pkcs8()).transpose()?;
    let context = row.context(ring, state.version, &state.history.mark);
    row.private = by.seal(&context, pkcs8.as_ref().map_or(&[], |pkcs8| pkcs8.as_slice()))?.text;
    Ok(row)
}

/// Reads a ring that is stored under this version. `known` are private keys that need not be parsed again, or are behind a
/// signer. `fallback` has the settings and the history that count if those of the document are not authentic.
pub(super) fn open(
    ring: &str,
    version: u64,
    text: &str,
    by: &KeyEncryptionKey,
    known: &PrivateKeys,
    fallback: &RingState,
) -> Result<Opened, KeyError> {
    let place = format!("the key ring `{ring}` in the store");
    let broken = |what: &str| KeyError::malformed(format!("{place} {what}"));
    let document: Document =
        serde_json::from_str(text).map_err(|error| broken(&format!("is not readable: {error}")))?;
    if document.format != FORMAT {
        return Err(KeyError::unsupported(format!(
            "{place} has the format {}, and this version of the crate reads {FORMAT}; use a newer version",
            document.format
        )));
    }
    if !by.has(&document.encrypted_by) {
        return Err(KeyError::mismatch(format!(
            "{place} is encrypted with the key-encryption key `{}`, and this process has `{}`; use the key that encrypted it, or add it \
             with KeyEncryptionKey::also",
            document.encrypted_by.chars().take(16).collect::<String>().escape_debug(),
            by.names()
        )));
    }
    if document.version != version {
        return Err(broken(&format!("is of version {}, but is stored as version {version}", document.version)));
    }
    let mut problems = Vec::new();
    let seal = Sealed { by: document.encrypted_by.clone(), text: document.seal.clone() };
    let is_listed = by.open(&document.context(ring), &seal).is_some();
    let state = if is_listed {
        let algorithm =
            Algorithm::from_name(&document.algorithm).ok_or_else(|| broken("names an unknown algorithm"))?;
        RingState {
            version,
            history: History {
                mark: document.mark.clone(),
                earlier: document.earlier.clone(),
                accepted_at: document.accepted_at,
            },
            waits: Waits { before_signing: document.before_signing, before_removal: document.before_removal },
            algorithm,
            rotate: document.rotate,
            distrusted: document.distrusted.clone(),
            keys: Vec::new(),
        }
    } else {
        problems.push("its list of keys, its settings or its history were altered".to_owned());
        RingState { version, keys: Vec::new(), ..fallback.clone() }
    };
    let encrypted_by = document.encrypted_by.clone();
    let mut opened = Opened { state, private: PrivateKeys::new(), problems, is_listed, encrypted_by };
    for row in &document.keys {
        match open_row(ring, &document, row, by, known) {
            Ok((entry, key)) => {
                if let Some(key) = key {
                    opened.private.insert(entry.key_id().to_owned(), key);
                }
                if !is_listed {
                    // Each row authenticates the mark as well.
                    opened.state.history.mark.clone_from(&document.mark);
                }
                opened.state.keys.push(entry);
            }
            Err(why) => opened.problems.push(format!(
                "the row of key `{}` {why}",
                row.kid.chars().take(64).collect::<String>().escape_debug()
            )),
        }
    }
    Ok(opened)
}

fn open_row(
    ring: &str,
    document: &Document,
    row: &Row,
    by: &KeyEncryptionKey,
    known: &PrivateKeys,
) -> Result<(KeyEntry, Option<Arc<SigningKey>>), &'static str> {
    let sealed = Sealed { by: document.encrypted_by.clone(), text: row.private.clone() };
    let context = row.context(ring, document.version, &document.mark);
    let pkcs8 = by.open(&context, &sealed).ok_or("is not authentic")?;
    // From here on this process or another one with the same key-encryption key has written it.
    let state = KeyState::from_name(&row.state).ok_or("has an unknown state; use a newer version of the crate")?;
    let public = VerifyingKey::from_jwk(&row.public).map_err(|_| "has a malformed public key")?;
    if public.key_id() != row.kid {
        return Err("has the public key of another `kid`");
    }
    let key = match known.get(&row.kid) {
        Some(known) => Some(known.clone()),
        None if pkcs8.is_empty() => None,
        None => {
            let key = SigningKey::from_der(&*pkcs8).and_then(|key| key.with_algorithm(public.algorithm()));
            Some(Arc::new(key.map_err(|_| "has a malformed private key")?))
        }
    };
    if key.as_ref().is_some_and(|key| key.key_id() != row.kid) {
        return Err("has the private key of another `kid`");
    }
    let Row { since, since_version, everywhere_at, .. } = *row;
    Ok((KeyEntry { public, state, since, since_version, everywhere_at }, key))
}

impl Row {
    /// Returns all members but the private key, with the ring, its version and the mark of it, as authenticated data.
    fn context(&self, ring: &str, version: u64, mark: &str) -> Vec<u8> {
        let everywhere_at = self.everywhere_at.map_or_else(String::new, |at| at.to_string());
        unambiguous(&[
            "tcc key ring row v2",
            ring,
            &version.to_string(),
            mark,
            &self.kid,
            &self.state,
            &self.since.to_string(),
            &self.since_version.to_string(),
            &everywhere_at,
            &self.public,
        ])
    }
}

impl Document {
    /// Returns the settings, the history and the list of the keys, as authenticated data.
    fn context(&self, ring: &str) -> Vec<u8> {
        let lengths = [self.earlier.len(), self.distrusted.len()].map(|length| length as u64);
        let numbers = [self.version, self.before_signing, self.before_removal].into_iter().chain(lengths);
        let numbers: Vec<String> =
            numbers.chain(self.earlier.iter().map(|head| head.version)).map(|number| number.to_string()).collect();
        let rotate = if self.rotate { "rotate" } else { "" };
        let accepted_at = self.accepted_at.to_string();
        let mut parts = vec!["tcc key ring v2", ring, &self.algorithm, rotate, &self.mark];
        // A ring that was never accepted is authenticated as by versions of this crate that do not know this member.
        if self.accepted_at > 0 {
            parts.splice(..1, ["tcc key ring v2 accepted at", accepted_at.as_str()]);
        }
        parts.extend(numbers.iter().map(String::as_str));
        parts.extend(self.earlier.iter().map(|head| head.mark.as_str()));
        parts.extend(self.distrusted.iter().map(String::as_str));
        parts.extend(self.keys.iter().map(|row| row.kid.as_str()));
        unambiguous(&parts)
    }
}
