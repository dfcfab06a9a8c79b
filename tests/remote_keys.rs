//! An issuer whose keys change while unknown callers send invalid tokens, over sockets: the fetches of its resource server, and
//! its responses. Each test prints its counts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use common::forge::{self, good};
use common::stack::{Answer, Site, Stack};
use common::{API, READ};
use p256::ecdsa::SigningKey;
use serde_json::{Value, json};
use tower_client_credentials::clock::ManualClock;
use tower_client_credentials::{BearerAuthLayer, RemoteIssuer};

const SECOND: Duration = Duration::from_secs(1);
const METADATA: &str = "/.well-known/oauth-authorization-server";

/// The responses of an issuer by path, and how often it was requested: in total, with a tag, and with a 304 response.
#[derive(Clone, Default)]
struct Published(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    pages: BTreeMap<String, (String, Option<&'static str>)>,
    counts: BTreeMap<String, Counts>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    requests: usize,
    conditional: usize,
    unchanged: usize,
}

impl Published {
    fn set(&self, path: &str, body: &Value, tag: Option<&'static str>) {
        self.0.lock().unwrap().pages.insert(path.to_owned(), (body.to_string(), tag));
    }

    fn counts(&self, path: &str) -> Counts {
        self.0.lock().unwrap().counts.get(path).copied().unwrap_or_default()
    }

    fn answer(&self, request: &Request) -> Response {
        let (path, state) = (request.uri().path().to_owned(), &mut *self.0.lock().unwrap());
        let counts = state.counts.entry(path.clone()).or_default();
        counts.requests += 1;
        let sent = request.headers().get(header::IF_NONE_MATCH);
        counts.conditional += usize::from(sent.is_some());
        match state.pages.get(&path) {
            Some((_, Some(tag))) if sent.is_some_and(|sent| sent == tag) => {
                counts.unchanged += 1;
                (StatusCode::NOT_MODIFIED, [(header::ETAG, *tag)]).into_response()
            }
            Some((body, Some(tag))) => ([(header::ETAG, *tag)], body.clone()).into_response(),
            Some((body, None)) => body.clone().into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

/// A listening issuer, a listening resource server that trusts it, and the clock of both.
struct Scene {
    published: Published,
    issuer: Site,
    api: Site,
    clock: ManualClock,
}

impl Scene {
    /// Publishes the keys at `/keys`.
    async fn with_keys(keys: &[(&str, &SigningKey)], tag: Option<&'static str>) -> Self {
        let published = Published::default();
        published.set("/keys", &jwks(keys), tag);
        let handler = async |State(published): State<Published>, request: Request| published.answer(&request);
        let issuer = Stack::PLAIN.serve(Router::new().fallback(handler).with_state(published.clone())).await;
        published.set(METADATA, &metadata(&issuer, "/keys"), None);
        let clock = common::clock();
        let verifier = RemoteIssuer::new(issuer.url(""), API).unwrap().clock(clock.clone()).connect().await.unwrap();
        let guard = BearerAuthLayer::new(verifier).require_scope(READ);
        let api = Stack::PLAIN.protect(&common::server(), [guard]).await;
        Self { published, issuer, api, clock }
    }

    fn fetches(&self) -> usize {
        self.published.counts("/keys").requests
    }

    fn publish(&self, keys: &[(&str, &SigningKey)]) {
        self.published.set("/keys", &jwks(keys), None);
    }

    fn token(&self, name: &str, key: &SigningKey) -> String {
        let token = good().header("kid", name).claim("iss", self.issuer.url(""));
        token.claim("exp", 2_000_000_000).sign_with(key)
    }

    async fn show(&self, token: &str) -> Answer {
        self.api.get_authorized(&format!("Bearer {token}")).await
    }

    async fn status(&self, token: &str) -> u16 {
        self.show(token).await.status.as_u16()
    }
}

fn metadata(issuer: &Site, keys: &str) -> Value {
    json!({"issuer": issuer.url(""), "jwks_uri": issuer.url(keys)})
}

fn jwks(keys: &[(&str, &SigningKey)]) -> Value {
    let jwk = |(name, key): &(&str, &SigningKey)| {
        let point = key.verifying_key().to_encoded_point(false);
        let (x, y) = (forge::encode(point.x().unwrap()), forge::encode(point.y().unwrap()));
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": name, "x": x, "y": y})
    };
    json!({"keys": keys.iter().map(jwk).collect::<Vec<_>>()})
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 32]).unwrap()
}

/// How often each status was returned.
#[derive(Default)]
struct Statuses(BTreeMap<u16, usize>);

impl Statuses {
    fn count(&mut self, status: u16) -> u16 {
        *self.0.entry(status).or_default() += 1;
        status
    }
}

#[tokio::test]
async fn a_tag_is_sent_only_to_the_url_that_it_came_from_and_a_withdrawn_key_is_refused() {
    let (old, new) = (key(1), key(2));
    let scene = Scene::with_keys(&[("old", &old)], Some("\"1\"")).await;
    let (of_old, of_new) = (scene.token("old", &old), scene.token("new", &new));
    assert_eq!(scene.status(&of_old).await, 200);
    // The metadata moves the keys. Both URLs respond with the same tag.
    scene.published.set("/moved", &jwks(&[("new", &new)]), Some("\"1\""));
    scene.published.set(METADATA, &metadata(&scene.issuer, "/moved"), None);
    let mut statuses = Statuses::default();
    for _ in 0..10 {
        scene.clock.advance(25 * 3_600 * SECOND);
        assert_eq!(
            statuses.count(scene.status(&of_new).await),
            200,
            "it is fetched for the first token of the new key"
        );
        assert_eq!(statuses.count(scene.status(&of_old).await), 401);
    }
    let (first, second) = (scene.published.counts("/keys"), scene.published.counts("/moved"));
    println!("10 days after the keys moved: {:?}; the former URL got {first:?}, the new one {second:?}", statuses.0);
    assert_eq!((first.requests, first.conditional), (1, 0));
    assert!(second.requests >= 10 && second.conditional == second.requests - 1, "{second:?}");
    assert_eq!(second.unchanged, second.conditional);
}

#[tokio::test]
async fn a_key_name_follows_the_key_set_while_the_resource_server_runs() {
    let (old, new) = (key(1), key(2));
    let scene = Scene::with_keys(&[("current", &old)], None).await;
    let tokens = [("current", &old), ("current", &new), ("previous", &old), ("previous", &new)];
    let tokens = tokens.map(|(name, key)| (name, scene.token(name, key)));
    let statuses = async || {
        let mut statuses = Vec::new();
        for (_, token) in &tokens {
            statuses.push(scene.status(token).await);
        }
        statuses
    };
    assert_eq!(scene.status(&tokens[0].1).await, 200);
    scene.publish(&[("current", &new), ("previous", &old)]);
    assert_eq!(scene.status(&tokens[0].1).await, 200, "nothing was fetched yet");
    // The new key's signature does not match the known key, which causes a fetch.
    assert_eq!((scene.status(&tokens[1].1).await, scene.fetches()), (200, 2));
    for _ in 0..3 {
        assert_eq!(statuses().await, [401, 200, 200, 401]);
    }
    println!("current: K1 → K2, previous: K1: accepted under the new names at once, with {} fetches", scene.fetches());
    assert_eq!(scene.fetches(), 2);
    // Forged signatures under a known name cause one fetch a minute.
    let mut answers = Statuses::default();
    for _ in 0..600 {
        scene.clock.advance(SECOND);
        answers.count(scene.status(&tokens[0].1).await);
    }
    println!("600 wrong signatures in 10 minutes: {:?}, {} fetches", answers.0, scene.fetches() - 2);
    assert_eq!(answers.0, BTreeMap::from([(401, 600)]));
    assert!((9..=11).contains(&(scene.fetches() - 2)));
}

#[tokio::test]
async fn a_new_key_is_accepted_at_once_after_one_unknown_key_name_and_within_ten_seconds_during_a_flood_of_them() {
    let mut keys = [key(1), key(2)];
    let scene = Scene::with_keys(&[("key 1", &keys[0])], None).await;
    let stranger = key(99);
    // One random key name, and a rotation without notice.
    assert_eq!(scene.status(&scene.token("a random name", &stranger)).await, 401);
    scene.publish(&[("key 2", &keys[1]), ("key 1", &keys[0])]);
    assert_eq!(scene.status(&scene.token("key 2", &keys[1])).await, 200);
    println!("one unknown key name, then a new key: admitted at once, {} fetches", scene.fetches());
    assert_eq!(scene.fetches(), 3);

    // A flood of four a second for ten minutes, in which the key changes every 47 s.
    let (before, mut strangers, mut good) = (scene.fetches(), Statuses::default(), Statuses::default());
    let (mut name, mut published_at, mut slowest) = ("key 2".to_owned(), None, 0);
    let mut is_admitted = true;
    for quarter in 0..2_400_u32 {
        if quarter % 187 == 0 {
            let new = key(3 + u8::try_from(quarter / 187).unwrap());
            let new_name = format!("key {}", 3 + quarter / 187);
            keys = [new, keys[0].clone()];
            scene.publish(&[(&new_name, &keys[0]), (&name, &keys[1])]);
            assert!(is_admitted, "{name} was not admitted within 47 s");
            (name, published_at, is_admitted) = (new_name, Some(quarter), false);
        }
        let answer = scene.show(&scene.token(&format!("random {quarter}"), &stranger)).await;
        if strangers.count(answer.status.as_u16()) == 503 {
            let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=10).contains(&seconds), "{seconds}");
            assert_eq!(answer.header("www-authenticate"), None);
        }
        if !is_admitted || quarter % 4 == 0 {
            is_admitted |= good.count(scene.status(&scene.token(&name, &keys[0])).await) == 200;
            if is_admitted {
                slowest = slowest.max(published_at.take().map_or(0, |published| quarter - published));
            }
        }
        scene.clock.advance(SECOND / 4);
    }
    let fetches = scene.fetches() - before;
    println!(
        "2,400 random kids in 10 minutes: {fetches} fetches; unknown key names got {:?}; valid tokens of 13 new keys got {:?}, the \
         slowest key was admitted after {} s",
        strangers.0,
        good.0,
        f64::from(slowest) / 4.0
    );
    assert!(fetches <= 65, "{fetches}");
    assert!(!good.0.contains_key(&401) && !strangers.0.contains_key(&200));
    assert!(slowest <= 40, "{slowest}");
}
