//! Tokens that a platform or a SPIFFE trust domain issued for a workload.

use std::sync::Arc;

use serde_json::{Value, json};
use tower_client_credentials::authorization_server::AssertionRule::{self, *};
use tower_client_credentials::authorization_server::{ClientAssertions, PlatformIssuer, RuleResult, TrustDomain};
use tower_client_credentials::event::{self, EventReceiver, Outcome};
use tower_client_credentials::keys::Algorithm as Alg;
use tower_client_credentials::keys::KeySet;
use tower_client_credentials::registration::{Credential as Registered, RegisteredClient};
use tower_client_credentials::store::{ClientAdmin as _, StoreFuture};
use tower_client_credentials::{Client, ClientId, ClientStore, MemoryStore};

use crate::common::forge::Draft;
use crate::common::request::{GRANT, TokenRequest, post};
use crate::common::{API, ISSUER, NOW, READ, SECRET, client, settings};
use crate::world::{JWT_BEARER, Sign as _, World, ec_jwk, ec_keys, es256, of_key};

const CLUSTER: &str = "https://kubernetes.default.svc.cluster.local";
const ACCOUNT: &str = "system:serviceaccount:prod:billing";
const CI: &str = "https://ci.example";
const SVID: &str = "spiffe://example.org/billing";
const JWT_SPIFFE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";

fn key(seed: u8, name: &str, purpose: Option<&str>) -> Value {
    let mut jwk = ec_jwk(&es256(seed));
    jwk["kid"] = name.into();
    if let Some(purpose) = purpose {
        jwk["use"] = purpose.into();
    }
    json!({ "keys": [jwk] })
}

fn world() -> World {
    let with = |id: &str, credential: Registered| Client::with_credential(id, credential).scope(READ).audience(API);
    let account = || Registered::service_account(CLUSTER, "prod", "billing").unwrap();
    let spiffe = |id: &str| Registered::spiffe_id(id.parse().unwrap());
    let ci = || Registered::platform(CI, "repo:acme/app", [("repository_id", json!("5"))]).unwrap();
    let clients = [
        with("kube", account()),
        with("kube-pinned", account().claim("/kubernetes.io/serviceaccount/uid", "u-1").unwrap()),
        with("kube-default", Registered::service_account(CLUSTER, "prod", "default").unwrap()),
        with(ACCOUNT, account()),
        with("ci", ci()),
        with("spiffe", spiffe(SVID)),
        with("below", spiffe("spiffe://example.org/ns/*")),
        with(SVID, spiffe(SVID)),
        // One principal with credentials of every kind.
        client("all").credential(account()).credential(spiffe(SVID)).credential(ec_keys(7, Some("k1"))).audience(API),
        with("key", ec_keys(7, Some("k1"))),
        with("retired", account()).disabled(),
        with("ended", spiffe(SVID).expires_at(crate::common::at(NOW))),
    ];
    let store = MemoryStore::try_from(clients).unwrap();
    let keys = |set: Value| KeySet::from_jwks(set.to_string()).unwrap();
    let cluster = PlatformIssuer::new(CLUSTER, keys(key(21, "c1", None))).also_named("https://new.cluster.example");
    let assertions = ClientAssertions::new(store.clone())
        .platform(cluster)
        .platform(PlatformIssuer::new(CI, keys(key(22, "i1", None))))
        .trust_domain(TrustDomain::new("example.org", key(23, "s1", Some("jwt-svid")).to_string()).unwrap())
        .trust_domain(TrustDomain::new("other.org", key(24, "s1", Some("jwt-svid")).to_string()).unwrap());
    let (sender, events): (_, EventReceiver) = event::channel();
    let server = settings(store).client_assertions(assertions).events(sender).build().unwrap();
    World { server, events }
}

fn draft(header: Value, claims: Value) -> Draft {
    Draft { header: header.to_string(), claims: claims.to_string() }
}

