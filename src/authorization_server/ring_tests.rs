//! A server and its verifiers follow a key ring that changes while they run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use tokio::sync::Notify;
use tower::ServiceExt as _;

use crate::authorization_server::TokenError;
use crate::keys::{Algorithm, KeySnapshot, SignFuture, Signature, Signer, SignerLimits, SigningKey, VerifyingKey};
use crate::verification::{InvalidToken, VerifyError};
use crate::{AuthorizationServer, Client, ClientSecret, KeyRing, MemoryStore};

const API: &str = "https://api.example.com";

struct Site {
    keys: KeyRing,
    server: AuthorizationServer,
    secret: ClientSecret,
}

impl Site {
    fn new(key: SigningKey) -> Self {
        let (keys, secret) = (KeyRing::new(key), ClientSecret::generate().unwrap());
        let clients = MemoryStore::try_from([Client::new("billing", &secret).audience(API)]).unwrap();
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
