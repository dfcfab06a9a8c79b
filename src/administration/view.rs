//! The answers: what an administrator sees of a client. It never contains a secret or a digest of one.

use serde_json::{Map, Value};

use super::AdministrationRefusal;
use crate::registration::{RegisteredClient, record_without_plain_secrets};
use crate::store::StoreError;

/// The members of a request that are members of a record, too. Answers show them, so none of them may be a secret.
pub(super) const WRITABLE: &[&str] = &[
    "client_name",
    "token_endpoint_auth_method",
    "scope",
    "default_scope",
    "audiences",
    "default_audience",
    "introspects",
    "subject",
    "token_lifetime",
    "legacy_assertions_until",
    "metadata",
    "may_grant",
];

/// The same for an element of `credentials`.
pub(super) const OF_CREDENTIAL: &[&str] = &[
    "label",
    "method",
    "jwks",
    "jwks_uri",
    "token_endpoint_auth_signing_alg",
    "spiffe_id",
    "issuer",
    "subject",
    "claims",
    "expires_at",
];

/// The members of a record that an answer repeats, in lists. A member that is added to the record later is not shown until it is
/// added here or made writable, because it may be a secret.
const SHOWN: &[&[&str]] = &[&["client_id", "client_id_issued_at"], WRITABLE];

/// The same for an element of `credentials`, and for one of `client_secrets`.
const SHOWN_OF_CREDENTIAL: &[&[&str]] = &[&["refreshed_at"], OF_CREDENTIAL];
const SHOWN_OF_SECRET: &[&[&str]] = &[&["label", "created_at", "expires_at"]];

/// Returns the record of a client as JSON. A secret in plain text, which a store in memory can have, is not part of it.
pub(super) fn record(client: &RegisteredClient) -> Result<Map<String, Value>, AdministrationRefusal> {
    match record_without_plain_secrets(client) {
        Ok(Value::Object(record)) => Ok(record),
        Ok(_) => Err(StoreError::new("a record is not an object").into()),
        Err(error) => Err(StoreError::new(error).into()),
    }
}

/// Returns what an administrator sees of a client.
pub(super) fn of(client: &RegisteredClient) -> Result<Map<String, Value>, AdministrationRefusal> {
    let mut record = record(client)?;
    let mut shown = Map::new();
    for name in SHOWN.concat() {
        if let Some(value) = record.remove(name) {
            shown.insert(name.to_owned(), value);
        }
    }
    shown.entry("scope").or_insert_with(|| "".into());
    let grant_types: &[&str] = if client.may_use_grant() { &["client_credentials"] } else { &[] };
    shown.insert("grant_types".to_owned(), grant_types.into());
    shown.insert("enabled".to_owned(), client.is_enabled().into());
    shown.insert("credentials".to_owned(), elements(record.remove("credentials"), SHOWN_OF_CREDENTIAL));
    shown.insert("client_secrets".to_owned(), elements(record.remove("client_secrets"), SHOWN_OF_SECRET));
    Ok(shown)
}

fn elements(list: Option<Value>, names: &[&[&str]]) -> Value {
    let Some(Value::Array(list)) = list else { return Value::Array(Vec::new()) };
    list.into_iter().map(|element| element_of(element, names)).collect()
}

fn element_of(element: Value, names: &[&[&str]]) -> Value {
    let Value::Object(mut element) = element else { return Value::Null };
    element.retain(|name, _| names.iter().any(|names| names.contains(&name.as_str())));
    Value::Object(element)
}

/// Returns what an administrator sees of an element of `credentials` in a record.
pub(super) fn credential(element: Value) -> Value {
    element_of(element, SHOWN_OF_CREDENTIAL)
}

#[cfg(test)]
mod tests {
    use crate::registration::{Client, Credential, MayGrant};
    use crate::secret::ClientSecret;

    #[test]
    fn an_answer_shows_no_secret_and_no_digest_and_no_unknown_member() {
        let secret = ClientSecret::generate().unwrap();
        let client = Client::new("billing", &secret)
            .credential(Credential::spiffe_id("spiffe://a/b".parse().unwrap()))
            .name("Billing")
            .metadata([("team", "a")])
            .may_grant(MayGrant::everything())
            .audience("https://api.example")
            .register()
            .unwrap();
        let mut record = super::record(&client).unwrap();
        record.insert("later_member".to_owned(), "hunter2".into());
        let client = serde_json::from_value(record.into()).unwrap();
        let shown = serde_json::to_string(&super::of(&client).unwrap()).unwrap();
        let digest = secret.to_stored().unwrap().to_phc_string();
        assert!(!shown.contains(&digest) && !shown.contains("hash") && !shown.contains("sha256"), "{shown}");
        assert!(!shown.contains("hunter2") && !shown.contains("must_understand"), "{shown}");
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["client_secrets"], serde_json::json!([{"label": "1"}]));
        assert_eq!(
            shown["credentials"],
            serde_json::json!([{"label": "2", "method": "spiffe_jwt", "spiffe_id": "spiffe://a/b"}])
        );
        assert_eq!(shown["may_grant"], serde_json::json!({"everything": true}));
        assert_eq!(shown["grant_types"], serde_json::json!(["client_credentials"]));
    }
}
