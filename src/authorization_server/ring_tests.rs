//! A server and its verifiers follow a key ring that changes while they run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use tokio::sync::Notify;
use tower::ServiceExt as _;

use crate::authorization_server::{ConfigError, TokenError};
use crate::clock::{Clock as _, ManualClock};
use crate::keys::rotation::{KeyEncryptionKey, KeyManager, MemoryKeyStore};
use crate::keys::{Algorithm, KeySnapshot, SignFuture, Signature, Signer, SignerLimits, SigningKey, VerifyingKey};
use crate::verification::{InvalidToken, UnavailableKind, VerifyError};
use crate::verification::{IssuedTokens, NotIssued};
use crate::{AuthorizationServer, Client, ClientSecret, KeyRing, MemoryStore};

const API: &str = "https://api.example.com";

struct Site {
    keys: KeyRing,
    server: AuthorizationServer,
    secret: ClientSecret,
}

impl Site {
    fn new(key: SigningKey) -> Self {
        let (keys, secret) = (KeyRing::limited(KeySnapshot::new(key), None), ClientSecret::generate().unwrap());
        let clients = MemoryStore::try_from([Client::new("billing", &secret).audience(API).introspects(API)]).unwrap();
        let server = AuthorizationServer::builder("https://auth.example.com", keys.clone(), clients)
            .introspection_path("/introspect")
            .reuse_tokens(90)
            .build()
            .unwrap();
        Self { keys, server, secret }
    }

    async fn token(&self) -> Result<String, TokenError> {
        let pair = format!("billing:{}", self.secret.expose());
        let pair = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pair);
        let request = Request::post("/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", format!("Basic {pair}"))
            .body(Full::new(Bytes::from_static(b"grant_type=client_credentials")))
            .unwrap();
        let response = self.server.token_service().oneshot(request).await.unwrap();
        if let Some(error) = response.extensions().get::<TokenError>() {
            return Err(error.clone());
        }
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let json: Value = serde_json::from_slice(&body).unwrap();
        Ok(json["access_token"].as_str().unwrap().to_owned())
    }

    /// Returns a signed introspection answer, for a token that is not active.
    async fn introspection(&self) -> Result<String, TokenError> {
        let pair = format!("billing:{}", self.secret.expose());
        let pair = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pair);
        let request = Request::post("/introspect")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/token-introspection+jwt")
            .header("authorization", format!("Basic {pair}"))
            .body(Full::new(Bytes::from_static(b"token=unknown")))
            .unwrap();
        let response = self.server.introspection_service().oneshot(request).await.unwrap();
        if let Some(error) = response.extensions().get::<TokenError>() {
            return Err(error.clone());
        }
        Ok(String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    /// Returns the `kid`s of the key set with its entity tag, and the algorithms of the metadata.
    async fn documents(&self) -> (Vec<String>, String, Value) {
        let request = || Request::get("/").body(Full::<Bytes>::default()).unwrap();
        let jwks = self.server.jwks_service().oneshot(request()).await.unwrap();
        let etag = jwks.headers()["etag"].to_str().unwrap().to_owned();
        let jwks: Value = serde_json::from_slice(&jwks.into_body().collect().await.unwrap().to_bytes()).unwrap();
        let key_ids = jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned());
        let metadata = self.server.metadata_service().oneshot(request()).await.unwrap();
        let metadata: Value =
            serde_json::from_slice(&metadata.into_body().collect().await.unwrap().to_bytes()).unwrap();
        (key_ids.collect(), etag, metadata["introspection_signing_alg_values_supported"].clone())
    }
}

#[tokio::test]
async fn key_set_metadata_tokens_verifiers_and_caches_follow_the_ring() {
    let site = Site::new(SigningKey::generate(Algorithm::ES256).unwrap());
    let verifier = site.server.verifier(API).unwrap();
    let old = site.token().await.unwrap();
    assert!(verifier.verify_now(&old).is_ok() && verifier.remembers(&old));
    let (old_ids, old_etag, algorithms) = site.documents().await;
    assert_eq!(algorithms, serde_json::json!(["ES256"]));
    assert_eq!(site.documents().await.1, old_etag);

    let new = SigningKey::generate(Algorithm::EdDSA).unwrap();
    let new_id = new.key_id().to_owned();
    site.keys.replace(KeySnapshot::new(new));
    let (new_ids, new_etag, algorithms) = site.documents().await;
    assert_eq!((new_ids, algorithms), (vec![new_id], serde_json::json!(["EdDSA"])));
    assert!(!old_ids.is_empty() && new_etag != old_etag);
    let new = site.token().await.unwrap();
    assert_ne!(new, old, "a token of a key that is gone is not reused");
    assert!(verifier.verify_now(&new).is_ok());
    let refused = verifier.verify_now(&old).unwrap_err();
    assert!(matches!(refused, VerifyError::Refused(refused) if refused.reason() == InvalidToken::UnknownKey));
    assert!(!verifier.remembers(&old));
}

