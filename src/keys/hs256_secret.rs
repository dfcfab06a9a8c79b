//! [`Hs256Secret`]: the key of HS256, with which every verifier can forge.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::backend::HmacKey;
use super::structure::Structure;
use super::{HmacAlgorithm, KeyError};

/// The minimum length of the secret, in bytes: that of the hash (RFC 7518 §3.2).
const SHORTEST: usize = 32;
/// The text whose HMAC is the key id. No token can begin like this: base64url has no space.
const NAMING: &[u8] = b"tower-client-credentials kid of HS256";

#[derive(Clone)]
pub(super) struct Hs256Secret(Arc<HmacKey>);

impl Hs256Secret {
    pub(super) fn new(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < SHORTEST {
            return Err(KeyError::too_weak(
                "a secret for HS256 needs 32 random bytes or more (RFC 7518 §3.2): create one with `openssl rand 32`",
            ));
        }
        // A public key used as a secret is the classic forgery; a private key would be disclosed to every verifier.
        if is_key(secret) {
            return Err(KeyError::mismatch(
                "a key in PEM, DER or JWK cannot be a secret for HS256: load it with `SigningKey::from_pem`, \
                 `VerifyingKey::from_pem` or a similar function",
            ));
        }
        Ok(Self(Arc::new(HmacKey::new(HmacAlgorithm::HS256, secret))))
    }

    /// Returns the key id: an HMAC under the secret, so replicas agree on it, and it reveals no more about the secret than any
    /// signature. (A thumbprint, RFC 7638, would be a plain hash of the secret.)
    pub(super) fn key_id(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.sign(NAMING))
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message)
    }

    /// Verifies in constant time.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verifies(message, signature)
    }
}

/// Returns whether the bytes are a key of another kind, even if its line breaks are lost.
pub(super) fn is_key(secret: &[u8]) -> bool {
    secret.windows(PEM_BEGIN.len()).any(|window| window == PEM_BEGIN)
        || Structure::detect(secret) != Structure::Other
        || secret.trim_ascii_start().starts_with(b"{")
}

