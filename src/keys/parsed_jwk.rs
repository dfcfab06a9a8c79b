//! [`ParsedJwk`]: a public or private JSON Web Key (RFC 7517).

use base64ct::{Base64UrlUnpadded, Encoding as _};
use pkcs1::{RsaPrivateKeyRef, UintRef};
use sec1::EcPrivateKey;
use serde::Deserialize;
use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use super::jwk::PublicNumbers;
use super::key_type::KeyType;
use super::pkcs8::{Pkcs8, encode, encode_octets};
use super::{Algorithm, KeyError, key_error};

/// A key whose members permit the intended use.
pub(super) struct ParsedJwk<'a> {
    members: Members<'a>,
    key_type: KeyType,
    pub(super) algorithm: Algorithm,
}

/// The intended use of a key, in the terms of `key_ops` (RFC 7517 §4.3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Sign,
    Verify,
}

/// The members that are used; others are ignored (§4). Nothing is copied, so that no copy of a secret stays in memory. Escapes
/// are therefore refused in these members; no valid value needs one.
#[derive(Deserialize)]
struct Members<'a> {
    kty: Option<&'a str>,
    crv: Option<&'a str>,
    alg: Option<&'a str>,
    #[serde(rename = "use")]
    public_key_use: Option<&'a str>,
    #[serde(borrow)]
    key_ops: Option<Vec<&'a str>>,
    x: Option<&'a str>,
    y: Option<&'a str>,
    n: Option<&'a str>,
    e: Option<&'a str>,
    d: Option<&'a str>,
    p: Option<&'a str>,
    q: Option<&'a str>,
    dp: Option<&'a str>,
    dq: Option<&'a str>,
    qi: Option<&'a str>,
    k: Option<&'a str>,
    /// The further primes of an RSA key.
    oth: Option<IgnoredAny>,
    /// Present in a JWK Set (§5), not in a key.
    keys: Option<IgnoredAny>,
}

