//! API keys in addition to tokens, during a migration.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::routing::get;
use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_client_credentials::clock::ManualClock;
use tower_client_credentials::event::{self, Outcome};
use tower_client_credentials::resource_server::{
    ApiKeyIdentity, ApiKeys, Authorized, BearerError, Caller, Forbidden, Permission,
};
use tower_client_credentials::secret::StoredSecret;
use tower_client_credentials::store::{
    ChangeFeed, Changes, Cursor, Revocation, RevocationStore, StoreError, StoreFuture,
};
use tower_client_credentials::{
    AuthorizationServer, BearerAuthLayer, Claims, ClientId, ClientSecret, MemoryStore, Revocations, Scope, Scopes,
    VerifiedToken,
};

use crate::common::request::{GRANT, billing_asks};
use crate::common::{API, NOW, READ, WRITE, at, clients, settings};

const BILLING: &str = "kq3Zr0-billing-V9sX2mPfWc7yTn5Lh";
const REPORTS: &str = "kq3Zr0:reports:u4Jd8vQeBn6RzKx1Ga";
const WRONG: &str = "kq3Zr0-another-H7tYw2CbNs9LpVd3Fx";
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

fn digest(key: &str) -> StoredSecret {
    ClientSecret::assume_random(key).unwrap().to_stored().unwrap()
}

fn id(id: &str) -> ClientId {
    id.parse().unwrap()
}

/// Keys that are accepted for an hour.
fn keys() -> ApiKeys {
    ApiKeys::until(at(NOW + 3600))
        .key(id("billing"), digest(BILLING), Scopes::from([READ, WRITE]))
        .unwrap()
        .key(id("reports"), digest(REPORTS), READ)
        .unwrap()
}

struct World {
    server: AuthorizationServer,
    clock: ManualClock,
}

impl World {
    fn new() -> Self {
        let clock = ManualClock::at(at(NOW));
        let server = settings(MemoryStore::try_from(clients()).unwrap()).clock(clock.clone()).build().unwrap();
        Self { server, clock }
    }

    fn guard(&self) -> BearerAuthLayer {
        BearerAuthLayer::new(self.server.verifier(API).unwrap())
    }

