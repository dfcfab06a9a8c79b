//! Assertions that a shared secret authenticates (`client_secret_jwt`).

use std::sync::Arc;

use http::StatusCode;
use p384::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};
use tower_client_credentials::authorization_server::AssertionRule::{
    Algorithm, Client as UnknownClient, Credential as NoCredential, Signature,
};
use tower_client_credentials::authorization_server::ClientAssertions;
use tower_client_credentials::client::{ClientAuthentication, ClientCredentials, SecretSource};
use tower_client_credentials::event::{self, Outcome};
use tower_client_credentials::keys::HmacAlgorithm;
use tower_client_credentials::keys::rotation::KeyEncryptionKey;
use tower_client_credentials::registration::{Credential, RegisteredClient};
use tower_client_credentials::store::{ClientAdmin as _, StoreFuture};
use tower_client_credentials::{
    AuthorizationServer, Client, ClientId, ClientSecret, ClientStore, KeyRing, MemoryStore, Revocations,
};

use crate::common::forge::Draft;
use crate::common::request::{GRANT, TokenRequest, post};
use crate::common::stack::on_every_stack;
use crate::common::{API, ISSUER, NOW, READ, at, chain, client, clock, settings};
use crate::refused::{Row, Way, row, with_claims, with_common_headers};
use crate::world::{JWT_BEARER, Sign as _, World, asks, ec_jwk, ec_keys, es256, good};

/// 64 bytes, for every algorithm.
const LONG: &str = "Jw5vS1qk0Zt8mYc3xRb7uLp2nHf6dGe9aKo4iWsBTQrUEVCyXzNMPODIFAhjgl-_";
/// 40 bytes, for HS256 only.
const SHORT: &str = "q8Zr2mVx7Lk4Tc1Hb9Yd6Ns3Wf5Gj0Pa-_uEoIiR";

fn key(byte: u8) -> KeyEncryptionKey {
    KeyEncryptionKey::from_bytes([&[byte; 31][..], &[0]].concat()).unwrap()
}

fn secret(text: &str) -> Credential {
    Credential::client_secret_jwt(&ClientSecret::assume_random(text).unwrap()).unwrap()
}

fn with(id: &str, credential: Credential) -> Client {
    Client::with_credential(id, credential).scope(READ).audience(API).introspects(API)
}

fn clients() -> Vec<Client> {
    vec![
        with("hmac", secret(LONG)),
        with("sealed", secret(LONG)).encrypt_secrets(&key(1)),
        with("short", secret(SHORT)),
        with("only512", secret(LONG).hmac_algorithm(HmacAlgorithm::HS512).unwrap()).encrypt_secrets(&key(1)),
        with("other", secret("another-secret-of-at-least-32-bytes-0123456789")),
        with("old", secret(LONG)).legacy_assertions_until(at(NOW + 1)),
        with("both", ec_keys(7, Some("k1"))).credential(secret(LONG)),
        with("two", secret(SHORT).with_label("last").unwrap()).credential(secret(LONG)),
        with("key", ec_keys(7, Some("k1"))),
        with("ended", secret(LONG).expires_at(at(NOW))),
        with("retired", secret(LONG)).disabled(),
        client("hashed").scope(READ).audience(API),
        Client::new("same", ClientSecret::assume_random(LONG).unwrap()).scope(READ).audience(API),
    ]
}

fn world() -> World {
    let store = MemoryStore::try_from(clients()).unwrap();
    let (sender, events) = event::channel();
    let assertions = ClientAssertions::new(store.clone()).client_secret_jwt_with(key(1));
    World { server: settings(store).client_assertions(assertions).events(sender).build().unwrap(), events }
}

/// The assertion of a client, with a `jti` of its own.
fn by(client: &str, alg: &str) -> Draft {
    good(client, alg, None).claim("jti", format!("{client} {alg}"))
}

fn of_hmac() -> Draft {
    by("hmac", "HS256")
}

const BY_SECRET: Way = Way { good: of_hmac, sign: |draft| draft.sign_hmac(LONG.as_bytes()) };