impl<'a> ParsedJwk<'a> {
    pub(super) fn new(json: &'a [u8], purpose: Purpose) -> Result<Self, KeyError> {
        // serde alone would also accept an array for the struct.
        if !json.trim_ascii_start().starts_with(b"{") {
            return Err(KeyError::malformed("not a JWK (RFC 7517); expected a JSON object, which begins with a brace"));
        }
        // The text of serde_json's error may quote the key.
        let members: Members<'_> = serde_json::from_slice(json).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            KeyError::malformed(format!(
                "not a JWK (RFC 7517); expected a JSON object of strings with unique names; see line {line}, column {column}"
            ))
        })?;
        let key_type = members.key_type()?;
        members.check_use(purpose)?;
        let algorithm = members.algorithm(key_type)?;
        Ok(Self { members, key_type, algorithm })
    }

    /// Returns the numbers of a key without a private half.
    pub(super) fn public_only(&self) -> Result<PublicNumbers, KeyError> {
        if self.members.is_private() { Err(private_jwk_for_public()) } else { self.public_numbers() }
    }

    pub(super) fn public_numbers(&self) -> Result<PublicNumbers, KeyError> {
        let Members { x, y, n, e, .. } = self.members;
        match self.key_type {
            KeyType::P256 | KeyType::P384 => {
                PublicNumbers::from_coordinates(self.fixed("x", x)?.to_vec(), self.fixed("y", y)?.to_vec())
                    .ok_or_else(key_error::unknown_public_key)
            }
            KeyType::Ed25519 => Ok(PublicNumbers::Ed25519 { x: self.fixed("x", x)?.to_vec() }),
            KeyType::Rsa => Ok(PublicNumbers::Rsa { n: number("n", n)?, e: number("e", e)? }),
        }
    }

    /// Returns the private half. The caller checks that it belongs to the public one.
    pub(super) fn to_pkcs8(&self) -> Result<Pkcs8, KeyError> {
        if self.members.d.is_none() {
            return Err(public_jwk_for_private());
        }
        let inner = match self.key_type {
            KeyType::P256 | KeyType::P384 => {
                let private_key = self.fixed("d", self.members.d)?;
                encode(&EcPrivateKey { private_key: &private_key, parameters: None, public_key: None })?
            }
            KeyType::Ed25519 => encode_octets(&self.fixed("d", self.members.d)?)?,
            KeyType::Rsa => self.rsa_private_key()?,
        };
        Pkcs8::wrap(self.key_type, &inner)
    }

    /// Returns the `RSAPrivateKey` (RFC 8017 §A.1.2).
    fn rsa_private_key(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let Members { n, e, d, p, q, dp, dq, qi, oth, .. } = &self.members;
        if oth.is_some() {
            return Err(KeyError::unsupported(
                "the JWK has more than two primes (`oth`): use an RSA key with two primes",
            ));
        }
        let [modulus, public_exponent] = [octets("n", *n)?, octets("e", *e)?];
        let private_exponent = octets("d", *d)?;
        let [prime1, prime2] = [octets("p", *p)?, octets("q", *q)?];
        let [exponent1, exponent2, coefficient] = [octets("dp", *dp)?, octets("dq", *dq)?, octets("qi", *qi)?];
        encode(&RsaPrivateKeyRef {
            modulus: uint(&modulus)?,
            public_exponent: uint(&public_exponent)?,
            private_exponent: uint(&private_exponent)?,
            prime1: uint(&prime1)?,
            prime2: uint(&prime2)?,
            exponent1: uint(&exponent1)?,
            exponent2: uint(&exponent2)?,
            coefficient: uint(&coefficient)?,
            other_prime_infos: None,
        })
    }

    /// Returns a member, which must have the width of the key's type (RFC 7518 §6.2.1.2, §6.2.2.1).
    fn fixed(&self, name: &str, text: Option<&str>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let bytes = octets(name, text)?;
        match self.key_type.width() {
            Some(width) if bytes.len() != width => {
                Err(KeyError::malformed(format!("the JWK's `{name}` must be {width} bytes, leading zeros included")))
            }
            _ => Ok(bytes),
        }
    }
}

impl Members<'_> {
    fn key_type(&self) -> Result<KeyType, KeyError> {
        match (self.kty, self.crv) {
            (None, _) if self.keys.is_some() => {
                Err(KeyError::mismatch("this is a JWK Set (RFC 7517 §5): use one of its `keys`"))
            }
            (None, _) => Err(KeyError::malformed("not a JWK: it has no `kty` (RFC 7517 §4.1)")),
            (Some("oct"), _) => Err(KeyError::mismatch(
                "the JWK is a shared secret (`kty` `oct`), with which every verifier could forge: use a key pair, or \
                 pass its decoded `k` to `SigningKey::dangerous_hs256_verifiers_can_forge`",
            )),
            (Some(kty), crv) => KeyType::from_jwk(kty, crv).ok_or_else(|| {
                KeyError::unsupported(
                    "the JWK's `kty` and `crv` are unsupported: use `EC` with `P-256` or `P-384`, `OKP` with \
                     `Ed25519`, or `RSA` without `crv`",
                )
            }),
        }
    }

    /// Checks `use` and `key_ops` (RFC 7517 §4.2 and §4.3).
    fn check_use(&self, purpose: Purpose) -> Result<(), KeyError> {
        let operation = if purpose == Purpose::Sign { "sign" } else { "verify" };
        if self.public_key_use.is_some_and(|name| name != "sig") {
            return Err(KeyError::mismatch("the JWK is not for signatures: its `use` must be `sig` or absent"));
        }
        if self.key_ops.as_ref().is_some_and(|operations| !operations.contains(&operation)) {
            return Err(KeyError::mismatch(format!(
                "the JWK is not for this purpose: its `key_ops` must contain `{operation}`"
            )));
        }
        Ok(())
    }

    /// Returns the algorithm (RFC 7517 §4.4).
    fn algorithm(&self, key_type: KeyType) -> Result<Algorithm, KeyError> {
        let Some(alg) = self.alg else { return Ok(key_type.default_algorithm()) };
        Algorithm::from_name(alg).filter(|algorithm| key_type.has(*algorithm)).ok_or_else(|| {
            KeyError::unsupported("the JWK's `alg` does not fit its key type, or is unsupported (see `Algorithm`)")
        })
    }

    fn is_private(&self) -> bool {
        let Self { d, p, q, dp, dq, qi, k, .. } = self;
        [d, p, q, dp, dq, qi, k].into_iter().any(Option::is_some) || self.oth.is_some()
    }
}

