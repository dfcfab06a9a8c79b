//! Records that servers of two releases read and write.

use serde_json::{Value, json};

use super::from_json;
use crate::registration::{Client, RegisteredClient};
use crate::scope::Scope;
use crate::secret::ClientSecret;

const HASH: &str = "$sha256$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The reader of the first release, f06e5ac: the same members, and any other one is an error.
mod first_release {
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether a record can be read is of interest")]
    pub(super) struct Record {
        client_id: String,
        #[serde(default)]
        client_secrets: Vec<SecretRecord>,
        #[serde(default)]
        token_endpoint_auth_method: Method,
        #[serde(default)]
        scope: String,
        default_scope: Option<String>,
        #[serde(default)]
        audiences: Vec<String>,
        default_audience: Option<String>,
        subject: Option<String>,
        token_lifetime: Option<u64>,
        #[serde(default)]
        introspects: Vec<String>,
        grant: Option<bool>,
        enabled: Option<bool>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether a record can be read is of interest")]
    struct SecretRecord {
        label: String,
        hash: Option<String>,
        dangerous_plain: Option<String>,
        created_at: Option<u64>,
        expires_at: Option<u64>,
    }

    #[derive(Default, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Method {
        #[default]
        ClientSecretBasic,
        ClientSecretPost,
    }

    pub(super) fn can_read(record: &str) -> bool {
        serde_json::from_str::<Record>(record).is_ok()
    }
}

/// Written by f06e5ac on a Postgres, and read from the table: see `tests/old_release.rs`.
const WRITTEN_BY_THE_FIRST_RELEASE: [&str; 2] =
    [include_str!("first_release/least.json"), include_str!("first_release/most.json")];

#[test]
fn a_record_of_the_first_release_is_read_and_written_again_with_the_same_bytes() {
    for record in WRITTEN_BY_THE_FIRST_RELEASE.map(str::trim_end) {
        assert!(first_release::can_read(record), "{record}");
        let client = from_json(record).unwrap();
        assert_eq!(serde_json::to_string(&client).unwrap(), record);
    }
}

#[test]
fn the_first_release_reads_every_record_that_uses_nothing_new() {
    let most = from_json(WRITTEN_BY_THE_FIRST_RELEASE[1].trim_end()).unwrap();
    let rotated = most.edit().secret(ClientSecret::generate().unwrap()).scope(Scope::from_static("later"));
    let rotated = rotated.subject("svc:other").grant(true).enabled(true).register().unwrap();
    let new = Client::new("new", ClientSecret::generate().unwrap()).audience("https://api.example").register().unwrap();
    for client in [rotated, new] {
        let record = serde_json::to_string(&client).unwrap();
        assert!(first_release::can_read(&record), "{record}");
        assert!(!record.contains("version"), "{record}");
    }
}

/// Returns a record of a later release with these members.
fn later(members: Value) -> String {
    let mut record = json!({
        "client_id": "billing",
        "client_secrets": [{ "label": "1", "hash": HASH }],
        "scope": "read",
        "audiences": ["https://api.example"],
    });
    let Value::Object(members) = members else { panic!("not an object") };
    record.as_object_mut().unwrap().extend(members);
    record.to_string()
}

fn read(record: &str) -> Result<RegisteredClient, String> {
    from_json(record).map_err(|error| error.to_string())
}

#[test]
fn a_record_with_an_unknown_member_that_must_be_understood_is_refused_also_by_the_first_release() {
    for must_understand in [json!(["networks"]), json!(["scope", "networks"]), json!(["client_secrets.not_before"])] {
        let record =
            later(json!({ "version": 2, "must_understand": must_understand, "networks": ["10.0.0.0/8"], "note": "n" }));
        let why = read(&record).unwrap_err();
        assert!(why.starts_with("client `billing`: must_understand: this release does not know the member `"), "{why}");
        assert!(why.contains("use the release that wrote the record"), "{why}");
        assert!(!first_release::can_read(&record));
    }
    // The list decides, also without a version.
    assert!(read(&later(json!({ "must_understand": ["networks"] }))).is_err());
}

#[test]
fn an_unknown_member_that_need_not_be_understood_is_ignored_and_kept_by_a_change() {
    let others =
        json!({ "note": { "team": "b", "numbers": [1, 2.5, null, true] }, "rank": 18_446_744_073_709_551_615_u64 });
    let mut members = others.clone();
    members["version"] = json!(2);
    let record = later(members);
    let client = read(&record).unwrap();
    let plain = read(&later(json!({}))).unwrap();
    assert_eq!((client.scopes(), client.audiences()), (plain.scopes(), plain.audiences()));

    let changed = client.edit().scope(Scope::from_static("write")).without_secret("1").disabled().register().unwrap();
    let written: Value = serde_json::to_value(&changed).unwrap();
    assert_eq!((&written["note"], &written["rank"]), (&others["note"], &others["rank"]));
    assert_eq!((&written["version"], &written["scope"]), (&json!(2), &json!("read write")));
    assert_eq!(written.get("must_understand"), None, "nothing in it must be understood");
    assert_eq!(read(&written.to_string()).unwrap(), changed);
    assert!(!first_release::can_read(&written.to_string()), "it refuses the client instead of losing the members");
}

#[test]
fn the_value_of_an_unknown_member_is_not_in_the_debug_output() {
    let client = read(&later(json!({ "version": 2, "backup_secret": "hunter2" }))).unwrap();
    let debug = format!("{client:?}");
    assert!(debug.contains("backup_secret") && !debug.contains("hunter2"), "{debug}");
}

#[test]
fn a_later_version_and_a_misspelled_member_of_the_first_version_are_refused() {
    for (members, mistake) in [
        (json!({ "version": 3 }), "version: this release reads records up to version 2, found version 3"),
        (json!({ "version": 0 }), "version: this release reads records up to version 2, found version 0"),
        (json!({ "version": "2" }), "version: invalid type: string \"…\", expected u64"),
        (json!({ "enabeld": false }), "enabeld: unknown field `enabeld`, expected one of `client_id`, "),
        (json!({ "version": 1, "enabeld": false }), "enabeld: unknown field `enabeld`"),
        (json!({ "a\nb": 1 }), "a\\nb: unknown field `a\\nb`"),
        (json!({ "version": 2, "must_understand": "networks" }), "must_understand: invalid type: string"),
    ] {
        let why = read(&later(members)).unwrap_err();
        assert!(why.starts_with(&format!("client `billing`: {mistake}")), "{why}");
    }
    assert!(read(&later(json!({ "version": 1 }))).is_ok());
}

#[test]
fn a_record_that_only_declares_the_second_version_is_written_as_one_of_the_first() {
    let client = read(&later(json!({ "version": 2, "must_understand": [] }))).unwrap();
    let record = serde_json::to_string(&client).unwrap();
    assert!(first_release::can_read(&record), "{record}");
}