    async fn token(&self) -> String {
        let request: Request<crate::common::stack::Body> = billing_asks(format!("{GRANT}&scope={READ}")).into();
        let response = self.server.token_service().oneshot(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        body["access_token"].as_str().unwrap().to_owned()
    }
}

fn request(headers: &[(HeaderName, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    for (name, value) in headers {
        request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
    }
    request
}

fn bearer(text: &str) -> Request<Full<Bytes>> {
    request(&[(AUTHORIZATION, &format!("Bearer {text}"))])
}

/// Returns the response of a service that tells what it found, behind this layer.
async fn ask(layer: &BearerAuthLayer, request: Request<Full<Bytes>>) -> Response<String> {
    let inner = service_fn(async |request: Request<Full<Bytes>>| {
        let hidden = |name: HeaderName| request.headers().get_all(name).iter().all(HeaderValue::is_sensitive);
        assert!(hidden(AUTHORIZATION) && hidden(X_API_KEY), "a credential is not marked as sensitive");
        let is_token = request.extensions().get::<VerifiedToken>().is_some();
        let is_key = request.extensions().get::<ApiKeyIdentity>().is_some();
        let caller = Caller::from_extensions(request.extensions()).map(|caller| caller.client_id().to_string());
        let headers = request.headers().len();
        let found = format!("{} token={is_token} key={is_key} headers={headers}", caller.unwrap_or_default());
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(found)))
    });
    let (parts, body) = layer.layer(inner).oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Response::from_parts(parts, String::from_utf8(body.to_vec()).unwrap())
}

async fn status(layer: &BearerAuthLayer, request: Request<Full<Bytes>>) -> u16 {
    ask(layer, request).await.status().as_u16()
}

#[tokio::test]
async fn a_key_behind_bearer_and_a_token_are_both_accepted_and_give_proofs_of_different_types() {
    let world = World::new();
    let layer = world.guard().api_keys(keys());
    let token = world.token().await;
    assert_eq!(ask(&layer, bearer(&token)).await.body(), "billing token=true key=false headers=1");
    assert_eq!(ask(&layer, bearer(BILLING)).await.body(), "billing token=false key=true headers=1");
    assert_eq!(ask(&layer, bearer(REPORTS)).await.body(), "reports token=false key=true headers=1");
    let removes = layer.clone().remove_authorization();
    assert_eq!(ask(&removes, bearer(BILLING)).await.body(), "billing token=false key=true headers=0");
    assert_eq!(status(&world.guard(), bearer(BILLING)).await, 401, "without the hook");
}

#[tokio::test]
async fn an_unknown_key_gets_the_answer_of_an_invalid_token() {
    let world = World::new();
    let (with_keys, without) = (world.guard().api_keys(keys()), world.guard());
    for text in [WRONG, "x.y.z", "", "a b", &BILLING[1..], &format!("{BILLING}x")] {
        let (one, other) = (ask(&with_keys, bearer(text)).await, ask(&without, bearer(text)).await);
        assert_eq!((one.status(), one.headers()), (other.status(), other.headers()), "{text}");
    }
    let no_credentials = ask(&with_keys, request(&[])).await;
    assert_eq!(no_credentials.headers(), ask(&without, request(&[])).await.headers());
}

#[tokio::test]
async fn a_key_in_a_header_of_its_own_is_accepted_alone_and_not_together_with_a_token() {
    let world = World::new();
    let layer = world.guard().api_keys(keys().header(X_API_KEY).unwrap());
    let token = format!("Bearer {}", world.token().await);
    assert_eq!(ask(&layer, request(&[(X_API_KEY, BILLING)])).await.body(), "billing token=false key=true headers=1");
    assert_eq!(ask(&layer, request(&[(AUTHORIZATION, &token)])).await.body(), "billing token=true key=false headers=1");
    for (expected, headers) in [
        (400, vec![(X_API_KEY, BILLING), (AUTHORIZATION, token.as_str())]),
        (400, vec![(X_API_KEY, BILLING), (X_API_KEY, BILLING)]),
        (401, vec![(X_API_KEY, WRONG)]),
        (401, vec![(X_API_KEY, "")]),
        (401, vec![(AUTHORIZATION, &*format!("Bearer {BILLING}"))]),
        (200, vec![(X_API_KEY, BILLING), (AUTHORIZATION, "Basic YTpi")]),
    ] {
        let sent = request(&headers);
        // Basic credentials are not ours, so they are not hidden.
        if expected == 200 {
            let inner = service_fn(async |_: Request<Full<Bytes>>| {
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            });
            assert_eq!(layer.layer(inner).oneshot(sent).await.unwrap().status(), 200);
            continue;
        }
        assert_eq!(status(&layer, sent).await, expected, "{headers:?}");
    }
    let refusal = ask(&layer, request(&[(X_API_KEY, WRONG)])).await;
    assert_eq!(refusal.extensions().get(), Some(&BearerError::UnknownApiKey));
    assert!(refusal.headers()[WWW_AUTHENTICATE].to_str().unwrap().contains("error=\"invalid_token\""));
    let removes = layer.remove_authorization();
    assert_eq!(ask(&removes, request(&[(X_API_KEY, BILLING)])).await.body(), "billing token=false key=true headers=0");
    let optional = world.guard().api_keys(keys().header(X_API_KEY).unwrap()).optional();
    assert_eq!(ask(&optional, request(&[])).await.body(), " token=false key=false headers=0");
    assert_eq!(status(&optional, request(&[(X_API_KEY, WRONG)])).await, 401, "a wrong key is not anonymous");
}

#[tokio::test]
async fn the_scopes_of_the_layer_apply_to_keys() {
    let world = World::new();
    let layer = world.guard().require_scope(WRITE).api_keys(keys());
    assert_eq!(status(&layer, bearer(BILLING)).await, 200);
    let refusal = ask(&layer, bearer(REPORTS)).await;
    assert_eq!(refusal.status(), 403);
    assert!(refusal.headers()[WWW_AUTHENTICATE].to_str().unwrap().contains("insufficient_scope"));
}

#[tokio::test]
async fn a_layer_with_a_policy_refuses_keys_unless_they_have_a_policy_too() {
    let world = World::new();
    let policy = || world.guard().policy(|_, _| Ok(()));
    let refusal = ask(&policy().api_keys(keys()), bearer(BILLING)).await;
    assert_eq!(refusal.status(), 403);
    assert!(refusal.extensions().get::<BearerError>().unwrap().to_string().contains("set ApiKeys::policy"));
    let only_reports = |identity: &ApiKeyIdentity, _: tower_client_credentials::resource_server::RequestHead<'_>| {
        if identity.client_id() == "reports" { Ok(()) } else { Err(Forbidden::new("not reports").into()) }
    };
    let layer = policy().api_keys(keys().policy(only_reports));
    assert_eq!([status(&layer, bearer(BILLING)).await, status(&layer, bearer(REPORTS)).await], [403, 200]);
}

