//! The introspection endpoint (RFC 7662), over sockets: its responses, its authorized callers, and responses as JWTs (RFC
//! 9701).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::time::Duration;

use common::request::{GRANT, TokenRequest, billing_asks, post};
use common::stack::{Answer, Framework, Protocol, Site, Stack, on_every_stack};
use common::{API, ISSUER, NOW, OTHER_API, READ, SECRET, WRONG_SECRET, client, clients, clock, forge, settings};
use http::header::ACCEPT;
use oauth2::basic::BasicClient;
use oauth2::{
    AccessToken, ClientId as OauthId, ClientSecret as OauthSecret, IntrospectionUrl, TokenIntrospectionResponse as _,
};
use serde_json::json;
use tower_client_credentials::authorization_server::PendingGrant;
use tower_client_credentials::event::{self, Outcome};
use tower_client_credentials::verification::InvalidToken;
use tower_client_credentials::{AuthorizationServer, BearerAuthLayer, ClientId, MemoryStore, Revocations};

const JWT: &str = "application/token-introspection+jwt";

/// `api` serves the API, and `other-api` another one.
fn store() -> MemoryStore {
    let apis =
        [("api", API), ("other-api", OTHER_API)].map(|(id, audience)| client(id).without_grant().introspects(audience));
    MemoryStore::try_from(clients().into_iter().chain(apis).collect::<Vec<_>>()).unwrap()
}

async fn revocations() -> Revocations {
    Revocations::follow(MemoryStore::default()).clock(clock()).await.unwrap()
}

async fn server() -> AuthorizationServer {
    settings(store()).revocations(revocations().await).build().unwrap()
}

fn about(token: &str) -> TokenRequest {
    post(format!("token={token}")).to("/introspect")
}

fn api_asks(token: &str) -> TokenRequest {
    about(token).basic("api", &SECRET)
}

