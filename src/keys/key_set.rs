//! [`KeySet`]: the public keys of another issuer, with the issuer's names for them.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::{Algorithm, FoundKey, KeyError, NoKey, VerifyingKey};
use crate::object::Object;

/// The maximum number of keys in a set. Each key costs some work, and no issuer signs with more.
const MAX_KEYS: usize = 100;

/// The public keys that verify one issuer's signatures. Clones share them.
///
/// ```
/// use tower_client_credentials::keys::KeySet;
///
/// let keys = KeySet::from_jwks(r#"{"keys": [
///     {"kty": "OKP", "crv": "Ed25519", "kid": "2026", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
///     {"kty": "EC", "crv": "secp256k1", "x": "unsupported here", "y": "and ignored"}
/// ]}"#)?;
/// assert_eq!(keys.len(), 1);
/// # Ok::<(), tower_client_credentials::keys::KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct KeySet(Arc<[NamedKey]>);

#[derive(Clone)]
struct NamedKey {
    /// The `kid` of tokens signed with the key; any text.
    name: Option<Arc<str>>,
    key: VerifyingKey,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Value>,
}

impl KeySet {
    /// Parses a JWK Set (RFC 7517 §5) from JSON.
    ///
    /// Unusable keys are ignored (§5): those with an unsupported type or curve, malformed ones, and those whose `use`,
    /// `key_ops` or `alg` is for another purpose. A key without a `kid` is used for tokens without one. An RSA key without an
    /// `alg` is used for `RS256`.
    ///
    /// # Errors
    ///
    /// If it is not a JWK Set, contains more than 100 keys, or contains no usable key.
    pub fn from_jwks(json: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        Self::read(json.as_ref(), None)
    }

    /// Like [`from_jwks`](Self::from_jwks), but only for these algorithms. A key without an `alg` is used for each of them that
    /// fits its type.
    ///
    /// # Errors
    ///
    /// As for [`from_jwks`](Self::from_jwks).
    pub fn from_jwks_for(json: impl AsRef<[u8]>, algorithms: impl AsRef<[Algorithm]>) -> Result<Self, KeyError> {
        Self::read(json.as_ref(), Some(algorithms.as_ref()))
    }

    pub(crate) fn read(json: &[u8], algorithms: Option<&[Algorithm]>) -> Result<Self, KeyError> {
        let Object::<JwkSet>(set) = serde_json::from_slice(json).map_err(|_| {
            KeyError::malformed("not a JWK Set (RFC 7517 §5); expected a JSON object with an array `keys`")
        })?;
        if set.keys.len() > MAX_KEYS {
            return Err(KeyError::unsupported(format!("the key set has more than {MAX_KEYS} keys")));
        }
        let keys: Arc<[NamedKey]> = set.keys.iter().flat_map(|jwk| named_keys(jwk, algorithms)).collect();
        if keys.is_empty() {
            return Err(KeyError::unsupported("the key set has no usable key: none has a supported type and is valid"));
        }
        Ok(Self(keys))
    }