#[tokio::test]
async fn from_the_end_date_on_every_key_is_refused_and_the_log_names_its_client() {
    let world = World::new();
    let keys = keys();
    let (events, mut listener) = event::channel();
    let layer = world.guard().api_keys(keys.clone()).events(events);
    world.clock.set(at(NOW + 3599));
    assert_eq!(status(&layer, bearer(BILLING)).await, 200);
    assert!(matches!(listener.try_recv().unwrap().outcome, Outcome::AdmittedByApiKey));
    world.clock.set(at(NOW + 3600));
    let ended = ask(&layer, bearer(BILLING)).await;
    let unknown = ask(&layer, bearer(WRONG)).await;
    assert_eq!(
        (ended.status(), ended.headers()),
        (unknown.status(), unknown.headers()),
        "the caller learns nothing else"
    );
    let error = ended.extensions().get::<BearerError>().unwrap();
    assert_eq!(error.client_id().unwrap(), "billing");
    assert!(error.to_string().contains("set a later date in ApiKeys::until"), "{error}");
    assert_eq!(listener.try_recv().unwrap().client_id.unwrap(), "billing");
    assert_eq!(status(&layer, bearer(&world.token().await)).await, 200, "tokens are still accepted");
    assert_eq!(keys.usage()[0].requests(), 2);
}

#[tokio::test]
async fn the_use_of_keys_is_counted_per_client() {
    let world = World::new();
    let keys = keys().key(id("billing"), digest(WRONG), READ).unwrap();
    let layer = world.guard().api_keys(keys.clone());
    for key in [BILLING, WRONG, BILLING] {
        assert_eq!(status(&layer, bearer(key)).await, 200);
    }
    let usage: Vec<_> = keys.usage().iter().map(|u| (u.client_id().to_string(), u.requests(), u.last_used())).collect();
    assert_eq!(usage, [("billing".to_owned(), 3, Some(at(NOW))), ("reports".to_owned(), 0, None)]);
}

/// The store of the revocations, and a layer that follows them and accepts the keys.
async fn followed(world: &World, keys: ApiKeys) -> (MemoryStore, Revocations, BearerAuthLayer) {
    let store = MemoryStore::try_from(clients()).unwrap();
    let revocations = Revocations::follow(store.clone()).clock(world.clock.clone()).await.unwrap();
    let verifier = world.server.verifier(API).unwrap().revocations(revocations.clone());
    (store, revocations, BearerAuthLayer::new(verifier).api_keys(keys))
}

