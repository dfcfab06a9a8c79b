//! [`SharedSecret`]: the secret of a client that authenticates by `client_secret_jwt`.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::CredentialKind;
use crate::client_id::ClientId;
use crate::crypto::constant_time_eq;
use crate::debug_fields::debug_fields;
use crate::keys::rotation::{KeyEncryptionKey, Sealed};
use crate::keys::{HmacAlgorithm, check_hmac_secret};
use crate::registration::{Credential, InvalidCredential};
use crate::secret::ClientSecret;

/// The secret, in memory or encrypted. The server needs the secret itself to verify an HMAC, so a digest would not do.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SharedSecret {
    algorithm: Option<HmacAlgorithm>,
    form: Form,
}

#[derive(Clone)]
enum Form {
    /// From the configuration of this process. It is never serialized.
    Plain(Arc<Zeroizing<Vec<u8>>>),
    /// As a store has it.
    Encrypted(Arc<Sealed>),
}

/// The maximum number of secrets of a client that are tried for one assertion. It bounds the work of an invalid one.
pub(crate) const MAX_SHARED_SECRETS: usize = 4;

/// The name of the purpose, so that no other ciphertext of the same key is accepted in its place.
const PURPOSE: &str = "tcc client_secret_jwt v1";

impl SharedSecret {
    pub(crate) fn new(secret: &[u8]) -> Result<Self, InvalidCredential> {
        check_hmac_secret(secret, HmacAlgorithm::HS256)?;
        Ok(Self { algorithm: None, form: Form::Plain(Arc::new(Zeroizing::new(secret.to_vec()))) })
    }

    /// Creates a secret that belongs to no client. With a key, it is encrypted as in a store.
    pub(crate) fn decoy(secret: &[u8], key: Option<(&KeyEncryptionKey, &ClientId)>) -> Result<Self, String> {
        let plain = Self { algorithm: None, form: Form::Plain(Arc::new(Zeroizing::new(secret.to_vec()))) };
        match key {
            Some((key, client)) => plain.encrypt(key, client, ""),
            None => Ok(plain),
        }
    }

    /// Creates it from the members of a record.
    pub(crate) fn encrypted(by: String, text: String) -> Self {
        Self { algorithm: None, form: Form::Encrypted(Arc::new(Sealed { by, text })) }
    }

    /// Accepts only this algorithm. The length of an encrypted secret is checked when it is decrypted.
    pub(crate) fn restricted_to(self, algorithm: HmacAlgorithm) -> Result<Self, InvalidCredential> {
        if let Form::Plain(secret) = &self.form {
            check_hmac_secret(secret, algorithm)?;
        }
        Ok(Self { algorithm: Some(algorithm), ..self })
    }

    pub(crate) fn algorithm(&self) -> Option<HmacAlgorithm> {
        self.algorithm
    }

    pub(crate) fn accepts(&self, algorithm: HmacAlgorithm) -> bool {
        self.algorithm.is_none_or(|own| own == algorithm)
    }

    /// Returns the name of the key that encrypts it, and the ciphertext. `None` if the secret is in memory only.
    pub(crate) fn ciphertext(&self) -> Option<(&str, &str)> {
        match &self.form {
            Form::Plain(_) => None,
            Form::Encrypted(sealed) => Some((&sealed.by, &sealed.text)),
        }
    }

    /// Returns the secret. The ciphertext belongs to one credential of one client, so that it cannot be moved to another.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be decrypted, and how to fix it.
    pub(crate) fn open(
        &self,
        key: Option<&KeyEncryptionKey>,
        client: &ClientId,
        label: &str,
    ) -> Result<Arc<Zeroizing<Vec<u8>>>, String> {
        let sealed = match &self.form {
            Form::Plain(secret) => return Ok(secret.clone()),
            Form::Encrypted(sealed) => sealed,
        };
        let by = crate::quoted::quoted(&sealed.by);
        let Some(key) = key else {
            return Err(format!(
                "its secret is encrypted by the key-encryption key {by}, and the server has none; set it with \
                 ClientAssertions::client_secret_jwt_with"
            ));
        };
        if !key.has(&sealed.by) {
            return Err(format!(
                "its secret is encrypted by the key-encryption key {by}, and the server has only {}; add the other one with \
                 KeyEncryptionKey::also, or register the secret again",
                key.names()
            ));
        }
        let opened = key.open(&context(client, label), sealed).map(Arc::new);
        opened.ok_or_else(|| {
            "its encrypted secret was altered, or belongs to another credential or client; register the secret again"
                .to_owned()
        })
    }

    /// Encrypts the secret with the first of these keys, for the credential with this label.
    pub(crate) fn encrypt(&self, key: &KeyEncryptionKey, client: &ClientId, label: &str) -> Result<Self, String> {
        if matches!(&self.form, Form::Encrypted(sealed) if sealed.by == key.name()) {
            return Ok(self.clone());
        }
        let secret = self.open(Some(key), client, label)?;
        let sealed = key.seal(&context(client, label), &secret).map_err(|error| error.to_string())?;
        Ok(Self { algorithm: self.algorithm, form: Form::Encrypted(Arc::new(sealed)) })
    }
}

/// What the ciphertext is bound to. Neither ids nor labels have control characters, so the parts cannot be confused.
fn context(client: &ClientId, label: &str) -> Vec<u8> {
    format!("{PURPOSE}\0{client}\0{label}").into_bytes()
}

impl PartialEq for Form {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plain(one), Self::Plain(other)) => constant_time_eq(one, other),
            (Self::Encrypted(one), Self::Encrypted(other)) => (&one.by, &one.text) == (&other.by, &other.text),
            _ => false,
        }
    }
}

