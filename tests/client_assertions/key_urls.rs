//! Keys at URLs: those of clients, platforms and trust domains, from a server that is slow, down, huge, or lies.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use serde_json::json;
use tokio::sync::Semaphore;
use tower_client_credentials::authorization_server::{AssertionRule, ClientAssertions, PlatformIssuer, TrustDomain};
use tower_client_credentials::registration::Credential;
use tower_client_credentials::store::ClientAdmin as _;
use tower_client_credentials::{Client, MemoryStore, event};

use crate::common::forge::Draft;
use crate::common::request::{GRANT, post};
use crate::common::{API, ISSUER, NOW, at, clock, settings};
use crate::world::{Sign as _, World, asks, ec_jwk, ec_keys, es256, good};

/// What the server of the keys answers.
#[derive(Clone)]
enum Answer {
    Keys(String),
    Status(StatusCode),
    Redirect(&'static str),
    Huge,
    /// The keys, once the test lets an answer pass.
    Held(Arc<Semaphore>, String),
}

/// A server of keys on loopback.
#[derive(Clone)]
struct KeyServer {
    url: String,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
    /// Whether each request has `Cache-Control: no-cache`.
    past_caches: Arc<Mutex<Vec<bool>>>,
}

impl KeyServer {
    async fn start(keys: String) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let server = Self {
            url,
            answer: Arc::new(Mutex::new(Answer::Keys(keys))),
            asked: Arc::default(),
            past_caches: Arc::default(),
        };
        let router = Router::new().route("/jwks", get(Self::respond)).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        server
    }