/// A service-account token, as a cluster signs it.
fn account() -> Draft {
    let kubernetes = json!({"namespace": "prod", "serviceaccount": {"name": "billing", "uid": "u-1"}});
    draft(
        json!({"alg": "ES256", "kid": "c1"}),
        json!({
            "iss": CLUSTER, "sub": ACCOUNT, "aud": [ISSUER], "iat": NOW, "nbf": NOW, "exp": NOW + 3_600, "jti": "x",
            "kubernetes.io": kubernetes,
        }),
    )
}

fn ci() -> Draft {
    draft(
        json!({"alg": "ES256", "kid": "i1", "typ": "JWT"}),
        json!({"iss": CI, "sub": "repo:acme/app", "aud": ISSUER, "iat": NOW, "exp": NOW + 300, "repository_id": "5"}),
    )
}

fn svid() -> Draft {
    draft(json!({"alg": "ES256", "kid": "s1"}), json!({"sub": SVID, "aud": [ISSUER], "iat": NOW, "exp": NOW + 300}))
}

fn send(kind: &str, assertion: &str, client: Option<&str>) -> TokenRequest {
    let request = post(GRANT).param("client_assertion_type", kind).param("client_assertion", assertion);
    client.into_iter().fold(request, |request, client| request.param("client_id", client))
}

#[tokio::test]
async fn workloads_authenticate_with_the_tokens_of_their_platform_again_and_again() {
    let mut world = world();
    let below = svid().claim("sub", "spiffe://example.org/ns/prod/sa/billing");
    for (name, kind, assertion, client, method) in [
        ("an account", JWT_BEARER, account().es256(21), Some("kube"), "platform_jwt"),
        ("an account with its uid", JWT_BEARER, account().es256(21), Some("kube-pinned"), "platform_jwt"),
        ("a client whose id is the account", JWT_BEARER, account().es256(21), Some(ACCOUNT), "platform_jwt"),
        ("the only client of a CI system", JWT_BEARER, ci().es256(22), None, "platform_jwt"),
        (
            "another name of the cluster",
            JWT_BEARER,
            account().claim("iss", "https://new.cluster.example").es256(21),
            Some("kube"),
            "platform_jwt",
        ),
        ("a CI system", JWT_BEARER, ci().es256(22), Some("ci"), "platform_jwt"),
        ("an SVID", JWT_SPIFFE, svid().es256(23), Some("spiffe"), "spiffe_jwt"),
        ("a client whose id is the SVID", JWT_SPIFFE, svid().es256(23), Some(SVID), "spiffe_jwt"),
        ("an SVID below a pattern", JWT_SPIFFE, below.es256(23), Some("below"), "spiffe_jwt"),
        ("an SVID below the pattern of one client", JWT_SPIFFE, below.es256(23), None, "spiffe_jwt"),
        ("an SVID of type JOSE", JWT_SPIFFE, svid().header("typ", "JOSE").es256(23), Some("spiffe"), "spiffe_jwt"),
        ("an SVID without iat", JWT_SPIFFE, svid().without_claim("iat").es256(23), Some("spiffe"), "spiffe_jwt"),
        ("an SVID with any iss", JWT_SPIFFE, svid().claim("iss", CLUSTER).es256(23), Some("spiffe"), "spiffe_jwt"),
        ("the account of one of many", JWT_BEARER, account().es256(21), Some("all"), "platform_jwt"),
        ("the SVID of one of many", JWT_SPIFFE, svid().es256(23), Some("all"), "spiffe_jwt"),
    ] {
        assert_eq!(world.failed_rules(&assertion, client).await, [], "{name}");
        for _ in 0..2 {
            let seen = world.send(send(kind, &assertion, client)).await;
            let outcome = world.outcome();
            let Outcome::Issued { credential, .. } = &outcome else { panic!("{name}: {seen:?} {outcome:?}") };
            assert_eq!(credential.method(), method, "{name}");
        }
    }
    let key = crate::world::good("all", "ES256", Some("k1")).es256(7);
    assert_eq!(world.send(send(JWT_BEARER, &key, None)).await.status.as_u16(), 200);
    assert_eq!(world.send(post(GRANT).basic("all", &SECRET)).await.status.as_u16(), 200);
}

/// A store that is not in memory, so that its clients are cached.
#[derive(Debug)]
struct Remote(MemoryStore);

