//! [`CredentialKind`]: the kinds of credentials, each with its method, the setting of the server that accepts it, and its record.
//!
//! A new kind is a file here, a variant, and an arm in each function of this file.

mod client_keys;
mod keys_url;
mod nesting;
mod platform_identity;
mod shared_secret;
mod spiffe_id;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(super) use self::client_keys::ClientKeys;
pub(crate) use self::keys_url::{KeysUrl, MAX_KEY_URLS};
pub(crate) use self::nesting::MAX_NESTING;
pub(crate) use self::platform_identity::PlatformIdentity;
pub(crate) use self::shared_secret::{MAX_SHARED_SECRETS, SharedSecret};
pub(crate) use self::spiffe_id::is_trust_domain;
pub use self::spiffe_id::{InvalidSpiffeId, SpiffeId};
use super::Credential;
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::keys::{Algorithm, HmacAlgorithm};
use crate::quoted::quoted;
use crate::registration::ClientAuthMethod;
use crate::registration::accepted_credentials::{AcceptedCredentials, AcceptedSecrets};
use crate::registration::error_path::at;

/// The kind of a credential, with what it is verified with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CredentialKind {
    /// The public keys of a client that signs its assertions (RFC 7523).
    Keys(ClientKeys),
    /// The URL at which such a client publishes its public keys.
    KeysUrl(KeysUrl),
    /// The secret of a client that authenticates its assertions with it.
    Secret(SharedSecret),
    /// The workload that a platform names in its tokens.
    Platform(PlatformIdentity),
    /// The workload that a JWT-SVID names.
    Spiffe(SpiffeId),
}

/// A workload that a credential names.
pub(crate) enum NamedWorkload<'a> {
    Platform(&'a PlatformIdentity),
    Spiffe(&'a SpiffeId),
}

impl CredentialKind {
    /// Returns the workload that such a credential is for. `None` if it is for no workload.
    pub(crate) fn workload(&self) -> Option<NamedWorkload<'_>> {
        match self {
            Self::Platform(identity) => Some(NamedWorkload::Platform(identity)),
            Self::Spiffe(id) => Some(NamedWorkload::Spiffe(id)),
            Self::Keys(_) | Self::KeysUrl(_) | Self::Secret(_) => None,
        }
    }

    /// Returns the number of nested arrays and objects in its `jwks` or `claims`.
    pub(crate) fn nesting(&self) -> usize {
        match self {
            Self::Keys(keys) => keys.nesting(),
            Self::Platform(identity) => identity.nesting(),
            Self::KeysUrl(_) | Self::Secret(_) | Self::Spiffe(_) => 0,
        }
    }

    /// Returns the method by which a client with such a credential authenticates.
    pub(super) fn method(&self) -> ClientAuthMethod {
        match self {
            Self::Keys(_) | Self::KeysUrl(_) => ClientAuthMethod::PrivateKeyJwt,
            Self::Secret(_) => ClientAuthMethod::ClientSecretJwt,
            Self::Platform(_) => ClientAuthMethod::PlatformJwt,
            Self::Spiffe(_) => ClientAuthMethod::SpiffeJwt,
        }
    }

    /// Returns why a server does not accept a credential of this kind, and how to enable it.
    pub(crate) fn why_not(&self, label: &str, client: &ClientId, accepted: &AcceptedCredentials) -> Option<String> {
        match self {
            Self::Secret(secret) => match &accepted.secrets {
                None => Some(
                    "for `client_secret_jwt`, which the server does not accept; enable it with \
                     ClientAssertions::client_secret_jwt"
                        .to_owned(),
                ),
                Some(AcceptedSecrets { key }) => {
                    let opened = secret.open(key.as_ref(), client, label);
                    opened.err().map(|why| format!("unusable: {why}"))
                }
            },
            Self::Keys(_) => (!accepted.keys).then(|| {
                "for `private_key_jwt`, which the server does not accept; enable it with .client_assertions(…)"
                    .to_owned()
            }),
            Self::KeysUrl(_) => (!accepted.key_urls).then(|| {
                "a `jwks_uri`, which the server does not accept; enable it with ClientAssertions::client_key_urls"
                    .to_owned()
            }),
            Self::Platform(identity) => {
                let issuer = identity.issuer();
                let is_trusted = accepted.platforms.iter().any(|own| own == issuer);
                (!is_trusted).then(|| {
                    format!(
                        "for the platform {}, which the server does not trust; add it with ClientAssertions::platform",
                        quoted(issuer)
                    )
                })
            }
            Self::Spiffe(id) => {
                let is_trusted = accepted.trust_domains.iter().any(|own| own == id.trust_domain());
                (!is_trusted).then(|| {
                    format!(
                        "for {}, whose trust domain the server does not trust; add it with ClientAssertions::trust_domain",
                        quoted(id.as_str())
                    )
                })
            }
        }
    }
}

