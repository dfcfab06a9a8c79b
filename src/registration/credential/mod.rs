//! [`Credential`]: a credential of a client other than a secret that it sends.

mod kind;

use std::time::SystemTime;

use self::kind::ClientKeys;
pub(super) use self::kind::CredentialRecord;
pub(crate) use self::kind::{
    CredentialKind, KeysUrl, MAX_KEY_URLS, MAX_NESTING, MAX_SHARED_SECRETS, NamedWorkload, PlatformIdentity,
    SharedSecret, is_trust_domain,
};
pub use self::kind::{InvalidSpiffeId, SpiffeId};
use super::ClientAuthMethod;
use crate::clock::UnixTime;
use crate::debug_fields::debug_fields;
use crate::keys::{Algorithm, KeyError, VerifyingKey};
use crate::registration::registered_secret::is_label;
use crate::text::Text;

/// A credential of a client other than a secret that it sends, with a label and an optional expiry.
///
/// A client can have several credentials of several kinds, and secrets in addition: two keys during a rotation, or a key
/// and a secret during a migration. Each request uses one of them. The server has to [accept
/// assertions](crate::authorization_server::AuthorizationServerBuilder::client_assertions).
///
/// ```
/// use tower_client_credentials::Client;
/// use tower_client_credentials::registration::Credential;
///
/// let keys = r#"{"keys": [
///     {"kty": "OKP", "crv": "Ed25519", "kid": "2026", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
/// ]}"#;
/// let client = Client::with_credential("billing", Credential::jwks(keys)?).audience("https://api.example.com").register()?;
/// assert_eq!(client.authentication().name(), "private_key_jwt");
/// assert_eq!(client.credentials()[0].label(), "1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[must_use = "it has no effect until a client has it"]
pub struct Credential {
    /// Empty until it is added to a client.
    label: Text,
    expires_at: Option<UnixTime>,
    kind: CredentialKind,
}

/// A credential is invalid. The text says how to fix it, and contains no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidCredential(String);

impl InvalidCredential {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl From<KeyError> for InvalidCredential {
    fn from(error: KeyError) -> Self {
        Self(error.to_string())
    }
}

impl Credential {
    /// Creates a credential for `private_key_jwt` (RFC 7523 §2.2, OpenID Connect Core §9) from the client's public keys, a
    /// JWK Set (RFC 7517 §5) in JSON: the member `jwks` of RFC 7591 §2.
    ///
    /// Each key is parsed once, here. A key with `use` `enc` is ignored. A key without `alg` is used for the default
    /// algorithm of its type, which for RSA is `RS256`; see [`signing_algorithm`](Self::signing_algorithm). A client cannot be registered
    /// with a set of more than 16 nested arrays and objects.
    ///
    /// # Errors
    ///
    /// If it is not a JWK Set, has no key for signatures, or has a key that is private, unsupported or malformed.
    pub fn jwks(json: impl AsRef<[u8]>) -> Result<Self, InvalidCredential> {
        ClientKeys::new(json.as_ref(), None).map(|keys| Self::of(CredentialKind::Keys(keys)))
    }

    /// Creates a credential for `private_key_jwt` from one public key, which has its [id](VerifyingKey::key_id) as `kid`.
    ///
    /// # Errors
    ///
    /// If it is a shared secret.
    pub fn verifying_key(key: &VerifyingKey) -> Result<Self, InvalidCredential> {
        ClientKeys::of_key(key).map(|keys| Self::of(CredentialKind::Keys(keys)))
    }

    /// Creates a credential for `private_key_jwt` from the URL at which the client publishes its public keys: the member
    /// `jwks_uri` of RFC 7591 §2. The URL uses https, or http on this machine.
    ///
    /// The keys are fetched when the client authenticates, and then kept fresh: for at most 10 minutes, and if they cannot
    /// be fetched, for at most 1 hour. The server has to [accept such
    /// URLs](crate::authorization_server::ClientAssertions::client_key_urls).
    ///
    /// # Errors
    ///
    /// If the URL is invalid.
    pub fn jwks_uri(url: impl AsRef<str>) -> Result<Self, InvalidCredential> {
        KeysUrl::new(url.as_ref()).map(|url| Self::of(CredentialKind::KeysUrl(url)))
    }

    /// Creates a credential for the JWT-SVIDs of a workload. A pattern that ends with `/*` matches every workload below
    /// it. The server has to [trust](crate::authorization_server::ClientAssertions::trust_domain) the trust domain.
    ///
    /// A request can omit `client_id` if the workload belongs to one client only, and the store has an [index of
    /// workloads](crate::ClientStore::find_by_workload), as those of this crate do.
    pub fn spiffe_id(id: SpiffeId) -> Self {
        Self::of(CredentialKind::Spiffe(id))
    }

