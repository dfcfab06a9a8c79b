//! Assertions at each endpoint, over sockets.

use std::time::SystemTime;

use serde_json::{Value, json};
use tower_client_credentials::authorization_server::{ClientAssertions, GrantRefusal, PendingGrant};
use tower_client_credentials::registration::ClientAuthMethod;
use tower_client_credentials::store::{Replay, ReplayId, ReplayLog, StoreError, StoreFuture};
use tower_client_credentials::{Algorithm, Client, ClientSecret, MemoryStore, Revocations};

use crate::common::request::{GRANT, TokenRequest, post};
use crate::common::stack::on_every_stack;
use crate::common::{API, SECRET, clock, settings};
use crate::world::{JWT_BEARER, Sign as _, clients, ec_keys, good};

/// Adds the credentials of `key`, in an assertion with this `jti`.
fn signed(request: TokenRequest, jti: &str) -> TokenRequest {
    let assertion = good("key", "ES256", Some("k1")).claim("jti", jti).es256(7);
    request.param("client_assertion_type", JWT_BEARER).param("client_assertion", &assertion)
}

#[tokio::test]
async fn a_client_gets_introspects_and_revokes_a_token_with_assertions() {
    on_every_stack(async |stack| {
        let store = MemoryStore::try_from(clients()).unwrap();
        let revocations = Revocations::follow(store.clone()).clock(clock()).await.unwrap();
        let builder = settings(store.clone()).client_assertions(ClientAssertions::new(store)).revocations(revocations);
        let site = stack.issue(&builder.build().unwrap()).await;
        let token = site.send(signed(post(GRANT), "get")).await.assert_token();
        let is_active = async |jti: &str| {
            let body = format!("token={token}");
            let answer = site.send(signed(post(body).to("/introspect"), jti)).await;
            answer.json()["active"].clone()
        };
        assert_eq!(is_active("first look").await, true);
        let revoke = |jti| signed(post(format!("token={token}")).to("/revoke"), jti);
        assert_eq!(site.send(revoke("get")).await.status.as_u16(), 401, "a jti counts for all endpoints");
        assert_eq!(site.send(revoke("revoke")).await.status.as_u16(), 200);
        assert_eq!(is_active("second look").await, false);
    })
    .await;
}

