//! [`SigningKey`]: a parsed private key, with the protected header of its tokens.

mod load;
#[cfg(test)]
mod tests;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::backend::KeyPair;
use super::external_key::ExternalKey;
use super::hs256_secret::Hs256Secret;
use super::{Algorithm, KeyError, SignError, Signer, SignerLimits, VerifyingKey, key_error};
use crate::base64url;

/// A private key that signs tokens, in memory or behind a [`Signer`]. Its `Debug` shows only its id and algorithm.
///
/// | key | signs |
/// |---|---|
/// | P-256 | `ES256` |
/// | P-384 | `ES384` |
/// | Ed25519 | `EdDSA` |
/// | RSA, 2,048 to 8,192 bits, feature `aws_lc_rs` | `RS256`, or [if selected](Self::with_algorithm) `RS384`, `RS512`, `PS256` |
///
/// With only the feature `rust_crypto`, RSA keys only verify: signing with the `rsa` crate leaks the key through its timing
/// (RUSTSEC-2023-0071).
///
/// The buffers in which a key is decoded are wiped. The caller must wipe its own input.
pub struct SigningKey {
    private: PrivateHalf,
    public: VerifyingKey,
    /// The encoded JOSE header of every token of this key, with the dot after it.
    header: String,
}

enum PrivateHalf {
    Pair(Box<KeyPair>),
    Shared(Hs256Secret),
    External(Arc<ExternalKey>),
    #[cfg(test)]
    Unable,
}

/// A token that is signed, or will be. A key in memory signs at once, without a future.
pub(crate) enum Signing {
    Done(Result<String, SignError>),
    Waiting(PendingSignature),
}

pub(crate) type PendingSignature = Pin<Box<dyn Future<Output = Result<String, SignError>> + Send>>;

impl SigningKey {
    /// Generates a new key. It exists only while the process runs unless it is [saved](Self::to_pkcs8_pem);
    /// [`load_or_create`](Self::load_or_create) does both.
    ///
    /// # Errors
    ///
    /// For an RSA algorithm (create RSA keys once, with `openssl genpkey -algorithm RSA`), for HS256, and if the backend fails.
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        if algorithm == Algorithm::HS256 {
            return Err(key_error::secrets_are_not_generated());
        }
        KeyPair::generate(algorithm).and_then(|pair| Self::from_pair(pair, algorithm))
    }

    /// Creates a key that signs and verifies with HS256, from a secret of 32 bytes or more (RFC 7518 §3.2).
    ///
    /// **Everyone who can verify a token can forge one**: every resource server can issue tokens for every other. The secret
    /// is not published in the key set, so each verifier must be given it. Use it only if the issuer and the verifiers are
    /// one party, and one of them supports nothing better.
    ///
    /// Its id is not a thumbprint but the HMAC of a fixed text under the secret. It is the same wherever the secret is, and
    /// reveals no more about it than any token. A guessable secret can be found by search with a single token: use random bytes
    /// (`openssl rand 32`), not a password.
    ///
    /// # Errors
    ///
    /// If the secret is shorter, or is a key in PEM.
    pub fn dangerous_hs256_verifiers_can_forge(secret: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let secret = Hs256Secret::new(secret.as_ref())?;
        let public = VerifyingKey::from_secret(secret.clone());
        Ok(Self { header: header(ACCESS_TOKEN, &public), private: PrivateHalf::Shared(secret), public })
    }

    /// Creates a key whose private half is behind a signer: a KMS, an HSM or a PKCS#11 token. See [`Signer`] for the contract.
    ///
    /// # Errors
    ///
    /// If the signer's key is a secret for HS256, or a limit is 0.
    pub fn from_signer(signer: impl Signer, limits: SignerLimits) -> Result<Self, KeyError> {
        let external = ExternalKey::new(Arc::new(signer), limits)?;
        let public = external.verifying_key().clone();
        Ok(Self { header: header(ACCESS_TOKEN, &public), private: PrivateHalf::External(Arc::new(external)), public })
    }

    /// Selects another algorithm of the same key type, which only RSA keys have.
    ///
    /// # Errors
    ///
    /// If the key does not support the algorithm. The algorithm of a key behind a [`Signer`] is that of its
    /// [`verifying_key`](Signer::verifying_key).
    pub fn with_algorithm(self, algorithm: Algorithm) -> Result<Self, KeyError> {
        let own = self.algorithm();
        if matches!(self.private, PrivateHalf::External(_)) && algorithm != own {
            return Err(KeyError::mismatch(format!(
                "the signer signs with {own}, not {algorithm}: select the algorithm in `Signer::verifying_key`"
            )));
        }
        let public = self.public.with_algorithm(algorithm)?;
        Ok(Self { header: header(ACCESS_TOKEN, &public), private: self.private, public })
    }

    fn from_pair(pair: KeyPair, algorithm: Algorithm) -> Result<Self, KeyError> {
        let public = VerifyingKey::new(pair.public_numbers(), algorithm)?;
        Ok(Self { header: header(ACCESS_TOKEN, &public), private: PrivateHalf::Pair(Box::new(pair)), public })
    }

    /// Returns the id of the key: its RFC 7638 thumbprint with SHA-256. For HS256 it is an HMAC under the secret.
    #[must_use]
    pub fn key_id(&self) -> &str {
        self.public.key_id()
    }

    /// Returns the algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.public.algorithm()
    }

    /// Returns the public half, to be trusted by another ring. For HS256 it is the secret itself, which can forge.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        self.public.clone()
    }

    /// Returns whether the private half is behind a [`Signer`].
    pub(super) fn is_external(&self) -> bool {
        matches!(self.private, PrivateHalf::External(_))
    }

    /// Returns the private key in PKCS#8.
    pub(super) fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        match &self.private {
            PrivateHalf::Pair(pair) => pair.to_pkcs8(),
            PrivateHalf::Shared(_) => {
                Err(KeyError::unsupported("a secret for HS256 has no private key format: save the secret itself"))
            }
            PrivateHalf::External(_) => Err(KeyError::unsupported(
                "the private key is behind a `Signer` and cannot be exported: back it up there",
            )),
            #[cfg(test)]
            PrivateHalf::Unable => Err(KeyError::unsupported("this key is only for tests")),
        }
    }

    /// Returns the same key with a backend that cannot sign, so that a test notices attempts to sign.
    #[cfg(test)]
    pub(crate) fn unable_to_sign(self) -> Self {
        Self { private: PrivateHalf::Unable, ..self }
    }

    /// Returns the length of the token that [`sign`](Self::sign) creates for a payload of this length in bytes.
    pub(crate) fn token_len(&self, payload: usize) -> usize {
        let encoded = |bytes: usize| bytes.saturating_mul(4).div_ceil(3);
        self.header.len() + 1 + encoded(self.public.signature_len()) + encoded(payload)
    }

    /// Creates a compact JWS (RFC 7515 §7.1) for `payload`: at once if the key is in memory.
    pub(crate) fn start(&self, payload: &[u8]) -> Signing {
        self.start_behind(&self.header, payload)
    }

    /// Like [`start`](Self::start), with a `typ` other than that of access tokens.
    pub(crate) fn start_as(&self, typ: &str, payload: &[u8]) -> Signing {
        self.start_behind(&header(typ, &self.public), payload)
    }

    /// Like [`start_as`](Self::start_as), with another `kid` than that of this key.
    pub(crate) fn start_named(&self, typ: &str, key_id: &str, payload: &[u8]) -> Signing {
        self.start_behind(&header_named(typ, self.algorithm(), key_id), payload)
    }

    fn start_behind(&self, header: &str, payload: &[u8]) -> Signing {
        let token = unsigned(header, payload);
        match &self.private {
            PrivateHalf::External(key) => Signing::Waiting(sign_externally(key.clone(), token)),
            private => Signing::Done(private.sign_token(self.algorithm(), token)),
        }
    }

    /// Creates a compact JWS with a key in memory.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn sign(&self, payload: &[u8]) -> Result<String, SignError> {
        self.private.sign_token(self.algorithm(), unsigned(&self.header, payload))
    }

    /// Returns the signature of a key in memory.
    #[cfg(test)]
    pub(crate) fn signature(&self, message: &[u8]) -> Vec<u8> {
        self.private.sign(self.algorithm(), message).unwrap()
    }

    /// Like [`sign`](Self::sign), with a `typ` other than that of access tokens.
    #[cfg(test)]
    pub(crate) fn sign_as(&self, typ: &str, payload: &[u8]) -> Result<String, SignError> {
        self.private.sign_token(self.algorithm(), unsigned(&header(typ, &self.public), payload))
    }
}

