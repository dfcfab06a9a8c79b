//! [`SigningKey`]: a parsed private key, with the protected header of its tokens.

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::backend::KeyPair;
use super::external_key::ExternalKey;
use super::parsed_jwk::{ParsedJwk, Purpose};
use super::pkcs8::Pkcs8;
use super::shared_secret::SharedSecret;
use super::structure::Structure;
use super::{Algorithm, KeyError, SignError, Signer, SignerLimits, VerifyingKey, file, pem, refusal};
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
    Shared(SharedSecret),
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
            return Err(refusal::secrets_are_not_generated());
        }
        KeyPair::generate(algorithm).and_then(|pair| Self::from_pair(pair, algorithm))
    }

    /// Loads the only private key of a PEM text (RFC 7468), unencrypted: PKCS#8 (`PRIVATE KEY`), SEC1 (`EC PRIVATE KEY`) or
    /// PKCS#1 (`RSA PRIVATE KEY`). Certificates, parameters and public keys are ignored.
    ///
    /// # Errors
    ///
    /// If the text contains no private key or several, an encrypted one, or one that cannot sign. The message says how to
    /// create or
    /// convert one.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let section = pem::private_section(pem.as_ref())?;
        if section.has_headers() {
            return Err(refusal::encrypted_by_old_tools());
        }
        Self::from_structure(section.structure, section.der()?)
    }

    /// Loads the only private key of a PEM text, encrypted with `passphrase`: `ENCRYPTED PRIVATE KEY`, as PBES2 (RFC 8018 §6.2)
    /// with AES and PBKDF2 over SHA-2, or scrypt, as OpenSSL 1.1 and later write it.
    ///
    /// The key sets how much work this takes, up to some seconds: at most 10,000,000 rounds of PBKDF2, or 256 MiB of scrypt.
    /// Call it at the start, and off the async threads.
    ///
    /// # Errors
    ///
    /// If the passphrase is wrong, the key is unencrypted, its encryption is unsupported, or it requires more work; and as for
    /// [`SigningKey::from_pem`].
    #[cfg(feature = "encrypted_pem")]
    #[cfg_attr(docsrs, doc(cfg(feature = "encrypted_pem")))]
    pub fn from_encrypted_pem(pem: impl AsRef<[u8]>, passphrase: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        use super::encrypted_pem;

        let section = pem::private_section(pem.as_ref())?;
        if section.has_headers() {
            return Err(refusal::encrypted_by_old_tools());
        }
        if section.structure != Structure::Encrypted {
            return Err(KeyError::new("the private key is not encrypted: load it with `SigningKey::from_pem`"));
        }
        let der = encrypted_pem::decrypt(&section.der()?, passphrase.as_ref())?;
        match Structure::detect(&der) {
            // One in 256 wrong passphrases decrypts to something.
            Structure::Pkcs8 => Self::from_structure(Structure::Pkcs8, der),
            _ => Err(encrypted_pem::wrong_passphrase()),
        }
    }

    /// Loads an unencrypted private key in DER: PKCS#8, SEC1 or PKCS#1, which is detected.
    ///
    /// # Errors
    ///
    /// If it is none of these, encrypted, or cannot sign.
    pub fn from_der(der: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let der = Zeroizing::new(der.as_ref().to_vec());
        Self::from_structure(Structure::detect(&der), der)
    }

    /// Loads a private JWK (RFC 7517) from JSON: `EC` with P-256 or P-384 (RFC 7518 §6.2), `RSA` with its primes (§6.3), or
    /// `OKP`
    /// with Ed25519 (RFC 8037 §2).
    ///
    /// The algorithm is that of its `alg`. Its `kid` is not kept: the id of a key is always its [thumbprint](Self::key_id).
    ///
    /// # Errors
    ///
    /// If it is malformed, its halves are of different keys, `use` or `key_ops` is for another purpose, `alg` does not fit its
    /// type, or it cannot sign. Shared secrets (`oct`) are refused.
    pub fn from_jwk(json: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let jwk = ParsedJwk::new(json.as_ref(), Purpose::Sign)?;
        let pair = KeyPair::from_pkcs8(&jwk.to_pkcs8()?)?;
        if pair.public_numbers() != jwk.public_numbers()? {
            return Err(KeyError::new(
                "the JWK's private half (`d`) does not belong to its public half: export the key again",
            ));
        }
        Self::from_pair(pair, jwk.algorithm)
    }

    /// Loads the private key in a file of up to 64 KiB: PEM, JWK or DER, which is detected by its content.
    ///
    /// If the file's mode lets its group or others read or write it, a warning event (`tracing`, Unix only) names the path and
    /// the
    /// mode. The key is loaded anyway, since some systems mount secrets this way. On Linux, another warning names the owner of
    /// the
    /// file if it is neither root nor the user of this process.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is not a regular file (for example a named pipe), and as for [`SigningKey::from_pem`],
    /// [`SigningKey::from_jwk`] and [`SigningKey::from_der`]. The message names the path.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let bytes = file::read(path)?;
        Self::from_content(&bytes).map_err(|error| error.in_file(path))
    }

    pub(super) fn from_content(bytes: &[u8]) -> Result<Self, KeyError> {
        match bytes.trim_ascii_start() {
            [b'{', ..] => Self::from_jwk(bytes),
            _ if Structure::detect(bytes) != Structure::Other => Self::from_der(bytes),
            _ => Self::from_pem(bytes),
        }
    }

    /// Creates a key that signs and verifies with HS256, from a secret of 32 bytes or more (RFC 7518 §3.2).
    ///
    /// **Everyone who can verify a token can forge one**: every resource server can issue tokens for every other. The secret is
    /// not
    /// published in the key set, so each verifier must be given it. Use it only if the issuer and the verifiers are one party,
    /// and
    /// one of them supports nothing better.
    ///
    /// Its id is not a thumbprint but the HMAC of a fixed text under the secret. It is the same wherever the secret is, and
    /// reveals no more about it than any token. A guessable secret can be found by search with a single token: use random bytes
    /// (`openssl rand 32`), not a password.
    ///
    /// # Errors
    ///
    /// If the secret is shorter, or is a key in PEM.
    pub fn dangerous_hs256_verifiers_can_forge(secret: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let secret = SharedSecret::new(secret.as_ref())?;
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
            return Err(KeyError::new(format!(
                "the signer signs with {own}, not {algorithm}: select the algorithm in `Signer::verifying_key`"
            )));
        }
        let public = self.public.with_algorithm(algorithm)?;
        Ok(Self { header: header(ACCESS_TOKEN, &public), private: self.private, public })
    }

    fn from_structure(structure: Structure, der: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        let key = Pkcs8::from_der(structure, der)?;
        Self::from_pair(KeyPair::from_pkcs8(&key)?, key.key_type.default_algorithm())
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
                Err(KeyError::new("a secret for HS256 has no private key format: save the secret itself"))
            }
            PrivateHalf::External(_) => {
                Err(KeyError::new("the private key is behind a `Signer` and cannot be exported: back it up there"))
            }
            #[cfg(test)]
            PrivateHalf::Unable => Err(KeyError::new("this key is only for tests")),
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