#[tokio::test]
async fn the_key_of_a_disabled_client_is_refused_like_a_wrong_one_and_stays_refused() {
    let world = World::new();
    let (events, mut listener) = event::channel();
    let (store, revocations, layer) = followed(&world, keys()).await;
    let layer = layer.events(events);
    assert_eq!(status(&layer, bearer(BILLING)).await, 200);
    let _ = listener.try_recv();
    revocations.disable(&store, &id("billing")).await.unwrap();
    let (refused, unknown) = (ask(&layer, bearer(BILLING)).await, ask(&layer, bearer(WRONG)).await);
    assert_eq!((refused.status(), refused.headers()), (unknown.status(), unknown.headers()));
    assert_eq!(refused.status(), 401);
    let error = refused.extensions().get::<BearerError>().unwrap();
    assert_eq!((error.reason(), error.client_id().unwrap().as_str()), ("api_key_revoked", "billing"));
    assert_eq!(listener.try_recv().unwrap().client_id.unwrap(), "billing");
    assert_eq!(status(&layer, bearer(REPORTS)).await, 200, "the key of another client");
    // A layer that is created later knows the revocation from the view.
    let verifier = world.server.verifier(API).unwrap().revocations(revocations);
    let second = BearerAuthLayer::new(verifier).api_keys(keys());
    assert_eq!([status(&second, bearer(BILLING)).await, status(&second, bearer(REPORTS)).await], [401, 200]);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_by_another_process_refuses_the_keys_of_the_client_and_outlives_its_entry() {
    let world = World::new();
    let (store, revocations, layer) = followed(&world, keys()).await;
    // The end date is far away.
    let layer = layer.api_keys(ApiKeys::until(at(NOW + 10_000_000)).key(id("billing"), digest(BILLING), READ).unwrap());
    let revocation = Revocation::client(id("billing"), at(NOW), Duration::from_secs(3600));
    store.revoke(revocation).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(revocations.entries(), 1);
    // Both clocks advance together: the view does not trust a wall clock that jumps.
    for _ in 0..200 {
        world.clock.advance(Duration::from_secs(40));
        tokio::time::sleep(Duration::from_secs(40)).await;
    }
    assert_eq!(revocations.entries(), 0, "the entry was purged, although no request used the key in the meantime");
    assert_eq!(status(&layer, bearer(BILLING)).await, 401);
}

#[tokio::test]
async fn a_client_that_revokes_more_tokens_than_are_remembered_one_by_one_keeps_its_api_keys() {
    let world = World::new();
    let store = MemoryStore::try_from(clients()).unwrap();
    let follow = || Revocations::follow(store.clone()).clock(world.clock.clone()).tokens_per_client(3);
    let revocations = follow().await.unwrap();
    let guard = |revocations: &Revocations| {
        let verifier = world.server.verifier(API).unwrap().revocations(revocations.clone());
        BearerAuthLayer::new(verifier).api_keys(keys())
    };
    let layer = guard(&revocations);
    for number in 0..10 {
        revocations.revoke_token(&id("billing"), &format!("token {number}")).await.unwrap();
    }
    assert!(revocations.entries() < 10, "one entry replaces those of the tokens");
    // In the same process, in a layer that is created later, and in a process that starts later.
    let other = follow().await.unwrap();
    for layer in [&layer, &guard(&revocations), &guard(&other)] {
        assert_eq!(status(layer, bearer(BILLING)).await, 200);
    }
    revocations.revoke_client(&id("billing")).await.unwrap();
    let other = follow().await.unwrap();
    for layer in [&layer, &guard(&revocations), &guard(&other)] {
        assert_eq!(status(layer, bearer(BILLING)).await, 401);
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_revocations_are_unavailable_a_key_gets_503_and_that_of_a_revoked_client_401() {
    let world = World::new();
    let store = BrokenLater::default();
    let revocations = Revocations::follow(store.clone()).clock(world.clock.clone()).await.unwrap();
    let verifier = world.server.verifier(API).unwrap().revocations(revocations.clone());
    let layer = BearerAuthLayer::new(verifier).api_keys(keys());
    revocations.revoke_client(&id("reports")).await.unwrap();
    store.is_broken.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(status(&layer, bearer(REPORTS)).await, 401);
    let refusal = ask(&layer, bearer(BILLING)).await;
    assert_eq!(refusal.status(), 503);
    assert!(refusal.headers().contains_key(RETRY_AFTER));
}

/// A store of revocations that fails from some time on.
#[derive(Clone, Debug, Default)]
struct BrokenLater {
    store: MemoryStore,
    is_broken: Arc<AtomicBool>,
}

impl ChangeFeed for BrokenLater {
    fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes> {
        if self.is_broken.load(Ordering::Relaxed) {
            return StoreFuture::new(async { Err(StoreError::new("broken")) });
        }
        self.store.changes(cursor)
    }
}

impl RevocationStore for BrokenLater {
    fn revoke(&self, revocation: Revocation) -> StoreFuture<'_, ()> {
        self.store.revoke(revocation)
    }

    fn purge(&self, now: SystemTime) -> StoreFuture<'_, u64> {
        self.store.purge(now)
    }
}

#[tokio::test]
async fn a_key_as_long_as_a_secret_can_be_is_accepted() {
    let world = World::new();
    let long = "kq3Zr0vX".repeat(128);
    let layer = world.guard().api_keys(keys().key(id("long"), digest(&long), READ).unwrap());
    assert_eq!(status(&layer, bearer(&long)).await, 200);
    assert!(ClientSecret::assume_random(format!("{long}x")).is_err(), "no longer key can be added by its text");
}

/// The address of the caller in these tests.
#[derive(Clone, Copy)]
struct Peer(IpAddr);

fn from(peer: u8, mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    request.extensions_mut().insert(Peer([192, 0, 2, peer].into()));
    request
}

#[tokio::test]
async fn wrong_keys_are_throttled_by_address_and_the_right_key_always_passes() {
    let world = World::new();
    let keys = keys().peer_address(|request| request.extensions().get::<Peer>().map(|peer| peer.0));
    for (keys, wrong, right, refused) in [
        (keys.clone(), bearer(WRONG), bearer(BILLING), 401),
        // Characters that no token has: a malformed request, which is a guess all the same.
        (keys.clone(), bearer("1|guess"), bearer(BILLING), 400),
        (keys.header(X_API_KEY).unwrap(), request(&[(X_API_KEY, WRONG)]), request(&[(X_API_KEY, BILLING)]), 401),
    ] {
        // A set of its own, with counts of its own.
        let layer = world.guard().api_keys(keys);
        world.clock.advance(Duration::from_secs(60));
        let start = world.clock.clone();
        for _ in 0..100 {
            assert_eq!(status(&layer, from(1, wrong.clone())).await, refused);
        }
        let refusal = ask(&layer, from(1, wrong.clone())).await;
        assert_eq!(refusal.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(refusal.headers().contains_key(RETRY_AFTER) && !refusal.headers().contains_key(WWW_AUTHENTICATE));
        assert_eq!(status(&layer, from(1, right.clone())).await, 200, "the right key");
        assert_eq!(status(&layer, from(2, wrong.clone())).await, refused, "another address");
        start.advance(Duration::from_secs(60));
        assert_eq!(status(&layer, from(1, wrong)).await, refused, "the next minute");
    }
}

#[tokio::test]
async fn tokens_are_not_throttled_as_wrong_keys() {
    let world = World::new();
    let layer = world.guard().api_keys(keys().wrong_keys_per_minute(0));
    let token = world.token().await;
    assert_eq!(status(&layer, bearer(&token)).await, 200);
    world.clock.set(at(NOW + 1000));
    assert_eq!(status(&layer, bearer(&token)).await, 401, "expired");
    assert_eq!(status(&layer, bearer(WRONG)).await, 429);
    assert_eq!(status(&layer, request(&[])).await, 401);
}

#[tokio::test]
async fn nested_layers_accept_a_key_that_the_outer_one_removed() {
    let world = World::new();
    let keys = keys();
    let outer = world.guard().api_keys(keys.clone()).remove_authorization();
    let inner = world.guard().api_keys(keys).require_scope(WRITE);
    let nested = |inner: BearerAuthLayer| {
        let echo =
            service_fn(async |_: Request<Full<Bytes>>| Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())));
        outer.layer(inner.layer(echo))
    };
    let answer =
        async |inner: &BearerAuthLayer, key| nested(inner.clone()).oneshot(bearer(key)).await.unwrap().status();
    assert_eq!([answer(&inner, BILLING).await, answer(&inner, REPORTS).await], [200, 403]);
    assert_eq!(answer(&world.guard(), BILLING).await, 401, "an inner layer that accepts tokens only");
    // Other keys are another set, so the identity of the outer layer is not one of theirs.
    let other = world.guard().api_keys(ApiKeys::until(at(NOW + 3600)));
    assert_eq!(answer(&other, BILLING).await, 401);
}

