//! [`ClientMetadata`]: the members of a request that creates or replaces a client (RFC 7591 §2), and the record that they make.

use serde_json::{Map, Value, json};

use super::view::{OF_CREDENTIAL, WRITABLE};
use super::{AdministrationRefusal, view};
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::registration::RegisteredClient;
use crate::secret::StoredSecret;

/// The members that describe one credential, for a client with a single one, as in RFC 7591 §2.
const CREDENTIAL_SHORTHAND: &[&str] = &["jwks", "jwks_uri", "spiffe_id", "token_endpoint_auth_signing_alg"];

/// Members of an answer that a caller may send back unchanged. They have no effect; another value of `enabled` is refused.
const READ_ONLY: &[&str] = &["client_id_issued_at", "client_secrets", "enabled"];

/// Client metadata of other specifications that has no meaning for a client without users. RFC 7591 §2: it is ignored. Every
/// other member is refused: a misspelled restriction must not be ignored.
const IGNORED: &[&str] = &[
    "application_type",
    "client_uri",
    "contacts",
    "logo_uri",
    "policy_uri",
    "redirect_uris",
    "response_types",
    "software_id",
    "software_version",
    "tos_uri",
];

/// The maximum number of secrets and credentials of a client.
pub(super) const MAX_CREDENTIALS: usize = 20;

/// The metadata of a client in a request. Only the names of the members were checked.
#[derive(Debug)]
pub(super) struct ClientMetadata {
    members: Map<String, Value>,
    pub(super) client_id: Option<ClientId>,
}

impl ClientMetadata {
    pub(super) fn read(body: &[u8]) -> Result<Self, AdministrationRefusal> {
        let mut members = object(body)?;
        let known = |name: &str| {
            let also = ["client_id", "grant_types", "credentials"];
            [WRITABLE, CREDENTIAL_SHORTHAND, READ_ONLY, IGNORED, &also].iter().any(|list| list.contains(&name))
        };
        refuse_unknown(members.keys(), known)?;
        // RFC 7592 §2.2: a member that is null is treated as omitted.
        members.retain(|_, value| !value.is_null());
        let client_id = match members.remove("client_id") {
            None => None,
            Some(Value::String(id)) => {
                let parsed = id.parse::<ClientId>();
                Some(parsed.map_err(|error| AdministrationRefusal::metadata(format!("client_id: {error}")))?)
            }
            Some(_) => return Err(AdministrationRefusal::metadata("client_id: must be a string")),
        };
        Ok(Self { members, client_id })
    }

    /// Returns whether the client authenticates with a secret, which the server then generates: unless there are credentials and
    /// no method for secrets.
    pub(super) fn needs_secret(&self) -> bool {
        let has_credentials = self.members.get("credentials").is_some_and(|list| list.as_array() != Some(&Vec::new()));
        let has_shorthand = CREDENTIAL_SHORTHAND.iter().any(|name| self.members.contains_key(*name));
        match self.members.get("token_endpoint_auth_method").and_then(Value::as_str) {
            Some(method) => method.starts_with("client_secret_b") || method.starts_with("client_secret_p"),
            None => !has_credentials && !has_shorthand,
        }
    }

    /// Returns the registration of a new client with this secret.
    pub(super) fn into_new(
        self,
        id: &ClientId,
        secret: Option<&StoredSecret>,
        now: UnixTime,
    ) -> Result<RegisteredClient, AdministrationRefusal> {
        self.check_enabled(true)?;
        let mut record = Map::new();
        record.insert("client_id".to_owned(), id.as_str().into());
        record.insert("client_id_issued_at".to_owned(), now.as_secs().into());
        if let Some(secret) = secret {
            let secret =
                json!({ "label": self.free_label(), "hash": secret.to_phc_string(), "created_at": now.as_secs() });
            record.insert("client_secrets".to_owned(), json!([secret]));
        }
        self.into_record(record)
    }

