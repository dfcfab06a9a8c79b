//! [`ClientKeys`]: the public keys of a client, parsed once.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::nesting::nesting;
use crate::keys::{Algorithm, KeySet, VerifyingKey};
use crate::registration::InvalidCredential;

/// The public keys with which the assertions of a client are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientKeys {
    /// The set as it was registered, for the record of the client.
    json: Arc<str>,
    algorithm: Option<Algorithm>,
    keys: KeySet,
    nesting: usize,
}

/// Members of a JWK that are not public (RFC 7518 §6).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

impl ClientKeys {
    pub(crate) fn new(json: &[u8], algorithm: Option<Algorithm>) -> Result<Self, InvalidCredential> {
        let set: Option<Map<String, Value>> = serde_json::from_slice(json).ok();
        let keys = set.as_ref().and_then(|set| set.get("keys")).and_then(Value::as_array).ok_or_else(|| {
            InvalidCredential::new("`jwks` is not a JWK Set (RFC 7517 §5); use a JSON object with an array `keys`")
        })?;
        check(keys)?;
        let algorithms = algorithm.map(|algorithm| [algorithm]);
        let keys = KeySet::read(json, algorithms.as_ref().map(<[_; 1]>::as_slice))
            .map_err(|error| no_key(algorithm, &error.to_string()))?;
        let nesting = set.as_ref().map(|set| nesting(set.values())).unwrap_or_default();
        let json = set.map(Value::Object).unwrap_or_default().to_string().into();
        Ok(Self { json, algorithm, keys, nesting })
    }

    pub(crate) fn of_key(key: &VerifyingKey) -> Result<Self, InvalidCredential> {
        let jwk = key.to_jwk().ok_or_else(|| {
            InvalidCredential::new("the key is a shared secret, with which the server could forge; use a public key")
        })?;
        let mut jwk = serde_json::to_value(jwk).map_err(|error| InvalidCredential::new(error.to_string()))?;
        // Otherwise the key could not be used for another algorithm.
        if key.algorithm().is_rsa()
            && key.algorithm() == Algorithm::RS256
            && let Some(jwk) = jwk.as_object_mut()
        {
            jwk.remove("alg");
        }
        Self::new(serde_json::json!({ "keys": [jwk] }).to_string().as_bytes(), None)
    }

    pub(crate) fn restricted_to(&self, algorithm: Algorithm) -> Result<Self, InvalidCredential> {
        Self::new(self.json.as_bytes(), Some(algorithm))
    }

    pub(crate) fn keys(&self) -> &KeySet {
        &self.keys
    }

    pub(crate) fn json(&self) -> &str {
        &self.json
    }

    pub(super) fn nesting(&self) -> usize {
        self.nesting
    }

    pub(crate) fn algorithm(&self) -> Option<Algorithm> {
        self.algorithm
    }
}

/// Checks each key. Unlike the set of a remote issuer, a set in a registration is written for this server, so a key that
/// cannot be used is a mistake.
fn check(keys: &[Value]) -> Result<(), InvalidCredential> {
    let mut seen = HashSet::new();
    for (number, jwk) in keys.iter().enumerate() {
        let mistake = |why: &str| InvalidCredential::new(format!("`jwks`: keys[{number}]: {why}"));
        if PRIVATE.iter().any(|member| jwk.get(member).is_some()) {
            return Err(mistake("it contains a private key or a secret; register only the public members"));
        }
        if jwk.get("use").and_then(Value::as_str) == Some("enc") {
            continue;
        }
        let key = VerifyingKey::from_jwk(jwk.to_string()).map_err(|error| mistake(&error.to_string()))?;
        let kid = jwk.get("kid");
        if kid.is_some_and(|kid| !kid.is_string()) {
            return Err(mistake("its `kid` is not a string"));
        }
        if !seen.insert((kid.and_then(Value::as_str), key.algorithm())) {
            return Err(mistake("another key has the same `kid` and algorithm; give each key a `kid` of its own"));
        }
    }
    if seen.is_empty() {
        return Err(InvalidCredential::new("`jwks` has no key for signatures; add a public key"));
    }
    Ok(())
}

fn no_key(algorithm: Option<Algorithm>, why: &str) -> InvalidCredential {
    InvalidCredential::new(match algorithm {
        Some(algorithm) => {
            format!("`jwks` has no key for `{algorithm}`; add one, or change `token_endpoint_auth_signing_alg`")
        }
        None => format!("`jwks`: {why}"),
    })
}