    async fn respond(State(server): State<Self>, headers: http::HeaderMap) -> Response {
        let past_caches = headers.get("cache-control").is_some_and(|value| value == "no-cache");
        server.past_caches.lock().unwrap().push(past_caches);
        server.asked.fetch_add(1, Ordering::SeqCst);
        let answer = server.answer.lock().unwrap().clone();
        match answer {
            Answer::Keys(keys) => keys.into_response(),
            Answer::Status(status) => status.into_response(),
            Answer::Redirect(to) => (StatusCode::FOUND, [("location", to)]).into_response(),
            Answer::Huge => " ".repeat(300 * 1024).into_response(),
            Answer::Held(gate, keys) => {
                gate.acquire().await.unwrap().forget();
                keys.into_response()
            }
        }
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn keys(named: &[(u8, &str)]) -> String {
    let key = |(seed, kid): &(u8, &str)| {
        let mut jwk = ec_jwk(&es256(*seed));
        jwk["kid"] = (*kid).into();
        jwk
    };
    json!({"keys": named.iter().map(key).collect::<Vec<_>>()}).to_string()
}

fn world(store: &MemoryStore, assertions: ClientAssertions) -> World {
    let (sender, events) = event::channel();
    let server = settings(store.clone()).client_assertions(assertions).events(sender).build().unwrap();
    World { server, events }
}

fn store_with(url: &str) -> MemoryStore {
    let at_url = Client::with_credential("far", Credential::jwks_uri(url).unwrap()).audience(API);
    MemoryStore::try_from([at_url, Client::with_credential("near", ec_keys(7, Some("k1"))).audience(API)]).unwrap()
}

#[tokio::test]
async fn the_url_of_a_disabled_client_is_never_fetched() {
    let keys = KeyServer::start(keys(&[(7, "k1")])).await;
    let store = store_with(&keys.url);
    let far = tower_client_credentials::ClientId::from_static("far");
    store.disable(&far).await.unwrap();
    let assertions = ClientAssertions::new(store.clone()).dangerous_private_client_key_urls();
    let mut world = world(&store, assertions);
    for seed in [7, 8] {
        assert_eq!(world.send(asks(&of_far("k1", "a").es256(seed))).await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(world.broken_rule().0, AssertionRule::Client);
    }
    assert_eq!(keys.asked(), 0);
    store.enable(&far).await.unwrap();
    world.send(asks(&of_far("k1", "b").es256(7))).await;
    assert_eq!(keys.asked(), 1);
}

fn of_far(kid: &str, jti: &str) -> Draft {
    good("far", "ES256", Some(kid)).claim("jti", jti)
}

#[tokio::test]
async fn a_client_rotates_its_key_at_its_url_and_a_removed_key_is_refused_after_a_refresh() {
    let keys_of = KeyServer::start(keys(&[(7, "one")])).await;
    let store = store_with(&keys_of.url);
    let mut world = world(&store, ClientAssertions::new(store.clone()).dangerous_private_client_key_urls());
    let get = async |world: &World, kid: &str, jti: &str, seed: u8| {
        world.send(asks(&of_far(kid, jti).es256(seed))).await.status.as_u16()
    };
    assert_eq!(get(&world, "one", "a", 7).await, 200);
    assert_eq!(get(&world, "one", "b", 7).await, 200);
    assert_eq!(keys_of.asked(), 1, "the keys are kept");
    // The next key is published, and then used.
    keys_of.answers(Answer::Keys(keys(&[(7, "one"), (8, "two")])));
    assert_eq!(get(&world, "two", "c", 8).await, 200);
    assert_eq!(keys_of.asked(), 2);
    // The old key is removed. Its assertions are accepted until the set is fetched again.
    keys_of.answers(Answer::Keys(keys(&[(8, "two")])));
    assert_eq!(get(&world, "one", "d", 7).await, 200);
    let (client, revision) = store.load(&"far".parse().unwrap()).await.unwrap().unwrap();
    // The operator's clock may be behind.
    let changed = client.edit().refresh_keys(at(NOW - 1)).register().unwrap();
    store.replace(changed, revision).await.unwrap();
    assert_eq!(get(&world, "two", "e", 8).await, 200);
    while world.events.try_recv().is_some() {}
    assert_ne!(get(&world, "one", "f", 7).await, 200);
    assert_eq!(keys_of.asked(), 4, "one fetch for the refresh, and one for the key that is gone");
}

#[tokio::test]
async fn each_refresh_fetches_the_keys_past_shared_caches_also_within_one_second() {
    let keys_of = KeyServer::start(keys(&[(7, "one")])).await;
    let store = store_with(&keys_of.url);
    let world = world(&store, ClientAssertions::new(store.clone()).dangerous_private_client_key_urls());
    let mut number = 0;
    let mut get = async || {
        number += 1;
        world.send(asks(&of_far("one", &number.to_string()).es256(7))).await.status.as_u16()
    };
    assert_eq!(get().await, 200);
    assert_eq!(*keys_of.past_caches.lock().unwrap(), [false]);
    // The second refresh has the same second as the first, and the third is by an operator whose clock is behind.
    for (time, fetches) in [(NOW, 2), (NOW, 3), (NOW - 9, 4)] {
        let (client, revision) = store.load(&"far".parse().unwrap()).await.unwrap().unwrap();
        store.replace(client.edit().refresh_keys(at(time)).register().unwrap(), revision).await.unwrap();
        for _ in 0..2 {
            assert_eq!(get().await, 200);
        }
        assert_eq!(keys_of.asked(), fetches);
    }
    assert_eq!(*keys_of.past_caches.lock().unwrap(), [false, true, true, true]);
}

#[tokio::test]
async fn a_server_of_keys_that_does_not_answer_with_keys_is_a_503_and_the_last_keys_are_used() {
    for bad in [
        Answer::Status(StatusCode::INTERNAL_SERVER_ERROR),
        Answer::Status(StatusCode::NOT_FOUND),
        Answer::Redirect("https://evil.example/jwks"),
        Answer::Huge,
        Answer::Keys("[]".to_owned()),
        Answer::Keys("{\"keys\": []}".to_owned()),
    ] {
        let keys_of = KeyServer::start(String::new()).await;
        keys_of.answers(bad.clone());
        let store = store_with(&keys_of.url);
        let server = world(&store, ClientAssertions::new(store.clone()).dangerous_private_client_key_urls());
        let seen = server.send(asks(&of_far("one", "a").es256(7))).await;
        assert_eq!(seen.status.as_u16(), 503);
        assert!(seen.headers.contains_key("retry-after"));
        let near = good("near", "ES256", Some("k1")).claim("jti", "n").es256(7);
        assert_eq!(server.send(asks(&near)).await.status.as_u16(), 200);

        // Another server, which had the keys once.
        keys_of.answers(Answer::Keys(keys(&[(7, "one")])));
        let server = world(&store, ClientAssertions::new(store.clone()).dangerous_private_client_key_urls());
        assert_eq!(server.send(asks(&of_far("one", "b").es256(7))).await.status.as_u16(), 200);
        keys_of.answers(bad);
        assert_eq!(server.send(asks(&of_far("one", "c").es256(7))).await.status.as_u16(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn several_servers_of_keys_that_do_not_answer_cost_one_wait() {
    // They accept connections, and send nothing.
    let silent: Vec<_> = (0..4).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let url = |at: usize| format!("http://{}/jwks", silent[at].local_addr().unwrap());
    let client = Client::with_credential("far", Credential::jwks_uri(url(0)).unwrap()).audience(API);
    let client = (1..4).fold(client, |client, at| client.credential(Credential::jwks_uri(url(at)).unwrap()));
    let store = MemoryStore::try_from([client]).unwrap();
    let world = world(&store, ClientAssertions::new(store.clone()).dangerous_private_client_key_urls());
    let started = tokio::time::Instant::now();
    assert_eq!(world.send(asks(&of_far("one", "a").es256(7))).await.status.as_u16(), 503);
    // In simulated time. Each server alone costs 5 seconds, the timeout of a document.
    assert!(started.elapsed() <= Duration::from_secs(11), "{:?}", started.elapsed());
}

#[tokio::test]
async fn ten_thousand_requests_with_unknown_names_of_keys_cause_few_fetches_and_others_are_served() {
    let keys_of = KeyServer::start(keys(&[(7, "one")])).await;
    let store = store_with(&keys_of.url);
    let mut world = world(&store, ClientAssertions::new(store.clone()).dangerous_private_client_key_urls());
    assert_eq!(world.send(asks(&of_far("one", "a").es256(7))).await.status.as_u16(), 200);
    let started = std::time::Instant::now();
    for number in 0..10_000 {
        let forged = of_far(&format!("unknown-{number}"), "f").seal([1; 64]);
        let status = world.send(asks(&forged)).await.status.as_u16();
        assert!(matches!(status, 401 | 503), "{status}");
        while world.events.try_recv().is_some() {}
        if number % 1_000 == 0 {
            for (client, kid) in [("far", "one"), ("near", "k1")] {
                let own = good(client, "ES256", Some(kid)).claim("jti", format!("{number}")).es256(7);
                assert_eq!(world.send(asks(&own)).await.status.as_u16(), 200, "{client}");
            }
        }
    }
    let (fetches, seconds) = (keys_of.asked() - 1, started.elapsed().as_secs());
    println!("10,000 requests with unknown names caused {fetches} fetches in {seconds} s");
    // Three in a row, then one for every ten seconds; and one by the schedule, every seven minutes.
    let allowed = 3 + 1 + seconds / 10 + 1 + seconds / 420;
    assert!(u64::try_from(fetches).unwrap() <= allowed, "{fetches} fetches in {seconds} s");
}

#[tokio::test]
async fn an_address_of_this_machine_is_never_asked_unless_it_is_allowed() {
    let keys_of = KeyServer::start(keys(&[(7, "one")])).await;
    for url in [keys_of.url.clone(), keys_of.url.replace("127.0.0.1", "localhost")] {
        let store = store_with(&url);
        let world = world(&store, ClientAssertions::new(store.clone()).client_key_urls());
        assert_eq!(world.send(asks(&of_far("one", "a").es256(7))).await.status.as_u16(), 503);
    }
    assert_eq!(keys_of.asked(), 0);
}

#[tokio::test]
async fn the_shape_of_an_assertion_is_checked_before_any_fetch() {
    let keys_of = KeyServer::start(keys(&[(7, "one")])).await;
    let store = store_with(&keys_of.url);
    let mut world = world(&store, ClientAssertions::new(store.clone()).dangerous_private_client_key_urls());
    for (draft, rule) in [
        (of_far("one", "a").header("typ", "at+jwt"), AssertionRule::Type),
        (of_far("one", "a").header("alg", "HS256"), AssertionRule::Algorithm),
        (of_far("one", "a").without_claim("jti"), AssertionRule::TokenId),
        (of_far("one", "a").without_claim("exp"), AssertionRule::Expiry),
        (of_far("one", "a").claim("iss", "near"), AssertionRule::Issuer),
    ] {
        assert_eq!(world.send(asks(&draft.es256(7))).await.status.as_u16(), 401);
        assert_eq!(world.broken_rule().0, rule);
    }
    assert_eq!(keys_of.asked(), 0);
}

#[tokio::test]
async fn a_platform_and_a_trust_domain_publish_their_keys_at_a_url_or_in_a_file() {
    const CLUSTER: &str = "https://cluster.example";
    let cluster = KeyServer::start(keys(&[(21, "c1")])).await;
    let bundle = |named: &[(u8, &str)], sequence: u64| {
        let mut set: serde_json::Value = serde_json::from_str(&keys(named)).unwrap();
        for key in set["keys"].as_array_mut().unwrap() {
            key["use"] = "jwt-svid".into();
        }
        set["spiffe_sequence"] = sequence.into();
        set["spiffe_refresh_hint"] = 300.into();
        set.to_string()
    };
    let domain = KeyServer::start(bundle(&[(23, "s1")], 2)).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bundle.json");
    std::fs::write(&file, bundle(&[(25, "f1")], 1)).unwrap();
    let spiffe = |id: &str| Credential::spiffe_id(id.parse().unwrap());
    let store = MemoryStore::try_from([
        Client::with_credential("kube", Credential::service_account(CLUSTER, "prod", "a").unwrap()).audience(API),
        Client::with_credential("web", spiffe("spiffe://web.example/a")).audience(API),
        Client::with_credential("file", spiffe("spiffe://file.example/a")).audience(API),
    ])
    .unwrap();
    let assertions = ClientAssertions::new(store.clone())
        .platform(PlatformIssuer::at(CLUSTER, &cluster.url).private_addresses())
        .trust_domain(TrustDomain::at("web.example", &domain.url).private_addresses())
        .trust_domain(TrustDomain::in_file("file.example", &file));
    let world = world(&store, assertions);
    let token = |sub: &str, kid: &str, seed: u8| {
        let claims = json!({"iss": CLUSTER, "sub": sub, "aud": ISSUER, "iat": NOW, "exp": NOW + 300});
        let header = json!({"alg": "ES256", "kid": kid});
        Draft { header: header.to_string(), claims: claims.to_string() }.es256(seed)
    };
    let get = async |kind: &str, client: &str, token: &str| {
        let kind = format!("urn:ietf:params:oauth:client-assertion-type:{kind}");
        let request = post(GRANT).param("client_assertion_type", &kind).param("client_assertion", token);
        world.send(request.param("client_id", client)).await.status.as_u16()
    };
    assert_eq!(get("jwt-bearer", "kube", &token("system:serviceaccount:prod:a", "c1", 21)).await, 200);
    assert_eq!(get("jwt-spiffe", "web", &token("spiffe://web.example/a", "s1", 23)).await, 200);
    assert_eq!(get("jwt-spiffe", "file", &token("spiffe://file.example/a", "f1", 25)).await, 200);
    // Each rotates its key. An unknown name causes a fetch at once.
    cluster.answers(Answer::Keys(keys(&[(31, "c2")])));
    assert_eq!(get("jwt-bearer", "kube", &token("system:serviceaccount:prod:a", "c2", 31)).await, 200);
    assert_eq!(get("jwt-bearer", "kube", &token("system:serviceaccount:prod:a", "c1", 21)).await, 401);
    // An older bundle does not replace a newer one.
    domain.answers(Answer::Keys(bundle(&[(33, "s0")], 1)));
    assert_eq!(get("jwt-spiffe", "web", &token("spiffe://web.example/a", "s0", 33)).await, 503);
    assert_eq!(get("jwt-spiffe", "web", &token("spiffe://web.example/a", "s1", 23)).await, 200);
    domain.answers(Answer::Keys(bundle(&[(33, "s3")], 3)));
    std::fs::write(&file, bundle(&[(35, "f2")], 2)).unwrap();
    assert_eq!(get("jwt-spiffe", "file", &token("spiffe://file.example/a", "f2", 35)).await, 200);
    // A platform that is down is used with its last keys.
    cluster.answers(Answer::Status(StatusCode::BAD_GATEWAY));
    assert_eq!(get("jwt-bearer", "kube", &token("system:serviceaccount:prod:a", "c2", 31)).await, 200);
}

/// A cluster rotates its keys, changes its name, and goes away for an hour, in which this server restarts.
#[tokio::test]
async fn a_platform_that_rotates_changes_its_name_and_goes_away_for_an_hour_is_trusted_by_its_last_keys() {
    const OLD: &str = "https://cluster.example";
    const NEW: &str = "https://renamed.example";
    const HOUR: u64 = 3_600;
    let cluster = KeyServer::start(keys(&[(21, "c1")])).await;
    let account = Credential::service_account(OLD, "prod", "a").unwrap();
    let store = MemoryStore::try_from([Client::with_credential("kube", account).audience(API)]).unwrap();
    let clock = clock();
    let start = || {
        let platform = PlatformIssuer::at(OLD, &cluster.url).also_named(NEW).private_addresses();
        let assertions = ClientAssertions::new(store.clone()).platform(platform);
        let (sender, events) = event::channel();
        let builder = settings(store.clone()).clock(clock.clone()).client_assertions(assertions).events(sender);
        World { server: builder.build().unwrap(), events }
    };
    let token = |issuer: &str, kid: &str, seed: u8, from: u64| {
        let claims = json!({
            "iss": issuer, "sub": "system:serviceaccount:prod:a", "aud": [ISSUER], "iat": from, "exp": from + 600,
        });
        Draft { header: json!({"alg": "ES256", "kid": kid}).to_string(), claims: claims.to_string() }.es256(seed)
    };
    let get = async |world: &World, token: &str| {
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let request = post(GRANT).param("client_assertion_type", kind).param("client_assertion", token);
        world.send(request.param("client_id", "kube")).await.status.as_u16()
    };
    let world = start();
    assert_eq!(get(&world, &token(OLD, "c1", 21, NOW)).await, 200);
    // It publishes a second key, signs with it, and removes the first one.
    cluster.answers(Answer::Keys(keys(&[(21, "c1"), (22, "c2")])));
    assert_eq!(get(&world, &token(OLD, "c2", 22, NOW)).await, 200);
    assert_eq!(get(&world, &token(OLD, "c1", 21, NOW)).await, 200);
    cluster.answers(Answer::Keys(keys(&[(22, "c2"), (23, "c3")])));
    assert_eq!(get(&world, &token(OLD, "c3", 23, NOW)).await, 200);
    assert_eq!(get(&world, &token(OLD, "c1", 21, NOW)).await, 401);
    // Its tokens have another name from now on.
    assert_eq!(get(&world, &token(NEW, "c3", 23, NOW)).await, 200);
    assert_eq!(get(&world, &token("https://third.example", "c3", 23, NOW)).await, 401);
    // It goes away. Its last keys are used, and those that may have been added since cannot be decided.
    cluster.answers(Answer::Status(StatusCode::BAD_GATEWAY));
    clock.set(at(NOW + HOUR));
    let later = NOW + HOUR;
    assert_eq!(get(&world, &token(NEW, "c3", 23, later)).await, 200);
    assert_eq!(get(&world, &token(NEW, "c4", 24, later)).await, 503);
    // A server that starts meanwhile has no keys yet, and recovers without another restart.
    let restarted = start();
    assert_eq!(get(&restarted, &token(NEW, "c3", 23, later)).await, 503);
    cluster.answers(Answer::Keys(keys(&[(24, "c4")])));
    clock.advance(Duration::from_secs(60));
    for world in [&world, &restarted] {
        assert_eq!(get(world, &token(NEW, "c4", 24, later)).await, 200);
        assert_eq!(get(world, &token(NEW, "c3", 23, later)).await, 401);
    }
}

#[tokio::test]
async fn what_expires_while_the_keys_are_fetched_is_refused() {
    const CLUSTER: &str = "https://cluster.example";
    let account = |exp: u64| {
        let sub = "system:serviceaccount:prod:a";
        let claims = json!({"iss": CLUSTER, "sub": sub, "aud": ISSUER, "iat": NOW, "exp": exp});
        Draft { header: json!({"alg": "ES256", "kid": "one"}).to_string(), claims: claims.to_string() }
    };
    let of = |draft: &Draft, client: &str| asks(&draft.es256(7)).param("client_id", client);
    // `good` expires after 60 seconds, with a skew of 10 seconds.
    for (name, request, seconds, expected) in [
        ("an assertion", of(&of_far("one", "a"), "far"), 69, None),
        ("an assertion", of(&of_far("one", "a"), "far"), 70, Some(AssertionRule::Expiry)),
        ("a credential", of(&good("ends", "ES256", Some("one")), "ends"), 29, None),
        ("a credential", of(&good("ends", "ES256", Some("one")), "ends"), 30, Some(AssertionRule::Credential)),
        ("a platform's token", of(&account(NOW + 60), "kube"), 69, None),
        ("a platform's token", of(&account(NOW + 60), "kube"), 70, Some(AssertionRule::Expiry)),
    ] {
        let gate = Arc::new(Semaphore::new(0));
        let keys_of = KeyServer::start(String::new()).await;
        keys_of.answers(Answer::Held(gate.clone(), keys(&[(7, "one")])));
        let ends = Credential::jwks_uri(&keys_of.url).unwrap().expires_at(at(NOW + 30));
        let account = Credential::service_account(CLUSTER, "prod", "a").unwrap();
        let store = MemoryStore::try_from([
            Client::with_credential("far", Credential::jwks_uri(&keys_of.url).unwrap()).audience(API),
            Client::with_credential("ends", ends).audience(API),
            Client::with_credential("kube", account).audience(API),
        ])
        .unwrap();
        let assertions = ClientAssertions::new(store.clone())
            .dangerous_private_client_key_urls()
            .platform(PlatformIssuer::at(CLUSTER, &keys_of.url).private_addresses());
        let (clock, (sender, events)) = (clock(), event::channel());
        let server = settings(store).clock(clock.clone()).client_assertions(assertions).events(sender);
        let mut world = World { server: server.build().unwrap(), events };
        let time_passes = async {
            while keys_of.asked() == 0 {
                tokio::task::yield_now().await;
            }
            clock.set(at(NOW + seconds));
            gate.add_permits(100);
        };
        let (seen, ()) = tokio::join!(world.send(request), time_passes);
        assert_eq!(seen.status.as_u16(), if expected.is_some() { 401 } else { 200 }, "{name} after {seconds} s");
        if let Some(rule) = expected {
            assert_eq!(world.broken_rule().0, rule, "{name} after {seconds} s");
        }
    }
}

#[test]
fn a_file_without_a_bundle_is_an_error_when_the_server_is_built() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bundle.json");
    for content in [None, Some("{}"), Some(r#"{"keys": []}"#)] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let assertions =
            ClientAssertions::new(MemoryStore::default()).trust_domain(TrustDomain::in_file("example.org", &file));
        let error = settings(MemoryStore::default()).client_assertions(assertions).build().unwrap_err().to_string();
        assert!(error.contains("bundle"), "{error}");
    }
}
