//! A client as a record: [`RegisteredClient`] ↔ JSON, TOML and what else serde knows.
//!
//! A member that is not known is refused: it may be a restriction that a newer version of this crate has written.

use std::error::Error;
use std::time::{Duration, SystemTime};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Client, ClientAuthMethod, RegisteredClient, RegisteredSecret};
use crate::audience::Audience;
use crate::clock::UnixTime;
use crate::scope::{InvalidScope, Scope, Scopes};
use crate::secret::{SecretError, StoredSecret};

/// The members, before they are held together.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    client_id: String,
    #[serde(default)]
    client_secrets: Vec<SecretRecord>,
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
    hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_yes(value: &bool) -> bool {
    *value
}

impl Serialize for RegisteredClient {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let texts = |audiences: &[Audience]| audiences.iter().map(ToString::to_string).collect();
        let record = Record {
            client_id: self.id.to_string(),
            client_secrets: self.secrets.iter().map(SecretRecord::from).collect(),
            token_endpoint_auth_method: self.method,
            scope: self.scopes.to_string(),
            default_scope: self.default_scopes.as_ref().map(ToString::to_string),
            audiences: texts(&self.audiences),
            default_audience: self.default_audience.as_ref().map(ToString::to_string),
            subject: self.subject.clone(),
            token_lifetime: self.token_lifetime.map(|lifetime| lifetime.to_duration().as_secs()),
            introspects: texts(&self.introspects),
            grant: self.may_use_grant,
            enabled: self.enabled,
        };
        record.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RegisteredClient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Record::deserialize(deserializer)?.register().map_err(D::Error::custom)
    }
}

impl Record {
    /// By the setters that a program uses, so that a record is held to the same rules.
    pub(super) fn register(self) -> Result<RegisteredClient, Box<dyn Error>> {
        let mut client = Client::blank(self.client_id)
            .authentication(self.token_endpoint_auth_method)
            .scopes(scopes(&self.scope)?)
            .enabled(self.enabled);
        for secret in self.client_secrets {
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
            hash: secret.stored().to_phc_string(),
            created_at: seconds(secret.created()),
            expires_at: seconds(secret.expires()),
        }
    }
}

impl TryFrom<SecretRecord> for RegisteredSecret {
    type Error = SecretError;

    fn try_from(record: SecretRecord) -> Result<Self, SecretError> {
        let secret = Self::new(record.label, record.hash.parse::<StoredSecret>()?)?;
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
            (r#"{"client_id":"b","token_endpoint_auth_method":"none"}"#, "not supported"),
        ] {
            let error = serde_json::from_str::<RegisteredClient>(record).unwrap_err().to_string();
            assert!(error.contains(mistake) && !error.contains("hunter2"), "{error}");
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