/// Capacity for the dot and an encoded elliptic-curve signature. An RSA signature is longer, but takes so much time that one
/// more allocation does not matter.
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

#[cfg(test)]
mod tests {
    use super::SigningKey;
    use crate::keys::{Algorithm, KeyError};

    const P256: &str = include_str!("../../tests/keys/p256.pem");

    /// OpenSSL created these files; this crate writes them identically, byte for byte.
    #[test]
    fn a_key_is_saved_in_the_same_form_as_by_openssl() {
        for pem in [
            P256,
            include_str!("../../tests/keys/p384.pem"),
            include_str!("../../tests/keys/ed25519.pem"),
            #[cfg(feature = "aws_lc_rs")]
            include_str!("../../tests/keys/rsa2048.pem"),
        ] {
            let key = SigningKey::from_pem(pem).unwrap();
            let saved = key.to_pkcs8_pem().unwrap();
            assert_eq!(saved.expose(), pem, "{:?}", key.algorithm());
            assert_eq!(format!("{saved:?}"), "PrivateKeyPem(…)");
        }
    }

    #[test]
    fn each_kind_of_key_that_is_generated_can_be_saved_and_loaded() {
        for algorithm in [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
            let key = SigningKey::generate(algorithm).unwrap();
            let loaded = SigningKey::from_pem(key.to_pkcs8_pem().unwrap().expose()).unwrap();
            assert_eq!((loaded.key_id(), loaded.algorithm()), (key.key_id(), algorithm));
            assert!(key.verifying_key().verifies(b"payload", &signature(&loaded)), "{algorithm}");
        }
        let secret = SigningKey::dangerous_hs256_verifiers_can_forge([7; 32]).unwrap();
        let error = secret.to_pkcs8_pem().unwrap_err().to_string();
        assert!(error.contains("HS256"), "{error}");
    }