    /// Creates a credential for the tokens of a Kubernetes service account. `issuer` is the issuer of the cluster, which
    /// the server has to [trust](crate::authorization_server::ClientAssertions::platform).
    ///
    /// A request can omit `client_id` if the account belongs to one client only, and the store has an [index of
    /// workloads](crate::ClientStore::find_by_workload), as those of this crate do.
    ///
    /// # Errors
    ///
    /// If the namespace or the name is not one of Kubernetes.
    pub fn service_account(
        issuer: impl Into<String>,
        namespace: impl AsRef<str>,
        name: impl AsRef<str>,
    ) -> Result<Self, InvalidCredential> {
        let identity = PlatformIdentity::service_account(issuer.into(), namespace.as_ref(), name.as_ref())?;
        Ok(Self::of(CredentialKind::Platform(identity)))
    }

    /// Creates a credential for the tokens of another platform, such as a CI system, with this exact `sub`, and with these
    /// claims. A name that begins with `/` is a JSON Pointer (RFC 6901). Values are compared with their JSON type. A client cannot be
    /// registered with a value of more than 15 nested arrays and objects.
    ///
    /// At least one claim is needed that never changes its meaning, such as `repository_id`: someone else may get the same
    /// subject later, for example after a repository was deleted.
    ///
    /// # Errors
    ///
    /// If the subject is empty, or there is no claim.
    pub fn platform(
        issuer: impl Into<String>,
        subject: impl Into<String>,
        claims: impl IntoIterator<Item = (impl Into<String>, serde_json::Value)>,
    ) -> Result<Self, InvalidCredential> {
        let claims = claims.into_iter().map(|(name, value)| (name.into(), value)).collect();
        PlatformIdentity::new(issuer.into(), subject.into(), claims)
            .map(|identity| Self::of(CredentialKind::Platform(identity)))
    }

    /// Requires a claim of the platform's token in addition, such as `/kubernetes.io/serviceaccount/uid`.
    ///
    /// # Errors
    ///
    /// If the credential is not for a platform.
    pub fn claim(
        self,
        name: impl Into<String>,
        value: impl Into<serde_json::Value>,
    ) -> Result<Self, InvalidCredential> {
        match self.kind {
            CredentialKind::Platform(identity) => {
                let kind = CredentialKind::Platform(identity.with_claim(name.into(), value.into()));
                Ok(Self { kind, ..self })
            }
            _ => Err(InvalidCredential::new("only a credential for a platform has claims")),
        }
    }

    /// Fetches the keys at the URL anew, so that a key that the client removed from its URL is refused at once, on every
    /// replica that learns of the change. Use the current time. It must be later than at the last refresh; if it is not, the
    /// second after the last refresh is used.
    ///
    /// # Errors
    ///
    /// If the credential has no URL.
    pub fn refreshed_at(self, time: SystemTime) -> Result<Self, InvalidCredential> {
        match self.kind {
            CredentialKind::KeysUrl(url) => {
                Ok(Self { kind: CredentialKind::KeysUrl(url.refreshed_at(UnixTime::at(time))), ..self })
            }
            _ => Err(InvalidCredential::new("only a credential with a URL has keys to fetch")),
        }
    }

    pub(crate) fn of(kind: CredentialKind) -> Self {
        Self { label: Text::Literal(""), expires_at: None, kind }
    }

    /// Sets the label, which distinguishes the credentials of one client in events and lists. It has 1 to 64 bytes and no
    /// control characters. By default it is the lowest number that is not in use.
    ///
    /// # Errors
    ///
    /// If the label is malformed.
    pub fn with_label(self, label: impl Into<String>) -> Result<Self, InvalidCredential> {
        let label = label.into();
        if !is_label(&label) {
            return Err(InvalidCredential::new(
                "invalid label of a credential: use 1 to 64 bytes without control characters",
            ));
        }
        Ok(Self { label: label.into(), ..self })
    }

    /// Sets when the credential expires, in whole seconds. From that time on it is refused. By default it never expires.
    pub fn expires_at(self, at: SystemTime) -> Self {
        Self { expires_at: Some(UnixTime::at(at)), ..self }
    }

    /// Accepts only this algorithm: `token_endpoint_auth_signing_alg` of RFC 7591. By default each key has the algorithm
    /// in its `alg`, or the default one of its type.
    ///
    /// # Errors
    ///
    /// If none of the keys supports the algorithm.
    pub fn signing_algorithm(self, algorithm: Algorithm) -> Result<Self, InvalidCredential> {
        let kind = match self.kind {
            CredentialKind::Keys(keys) => CredentialKind::Keys(keys.restricted_to(algorithm)?),
            CredentialKind::KeysUrl(url) => CredentialKind::KeysUrl(url.restricted_to(algorithm)),
            _ => return Err(InvalidCredential::new("only a credential with keys of the client has an algorithm")),
        };
        Ok(Self { kind, ..self })
    }