    /// Returns the lowest number that is not the label of a credential in the request.
    fn free_label(&self) -> String {
        let list = self.members.get("credentials").and_then(Value::as_array);
        let labels: Vec<&str> =
            list.into_iter().flatten().filter_map(|element| element.get("label")?.as_str()).collect();
        (1..=labels.len() + 1)
            .map(|number| number.to_string())
            .find(|label| !labels.contains(&label.as_str()))
            .unwrap_or_default()
    }

    /// Returns the registration of a client whose metadata is replaced. Its secrets, whether it is enabled, when it was
    /// registered, and the members of later releases stay.
    pub(super) fn into_replacement(self, client: &RegisteredClient) -> Result<RegisteredClient, AdministrationRefusal> {
        if self.client_id.as_ref().is_some_and(|id| id != client.id()) {
            return Err(AdministrationRefusal::metadata("client_id: must be that of the path (RFC 7592 section 2.2)"));
        }
        self.check_enabled(client.is_enabled())?;
        let mut record = view::record(client)?;
        for name in WRITABLE.iter().chain(&["grant", "must_understand"]) {
            record.remove(*name);
        }
        let replacement = self.into_record(record)?;
        let had_limit = !client.audiences().is_empty() || !client.may_use_grant();
        if had_limit && replacement.may_use_grant() && replacement.audiences().is_empty() {
            return Err(AdministrationRefusal::metadata(
                "audiences: missing; without them the client would get the server's default audience, which it may not have had",
            ));
        }
        Ok(replacement)
    }

    /// Checks that the request does not ask for another state than the one that results: a client that should be disabled must not
    /// be enabled.
    fn check_enabled(&self, results: bool) -> Result<(), AdministrationRefusal> {
        let Some(value) = self.members.get("enabled").filter(|value| **value != Value::Bool(results)) else {
            return Ok(());
        };
        let value = crate::quoted::shortened(&value.to_string());
        Err(AdministrationRefusal::metadata(format!(
            "enabled: found `{value}`, expected `{results}`, since this request does not change it; omit it, and send \
             `POST /{{client_id}}/{}`",
            if results { "disable" } else { "enable" }
        )))
    }

    /// Completes a record with the members of the request, and checks it as a whole.
    fn into_record(mut self, mut record: Map<String, Value>) -> Result<RegisteredClient, AdministrationRefusal> {
        let existing = match record.remove("credentials") {
            Some(Value::Array(existing)) => existing,
            _ => Vec::new(),
        };
        let credentials = self.credentials(&existing)?;
        if !credentials.is_empty() {
            record.insert("credentials".to_owned(), credentials.into());
        }
        for name in WRITABLE {
            if let Some(value) = self.members.remove(*name) {
                record.insert((*name).to_owned(), value);
            }
        }
        record.insert("grant".to_owned(), self.has_grant()?.into());
        let client = registered(record)?;
        check_size(&client)?;
        Ok(client)
    }

    /// Returns the elements of `credentials`. One that is sent as it was shown stays what it was.
    fn credentials(&mut self, registered: &[Value]) -> Result<Vec<Value>, AdministrationRefusal> {
        let shorthand: Map<_, _> =
            CREDENTIAL_SHORTHAND.iter().filter_map(|name| self.members.remove_entry(*name)).collect();
        let list = match (self.members.remove("credentials"), shorthand.is_empty()) {
            (None, true) => return Ok(Vec::new()),
            (None, false) => {
                let method = if shorthand.contains_key("spiffe_id") { "spiffe_jwt" } else { "private_key_jwt" };
                let mut element = shorthand;
                element.insert("method".to_owned(), method.into());
                keep_refresh(&mut element, registered);
                return Ok(vec![element.into()]);
            }
            (Some(Value::Array(list)), true) => list,
            (Some(_), false) => {
                return Err(AdministrationRefusal::metadata(
                    "credentials: `jwks`, `jwks_uri`, `spiffe_id` or `token_endpoint_auth_signing_alg` is present, too; put it \
                     into an element of `credentials`",
                ));
            }
            (Some(_), true) => return Err(AdministrationRefusal::metadata("credentials: must be an array")),
        };
        let of_registered = |element| credential(element, registered);
        list.into_iter().map(of_registered).collect()
    }