impl Eq for Form {}

debug_fields!(SharedSecret { algorithm });

/// A secret that the client does not send.
impl Credential {
    /// Creates a credential for `client_secret_jwt` (RFC 7523 §2.2, OpenID Connect Core §9) from the secret that the client
    /// has. It has at least 32 bytes, or as many as the hash of its algorithm (RFC 7518 §3.2): 48 for `HS384`, and 64 for
    /// `HS512`. The server has to [accept
    /// it](crate::authorization_server::ClientAssertions::client_secret_jwt).
    ///
    /// The server has to read this secret, so a digest cannot replace it. It is in memory, and no store writes it:
    /// [encrypt](crate::registration::Client::encrypt_secrets) it first. Prefer a key pair, of which the server knows only the
    /// public half.
    ///
    /// ```
    /// use tower_client_credentials::keys::rotation::KeyEncryptionKey;
    /// use tower_client_credentials::registration::Credential;
    /// use tower_client_credentials::{Client, ClientSecret};
    ///
    /// # let bytes: Vec<u8> = (0..32).collect();
    /// let secret = Credential::client_secret_jwt(&ClientSecret::generate()?)?;
    /// let client = Client::with_credential("billing", secret)
    ///     .encrypt_secrets(&KeyEncryptionKey::from_bytes(bytes)?)
    ///     .register()?;
    /// assert_eq!(client.authentication().name(), "client_secret_jwt");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the secret has fewer than 32 bytes, or is a key in PEM, DER or JWK.
    pub fn client_secret_jwt(secret: &ClientSecret) -> Result<Self, InvalidCredential> {
        SharedSecret::new(secret.expose().as_bytes()).map(|secret| Self::of(CredentialKind::Secret(secret)))
    }

    /// Accepts only this algorithm for a [secret](Self::client_secret_jwt): `token_endpoint_auth_signing_alg` of RFC 7591. By
    /// default each algorithm is accepted for which the secret is long enough.
    ///
    /// # Errors
    ///
    /// If the credential is not a secret, or the secret is too short.
    pub fn hmac_algorithm(self, algorithm: HmacAlgorithm) -> Result<Self, InvalidCredential> {
        match self.kind {
            CredentialKind::Secret(secret) => {
                Ok(Self { kind: CredentialKind::Secret(secret.restricted_to(algorithm)?), ..self })
            }
            _ => Err(InvalidCredential::new("only a secret for client_secret_jwt has an HMAC algorithm")),
        }
    }

    /// Returns whether it has a secret that no store writes.
    pub(crate) fn has_plain_secret(&self) -> bool {
        matches!(&self.kind, CredentialKind::Secret(secret) if secret.ciphertext().is_none())
    }

    /// Encrypts its secret, if it has one.
    pub(crate) fn encrypted(&self, key: &KeyEncryptionKey, client: &ClientId) -> Result<Self, String> {
        let CredentialKind::Secret(secret) = &self.kind else { return Ok(self.clone()) };
        let kind = CredentialKind::Secret(secret.encrypt(key, client, &self.label)?);
        Ok(Self { kind, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::SharedSecret;
    use crate::client_id::ClientId;
    use crate::keys::rotation::KeyEncryptionKey;

    const SECRET: &[u8] = b"a secret of at least 32 bytes, as needed";
    const A: ClientId = ClientId::from_static("a");
    const B: ClientId = ClientId::from_static("b");

    fn key(byte: u8) -> KeyEncryptionKey {
        KeyEncryptionKey::from_bytes([&[byte; 31][..], &[0]].concat()).unwrap()
    }

    #[test]
    fn a_ciphertext_opens_only_for_its_client_and_credential_and_with_its_key() {
        let sealed = SharedSecret::new(SECRET).unwrap().encrypt(&key(1), &A, "1").unwrap();
        assert_eq!(sealed.open(Some(&key(1)), &A, "1").unwrap().as_slice(), SECRET);
        assert_eq!(sealed.open(Some(&key(2).also(key(1))), &A, "1").unwrap().as_slice(), SECRET);
        for (key, client, label, says) in [
            (Some(key(1)), &B, "1", "altered"),
            (Some(key(1)), &A, "2", "altered"),
            (Some(key(2)), &A, "1", "KeyEncryptionKey::also"),
            (None, &A, "1", "client_secret_jwt_with"),
        ] {
            let error = sealed.open(key.as_ref(), client, label).unwrap_err();
            assert!(error.contains(says) && !error.contains("32 bytes"), "{error}");
        }
        let (by, text) = sealed.ciphertext().unwrap();
        let mut altered = text.to_owned();
        altered.replace_range(20..21, if &text[20..21] == "A" { "B" } else { "A" });
        assert!(SharedSecret::encrypted(by.to_owned(), altered).open(Some(&key(1)), &A, "1").is_err());
    }

    #[test]
    fn a_secret_is_encrypted_again_by_a_new_key_and_not_by_the_same() {
        let first = SharedSecret::new(SECRET).unwrap().encrypt(&key(1), &A, "1").unwrap();
        assert_eq!(first.encrypt(&key(1), &A, "1").unwrap(), first);
        let second = first.encrypt(&key(2).also(key(1)), &A, "1").unwrap();
        assert_eq!(second.ciphertext().unwrap().0, key(2).name());
        assert!(first.encrypt(&key(2), &A, "1").is_err());
    }

    #[test]
    fn no_debug_output_contains_the_secret() {
        let plain = SharedSecret::new(SECRET).unwrap();
        assert!(!format!("{plain:?}").contains("secret of"), "{plain:?}");
    }
}
