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

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::de::{Error as _, Visitor};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_path_to_error::{Path, Segment, Track};
use zeroize::Zeroizing;

use super::credential_record::CredentialRecord;
use super::other_members::OtherMembers;
use super::record_path::at;
use super::{Client, ClientAuthMethod, ClientError, RegisteredClient, RegisteredSecret};
use crate::audience::{Audience, InvalidAudience};
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::object::Object;
use crate::quoted::shortened;
use crate::scope::{InvalidScope, Scope, Scopes};
use crate::secret::{ClientSecret, StoredSecret};
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
    /// Absent in a record that the first release can read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    /// The names of the new members without which the record must not be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    must_understand: Vec<String>,
    #[serde(flatten)]
    other: OtherMembers,
}

/// The version of a record that has new members.
const VERSION: u64 = 2;

/// The members of the first release (f06e5ac), and the two that describe the version.
const MEMBERS: [&str; 14] = [
    "client_id",
    "client_secrets",
    "token_endpoint_auth_method",
    "scope",
    "default_scope",
    "audiences",
    "default_audience",
    "subject",
    "token_lifetime",
    "introspects",
    "grant",
    "enabled",
    "version",
    "must_understand",
];

/// The members that were added after the first release. A record that uses one lists it in `must_understand`.
const NEW_MEMBERS: &[NewMember] = &[
    NewMember { name: "credentials", is_used: |record| !record.credentials.is_empty() },
    NewMember { name: "legacy_assertions_until", is_used: |record| record.legacy_assertions_until.is_some() },
];

struct NewMember {
    name: &'static str,
    is_used: fn(&Record) -> bool,
}

fn is_known(member: &str) -> bool {
    MEMBERS.contains(&member) || NEW_MEMBERS.iter().any(|new| new.name == member)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretRecord {
    label: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<Unshown>,
    /// A secret in plain text. It is hashed when the record is read, and never written.
    #[serde(default, skip_serializing)]
    dangerous_plain: Option<Unshown>,
    /// Whether the secret in plain text is random, and stored as a digest. Only read: a written record contains the
    /// digest, which means the same.
    #[serde(default, skip_serializing)]
    random: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
}

fn yes() -> bool {
    true
}

/// A text that no error message contains, even if it is in the wrong place, or not a string.
struct Unshown(Zeroizing<String>);

impl Serialize for Unshown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Unshown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnshownText)
    }
}

struct UnshownText;

impl UnshownText {
    fn refuse<E: serde::de::Error>() -> Result<Unshown, E> {
        Err(E::custom("a secret or hash must be a string; put it in quotes"))
    }
}