/// The record of a credential, an element of `credentials` in the record of a client. Its members are not checked together yet.
/// Their names are those of RFC 7591 §2 where it defines one.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialRecord {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    label: String,
    method: ClientAuthMethod,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jwks: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jwks_uri: Option<String>,
    /// In seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refreshed_at: Option<u64>,
    /// The name of the key-encryption key that encrypts the secret of `client_secret_jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encrypted_by: Option<String>,
    /// The ciphertext of the secret, with its nonce, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encrypted_secret: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_endpoint_auth_signing_alg: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spiffe_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    claims: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
}

impl From<&Credential> for CredentialRecord {
    fn from(credential: &Credential) -> Self {
        let record = Self {
            label: credential.label().to_owned(),
            method: credential.method(),
            expires_at: credential.expires().map(|time| UnixTime::at(time).as_secs()),
            ..Self::default()
        };
        match credential.kind() {
            CredentialKind::Keys(keys) => Self {
                jwks: serde_json::from_str(keys.json()).ok(),
                token_endpoint_auth_signing_alg: keys.algorithm().map(|algorithm| algorithm.name().to_owned()),
                ..record
            },
            CredentialKind::KeysUrl(url) => Self {
                jwks_uri: Some(url.url().to_string()),
                refreshed_at: url.refreshed().map(UnixTime::as_secs),
                token_endpoint_auth_signing_alg: url.algorithm().map(|algorithm| algorithm.name().to_owned()),
                ..record
            },
            CredentialKind::Secret(secret) => Self {
                encrypted_by: secret.ciphertext().map(|(by, _)| by.to_owned()),
                encrypted_secret: secret.ciphertext().map(|(_, text)| text.to_owned()),
                token_endpoint_auth_signing_alg: secret.algorithm().map(|algorithm| algorithm.name().to_owned()),
                ..record
            },
            CredentialKind::Platform(identity) => Self {
                issuer: Some(identity.issuer().to_owned()),
                subject: Some(identity.subject().to_owned()),
                claims: identity.claims().iter().cloned().collect(),
                ..record
            },
            CredentialKind::Spiffe(id) => Self { spiffe_id: Some(id.to_string()), ..record },
        }
    }
}

impl CredentialRecord {
    /// Creates the credential. An error begins with the rest of its path.
    pub(crate) fn checked(self) -> Result<Credential, String> {
        let mut credential = self.kind()?;
        if let Some(name) = &self.token_endpoint_auth_signing_alg {
            let path = ".token_endpoint_auth_signing_alg";
            credential = if credential.method() == ClientAuthMethod::ClientSecretJwt {
                let algorithm =
                    HmacAlgorithm::from_name(name).ok_or("an unsupported algorithm; use for example `HS256`");
                at(path, credential.hmac_algorithm(at(path, algorithm)?))?
            } else {
                let algorithm = Algorithm::from_name(name).ok_or("an unsupported algorithm; use for example `ES256`");
                at(path, credential.signing_algorithm(at(path, algorithm)?))?
            };
        }
        if !self.label.is_empty() {
            credential = at(".label", credential.with_label(self.label))?;
        }
        let expiry = self.expires_at.map(|seconds| UnixTime::from_secs(seconds).ok_or("must be seconds since 1970"));
        Ok(credential.expiring(at(".expires_at", expiry.transpose())?))
    }