#[tokio::test]
async fn an_inner_layer_without_keys_removes_the_identity_that_an_outer_one_proved() {
    let world = World::new();
    let outer = world.guard().api_keys(keys().header(X_API_KEY).unwrap());
    let found = async |inner: BearerAuthLayer| {
        let echo = service_fn(async |request: Request<Full<Bytes>>| {
            let is_key = request.extensions().get::<ApiKeyIdentity>().is_some();
            let status = if is_key { StatusCode::OK } else { StatusCode::NO_CONTENT };
            let mut response = Response::new(Full::<Bytes>::default());
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        });
        outer.layer(inner.layer(echo)).oneshot(request(&[(X_API_KEY, REPORTS)])).await.unwrap().status()
    };
    // The key has not the scope that this layer requires, and was not checked for it.
    assert_eq!(found(world.guard().optional().require_scope(WRITE)).await, 204);
    assert_eq!(found(world.guard().dangerous_only_report()).await, 200, "a layer that only reports changes nothing");
}

struct MayRead;

impl Permission for MayRead {
    const SCOPE: Scope = READ;
}

#[tokio::test]
async fn handlers_that_require_a_token_refuse_a_key_and_those_that_take_a_caller_accept_it() {
    let world = World::new();
    let app: Router = Router::new()
        .route("/token", get(async |_: VerifiedToken| "token"))
        .route("/authorized", get(async |_: Authorized<MayRead>| "authorized"))
        .route("/claims", get(async |_: Claims<serde_json::Value>| "claims"))
        .route("/optional", get(async |token: Option<VerifiedToken>| token.map_or("none", |_| "some")))
        .route(
            "/caller",
            get(async |caller: Caller| match caller {
                Caller::Token(_) => "token",
                Caller::ApiKey(_) => "key",
            }),
        )
        .layer(
            world
                .guard()
                .api_keys(keys())
                .refusal_body(|error, _| tower_client_credentials::transport::RefusalBody::json(&error.reason())),
        )
        .route("/unprotected", get(async |_: Caller| "caller"));
    let ask = async |path: &str, credential: &str| {
        let request = Request::get(path).header(AUTHORIZATION, format!("Bearer {credential}"));
        let response = app.clone().oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let challenge = response.headers().get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, challenge, String::from_utf8(body.to_vec()).unwrap())
    };
    let token = world.token().await;
    for path in ["/token", "/authorized", "/claims"] {
        assert_eq!(ask(path, &token).await.0, 200, "{path}");
        let (status, challenge, body) = ask(path, BILLING).await;
        assert_eq!((status, &*body), (401, "\"token_required\""), "{path}");
        assert!(challenge.unwrap().starts_with("Bearer realm="), "{path}");
    }
    assert_eq!(ask("/caller", &token).await.2, "token");
    assert_eq!(ask("/caller", BILLING).await.2, "key");
    assert_eq!(ask("/optional", BILLING).await.2, "none");
    assert_eq!(ask("/unprotected", BILLING).await.0, 500, "a mistake of the program");
}

