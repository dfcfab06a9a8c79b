//! What the administration does, and what it refuses.

use std::collections::HashSet;

use http::Method;
use http::header::{ALLOW, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, LOCATION, WWW_AUTHENTICATE};
use serde_json::{Value, json};
use tower_client_credentials::event::Outcome;
use tower_client_credentials::registration::{Credential, MayGrant};
use tower_client_credentials::store::ClientAdmin as _;
use tower_client_credentials::{Client, ClientSecret, Scope};

use crate::common::request::{GRANT, post};
use crate::common::stack::Answer;
use crate::common::{API, OTHER_API, SECRET, client};
use crate::failing_store::FailingRevocations;
pub use crate::workloads::{
    a_credential_for_a_listed_workload_is_accepted, a_credential_for_a_workload_of_another_team_is_refused,
    a_credential_that_a_client_had_before_is_not_checked_again,
    a_request_of_a_workload_stays_that_of_the_client_of_its_team,
    an_administrator_gives_on_only_the_workloads_of_its_own_list,
};
use crate::world::{ADMINISTRATION, DEFAULT, World, invoices};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub const JWKS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

#[track_caller]
pub fn assert_refused(answer: &Answer, status: u16, error: &str) {
    assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str().unwrap()), (status, error), "{answer:?}");
    assert!(answer.json()["error_description"].as_str().unwrap().is_ascii());
}

