//! The record of a client: serializes and deserializes a [`RegisteredClient`] with serde, for example as JSON or TOML.
//!
//! An error message begins with the path of the member, such as `client_secrets[1].hash`.
//!
//! # Versions
//!
//! Replicas of several releases read and write the same records during an update, and after it was undone.
//!
//! | record | a member that this release does not know |
//! |---|---|
//! | without `version` | is an error: it may be a misspelled restriction |
//! | `version: 2`, the member is listed in `must_understand` | is an error, because it restricts the client or decides how it authenticates |
//! | `version: 2`, the member is not listed | is ignored, and written again when the client is changed |
//! | a later `version` | the record is refused |
//!
//! An error concerns only the client of the record: its requests get a 503.
//!
//! A registration that uses no new member is written without `version`, because the first release refuses every member
//! that it does not know. To add a member, add it to [`Record`] and to [`NEW_MEMBERS`].

#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite", test))]
mod from_json;
mod secret;
#[cfg(test)]
mod tests;
mod unshown;
mod version;
#[cfg(test)]
mod version_tests;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_path_to_error::Track;

#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite", test))]
pub(crate) use self::from_json::from_json;
use self::secret::SecretRecord;
use self::version::NEW_MEMBERS;
use super::credential::CredentialRecord;
use super::error_path::{at, member, without_value};
use super::other_members::OtherMembers;
use super::{Client, ClientAuthMethod, ClientError, ClientErrorKind, RegisteredClient};
use crate::audience::{Audience, InvalidAudience};
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::object::Object;
use crate::quoted::{LONGEST_ERROR, LONGEST_URL, OneLine};
use crate::registration::details::{check_metadata, check_name};
use crate::registration::may_grant::MayGrantRecord;
use crate::scope::{InvalidScope, Scope, Scopes};
use crate::token_lifetime::TokenLifetime;

/// The members of a record, before they are checked together.
#[derive(Serialize, Deserialize)]
pub(crate) struct Record {
    client_id: String,
    #[serde(default)]
    client_secrets: Vec<Object<SecretRecord>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_endpoint_auth_method: Option<ClientAuthMethod>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    credentials: Vec<Object<CredentialRecord>>,
    /// Seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    legacy_assertions_until: Option<u64>,
    /// Seconds since 1970. An observation of the server, which restricts nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    legacy_audience_used_at: Option<u64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    scope: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default_scope: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    audiences: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default_audience: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// In seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_lifetime: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    introspects: Vec<String>,
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    grant: bool,
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_name: Option<String>,
    /// Seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_id_issued_at: Option<u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    may_grant: Option<Object<MayGrantRecord>>,
    /// Absent in a record that the first release can read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    /// The names of the new members without which the record must not be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    must_understand: Vec<String>,
    #[serde(flatten)]
    other: OtherMembers,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde requires
fn is_yes(value: &bool) -> bool {
    *value
}

impl Serialize for RegisteredClient {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(plain) = self.credentials().iter().find(|credential| credential.has_plain_secret()) {
            return Err(S::Error::custom(format_args!(
                "client `{}`: its credential `{}` has a secret in plain text, which no store keeps; encrypt it with \
                 Client::encrypt_secrets",
                self.id,
                plain.label()
            )));
        }
        Record::of(self).serialize(serializer)
    }
}

/// Returns the record of a client as JSON, without secrets in plain text: it is to be shown or compared, and a credential with such a
/// secret cannot be read from it again.
pub(crate) fn record_without_plain_secrets(client: &RegisteredClient) -> serde_json::Result<serde_json::Value> {
    serde_json::to_value(Record::of(client))
}

impl Record {
    fn of(client: &RegisteredClient) -> Self {
        let of = &client.registration;
        let texts = |audiences: &[Audience]| audiences.iter().map(ToString::to_string).collect();
        let mut record = Self {
            client_id: client.id.to_string(),
            client_secrets: of.secrets.iter().map(SecretRecord::from).map(Object).collect(),
            token_endpoint_auth_method: shorthand(client),
            credentials: client.credentials().iter().map(CredentialRecord::from).map(Object).collect(),
            legacy_assertions_until: client.legacy_until().map(UnixTime::as_secs),
            legacy_audience_used_at: client.legacy_audience_use().map(UnixTime::as_secs),
            scope: of.scopes.to_string(),
            default_scope: of.default_scopes.as_ref().map(ToString::to_string),
            audiences: texts(&of.audiences),
            default_audience: of.default_audience.as_ref().map(ToString::to_string),
            subject: of.subject.clone(),
            token_lifetime: of.token_lifetime.map(|lifetime| lifetime.to_duration().as_secs()),
            introspects: texts(&of.introspects),
            grant: of.may_use_grant,
            enabled: of.enabled,
            client_name: client.name().map(str::to_owned),
            client_id_issued_at: client.issued().map(|time| UnixTime::at(time).as_secs()),
            metadata: of.details.as_ref().map(|details| details.metadata.clone()).unwrap_or_default(),
            may_grant: client.may_grant().map(MayGrantRecord::from).map(Object),
            version: None,
            must_understand: Vec::new(),
            other: of.other.as_deref().cloned().unwrap_or_default(),
        };
        record.mark_version(NEW_MEMBERS);
        record
    }
}

