//! Tests of the record of a client.

use std::time::{Duration, UNIX_EPOCH};

use super::version::{MEMBERS, NEW_MEMBERS, NewMember, is_known};
use super::{Record, from_json};
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
        .name("Abrechnung – München")
        .issued_at(UNIX_EPOCH + Duration::from_secs(5))
        .metadata([("team", "billing"), ("note", "")])
        .may_grant(crate::registration::MayGrant::new().scope(&Scope::from_static("read")))
        .register()
        .unwrap();
    let record = serde_json::to_string(&client).unwrap();
    assert_eq!(serde_json::from_str::<RegisteredClient>(&record).unwrap(), client, "{record}");
    assert!(record.contains(r#""version":2"#) && !record.contains("must_understand"), "{record}");
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
    (record.scope, record.audiences, record.introspects) = ("a".to_owned(), vec![String::new()], vec![String::new()]);
    (record.default_scope, record.default_audience, record.subject) = (text(), text(), text());
    (record.token_lifetime, record.grant, record.enabled) = (Some(1), false, false);
    record.must_understand = vec!["note".to_owned()];
    record.token_endpoint_auth_method = Some(ClientAuthMethod::default());
    let key = crate::registration::Credential::spiffe_id("spiffe://a/b".parse().unwrap());
    record.credentials = vec![Object((&key).into())];
    record.legacy_assertions_until = Some(1);
    record.legacy_audience_used_at = Some(1);
    (record.client_name, record.client_id_issued_at) = (text(), Some(1));
    record.metadata = [("a".to_owned(), "b".to_owned())].into();
    record.may_grant = Some(Object((&crate::registration::MayGrant::everything()).into()));
    let written = serde_json::to_value(&record).unwrap();
    let unknown: Vec<_> = written.as_object().unwrap().keys().filter(|name| !is_known(name)).collect();
    assert_eq!(unknown, ["note"]);
    let new = NEW_MEMBERS.iter().map(|new| new.name);
    let missing = MEMBERS.into_iter().chain(new).find(|name| written.get(name).is_none());
    assert_eq!(missing, None);
}

#[test]
fn a_record_that_uses_a_new_member_lists_it() {
    let Object(mut record) = serde_json::from_str::<Object<Record>>(r#"{"client_id":"b"}"#).unwrap();
    let new = |is_used| NewMember::decisive("networks", is_used);
    record.mark_version(&[new(|_| true)]);
    assert_eq!((record.version, record.must_understand.as_slice()), (Some(2), ["networks".to_owned()].as_slice()));
    record.mark_version(&[NewMember::ignorable("note", |_| true)]);
    assert_eq!((record.version, record.must_understand.len()), (Some(2), 0));
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
        (r#"{"client_id":"b","audiences":["https://a","api"]}"#, "client `b`: audiences[1]: `api` is not an audience"),
        (r#"{"client_id":"b","audiences":["https://a",5]}"#, "audiences[1]: invalid type"),
        (r#"{"client_id":"b","default_audience":"api"}"#, "client `b`: default_audience: `api` is not an audience"),
        (r#"{"client_id":"b","introspects":["api"]}"#, "client `b`: introspects[0]: `api` is not an audience"),
        (r#"{"client_id":"b","default_scope":"read"}"#, "client `b`: default_scope: its default scope `read`"),
        (r#"{"client_id":"b","subject":""}"#, "client `b`: subject: must not be empty"),
        (r#"{"client_id":"b","token_lifetime":0}"#, "client `b`: token_lifetime: "),
        (r#"{"client_id":"b","token_lifetime":"hunter2"}"#, "token_lifetime: invalid type: string \"…\", expected u64"),
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
        (r#"{"client_id":"b","token_endpoint_auth_method":"none"}"#, "token_endpoint_auth_method: unsupported method"),
        (r#"{"client_id":"b","client_name":"a\nb"}"#, "client `b`: client_name: invalid name"),
        (r#"{"client_id":"b","metadata":{"":"b"}}"#, "client `b`: metadata: invalid key"),
        (r#"{"client_id":"b","metadata":{"a":5}}"#, "metadata.a: invalid type"),
        (r#"{"client_id":"b","may_grant":{"audiences":["api"]}}"#, "client `b`: may_grant.audiences[0]: `api` is"),
        (r#"{"client_id":"b","may_grant":{"scopes":"a"}}"#, "may_grant.scopes: unknown field"),
        (r#"{"client_id":"b","client_id_issued_at":18446744073709551615}"#, "client_id_issued_at: must be"),
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
        let record = format!(r#"{{"client_id":"b","client_secrets":[{{"label":"1","dangerous_plain":"{plain}"}}]}}"#);
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
        (format!(r#""hash":"{digest}","random":true"#), "client_secrets[0].random: only valid with `dangerous_plain`"),
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
    let why = |record: &str| from_json(record).unwrap_err().to_string();
    for (record, begins) in [
        (r#"{"client_id":"b","audiences":["api"]}"#, "client `b`: audiences[0]: `api` is not"),
        (r#"{"client_id":"b","audiences":[5]}"#, "client `b`: audiences[0]: invalid type"),
        (r#"{"client_id":"b","client_secrets":[{"label":5}]}"#, "client `b`: client_secrets[0].label: invalid type"),
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

#[test]
fn a_mistake_in_a_record_is_one_line_of_bounded_length() {
    let long = "x".repeat(10_000);
    for record in [
        r#"{"client_id":"a\nERROR forged"}"#.to_owned(),
        r#"{"client_id":"b","audiences":["a\nERROR forged"]}"#.to_owned(),
        r#"{"client_id":"b","may_grant":{"audiences":["a\nERROR forged"]}}"#.to_owned(),
        r#"{"client_id":"b","may_grant":{"a\nERROR forged":1}}"#.to_owned(),
        r#"{"client_id":"b","credentials":[{"method":"spiffe_jwt","a\nERROR forged":1}]}"#.to_owned(),
        format!(r#"{{"client_id":"{long}"}}"#),
        format!(r#"{{"client_id":"b","audiences":["{long}"]}}"#),
        format!(r#"{{"client_id":"b","may_grant":{{"{long}":1}}}}"#),
    ] {
        let error = serde_json::from_str::<RegisteredClient>(&record).unwrap_err().to_string();
        let stored = from_json(&record).unwrap_err().to_string();
        for error in [error, stored] {
            assert!(!error.contains(char::is_control) && error.len() < 1_000, "{error:?}");
            assert!(record.len() > 1_000 || error.contains("\\nERROR forged"), "{error:?}");
        }
    }
}
