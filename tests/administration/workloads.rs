//! Credentials for workloads are a right: the server finds the client of a workload by them.

use std::time::{SystemTime, UNIX_EPOCH};

use http::Method;
use p256::ecdsa::SigningKey;
use serde_json::{Value, json};
use tower_client_credentials::authorization_server::{ClientAssertions, PlatformIssuer, TrustDomain};
use tower_client_credentials::event::Outcome;
use tower_client_credentials::keys::KeySet;
use tower_client_credentials::registration::MayGrant;

use crate::common::forge::{Draft, encode};
use crate::common::request::{GRANT, post};
use crate::common::stack::Answer;
use crate::common::{API, ISSUER};
use crate::scenarios::{JWKS, assert_refused};
use crate::world::{ADMINISTRATION, Administrator, World, invoices};

const CLUSTER: &str = "https://kubernetes.default.svc.cluster.local";
const JWT_SPIFFE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";

/// The workloads of `team`.
pub fn of_team(may_grant: MayGrant) -> MayGrant {
    may_grant
        .workload("spiffe://example.org/team-a/*".parse().unwrap())
        .platform_workload(CLUSTER, "system:serviceaccount:shared:team-a")
        .platform_subject_prefix(CLUSTER, "system:serviceaccount:team-a:")
}

/// Trusts a cluster and a trust domain, which have the same key.
pub fn trusting(assertions: ClientAssertions) -> ClientAssertions {
    let set = |purpose: &str| json!({ "keys": [jwk(purpose)] }).to_string();
    assertions
        .platform(PlatformIssuer::new(CLUSTER, KeySet::from_jwks(set("sig")).unwrap()))
        .trust_domain(TrustDomain::new("example.org", set("jwt-svid")).unwrap())
}

fn key() -> SigningKey {
    SigningKey::from_slice(&[23; 32]).unwrap()
}

fn jwk(purpose: &str) -> Value {
    let point = key().verifying_key().to_encoded_point(false);
    let (x, y) = (encode(point.x().unwrap()), encode(point.y().unwrap()));
    json!({"kty": "EC", "crv": "P-256", "kid": "a", "use": purpose, "x": x, "y": y})
}

fn spiffe(id: &str) -> Value {
    json!({"method": "spiffe_jwt", "spiffe_id": id})
}

fn account(subject: &str) -> Value {
    json!({"method": "platform_jwt", "issuer": CLUSTER, "subject": subject})
}

fn client_for(credential: &Value) -> Value {
    json!({"scope": "invoices:read", "audiences": [API], "credentials": [credential]})
}

fn of_another_team() -> Vec<Value> {
    vec![
        spiffe("spiffe://example.org/*"),
        spiffe("spiffe://example.org/team-b/*"),
        spiffe("spiffe://example.org/team-b/billing"),
        spiffe("spiffe://example.org/team-a"),
        spiffe("spiffe://example.org/team-ab/*"),
        spiffe("spiffe://example.org/team-ab/billing"),
        account("system:serviceaccount:team-b:billing"),
        account("system:serviceaccount:team-ab:billing"),
        account("system:serviceaccount:shared:team-ab"),
        account("system:serviceaccount:shared:team-a:b"),
    ]
}

fn of_its_own() -> Vec<Value> {
    vec![
        spiffe("spiffe://example.org/team-a/*"),
        spiffe("spiffe://example.org/team-a/billing"),
        spiffe("spiffe://example.org/team-a/billing/*"),
        account("system:serviceaccount:shared:team-a"),
        account("system:serviceaccount:team-a:billing"),
    ]
}

async fn add(administrator: &Administrator, id: &str, credential: &Value) -> Answer {
    administrator.change(Method::POST, id, "/credentials", &credential.to_string()).await
}

fn id_of(created: &Value) -> String {
    created["client_id"].as_str().unwrap().to_owned()
}

/// Requests a token with an SVID, without `client_id`.
async fn with_svid(world: &World, subject: &str) -> Answer {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"sub": subject, "aud": [ISSUER], "iat": now, "exp": now + 300});
    let svid = Draft { header: json!({"alg": "ES256", "kid": "a"}).to_string(), claims: claims.to_string() };
    let request = post(GRANT).param("client_assertion_type", JWT_SPIFFE);
    world.site.send_patiently(request.param("client_assertion", &svid.sign_with(&key()))).await
}