fn octets(name: &str, text: Option<&str>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let text = text.ok_or_else(|| KeyError::malformed(format!("the JWK has no `{name}`, which its `kty` requires")))?;
    // Decoded into a buffer of our own, so that it is wiped even if decoding fails half-way.
    let mut octets = Zeroizing::new(vec![0; text.len()]);
    let length = Base64UrlUnpadded::decode(text, &mut octets)
        .map(<[u8]>::len)
        .map_err(|_| KeyError::malformed(format!("the JWK's `{name}` is not base64url without padding")))?;
    octets.truncate(length);
    Ok(octets)
}

/// Decodes a `Base64urlUInt` (RFC 7518 §2), without the leading zero that some libraries add (§6.3.1.1).
fn number(name: &str, text: Option<&str>) -> Result<Vec<u8>, KeyError> {
    let octets = octets(name, text)?;
    let zeros = octets.iter().take_while(|byte| **byte == 0).count();
    Ok(octets.get(zeros..).unwrap_or_default().to_vec())
}

fn uint(octets: &[u8]) -> Result<UintRef<'_>, KeyError> {
    UintRef::new(octets).map_err(|_| key_error::unknown_private_key())
}

fn private_jwk_for_public() -> KeyError {
    KeyError::mismatch(
        "this JWK contains a private key, which a verifier must not have: remove `d` and the members that go \
         with it, or use `SigningKey::from_jwk(…)?.verifying_key()`",
    )
}