pub async fn a_client_is_created_changed_and_deleted(world: World) {
    let team = world.by("team").await;
    let mut request = invoices();
    request["client_id"] = "billing".into();
    request["metadata"] = json!({"team": "money"});
    let created = world.by("root").await.post("/clients", &request).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(created.header(LOCATION), Some("clients/billing"));
    let members = created.json();
    let secret = members["client_secret"].as_str().unwrap().to_owned();
    assert_eq!(members["client_secret_expires_at"], 0);
    assert!(members["client_id_issued_at"].as_u64().unwrap() > 1_700_000_000, "{members}");
    assert_eq!((&members["client_name"], &members["metadata"]["team"]), (&"Billing".into(), &"money".into()));
    assert_eq!((&members["scope"], &members["audiences"]), (&"invoices:read".into(), &json!([API])));
    world.token_with("billing", &secret).await.unwrap();

    // The created client is read without its secret.
    let read = team.get("/clients/billing").await;
    assert_eq!(read.header(ETAG), created.header(ETAG));
    assert_eq!(read.json()["client_secrets"][0]["label"], "1", "{read:?}");
    assert!(!String::from_utf8_lossy(&read.body).contains(&secret) && read.json().get("client_secret").is_none());
    let head = team.send(Method::HEAD, "/clients/billing", &[], "").await;
    assert_eq!((head.status.as_u16(), head.header(ETAG), head.body.len()), (200, read.header(ETAG), 0));

    // The representation that was read is sent back with a change.
    let mut replacement = read.json();
    replacement["scope"] = "invoices:read invoices:write".into();
    replacement.as_object_mut().unwrap().remove("metadata");
    let replaced = team.put("billing", &replacement).await;
    assert_eq!(replaced.status, 200, "{replaced:?}");
    assert!(replaced.json().get("metadata").is_none() && replaced.header(ETAG) != read.header(ETAG));
    world.token_with("billing", &secret).await.unwrap();

    // Both secrets work until the old one is removed.
    let rotated = team.change(Method::POST, "billing", "/secrets", r#"{"keep_old_for":3600,"label":"new"}"#).await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    let new = rotated.json()["client_secret"].as_str().unwrap().to_owned();
    assert_eq!(rotated.json()["client_secret_label"], "new");
    world.token_with("billing", &new).await.unwrap();
    world.token_with("billing", &secret).await.unwrap();
    let removed = team.change(Method::DELETE, "billing", "/credentials/1", "").await;
    assert_eq!((removed.status.as_u16(), removed.json()["client_secrets"].as_array().unwrap().len()), (200, 1));
    assert_eq!(world.token_with("billing", &secret).await.unwrap_err().status, 401);
    assert_refused(&team.change(Method::DELETE, "billing", "/credentials/1", "").await, 404, "not_found");

    let jwks: Value = serde_json::from_str(JWKS).unwrap();
    let added = json!({"method": "private_key_jwt", "jwks": jwks, "label": "key"}).to_string();
    let added = team.change(Method::POST, "billing", "/credentials", &added).await;
    assert_eq!((added.status.as_u16(), &added.json()["credentials"][0]["label"]), (200, &"key".into()), "{added:?}");
    let twice = json!({"method": "private_key_jwt", "jwks": jwks, "label": "new"}).to_string();
    let twice = team.change(Method::POST, "billing", "/credentials", &twice).await;
    assert_refused(&twice, 400, "invalid_client_metadata");

    assert_eq!(team.change(Method::POST, "billing", "/revoke-tokens", "").await.status, 204);
    let disabled = team.change(Method::POST, "billing", "/disable", "{}").await;
    assert_eq!((disabled.status.as_u16(), &disabled.json()["enabled"]), (200, &false.into()));
    assert_eq!(world.token_with("billing", &new).await.unwrap_err().status, 401);
    let enabled = team.change(Method::POST, "billing", "/enable", "").await;
    assert_eq!((enabled.status.as_u16(), &enabled.json()["enabled"]), (200, &true.into()));

    let deleted = team.change(Method::DELETE, "billing", "", "").await;
    assert_eq!((deleted.status.as_u16(), deleted.body.len()), (204, 0));
    assert!(!world.exists("billing").await);
    assert_refused(&team.get("/clients/billing").await, 404, "not_found");

    // A client without a secret, with the member of RFC 7591.
    let keyed = json!({"audiences": [API], "jwks": jwks, "token_endpoint_auth_method": "private_key_jwt"});
    let keyed = team.creates(keyed).await;
    assert!(keyed.get("client_secret").is_none() && keyed["client_secrets"] == json!([]), "{keyed}");
    assert_eq!(keyed["token_endpoint_auth_method"], "private_key_jwt");
    assert_eq!(keyed["client_id"].as_str().unwrap().len(), 24);
    // A request of another path is not one of the administration.
    let other = http::Request::get("/other").body(crate::common::stack::Body::default()).unwrap();
    assert_eq!(team.world.site.send_patiently(other).await.body, "inner");
}

pub async fn every_change_is_an_event_without_secrets(world: World) {
    let team = world.by("team").await;
    let created = team.creates(invoices()).await;
    let id = created["client_id"].as_str().unwrap();
    let secret = created["client_secret"].as_str().unwrap();
    team.change(Method::POST, id, "/secrets", "").await;
    team.change(Method::DELETE, id, "", "").await;
    assert_eq!(team.post("/clients", &json!({"scope": "pay", "client_id": "x"})).await.status, 403);
    let mut events = world.events.lock().await;
    let (mut done, mut refused, mut issued) = (Vec::new(), Vec::new(), HashSet::new());
    while let Some(event) = events.try_recv() {
        let text = format!("{event:?}");
        assert!(!text.contains(secret) && !text.contains(SECRET.as_str()) && !text.contains("$sha256$"), "{text}");
        match event.outcome {
            Outcome::Issued { token_id, .. } => {
                issued.insert(token_id);
            }
            Outcome::ClientAdministered { operation, client, token_id, .. } => {
                assert_eq!(event.client_id.unwrap(), "team");
                // The event of this token has the credential of the administrator.
                assert!(issued.contains(&token_id), "{token_id}");
                done.push((operation, client.to_string()));
            }
            Outcome::AdministrationRefused { operation, client, failure, .. } => {
                assert_eq!(event.client_id.unwrap(), "team");
                refused.push((operation, client.unwrap().to_string(), failure.reason(), failure.status().as_u16()));
            }
            _ => {}
        }
    }
    assert_eq!(done, ["create", "add_secret", "delete"].map(|operation| (operation, id.to_owned())));
    assert_eq!(refused, [("create", "x".to_owned(), "access_denied", 403)]);
}

pub async fn each_kind_of_request_needs_its_scope(world: World) {
    // Without a token, nothing is registered.
    let anonymous = crate::world::Administrator { world: world.clone(), token: "none".to_owned() };
    let answer = anonymous.post("/clients", &invoices()).await;
    assert_eq!(answer.status, 401, "{answer:?}");
    assert!(answer.header(WWW_AUTHENTICATE).unwrap().starts_with("Bearer"), "{answer:?}");
    // A token for another API is not one for the administration.
    let payments = world.by("payments").await;
    assert_eq!(payments.get("/clients").await.status, 401);

    let auditor = world.by("auditor").await;
    assert_eq!(auditor.get("/clients/payments").await.status, 200);
    let tag = auditor.tag("payments").await;
    for (method, path) in [
        (Method::POST, "/clients"),
        (Method::PUT, "/clients/payments"),
        (Method::DELETE, "/clients/payments"),
        (Method::POST, "/clients/payments/secrets"),
        (Method::POST, "/clients/payments/credentials"),
        (Method::DELETE, "/clients/payments/credentials/1"),
        (Method::POST, "/clients/payments/disable"),
        (Method::POST, "/clients/payments/enable"),
        (Method::POST, "/clients/payments/revoke-tokens"),
        (Method::POST, "/clients/payments/refresh-keys"),
    ] {
        let answer = auditor.send(method.clone(), path, &[(IF_MATCH, &tag)], "{}").await;
        assert_eq!(answer.status, 403, "{method} {path}: {answer:?}");
        let challenge = answer.header(WWW_AUTHENTICATE).unwrap();
        assert!(challenge.contains("insufficient_scope") && challenge.contains("clients:write"), "{challenge}");
    }
    assert_eq!(auditor.tag("payments").await, tag, "nothing was changed");

    // A token that was requested with fewer scopes has fewer rights.
    let narrow = post(GRANT).param("scope", "clients:write").basic("root", &SECRET);
    let token = world.site.send_patiently(narrow).await.json()["access_token"].as_str().unwrap().to_owned();
    let narrow = crate::world::Administrator { world: world.clone(), token };
    assert_eq!(narrow.get("/clients").await.status, 403);
    let administrator = json!({"scope": "clients:read", "audiences": [ADMINISTRATION]});
    assert_refused(&narrow.post("/clients", &administrator).await, 403, "access_denied");
    assert_refused(&auditor.send(Method::GET, "/clients/", &[], "").await, 404, "not_found");
    let answer = world.by("root").await.send(Method::PATCH, "/clients/payments", &[], "").await;
    assert_refused(&answer, 405, "method_not_allowed");
    assert_eq!(answer.header(ALLOW), Some("GET, HEAD, PUT, DELETE"));
}

pub async fn an_administrator_gives_only_what_it_may_grant(world: World) {
    let (root, team) = (world.by("root").await, world.by("team").await);
    let beyond = [
        json!({"scope": "pay", "audiences": [API]}),
        json!({"scope": "invoices:read", "audiences": [API, OTHER_API]}),
        json!({"audiences": [API], "introspects": [OTHER_API]}),
        json!({"scope": "invoices:read"}), // it would get the server's default audience
        json!({"audiences": [API], "subject": "payments"}),
        json!({"scope": "clients:read", "audiences": [API]}),
        json!({"audiences": [ADMINISTRATION]}),
        json!({"audiences": [API], "may_grant": {"scope": "invoices:read"}}),
        json!({"audiences": [API], "may_grant": {"everything": true}}),
    ];
    for body in &beyond {
        assert_refused(&team.post("/clients", body).await, 403, "access_denied");
        let created = root.post("/clients", body).await;
        assert_eq!(created.status, 201, "{body}: {created:?}");
    }
    let id = team.creates(invoices()).await["client_id"].as_str().unwrap().to_owned();
    let before = team.tag(&id).await;
    for body in &beyond {
        if body.get("audiences").is_some() {
            assert_refused(&team.put(&id, body).await, 403, "access_denied");
        }
    }
    assert_eq!(team.tag(&id).await, before);
    // It cannot raise itself either, nor hand its own rights on.
    let mut own = team.get("/clients/team").await.json();
    own["may_grant"] = json!({"everything": true});
    assert_refused(&team.put("team", &own).await, 403, "access_denied");
    let all: Vec<_> = world.store.list(None, 100.try_into().unwrap()).await.unwrap();
    let raised = all.iter().find(|client| client.id() == "team").unwrap().may_grant().unwrap().clone();
    assert!(!raised.is_everything());
    // An administrator for administrators gives no more than it has.
    let may_grant = json!({"scope": "invoices:read", "audiences": [API]});
    let scope = "clients:read clients:write clients:administrators";
    let limited = json!({"client_id": "limited", "scope": scope, "default_scope": scope, "audiences": [ADMINISTRATION], "may_grant": may_grant});
    let secret = root.creates(limited).await["client_secret"].as_str().unwrap().to_owned();
    let token = world.token_with("limited", &secret).await.unwrap();
    let limited = crate::world::Administrator { world: world.clone(), token };
    let mut another = json!({"scope": scope, "default_scope": scope, "audiences": [ADMINISTRATION], "may_grant": {"everything": true}});
    assert_refused(&limited.post("/clients", &another).await, 403, "access_denied");
    another["may_grant"] = may_grant;
    assert_eq!(limited.post("/clients", &another).await.status, 201);
}

/// A chosen id becomes the `sub` of tokens: it could be the `subject` of another client, or the id of a deleted one.
pub async fn only_an_administrator_for_administrators_chooses_an_id(world: World) {
    let (root, team) = (world.by("root").await, world.by("team").await);
    root.creates(json!({"client_id": "shop", "audiences": [API], "subject": "shop-service"})).await;
    assert_eq!(root.change(Method::DELETE, "payments", "", "").await.status, 204);
    for id in ["shop-service", "payments", "anything"] {
        let mut chosen = invoices();
        chosen["client_id"] = id.into();
        let key = [(KEY, "\"one\"")];
        for answer in
            [team.post("/clients", &chosen).await, team.send(Method::POST, "/clients", &key, &chosen.to_string()).await]
        {
            assert_refused(&answer, 403, "access_denied");
            let text = answer.json()["error_description"].as_str().unwrap().to_owned();
            assert!(text.contains("omit `client_id`"), "{text}");
        }
        assert!(!world.exists(id).await);
    }
    // `null` is an omitted member (RFC 7592 section 2.2).
    let mut generated = invoices();
    generated["client_id"] = Value::Null;
    assert_eq!(team.creates(generated).await["client_id"].as_str().unwrap().len(), 24);
    let mut chosen = invoices();
    chosen["client_id"] = "anything".into();
    assert_eq!(root.creates(chosen.clone()).await["client_id"], "anything");
    // Such an id could not be addressed by a URL.
    for id in [".", ".."] {
        chosen["client_id"] = id.into();
        assert_refused(&root.post("/clients", &chosen).await, 400, "invalid_client_metadata");
        assert!(!world.exists(id).await);
    }
}

/// A process remembers for a moment that an id is unknown.
pub async fn a_new_client_gets_a_token_at_once(world: World) {
    let root = world.by("root").await;
    assert_eq!(world.token_with("late", "unknown").await.unwrap_err().status, 401);
    let mut late = invoices();
    late["client_id"] = "late".into();
    let secret = root.creates(late).await["client_secret"].as_str().unwrap().to_owned();
    world.token_with("late", &secret).await.unwrap();
}

/// The scope was known when the client was registered, and the URL was allowed.
pub async fn a_client_with_a_scope_that_no_longer_exists_can_be_disabled(world: World) {
    let old = || Scope::from_static("old");
    let keys = Credential::jwks_uri("https://127.0.0.1/jwks").unwrap();
    let stale = client("stale").scope(old()).audience(API).credential(keys.clone());
    let private = client("private").scope(crate::common::READ).audience(API).credential(keys);
    for client in [stale, private] {
        world.store.create(client.register().unwrap()).await.unwrap();
    }
    let root = world.by("root").await;
    for (method, rest) in
        [(Method::POST, "/refresh-keys"), (Method::DELETE, "/credentials/2"), (Method::POST, "/disable")]
    {
        let answer = root.change(method, "stale", rest, "").await;
        assert_eq!(answer.status, 200, "{rest}: {answer:?}");
    }
    let shown = root.get("/clients/stale").await.json();
    assert_eq!((&shown["enabled"], &shown["credentials"]), (&false.into(), &json!([])));
    // What does not only reduce is checked.
    assert_refused(&root.change(Method::POST, "stale", "/enable", "").await, 400, "invalid_client_metadata");
    // Without rights to the scope, nothing can be changed.
    let team = world.by("team").await;
    assert_refused(&team.change(Method::POST, "stale", "/disable", "").await, 403, "access_denied");

    // A URL that was registered before does not prevent other changes, and cannot be added anew.
    let mut private = team.get("/clients/private").await.json();
    private["client_name"] = "Private".into();
    let renamed = team.put("private", &private).await;
    assert_eq!(renamed.status, 200, "{renamed:?}");
    let another = json!({"method": "private_key_jwt", "jwks_uri": "https://127.0.0.1/other"}).to_string();
    let another = team.change(Method::POST, "private", "/credentials", &another).await;
    assert_refused(&another, 400, "invalid_client_metadata");
}

pub async fn another_state_than_the_one_that_results_is_refused(world: World) {
    let team = world.by("team").await;
    let with = |state: Value| {
        let mut body = invoices();
        body["enabled"] = state;
        body
    };
    for state in [json!(false), json!("true"), json!(0)] {
        let answer = team.post("/clients", &with(state)).await;
        assert_refused(&answer, 400, "invalid_client_metadata");
        let text = answer.json()["error_description"].as_str().unwrap().to_owned();
        assert!(text.starts_with("enabled: ") && text.contains("/disable`"), "{text}");
    }
    let id = team.creates(with(true.into())).await["client_id"].as_str().unwrap().to_owned();
    assert_refused(&team.put(&id, &with(false.into())).await, 400, "invalid_client_metadata");
    assert_eq!(team.put(&id, &with(true.into())).await.status, 200);
    assert_eq!(team.change(Method::POST, &id, "/disable", "").await.status, 200);
    let answer = team.put(&id, &with(true.into())).await;
    assert_refused(&answer, 400, "invalid_client_metadata");
    assert!(answer.json()["error_description"].as_str().unwrap().contains("/enable`"), "{answer:?}");
    assert_eq!(team.put(&id, &with(false.into())).await.json()["enabled"], false);
}

/// The client is in a store in memory, with a secret that is not encrypted.
pub async fn a_client_with_a_secret_in_plain_text(world: World) {
    let root = world.by("root").await;
    let plain = "a secret of at least 32 bytes, as needed";
    let secret = ClientSecret::new(plain).unwrap();
    let plain_client = Client::with_credential("plain", Credential::client_secret_jwt(&secret).unwrap())
        .scope(crate::common::READ)
        .audience(API);
    world.store.create(plain_client.register().unwrap()).await.unwrap();
    let listed = root.get("/clients").await;
    assert_eq!(listed.status, 200, "{listed:?}");
    let read = root.get("/clients/plain").await;
    assert_eq!(read.json()["credentials"], json!([{"label": "1", "method": "client_secret_jwt"}]), "{read:?}");
    for answer in [&listed, &read] {
        assert!(!String::from_utf8_lossy(&answer.body).contains(plain));
    }
    for (rest, body) in [("/secrets", "{}"), ("/revoke-tokens", ""), ("/disable", ""), ("/enable", "")] {
        let answer = root.change(Method::POST, "plain", rest, body).await;
        assert!(answer.status.is_success(), "{rest}: {answer:?}");
    }
    // A request cannot contain the secret, so it would be lost.
    let shown = root.get("/clients/plain").await.json();
    assert_refused(&root.put("plain", &shown).await, 400, "invalid_client_metadata");
    assert_eq!(root.change(Method::DELETE, "plain", "", "").await.status, 204);
}

pub async fn an_administrator_cannot_take_over_a_client_with_more_rights(world: World) {
    let (root, team) = (world.by("root").await, world.by("team").await);
    let mut everyday = invoices();
    everyday["client_id"] = "everyday".into();
    everyday["introspects"] = json!([DEFAULT]);
    root.creates(everyday).await;
    let jwks: Value = serde_json::from_str(JWKS).unwrap();
    let key = json!({"method": "private_key_jwt", "jwks": jwks}).to_string();
    for id in ["payments", "everyday", "root", "auditor", "team"] {
        let before = team.tag(id).await;
        for (method, rest, body) in [
            (Method::POST, "/secrets", ""),
            (Method::POST, "/credentials", key.as_str()),
            (Method::DELETE, "/credentials/1", ""),
            (Method::DELETE, "", ""),
            (Method::POST, "/disable", ""),
            (Method::POST, "/enable", ""),
            (Method::POST, "/revoke-tokens", ""),
            (Method::POST, "/refresh-keys", ""),
            (Method::PUT, "", r#"{"scope":"invoices:read","audiences":["https://api.example.com"]}"#),
        ] {
            let answer = team.change(method, id, rest, body).await;
            assert_refused(&answer, 403, "access_denied");
        }
        assert_eq!(team.tag(id).await, before, "{id} was not changed");
    }
    // An administrator for administrators with a shorter list cannot take over one with a longer list.
    let scope = "clients:read clients:write clients:administrators";
    let limited =
        json!({"client_id": "limited", "scope": scope, "default_scope": scope, "audiences": [ADMINISTRATION]});
    let secret = root.creates(limited).await["client_secret"].as_str().unwrap().to_owned();
    let token = world.token_with("limited", &secret).await.unwrap();
    let limited = crate::world::Administrator { world: world.clone(), token };
    assert_refused(&limited.change(Method::POST, "root", "/secrets", "").await, 403, "access_denied");
    assert_refused(&limited.change(Method::POST, "team", "/secrets", "").await, 403, "access_denied");
    assert_eq!(limited.change(Method::POST, "auditor", "/secrets", "").await.status, 200);
}

pub async fn a_change_needs_the_current_version(world: World) {
    let team = world.by("team").await;
    let id = team.creates(invoices()).await["client_id"].as_str().unwrap().to_owned();
    let (path, first) = (format!("/clients/{id}"), team.tag(&id).await);
    let rename = |name: &str| {
        let mut body = invoices();
        body["client_name"] = name.into();
        body.to_string()
    };
    for (method, rest) in [
        (Method::PUT, ""),
        (Method::DELETE, ""),
        (Method::POST, "/secrets"),
        (Method::POST, "/disable"),
        (Method::POST, "/revoke-tokens"),
        (Method::DELETE, "/credentials/1"),
    ] {
        let body = if method == Method::PUT { rename("a") } else { "{}".to_owned() };
        let unconditional = team.send(method.clone(), &format!("{path}{rest}"), &[], &body).await;
        assert_refused(&unconditional, 428, "precondition_required");
    }
    assert_eq!(team.send(Method::PUT, &path, &[(IF_MATCH, &first)], &rename("b")).await.status, 200);
    for (method, rest) in [
        (Method::PUT, ""),
        (Method::DELETE, ""),
        (Method::POST, "/secrets"),
        (Method::POST, "/disable"),
        (Method::POST, "/revoke-tokens"),
        (Method::DELETE, "/credentials/1"),
    ] {
        let body = if method == Method::PUT { rename("c") } else { "{}".to_owned() };
        for stale in [first.clone(), format!("W/{}", team.tag(&id).await), "\"\"".to_owned(), "x".to_owned()] {
            let stale = team.send(method.clone(), &format!("{path}{rest}"), &[(IF_MATCH, &stale)], &body).await;
            assert_refused(&stale, 412, "precondition_failed");
        }
    }
    assert_eq!(team.get(&path).await.json()["client_name"], "b");
    // The tokens are revoked at one version only, as in any other change.
    let seen = team.tag(&id).await;
    let revoke = async || team.send(Method::POST, &format!("{path}/revoke-tokens"), &[(IF_MATCH, &seen)], "").await;
    assert_eq!(revoke().await.status, 204);
    // Nothing was written that another administrator has to see, and an answer may have been lost.
    assert_eq!(team.tag(&id).await, seen);
    assert_eq!(revoke().await.status, 204);
    assert_eq!(team.get(&path).await.json()["client_name"], "b");
    let several = format!("\"x\", {}", team.tag(&id).await);
    assert_eq!(team.send(Method::PUT, &path, &[(IF_MATCH, &several)], &rename("d")).await.status, 200);
    assert_eq!(team.send(Method::DELETE, &path, &[(IF_MATCH, "*")], "").await.status, 204);
    // A client with the same id that was created again is another one.
    let mut again = invoices();
    again["client_id"] = id.as_str().into();
    world.by("root").await.creates(again).await;
    assert_refused(&team.send(Method::DELETE, &path, &[(IF_MATCH, &first)], "").await, 412, "precondition_failed");
}

pub async fn unknown_members_and_other_ids_are_refused(world: World) {
    let team = world.by("team").await;
    for name in ["client_secret", "client_secret_hash", "hash", "token_lifetme", "version", "enabled_by"] {
        let mut body = invoices();
        body[name] = "x".into();
        let answer = team.post("/clients", &body).await;
        assert_refused(&answer, 400, "invalid_client_metadata");
        let text = answer.json()["error_description"].as_str().unwrap().to_owned();
        assert!(text.contains(name), "{text}");
    }
    // Metadata of RFC 7591 for other grants has no effect.
    let mut body = invoices();
    body["redirect_uris"] = json!(["https://client.example/callback"]);
    body["grant_types"] = json!(["client_credentials"]);
    let created = team.creates(body).await;
    assert!(created.get("redirect_uris").is_none());
    let id = created["client_id"].as_str().unwrap();
    let mut other = invoices();
    other["client_id"] = "payments".into();
    assert_refused(&team.put(id, &other).await, 400, "invalid_client_metadata");
    other["client_id"] = id.into();
    assert_eq!(team.put(id, &other).await.status, 200);
    assert_refused(
        &team.change(Method::POST, id, "/secrets", r#"{"secret":"x"}"#).await,
        400,
        "invalid_client_metadata",
    );
    assert_refused(&team.change(Method::POST, id, "/disable", r#"{"for":"x"}"#).await, 400, "invalid_request");
    let unknown = team.send(Method::DELETE, "/clients/unknown", &[(IF_MATCH, "*")], "").await;
    assert_refused(&unknown, 404, "not_found");
    let mut existing = invoices();
    existing["client_id"] = "payments".into();
    assert_refused(&world.by("root").await.post("/clients", &existing).await, 409, "conflict");
}

pub async fn no_administrator_removes_itself(world: World) {
    let root = world.by("root").await;
    let mut own = root.get("/clients/root").await.json();
    own.as_object_mut().unwrap().remove("default_scope");
    let with = |name: &str, value: Value| {
        let mut body = own.clone();
        body[name] = value;
        body
    };
    for (method, rest) in [(Method::DELETE, ""), (Method::POST, "/disable"), (Method::DELETE, "/credentials/1")] {
        assert_refused(&root.change(method, "root", rest, "").await, 409, "conflict");
    }
    for weaker in [
        with("scope", "clients:read clients:write".into()),
        with("audiences", json!([API])),
        with("grant_types", json!([])),
        with("may_grant", Value::Null),
        with("may_grant", json!({"scope": "invoices:read"})),
    ] {
        assert_refused(&root.put("root", &weaker).await, 409, "conflict");
    }
    // It may change what does not weaken it.
    assert_eq!(root.put("root", &with("client_name", "Root".into())).await.status, 200);
    assert_eq!(root.change(Method::POST, "root", "/secrets", r#"{"keep_old_for":0}"#).await.status, 200);
    // Another administrator may remove it, and is then the last one.
    let other = world.by("other-root").await;
    assert_eq!(other.change(Method::DELETE, "root", "", "").await.status, 204);
    assert_refused(&other.change(Method::DELETE, "other-root", "", "").await, 409, "conflict");
    assert!(world.exists("other-root").await);
}

pub async fn two_administrators_that_remove_each_other_leave_one(world: World) {
    let (one, other) = (world.by("root").await, world.by("other-root").await);
    let (of_one, of_other) = (one.tag("root").await, one.tag("other-root").await);
    let (first, second) = ([(IF_MATCH, of_other.as_str())], [(IF_MATCH, of_one.as_str())]);
    let first = one.send(Method::DELETE, "/clients/other-root", &first, "");
    let second = other.send(Method::DELETE, "/clients/root", &second, "");
    let answers = futures_util::future::join(first, second).await;
    let done = [&answers.0, &answers.1].iter().filter(|answer| answer.status == 204).count();
    let left = [world.exists("root").await, world.exists("other-root").await];
    assert_eq!((done, left.iter().filter(|exists| **exists).count()), (1, 1), "{answers:?}");
}

pub async fn a_repeated_idempotency_key_creates_one_client(world: World) {
    let (team, other) = (world.by("team").await, world.by("other-team").await);
    let key = [(KEY, "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"")];
    let body = invoices().to_string();
    let create = async || team.send(Method::POST, "/clients", &key, &body).await;
    let answers = futures_util::future::join_all((0..6).map(|_| create())).await;
    let ids: HashSet<String> =
        answers.iter().map(|answer| answer.json()["client_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 1, "{answers:?}");
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(201), count(200)), (1, 5), "{answers:?}");
    // The secret was shown once.
    let with_secret = answers.iter().filter(|answer| answer.json().get("client_secret").is_some()).count();
    assert_eq!(with_secret, 1);
    let again = create().await;
    assert_eq!((again.status.as_u16(), again.header(ETAG)), (200, answers[0].header(ETAG)));

    let mut different = invoices();
    different["scope"] = "invoices:write".into();
    let different = team.send(Method::POST, "/clients", &key, &different.to_string()).await;
    assert_refused(&different, 422, "idempotency_key_reused");
    // The keys of two administrators are independent.
    let others = other.send(Method::POST, "/clients", &key, &body).await;
    assert_eq!(others.status, 201);
    assert!(!ids.contains(others.json()["client_id"].as_str().unwrap()));
    for malformed in ["", "\"\"", "a b"] {
        let answer = team.send(Method::POST, "/clients", &[(KEY, malformed)], &body).await;
        assert_refused(&answer, 400, "invalid_request");
    }
    // A chosen id is enough: with a key, another id would create another client.
    let mut chosen = invoices();
    chosen["client_id"] = "chosen".into();
    let root = world.by("root").await;
    let both = root.send(Method::POST, "/clients", &key, &chosen.to_string()).await;
    assert_refused(&both, 400, "invalid_request");
    assert!(!world.exists("chosen").await);
    root.creates(chosen.clone()).await;
    let again = root.post("/clients", &chosen).await;
    assert_refused(&again, 409, "conflict");
    assert!(again.json()["error_description"].as_str().unwrap().contains("`chosen`"), "{again:?}");
    // Without a key, each request creates a client.
    let ids =
        [team.creates(invoices()).await, team.creates(invoices()).await].map(|created| created["client_id"].clone());
    assert_ne!(ids[0], ids[1]);
}

pub async fn a_body_that_is_too_large_or_not_json_is_refused(world: World) {
    let team = world.by("team").await;
    let large = json!({"client_name": "x".repeat(70_000)}).to_string();
    assert_refused(&team.send(Method::POST, "/clients", &[], &large).await, 413, "payload_too_large");
    for body in ["{", "[]", "null", "\"a\"", "{\"a\":1}x"] {
        assert_refused(&team.send(Method::POST, "/clients", &[], body).await, 400, "invalid_request");
    }
    for content_type in ["application/x-www-form-urlencoded", "text/json"] {
        let request = http::Request::post("/clients").header("authorization", format!("Bearer {}", team.token));
        let body = http_body_util::Full::from("{}");
        let body: crate::common::stack::Body =
            http_body_util::BodyExt::boxed_unsync(http_body_util::BodyExt::map_err(body, |never| match never {}));
        let answer = world.site.send_patiently(request.header(CONTENT_TYPE, content_type).body(body).unwrap()).await;
        assert_refused(&answer, 415, "unsupported_media_type");
    }
    // Many small changes do not make a client large.
    let id = team.creates(invoices()).await["client_id"].as_str().unwrap().to_owned();
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(team.change(Method::POST, &id, "/secrets", r#"{"keep_old_for":100000}"#).await);
    }
    let refused = answers.pop().unwrap();
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_refused(&refused, 400, "invalid_client_metadata");
}

pub async fn a_disabled_or_weakened_administrator_is_refused_at_once(world: World) {
    let (root, team, other) = (world.by("root").await, world.by("team").await, world.by("other-team").await);
    // The current list of the administrator counts.
    let mut weaker = root.get("/clients/team").await.json();
    weaker.as_object_mut().unwrap().remove("default_scope");
    weaker["may_grant"] = json!({"scope": "invoices:write", "audiences": [API]});
    assert_eq!(root.put("team", &weaker).await.status, 200);
    assert_refused(&team.post("/clients", &invoices()).await, 403, "access_denied");
    // A scope that was removed no longer counts, although the token has it.
    weaker["scope"] = "clients:read".into();
    assert_eq!(root.put("team", &weaker).await.status, 200);
    let mut allowed = invoices();
    allowed["scope"] = "invoices:write".into();
    assert_refused(&team.post("/clients", &allowed).await, 403, "access_denied");
    assert_eq!(team.get("/clients").await.status, 200);

    assert_eq!(root.change(Method::POST, "team", "/disable", "").await.status, 200);
    assert_eq!(team.get("/clients").await.status, 401);
    assert_eq!(root.change(Method::POST, "other-team", "/revoke-tokens", "").await.status, 204);
    assert_eq!(other.post("/clients", &invoices()).await.status, 401);
}

pub async fn one_of_many_concurrent_updates_wins(world: World) {
    let team = world.by("team").await;
    let id = team.creates(invoices()).await["client_id"].as_str().unwrap().to_owned();
    let tag = team.tag(&id).await;
    let update = async |number: usize| {
        let mut body = invoices();
        body["client_name"] = format!("name {number}").into();
        let path = format!("/clients/{id}");
        (number, team.send(Method::PUT, &path, &[(IF_MATCH, &tag)], &body.to_string()).await)
    };
    let answers = futures_util::future::join_all((0..12).map(update)).await;
    let winners: Vec<usize> =
        answers.iter().filter(|(_, answer)| answer.status == 200).map(|(number, _)| *number).collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    for (number, answer) in &answers {
        if *number != winners[0] {
            assert_refused(answer, 412, "precondition_failed");
        }
    }
    assert_eq!(team.get(&format!("/clients/{id}")).await.json()["client_name"], format!("name {}", winners[0]));
}

pub async fn clients_are_listed_by_page(world: World) {
    let auditor = world.by("auditor").await;
    let ids = |page: &Value| -> Vec<String> {
        page["clients"]
            .as_array()
            .unwrap()
            .iter()
            .map(|client| client["client_id"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = auditor.get("/clients").await;
    assert_eq!(ids(&all.json()), ["auditor", "other-root", "other-team", "payments", "root", "team"]);
    assert!(all.json().get("next").is_none() && !String::from_utf8_lossy(&all.body).contains("$sha256$"));
    let first = auditor.get("/clients?limit=4").await.json();
    assert_eq!((ids(&first).len(), &first["next"]), (4, &"payments".into()));
    let second = auditor.get("/clients?limit=4&after=payments").await.json();
    assert_eq!(ids(&second), ["root", "team"]);
    assert!(second.get("next").is_none());
    for query in ["limit=0", "limit=1000", "offset=1", "after="] {
        assert_refused(&auditor.get(&format!("/clients?{query}")).await, 400, "invalid_request");
    }
    // The list of an administrator is shown to those who read.
    let root = world.store.load(&"root".parse().unwrap()).await.unwrap().unwrap().0;
    assert_eq!(root.may_grant(), Some(&MayGrant::everything()));
}

pub async fn a_url_of_keys_in_a_private_network_is_refused(world: World) {
    let team = world.by("team").await;
    for url in
        ["https://127.0.0.1/jwks", "http://localhost:1/jwks", "https://169.254.169.254/jwks", "https://[fd00::1]/jwks"]
    {
        let body = json!({"audiences": [API], "jwks_uri": url});
        assert_refused(&team.post("/clients", &body).await, 400, "invalid_client_metadata");
    }
    let body = json!({"audiences": [API], "jwks_uri": "https://keys.example.com/jwks"});
    let created = team.creates(body).await;
    let id = created["client_id"].as_str().unwrap();
    assert_eq!(created["credentials"][0]["jwks_uri"], "https://keys.example.com/jwks");
    let refreshed = team.change(Method::POST, id, "/refresh-keys", "").await.json();
    assert!(refreshed["credentials"][0]["refreshed_at"].is_u64(), "{refreshed}");
    // The keys of a platform that the server does not trust are refused, as when the server starts.
    let unknown = json!({"audiences": [API], "spiffe_id": "spiffe://unknown.example/a"});
    assert_refused(&world.by("root").await.post("/clients", &unknown).await, 400, "invalid_client_metadata");
}

pub async fn jwks_and_claims_that_are_nested_too_deep_are_refused(world: World) {
    let root = world.by("root").await;
    let nested = |levels: usize| (0..levels).fold(json!("x"), |inner, _| json!([inner]));
    let jwks = |levels: usize| {
        json!({
            "keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}],
            "extra": nested(levels),
        })
    };
    let mut body = invoices();
    body["jwks"] = jwks(15);
    let created = root.creates(body.clone()).await;
    let id = created["client_id"].as_str().unwrap();
    let credential = json!({"method": "private_key_jwt", "jwks": jwks(16)});
    body["jwks"] = jwks(124);
    let mut replaced = created.clone();
    replaced["credentials"][0]["jwks"] = jwks(16);
    for answer in [
        root.post("/clients", &body).await,
        root.put(id, &replaced).await,
        root.change(Method::POST, id, "/credentials", &credential.to_string()).await,
    ] {
        assert_refused(&answer, 400, "invalid_client_metadata");
        let text = answer.json()["error_description"].as_str().unwrap().to_owned();
        assert!(text.contains("at most 16 are allowed; remove the inner ones"), "{text}");
    }
    assert_eq!(root.get(&format!("/clients/{id}")).await.json()["credentials"], created["credentials"]);
}

/// The store writes each change and then does not answer.
pub async fn a_change_without_an_answer(world: World) {
    let root = world.by("root").await;
    let request = json!({"client_id": "billing", "audiences": [API], "jwks_uri": "https://keys.example.com/jwks"});
    assert_refused(&root.post("/clients", &request).await, 503, "temporarily_unavailable");
    assert!(world.exists("billing").await);
    let mut events = world.events.lock().await;
    let mut made = Vec::new();
    while let Some(event) = events.try_recv() {
        match event.outcome {
            Outcome::ClientAdministered { operation, client, .. } => made.push((operation, client.to_string())),
            Outcome::AdministrationRefused { .. } => panic!("{event:?}"),
            _ => {}
        }
    }
    assert_eq!(made, [("create", "billing".to_owned())]);
}

/// The clients and the revocations are in different stores.
pub async fn a_repeated_disable_and_delete(world: World, revocations: &FailingRevocations) {
    let root = world.by("root").await;
    revocations.fail_after(0);
    let disable = async || root.change(Method::POST, "team", "/disable", "").await;
    assert_refused(&disable().await, 503, "temporarily_unavailable");
    assert_eq!(root.get("/clients/team").await.json()["enabled"], false);
    assert!(!revocations.revokes("team").await);
    assert_eq!(disable().await.status, 200);
    assert!(revocations.revokes("team").await);

    // If the tokens could not be revoked, the client can still be deleted.
    let delete = async |id: &str| root.change(Method::DELETE, id, "", "").await;
    revocations.fail_after(0);
    assert_refused(&delete("payments").await, 503, "temporarily_unavailable");
    assert!(world.exists("payments").await && !revocations.revokes("payments").await);
    assert_eq!(delete("payments").await.status, 204);
    assert!(!world.exists("payments").await && revocations.revokes("payments").await);

    // If they could be revoked only before the client was deleted, the change was made.
    revocations.fail_after(1);
    assert_refused(&delete("auditor").await, 503, "temporarily_unavailable");
    assert!(!world.exists("auditor").await && revocations.revokes("auditor").await);
}

/// The store makes the change and then does not answer: the secret, which no other answer has, is shown nevertheless.
pub async fn a_new_secret_without_an_answer_of_the_store(world: World) {
    let root = world.by("root").await;
    let created = root.post("/clients", &invoices()).await;
    assert_eq!((created.status.as_u16(), created.header(ETAG)), (201, None), "{created:?}");
    let (id, secret) = (&created.json()["client_id"], &created.json()["client_secret"]);
    assert_eq!(created.json()["client_name"], "Billing");
    world.token_with(id.as_str().unwrap(), secret.as_str().unwrap()).await.unwrap();
}

/// Another administrator deletes the client as soon as it was written.
pub async fn a_client_that_is_deleted_after_its_change(world: World) {
    let root = world.by("root").await;
    for answer in
        [root.post("/clients", &invoices()).await, root.change(Method::POST, "payments", "/secrets", "").await]
    {
        assert_refused(&answer, 404, "not_found");
        assert!(!String::from_utf8_lossy(&answer.body).contains("client_secret"), "{answer:?}");
    }
}

pub async fn the_tokens_of_a_client_are_revoked(world: World) {
    let (root, other) = (world.by("root").await, world.by("other-team").await);
    let seen = root.tag("other-team").await;
    assert_eq!(root.change(Method::POST, "other-team", "/revoke-tokens", "").await.status, 204);
    assert_eq!(other.get("/clients").await.status, 401);
    assert_eq!(root.tag("other-team").await, seen);
}

/// The client `old` has six, and only four can be registered.
pub async fn a_client_with_six_urls_of_keys(world: World) {
    let root = world.by("root").await;
    let url =
        |number: usize| json!({"method": "private_key_jwt", "jwks_uri": format!("https://client.example/{number}")});
    let mut five = invoices();
    five["credentials"] = (1..=5).map(url).collect();
    let refused = root.post("/clients", &five).await;
    assert_refused(&refused, 400, "invalid_client_metadata");
    let text = refused.json()["error_description"].as_str().unwrap().to_owned();
    assert!(text.starts_with("credentials: it has 5 credentials for a `jwks_uri`"), "{text}");

    let numbers = |shown: &Value| shown["credentials"].as_array().unwrap().len();
    assert_eq!(root.get("/clients").await.status, 200);
    let shown = root.get("/clients/old").await.json();
    assert_eq!(numbers(&shown), 6);
    assert_eq!(root.put("old", &shown).await.status, 200);
    let add = async || root.change(Method::POST, "old", "/credentials", &url(7).to_string()).await;
    assert_refused(&add().await, 400, "invalid_client_metadata");
    let removed = root.change(Method::DELETE, "old", "/credentials/1", "").await;
    assert_eq!((removed.status.as_u16(), numbers(&removed.json())), (200, 5));
    assert_refused(&add().await, 400, "invalid_client_metadata");
    assert_refused(&root.put("old", &shown).await, 400, "invalid_client_metadata");
    assert_eq!(root.change(Method::POST, "old", "/disable", "").await.status, 200);
    for label in ["2", "3"] {
        assert_eq!(root.change(Method::DELETE, "old", &format!("/credentials/{label}"), "").await.status, 200);
    }
    assert_eq!(numbers(&add().await.json()), 4);
    assert_eq!(root.change(Method::DELETE, "old", "", "").await.status, 204);
}

/// `b` has the record of `team`, `d` has that of `auditor`, and the id between them is not one of a client.
pub async fn pages_with_records_of_other_clients(world: World) {
    let auditor = world.by("auditor").await;
    let (mut after, mut ids) = ("!".to_owned(), Vec::new());
    for _ in 0..20 {
        let page = auditor.get(&format!("/clients?limit=1&after={after}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        let page = page.json();
        ids.push((page["clients"][0]["client_id"].clone(), page["clients"][0].get("is_unreadable").is_some()));
        let Some(next) = page["next"].as_str() else { break };
        next.clone_into(&mut after);
    }
    let all = ["auditor", "b", "d", "other-root", "other-team", "payments", "root", "team"];
    assert_eq!(ids, all.map(|id| (id.into(), matches!(id, "b" | "d"))));
    assert_refused(&auditor.get("/clients/b").await, 503, "temporarily_unavailable");
}

/// The page of a record that cannot be read: `b` is one.
pub async fn a_page_with_an_unreadable_record(world: World) {
    let auditor = world.by("auditor").await;
    let listed = auditor.get("/clients?limit=100").await;
    assert_eq!(listed.status, 200, "{listed:?}");
    let clients = listed.json()["clients"].as_array().unwrap().clone();
    let ids: Vec<_> = clients.iter().map(|client| client["client_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["auditor", "b", "c", "other-root", "other-team", "payments", "root", "team"]);
    assert_eq!(clients[1], json!({"client_id": "b", "is_unreadable": true}));
    let page = auditor.get("/clients?limit=1&after=auditor").await.json();
    assert_eq!((&page["clients"][0]["client_id"], &page["next"]), (&"b".into(), &"b".into()));
    assert_eq!(auditor.get("/clients?limit=1&after=b").await.json()["clients"][0]["client_id"], "c");
    assert_refused(&auditor.get("/clients/b").await, 503, "temporarily_unavailable");
}