#[track_caller]
fn assert_inactive(answer: &Answer) {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.assert_is_of_the_token_endpoint();
    assert_eq!(answer.body, r#"{"active":false}"#);
}

async fn token(site: &Site) -> String {
    site.send(billing_asks(GRANT).param("scope", "invoices:read")).await.assert_token()
}

#[tokio::test]
async fn an_active_token_is_described_completely() {
    on_every_stack(async |stack| {
        let hook = |grant: &mut PendingGrant| {
            grant.add_claim("tenant", "acme");
            grant.add_claim("active", false);
            Ok(())
        };
        let server = settings(store()).revocations(revocations().await).grant_hook(hook).build().unwrap();
        let site = stack.issue(&server).await;
        let token = token(&site).await;
        let answer = site.send(api_asks(&token)).await;
        assert_eq!(answer.status, 200);
        answer.assert_is_of_the_token_endpoint();
        let expected = json!({
            "active": true, "scope": "invoices:read", "client_id": "billing", "token_type": "Bearer",
            "exp": NOW + 600, "iat": NOW, "sub": "billing", "aud": API, "iss": ISSUER,
            "jti": forge::parts(&token).1["jti"], "tenant": "acme",
        });
        assert_eq!(answer.json(), expected);
    })
    .await;
}

#[tokio::test]
async fn every_inactive_token_gets_the_same_response() {
    let revocations = revocations().await;
    let server = settings(store()).revocations(revocations.clone()).build().unwrap();
    let site = Stack::PLAIN.issue(&server).await;
    let good = token(&site).await;
    assert_eq!(site.send(api_asks(&good)).await.json()["active"], true);
    assert_inactive(&site.send(about(&good).basic("other-api", &SECRET)).await);
    for text in [
        "unknown".to_owned(),
        format!("{good}x"),
        forge::good().sign_with(&forge::foreign_key()),
        forge::good().header("typ", "JWT").sign(),
        forge::good().claim("iss", "https://other.example.com").sign(),
        forge::good().claim("aud", OTHER_API).sign(),
        forge::good().claim("exp", NOW).sign(),
        forge::good().claim("nbf", NOW + 301).sign(),
        forge::good().without_claim("client_id").sign(),
    ] {
        assert_inactive(&site.send(api_asks(&text)).await);
    }
    revocations
        .revoke_token(&ClientId::from_static("billing"), forge::parts(&good).1["jti"].as_str().unwrap())
        .await
        .unwrap();
    assert_inactive(&site.send(api_asks(&good)).await);
}

/// Another program that has the server's key can sign such a token. The response must not omit its claims.
#[tokio::test]
async fn a_token_with_a_claim_that_cannot_be_represented_is_a_503_and_not_a_partial_response() {
    let site = Stack { framework: Framework::Axum, protocol: Protocol::Http1 }.issue(&server().await).await;
    let claims = forge::good().claims.replacen('{', r#"{"huge":1e999,"#, 1);
    let answer = site.send(api_asks(&forge::good().claims_text(claims).sign())).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.json()["error"], "temporarily_unavailable");
}

#[tokio::test]
async fn only_an_authenticated_client_that_may_introspect_gets_a_response() {
    let site = Stack::PLAIN.issue(&server().await).await;
    let token = token(&site).await;
    for (request, status, error) in [
        (about(&token), 401, "invalid_client"),
        (about(&token).basic("api", &WRONG_SECRET), 401, "invalid_client"),
        (about(&token).basic("billing", &SECRET), 400, "unauthorized_client"),
        (about("unknown").basic("billing", &SECRET), 400, "unauthorized_client"),
        (post("a=b").to("/introspect").basic("api", &SECRET), 400, "invalid_request"),
        (api_asks(&token).method("GET"), 405, "invalid_request"),
        (api_asks(&token).content_types(&["text/plain"]), 400, "invalid_request"),
        (api_asks(&token).to("/introspect?client_secret=x"), 400, "invalid_request"),
    ] {
        site.send(request).await.assert_refused(status, error);
    }
    site.send(post(GRANT).basic("api", &SECRET)).await.assert_refused(400, "unauthorized_client");
}

#[tokio::test]
async fn a_caller_that_accepts_a_jwt_gets_one_for_itself_that_is_not_an_access_token() {
    on_every_stack(async |stack| {
        let server = server().await;
        let guard = BearerAuthLayer::new(server.verifier(API).unwrap());
        let site = stack.protect(&server, [guard]).await;
        let jwks = site.get("/.well-known/jwks.json").await.json();
        let good = token(&site).await;
        for text in [good.as_str(), "unknown"] {
            let plain = site.send(api_asks(text)).await.json();
            let answer = site.send(api_asks(text).header(ACCEPT, JWT)).await;
            assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some(JWT)));
            assert_eq!((answer.header("cache-control"), answer.header("pragma")), (Some("no-store"), Some("no-cache")));
            let jwt = std::str::from_utf8(&answer.body).unwrap();
            assert!(forge::is_signed_by(&jwks, jwt));
            let (header, claims) = forge::parts(jwt);
            assert_eq!(header, json!({"alg": "ES256", "typ": "token-introspection+jwt", "kid": forge::key_id()}));
            assert_eq!(claims, json!({"iss": ISSUER, "aud": "api", "iat": NOW, "token_introspection": plain}));
            site.get_authorized(&format!("Bearer {jwt}")).await.assert_invalid_token(&InvalidToken::Type);
            assert_inactive(&site.send(api_asks(jwt)).await);
        }
        let refused = site.send(about(&good).header(ACCEPT, JWT)).await;
        refused.assert_refused(401, "invalid_client");
    })
    .await;
}

#[tokio::test]
async fn a_view_that_is_too_old_is_a_503_and_never_active() {
    let clock = clock();
    let revocations =
        Revocations::follow(MemoryStore::default()).clock(clock.clone()).poll_interval(Duration::from_secs(14));
    let revocations = revocations.await.unwrap();
    let server = settings(store()).revocations(revocations).build().unwrap();
    let site = Stack::PLAIN.issue(&server).await;
    let token = token(&site).await;
    clock.advance(Duration::from_secs(31));
    site.send(api_asks(&token)).await.assert_refused(503, "temporarily_unavailable");
    assert_inactive(&site.send(api_asks("unknown")).await);
}

