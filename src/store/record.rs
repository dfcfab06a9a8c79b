//! A client as a record: [`RegisteredClient`] ↔ JSON, TOML and what else serde knows.
//!
//! A member that is not known is refused: it may be a restriction that a newer version of this crate has written.

use std::error::Error;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::{Client, ClientAuthMethod, RegisteredClient, RegisteredSecret};
use crate::audience::Audience;
use crate::clock::UnixTime;
use crate::object::Object;
use crate::scope::{InvalidScope, Scope, Scopes};
use crate::secret::{ClientSecret, SecretError, StoredSecret};

/// The members, before they are held together.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    client_id: String,
    #[serde(default)]
    client_secrets: Vec<Object<SecretRecord>>,
    #[serde(default)]
    token_endpoint_auth_method: ClientAuthMethod,
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
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretRecord {
    label: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<Unshown>,
    /// A secret in the clear. It is hashed as it is read, as long as no client signs with its own, and never written.
    #[serde(default, skip_serializing)]
    dangerous_plain: Option<Unshown>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
}

fn yes() -> bool {
    true
}

/// Text that no error shows, also when it stands where something else was expected, or is not text at all.
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
        Err(E::custom("a secret and a hash are text; put it into quotes"))
    }
}

impl Visitor<'_> for UnshownText {
    type Value = Unshown;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
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

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_yes(value: &bool) -> bool {
    *value
}

impl Serialize for RegisteredClient {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let of = &self.registration;
        let texts = |audiences: &[Audience]| audiences.iter().map(ToString::to_string).collect();
        let record = Record {
            client_id: self.id.to_string(),
            client_secrets: of.secrets.iter().map(SecretRecord::from).map(Object).collect(),
            token_endpoint_auth_method: of.method,
            scope: of.scopes.to_string(),
            default_scope: of.default_scopes.as_ref().map(ToString::to_string),
            audiences: texts(&of.audiences),
            default_audience: of.default_audience.as_ref().map(ToString::to_string),
            subject: of.subject.clone(),
            token_lifetime: of.token_lifetime.map(|lifetime| lifetime.to_duration().as_secs()),
            introspects: texts(&of.introspects),
            grant: of.may_use_grant,
            enabled: of.enabled,
        };
        record.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RegisteredClient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object::<Record>(record) =
            Object::deserialize(deserializer).map_err(|e| D::Error::custom(without_value(&e.to_string())))?;
        record.register().map_err(D::Error::custom)
    }
}

/// serde quotes what it did not expect, and that may have been a secret.
fn without_value(message: &str) -> String {
    let message = message.trim_end();
    match (message.find(['"', '`']), message.rfind(", expected ")) {
        (Some(start), Some(end)) if message.starts_with("invalid ") && start < end => {
            format!("{}…{}", message.get(..start).unwrap_or_default(), message.get(end..).unwrap_or_default())
        }
        _ => message.to_owned(),
    }
}

impl Record {
    /// By the setters that a program uses, so that a record is held to the same rules.
    pub(super) fn register(self) -> Result<RegisteredClient, Box<dyn Error>> {
        let mut client = Client::blank(self.client_id)
            .authentication(self.token_endpoint_auth_method)
            .scopes(scopes(&self.scope)?)
            .enabled(self.enabled);
        for Object(secret) in self.client_secrets {
            client = client.registered_secret(secret.try_into()?);
        }
        if let Some(defaults) = self.default_scope {
            client = client.default_scopes(defaults.parse::<Scopes>()?);
        }
        if let Some(subject) = self.subject {
            client = client.subject(subject);
        }
        if let Some(seconds) = self.token_lifetime {
            client = client.token_lifetime(Duration::from_secs(seconds));
        }
        if !self.grant {
            client = client.without_grant();
        }
        client = self.audiences.iter().fold(client, Client::audience);
        client = self.default_audience.iter().fold(client, Client::default_audience);
        Ok(self.introspects.iter().fold(client, Client::introspects).register()?)
    }
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
            created_at: seconds(secret.created()),
            expires_at: seconds(secret.expires()),
        }
    }
}