    fn kind(&self) -> Result<Credential, String> {
        let Self { method, jwks, jwks_uri, spiffe_id, issuer, subject, claims, .. } = self;
        let members = [
            ("jwks", jwks.is_some()),
            ("jwks_uri", jwks_uri.is_some()),
            ("refreshed_at", self.refreshed_at.is_some()),
            ("encrypted_by", self.encrypted_by.is_some()),
            ("encrypted_secret", self.encrypted_secret.is_some()),
            ("spiffe_id", spiffe_id.is_some()),
            ("issuer", issuer.is_some()),
            ("subject", subject.is_some()),
            ("claims", !claims.is_empty()),
        ];
        let only = |allowed: &[&str]| match members.iter().find(|(name, is_used)| *is_used && !allowed.contains(name)) {
            Some((name, _)) => Err(format!(".{name}: does not belong to the method `{method}`; remove it")),
            None => Ok(()),
        };
        match (method, jwks, jwks_uri) {
            (ClientAuthMethod::PrivateKeyJwt, Some(jwks), None) => {
                only(&["jwks"])?;
                at(".jwks", Credential::jwks(jwks.to_string()))
            }
            (ClientAuthMethod::PrivateKeyJwt, None, Some(url)) => {
                only(&["jwks_uri", "refreshed_at"])?;
                let credential = at(".jwks_uri", Credential::jwks_uri(url))?;
                let Some(seconds) = self.refreshed_at else { return Ok(credential) };
                let time = UnixTime::from_secs(seconds).ok_or("must be seconds since 1970");
                at(".refreshed_at", credential.refreshed_at(at(".refreshed_at", time)?.to_system()))
            }
            (ClientAuthMethod::PrivateKeyJwt, Some(_), Some(_)) => {
                Err(".jwks_uri: `jwks` is present, too; keep one of them (RFC 7591 §2)".to_owned())
            }
            (ClientAuthMethod::PrivateKeyJwt, None, None) => {
                Err(".jwks: missing; `private_key_jwt` needs the client's public keys, as `jwks` or `jwks_uri`"
                    .to_owned())
            }
            (ClientAuthMethod::ClientSecretJwt, ..) => {
                only(&["encrypted_by", "encrypted_secret"])?;
                match (&self.encrypted_by, &self.encrypted_secret) {
                    (Some(by), Some(text)) => {
                        let secret = SharedSecret::encrypted(by.clone(), text.clone());
                        Ok(Credential::of(CredentialKind::Secret(secret)))
                    }
                    _ => Err(
                        ".encrypted_secret: missing; `client_secret_jwt` needs `encrypted_secret` and `encrypted_by`, \
                              as Client::encrypt_secrets makes them"
                            .to_owned(),
                    ),
                }
            }
            (ClientAuthMethod::SpiffeJwt, ..) => {
                only(&["spiffe_id"])?;
                let id = spiffe_id.as_deref().ok_or(".spiffe_id: missing")?;
                Ok(Credential::spiffe_id(at(".spiffe_id", id.parse())?))
            }
            (ClientAuthMethod::PlatformJwt, ..) => {
                only(&["issuer", "subject", "claims"])?;
                let issuer = issuer.as_deref().ok_or(".issuer: missing")?;
                let subject = subject.as_deref().ok_or(".subject: missing")?;
                let claims = claims.iter().map(|(name, value)| (name.clone(), value.clone()));
                Credential::platform(issuer, subject, claims).map_err(|error| format!(": {error}"))
            }
            (ClientAuthMethod::ClientSecretBasic | ClientAuthMethod::ClientSecretPost, ..) => {
                Err(format!(".method: `{method}` is for secrets; use `client_secrets` for them"))
            }
        }
    }
}