fn accepted() -> Vec<(&'static str, String)> {
    let long = |draft: Draft| draft.sign_hmac(LONG.as_bytes());
    let mut rows: Vec<_> = ["HS256", "HS384", "HS512"]
        .into_iter()
        .flat_map(|alg| [(alg, long(by("hmac", alg))), ("encrypted", long(by("sealed", alg)))])
        .collect();
    rows.extend([
        ("a short secret", by("short", "HS256").sign_hmac(SHORT.as_bytes())),
        ("only HS512", long(by("only512", "HS512"))),
        ("a kid, which is not used", long(of_hmac().header("kid", "k1").claim("jti", "kid"))),
        ("one audience in an array", long(of_hmac().claim("aud", json!([ISSUER])).claim("jti", "array"))),
        ("no typ", long(of_hmac().without_header("typ").claim("jti", "typ"))),
        ("the URL of the token endpoint, allowed", long(by("old", "HS256").claim("aud", format!("{ISSUER}/token")))),
        ("a secret of a client with a key", long(by("both", "HS256"))),
        ("a key of a client with a secret", by("both", "ES256").header("kid", "k1").es256(7)),
        ("the first of two secrets", by("two", "HS256").sign_hmac(SHORT.as_bytes())),
        ("the second of two secrets", long(by("two", "HS384"))),
    ]);
    rows
}

#[tokio::test]
async fn every_assertion_under_a_secret_that_follows_the_rules_gets_a_token_once() {
    let mut world = world();
    for (name, assertion) in accepted() {
        assert_eq!(world.failed_rules(&assertion, None).await, [], "{name}");
        let seen = world.send(asks(&assertion)).await;
        assert_eq!(seen.status, StatusCode::OK, "{name}: {seen:?}");
        let credential = loop {
            if let Outcome::Issued { credential, .. } = world.outcome() {
                break credential;
            }
        };
        let method = if name.starts_with("a key") { "private_key_jwt" } else { "client_secret_jwt" };
        assert_eq!(credential.method(), method, "{name}");
        assert_eq!(world.send(asks(&assertion)).await.status, StatusCode::UNAUTHORIZED, "{name}, for the second time");
        assert_eq!(world.broken_rule().0.name(), "replay", "{name}");
    }
}

fn with_signatures() -> Vec<Row> {
    let long = |draft: Draft| draft.sign_hmac(LONG.as_bytes());
    let draft = of_hmac();
    let good = long(of_hmac());
    let signature = crate::common::forge::decode(good.rsplit('.').next().unwrap());
    let changed = |at: usize, bit: u8| {
        let mut bytes = signature.clone();
        bytes[at] ^= bit;
        draft.seal(bytes)
    };
    let mut rows = vec![
        row("no signature", Signature, &draft.seal("")),
        row("zero", Signature, &draft.seal([0; 32])),
        row("half of the signature", Signature, &draft.seal(&signature[..16])),
        row("a byte more", Signature, &draft.seal([&signature[..], &[0]].concat())),
        row("claims changed", Signature, &of_hmac().claim("jti", "two").seal(&signature)),
        row("header changed", Signature, &of_hmac().header("x", "y").seal(&signature)),
        row("HS256 named HS512", Signature, &of_hmac().header("alg", "HS512").seal(&signature)),
        row("an empty secret", Signature, &of_hmac().sign_hmac(b"")),
        row("the secret with a line break", Signature, &of_hmac().sign_hmac(format!("{LONG}\n").as_bytes())),
        row("the secret, decoded", Signature, &of_hmac().sign_hmac(&crate::common::forge::decode(LONG))),
        row("the secret of another client", Signature, &by("other", "HS256").sign_hmac(LONG.as_bytes())),
        row("the id of another client", Signature, &by("short", "HS256").sign_hmac(LONG.as_bytes())),
        row("the wrong secret, encrypted", Signature, &by("sealed", "HS256").sign_hmac(SHORT.as_bytes())),
    ];
    for (at, bit) in [(0, 1), (15, 128), (31, 1)] {
        rows.push(row(format!("bit {bit} of byte {at} flipped"), Signature, &changed(at, bit)));
    }
    rows
}