#[tokio::test]
async fn the_oauth2_crate_introspects() {
    let site = Stack::PLAIN.issue(&server().await).await;
    let token = token(&site).await;
    let client = BasicClient::new(OauthId::new("api".to_owned()))
        .set_client_secret(OauthSecret::new(SECRET.clone()))
        .set_introspection_url(IntrospectionUrl::new(site.url("/introspect")).unwrap());
    let introspect = async |token: &str| {
        let token = AccessToken::new(token.to_owned());
        client.introspect(&token).request_async(&|request| site.call(request)).await.unwrap()
    };
    let told = introspect(&token).await;
    assert!(told.active());
    assert_eq!(told.client_id().map(|id| id.as_str()), Some("billing"));
    assert_eq!(told.scopes().unwrap()[0].as_str(), READ.as_str());
    assert_eq!(told.exp().map(|time| time.timestamp()), Some(i64::try_from(NOW).unwrap() + 600));
    assert!(!introspect("unknown").await.active());
}

#[tokio::test]
async fn each_introspection_is_an_event_of_the_caller_with_the_name_of_the_token() {
    let (events, mut listener) = event::channel();
    let server = settings(store()).revocations(revocations().await).events(events).build().unwrap();
    let site = Stack::PLAIN.issue(&server).await;
    let token = token(&site).await;
    let Outcome::Issued { token_id: issued, .. } = listener.try_recv().unwrap().outcome else { panic!() };
    for (text, expected) in [(token.as_str(), Some(issued)), ("unknown", None)] {
        site.send(api_asks(text)).await;
        let event = listener.try_recv().unwrap();
        let Outcome::Introspected { token_id, .. } = &event.outcome else { panic!("{event:?}") };
        assert_eq!((token_id, event.client_id.as_deref()), (&expected, Some("api")));
        assert!(!format!("{event:?}").contains(&token));
    }
}

#[tokio::test]
async fn the_metadata_has_the_endpoint_and_its_signing_algorithm() {
    let metadata = async |server: &AuthorizationServer| {
        let site = Stack::PLAIN.issue(server).await;
        site.get("/.well-known/oauth-authorization-server").await.json()
    };
    let document = metadata(&server().await).await;
    assert_eq!(document["introspection_endpoint"], format!("{ISSUER}/introspect"));
    assert_eq!(
        document["introspection_endpoint_auth_methods_supported"],
        document["token_endpoint_auth_methods_supported"]
    );
    assert_eq!(document["introspection_signing_alg_values_supported"], json!(["ES256"]));
    let without = settings(store()).build().unwrap();
    assert_eq!(metadata(&without).await.get("introspection_endpoint"), None);
    let asked_for = settings(store()).introspection_path("/introspect").build().unwrap();
    let document = metadata(&asked_for).await;
    assert_eq!(document["introspection_endpoint"], format!("{ISSUER}/introspect"));
    let site = Stack::PLAIN.issue(&asked_for).await;
    let good = token(&site).await;
    assert_eq!(site.send(api_asks(&good)).await.json()["active"], true, "there is nothing that could be revoked");
}