/// Returns the JWS signing input (RFC 7515 §5.1), with capacity for the signature.
fn unsigned(header: &str, payload: &[u8]) -> String {
    let mut token = String::with_capacity(header.len() + payload.len() * 4 / 3 + 1 + USUAL_SIGNATURE);
    token.push_str(header);
    base64url::encode_onto(&mut token, payload);
    token
}

fn signed(mut token: String, signature: &[u8]) -> String {
    token.push('.');
    base64url::encode_onto(&mut token, signature);
    token
}

fn sign_externally(key: Arc<ExternalKey>, token: String) -> PendingSignature {
    Box::pin(async move {
        let signature = key.sign(token.as_bytes()).await?;
        Ok(signed(token, &signature))
    })
}

impl PrivateHalf {
    fn sign_token(&self, algorithm: Algorithm, token: String) -> Result<String, SignError> {
        let signature = self.sign(algorithm, token.as_bytes())?;
        Ok(signed(token, &signature))
    }

    /// Signs with a key in memory.
    fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Result<Vec<u8>, SignError> {
        match self {
            Self::Pair(pair) => {
                pair.sign(algorithm, message).ok_or_else(|| SignError::new("the cryptographic backend failed"))
            }
            Self::Shared(secret) => Ok(secret.sign(message)),
            Self::External(_) => Err(SignError::new("a key behind a `Signer` cannot sign at once")),
            #[cfg(test)]
            Self::Unable => Err(SignError::new("this key is only for tests")),
        }
    }
}

/// Capacity for the dot and an encoded elliptic-curve signature. An RSA signature is longer, but takes so much time that another
/// allocation does not matter.
const USUAL_SIGNATURE: usize = 129;

/// The `typ` of RFC 9068 §2.1.
const ACCESS_TOKEN: &str = "at+jwt";

fn header(typ: &str, key: &VerifyingKey) -> String {
    let (algorithm, key_id) = (key.algorithm(), key.key_id());
    URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{algorithm}","typ":"{typ}","kid":"{key_id}"}}"#)) + "."
}

/// Like [`header`], for a `kid` of any text.
fn header_named(typ: &str, algorithm: Algorithm, key_id: &str) -> String {
    let key_id = serde_json::Value::from(key_id);
    URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{algorithm}","typ":"{typ}","kid":{key_id}}}"#)) + "."
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key_id, algorithm) = (self.key_id(), self.algorithm());
        f.debug_struct("SigningKey").field("key_id", &key_id).field("algorithm", &algorithm).finish_non_exhaustive()
    }
}
