//! The clients, their keys, and their assertions.

use std::error::Error as _;

use ed25519_dalek::Signer as _;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Bytes;
use p384::pkcs8::DecodePrivateKey as _;
use rsa::rand_core;
use rsa::sha2::Sha256;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use tower_client_credentials::authorization_server::{
    AssertionRule, CheckedRule, ClientAssertions, InvalidAssertion, RuleResult, TokenError,
};
use tower_client_credentials::event::{self, EventReceiver, Outcome};
use tower_client_credentials::registration::Credential;
use tower_client_credentials::{Algorithm, AuthorizationServer, Client, MemoryStore};

use crate::common::forge::{Draft, encode};
use crate::common::request::{GRANT, TokenRequest, post};
use crate::common::{API, ISSUER, NOW, READ, at, client, settings};

pub(crate) const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

pub(crate) fn es256(seed: u8) -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&[seed; 32]).unwrap()
}

pub(crate) fn rsa_key() -> rsa::RsaPrivateKey {
    rsa::RsaPrivateKey::from_pkcs8_pem(include_str!("../keys/rsa2048.pem")).unwrap()
}

pub(crate) fn ed25519_key() -> ed25519_dalek::SigningKey {
    ed25519_dalek::SigningKey::from_bytes(&[9; 32])
}

pub(crate) fn p384_key() -> p384::ecdsa::SigningKey {
    p384::ecdsa::SigningKey::from_pkcs8_pem(include_str!("../keys/p384.pem")).unwrap()
}

/// Returns a JWK Set with one public key.
fn jwks(jwk: Value, kid: Option<&str>) -> String {
    let mut jwk = jwk;
    if let Some(kid) = kid {
        jwk["kid"] = kid.into();
    }
    json!({ "keys": [jwk] }).to_string()
}

pub(crate) fn ec_jwk(key: &p256::ecdsa::SigningKey) -> Value {
    let point = key.verifying_key().to_encoded_point(false);
    json!({"kty": "EC", "crv": "P-256", "x": encode(point.x().unwrap()), "y": encode(point.y().unwrap())})
}

pub(crate) fn ec_keys(seed: u8, kid: Option<&str>) -> Credential {
    Credential::jwks(jwks(ec_jwk(&es256(seed)), kid)).unwrap()
}

fn rsa_keys() -> Credential {
    use rsa::traits::PublicKeyParts as _;
    let key = rsa_key();
    let jwk = json!({"kty": "RSA", "n": encode(key.n().to_bytes_be()), "e": encode(key.e().to_bytes_be())});
    Credential::jwks(jwks(jwk, Some("r1"))).unwrap()
}

fn ed_keys() -> Credential {
    let x = encode(ed25519_key().verifying_key().as_bytes());
    Credential::jwks(jwks(json!({"kty": "OKP", "crv": "Ed25519", "x": x}), Some("e1"))).unwrap()
}

fn p384_keys() -> Credential {
    let point = p384_key().verifying_key().to_encoded_point(false);
    let jwk = json!({"kty": "EC", "crv": "P-384", "x": encode(point.x().unwrap()), "y": encode(point.y().unwrap())});
    Credential::jwks(jwks(jwk, Some("p1"))).unwrap()
}

fn with(id: &str, credential: Credential) -> Client {
    Client::with_credential(id, credential).scope(READ).audience(API).introspects(API)
}

/// `key` has the key 7, and `other` the key 8 with the same `kid`. `old` may send old assertions, and `late` could until
/// now. `two` has two keys without a `kid`.
pub(crate) fn clients() -> Vec<Client> {
    let key = || ec_keys(7, Some("k1"));
    vec![
        with("key", key()),
        with("other", ec_keys(8, Some("k1"))),
        with("rsa", rsa_keys()),
        with("pss", rsa_keys().signing_algorithm(Algorithm::PS256).unwrap()),
        with("ed", ed_keys()),
        with("p384", p384_keys()),
        with("old", key()).legacy_assertions_until(at(NOW + 1)),
        with("late", key()).legacy_assertions_until(at(NOW)),
        with("two", ec_keys(7, None).with_label("last").unwrap()).credential(ec_keys(8, None)),
        client("mixed").credential(key()).scope(READ).audience(API),
        with("retired", key()).disabled(),
        client("secret").scope(READ).audience(API),
        with("ended", key().expires_at(at(NOW))),
        with("soon", key().expires_at(at(NOW + 1))),
    ]
}