    fn has_grant(&self) -> Result<bool, AdministrationRefusal> {
        match self.members.get("grant_types") {
            None => Ok(true),
            Some(types) if *types == json!([]) => Ok(false),
            Some(types) if *types == json!(["client_credentials"]) => Ok(true),
            Some(_) => Err(AdministrationRefusal::metadata(
                "grant_types: must be [\"client_credentials\"], or [] for a client that gets no tokens",
            )),
        }
    }
}

/// Checks a record as a whole. An error begins with the path of its member.
pub(super) fn registered(record: Map<String, Value>) -> Result<RegisteredClient, AdministrationRefusal> {
    let id = record.get("client_id").and_then(Value::as_str).unwrap_or_default().to_owned();
    serde_json::from_value(record.into()).map_err(|error| {
        let text = error.to_string();
        let without_id = text.strip_prefix(&format!("client `{id}`: ")).unwrap_or(&text);
        AdministrationRefusal::metadata(without_id.to_owned())
    })
}

/// Checks an element of `credentials` and returns that of the record.
pub(super) fn credential(element: Value, registered: &[Value]) -> Result<Value, AdministrationRefusal> {
    if let Some(same) = registered.iter().find(|own| view::credential((*own).clone()) == element) {
        return Ok(same.clone());
    }
    let Value::Object(mut element) = element else {
        return Err(AdministrationRefusal::metadata("credentials: each element must be an object"));
    };
    refuse_unknown(element.keys(), |name| OF_CREDENTIAL.contains(&name) || name == "refreshed_at")?;
    element.retain(|name, value| !value.is_null() && name != "refreshed_at");
    keep_shared_secret(&mut element, registered);
    keep_refresh(&mut element, registered);
    Ok(element.into())
}

/// Keeps the time of the last refresh of the keys at the same URL, so that keys that were fetched before stay unusable. The label does
/// not matter: a replica has the keys by their URL.
fn keep_refresh(element: &mut Map<String, Value>, registered: &[Value]) {
    let Some(url) = element.get("jwks_uri") else { return };
    let same = registered.iter().filter(|own| own.get("jwks_uri") == Some(url));
    if let Some(latest) = same.filter_map(|own| own.get("refreshed_at")?.as_u64()).max() {
        element.insert("refreshed_at".to_owned(), latest.into());
    }
}

/// Keeps the encrypted secret of a credential for `client_secret_jwt` with the same label. It is not shown, and cannot be sent.
fn keep_shared_secret(element: &mut Map<String, Value>, registered: &[Value]) {
    let is_same = |own: &&Value| {
        ["label", "method"].iter().all(|name| own.get(name) == element.get(*name))
            && element.get("method").and_then(Value::as_str) == Some("client_secret_jwt")
    };
    let Some(own) = registered.iter().find(is_same).cloned() else { return };
    for name in ["encrypted_by", "encrypted_secret"] {
        if let Some(value) = own.get(name) {
            element.insert(name.to_owned(), value.clone());
        }
    }
}

/// Reads a JSON object.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, AdministrationRefusal> {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(AdministrationRefusal::request("the body must be a JSON object")),
        Err(_) => Err(AdministrationRefusal::request("the body must be a JSON object, and it is not valid JSON")),
    }
}

/// The maximum number of unknown members that a refusal names.
const MAX_NAMED: usize = 5;