impl ClientStore for Remote {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        self.0.find(id)
    }
}

#[tokio::test]
async fn a_new_key_or_spiffe_id_is_accepted_at_once_though_its_client_is_cached() {
    let svid_of = |name: &str| svid().claim("sub", format!("spiffe://example.org/{name}")).es256(23);
    let spiffe = |name: &str| Registered::spiffe_id(format!("spiffe://example.org/{name}").parse().unwrap());
    let signed_by =
        |seed: u8| crate::world::good("key", "ES256", Some("k1")).claim("jti", seed.to_string()).es256(seed);
    for (id, kind, old, new) in [
        ("spiffe", JWT_SPIFFE, (spiffe("one"), svid_of("one")), (spiffe("two"), svid_of("two"))),
        ("key", JWT_BEARER, (ec_keys(7, Some("k1")), signed_by(7)), (ec_keys(8, Some("k1")), signed_by(8))),
    ] {
        let with = |credential| Client::with_credential(id, credential).scope(READ).audience(API);
        let store = MemoryStore::try_from([with(old.0)]).unwrap();
        let domain = TrustDomain::new("example.org", key(23, "s1", Some("jwt-svid")).to_string()).unwrap();
        let assertions = ClientAssertions::new(store.clone()).trust_domain(domain);
        let (sender, events) = event::channel();
        let server = settings(Remote(store.clone())).client_assertions(assertions).events(sender).build().unwrap();
        let world = World { server, events };
        assert_eq!(world.send(send(kind, &old.1, Some(id))).await.status, 200, "{id}");
        let (_, revision) = store.load(&id.parse().unwrap()).await.unwrap().unwrap();
        store.replace(with(new.0).register().unwrap(), revision).await.unwrap();
        assert_eq!(world.send(send(kind, &new.1, Some(id))).await.status, 200, "{id}");
    }
}

#[tokio::test]
async fn the_diagnosis_names_the_rule_that_the_token_of_a_workload_breaks() {
    let world = world();
    for (assertion, client, rule) in [
        (account().claim("aud", CLUSTER).es256(21), "kube", Audience),
        (account().es256(22), "kube", Signature),
        (account().claim("exp", NOW - 60).es256(21), "kube", Expiry),
        (account().es256(21), "ci", Credential),
        (account().es256(21), "retired", Client),
        (account().es256(21), "unknown", Client),
        (svid().es256(24), "spiffe", Signature),
        (svid().claim("sub", "spiffe://strange.org/a").es256(23), "spiffe", Subject),
        (svid().header("jwk", json!({})).es256(23), "spiffe", Header),
        (svid().es256(23), "ended", Credential),
    ] {
        let failed = world.failed_rules(&assertion, Some(client)).await;
        assert!(failed.contains(&rule), "{client}: {rule:?} is not one of {failed:?}");
    }
}

#[tokio::test]
async fn the_diagnosis_checks_every_rule_also_after_another_one_was_broken() {
    let world = world();
    let bad_account =
        account().header("typ", "at+jwt").claim("aud", CLUSTER).claim("iat", NOW + 60).claim("exp", NOW - 60);
    let bad_account = bad_account.claim("nbf", NOW + 60).es256(22);
    let bad_svid = svid().header("typ", "jwt").claim("aud", API).claim("exp", NOW + 600).es256(24);
    for (name, assertion, client, expected) in [
        ("an account", bad_account, "ci", vec![Type, Audience, Expiry, NotBefore, IssuedAt, Credential, Signature]),
        ("an SVID", bad_svid, "retired", vec![Type, Audience, Lifetime, Client, Credential, Signature]),
        (
            "an SVID of a stranger",
            svid().claim("sub", "spiffe://strange.org/a").claim("exp", "soon").header("alg", "HS256").es256(23),
            "spiffe",
            vec![Algorithm, Subject, Expiry],
        ),
        (
            "an SVID without a key",
            svid().without_header("kid").claim("aud", API).es256(23),
            "spiffe",
            vec![Header, Audience],
        ),
        (
            "an unknown key",
            account().header("kid", "c2").claim("exp", NOW + 3_601).es256(21),
            "kube",
            vec![Lifetime, Key],
        ),
    ] {
        assert_eq!(world.failed_rules(&assertion, Some(client)).await, expected, "{name}");
    }
    // Only what depends on the request or on a broken rule is not checked.
    for (assertion, client) in [(account().es256(21), "kube"), (svid().es256(23), "spiffe")] {
        let checked = world.server.diagnose_assertion(&assertion, Some(&client.parse().unwrap())).await.unwrap();
        let passed = checked.iter().filter(|checked| *checked.result() == RuleResult::Passed);
        let others: Vec<_> = checked.iter().filter(|checked| *checked.result() != RuleResult::Passed).collect();
        assert_eq!(passed.count(), 20, "{others:?}");
        assert_eq!(others.iter().map(|checked| checked.rule()).collect::<Vec<_>>(), [AssertionType, Replay]);
    }
}