/// Returns `token_endpoint_auth_method` for the record of a client: nothing if the credentials have several methods, and
/// no secret has the method.
fn shorthand(client: &RegisteredClient) -> Option<ClientAuthMethod> {
    let method = client.authentication();
    let is_of_all = client.credentials().iter().all(|credential| credential.method() == method);
    (is_of_all || !client.secrets().is_empty()).then_some(method)
}

impl<'de> Deserialize<'de> for RegisteredClient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut track = Track::new();
        let record = Object::<Record>::deserialize(serde_path_to_error::Deserializer::new(deserializer, &mut track));
        let Object(record) = record.map_err(|error| {
            let why = without_value(&error.to_string());
            let text = match member(&track.path()) {
                Some(path) => format!("{path}: {why}"),
                None => why,
            };
            // It names unknown members, which can have any text.
            D::Error::custom(OneLine(&text, LONGEST_ERROR))
        })?;
        record.register().map_err(D::Error::custom)
    }
}

impl Record {
    /// Creates the client with the public setters, so that the same rules apply to a record.
    pub(crate) fn register(self) -> Result<RegisteredClient, ClientError> {
        let id = self.client_id.clone();
        self.checked().map_err(|mistake| ClientError::of(ClientErrorKind::Record, id, mistake))
    }

    fn checked(self) -> Result<RegisteredClient, String> {
        at("client_id", self.client_id.parse::<ClientId>())?;
        self.check_version()?;
        let mut client = Client::blank(self.client_id)
            .with_any_number_of_credentials()
            .scopes(at("scope", scopes(&self.scope))?)
            .enabled(self.enabled)
            .other_members(self.other);
        let mut labels = HashSet::new();
        for (number, Object(secret)) in self.client_secrets.into_iter().enumerate() {
            let secret = secret.checked().map_err(|mistake| format!("client_secrets[{number}]{mistake}"))?;
            if !labels.insert(secret.label().to_owned()) {
                let label = secret.label();
                return Err(format!(
                    "client_secrets[{number}].label: duplicate label `{label}`; give each secret a label of its own"
                ));
            }
            client = client.registered_secret(secret);
        }
        for (number, Object(credential)) in self.credentials.into_iter().enumerate() {
            let credential = credential.checked().map_err(|mistake| format!("credentials[{number}]{mistake}"))?;
            if !credential.label().is_empty() && !labels.insert(credential.label().to_owned()) {
                let label = credential.label();
                return Err(format!(
                    "credentials[{number}].label: duplicate label `{label}`; give each credential a label of its own"
                ));
            }
            client = client.credential(credential);
        }
        if let Some(seconds) = self.legacy_assertions_until {
            let time = UnixTime::from_secs(seconds).ok_or("must be seconds since 1970");
            client = client.legacy_assertions_until(at("legacy_assertions_until", time)?.to_system());
        }
        if let Some(seconds) = self.legacy_audience_used_at {
            let time = UnixTime::from_secs(seconds).ok_or("must be seconds since 1970");
            client = client.legacy_audience_used(at("legacy_audience_used_at", time)?);
        }
        if let Some(method) = self.token_endpoint_auth_method {
            at("token_endpoint_auth_method", client.check_method(method))?;
            client = client.authentication(method);
        }
        if let Some(defaults) = self.default_scope {
            client = client.default_scopes(at("default_scope", defaults.parse::<Scopes>())?);
        }
        if let Some(subject) = self.subject {
            at("subject", if subject.is_empty() { Err("must not be empty") } else { Ok(()) })?;
            client = client.subject(subject);
        }
        if let Some(seconds) = self.token_lifetime {
            let lifetime = Duration::from_secs(seconds);
            at("token_lifetime", TokenLifetime::new(lifetime))?;
            client = client.token_lifetime(lifetime);
        }
        if let Some(name) = self.client_name {
            at("client_name", check_name(&name))?;
            client = client.name(name);
        }
        if let Some(seconds) = self.client_id_issued_at {
            let time = UnixTime::from_secs(seconds).ok_or("must be seconds since 1970");
            client = client.issued_at(at("client_id_issued_at", time)?.to_system());
        }
        if !self.metadata.is_empty() {
            at("metadata", check_metadata(&self.metadata))?;
            client = client.metadata(self.metadata);
        }
        if let Some(Object(may_grant)) = self.may_grant {
            client = client.may_grant(may_grant.checked().map_err(|mistake| format!("may_grant{mistake}"))?);
        }
        if !self.grant {
            client = client.without_grant();
        }
        client = client.audiences(audiences("audiences", &self.audiences)?);
        if let Some(audience) = self.default_audience {
            client = client.default_audience(at("default_audience", checked(&audience))?);
        }
        client = client.introspects_all(audiences("introspects", &self.introspects)?);
        // All other members were checked above.
        client.register().map_err(|error| format!("default_scope: {}", error.mistake()))
    }
}

fn audiences(list: &str, texts: &[String]) -> Result<Vec<Audience>, String> {
    let audience = |(number, text): (usize, &String)| at(&format!("{list}[{number}]"), checked(text));
    texts.iter().enumerate().map(audience).collect()
}

fn checked(audience: &str) -> Result<Audience, String> {
    let shown = OneLine(audience, LONGEST_URL);
    audience.parse().map_err(|error: InvalidAudience| format!("`{shown}` is {error}"))
}

fn scopes(joined: &str) -> Result<Vec<Scope>, InvalidScope> {
    joined.split(' ').filter(|scope| !scope.is_empty()).map(str::parse).collect()
}
