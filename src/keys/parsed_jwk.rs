//! A JSON Web Key (RFC 7517), public or private: JSON → [`ParsedJwk`].

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::Deserialize;
use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use super::der::{SEQUENCE, without_leading_zeros, write, write_positive};
use super::jwk::PublicNumbers;
use super::key_type::KeyType;
use super::pkcs8::{Pkcs8, VERSION_0, VERSION_1};
use super::{Algorithm, KeyError};

/// A key that says nothing against being used as it is about to be.
pub(super) struct ParsedJwk<'a> {
    members: Members<'a>,
    key_type: KeyType,
    pub(super) algorithm: Algorithm,
}

/// What a key is wanted for, as `key_ops` calls it (RFC 7517 §4.3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Sign,
    Verify,
}

/// The members that decide anything; what else is there is passed over (§4). None is copied, so that none is left
/// behind, which refuses escapes in them: no value that is valid here needs one.
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
    /// The further primes of RSA.
    oth: Option<IgnoredAny>,
    /// What makes it a set (§5).
    keys: Option<IgnoredAny>,
}

impl<'a> ParsedJwk<'a> {
    pub(super) fn new(json: &'a [u8], purpose: Purpose) -> Result<Self, KeyError> {
        // serde_json's own words can quote the key.
        let members: Members<'_> = serde_json::from_slice(json).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            KeyError::new(format!(
                "this is no JWK (RFC 7517): a JSON object of strings, each once; see line {line}, column {column}"
            ))
        })?;
        let key_type = members.key_type()?;
        members.check_use(purpose)?;
        let algorithm = members.algorithm(key_type)?;
        Ok(Self { members, key_type, algorithm })
    }

    /// The numbers of a key that has no private half.
    pub(super) fn public_only(&self) -> Result<PublicNumbers, KeyError> {
        if self.members.is_private() { Err(private_jwk_for_public()) } else { self.public_numbers() }
    }

    pub(super) fn public_numbers(&self) -> Result<PublicNumbers, KeyError> {
        let Members { x, y, n, e, .. } = self.members;
        match self.key_type {
            KeyType::P256 | KeyType::P384 => {
                PublicNumbers::from_coordinates(self.fixed("x", x)?.to_vec(), self.fixed("y", y)?.to_vec())
                    .ok_or_else(super::refusal::unknown_public_key)
            }
            KeyType::Ed25519 => Ok(PublicNumbers::Ed25519 { x: self.fixed("x", x)?.to_vec() }),
            KeyType::Rsa => Ok(PublicNumbers::Rsa { n: number("n", n)?, e: number("e", e)? }),
        }
    }

    /// The private half; whether it belongs to the public one is for the caller to compare.
    pub(super) fn to_pkcs8(&self) -> Result<Pkcs8, KeyError> {
        if self.members.d.is_none() {
            return Err(public_jwk_for_private());
        }
        let inner = match self.key_type {
            KeyType::P256 | KeyType::P384 => write(SEQUENCE, &[VERSION_1, &self.private_octets()?]),
            KeyType::Ed25519 => self.private_octets()?,
            KeyType::Rsa => self.rsa_private_key()?,
        };
        Ok(Pkcs8::wrap(self.key_type, &inner))
    }

    fn private_octets(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        Ok(write(super::der::OCTET_STRING, &[&self.fixed("d", self.members.d)?]))
    }

    /// `RSAPrivateKey` (RFC 8017 §A.1.2), whose order of numbers is that of RFC 7518 §6.3.2.
    fn rsa_private_key(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let Members { n, e, d, p, q, dp, dq, qi, oth, .. } = &self.members;
        if oth.is_some() {
            return Err(KeyError::new("the JWK has more than two primes (`oth`): make an RSA key of two"));
        }
        let numbers = [("n", n), ("e", e), ("d", d), ("p", p), ("q", q), ("dp", dp), ("dq", dq), ("qi", qi)];
        let numbers =
            numbers.map(|(name, text)| number(name, *text).map(|bytes| write_positive(&Zeroizing::new(bytes))));
        let numbers = numbers.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut parts = vec![VERSION_0];
        parts.extend(numbers.iter().map(|number| number.as_slice()));
        Ok(write(SEQUENCE, &parts))
    }

    /// A member as wide as the key's type has it (RFC 7518 §6.2.1.2, §6.2.2.1).
    fn fixed(&self, name: &str, text: Option<&str>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let bytes = octets(name, text)?;
        match self.key_type.width() {
            Some(width) if bytes.len() != width => {
                Err(KeyError::new(format!("the JWK's `{name}` has to be {width} bytes, leading zeros included")))
            }
            _ => Ok(bytes),
        }
    }
}