/// The resource server: an API with opaque tokens.
#[cfg(feature = "remote")]
mod an_introspecting_api {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Full};
    use hyper::body::{Bytes, Incoming};
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;
    use tower_client_credentials::{ClientSecret, Introspection};

    use super::*;

    /// The response of the authorization server for tokens whose name begins with `bad`.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Bad {
        Status(u16),
        HangsUp,
        SaysNothing,
    }

    static ASKED: AtomicUsize = AtomicUsize::new(0);

    /// Whether the server fails for all tokens.
    static IS_DEAD: AtomicBool = AtomicBool::new(false);

    async fn answer(bad: Bad, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
        ASKED.fetch_add(1, Ordering::Relaxed);
        let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
        let active = json!({"active": true, "client_id": "billing", "aud": API, "exp": u64::MAX / 2 - 4});
        let status = match bad {
            // A random token, by which the API checks whether its server is up.
            _ if !body.starts_with(b"token=bad")
                && !body.starts_with(b"token=good")
                && IS_DEAD.load(Ordering::Relaxed) =>
            {
                500
            }
            _ if !body.starts_with(b"token=bad") => 200,
            Bad::Status(status) => status,
            Bad::HangsUp => return Err(std::io::Error::other("disconnects")),
            Bad::SaysNothing => std::future::pending().await,
        };
        Ok(Response::builder().status(status).body(active.to_string().into()).unwrap())
    }

    /// The URL of an authorization server over sockets.
    async fn authorization_server(bad: Bad) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service_fn(move |request| answer(bad, request));
                let server = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(server);
            }
        });
        format!("http://{address}/introspect")
    }

    async fn api(endpoint: &str, clock: &tower_client_credentials::clock::ManualClock) -> Site {
        let verifier = Introspection::new(ISSUER, API)
            .unwrap()
            .at(endpoint)
            .unwrap()
            .client_secret_basic("api", ClientSecret::new(SECRET.as_str()).unwrap())
            .unwrap()
            .clock(clock.clone())
            .build()
            .unwrap();
        let guard = BearerAuthLayer::new(verifier).end_at_expiry();
        let inner = tower::service_fn(async |_: Request<Incoming>| {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("let in")))
        });
        Stack::PLAIN.serve(tower::Layer::layer(&guard, inner)).await
    }

    /// In each of ten seconds, 40 different valid tokens and this many bad ones among them, by the clock of the API.
    async fn admitted_valid_tokens(bad: Bad, bad_per_second: usize) -> usize {
        let clock = clock();
        let site = api(&authorization_server(bad).await, &clock).await;
        ASKED.store(0, Ordering::Relaxed);
        let mut good = 0;
        for second in 0..10 {
            for step in 0..200 {
                clock.advance(Duration::from_millis(5));
                if step % (200 / bad_per_second) == 0 {
                    let (site, token) = (site.clone(), format!("Bearer bad-{second}-{step}"));
                    let asks = async move { site.get_authorized(&token).await.status };
                    if bad == Bad::SaysNothing {
                        tokio::spawn(tokio::time::timeout(Duration::from_secs(4), asks));
                    } else {
                        assert_eq!(asks.await, 503);
                    }
                }
                if step % 5 == 0 {
                    good +=
                        usize::from(site.get_authorized(&format!("Bearer good-{second}-{step}")).await.status == 200);
                }
            }
        }
        println!(
            "{bad:?}, {bad_per_second} a second: {good} of 400 valid tokens admitted, {} introspection requests",
            ASKED.load(Ordering::Relaxed)
        );
        good
    }

    /// The counts are printed.
    #[tokio::test]
    async fn admits_all_valid_tokens_while_its_server_cannot_answer_others_and_rarely_asks_a_dead_server() {
        for bad in [Bad::Status(500), Bad::Status(429), Bad::Status(503), Bad::HangsUp] {
            for bad_per_second in [1, 50] {
                assert_eq!(admitted_valid_tokens(bad, bad_per_second).await, 400, "{bad:?}, {bad_per_second} a second");
            }
        }
        // Each of these takes one of 256 places for five seconds, and the ten seconds of this test pass faster.
        assert_eq!(admitted_valid_tokens(Bad::SaysNothing, 1).await, 400);
        assert_eq!(admitted_valid_tokens(Bad::SaysNothing, 20).await, 400);

        // A server that refuses every request, and one that fails for every request.
        let clock = clock();
        IS_DEAD.store(true, Ordering::Relaxed);
        for (status, questions) in [(429, 10..=13), (503, 10..=13), (500, 20..=25)] {
            let site = api(&authorization_server(Bad::Status(status)).await, &clock).await;
            ASKED.store(0, Ordering::Relaxed);
            for number in 0..400 {
                clock.advance(Duration::from_millis(25));
                assert_eq!(site.get_authorized(&format!("Bearer bad-{number}")).await.status, 503);
            }
            println!("{status} for all, 400 tokens in 10 s: {} introspection requests", ASKED.load(Ordering::Relaxed));
            assert!(questions.contains(&ASKED.load(Ordering::Relaxed)), "{status}");
        }

        // A server that does not exist: even the connection is tried no more often.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = format!("http://{}/introspect", listener.local_addr().unwrap());
        drop(listener);
        let site = api(&gone, &clock).await;
        let begun = std::time::Instant::now();
        for number in 0..400 {
            let answer = site.get_authorized(&format!("Bearer good-{number}")).await;
            assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("1")));
        }
        println!("no server at all, 400 tokens: {:?}", begun.elapsed());
    }
}
