//! The record of a [`Credential`], an element of `credentials` in the record of a client.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record_path::at;
use super::{ClientAuthMethod, Credential, CredentialKind};
use crate::clock::UnixTime;
use crate::keys::Algorithm;

/// The members of a credential, before they are checked together. Their names are those of RFC 7591 §2 where it defines
/// one.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CredentialRecord {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    label: String,
    method: ClientAuthMethod,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jwks: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_endpoint_auth_signing_alg: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
}

impl From<&Credential> for CredentialRecord {
    fn from(credential: &Credential) -> Self {
        let record = Self {
            label: credential.label().to_owned(),
            method: credential.method(),
            jwks: None,
            token_endpoint_auth_signing_alg: None,
            expires_at: credential.expires().map(|time| UnixTime::at(time).as_secs()),
        };
        match credential.kind() {
            CredentialKind::Keys(keys) => Self {
                jwks: serde_json::from_str(keys.json()).ok(),
                token_endpoint_auth_signing_alg: keys.algorithm().map(|algorithm| algorithm.name().to_owned()),
                ..record
            },
        }
    }
}

impl CredentialRecord {
    /// Creates the credential. An error begins with the rest of its path.
    pub(super) fn checked(self) -> Result<Credential, String> {
        let mut credential = self.kind()?;
        if let Some(name) = &self.token_endpoint_auth_signing_alg {
            let path = ".token_endpoint_auth_signing_alg";
            let algorithm = Algorithm::from_name(name).ok_or("an unsupported algorithm; use for example `ES256`");
            credential = at(path, credential.signing_algorithm(at(path, algorithm)?))?;
        }
        if !self.label.is_empty() {
            credential = at(".label", credential.with_label(self.label))?;
        }
        let expiry = self.expires_at.map(|seconds| UnixTime::from_secs(seconds).ok_or("must be seconds since 1970"));
        Ok(credential.expiring(at(".expires_at", expiry.transpose())?))
    }

    fn kind(&self) -> Result<Credential, String> {
        match (self.method, &self.jwks) {
            (ClientAuthMethod::PrivateKeyJwt, Some(jwks)) => at(".jwks", Credential::jwks(jwks.to_string())),
            (ClientAuthMethod::PrivateKeyJwt, None) => {
                Err(".jwks: missing; `private_key_jwt` needs the client's public keys".to_owned())
            }
            (method, _) if method.is_secret() => {
                Err(format!(".method: `{method}` is for secrets; use `client_secrets` for them"))
            }
            (method, _) => Err(format!(".method: `{method}` is not supported")),
        }
    }
}