    fn signature(key: &SigningKey) -> Vec<u8> {
        key.private.sign(key.algorithm(), b"payload").unwrap()
    }

    #[test]
    fn the_length_of_a_token_is_known_before_signing() {
        let keys = [
            SigningKey::generate(Algorithm::ES256).unwrap(),
            SigningKey::generate(Algorithm::ES384).unwrap(),
            SigningKey::generate(Algorithm::EdDSA).unwrap(),
            SigningKey::dangerous_hs256_verifiers_can_forge([7; 32]).unwrap(),
            #[cfg(feature = "aws_lc_rs")]
            SigningKey::from_pem(include_str!("../../tests/keys/rsa2048.pem")).unwrap(),
        ];
        for key in keys {
            for payload in [0, 1, 2, 3, 4, 100, 1_000, 16_000] {
                let token = key.sign(&vec![b'x'; payload]).unwrap();
                assert_eq!(key.token_len(payload), token.len(), "{} {payload}", key.algorithm());
            }
        }
    }

    fn refusal(key: Result<SigningKey, KeyError>) -> String {
        key.expect_err("a bad key").to_string()
    }

    #[test]
    fn keys_of_each_type_are_loaded_from_pkcs8() {
        for (pem, algorithm) in [
            (P256, Algorithm::ES256),
            (include_str!("../../tests/keys/p384.pem"), Algorithm::ES384),
            (include_str!("../../tests/keys/ed25519.pem"), Algorithm::EdDSA),
        ] {
            let key = SigningKey::from_pem(pem).unwrap();
            assert_eq!(key.algorithm(), algorithm);
            assert_eq!(key.key_id().len(), 43);
        }
    }

    #[test]
    fn sec1_is_the_same_key_as_pkcs8() {
        for (sec1, pkcs8) in [
            (include_str!("../../tests/keys/p256.sec1.pem"), P256),
            (include_str!("../../tests/keys/p384.sec1.pem"), include_str!("../../tests/keys/p384.pem")),
        ] {
            let (sec1, pkcs8) = (SigningKey::from_pem(sec1).unwrap(), SigningKey::from_pem(pkcs8).unwrap());
            assert_eq!((sec1.key_id(), sec1.algorithm()), (pkcs8.key_id(), pkcs8.algorithm()));
        }
    }

    #[test]
    fn a_key_is_found_after_its_certificate_and_its_public_half() {
        let [certificate, public] =
            [include_str!("../../tests/keys/p256.crt.pem"), include_str!("../../tests/keys/p256.pub.pem")];
        let key = SigningKey::from_pem([certificate, public, P256, certificate].concat()).unwrap();
        assert_eq!(key.key_id(), SigningKey::from_pem(P256).unwrap().key_id());
    }

    #[test]
    fn der_formats_are_detected_by_content() {
        let pkcs8 = include_bytes!("../../tests/keys/p256.der");
        let section = crate::keys::pem::private_section(include_bytes!("../../tests/keys/p256.sec1.pem")).unwrap();
        for der in [&pkcs8[..], &section.der().unwrap()] {
            let key = SigningKey::from_der(der).unwrap();
            assert_eq!(key.key_id(), SigningKey::from_pem(P256).unwrap().key_id());
        }
        let cut = &pkcs8[..100];
        let longer = [&pkcs8[..], &[0]].concat();
        for der in [&[][..], cut, &longer, P256.as_bytes()] {
            assert!(refusal(SigningKey::from_der(der)).contains("PKCS#8"));
        }
    }