#[test]
fn keys_that_cannot_be_looked_up_and_duplicates_are_rejected_with_how_to_fix_it() {
    let slow = ClientSecret::new("correct horse").unwrap().to_stored().unwrap();
    let error = keys().key(id("slow"), slow, READ).unwrap_err().to_string();
    assert!(error.contains("client `slow`") && error.contains("assume_random"), "{error}");
    let error = keys().key(id("twice"), digest(BILLING), READ).unwrap_err().to_string();
    assert!(error.contains("`billing` and `twice`") && !error.contains(BILLING), "{error}");
    assert!(keys().header(AUTHORIZATION).unwrap_err().to_string().contains("expected another one"));
    let shown = format!("{:?}", keys());
    assert!(!shown.contains("kq3Zr0") && !shown.contains("sha256"), "{shown}");
}

/// As an older system stores it: SHA-256, computed by another library.
#[test]
fn a_digest_of_an_older_system_is_accepted() {
    use base64::Engine as _;
    let digest = <sha2::Sha256 as sha2::Digest>::digest(BILLING.as_bytes());
    let stored: StoredSecret =
        format!("$sha256${}", base64::engine::general_purpose::STANDARD_NO_PAD.encode(digest)).parse().unwrap();
    let world = World::new();
    let keys = ApiKeys::until(at(NOW + 1)).key(id("billing"), stored, READ).unwrap();
    let layer = world.guard().api_keys(keys);
    let answered = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(status(&layer, bearer(BILLING)));
    assert_eq!(answered, 200);
}

#[tokio::test]
async fn two_hundred_keys_are_migrated_one_client_after_another() {
    let world = World::new();
    let secrets: Vec<_> = (0..200).map(|_| ClientSecret::generate().unwrap()).collect();
    let keys = secrets.iter().enumerate().try_fold(ApiKeys::until(at(NOW + 3600)), |keys, (number, secret)| {
        keys.key(id(&format!("client-{number:03}")), secret.to_stored().unwrap(), READ)
    });
    let keys = keys.unwrap();
    let layer = world.guard().api_keys(keys.clone());
    for (number, secret) in secrets.iter().enumerate() {
        let found = ask(&layer, bearer(secret.expose())).await.into_body();
        assert_eq!(found, format!("client-{number:03} token=false key=true headers=1"));
    }
    assert!(keys.usage().iter().all(|usage| usage.requests() == 1) && keys.usage().len() == 200);
}