#[tokio::test]
async fn the_default_account_of_a_namespace_is_reported_once() {
    let mut world = world();
    let token = account().claim("sub", "system:serviceaccount:prod:default").es256(21);
    let request = || send(JWT_BEARER, &token, Some("kube-default"));
    world.send(request()).await;
    assert!(matches!(world.outcome(), Outcome::DefaultServiceAccountUsed));
    assert!(matches!(world.outcome(), Outcome::Issued { .. }));
    world.send(request()).await;
    assert!(matches!(world.outcome(), Outcome::Issued { .. }));
}

fn refused_accounts() -> Vec<(String, AssertionRule, TokenRequest)> {
    let of = |draft: Draft, client: &str| send(JWT_BEARER, &draft.es256(21), Some(client));
    let row = |name: &str, rule, request| (format!("account: {name}"), rule, request);
    let mut rows = vec![
        row("of the API server", Audience, of(account().claim("aud", CLUSTER), "kube")),
        row("no audience", Audience, of(account().without_claim("aud"), "kube")),
        row("two audiences", Audience, of(account().claim("aud", json!([ISSUER, CLUSTER])), "kube")),
        row("an audience with a slash", Audience, of(account().claim("aud", format!("{ISSUER}/")), "kube")),
        row("the token endpoint", Audience, of(account().claim("aud", format!("{ISSUER}/token")), "kube")),
        row("expired", Expiry, of(account().claim("iat", NOW - 60).claim("exp", NOW - 10), "kube")),
        row("no exp", Expiry, of(account().without_claim("exp"), "kube")),
        row("a text as exp", Expiry, of(account().claim("exp", "soon"), "kube")),
        row("no iat", IssuedAt, of(account().without_claim("iat"), "kube")),
        row("a future iat", IssuedAt, of(account().claim("iat", NOW + 11), "kube")),
        row("a future nbf", NotBefore, of(account().claim("nbf", NOW + 11), "kube")),
        row("the first nbf out of range", NotBefore, of(account().claim("nbf", 1_u64 << 63), "kube")),
        row("the last nbf out of range", NotBefore, of(account().claim("nbf", u64::MAX), "kube")),
        row("an iat out of range", IssuedAt, of(account().claim("iat", u64::MAX), "kube")),
        row("an hour and a second", Lifetime, of(account().claim("exp", NOW + 3_601), "kube")),
        row("another account", Credential, of(account().claim("sub", "system:serviceaccount:prod:other"), "kube")),
        row("another namespace", Credential, of(account().claim("sub", "system:serviceaccount:dev:billing"), "kube")),
        row("a prefix", Credential, of(account().claim("sub", "system:serviceaccount:prod:billing2"), "kube")),
        row("no sub", Subject, of(account().without_claim("sub"), "kube")),
        row("an SVID of the cluster", Subject, of(account().claim("sub", SVID), "spiffe")),
        row("another client", Credential, of(account(), "ci")),
        row("a client with a key", Credential, of(account(), "key")),
        row("an unknown client", Client, of(account(), "stranger")),
        row("a disabled client", Client, of(account(), "retired")),
        row("an account of several clients", ClientId, send(JWT_BEARER, &account().es256(21), None)),
        row(
            "an account of no client",
            Client,
            send(JWT_BEARER, &account().claim("sub", "system:serviceaccount:prod:none").es256(21), None),
        ),
        row("an empty client id", ClientId, of(account(), "")),
        row("an unknown key", Key, of(account().header("kid", "c2"), "kube")),
        row("another algorithm", Algorithm, of(account().header("alg", "RS256"), "kube")),
        row("none", Algorithm, of(account().header("alg", "none"), "kube")),
        row("an access token", Type, of(account().header("typ", "at+jwt"), "kube")),
        row("crit", Critical, of(account().header("crit", json!(["exp"])), "kube")),
        row("jku", ForeignKey, of(account().header("jku", "https://evil.example"), "kube")),
        row("an unknown issuer", Issuer, of(account().claim("iss", "https://evil.example"), "kube")),
        row("an issuer with a slash", Issuer, of(account().claim("iss", format!("{CLUSTER}/")), "kube")),
        row("the key of another platform", Signature, send(JWT_BEARER, &account().es256(22), Some("kube"))),
        row("the issuer of another platform", Key, of(account().claim("iss", CI), "kube")),
    ];
    let other_uid = account().claim("kubernetes.io", json!({"serviceaccount": {"uid": "u-2"}}));
    rows.push(row("another uid", Credential, of(other_uid, "kube-pinned")));
    rows.push(row("no uid", Credential, of(account().without_claim("kubernetes.io"), "kube-pinned")));
    for (name, id) in [("another repository", json!("6")), ("a number", json!(5)), ("null", Value::Null)] {
        let token = ci().claim("repository_id", id).es256(22);
        rows.push(row(name, Credential, send(JWT_BEARER, &token, Some("ci"))));
    }
    rows
}