async fn metadata(builder: tower_client_credentials::authorization_server::AuthorizationServerBuilder) -> Value {
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;
    let server = builder.build().unwrap();
    let request = http::Request::new(http_body_util::Full::new(hyper::body::Bytes::new()));
    let body = server.metadata_service().oneshot(request).await.unwrap().into_body();
    serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn the_metadata_lists_the_methods_and_algorithms_that_are_accepted() {
    let store = MemoryStore::default();
    let builder = || settings(store.clone()).introspection_path("/introspect");
    let (methods, algorithms) = (
        ["token", "introspection"].map(|endpoint| format!("{endpoint}_endpoint_auth_methods_supported")),
        ["token", "introspection"].map(|endpoint| format!("{endpoint}_endpoint_auth_signing_alg_values_supported")),
    );
    let without = metadata(builder()).await;
    for name in &methods {
        assert_eq!(without[name], json!(["client_secret_basic", "client_secret_post"]));
    }
    assert!(algorithms.iter().all(|name| without.get(name).is_none()), "{without}");
    let assertions = ClientAssertions::new(store.clone()).algorithms([Algorithm::ES256, Algorithm::EdDSA]);
    let with = metadata(builder().client_assertions(assertions)).await;
    for name in &methods {
        assert_eq!(with[name], json!(["client_secret_basic", "client_secret_post", "private_key_jwt"]));
    }
    for name in &algorithms {
        assert_eq!(with[name], json!(["ES256", "EdDSA", "Ed25519"]));
    }
    assert!(with.get("revocation_endpoint").is_none());
}

/// A log that does not answer.
#[derive(Debug)]
struct Down;

impl ReplayLog for Down {
    fn check_and_insert<'a>(&'a self, _: &'a ReplayId, _: SystemTime, _: SystemTime) -> StoreFuture<'a, Replay> {
        StoreFuture::new(async move { Err(StoreError::new("the log is down")) })
    }
}

#[tokio::test]
async fn a_log_that_is_down_is_a_503_and_never_a_token_or_a_refusal() {
    on_every_stack(async |stack| {
        let store = MemoryStore::try_from(clients()).unwrap();
        let server = settings(store).client_assertions(ClientAssertions::new(Down)).build().unwrap();
        let site = stack.issue(&server).await;
        site.send(signed(post(GRANT), "one")).await.assert_refused(503, "temporarily_unavailable");
        // The log was not asked about the next assertion.
        let wrong = good("key", "ES256", Some("k1")).es256(8);
        let request = post(GRANT).param("client_assertion_type", JWT_BEARER).param("client_assertion", &wrong);
        site.send(request).await.assert_refused(401, "invalid_client");
        // Secrets do not need it.
        site.send(post(GRANT).basic("mixed", &SECRET)).await.assert_token();
    })
    .await;
}

#[tokio::test]
async fn a_grant_hook_sees_how_the_client_authenticated() {
    let hook = |grant: &mut PendingGrant| {
        grant.add_claim("used", format!("{} {}", grant.method(), grant.credential()));
        if grant.method() == ClientAuthMethod::PrivateKeyJwt {
            return Ok(());
        }
        Err(GrantRefusal::client("use a key"))
    };
    let store = MemoryStore::try_from(clients()).unwrap();
    let server = settings(store.clone()).client_assertions(ClientAssertions::new(store)).grant_hook(hook);
    let stack = crate::common::stack::Stack {
        framework: crate::common::stack::Framework::Axum,
        protocol: crate::common::stack::Protocol::Http1,
    };
    let site = stack.issue(&server.build().unwrap()).await;
    let token = site.send(signed(post(GRANT), "one")).await.assert_token();
    assert_eq!(crate::common::forge::parts(&token).1["used"], "private_key_jwt 1");
    site.send(post(GRANT).basic("mixed", &SECRET)).await.assert_refused(400, "unauthorized_client");
}

#[test]
fn settings_and_clients_that_cannot_work_are_refused_when_the_server_is_built() {
    let with_key = || MemoryStore::try_from([Client::with_credential("a", ec_keys(7, None)).audience(API)]).unwrap();
    let error = settings(with_key()).build().unwrap_err().to_string();
    assert!(error.contains("client_assertions") && error.contains("client `a`"), "{error}");
    let assertions = || ClientAssertions::new(MemoryStore::default());
    let seconds = std::time::Duration::from_secs;
    for (assertions, says) in [
        (assertions().clock_skew(seconds(9)), "clock_skew"),
        (assertions().clock_skew(seconds(61)), "clock_skew"),
        (assertions().max_lifetime(seconds(0)), "max_lifetime"),
        (assertions().max_lifetime(seconds(3_601)), "max_lifetime"),
        (assertions().algorithms([]), "algorithms"),
        (assertions().algorithms([Algorithm::HS256]), "algorithms"),
    ] {
        let error = settings(with_key()).client_assertions(assertions).build().unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert!(settings(with_key()).client_assertions(assertions()).build().is_ok());
}

#[test]
fn a_method_that_contradicts_the_credentials_is_refused() {
    let secret = || ClientSecret::generate().unwrap();
    let key = || Client::with_credential("a", ec_keys(7, None));
    let (basic, post, jwt) =
        (ClientAuthMethod::ClientSecretBasic, ClientAuthMethod::ClientSecretPost, ClientAuthMethod::PrivateKeyJwt);
    for client in [
        key().authentication(basic),
        key().authentication(post),
        key().secret(secret()).authentication(jwt),
        Client::new("a", secret()).authentication(jwt),
        Client::new("a", secret()).without_secret("1").authentication(jwt),
    ] {
        let error = client.register().unwrap_err().to_string();
        assert!(error.contains("token_endpoint_auth_method"), "{error}");
    }
    for (client, method) in [
        (key(), jwt),
        (key().authentication(jwt), jwt),
        (key().secret(secret()), basic),
        (key().secret(secret()).authentication(post), post),
        (Client::new("a", secret()).credential(ec_keys(7, None)), basic),
    ] {
        let client = client.register().unwrap();
        assert_eq!(client.authentication(), method);
        let record = serde_json::to_string(&client).unwrap();
        assert_eq!(
            serde_json::from_str::<tower_client_credentials::registration::RegisteredClient>(&record).unwrap(),
            client
        );
    }
    let moved = Client::new("a", secret()).credential(ec_keys(7, None)).register().unwrap();
    let moved = moved.edit().without_secret("1").register().unwrap();
    assert_eq!(moved.authentication(), jwt, "a client that moved from a secret to a key");
}