    /// Returns the number of keys. An RSA key counts once for each of its algorithms.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the key with this name and algorithm. A token without a key name means the only key of its algorithm. If there
    /// are several, none is tried: trying each would multiply the cost of invalid tokens.
    pub(crate) fn find(&self, name: &str, alg: &str) -> Result<FoundKey, NoKey> {
        if name.is_empty() {
            let only = self.only_one(|algorithm| algorithm.is_named(alg)).ok_or(NoKey::Unknown)?;
            return Ok(FoundKey { key: only.key.clone(), name: None, trust: None });
        }
        let mut named = self.named(name).peekable();
        let own = named.peek().ok_or(NoKey::Unknown)?.key.algorithm();
        let found = named.find(|own| own.key.algorithm().is_named(alg)).ok_or(NoKey::Algorithm(Some(own)))?;
        Ok(FoundKey { key: found.key.clone(), name: found.name.clone(), trust: None })
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &NamedKey> {
        self.0.iter().filter(move |own| own.name.as_deref() == Some(name))
    }

    fn only_one(&self, fits: impl Fn(Algorithm) -> bool) -> Option<&NamedKey> {
        let mut fitting = self.0.iter().filter(|own| fits(own.key.algorithm()));
        fitting.next().filter(|_| fitting.next().is_none())
    }

    /// Returns whether [`find`](Self::find) would return the same key for the same token. The key may still be in the set while
    /// its name now means another key.
    pub(crate) fn still_names(&self, found: &FoundKey) -> bool {
        let fits = |algorithm| algorithm == found.key.algorithm();
        let named = match &found.name {
            Some(name) => self.named(name).find(|own| fits(own.key.algorithm())),
            None => self.only_one(fits),
        };
        named.is_some_and(|own| own.key.is_same_key(&found.key))
    }

    /// Returns whether both share the same allocation.
    pub(crate) fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Returns the keys of a JWK: an empty list if it is unusable.
fn named_keys(jwk: &Value, algorithms: Option<&[Algorithm]>) -> Vec<NamedKey> {
    let key = match VerifyingKey::from_jwk(jwk.to_string()) {
        Ok(key) => key,
        Err(error) => {
            tracing::debug!(%error, "ignored an unusable key of a key set");
            return Vec::new();
        }
    };
    let name = jwk.get("kid").and_then(Value::as_str).map(Arc::from);
    let named = |key| NamedKey { name: name.clone(), key };
    match algorithms {
        None => vec![named(key)],
        Some(allowed) if jwk.get("alg").is_some_and(|alg| !alg.is_null()) => {
            allowed.contains(&key.algorithm()).then(|| named(key)).into_iter().collect()
        }
        Some(allowed) => {
            allowed.iter().filter_map(|algorithm| key.with_algorithm(*algorithm).ok().map(named)).collect()
        }
    }
}

impl<const N: usize> From<[VerifyingKey; N]> for KeySet {
    fn from(keys: [VerifyingKey; N]) -> Self {
        keys.into_iter().collect()
    }
}

/// Names each key by its [thumbprint](VerifyingKey::key_id).
impl FromIterator<VerifyingKey> for KeySet {
    fn from_iter<I: IntoIterator<Item = VerifyingKey>>(keys: I) -> Self {
        Self(keys.into_iter().map(|key| NamedKey { name: Some(key.key_id().into()), key }).collect())
    }
}

impl PartialEq for NamedKey {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.key.is_same_key(&other.key)
    }
}

impl Eq for NamedKey {}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|own| (&own.name, &own.key))).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{KeySet, NoKey};
    use crate::keys::{Algorithm, SigningKey, VerifyingKey};

    fn jwk(pem: &str) -> Value {
        serde_json::to_value(VerifyingKey::from_pem(pem).unwrap().to_jwk().unwrap()).unwrap()
    }

    fn ec() -> Value {
        jwk(include_str!("../../tests/keys/p256.pub.pem"))
    }

    fn rsa() -> Value {
        jwk(include_str!("../../tests/keys/rsa2048.pub.pem"))
    }

    fn with(mut jwk: Value, member: &str, value: Value) -> Value {
        jwk[member] = value;
        jwk
    }

    fn set(keys: &[Value]) -> KeySet {
        KeySet::from_jwks(json!({ "keys": keys }).to_string()).unwrap()
    }

    #[test]
    fn invalid_and_unknown_keys_of_a_set_are_ignored() {
        let good = with(ec(), "kid", json!("good"));
        for bad in [
            json!(5),
            json!("key"),
            json!({}),
            json!(["EC"]),
            json!({"kty": "XYZ"}),
            json!({"kty": "oct", "k": "AQAB"}),
            with(ec(), "crv", json!("P-521")),
            with(ec(), "x", json!("AAAA")),
            with(ec(), "y", json!(5)),
            with(ec(), "use", json!("enc")),
            with(ec(), "key_ops", json!(["sign"])),
            with(ec(), "alg", json!("RS256")),
            with(ec(), "alg", json!("HS256")),
            with(ec(), "d", json!("AQAB")),
            with(rsa(), "n", json!("AQAB")),
            with(rsa(), "e", json!("AQ")),
        ] {
            let keys = set(&[bad.clone(), good.clone(), bad.clone()]);
            assert_eq!(keys.len(), 1, "{bad}");
            assert!(keys.find("good", "ES256").is_ok(), "{bad}");
            assert!(KeySet::from_jwks(json!({ "keys": [bad] }).to_string()).is_err());
        }
    }

    #[test]
    fn an_invalid_set_and_one_with_too_many_keys_are_refused() {
        for text in [
            "",
            "{}",
            "[]",
            &json!([[ec()]]).to_string(),
            r#"{"keys":{}}"#,
            r#"{"keys":[]}"#,
            "<html>",
            &ec().to_string(),
        ] {
            assert!(KeySet::from_jwks(text).is_err(), "{text}");
        }
        let many = |count| json!({ "keys": vec![ec(); count] }).to_string();
        assert!(KeySet::from_jwks(many(100)).is_ok());
        assert!(KeySet::from_jwks(many(101)).is_err());
    }

    #[test]
    fn a_key_is_found_by_the_issuers_name_and_its_algorithm() {
        let keys = set(&[with(ec(), "kid", json!("1")), with(rsa(), "kid", json!("1")), with(ec(), "kid", json!("2"))]);
        assert_eq!(keys.find("1", "ES256").unwrap().key.algorithm(), Algorithm::ES256);
        assert_eq!(keys.find("1", "RS256").unwrap().key.algorithm(), Algorithm::RS256);
        for alg in ["PS256", "HS256", "none", ""] {
            assert!(matches!(keys.find("1", alg), Err(NoKey::Algorithm(_))), "{alg}");
        }
        assert!(matches!(keys.find("3", "ES256"), Err(NoKey::Unknown)));
    }

    #[test]
    fn a_token_without_a_key_name_means_the_only_key_of_its_algorithm() {
        let unnamed = with(rsa(), "kid", Value::Null);
        let other = SigningKey::generate(Algorithm::ES256).unwrap().verifying_key().to_jwk().unwrap();
        let keys = set(&[unnamed, ec(), serde_json::to_value(other).unwrap()]);
        assert_eq!(keys.find("", "RS256").unwrap().key.algorithm(), Algorithm::RS256);
        assert!(matches!(keys.find("", "ES256"), Err(NoKey::Unknown)));
    }

    #[test]
    fn a_found_key_is_trusted_only_while_its_name_means_this_key() {
        let other = SigningKey::generate(Algorithm::ES256).unwrap().verifying_key().to_jwk().unwrap();
        let other = serde_json::to_value(other).unwrap();
        let named = |jwk: &Value, name: &str| with(jwk.clone(), "kid", json!(name));
        let before = set(&[named(&ec(), "current"), named(&rsa(), "current")]);
        let (found, rsa_found) = (before.find("current", "ES256").unwrap(), before.find("current", "RS256").unwrap());
        let only = before.find("", "ES256").unwrap();
        assert!([&found, &rsa_found, &only].iter().all(|found| before.still_names(found)));
        let after = set(&[named(&other, "current"), named(&ec(), "previous"), named(&rsa(), "current")]);
        assert!(!after.still_names(&found), "the name means another key");
        assert!(!after.still_names(&only), "it is no longer the only one");
        assert!(after.still_names(&rsa_found), "a key of another algorithm is not affected");
        assert!(after.still_names(&after.find("previous", "ES256").unwrap()));
    }

    #[test]
    fn an_rsa_key_without_alg_is_used_for_rs256_or_for_the_given_algorithms() {
        let open = json!({ "keys": [with(rsa(), "alg", Value::Null), ec()] }).to_string();
        let algorithms = |keys: &KeySet| keys.0.iter().map(|own| own.key.algorithm()).collect::<Vec<_>>();
        assert_eq!(algorithms(&KeySet::from_jwks(&open).unwrap()), [Algorithm::RS256, Algorithm::ES256]);
        let named = [Algorithm::PS256, Algorithm::RS512, Algorithm::ES384];
        assert_eq!(algorithms(&KeySet::from_jwks_for(&open, named).unwrap()), [Algorithm::PS256, Algorithm::RS512]);
        let stated = json!({ "keys": [rsa(), ec()] }).to_string();
        assert_eq!(algorithms(&KeySet::from_jwks_for(&stated, [Algorithm::ES256]).unwrap()), [Algorithm::ES256]);
        assert!(KeySet::from_jwks_for(&stated, named).is_err());
    }
}