/// An introspection endpoint that remembers what it was asked, and calls every token active.
#[cfg(feature = "remote")]
mod beside_introspection {
    use std::sync::{Arc, Mutex};

    use tower_client_credentials::Introspection;
    use tower_client_credentials::transport::{HttpClient, HttpFuture};

    use super::*;

    #[derive(Clone, Debug, Default)]
    struct Endpoint(Arc<Mutex<Vec<String>>>);

    impl HttpClient for Endpoint {
        fn send(&self, request: Request<Bytes>, _: usize) -> HttpFuture<'_> {
            self.0.lock().unwrap().push(String::from_utf8(request.into_body().to_vec()).unwrap());
            let answer = serde_json::json!({
                "active": true, "client_id": "billing", "aud": API, "iss": "https://auth.example.com", "sub": "billing",
                "iat": NOW, "exp": NOW + 600,
            });
            HttpFuture::new(async move { Ok(Response::new(answer.to_string().into())) })
        }
    }

    impl Endpoint {
        fn guard(&self, keys: ApiKeys) -> BearerAuthLayer {
            let introspection = Introspection::new("https://auth.example.com", API).unwrap();
            let introspection = introspection.at("https://auth.example.com/introspect").unwrap();
            let introspection = introspection.client_secret_basic("api", ClientSecret::generate().unwrap()).unwrap();
            let introspection = introspection.http_client(self.clone()).clock(ManualClock::at(at(NOW)));
            BearerAuthLayer::new(introspection.build().unwrap()).api_keys(keys)
        }

        fn asked(&self) -> usize {
            self.0.lock().unwrap().len()
        }
    }

    #[tokio::test]
    async fn a_value_that_looks_like_an_api_key_is_never_sent_to_the_introspection_endpoint() {
        let is_key = |text: &str| text.len() == 33 && text.split(':').count() == 3;
        let keys = || keys().prefix("kq3Zr0-").unwrap().format(is_key);
        let damaged = ClientSecret::generate().unwrap().expose().replace("tcc_", "tcc_x");
        for (name, keys) in [("behind Bearer", keys()), ("with a header of its own", keys().header(X_API_KEY).unwrap())]
        {
            let endpoint = Endpoint::default();
            let layer = endpoint.guard(keys).dangerous_token_in_query();
            for text in [WRONG, "kq3Zr0-", &format!("{BILLING}x"), "kq3Zr0:reports:u4Jd8vQeBn6RzKx1Gb", &damaged] {
                let refusal = ask(&layer, bearer(text)).await;
                assert_eq!(refusal.status(), 401, "{name}: {text}");
                assert_eq!(refusal.extensions().get(), Some(&BearerError::UnknownApiKey), "{name}: {text}");
            }
            // Also in the query, where a key is not read.
            for text in [WRONG, BILLING] {
                let mut request = request(&[]);
                *request.uri_mut() = format!("/?access_token={text}").parse().unwrap();
                assert_eq!(status(&layer, request).await, 401, "{name}: {text}");
            }
            assert_eq!(endpoint.asked(), 0, "{name}: {:?}", endpoint.0);
            assert_eq!(status(&layer, bearer("an-opaque-token")).await, 200, "{name}");
            assert_eq!(endpoint.asked(), 1, "{name}");
        }
    }

    #[tokio::test]
    async fn the_wrong_keys_that_are_not_sent_are_counted() {
        let endpoint = Endpoint::default();
        let layer = endpoint.guard(keys().prefix("kq3Zr0-").unwrap().wrong_keys_per_minute(2));
        let mut statuses = Vec::new();
        for _ in 0..3 {
            statuses.push(status(&layer, bearer(WRONG)).await);
        }
        assert_eq!((statuses, endpoint.asked()), (vec![401, 401, 429], 0));
        assert_eq!(status(&layer, bearer(BILLING)).await, 200, "the right key passes");
    }

    #[test]
    fn a_prefix_that_every_token_has_is_refused() {
        for prefix in ["", "e", "ey", "eyJhbGciOi"] {
            let error = keys().prefix(prefix).unwrap_err().to_string();
            assert!(error.contains(&format!("\"{prefix}\"")) && error.contains("sk_live_"), "{error}");
        }
        assert!(keys().prefix("sk_live_").is_ok());
    }
}