/// Algorithms that do not belong to the credential: neither a secret is used as a key nor a key as a secret.
fn with_other_algorithms() -> Vec<Row> {
    let long = |draft: Draft| draft.sign_hmac(LONG.as_bytes());
    let (point, der) = {
        let public = *es256(7).verifying_key();
        (public.to_encoded_point(false), p256::PublicKey::from(public).to_public_key_der().unwrap().to_vec())
    };
    let pem = p256::PublicKey::from(*es256(7).verifying_key()).to_public_key_pem(LineEnding::LF).unwrap();
    let jwk = ec_jwk(&es256(7)).to_string();
    let mut rows = vec![
        row("HS384 with a secret of 40 bytes", Algorithm, &by("short", "HS384").sign_hmac(SHORT.as_bytes())),
        row("HS512 with a secret of 40 bytes", Algorithm, &by("short", "HS512").sign_hmac(SHORT.as_bytes())),
        row("HS256 for a client with HS512", Algorithm, &long(by("only512", "HS256"))),
        row("ES256 for a client with a secret", NoCredential, &by("hmac", "ES256").es256(7)),
        row("HS256 named ES256", NoCredential, &long(by("hmac", "ES256"))),
        row("none", Algorithm, &by("hmac", "none").seal("")),
        row("lower case", Algorithm, &long(by("hmac", "hs256"))),
        row("an unknown HMAC", Algorithm, &long(by("hmac", "HS1"))),
        row("a secret for a client with a key", NoCredential, &long(by("key", "HS256"))),
    ];
    let forms: [&[u8]; 6] =
        [point.as_bytes(), &point.as_bytes()[1..], &der, pem.as_bytes(), pem.trim().as_bytes(), jwk.as_bytes()];
    for (number, public) in forms.into_iter().enumerate() {
        for alg in ["HS256", "HS384", "HS512"] {
            for (client, rule) in [("key", NoCredential), ("both", Signature)] {
                let forged = by(client, alg).header("kid", "k1").sign_hmac(public);
                rows.push(row(format!("{alg} of {client} under form {number} of the public key"), rule, &forged));
            }
        }
    }
    rows
}

fn of_clients() -> Vec<Row> {
    let long = |draft: Draft| draft.sign_hmac(LONG.as_bytes());
    vec![
        row("an unknown client", UnknownClient, &long(by("stranger", "HS256"))),
        row("a disabled client", UnknownClient, &long(by("retired", "HS256"))),
        row("an expired secret", NoCredential, &long(by("ended", "HS256"))),
        row(
            "a client with a hashed secret",
            NoCredential,
            &by("hashed", "HS256").sign_hmac(crate::common::SECRET.as_bytes()),
        ),
        row("the same secret, but hashed", NoCredential, &long(by("same", "HS256"))),
    ]
}

#[tokio::test]
async fn every_assertion_under_a_secret_that_breaks_a_rule_gets_the_same_bytes_and_its_event_names_the_rule() {
    let mut world = world();
    let rows: Vec<_> = [
        with_claims(BY_SECRET),
        with_common_headers(BY_SECRET),
        with_signatures(),
        with_other_algorithms(),
        of_clients(),
    ]
    .into_iter()
    .flatten()
    .collect();
    println!("{} assertions", rows.len());
    assert!(rows.len() >= 120, "{}", rows.len());
    let wrong_secret = world.send(post(GRANT).basic("hashed", &crate::common::WRONG_SECRET)).await;
    assert_eq!(wrong_secret.status, StatusCode::UNAUTHORIZED);
    world.outcome();
    for Row { name, rule, request, assertion } in rows {
        assert_eq!(world.send(request).await, wrong_secret, "{name}");
        let (broken, text) = world.broken_rule();
        assert_eq!(broken, rule, "{name}: {text}");
        assert!(text.len() < 700 && !text.contains(LONG) && !text.contains(SHORT), "{name}: {text}");
        world.assert_diagnosed(&name, assertion.as_deref(), rule).await;
    }
    // None of them was recorded.
    for client in ["hmac", "sealed", "old"] {
        let seen = world.send(asks(&by(client, "HS256").sign_hmac(LONG.as_bytes()))).await;
        assert_eq!(seen.status, StatusCode::OK, "{client}");
    }
}

#[tokio::test]
async fn without_the_setting_a_secret_is_neither_accepted_nor_announced() {
    let build = |secrets: bool| {
        let store = MemoryStore::try_from([with("key", ec_keys(7, Some("k1")))]).unwrap();
        let (sender, events) = event::channel();
        let assertions = ClientAssertions::new(store.clone());
        let assertions = if secrets { assertions.client_secret_jwt() } else { assertions };
        let server = settings(store).client_assertions(assertions).events(sender);
        World { server: server.introspection_path("/introspect").build().unwrap(), events }
    };
    for secrets in [false, true] {
        let mut world = build(secrets);
        world.send(asks(&by("key", "HS256").sign_hmac(LONG.as_bytes()))).await;
        assert_eq!(world.broken_rule().0, if secrets { NoCredential } else { Algorithm });
        let metadata = metadata(&world).await;
        for endpoint in ["token", "introspection"] {
            let has = |member: &str, name: &str| {
                metadata[format!("{endpoint}_endpoint_auth_{member}_supported")]
                    .as_array()
                    .unwrap()
                    .contains(&name.into())
            };
            assert_eq!(has("methods", "client_secret_jwt"), secrets, "{metadata}");
            for name in ["HS256", "HS384", "HS512"] {
                assert_eq!(has("signing_alg_values", name), secrets, "{metadata}");
            }
            assert!(has("signing_alg_values", "ES256"), "{metadata}");
        }
    }
}