pub(super) fn refuse_unknown<'a>(
    names: impl Iterator<Item = &'a String>,
    is_known: impl Fn(&str) -> bool,
) -> Result<(), AdministrationRefusal> {
    let unknown: Vec<String> =
        names.filter(|name| !is_known(name)).take(MAX_NAMED).map(|name| crate::quoted::quoted(name)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(AdministrationRefusal::metadata(format!(
        "unknown member: {}; correct its name, or remove it",
        unknown.join(", ")
    )))
}

/// The maximum size of a record, in bytes.
const MAX_RECORD_BYTES: usize = 64 * 1024;

/// Checks that a client does not grow without bounds by many small changes.
pub(super) fn check_size(client: &RegisteredClient) -> Result<(), AdministrationRefusal> {
    let credentials = client.secrets().len() + client.credentials().len();
    if credentials > MAX_CREDENTIALS {
        return Err(AdministrationRefusal::metadata(format!(
            "the client would have {credentials} secrets and credentials; at most {MAX_CREDENTIALS} are allowed; remove some first"
        )));
    }
    let size = serde_json::to_vec(&view::record(client)?).map_err(crate::store::StoreError::new)?.len();
    if size > MAX_RECORD_BYTES {
        return Err(AdministrationRefusal::metadata(format!(
            "the registration would have {size} bytes; at most {MAX_RECORD_BYTES} are allowed"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::ClientMetadata;
    use crate::client_id::ClientId;
    use crate::registration::{Client, RegisteredClient};
    use crate::secret::ClientSecret;

    const KEYS: &str =
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    fn read(body: &Value) -> Result<ClientMetadata, String> {
        ClientMetadata::read(body.to_string().as_bytes()).map_err(|refusal| refusal.to_string())
    }

    fn new(body: &Value) -> Result<RegisteredClient, String> {
        let (id, now) = (ClientId::from_static("new"), crate::clock::UnixTime::from_secs(5).unwrap());
        read(body)?.into_new(&id, None, now).map_err(|refusal| refusal.to_string())
    }

    fn keys() -> Value {
        serde_json::from_str(KEYS).unwrap()
    }

    #[test]
    fn unknown_members_are_refused_by_name_and_those_without_meaning_here_are_ignored() {
        let client = new(&json!({"redirect_uris": ["https://a/b"], "contacts": ["a@b"], "scope": null})).unwrap();
        assert!(client.scopes().is_empty());
        for name in ["audience", "client_secret", "hash", "version", "must_understand", "grant", "networks"] {
            for value in [json!(["x"]), Value::Null] {
                let why = new(&json!({name: value})).unwrap_err();
                assert!(why.contains(&format!("unknown member: \"{name}\"")), "{why}");
            }
        }
        let why =
            new(&json!({"credentials": [{"method": "private_key_jwt", "jwks": keys(), "hash": "x"}]})).unwrap_err();
        assert!(why.contains("\"hash\""), "{why}");
    }

    #[test]
    fn a_mistake_has_the_path_of_its_member() {
        for (body, says) in [
            (json!({"scope": ["a"]}), "scope: invalid type"),
            (json!({"audiences": ["https://a", "api"]}), "audiences[1]: `api` is not"),
            (json!({"grant_types": ["authorization_code"]}), "grant_types: must be"),
            (json!({"client_id": 5}), "client_id: must be a string"),
            (json!({"client_id": "a\nb"}), "client_id: "),
            (json!({"jwks": {"keys": []}}), "credentials[0].jwks: "),
            (json!({"jwks": keys(), "credentials": []}), "credentials: `jwks`"),
            (json!({"credentials": {}}), "credentials: must be an array"),
            (json!({"jwks_uri": "http://a.example/jwks"}), "credentials[0].jwks_uri: "),
            (json!({"token_endpoint_auth_method": "none"}), "token_endpoint_auth_method: unsupported"),
            (json!({"metadata": {"a": "x".repeat(5_000)}}), "metadata: "),
            (json!({"may_grant": {"audiences": ["api"]}}), "may_grant.audiences[0]: `api`"),
        ] {
            let why = new(&body).unwrap_err();
            assert!(why.contains(says), "{body}: {why}");
        }
        for body in ["", "[]", "{", "\"a\""] {
            let why = ClientMetadata::read(body.as_bytes()).unwrap_err();
            assert_eq!(why.code(), "invalid_request", "{body}");
        }
    }

    #[test]
    fn a_secret_is_needed_unless_the_client_has_another_credential() {
        for (body, needed) in [
            (json!({}), true),
            (json!({"credentials": []}), true),
            (json!({"token_endpoint_auth_method": "client_secret_post"}), true),
            (json!({"jwks": keys()}), false),
            (json!({"jwks_uri": "https://a/b"}), false),
            (json!({"spiffe_id": "spiffe://a/b"}), false),
            (json!({"token_endpoint_auth_method": "private_key_jwt", "jwks": keys()}), false),
            (json!({"token_endpoint_auth_method": "client_secret_basic", "jwks": keys()}), true),
        ] {
            assert_eq!(read(&body).unwrap().needs_secret(), needed, "{body}");
        }
        assert_eq!(new(&json!({"spiffe_id": "spiffe://a/b"})).unwrap().authentication().name(), "spiffe_jwt");
    }

    #[test]
    fn a_replacement_keeps_the_secrets_the_state_and_the_members_of_later_releases() {
        let client = Client::new("billing", ClientSecret::generate().unwrap())
            .audience("https://api.example")
            .name("Billing")
            .token_lifetime(std::time::Duration::from_secs(60))
            .issued_at(std::time::UNIX_EPOCH)
            .disabled()
            .register()
            .unwrap();
        let mut record = super::view::record(&client).unwrap();
        record.insert("later_member".to_owned(), json!({"a": 1}));
        let client: RegisteredClient = serde_json::from_value(record.into()).unwrap();
        let body = json!({"audiences": ["https://api.example", "https://other.example"], "scope": "read"});
        let replaced = read(&body).unwrap().into_replacement(&client).unwrap();
        assert_eq!(replaced.secrets(), client.secrets());
        for (state, is_refused) in [(json!(true), true), (json!("false"), true), (json!(false), false)] {
            let mut with_state = body.clone();
            with_state["enabled"] = state;
            assert_eq!(read(&with_state).unwrap().into_replacement(&client).is_err(), is_refused, "{with_state}");
        }
        assert!(!replaced.is_enabled() && replaced.name().is_none() && replaced.token_lifetime().is_none());
        assert_eq!((replaced.issued(), replaced.scopes().as_str()), (client.issued(), "read"));
        assert!(serde_json::to_string(&replaced).unwrap().contains(r#""later_member":{"a":1}"#));

        let other = json!({"client_id": "other", "audiences": ["https://api.example"]});
        assert!(read(&other).unwrap().into_replacement(&client).is_err());
        let lost = read(&json!({})).unwrap().into_replacement(&client).unwrap_err();
        assert!(lost.description().starts_with("audiences: missing"), "{lost}");
        assert!(read(&json!({"grant_types": []})).unwrap().into_replacement(&client).is_ok());
    }

    #[test]
    fn an_encrypted_secret_is_neither_shown_nor_taken_from_a_request_and_stays_with_its_label() {
        let record = json!({
            "client_id": "billing",
            "version": 2,
            "must_understand": ["credentials"],
            "audiences": ["https://api.example"],
            "credentials": [
                {"label": "1", "method": "client_secret_jwt", "encrypted_by": "k", "encrypted_secret": "c2VhbGVk"},
            ],
        });
        let client: RegisteredClient = serde_json::from_value(record).unwrap();
        let shown = Value::from(super::view::of(&client).unwrap());
        assert_eq!(shown["credentials"], json!([{"label": "1", "method": "client_secret_jwt"}]));
        assert_eq!(read(&shown).unwrap().into_replacement(&client).unwrap(), client);

        let mut ending = shown.clone();
        ending["credentials"][0]["expires_at"] = 4_000_000_000_u64.into();
        let changed = serde_json::to_value(read(&ending).unwrap().into_replacement(&client).unwrap()).unwrap();
        assert_eq!(changed["credentials"][0]["encrypted_secret"], "c2VhbGVk", "{changed}");
        assert_eq!(changed["credentials"][0]["expires_at"], 4_000_000_000_u64);

        // Another client, or another label, does not get it.
        assert!(new(&json!({"credentials": shown["credentials"]})).is_err());
        let mut renamed = shown.clone();
        renamed["credentials"][0]["label"] = "2".into();
        assert!(read(&renamed).unwrap().into_replacement(&client).is_err());
        let mut sent = shown;
        sent["credentials"][0]["encrypted_secret"] = "b3RoZXI".into();
        let why = read(&sent).unwrap().into_replacement(&client).unwrap_err();
        assert!(why.description().contains("\"encrypted_secret\""), "{why}");
    }

    #[test]
    fn a_client_that_is_sent_back_as_it_was_shown_does_not_change() {
        let url = crate::registration::Credential::jwks_uri("https://keys.example/a").unwrap();
        let client = Client::new("billing", ClientSecret::generate().unwrap())
            .credential(crate::registration::Credential::jwks(KEYS).unwrap())
            .credential(url.refreshed_at(std::time::UNIX_EPOCH + std::time::Duration::from_secs(9)).unwrap())
            .scope(crate::scope::Scope::from_static("read"))
            .audience("https://api.example")
            .name("Billing")
            .metadata([("a", "b")])
            .may_grant(crate::registration::MayGrant::everything())
            .register()
            .unwrap();
        let shown = Value::from(super::view::of(&client).unwrap());
        assert_eq!(read(&shown).unwrap().into_replacement(&client).unwrap(), client, "{shown}");

        // The time of a refresh cannot be changed.
        let mut older = shown;
        older["credentials"][1]["refreshed_at"] = 1.into();
        older["credentials"][1]["expires_at"] = 4_000_000_000_u64.into();
        let changed = read(&older).unwrap().into_replacement(&client).unwrap();
        let record = serde_json::to_value(&changed).unwrap();
        assert_eq!(record["credentials"][1]["refreshed_at"], 9, "{record}");
    }

    #[test]
    fn a_refresh_of_the_keys_at_a_url_is_not_undone_by_a_change_that_keeps_the_url() {
        let of_url = |url: &str| crate::registration::Credential::jwks_uri(url).unwrap();
        let at = |seconds| std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let url = "https://keys.example/a";
        let client = Client::with_credential("billing", of_url(url).refreshed_at(at(7)).unwrap())
            .credential(of_url(url).refreshed_at(at(9)).unwrap())
            .credential(of_url(url))
            .credential(of_url("https://keys.example/b").refreshed_at(at(11)).unwrap())
            .audience("https://api.example")
            .register()
            .unwrap();
        let refreshed = |client: &RegisteredClient, number: usize| {
            serde_json::to_value(client).unwrap()["credentials"][number]["refreshed_at"].clone()
        };
        let with = |members: Value| {
            let mut body = json!({"audiences": ["https://api.example"]});
            body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            read(&body).unwrap().into_replacement(&client).unwrap()
        };
        let element = |url: &str| json!({"method": "private_key_jwt", "jwks_uri": url});
        let labelled = |label: &str| json!({"label": label, "method": "private_key_jwt", "jwks_uri": url});
        for (credentials, expected) in [
            (vec![element(url)], json!(9)),
            (vec![labelled("new")], json!(9)),
            (vec![labelled("1")], json!(9)),
            (vec![labelled("4")], json!(9)),
            (vec![element("https://keys.example/b")], json!(11)),
            (vec![element("https://keys.example/c")], Value::Null),
        ] {
            let body = json!({ "credentials": credentials });
            assert_eq!(refreshed(&with(body), 0), expected, "{credentials:?}");
        }
        assert_eq!(refreshed(&with(json!({ "jwks_uri": url })), 0), 9);
        assert_eq!(refreshed(&with(json!({ "jwks_uri": "https://keys.example/c" })), 0), Value::Null);

        // The old credential can then be removed.
        let added = super::super::operations::with_credential(&client, labelled("new").to_string().as_bytes()).unwrap();
        assert_eq!(refreshed(&added, 4), 9);
        // Values that a request has are ignored.
        let mut sent = element(url);
        sent["refreshed_at"] = 5.into();
        assert_eq!(refreshed(&with(json!({ "credentials": [sent] })), 0), 9);
        sent = element("https://keys.example/c");
        sent["refreshed_at"] = 5.into();
        assert_eq!(refreshed(&with(json!({ "credentials": [sent] })), 0), Value::Null);
    }
}