fn refused_svids() -> Vec<(String, AssertionRule, TokenRequest)> {
    let of = |draft: Draft, client: &str| send(JWT_SPIFFE, &draft.es256(23), Some(client));
    let row = |name: &str, rule, request| (format!("SVID: {name}"), rule, request);
    let mut rows = vec![
        row("another audience", Audience, of(svid().claim("aud", API), "spiffe")),
        row("two audiences", Audience, of(svid().claim("aud", json!([ISSUER, API])), "spiffe")),
        row("no audience", Audience, of(svid().without_claim("aud"), "spiffe")),
        row("an empty audience", Audience, of(svid().claim("aud", json!([])), "spiffe")),
        row("no exp", Expiry, of(svid().without_claim("exp"), "spiffe")),
        row("expired", Expiry, of(svid().claim("iat", NOW - 60).claim("exp", NOW - 10), "spiffe")),
        row("too long", Lifetime, of(svid().claim("exp", NOW + 301), "spiffe")),
        row("an nbf out of range", NotBefore, of(svid().claim("nbf", u64::MAX), "spiffe")),
        row("an iat out of range", IssuedAt, of(svid().claim("iat", 1_u64 << 63), "spiffe")),
        row("too long without iat", Lifetime, of(svid().without_claim("iat").claim("exp", NOW + 311), "spiffe")),
        row("no sub", Subject, of(svid().without_claim("sub"), "spiffe")),
        row("another path", Credential, of(svid().claim("sub", "spiffe://example.org/other"), "spiffe")),
        row("below the id", Credential, of(svid().claim("sub", format!("{SVID}/x")), "spiffe")),
        row("the pattern itself", Subject, of(svid().claim("sub", "spiffe://example.org/ns/*"), "below")),
        row("a part of a segment", Credential, of(svid().claim("sub", "spiffe://example.org/nsx/a"), "below")),
        row("above the pattern", Credential, of(svid().claim("sub", "spiffe://example.org/ns"), "below")),
        row("a trust domain", Subject, of(svid().claim("sub", "spiffe://example.org"), "spiffe")),
        row("an unknown trust domain", Subject, of(svid().claim("sub", "spiffe://evil.org/billing"), "spiffe")),
        row("another trust domain", Signature, of(svid().claim("sub", "spiffe://other.org/billing"), "spiffe")),
        row("case", Subject, of(svid().claim("sub", "spiffe://Example.org/billing"), "spiffe")),
        row("dots", Subject, of(svid().claim("sub", "spiffe://example.org/x/../billing"), "spiffe")),
        row("no kid", Header, of(svid().without_header("kid"), "spiffe")),
        row("an unknown kid", Key, of(svid().header("kid", "s2"), "spiffe")),
        row("EdDSA", Algorithm, of(svid().header("alg", "EdDSA"), "spiffe")),
        row("HS256", Algorithm, of(svid().header("alg", "HS256"), "spiffe")),
        row("an expired credential", Credential, of(svid(), "ended")),
        row("of several clients", ClientId, send(JWT_SPIFFE, &svid().es256(23), None)),
        row(
            "of no client",
            Client,
            send(JWT_SPIFFE, &svid().claim("sub", "spiffe://example.org/none").es256(23), None),
        ),
        row("the key of another domain", Signature, send(JWT_SPIFFE, &svid().es256(24), Some("spiffe"))),
        row("a client with an account", Credential, of(svid(), "kube")),
        // The types crossed.
        row("as jwt-bearer", Issuer, send(JWT_BEARER, &svid().es256(23), Some("spiffe"))),
        row(
            "as jwt-bearer with iss",
            Issuer,
            send(JWT_BEARER, &svid().claim("iss", "spiffe").claim("jti", "x").es256(23), None),
        ),
        row("an account as an SVID", Subject, send(JWT_SPIFFE, &account().es256(21), Some("kube"))),
        row(
            "an assertion as an SVID",
            Subject,
            send(JWT_SPIFFE, &of_key().without_header("typ").es256(7), Some("key")),
        ),
    ];
    for (name, value) in [("crit", json!(["exp"])), ("jku", json!("x")), ("x5c", json!([])), ("cty", json!("JWT"))] {
        rows.push(row(name, Header, of(svid().header(name, value), "spiffe")));
    }
    for typ in [json!("jwt"), json!("at+jwt"), json!(""), Value::Null, json!(5)] {
        rows.push(row(&format!("typ {typ}"), Type, of(svid().header("typ", typ), "spiffe")));
    }
    rows
}