impl Members<'_> {
    fn key_type(&self) -> Result<KeyType, KeyError> {
        match (self.kty, self.crv) {
            (None, _) if self.keys.is_some() => {
                Err(KeyError::new("this is a JWK Set (RFC 7517 §5): give one of its `keys` by itself"))
            }
            (None, _) => Err(KeyError::new("this is no JWK: it has no `kty` (RFC 7517 §4.1)")),
            (Some("oct"), _) => Err(KeyError::new(
                "the JWK is a shared secret (`kty` `oct`), with which whoever verifies could forge: use a key pair, or \
                 give what its `k` decodes to to `SigningKey::dangerous_hs256_verifiers_can_forge`",
            )),
            (Some(kty), crv) => KeyType::from_jwk(kty, crv).ok_or_else(|| {
                KeyError::new(
                    "the JWK's `kty` and `crv` are none that work here: use `EC` with `P-256` or `P-384`, `OKP` with \
                     `Ed25519`, or `RSA` without `crv`",
                )
            }),
        }
    }

    /// RFC 7517 §4.2 and §4.3.
    fn check_use(&self, purpose: Purpose) -> Result<(), KeyError> {
        let operation = if purpose == Purpose::Sign { "sign" } else { "verify" };
        if self.public_key_use.is_some_and(|name| name != "sig") {
            return Err(KeyError::new("the JWK is not for signatures: its `use` has to be `sig`, or absent"));
        }
        if self.key_ops.as_ref().is_some_and(|operations| !operations.contains(&operation)) {
            return Err(KeyError::new(format!("the JWK is not for this: its `key_ops` have to name `{operation}`")));
        }
        Ok(())
    }

    /// RFC 7517 §4.4.
    fn algorithm(&self, key_type: KeyType) -> Result<Algorithm, KeyError> {
        let Some(alg) = self.alg else { return Ok(key_type.default_algorithm()) };
        Algorithm::from_name(alg)
            .filter(|algorithm| key_type.has(*algorithm))
            .ok_or_else(|| KeyError::new("the JWK's `alg` is none that its key can sign with here (see `Algorithm`)"))
    }

    fn is_private(&self) -> bool {
        let Self { d, p, q, dp, dq, qi, k, .. } = self;
        [d, p, q, dp, dq, qi, k].into_iter().any(Option::is_some) || self.oth.is_some()
    }
}

fn octets(name: &str, text: Option<&str>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let text = text.ok_or_else(|| KeyError::new(format!("the JWK has no `{name}`, which its `kty` needs")))?;
    Base64UrlUnpadded::decode_vec(text)
        .map(Zeroizing::new)
        .map_err(|_| KeyError::new(format!("the JWK's `{name}` is not base64url without padding")))
}

/// A `Base64urlUInt` (RFC 7518 §2), without the leading zero that some libraries put in front (§6.3.1.1).
fn number(name: &str, text: Option<&str>) -> Result<Vec<u8>, KeyError> {
    Ok(without_leading_zeros(&octets(name, text)?).to_vec())
}

fn private_jwk_for_public() -> KeyError {
    KeyError::new(
        "this JWK holds a private key, which whoever only verifies must not hold: remove `d` and the members that go \
         with it, or take `SigningKey::from_jwk(…)?.verifying_key()`",
    )
}

fn public_jwk_for_private() -> KeyError {
    KeyError::new(
        "this JWK holds no private key, since it has no `d`: give the private one, or, to verify only, call \
         `VerifyingKey::from_jwk`",
    )
}