/// Signs when it is told to.
#[derive(Clone, Debug)]
struct Held {
    key: Arc<SigningKey>,
    asked: Arc<AtomicUsize>,
    go: Arc<Notify>,
}

impl Signer for Held {
    fn verifying_key(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            self.go.notified().await;
            Ok(Signature::jws(self.key.signature(message)))
        })
    }
}

#[tokio::test]
async fn a_key_that_is_removed_while_it_signs_issues_no_token_and_the_next_request_gets_the_next_key() {
    let key = Arc::new(SigningKey::generate(Algorithm::ES256).unwrap());
    let held = Held { key: key.clone(), asked: Arc::default(), go: Arc::default() };
    let external = || SigningKey::from_signer(held.clone(), SignerLimits::default()).unwrap();
    let site = Arc::new(Site::new(external()));
    let ask = || {
        let site = site.clone();
        tokio::spawn(async move { site.token().await })
    };
    let asked = async |times: usize| {
        while held.asked.load(Ordering::SeqCst) < times {
            tokio::task::yield_now().await;
        }
    };
    // It only retires: the signature that is under way is completed, with the key that was selected.
    let request = ask();
    asked(1).await;
    let next = KeySnapshot::new(SigningKey::generate(Algorithm::ES256).unwrap());
    site.keys.replace(next.also_trusting(key.verifying_key()));
    held.go.notify_one();
    let token = request.await.unwrap().unwrap();
    assert!(site.server.verifier(API).unwrap().verify_now(&token).is_ok());

    let site = Arc::new(Site::new(external()));
    let request = {
        let site = site.clone();
        tokio::spawn(async move { site.token().await })
    };
    asked(2).await;
    site.keys.replace(KeySnapshot::new(SigningKey::generate(Algorithm::ES256).unwrap()));
    held.go.notify_one();
    let error = request.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("removed from the ring while it signed"), "{error}");
    let token = site.token().await.unwrap();
    assert!(site.server.verifier(API).unwrap().verify_now(&token).is_ok());
}

#[tokio::test]
async fn a_server_with_another_clock_than_its_managed_ring_is_an_error() {
    let by = KeyEncryptionKey::from_bytes((0..32).collect::<Vec<u8>>()).unwrap();
    let clock = ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let keys = KeyManager::builder(MemoryKeyStore::default(), by).clock(clock.clone()).connect().await.unwrap();
    let build = |clock: ManualClock| {
        AuthorizationServer::builder("https://auth.example.com", keys.ring(), MemoryStore::default())
            .clock(clock)
            .build()
    };
    assert!(build(clock.clone()).is_ok());
    let other = ManualClock::at(clock.now() + Duration::from_secs(6));
    assert!(matches!(build(other), Err(ConfigError::KeyRingClock)));
    let unclocked =
        AuthorizationServer::builder("https://auth.example.com", KeyRing::generate().unwrap(), MemoryStore::default());
    assert!(unclocked.clock(clock).build().is_ok(), "a ring without a lease has no clock");
}

#[tokio::test]
async fn a_key_that_is_removed_while_it_signs_an_introspection_answer_signs_none() {
    let key = Arc::new(SigningKey::generate(Algorithm::ES256).unwrap());
    let held = Held { key: key.clone(), asked: Arc::default(), go: Arc::default() };
    let site = Arc::new(Site::new(SigningKey::from_signer(held.clone(), SignerLimits::default()).unwrap()));
    for (is_removed, asked) in [(false, 1), (true, 2)] {
        let request = {
            let site = site.clone();
            tokio::spawn(async move { site.introspection().await })
        };
        while held.asked.load(Ordering::SeqCst) < asked {
            tokio::task::yield_now().await;
        }
        if is_removed {
            site.keys.replace(KeySnapshot::new(SigningKey::generate(Algorithm::ES256).unwrap()));
        }
        held.go.notify_one();
        match request.await.unwrap() {
            Ok(answer) => assert!(!is_removed && answer.split('.').count() == 3, "{answer}"),
            Err(error) => {
                assert!(is_removed && error.to_string().contains("removed from the ring while it signed"), "{error}");
            }
        }
    }
    assert_eq!(site.introspection().await.unwrap().split('.').count(), 3);
}