    #[test]
    fn the_error_for_an_invalid_key_says_how_to_fix_it_and_does_not_show_the_key() {
        for (pem, fix) in [
            ("hello", "openssl genpkey"),
            (&P256.replacen("MIGH", "MIGI", 1), "P-256"),
            (include_str!("../../tests/keys/p521.pem"), "P-256"),
            (include_str!("../../tests/keys/rsa2048.pss.pem"), "P-256"),
            (include_str!("../../tests/keys/p256.pub.pem"), "`VerifyingKey::from_pem`"),
            (include_str!("../../tests/keys/p256.crt.pem"), "certificate"),
            (include_str!("../../tests/keys/p256.encrypted.pem"), "feature `encrypted_pem`"),
            (include_str!("../../tests/keys/p256.proc-type.pem"), "openssl pkcs8 -topk8"),
            (include_str!("../../tests/keys/openssh.pem"), "ssh-keygen"),
            (&P256.repeat(2), "more than one private key"),
        ] {
            let refusal = refusal(SigningKey::from_pem(pem));
            assert!(refusal.contains(fix), "{refusal}");
            let mut body = pem.lines().filter(|line| line.len() > 20 && !line.starts_with("--"));
            assert!(body.all(|line| !refusal.contains(line)), "{refusal}");
        }
    }

    #[test]
    fn a_key_signs_only_with_an_algorithm_of_its_type() {
        let key = || SigningKey::generate(Algorithm::ES256).unwrap();
        assert!(key().with_algorithm(Algorithm::ES256).is_ok());
        assert!(refusal(key().with_algorithm(Algorithm::ES384)).contains("ES384"));
        assert!(refusal(key().with_algorithm(Algorithm::HS256)).contains("HS256"));
        assert!(refusal(SigningKey::generate(Algorithm::RS256)).contains("openssl"));
        assert!(refusal(SigningKey::generate(Algorithm::HS256)).contains("dangerous_hs256"));
    }

    #[cfg(feature = "aws_lc_rs")]
    #[test]
    fn an_rsa_key_is_loaded_from_each_format_and_signs_with_each_of_its_algorithms() {
        let pkcs1 = include_str!("../../tests/keys/rsa2048.pkcs1.pem");
        let key = SigningKey::from_pem(include_str!("../../tests/keys/rsa2048.pem")).unwrap();
        assert_eq!(SigningKey::from_pem(pkcs1).unwrap().key_id(), key.key_id());
        let section = crate::keys::pem::private_section(pkcs1.as_bytes()).unwrap();
        assert_eq!(SigningKey::from_der(section.der().unwrap()).unwrap().key_id(), key.key_id());

        for algorithm in [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::RS256] {
            let key = SigningKey::from_pem(pkcs1).unwrap().with_algorithm(algorithm).unwrap();
            let token = key.sign(b"payload").unwrap();
            let (signed, signature) = token.rsplit_once('.').unwrap();
            let signature = base64::Engine::decode(&super::URL_SAFE_NO_PAD, signature).unwrap();
            assert!(key.verifying_key().verifies(signed.as_bytes(), &signature), "{algorithm}");
            assert!(!key.verifying_key().verifies(b"another", &signature), "{algorithm}");
        }
    }

    #[cfg(feature = "aws_lc_rs")]
    #[test]
    fn an_rsa_key_of_1024_bits_is_refused() {
        let refusal = refusal(SigningKey::from_pem(include_str!("../../tests/keys/rsa1024.pem")));
        assert!(refusal.contains("2,048"), "{refusal}");
    }

    #[cfg(not(feature = "aws_lc_rs"))]
    #[test]
    fn an_rsa_key_does_not_sign_and_the_error_says_why() {
        for key in [
            SigningKey::from_pem(include_str!("../../tests/keys/rsa2048.pem")),
            SigningKey::from_pem(include_str!("../../tests/keys/rsa2048.pkcs1.pem")),
            SigningKey::from_jwk(include_str!("../../tests/keys/rfc7517-a2-rsa.jwk")),
        ] {
            let refusal = refusal(key);
            assert!(refusal.contains("RUSTSEC-2023-0071") && refusal.contains("`aws_lc_rs`"), "{refusal}");
        }
    }
}