#[tokio::test]
async fn every_token_of_a_workload_that_breaks_a_rule_gets_the_same_bytes_and_its_event_names_the_rule() {
    let mut world = world();
    let wrong_secret = world.send(post(GRANT).basic("all", &crate::common::WRONG_SECRET)).await;
    world.outcome();
    let rows = [refused_accounts(), refused_svids()].concat();
    println!("{} tokens of workloads", rows.len());
    for (name, rule, request) in rows {
        let seen = world.send(request).await;
        assert_eq!(seen, wrong_secret, "{name}");
        let (broken, text) = world.broken_rule();
        assert_eq!(broken, rule, "{name}: {text}");
    }
}

#[tokio::test]
async fn the_algorithms_of_the_server_hold_for_svids_as_well() {
    let svids = Client::with_credential("spiffe", Registered::spiffe_id(SVID.parse().unwrap())).audience(API);
    let store = MemoryStore::try_from([svids]).unwrap();
    let bundle = TrustDomain::new("example.org", key(23, "s1", Some("jwt-svid")).to_string()).unwrap();
    let assertions = ClientAssertions::new(store.clone()).trust_domain(bundle).algorithms([Alg::PS256]);
    let (sender, events) = event::channel();
    let server = settings(store).client_assertions(assertions).events(sender).build().unwrap();
    let mut world = World { server, events };
    let answer = world.send(send(JWT_SPIFFE, &svid().es256(23), None)).await;
    let (rule, text) = world.broken_rule();
    assert_eq!((answer.status.as_u16(), rule), (401, Algorithm), "{text}");
    assert!(text.contains("expected PS256"), "{text}");
}

#[tokio::test]
async fn the_refusal_of_a_token_for_the_api_server_says_which_setting_to_change() {
    let mut world = world();
    world.send(send(JWT_BEARER, &account().claim("aud", json!([CLUSTER])).es256(21), Some("kube"))).await;
    let (_, text) = world.broken_rule();
    assert!(text.contains(CLUSTER) && text.contains(ISSUER) && text.contains("serviceAccountToken.audience"), "{text}");
}