const PEM_BEGIN: &[u8] = b"-----BEGIN ";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::Hs256Secret;
    use crate::clock::SystemClock;
    use crate::keys::{Algorithm, KeyRing, SigningKey, TrustedKeys, pem};
    use crate::verification::{InvalidToken, Verifier, VerifyError};

    const SECRET: &[u8] = b"a secret of exactly 32 bytes, so";

    fn key(secret: &[u8]) -> SigningKey {
        SigningKey::dangerous_hs256_verifiers_can_forge(secret).unwrap()
    }

    #[test]
    fn the_example_of_rfc_7515_a_1_verifies_but_an_altered_one_does_not() {
        let decode = |text| URL_SAFE_NO_PAD.decode(text).unwrap();
        let secret = decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow");
        let signed = b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let mut signature = decode("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        let key = key(&secret).verifying_key();
        assert!(key.verifies(signed, &signature));
        assert!(!key.verifies(signed, &signature[..31]));
        assert!(!key.verifies(signed, &[]));
        signature[0] ^= 1;
        assert!(!key.verifies(signed, &signature));
    }

    #[test]
    fn a_short_secret_and_a_key_in_pem_are_refused() {
        assert!(Hs256Secret::new(&SECRET[..31]).err().unwrap().to_string().contains("openssl rand 32"));
        for pem in [include_str!("../../tests/keys/p256.pub.pem"), include_str!("../../tests/keys/p256.pem")] {
            assert!(Hs256Secret::new(pem.as_bytes()).err().unwrap().to_string().contains("PEM"));
        }
    }

    #[test]
    fn replicas_agree_on_the_key_id_which_is_not_a_hash_of_the_secret() {
        let name = key(SECRET).key_id().to_owned();
        assert_eq!(name, key(SECRET).key_id());
        assert_ne!(name, key(b"another secret of 32 bytes or so").key_id());
        assert_ne!(name, URL_SAFE_NO_PAD.encode(crate::crypto::sha256(SECRET)));
    }

    #[test]
    fn the_secret_is_neither_published_nor_shown() {
        let ring =
            KeyRing::new(key(SECRET)).also_trust(SigningKey::generate(Algorithm::ES256).unwrap().verifying_key());
        assert_eq!((ring.key_ids().count(), ring.to_jwk_set().keys.len()), (2, 1));
        let ring = KeyRing::generate().unwrap().also_trust(key(SECRET).verifying_key());
        assert_eq!((ring.key_ids().count(), ring.to_jwk_set().keys.len()), (2, 1));
        for shown in
            [format!("{ring:?}"), format!("{:?}", key(SECRET)), serde_json::to_string(&ring.to_jwk_set()).unwrap()]
        {
            assert!(!shown.contains("secret") && !shown.contains(&URL_SAFE_NO_PAD.encode(SECRET)), "{shown}");
        }
    }

    #[test]
    fn a_secret_signs_only_hs256() {
        assert!(key(SECRET).with_algorithm(Algorithm::HS256).is_ok());
        for algorithm in [Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA] {
            assert!(key(SECRET).with_algorithm(algorithm).is_err(), "{algorithm}");
        }
    }

    /// Returns a token with empty claims: if its signature is valid, it is refused for its claims.
    fn token(algorithm: &str, key_id: &str, secret: &[u8]) -> String {
        let header = format!(r#"{{"alg":"{algorithm}","typ":"at+jwt","kid":"{key_id}"}}"#);
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode("{}"));
        let signature =
            crate::keys::backend::HmacKey::new(crate::keys::HmacAlgorithm::HS256, secret).sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn answer(ring: &KeyRing, token: &str) -> InvalidToken {
        let [issuer, audience] = ["https://auth.example.com", "https://api.example.com"];
        let keys = TrustedKeys::Ring(ring.clone());
        let verifier = Verifier::new(issuer.parse().unwrap(), audience.parse().unwrap(), keys, Arc::new(SystemClock));
        match verifier.verify_now(token).expect_err("the claims are empty") {
            VerifyError::Refused(refused) => refused.reason(),
            VerifyError::Unavailable(unavailable) => panic!("{unavailable}"),
        }
    }

    #[test]
    fn a_token_signed_with_the_secret_is_accepted_only_with_hs256() {
        let ring = KeyRing::new(key(SECRET));
        let key = ring.signing_key();
        let name = key.key_id();
        assert_eq!(answer(&ring, &token("HS256", name, SECRET)), InvalidToken::Claims);
        assert_eq!(answer(&ring, &ring.signing_key().sign(b"{}").unwrap()), InvalidToken::Claims);
        assert_eq!(answer(&ring, &token("HS256", name, b"another")), InvalidToken::Signature);
        for algorithm in ["ES256", "RS256", "HS384", "none", "hs256", ""] {
            assert_eq!(answer(&ring, &token(algorithm, name, SECRET)), InvalidToken::Algorithm, "{algorithm}");
        }
    }

    #[test]
    fn hs256_with_a_trusted_public_key_as_secret_is_refused_in_any_encoding() {
        let text = include_str!("../../tests/keys/p256.pub.pem");
        let der = pem::public_section(text.as_bytes()).unwrap().der().unwrap();
        let point = &der[der.len() - 65..];
        // With a secret in the ring, too, HS256 is a known algorithm.
        let ring = KeyRing::from_pem(include_str!("../../tests/keys/p256.pem")).unwrap();
        for ring in [ring.clone(), ring.also_trust(key(SECRET).verifying_key())] {
            let key = ring.signing_key();
            let name = key.key_id();
            for secret in [text.as_bytes(), text.trim().as_bytes(), &der, point, &point[1..], SECRET, b""] {
                assert_eq!(answer(&ring, &token("HS256", name, secret)), InvalidToken::Algorithm);
                assert_eq!(answer(&ring, &token("ES256", name, secret)), InvalidToken::Signature);
            }
        }
    }
}
