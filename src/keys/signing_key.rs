//! [`SigningKey`]: a private key, parsed, with the protected header that its tokens begin with.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;

use super::backend::KeyPair;
use super::{Algorithm, KeyError, VerifyingKey};

/// A private key that signs tokens, parsed once. Its `Debug` shows its name and algorithm only.
pub struct SigningKey {
    pair: KeyPair,
    public: VerifyingKey,
    /// The JOSE header of every token of this key, encoded, with the dot behind it.
    header: String,
}

impl SigningKey {
    /// A fresh key, which is gone with the process.
    ///
    /// # Errors
    ///
    /// For an RSA algorithm, since RSA keys are made once and kept (`openssl genpkey -algorithm RSA`), and when
    /// the backend fails.
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        KeyPair::generate(algorithm).and_then(|pair| Self::from_pair(pair, algorithm))
    }

    /// The private key of a PEM text: PKCS#8, unencrypted (`-----BEGIN PRIVATE KEY-----`), of a P-256, P-384,
    /// Ed25519 or RSA key (2,048 to 8,192 bits; signs `RS256` unless [told otherwise](Self::with_algorithm)).
    ///
    /// # Errors
    ///
    /// When there is no such key in the text, or it is none that can sign here; the message says how to make
    /// or convert one.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_ref()).map_err(|_| {
            KeyError::new(
                "the text holds no PKCS#8 private key in PEM (-----BEGIN PRIVATE KEY-----); make one with \
                 `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`, or convert one with \
                 `openssl pkcs8 -topk8 -nocrypt`",
            )
        })?;
        let (pair, algorithm) = KeyPair::from_pkcs8(der.secret_pkcs8_der())?;
        Self::from_pair(pair, algorithm)
    }

    /// Signs with another algorithm of the same key type: the choice that an RSA key leaves open.
    ///
    /// # Errors
    ///
    /// When the key cannot sign so.
    pub fn with_algorithm(self, algorithm: Algorithm) -> Result<Self, KeyError> {
        let own = self.algorithm();
        if algorithm != own && !(algorithm.is_rsa() && own.is_rsa()) {
            return Err(KeyError::new(format!("a key for {own} cannot sign {algorithm}; load a key of its type")));
        }
        Self::from_pair(self.pair, algorithm)
    }

    fn from_pair(pair: KeyPair, algorithm: Algorithm) -> Result<Self, KeyError> {
        let numbers = pair.public_numbers().ok_or_else(|| KeyError::new("the key has no public half"))?;
        let public = VerifyingKey::new(numbers, algorithm)?;
        let header = format!(r#"{{"alg":"{algorithm}","typ":"at+jwt","kid":"{}"}}"#, public.key_id());
        let header = URL_SAFE_NO_PAD.encode(header) + ".";
        Ok(Self { pair, public, header })
    }

    /// The name of the key: its RFC 7638 thumbprint, by SHA-256.
    #[must_use]
    pub fn key_id(&self) -> &str {
        self.public.key_id()
    }

    /// How it signs.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.public.algorithm()
    }

    /// The public half, to be trusted by another ring.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        self.public.clone()
    }

    /// Writes a compact JWS (RFC 7515 §7.1) over `payload`; `None` when the backend cannot sign.
    pub(crate) fn sign(&self, payload: &[u8]) -> Option<String> {
        let mut token = String::with_capacity(self.header.len() + payload.len() * 4 / 3 + 700);
        token.push_str(&self.header);
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let signature = self.pair.sign(self.algorithm(), token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key_id, algorithm) = (self.key_id(), self.algorithm());
        f.debug_struct("SigningKey").field("key_id", &key_id).field("algorithm", &algorithm).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::SigningKey;
    use crate::keys::Algorithm;

    fn refusal(pem: &str) -> String {
        SigningKey::from_pem(pem).expect_err("a bad key").to_string()
    }

    #[test]
    fn keys_of_each_type_are_loaded_from_pkcs8() {
        for (pem, algorithm) in [
            (include_str!("../../tests/keys/p256.pem"), Algorithm::ES256),
            (include_str!("../../tests/keys/p384.pem"), Algorithm::ES384),
            (include_str!("../../tests/keys/ed25519.pem"), Algorithm::EdDSA),
        ] {
            let key = SigningKey::from_pem(pem).unwrap();
            assert_eq!(key.algorithm(), algorithm);
            assert_eq!(key.key_id().len(), 43);
        }
    }

    #[test]
    fn a_bad_key_is_refused_with_the_mend_and_without_the_key() {
        let broken = include_str!("../../tests/keys/p256.pem").replacen('M', "N", 1);
        assert!(refusal("hello").contains("openssl genpkey"));
        assert!(refusal(&broken).contains("P-256"));
        assert!(refusal(include_str!("../../tests/keys/p521.pem")).contains("P-256"));
    }

    #[test]
    fn a_key_signs_only_with_an_algorithm_of_its_type() {
        let key = || SigningKey::generate(Algorithm::ES256).unwrap();
        assert!(key().with_algorithm(Algorithm::ES256).is_ok());
        assert!(key().with_algorithm(Algorithm::ES384).unwrap_err().to_string().contains("ES384"));
        assert!(SigningKey::generate(Algorithm::RS256).unwrap_err().to_string().contains("openssl"));
    }
}