async fn metadata(world: &World) -> Value {
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;
    let request = http::Request::new(http_body_util::Full::new(hyper::body::Bytes::new()));
    let body = world.server.metadata_service().oneshot(request).await.unwrap().into_body();
    serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap()
}

#[test]
fn a_server_that_cannot_decrypt_a_secret_or_accepts_none_is_not_built() {
    let store = |client: Client| MemoryStore::try_from([client.audience(API)]).unwrap();
    let plain = || Client::with_credential("a", secret(LONG));
    let sealed = || plain().encrypt_secrets(&key(1));
    let with = || ClientAssertions::new(MemoryStore::default());
    for (client, assertions, says) in [
        (plain(), with(), "ClientAssertions::client_secret_jwt"),
        (sealed(), with(), "ClientAssertions::client_secret_jwt"),
        (sealed(), with().client_secret_jwt(), "client_secret_jwt_with"),
        (sealed(), with().client_secret_jwt_with(key(2)), "KeyEncryptionKey::also"),
        (plain(), with().client_secret_jwt().hmac_algorithms([]), "hmac_algorithms"),
    ] {
        let error = settings(store(client)).client_assertions(assertions).build().unwrap_err().to_string();
        assert!(error.contains(says) && !error.contains(LONG), "{error}");
    }
    for assertions in [with().client_secret_jwt_with(key(1)), with().client_secret_jwt_with(key(2).also(key(1)))] {
        assert!(settings(store(sealed())).client_assertions(assertions).build().is_ok());
    }
    assert!(settings(store(plain())).client_assertions(with().client_secret_jwt_with(key(2))).build().is_ok());
}

#[test]
fn no_secret_is_written_unless_it_is_encrypted_and_a_moved_or_altered_one_is_unusable() {
    let plain = with("hmac", secret(LONG)).register().unwrap();
    let error = serde_json::to_string(&plain).unwrap_err().to_string();
    assert!(error.contains("encrypt_secrets") && error.contains("`hmac`") && !error.contains(LONG), "{error}");
    let sealed = plain.edit().encrypt_secrets(&key(1)).register().unwrap();
    let record = serde_json::to_string(&sealed).unwrap();
    assert!(!record.contains(LONG) && !format!("{plain:?}{sealed:?}").contains(LONG), "{record}");
    assert_eq!(serde_json::from_str::<RegisteredClient>(&record).unwrap(), sealed);
    let record: Value = serde_json::from_str(&record).unwrap();
    assert_eq!((&record["version"], &record["must_understand"]), (&json!(2), &json!(["credentials"])));
    let moved = |change: fn(&mut Value)| {
        let mut record = record.clone();
        change(&mut record);
        let client: RegisteredClient = serde_json::from_value(record).unwrap();
        let store = MemoryStore::try_from([client.edit()]).unwrap();
        let assertions = ClientAssertions::new(store.clone()).client_secret_jwt_with(key(1));
        settings(store).client_assertions(assertions).build().map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(moved(|_| ()), Ok(()));
    for change in [
        (|record| record["client_id"] = "thief".into()) as fn(&mut Value),
        |record| record["credentials"][0]["label"] = "2".into(),
        |record| {
            let text = record["credentials"][0]["encrypted_secret"].as_str().unwrap().to_owned();
            record["credentials"][0]["encrypted_secret"] = text.chars().rev().collect::<String>().into();
        },
    ] {
        assert!(moved(change).unwrap_err().contains("was altered, or belongs to another"), "{:?}", moved(change));
    }
    for (change, says) in [
        (
            (|credential| _ = credential.as_object_mut().unwrap().remove("encrypted_by")) as fn(&mut Value),
            "encrypted_secret",
        ),
        (|credential| _ = credential.as_object_mut().unwrap().remove("encrypted_secret"), "encrypted_secret"),
        (|credential| credential["jwks_uri"] = "https://a.example/keys".into(), "jwks_uri"),
        (|credential| credential["token_endpoint_auth_signing_alg"] = "ES256".into(), "HS256"),
    ] {
        let mut record = record.clone();
        change(&mut record["credentials"][0]);
        let error = serde_json::from_value::<RegisteredClient>(record).unwrap_err().to_string();
        assert!(error.contains("credentials[0].") && error.contains(says), "{error}");
    }
}

/// A store whose clients are not checked when the server is built, as those of a database.
#[derive(Clone, Debug)]
struct Database(MemoryStore);

impl ClientStore for Database {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        self.0.find(id)
    }
}