fn public_jwk_for_private() -> KeyError {
    KeyError::mismatch(
        "this JWK contains no private key, since it has no `d`: use the private one, or, to verify only, call \
         `VerifyingKey::from_jwk`",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::keys::{Algorithm, SigningKey, VerifyingKey};

    const EC: &str = include_str!("../../tests/keys/rfc7515-a3.jwk");
    const OKP: &str = include_str!("../../tests/keys/rfc8037-a1.jwk");
    const RSA: &str = include_str!("../../tests/keys/rfc7517-a2-rsa.jwk");
    const PRIVATE: [&str; 6] = ["d", "p", "q", "dp", "dq", "qi"];

    fn with(jwk: &str, member: &str, value: Value) -> String {
        let mut jwk: Value = serde_json::from_str(jwk).unwrap();
        jwk[member] = value;
        jwk.to_string()
    }

    fn public(jwk: &str) -> String {
        let mut jwk: Value = serde_json::from_str(jwk).unwrap();
        jwk.as_object_mut().unwrap().retain(|name, _| !PRIVATE.contains(&name.as_str()));
        jwk.to_string()
    }

    fn signs(jwk: &str) -> Result<Algorithm, String> {
        SigningKey::from_jwk(jwk).map(|key| key.algorithm()).map_err(|error| error.to_string())
    }

    fn verifies(jwk: &str) -> Result<Algorithm, String> {
        VerifyingKey::from_jwk(jwk).map(|key| key.algorithm()).map_err(|error| error.to_string())
    }

    #[test]
    fn private_keys_of_the_rfcs_are_loaded_under_their_thumbprint() {
        assert_eq!(signs(EC), Ok(Algorithm::ES256));
        // RFC 8037 appendix A.3.
        assert_eq!(SigningKey::from_jwk(OKP).unwrap().key_id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        let named = with(OKP, "kid", json!("another"));
        assert_eq!(SigningKey::from_jwk(named).unwrap().key_id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[cfg(feature = "aws_lc_rs")]
    #[test]
    fn the_private_rsa_key_of_rfc_7517_a_2_is_loaded_and_signs_as_its_alg_says() {
        // RFC 7638 §3.1.
        assert_eq!(SigningKey::from_jwk(RSA).unwrap().key_id(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        assert_eq!(signs(&with(RSA, "alg", json!("PS256"))), Ok(Algorithm::PS256));
        assert_eq!(signs(&with(RSA, "alg", Value::Null)), Ok(Algorithm::RS256));
    }

    #[cfg(feature = "aws_lc_rs")]
    #[test]
    fn an_rsa_key_with_inconsistent_or_missing_numbers_is_refused() {
        for member in ["n", "e", "d", "p", "q", "dp", "dq", "qi"] {
            assert!(signs(&with(RSA, member, json!("AQAD"))).is_err(), "{member}");
            assert!(signs(&with(RSA, member, json!(""))).is_err(), "{member}");
            assert!(signs(&with(RSA, member, Value::Null)).unwrap_err().contains('`'), "{member}");
        }
        assert!(signs(&with(RSA, "oth", json!([]))).unwrap_err().contains("two primes"));
    }

    #[test]
    fn halves_of_different_keys_are_refused() {
        let other = "9bMPMkFKZ1Cu_0a9FmXX-DS_BQoMvN8nZWCyPyEWvXI";
        for jwk in [EC, OKP] {
            let refusal = signs(&with(jwk, "d", json!(other))).unwrap_err();
            assert!(refusal.contains("belong") && !refusal.contains(other), "{refusal}");
        }
    }

    #[test]
    fn a_private_key_is_refused_for_verifying_and_a_public_one_for_signing() {
        for jwk in [EC, OKP, RSA] {
            assert!(verifies(jwk).unwrap_err().contains("verifying_key"));
            assert!(verifies(&public(jwk)).is_ok());
            assert!(signs(&public(jwk)).unwrap_err().contains("`VerifyingKey::from_jwk`"));
        }
        for member in PRIVATE.into_iter().chain(["k", "oth"]) {
            let value = if member == "oth" { json!([]) } else { json!("AQAB") };
            assert!(verifies(&with(&public(RSA), member, value)).unwrap_err().contains("private"), "{member}");
        }
    }

    #[test]
    fn use_key_ops_and_alg_are_enforced() {
        let sign = json!(["sign"]);
        let verify = json!(["verify"]);
        assert!(signs(&with(EC, "use", json!("sig"))).is_ok());
        assert!(signs(&with(EC, "key_ops", sign.clone())).is_ok());
        assert!(verifies(&with(&public(EC), "key_ops", verify.clone())).is_ok());
        assert!(signs(&with(EC, "use", json!("enc"))).unwrap_err().contains("`sig`"));
        assert!(verifies(&with(&public(EC), "use", json!("enc"))).unwrap_err().contains("`sig`"));
        assert!(signs(&with(EC, "key_ops", verify)).unwrap_err().contains("`sign`"));
        assert!(verifies(&with(&public(EC), "key_ops", sign)).unwrap_err().contains("`verify`"));
        assert!(verifies(&with(&public(EC), "key_ops", json!([]))).is_err());

        for (jwk, alg) in [(EC, "ES256"), (OKP, "EdDSA"), (OKP, "Ed25519"), (RSA, "RS512"), (RSA, "PS256")] {
            let algorithm = verifies(&with(&public(jwk), "alg", json!(alg))).unwrap();
            assert!(algorithm.is_named(alg), "{alg}");
        }
        for alg in ["ES384", "RS256", "EdDSA", "HS256", "none", "", "ECDH-ES"] {
            assert!(verifies(&with(&public(EC), "alg", json!(alg))).unwrap_err().contains("`alg`"), "{alg}");
        }
        assert!(verifies(&with(&public(RSA), "alg", json!("HS256"))).is_err());
    }

    #[test]
    fn other_types_and_curves_are_refused() {
        for (member, value) in
            [("crv", json!("P-384")), ("crv", Value::Null), ("kty", json!("OKP")), ("y", Value::Null)]
        {
            assert!(verifies(&with(&public(EC), member, value.clone())).is_err(), "{member} {value}");
        }
        for curve in ["P-521", "secp256k1", "X25519", "Ed448"] {
            assert!(verifies(&with(&public(EC), "crv", json!(curve))).unwrap_err().contains("`crv`"), "{curve}");
            assert!(verifies(&with(&public(OKP), "crv", json!(curve))).unwrap_err().contains("`crv`"), "{curve}");
        }
        assert!(verifies(r#"{"kty":"oct","k":"AQAB"}"#).unwrap_err().contains("dangerous_hs256"));
        assert!(verifies(r#"{"keys":[]}"#).unwrap_err().contains("JWK Set"));
        assert!(verifies("{}").unwrap_err().contains("`kty`"));
    }

    #[test]
    fn numbers_must_have_their_width_and_lie_on_their_curve() {
        let x = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
        for wrong in [&x[..42], &x[..40], &format!("AA{x}"), &format!("{x}="), &x.replacen('f', "g", 1), "", "!"] {
            assert!(verifies(&with(&public(EC), "x", json!(wrong))).is_err(), "{wrong}");
            assert!(signs(&with(EC, "d", json!(wrong))).is_err(), "{wrong}");
        }
        for wrong in [&x[..42], &x[..40], ""] {
            assert!(verifies(&with(&public(OKP), "x", json!(wrong))).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rsa_numbers_must_be_large_enough_and_odd() {
        let exponents = ["AA", "AQ", "AQAA", "AgABAAE", "AQAAAAAAAAAAAQ", ""]; // 0, 1, even, 2^33 and more, 2^72 and more
        for e in exponents {
            assert!(verifies(&with(&public(RSA), "e", json!(e))).unwrap_err().contains("exponent"), "{e}");
        }
        for e in ["Aw", "AAAAAw", "Af____8"] {
            assert!(verifies(&with(&public(RSA), "e", json!(e))).is_ok(), "{e}");
        }
        let n: Value = serde_json::from_str(RSA).unwrap();
        let n = n["n"].as_str().unwrap();
        assert!(verifies(&with(&public(RSA), "n", json!(&n[..336]))).unwrap_err().contains("2016 bits"));
        let even = format!("{}g", &n[..n.len() - 1]);
        assert!(verifies(&with(&public(RSA), "n", json!(even))).unwrap_err().contains("odd"));
        let leading_zero = format!("AA{}", &n[..n.len() - 1]); // shifts the number, and keeps it whole bytes
        assert!(verifies(&with(&public(RSA), "n", json!(leading_zero))).is_err());
    }

    #[test]
    fn no_error_quotes_the_key() {
        for json in [
            r#"{"kty":"EC","d":["secret-secret"]}"#,
            r#"{"kty":"EC","d":"secret-secret","d":"secret-secret"}"#,
            r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA","d":"secret-secret"}"#,
            r#"{"kty":"secret-secret"}"#,
            r#""secret-secret""#,
            r#"{"kty":"EC","d":"secret-secret"#,
            r#"{"kty":"EC","d":"secret\u002dsecret"}"#,
        ] {
            let refusal = signs(json).unwrap_err();
            assert!(!refusal.contains("secret-secret"), "{refusal}");
        }
    }
}