impl TryFrom<SecretRecord> for RegisteredSecret {
    type Error = SecretError;

    fn try_from(record: SecretRecord) -> Result<Self, SecretError> {
        let stored = match (record.hash, record.dangerous_plain) {
            (Some(hash), None) => hash.0.parse::<StoredSecret>(),
            (None, Some(plain)) => ClientSecret::new(plain.0.as_str()).and_then(StoredSecret::try_from),
            _ => Err(SecretError::new("a secret has one of `hash` and `dangerous_plain`")),
        };
        let secret = Self::new(record.label, stored?)?;
        let secret = secret.with_times(record.created_at, record.expires_at);
        secret.ok_or_else(|| SecretError::new("a secret's times are seconds since 1970"))
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
        method.ok_or_else(|| D::Error::custom("this method of client authentication is not supported"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    #[cfg(feature = "argon2")]
    use crate::secret::Presented;
    use crate::{Client, ClientAuthMethod, ClientSecret, RegisteredClient, RegisteredSecret, Scope};

    #[test]
    fn a_record_says_all_that_a_registration_says() {
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

    #[test]
    fn what_is_not_known_or_does_not_hold_together_is_refused() {
        for (record, mistake) in [
            (r#"{"client_id":"b","allowed_ips":["10.0.0.1"]}"#, "unknown field `allowed_ips`"),
            (r#"{"client_id":""}"#, "client id"),
            (r#"{"client_id":"b","audiences":["api"]}"#, "`api` is not an audience"),
            (r#"{"client_id":"b","default_scope":"read"}"#, "default scope `read`"),
            (r#"{"client_id":"b","client_secrets":[{"label":"1","hash":"hunter2"}]}"#, "in the clear"),
            (r#"{"client_id":"b","client_secrets":[{"label":"1"}]}"#, "one of `hash` and `dangerous_plain`"),
            (r#"{"client_id":"b","client_secrets":[{"label":"1","dangerous_plain":4815162342}]}"#, "into quotes"),
            (r#"{"client_id":"b","client_secrets":[{"label":"1","hash":4815162342}]}"#, "into quotes"),
            (r#"{"client_id":"b","client_secrets":[{"label":"1","dangerous_plain":"tcc_hunter2"}]}"#, "checksum"),
            (r#"{"client_id":"b","client_secrets":"hunter2"}"#, "string …, expected a sequence at line 1 column"),
            (r#"{"client_id":"b","client_secrets":["hunter2 \", expected \"x"]}"#, "string …, expected an object"),
            (r#"["b"]"#, "sequence, expected an object"),
            (r#"{"client_id":"b","client_secrets":[["1","hunter2"]]}"#, "sequence, expected an object"),
            (r#"{"client_id":"b","client_secrets":4815162342}"#, "integer …, expected a sequence"),
            (r#"{"client_id":"b","token_endpoint_auth_method":"none"}"#, "not supported"),
        ] {
            let error = serde_json::from_str::<RegisteredClient>(record).unwrap_err().to_string();
            assert!(error.contains(mistake), "{error}");
            assert!(!["hunter2", "4815162342"].iter().any(|secret| error.contains(secret)), "{error}");
        }
    }

    #[cfg(feature = "argon2")]
    #[test]
    fn a_secret_in_the_clear_is_hashed_as_it_is_read_and_only_under_its_dangerous_name() {
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
    fn two_secrets_of_one_label_are_refused() {
        let hash = ClientSecret::generate().unwrap().to_stored().unwrap().to_phc_string();
        let secret = format!(r#"{{"label":"1","hash":"{hash}"}}"#);
        let record = format!(r#"{{"client_id":"b","client_secrets":[{secret},{secret}]}}"#);
        let error = serde_json::from_str::<RegisteredClient>(&record).unwrap_err().to_string();
        assert!(error.contains("labelled `1`"), "{error}");
    }
}