#[tokio::test]
async fn a_server_that_was_cut_off_from_its_key_store_answers_503_and_refuses_nothing() {
    let site = Site::new(SigningKey::generate(Algorithm::ES256).unwrap());
    let verifier = site.server.verifier(API).unwrap();
    let (seen, unseen) = (site.token().await.unwrap(), {
        let other = site.server.verifier(API).unwrap();
        assert!(verifier.is_ready() && other.is_ready());
        site.token().await.unwrap()
    });
    verifier.verify_now(&seen).unwrap();
    let known = site.keys.snapshot();
    site.keys.replace(known.cut_off());
    assert!(!verifier.is_ready());
    for token in [&seen, &unseen] {
        for verifier in [&verifier, &site.server.verifier(API).unwrap()] {
            let error = verifier.verify_now(token).unwrap_err();
            assert!(
                matches!(error, VerifyError::Unavailable(unavailable) if unavailable.kind() == UnavailableKind::Keys)
            );
        }
    }
    let error = site.token().await.unwrap_err();
    assert_eq!(error.status(), http::StatusCode::SERVICE_UNAVAILABLE);
    let request = Request::get("/").body(Full::<Bytes>::default()).unwrap();
    let jwks = site.server.jwks_service().oneshot(request).await.unwrap();
    assert_eq!((jwks.status().as_u16(), jwks.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    let recognised = IssuedTokens::new("https://auth.example.com".parse().unwrap(), site.keys.clone()).recognise(&seen);
    assert!(matches!(recognised, Err(NotIssued::CutOff)), "introspection and revocation must not call it unknown");

    site.keys.replace(
        KeySnapshot::new(SigningKey::generate(Algorithm::ES256).unwrap())
            .also_trusting(known.trusted().next().unwrap().clone()),
    );
    assert!(verifier.is_ready() && verifier.verify_now(&seen).is_ok());
}

/// Whatever is in the ring, the key set has only the members of public keys, in the order of the ring.
#[tokio::test]
async fn the_key_set_has_only_public_members_for_every_type_of_key_and_a_stable_order() {
    let pems = [
        include_str!("../../tests/keys/p256.pem"),
        include_str!("../../tests/keys/p384.pem"),
        include_str!("../../tests/keys/ed25519.pem"),
        #[cfg(feature = "aws_lc_rs")]
        include_str!("../../tests/keys/rsa2048.pem"),
    ];
    let keys = || pems.iter().map(|pem| SigningKey::from_pem(pem).unwrap());
    let held = Held { key: Arc::new(keys().next().unwrap()), asked: Arc::default(), go: Arc::default() };
    let external = SigningKey::from_signer(held, SignerLimits::default()).unwrap();
    let secret = || SigningKey::dangerous_hs256_verifiers_can_forge([7; 32]).unwrap();
    for signing in keys().chain([external, secret()]) {
        let snapshot = keys()
            .chain([secret()])
            .fold(KeySnapshot::new(signing), |snapshot, key| snapshot.also_trusting(key.verifying_key()));
        let text = serde_json::to_string(&snapshot.to_jwk_set()).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let published = json["keys"].as_array().unwrap();
        assert_eq!(published.len(), pems.len());
        for key in published {
            let key = key.as_object().unwrap();
            let members: Vec<&str> = key.keys().map(String::as_str).collect();
            let numbers: &[&str] = match (key["kty"].as_str(), key.get("crv").and_then(Value::as_str)) {
                (Some("EC"), Some("P-256" | "P-384")) => &["crv", "x", "y"],
                (Some("OKP"), Some("Ed25519")) => &["crv", "x"],
                (Some("RSA"), None) => &["e", "n"],
                other => panic!("{other:?}"),
            };
            let mut expected = [&["alg", "kid", "kty", "use"], numbers].concat();
            expected.sort_unstable();
            assert_eq!(members, expected);
            assert!(VerifyingKey::from_jwk(serde_json::to_string(key).unwrap()).is_ok(), "it refuses private keys");
        }
        assert_eq!(serde_json::to_string(&snapshot.to_jwk_set()).unwrap(), text);
    }
}