pub async fn a_credential_for_a_workload_of_another_team_is_refused(world: World) {
    let (root, team, other) = (world.by("root").await, world.by("team").await, world.by("other-team").await);
    let id = id_of(&team.creates(invoices()).await);
    let before = team.tag(&id).await;
    for credential in of_another_team() {
        let subject = credential["spiffe_id"].as_str().or(credential["subject"].as_str()).unwrap();
        let mut replacement = team.get(&format!("/clients/{id}")).await.json();
        replacement["credentials"] = json!([credential]);
        for answer in [
            team.post("/clients", &client_for(&credential)).await,
            team.put(&id, &replacement).await,
            add(&team, &id, &credential).await,
        ] {
            assert_refused(&answer, 403, "access_denied");
            let text = answer.json()["error_description"].as_str().unwrap().to_owned();
            assert!(text.contains(&format!("`{subject}`")) && text.contains("`may_grant`"), "{text}");
        }
        // The refusal is one of the right, and not of the credential.
        assert_eq!(root.post("/clients", &client_for(&credential)).await.status, 201, "{credential}");
    }
    let shorthand = json!({"audiences": [API], "spiffe_id": "spiffe://example.org/team-b/a"});
    assert_refused(&team.post("/clients", &shorthand).await, 403, "access_denied");
    assert_eq!(team.tag(&id).await, before);
    // A list without workloads allows none.
    for credential in of_its_own() {
        assert_refused(&other.post("/clients", &client_for(&credential)).await, 403, "access_denied");
        assert_refused(&add(&other, &id, &credential).await, 403, "access_denied");
    }
    let mut events = world.events.lock().await;
    let mut refused = 0;
    while let Some(event) = events.try_recv() {
        if let Outcome::AdministrationRefused { failure, .. } = event.outcome {
            assert_eq!((failure.reason(), failure.status().as_u16()), ("access_denied", 403));
            refused += 1;
        }
    }
    assert_eq!(refused, 3 * of_another_team().len() + 1 + 2 * of_its_own().len());
}

pub async fn a_credential_for_a_listed_workload_is_accepted(world: World) {
    let team = world.by("team").await;
    let id = id_of(&team.creates(invoices()).await);
    for credential in of_its_own() {
        team.creates(client_for(&credential)).await;
        let added = add(&team, &id, &credential).await;
        assert_eq!(added.status, 200, "{credential}: {added:?}");
    }
    let mut replacement = team.get(&format!("/clients/{id}")).await.json();
    replacement["credentials"] = json!([of_its_own()[1]]);
    assert_eq!(team.put(&id, &replacement).await.status, 200);
}

/// `root` gave it: the team manages the client, but makes of the credential no more than it is.
pub async fn a_credential_that_a_client_had_before_is_not_checked_again(world: World) {
    let (root, team) = (world.by("root").await, world.by("team").await);
    let mut billing = account("system:serviceaccount:team-b:billing");
    billing["claims"] = json!({"/kubernetes.io/serviceaccount/uid": "u-1"});
    billing["expires_at"] = 4_000_000_000_u64.into();
    let mut body = client_for(&billing);
    body["credentials"] = json!([billing, spiffe("spiffe://example.org/team-b/*")]);
    let id = id_of(&root.creates(body).await);
    let path = format!("/clients/{id}");

    let mut named = team.get(&path).await.json();
    named["client_name"] = "Billing of two teams".into();
    assert_eq!(team.put(&id, &named).await.status, 200);
    assert_eq!(team.change(Method::POST, &id, "/disable", "").await.status, 200);
    assert_eq!(team.change(Method::POST, &id, "/enable", "").await.status, 200);
    let keys = json!({"method": "private_key_jwt", "jwks": serde_json::from_str::<Value>(JWKS).unwrap()});
    assert_eq!(add(&team, &id, &keys).await.status, 200);

    let current = team.get(&path).await.json();
    let with = |number: usize, name: &str, value: Value| {
        let mut body = current.clone();
        body["credentials"][number][name] = value;
        body
    };
    for wider in [
        with(0, "expires_at", 4_000_000_001_u64.into()),
        with(0, "expires_at", Value::Null),
        with(0, "claims", json!({})),
        with(0, "claims", json!({"/kubernetes.io/serviceaccount/uid": "u-2"})),
        with(0, "subject", "system:serviceaccount:team-b:other".into()),
        with(1, "spiffe_id", "spiffe://example.org/*".into()),
        with(1, "spiffe_id", "spiffe://example.org/team-c/*".into()),
    ] {
        assert_refused(&team.put(&id, &wider).await, 403, "access_denied");
    }
    let claims = json!({"/kubernetes.io/serviceaccount/uid": "u-1", "/kubernetes.io/namespace": "team-b"});
    for narrower in [
        with(0, "expires_at", 3_999_999_999_u64.into()),
        with(0, "claims", claims),
        with(1, "spiffe_id", "spiffe://example.org/team-b/billing".into()),
    ] {
        assert_eq!(team.put(&id, &narrower).await.status, 200, "{narrower}");
        // The team cannot undo it.
        assert_refused(&team.put(&id, &current).await, 403, "access_denied");
        assert_eq!(root.put(&id, &current).await.status, 200);
    }
    let removed = team.change(Method::DELETE, &id, "/credentials/2", "").await;
    assert_eq!(removed.status, 200, "{removed:?}");
    assert_refused(&add(&team, &id, &spiffe("spiffe://example.org/team-b/*")).await, 403, "access_denied");
}