    /// Returns the label. It is empty until the credential is added to a client, unless it was set.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Returns the method by which a client with this credential authenticates.
    #[must_use]
    pub fn method(&self) -> ClientAuthMethod {
        self.kind.method()
    }

    /// Returns the time from which the credential is refused, or `None` if it never expires.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires_at.map(UnixTime::to_system)
    }

    pub(crate) fn label_text(&self) -> &Text {
        &self.label
    }

    /// Returns the `jwks_uri`, if the credential has one.
    pub(crate) fn keys_url(&self) -> Option<&str> {
        if let CredentialKind::KeysUrl(url) = &self.kind { Some(url.url()) } else { None }
    }

    pub(crate) fn kind(&self) -> &CredentialKind {
        &self.kind
    }

    pub(crate) fn is_live(&self, now: UnixTime) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }

    pub(super) fn labelled(self, label: String) -> Self {
        Self { label: label.into(), ..self }
    }

    pub(super) fn expiring(self, at: Option<UnixTime>) -> Self {
        Self { expires_at: at, ..self }
    }
}

debug_fields!(Credential, |this| { label: this.label, method: this.method(), expires_at: this.expires() });

#[cfg(test)]
mod tests {
    use super::Credential;
    use crate::keys::{Algorithm, SigningKey, VerifyingKey};

    const PUBLIC: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    fn refusal(jwks: &str) -> String {
        Credential::jwks(jwks).expect_err(jwks).to_string()
    }

    #[test]
    fn a_set_with_a_private_unsupported_or_ambiguous_key_is_refused_with_its_position() {
        let private = include_str!("../../../tests/keys/rfc7515-a3.jwk");
        for (set, says) in [
            (format!(r#"{{"keys":[{PUBLIC},{private}]}}"#), "keys[1]"),
            (r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#.to_owned(), "keys[0]"),
            (format!(r#"{{"keys":[{PUBLIC},{{"kty":"EC","crv":"secp256k1","x":"","y":""}}]}}"#), "keys[1]"),
            (format!(r#"{{"keys":[{PUBLIC},{PUBLIC}]}}"#), "`kid`"),
            (r#"{"keys":[]}"#.to_owned(), "no key"),
            (PUBLIC.to_owned(), "JWK Set"),
            ("[]".to_owned(), "JWK Set"),
            (String::new(), "JWK Set"),
        ] {
            let refusal = refusal(&set);
            assert!(refusal.contains(says), "{set}: {refusal}");
            assert!(!refusal.contains("AAAA"), "{refusal}");
        }
    }

    #[test]
    fn a_key_for_encryption_is_ignored_and_two_names_make_two_keys() {
        let enc = PUBLIC.replace('}', r#","use":"enc"}"#);
        assert!(refusal(&format!(r#"{{"keys":[{enc}]}}"#)).contains("no key"));
        let named = |kid: &str| PUBLIC.replace('}', &format!(r#","kid":"{kid}"}}"#));
        assert!(Credential::jwks(format!(r#"{{"keys":[{enc},{},{}]}}"#, named("a"), named("b"))).is_ok());
    }

    #[test]
    fn an_algorithm_must_be_one_of_the_keys_and_a_shared_secret_is_no_public_key() {
        let set = format!(r#"{{"keys":[{PUBLIC}]}}"#);
        assert!(Credential::jwks(&set).unwrap().signing_algorithm(Algorithm::EdDSA).is_ok());
        let error = Credential::jwks(&set).unwrap().signing_algorithm(Algorithm::ES256).unwrap_err().to_string();
        assert!(error.contains("ES256"), "{error}");
        let shared = SigningKey::dangerous_hs256_verifiers_can_forge([7; 32]).unwrap().verifying_key();
        assert!(Credential::verifying_key(&shared).is_err());
        let rsa = VerifyingKey::from_pem(include_str!("../../../tests/keys/rsa2048.pub.pem")).unwrap();
        assert!(Credential::verifying_key(&rsa).unwrap().signing_algorithm(Algorithm::PS256).is_ok());
    }

    #[test]
    fn a_label_without_text_or_with_control_characters_or_too_long_is_refused() {
        let set = format!(r#"{{"keys":[{PUBLIC}]}}"#);
        for label in ["", "a\nb", &"a".repeat(65)] {
            assert!(Credential::jwks(&set).unwrap().with_label(label).is_err(), "{label:?}");
        }
    }
}