impl Visitor<'_> for UnshownText {
    type Value = Unshown;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Unshown, E> {
        Ok(Unshown(Zeroizing::new(text.to_owned())))
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Unshown, E> {
        Ok(Unshown(Zeroizing::new(text)))
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Unshown, E> {
        Self::refuse()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Unshown, E> {
        Self::refuse()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Unshown, E> {
        Self::refuse()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Unshown, E> {
        Self::refuse()
    }
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
        let of = &self.registration;
        let texts = |audiences: &[Audience]| audiences.iter().map(ToString::to_string).collect();
        let mut record = Record {
            client_id: self.id.to_string(),
            client_secrets: of.secrets.iter().map(SecretRecord::from).map(Object).collect(),
            token_endpoint_auth_method: shorthand(self),
            credentials: self.credentials().iter().map(CredentialRecord::from).map(Object).collect(),
            legacy_assertions_until: self.legacy_until().map(UnixTime::as_secs),
            scope: of.scopes.to_string(),
            default_scope: of.default_scopes.as_ref().map(ToString::to_string),
            audiences: texts(&of.audiences),
            default_audience: of.default_audience.as_ref().map(ToString::to_string),
            subject: of.subject.clone(),
            token_lifetime: of.token_lifetime.map(|lifetime| lifetime.to_duration().as_secs()),
            introspects: texts(&of.introspects),
            grant: of.may_use_grant,
            enabled: of.enabled,
            version: None,
            must_understand: Vec::new(),
            other: of.other.as_deref().cloned().unwrap_or_default(),
        };
        record.mark_version(NEW_MEMBERS);
        record.serialize(serializer)
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
            D::Error::custom(match member(&track.path()) {
                Some(path) => format!("{path}: {why}"),
                None => why,
            })
        })?;
        record.register().map_err(D::Error::custom)
    }
}

/// Reads a record in JSON from a store. The path of a member is determined only for an invalid record, because that
/// takes time.
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite", test))]
pub(crate) fn from_json(text: &str) -> Result<RegisteredClient, InvalidRecord> {
    if let Ok(Object(record)) = serde_json::from_str::<Object<Record>>(text) {
        return Ok(record.register()?);
    }
    serde_json::from_str(text).map_err(|error| {
        let id = serde_json::from_str::<Object<Named>>(text).map(|Object(named)| named.client_id);
        let id = id.ok().and_then(|id| id.parse::<ClientId>().ok());
        InvalidRecord::Malformed(match id {
            Some(id) => format!("client `{id}`: {error}"),
            None => format!("a client's record: {error}"),
        })
    })
}

/// The error for an invalid record.
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite", test))]
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidRecord {
    #[error("{0}")]
    Malformed(String),
    #[error(transparent)]
    Client(#[from] ClientError),
}

#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite", test))]
#[derive(Deserialize)]
struct Named {
    client_id: String,
}

/// Returns the path of a member in its record, or `None` for the record itself.
pub(crate) fn member(path: &Path) -> Option<String> {
    let mut text = String::new();
    for segment in path {
        match segment {
            // A member that `toml` uses internally for a value with its position.
            Segment::Map { key } if key.starts_with("$__") => {}
            Segment::Map { key } if text.is_empty() => text.push_str(key),
            Segment::Map { key } => text.extend([".", key]),
            Segment::Seq { index } => text.extend(["[", &index.to_string(), "]"]),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    Some(text).filter(|text| !text.is_empty())
}

/// Removes the value that serde quotes, since it may be a secret.
pub(crate) fn without_value(message: &str) -> String {
    let message = message.trim_end();
    let has_value = ["invalid ", "unknown variant "].iter().any(|start| message.starts_with(start));
    let end = match message.rfind(", expected ") {
        Some(expected) => expected.checked_sub(1),
        None => message.rfind('"'),
    };
    match (message.find(['"', '`']), end) {
        (Some(start), Some(end)) if has_value && start < end => {
            let (before, after) = (message.get(..=start), message.get(end..));
            format!("{}…{}", before.unwrap_or_default(), after.unwrap_or_default())
        }
        _ => message.to_owned(),
    }
}

impl Record {
    /// Sets the version that the members need, and lists the new ones.
    fn mark_version(&mut self, new: &[NewMember]) {
        self.must_understand = new.iter().filter(|new| (new.is_used)(self)).map(|new| new.name.to_owned()).collect();
        self.version = (!self.must_understand.is_empty() || !self.other.is_empty()).then_some(VERSION);
    }

    /// Returns a member that makes a record without `version` invalid, and the error with the path of the member.
    pub(crate) fn unknown_member(&self) -> Option<(&str, String)> {
        let unknown = self.other.first().filter(|_| self.version.is_none_or(|version| version < VERSION))?;
        let known = MEMBERS.iter().copied().chain(NEW_MEMBERS.iter().map(|new| new.name));
        let known = known.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let name = shown(unknown);
        Some((unknown, format!("{name}: unknown field `{name}`, expected one of {known}")))
    }

    /// Returns an error if this release could misread the record.
    fn check_version(&self) -> Result<(), String> {
        if let Some(version) = self.version.filter(|version| !(1..=VERSION).contains(version)) {
            return Err(format!(
                "version: this release reads records up to version {VERSION}, found version {version}; use a newer release"
            ));
        }
        if let Some(unknown) = self.must_understand.iter().find(|name| !is_known(name)) {
            return Err(format!(
                "must_understand: this release does not know the member `{}`, and so must not use the client; use the \
                 release that wrote the record, or remove the member",
                shown(unknown)
            ));
        }
        self.unknown_member().map_or(Ok(()), |(_, why)| Err(why))
    }

    /// Creates the client with the public setters, so that the same rules apply to a record.
    pub(crate) fn register(self) -> Result<RegisteredClient, ClientError> {
        let id = self.client_id.clone();
        self.checked().map_err(|mistake| ClientError::of_record(id, mistake))
    }

    fn checked(self) -> Result<RegisteredClient, String> {
        at("client_id", self.client_id.parse::<ClientId>())?;
        self.check_version()?;
        let mut client = Client::blank(self.client_id)
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

/// Returns the name of a member, escaped and truncated.
fn shown(member: &str) -> String {
    shortened(&member.escape_debug().to_string())
}

fn audiences(list: &str, texts: &[String]) -> Result<Vec<Audience>, String> {
    let audience = |(number, text): (usize, &String)| at(&format!("{list}[{number}]"), checked(text));
    texts.iter().enumerate().map(audience).collect()
}

fn checked(audience: &str) -> Result<Audience, String> {
    audience.parse().map_err(|error: InvalidAudience| format!("`{audience}` is {error}"))
}

fn scopes(joined: &str) -> Result<Vec<Scope>, InvalidScope> {
    joined.split(' ').filter(|scope| !scope.is_empty()).map(str::parse).collect()
}

impl From<&RegisteredSecret> for SecretRecord {
    fn from(secret: &RegisteredSecret) -> Self {
        let seconds = |time: Option<SystemTime>| time.map(|time| UnixTime::at(time).as_secs());
        Self {
            label: secret.label().to_owned(),
            hash: Some(Unshown(Zeroizing::new(secret.stored().to_phc_string()))),
            dangerous_plain: None,
            random: false,
            created_at: seconds(secret.created()),
            expires_at: seconds(secret.expires()),
        }
    }
}

impl SecretRecord {
    /// Creates the secret. An error begins with the rest of its path.
    fn checked(self) -> Result<RegisteredSecret, String> {
        let stored = match (self.hash, self.dangerous_plain) {
            (Some(_), None) if self.random => {
                    Err(".random: only valid with `dangerous_plain`; use the digest `$sha256$…` as the `hash` of a random secret"
                    .to_owned())
            }
            (Some(hash), None) => at(".hash", hash.0.parse::<StoredSecret>()),
            (None, Some(plain)) => {
                let plain = plain.0.as_str();
                let secret = if self.random { ClientSecret::assume_random(plain) } else { ClientSecret::new(plain) };
                at(".dangerous_plain", secret.and_then(StoredSecret::try_from))
            }
                _ => Err(": a secret must have either `hash` or `dangerous_plain`".to_owned()),
        };
        let secret = at(".label", RegisteredSecret::new(self.label, stored?))?;
        let secret = secret.with_times(self.created_at, self.expires_at);
        secret.ok_or_else(|| ": times must be seconds since 1970".to_owned())
    }
}

impl Serialize for ClientAuthMethod {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for ClientAuthMethod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let method = Self::ALL.into_iter().find(|method| method.name() == name);
        method.ok_or_else(|| {
            let names = Self::ALL.map(|method| format!("`{method}`")).join(", ");
            D::Error::custom(format_args!("unsupported method; use one of {names}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::Record;
    use crate::object::Object;
    use crate::registration::{RegisteredClient, RegisteredSecret};
    #[cfg(feature = "argon2")]
    use crate::secret::Presented;
    use crate::{Client, ClientAuthMethod, ClientSecret, Scope};

    #[test]
    fn a_record_contains_the_whole_registration() {
        let secret = RegisteredSecret::new("b", ClientSecret::generate().unwrap()).unwrap();
        let client = Client::new("billing", ClientSecret::generate().unwrap())
            .registered_secret(secret.created_at(UNIX_EPOCH).expires_at(UNIX_EPOCH + Duration::from_secs(9)))
            .authentication(ClientAuthMethod::ClientSecretPost)
            .scopes([Scope::from_static("read"), Scope::from_static("write")])
            .default_scopes(Scope::from_static("read"))
            .audience("https://one.example")
            .default_audience("https://two.example")
            .subject("svc:billing")
            .token_lifetime(Duration::from_secs(60))
            .introspects("https://one.example")
            .without_grant()
            .disabled()
            .register()
            .unwrap();
        let record = serde_json::to_string(&client).unwrap();
        assert_eq!(serde_json::from_str::<RegisteredClient>(&record).unwrap(), client, "{record}");
    }

    /// An older version that reads a shared store refuses unknown members.
    #[test]
    fn a_record_is_written_with_exactly_these_bytes() {
        let hash = "$sha256$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let secret = RegisteredSecret::new("b", hash.parse::<crate::secret::StoredSecret>().unwrap()).unwrap();
        let least = Client::blank("reports".to_owned()).register().unwrap();
        assert_eq!(
            serde_json::to_string(&least).unwrap(),
            r#"{"client_id":"reports","client_secrets":[],"token_endpoint_auth_method":"client_secret_basic"}"#
        );
        let most = Client::blank("billing".to_owned())
            .registered_secret(secret.created_at(UNIX_EPOCH).expires_at(UNIX_EPOCH + Duration::from_secs(9)))
            .authentication(ClientAuthMethod::ClientSecretPost)
            .scopes([Scope::from_static("read"), Scope::from_static("write")])
            .default_scopes(Scope::from_static("read"))
            .audience("https://one.example")
            .default_audience("https://two.example")
            .subject("svc:billing")
            .token_lifetime(Duration::from_secs(60))
            .introspects("https://one.example")
            .without_grant()
            .disabled()
            .register()
            .unwrap();
        assert_eq!(
            serde_json::to_string(&most).unwrap(),
            [
                r#"{"client_id":"billing","client_secrets":[{"label":"b","hash":""#,
                hash,
                r#"","created_at":0,"expires_at":9}],"token_endpoint_auth_method":"client_secret_post","#,
                r#""scope":"read write","default_scope":"read","audiences":["https://one.example","https://two.example"],"#,
                r#""default_audience":"https://two.example","subject":"svc:billing","token_lifetime":60,"#,
                r#""introspects":["https://one.example"],"grant":false,"enabled":false}"#,
            ]
            .concat()
        );
    }

    #[test]
    fn the_list_of_known_members_is_complete() {
        let record = r#"{"client_id":"b","version":2,"note":1}"#;
        let Object(mut record) = serde_json::from_str::<Object<Record>>(record).unwrap();
        let text = || Some("a".to_owned());
        (record.scope, record.audiences, record.introspects) =
            ("a".to_owned(), vec![String::new()], vec![String::new()]);
        (record.default_scope, record.default_audience, record.subject) = (text(), text(), text());
        (record.token_lifetime, record.grant, record.enabled) = (Some(1), false, false);
        record.must_understand = vec!["note".to_owned()];
        record.token_endpoint_auth_method = Some(ClientAuthMethod::default());
        let key = crate::registration::Credential::spiffe_id("spiffe://a/b".parse().unwrap());
        record.credentials = vec![Object((&key).into())];
        record.legacy_assertions_until = Some(1);
        let written = serde_json::to_value(&record).unwrap();
        let unknown: Vec<_> = written.as_object().unwrap().keys().filter(|name| !super::is_known(name)).collect();
        assert_eq!(unknown, ["note"]);
        let new = super::NEW_MEMBERS.iter().map(|new| new.name);
        let missing = super::MEMBERS.into_iter().chain(new).find(|name| written.get(name).is_none());
        assert_eq!(missing, None);
    }

    #[test]
    fn a_record_that_uses_a_new_member_lists_it() {
        let Object(mut record) = serde_json::from_str::<Object<Record>>(r#"{"client_id":"b"}"#).unwrap();
        let new = |is_used| super::NewMember { name: "networks", is_used };
        record.mark_version(&[new(|_| true)]);
        assert_eq!((record.version, record.must_understand.as_slice()), (Some(2), ["networks".to_owned()].as_slice()));
        record.mark_version(&[new(|_| false)]);
        assert_eq!((record.version, record.must_understand.len()), (None, 0));
    }

    #[test]
    fn unknown_members_and_invalid_values_are_refused() {
        for (record, mistake) in [
            (r#"{"client_id":"b","allowed_ips":["10.0.0.1"]}"#, "unknown field `allowed_ips`"),
            (r#"{"client_id":""}"#, "client_id: not a client id"),
            (r#"{"client_id":5}"#, "client_id: invalid type: integer `…`, expected a string"),
            (r#"{"scope":"a"}"#, "missing field `client_id`"),
            (r#"{"client_id":"b","scope":"a\"b"}"#, "client `b`: scope: not a scope"),
            (r#"{"client_id":"b","scope":["a"]}"#, "scope: invalid type: sequence, expected a string"),
            (
                r#"{"client_id":"b","audiences":["https://a","api"]}"#,
                "client `b`: audiences[1]: `api` is not an audience",
            ),
            (r#"{"client_id":"b","audiences":["https://a",5]}"#, "audiences[1]: invalid type"),
            (r#"{"client_id":"b","default_audience":"api"}"#, "client `b`: default_audience: `api` is not an audience"),
            (r#"{"client_id":"b","introspects":["api"]}"#, "client `b`: introspects[0]: `api` is not an audience"),
            (r#"{"client_id":"b","default_scope":"read"}"#, "client `b`: default_scope: its default scope `read`"),
            (r#"{"client_id":"b","subject":""}"#, "client `b`: subject: must not be empty"),
            (r#"{"client_id":"b","token_lifetime":0}"#, "client `b`: token_lifetime: "),
            (
                r#"{"client_id":"b","token_lifetime":"hunter2"}"#,
                "token_lifetime: invalid type: string \"…\", expected u64",
            ),
            (r#"{"client_id":"b","enabled":"hunter2"}"#, "enabled: invalid type: string \"…\", expected a boolean"),
            (r#"{"client_id":"b","client_secrets":[{"label":"1","hash":"hunter2"}]}"#, "client_secrets[0].hash: "),
            (r#"{"client_id":"b","client_secrets":[{"label":"1","hash":"hunter2"}]}"#, "in plain text"),
            (
                r#"{"client_id":"b","client_secrets":[{"label":"1"}]}"#,
                "client_secrets[0]: a secret must have either `hash` or",
            ),
            (
                r#"{"client_id":"b","client_secrets":[{"label":"1","dangerous_plain":4815162342}]}"#,
                "client_secrets[0].dangerous_plain: a secret or hash must be a string; put it in quotes",
            ),
            (
                r#"{"client_id":"b","client_secrets":[{"label":"1","hash":4815162342}]}"#,
                "client_secrets[0].hash: a secret or hash must be a string; put it in quotes",
            ),
            (
                r#"{"client_id":"b","client_secrets":[{"label":"1","dangerous_plain":"tcc_hunter2"}]}"#,
                "client_secrets[0].dangerous_plain: ",
            ),
            (
                r#"{"client_id":"b","client_secrets":[{"label":"1","hsah":"hunter2"}]}"#,
                "client_secrets[0].hsah: unknown field",
            ),
            (
                r#"{"client_id":"b","client_secrets":"hunter2"}"#,
                "client_secrets: invalid type: string \"…\", expected a sequence at line 1 column",
            ),
            (
                r#"{"client_id":"b","client_secrets":["hunter2 \", expected \"x"]}"#,
                "client_secrets[0]: invalid type: string \"…\", expected an object",
            ),
            (
                r#"{"client_id":"b","client_secrets":4815162342}"#,
                "client_secrets: invalid type: integer `…`, expected a sequence",
            ),
            (
                r#"{"client_id":"b","token_endpoint_auth_method":"none"}"#,
                "token_endpoint_auth_method: unsupported method",
            ),
            (r#"["b"]"#, "sequence, expected an object"),
            (r#"{"client_id":"b","client_secrets":[["1","hunter2"]]}"#, "sequence, expected an object"),
        ] {
            let error = serde_json::from_str::<RegisteredClient>(record).unwrap_err().to_string();
            assert!(error.contains(mistake), "`{mistake}` is not in: {error}");
            assert!(!["hunter2", "4815162342"].iter().any(|secret| error.contains(secret)), "{error}");
            assert!(!error.contains("column 1 at line") && error.matches(" at line ").count() <= 1, "{error}");
        }
    }

    #[cfg(feature = "argon2")]
    #[test]
    fn a_secret_in_plain_text_is_hashed_when_read_and_has_a_member_named_dangerous() {
        let generated = ClientSecret::generate().unwrap();
        for (plain, scheme) in [("correct horse", "$argon2id$"), (generated.expose(), "$sha256$")] {
            let record =
                format!(r#"{{"client_id":"b","client_secrets":[{{"label":"1","dangerous_plain":"{plain}"}}]}}"#);
            let client: RegisteredClient = serde_json::from_str(&record).unwrap();
            let stored = client.secrets()[0].stored();
            assert!(stored.matches(&Presented::new(plain)));
            let written = serde_json::to_string(&client).unwrap();
            assert!(written.contains(&format!(r#""hash":"{scheme}"#)) && !written.contains(plain), "{written}");
            assert!(!written.contains("dangerous_plain") && !format!("{client:?}").contains(plain), "{written}");
        }
    }

    #[test]
    fn a_record_may_mark_a_secret_in_plain_text_as_random_and_is_written_without_a_new_member() {
        let plain = "jR3uWc0sYk8p4hT1nQ7vZ2xB6mD9fG5a-LqEoHiKwXs";
        let record = |secret: &str| {
            let record = format!(r#"{{"client_id":"b","client_secrets":[{{"label":"1",{secret}}}]}}"#);
            serde_json::from_str::<RegisteredClient>(&record)
        };
        let client = record(&format!(r#""dangerous_plain":"{plain}","random":true"#)).unwrap();
        let digest = ClientSecret::assume_random(plain).unwrap().to_stored().unwrap().to_phc_string();
        let written = serde_json::to_value(&client).unwrap();
        assert_eq!(written["client_secrets"], serde_json::json!([{"label": "1", "hash": digest}]));
        for (secret, mistake) in [
            (
                format!(r#""hash":"{digest}","random":true"#),
                "client_secrets[0].random: only valid with `dangerous_plain`",
            ),
            (r#""dangerous_plain":"hunter2","random":true"#.to_owned(), "at least 25"),
        ] {
            let error = record(&secret).unwrap_err().to_string();
            assert!(error.contains(mistake) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn duplicate_labels_of_secrets_are_refused() {
        let hash = ClientSecret::generate().unwrap().to_stored().unwrap().to_phc_string();
        let secret = format!(r#"{{"label":"1","hash":"{hash}"}}"#);
        let record = format!(r#"{{"client_id":"b","client_secrets":[{secret},{secret}]}}"#);
        let error = serde_json::from_str::<RegisteredClient>(&record).unwrap_err().to_string();
        assert!(error.contains("client_secrets[1].label: duplicate label `1`"), "{error}");
    }

    #[test]
    fn a_store_names_the_client_whose_record_is_invalid() {
        let why = |record: &str| super::from_json(record).unwrap_err().to_string();
        for (record, begins) in [
            (r#"{"client_id":"b","audiences":["api"]}"#, "client `b`: audiences[0]: `api` is not"),
            (r#"{"client_id":"b","audiences":[5]}"#, "client `b`: audiences[0]: invalid type"),
            (
                r#"{"client_id":"b","client_secrets":[{"label":5}]}"#,
                "client `b`: client_secrets[0].label: invalid type",
            ),
            (r#"{"client_id":5}"#, "a client's record: client_id: invalid type"),
            ("{", "a client's record: EOF while parsing"),
            ("[", "a client's record: invalid type: sequence, expected an object"),
            (
                r#"["arr2",[],"client_secret_basic","read write"]"#,
                "a client's record: invalid type: sequence, expected an object",
            ),
        ] {
            let why = why(record);
            assert!(why.starts_with(begins), "{why}");
        }
    }
}