pub async fn an_administrator_gives_on_only_the_workloads_of_its_own_list(world: World) {
    let (root, team) = (world.by("root").await, world.by("team").await);
    let scope = "clients:read clients:write clients:administrators";
    let administrator = |may_grant: &Value| json!({"scope": scope, "default_scope": scope, "audiences": [ADMINISTRATION], "may_grant": may_grant});
    let list = json!({
        "spiffe_ids": ["spiffe://example.org/team-a/*"],
        "platform_workloads": [
            {"issuer": CLUSTER, "subject_prefix": "system:serviceaccount:team-a:"},
            {"issuer": CLUSTER, "subject": "system:serviceaccount:shared:team-a"},
        ],
    });
    let limited = root.creates(administrator(&list)).await;
    assert_eq!(limited["may_grant"], list);
    let token = world.token_with(&id_of(&limited), limited["client_secret"].as_str().unwrap()).await.unwrap();
    let limited = Administrator { world: world.clone(), token };
    let id = id_of(&limited.creates(administrator(&list)).await);
    let platform = |member: &str, subject: &str| json!({"platform_workloads": [{"issuer": CLUSTER, member: subject}]});
    for covered in [
        json!({"spiffe_ids": ["spiffe://example.org/team-a/billing", "spiffe://example.org/team-a/b/*"]}),
        platform("subject", "system:serviceaccount:team-a:billing"),
        platform("subject_prefix", "system:serviceaccount:team-a:b:"),
    ] {
        assert_eq!(limited.put(&id, &administrator(&covered)).await.status, 200, "{covered}");
    }
    for wider in [
        json!({"spiffe_ids": ["spiffe://example.org/*"]}),
        json!({"spiffe_ids": ["spiffe://example.org/team-a/*", "spiffe://example.org/team-ab/*"]}),
        platform("subject", "system:serviceaccount:team-b:billing"),
        platform("subject_prefix", "system:serviceaccount:"),
        platform("subject_prefix", "system:serviceaccount:team-a"),
        platform("subject_prefix", "system:serviceaccount:shared:team-a"),
        json!({"platform_workloads": [{"issuer": "https://other.example", "subject": "system:serviceaccount:shared:team-a"}]}),
        json!({"everything": true}),
    ] {
        assert_refused(&limited.put(&id, &administrator(&wider)).await, 403, "access_denied");
        assert_eq!(root.put(&id, &administrator(&wider)).await.status, 200, "{wider}");
        assert_eq!(root.put(&id, &administrator(&list)).await.status, 200);
    }
    // The administrator of a team extends no list, its own included.
    let mut own = team.get("/clients/team").await.json();
    own["may_grant"]["spiffe_ids"] = json!(["spiffe://example.org/*"]);
    assert_refused(&team.put("team", &own).await, 403, "access_denied");
    // An extended list counts at once.
    let of_other = client_for(&spiffe("spiffe://example.org/team-b/*"));
    assert_refused(&team.post("/clients", &of_other).await, 403, "access_denied");
    assert_eq!(root.put("team", &own).await.status, 200);
    team.creates(of_other).await;
}

pub async fn a_request_of_a_workload_stays_that_of_the_client_of_its_team(world: World) {
    let (root, team) = (world.by("root").await, world.by("team").await);
    let victim = id_of(&root.creates(client_for(&spiffe("spiffe://example.org/team-b/billing"))).await);
    for id in ["spiffe://example.org/*", "spiffe://example.org/team-b/billing", "spiffe://example.org/team-b/*"] {
        team.post("/clients", &client_for(&spiffe(id))).await;
    }
    let own = id_of(&team.creates(client_for(&spiffe("spiffe://example.org/team-a/*"))).await);
    let client_of = |answer: Answer| {
        let token = answer.json()["access_token"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned();
        crate::common::forge::parts(&token).1["client_id"].as_str().unwrap().to_owned()
    };
    // Not blocked, since it is not ambiguous.
    assert_eq!(client_of(with_svid(&world, "spiffe://example.org/team-b/billing").await), victim);
    // Not captured, since it belongs to no client.
    assert_eq!(with_svid(&world, "spiffe://example.org/team-b/new").await.status, 401);
    assert_eq!(client_of(with_svid(&world, "spiffe://example.org/team-a/new").await), own);
}