#[test]
fn settings_and_clients_that_cannot_work_are_refused_when_the_server_is_built() {
    let keys = || KeySet::from_jwks(key(21, "c1", None).to_string()).unwrap();
    let bundle = || key(23, "s1", Some("jwt-svid")).to_string();
    let build = |client: Client, assertions: ClientAssertions| {
        let built =
            settings(MemoryStore::try_from([client.audience(API)]).unwrap()).client_assertions(assertions).build();
        built.unwrap_err().to_string()
    };
    let none = || ClientAssertions::new(MemoryStore::default());
    let of = |credential| Client::with_credential("a", credential);
    let account = of(Registered::service_account(CLUSTER, "prod", "billing").unwrap());
    assert!(build(account, none()).contains("ClientAssertions::platform"));
    let spiffe = of(Registered::spiffe_id(SVID.parse().unwrap()));
    let other = none().trust_domain(TrustDomain::new("other.org", bundle()).unwrap());
    assert!(build(spiffe, other).contains("ClientAssertions::trust_domain"));
    let url = of(Registered::jwks_uri("https://client.example/jwks").unwrap());
    assert!(build(url, none()).contains("ClientAssertions::client_key_urls"));
    let twice = none().platform(PlatformIssuer::new(CLUSTER, keys())).platform(PlatformIssuer::new(CLUSTER, keys()));
    assert!(build(client("a"), twice).contains("occurs twice"));
    let named = client(CI);
    assert!(
        build(named, none().platform(PlatformIssuer::new(CI, keys()))).contains("its id is the issuer of a platform")
    );
    let upper = none().trust_domain(TrustDomain::new("Example.org", bundle()).unwrap());
    assert!(build(client("a"), upper).contains("trust domain"));
    assert!(TrustDomain::new("example.org", key(23, "s1", Some("x509-svid")).to_string()).is_err());
    assert!(TrustDomain::new("example.org", key(23, "s1", None).to_string()).is_err());
}

#[test]
fn a_record_has_each_kind_of_credential() {
    let client = client("a")
        .credential(Registered::service_account(CLUSTER, "prod", "billing").unwrap().claim("/a/b", 5).unwrap())
        .credential(Registered::spiffe_id(SVID.parse().unwrap()).with_label("svid").unwrap())
        .credential(
            Registered::jwks_uri("https://client.example/jwks").unwrap().refreshed_at(crate::common::at(7)).unwrap(),
        )
        .credential(ec_keys(7, None))
        .legacy_assertions_until(crate::common::at(NOW))
        .register()
        .unwrap();
    let record = serde_json::to_string(&client).unwrap();
    assert_eq!(serde_json::from_str::<RegisteredClient>(&record).unwrap(), client, "{record}");
    for (credential, says) in [
        (json!({"method": "private_key_jwt"}), "credentials[0].jwks: missing"),
        (json!({"method": "private_key_jwt", "jwks_uri": "http://client.example"}), "credentials[0].jwks_uri: "),
        (json!({"method": "private_key_jwt", "jwks_uri": "https://c.example", "jwks": {"keys": []}}), "keep one"),
        (json!({"method": "spiffe_jwt"}), "credentials[0].spiffe_id: missing"),
        (json!({"method": "spiffe_jwt", "spiffe_id": "x"}), "credentials[0].spiffe_id: "),
        (json!({"method": "spiffe_jwt", "spiffe_id": SVID, "jwks_uri": "https://c.example"}), "does not belong"),
        (json!({"method": "platform_jwt", "issuer": CI, "subject": "x"}), "repository_id"),
        (json!({"method": "client_secret_basic"}), "client_secrets"),
        (json!({"method": "spiffe_jwt", "spiffe_id": SVID, "unknown": 1}), "unknown field"),
    ] {
        let record = json!({"client_id": "a", "credentials": [credential]}).to_string();
        let error = serde_json::from_str::<RegisteredClient>(&record).unwrap_err().to_string();
        assert!(error.contains(says), "{record}: {error}");
    }
}