#[tokio::test]
async fn a_secret_that_cannot_be_decrypted_is_a_503_for_its_client_only_and_an_event_reports_it() {
    let store = MemoryStore::default();
    let both = with("both", ec_keys(7, Some("k1"))).credential(secret(LONG)).encrypt_secrets(&key(2));
    for client in [with("good", secret(LONG)).encrypt_secrets(&key(1)), both] {
        store.create(client.register().unwrap()).await.unwrap();
    }
    let (sender, events) = event::channel();
    let assertions = ClientAssertions::new(store.clone()).client_secret_jwt_with(key(1));
    let server = settings(Database(store)).client_assertions(assertions).events(sender).build().unwrap();
    let mut world = World { server, events };
    let seen = world.send(asks(&by("both", "HS256").sign_hmac(LONG.as_bytes()))).await;
    assert_eq!(seen.status, StatusCode::SERVICE_UNAVAILABLE, "{seen:?}");
    let Outcome::InvalidRegistration { reason, .. } = world.outcome() else { panic!("no event about the client") };
    assert!(reason.contains("KeyEncryptionKey::also") && !reason.contains(LONG), "{reason}");
    let Outcome::Unavailable(error) = world.outcome() else { panic!("not an outage") };
    assert!(chain(&error).contains("key-encryption key"), "{error}");
    for assertion in [by("good", "HS256").sign_hmac(LONG.as_bytes()), by("both", "ES256").header("kid", "k1").es256(7)]
    {
        assert_eq!(world.send(asks(&assertion)).await.status, StatusCode::OK);
    }
}

/// Adds the credentials of `sealed`, in an assertion with this `jti`.
fn signed(request: TokenRequest, jti: &str) -> TokenRequest {
    let assertion = by("sealed", "HS256").claim("jti", jti).sign_hmac(LONG.as_bytes());
    request.param("client_assertion_type", JWT_BEARER).param("client_assertion", &assertion)
}

#[tokio::test]
async fn a_client_gets_introspects_and_revokes_a_token_with_a_secret_that_it_does_not_send() {
    on_every_stack(async |stack| {
        let store = MemoryStore::try_from(clients()).unwrap();
        let revocations = Revocations::follow(store.clone()).clock(clock()).await.unwrap();
        let assertions = ClientAssertions::new(store.clone()).client_secret_jwt_with(key(1));
        let server = settings(store).client_assertions(assertions).revocations(revocations).build().unwrap();
        let site = stack.issue(&server).await;
        let token = site.send(signed(post(GRANT), "get")).await.assert_token();
        let is_active = async |jti: &str| {
            let answer = site.send(signed(post(format!("token={token}")).to("/introspect"), jti)).await;
            answer.json()["active"].clone()
        };
        assert_eq!(is_active("first look").await, true);
        let revoke = |jti| signed(post(format!("token={token}")).to("/revoke"), jti);
        assert_eq!(site.send(revoke("get")).await.status.as_u16(), 401, "a jti counts for all endpoints");
        assert_eq!(site.send(revoke("revoke")).await.status.as_u16(), 200);
        assert_eq!(is_active("second look").await, false);
        // The same credential is no secret that can be sent.
        site.send(post(GRANT).basic("sealed", LONG)).await.assert_refused(401, "invalid_client");
    })
    .await;
}

#[tokio::test]
async fn the_calling_side_of_this_crate_gets_a_token_with_the_secret_that_the_server_decrypts() {
    let secret = ClientSecret::generate().unwrap();
    let credential = Credential::client_secret_jwt(&secret).unwrap();
    let store = MemoryStore::try_from([with("billing", credential).encrypt_secrets(&key(1))]).unwrap();
    let assertions = ClientAssertions::new(store.clone()).client_secret_jwt_with(key(1));
    let keys = KeyRing::generate().unwrap();
    let server = AuthorizationServer::builder(ISSUER, keys, store).client_assertions(assertions).build().unwrap();
    let token = async |secret: &str| {
        let authentication = ClientAuthentication::secret_jwt(SecretSource::from_value(secret));
        let tokens = ClientCredentials::new(ISSUER, "billing", authentication)
            .token_endpoint(format!("{ISSUER}/token"))
            .http_service(server.token_service());
        tokens.build().unwrap().token().await
    };
    let issued = token(secret.expose()).await.unwrap();
    assert!(server.verifier(API).unwrap().verify(issued.expose()).await.is_ok());
    let refused = token(ClientSecret::generate().unwrap().expose()).await.unwrap_err();
    assert!(chain(&refused).contains("invalid_client"), "{refused}");
}