/// An assertion of this client, as RFC 7523 and RFC 10070 describe it.
pub(crate) fn good(client: &str, alg: &str, kid: Option<&str>) -> Draft {
    let mut header = json!({"alg": alg, "typ": "client-authentication+jwt"});
    if let Some(kid) = kid {
        header["kid"] = kid.into();
    }
    let claims = json!({
        "iss": client, "sub": client, "aud": ISSUER, "iat": NOW, "nbf": NOW, "exp": NOW + 60, "jti": "one",
    });
    Draft { header: header.to_string(), claims: claims.to_string() }
}

/// The assertion of `key`. Most tests change one part of it.
pub(crate) fn of_key() -> Draft {
    good("key", "ES256", Some("k1"))
}

pub(crate) trait Sign {
    /// Signs with the P-256 key of this seed.
    fn es256(&self, seed: u8) -> String;
    fn rs256(&self) -> String;
    fn ps256(&self) -> String;
    fn eddsa(&self) -> String;
    fn es384(&self) -> String;
}

impl Sign for Draft {
    fn es256(&self, seed: u8) -> String {
        self.sign_with(&es256(seed))
    }

    fn rs256(&self) -> String {
        let key = rsa::pkcs1v15::SigningKey::<Sha256>::new(rsa_key());
        self.seal(rsa::signature::Signer::sign(&key, self.signed_part().as_bytes()).to_bytes())
    }

    fn ps256(&self) -> String {
        let key = rsa::pss::SigningKey::<Sha256>::new(rsa_key());
        self.seal(key.sign_with_rng(&mut rand_core::OsRng, self.signed_part().as_bytes()).to_bytes())
    }

    fn eddsa(&self) -> String {
        self.seal(ed25519_key().sign(self.signed_part().as_bytes()).to_bytes())
    }

    fn es384(&self) -> String {
        let signature: p384::ecdsa::Signature = p384_key().sign(self.signed_part().as_bytes());
        self.seal(signature.to_bytes())
    }
}

/// A token request with this assertion.
pub(crate) fn asks(assertion: &str) -> TokenRequest {
    post(GRANT).param("client_assertion_type", JWT_BEARER).param("client_assertion", assertion)
}

/// A server, and its events.
pub(crate) struct World {
    pub(crate) server: AuthorizationServer,
    pub(crate) events: EventReceiver,
}

/// An answer, with everything that a caller can see.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(MemoryStore::try_from(clients()).unwrap())
    }

    pub(crate) fn of(store: MemoryStore) -> Self {
        let (sender, events) = event::channel();
        let builder = settings(store.clone()).client_assertions(ClientAssertions::new(store)).events(sender);
        Self { server: builder.build().unwrap(), events }
    }

    pub(crate) async fn send(&self, request: TokenRequest) -> Seen {
        let request: http::Request<_> = request.into();
        let answer = self.server.token_service().oneshot(request).await.unwrap();
        let (head, body) = answer.into_parts();
        Seen { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
    }

    /// Returns the rules that an operator is told the assertion breaks.
    pub(crate) async fn failed_rules(&self, assertion: &str, client: Option<&str>) -> Vec<AssertionRule> {
        let signature = assertion.rsplit('.').next().unwrap();
        let client = client.map(|id| id.parse().unwrap());
        let checked = self.server.diagnose_assertion(assertion, client.as_ref()).await.unwrap();
        let failed = checked.iter().filter(|checked| matches!(checked.result(), RuleResult::Failed(_)));
        for checked in &checked {
            let text = format!("{checked:?}");
            assert!(signature.len() < 16 || !text.contains(signature), "{text}");
        }
        failed.map(CheckedRule::rule).collect()
    }

    /// Checks that the diagnosis names the rule for which the server refuses the assertion.
    pub(crate) async fn assert_diagnosed(&self, name: &str, assertion: Option<&str>, rule: AssertionRule) {
        let Some(assertion) = assertion else { return };
        let failed = self.failed_rules(assertion, None).await;
        assert!(failed.contains(&rule), "{name}: {rule:?} is not one of {failed:?}");
    }

    /// Returns the outcome in the event of the last request.
    pub(crate) fn outcome(&mut self) -> Outcome {
        self.events.try_recv().expect("an event").outcome
    }

    /// Returns the rule that the last request broke, and the text for the operator.
    pub(crate) fn broken_rule(&mut self) -> (AssertionRule, String) {
        let Outcome::AuthenticationFailed(failure) = self.outcome() else { panic!("authentication did not fail") };
        let error: &TokenError = failure.downcast_ref().unwrap();
        let invalid = error.source().and_then(|source| source.downcast_ref::<InvalidAssertion>());
        (invalid.unwrap_or_else(|| panic!("{error} has no rule")).rule(), error.to_string())
    }
}
