//! Keys that never leave a KMS or an HSM: `SigningKey::from_signer`. Time is simulated.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::request::{GRANT, billing_asks};
use common::stack::{Answer, Body};
use common::{API, ISSUER, KEY, chain};
use http_body_util::Full;
use hyper::body::Bytes;
use p256::ecdsa::signature::Signer as _;
use p256::pkcs8::DecodePrivateKey as _;
use tokio::time::{Instant, sleep};
use tower::ServiceExt as _;
use tower_client_credentials::authorization_server::{AuthorizationServerBuilder, TokenError};
use tower_client_credentials::keys::{SignError, SignFuture, Signature, Signer, SignerLimits, VerifyingKey};
use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore, SigningKey};

const LATENCY: Duration = Duration::from_millis(20);

/// A slow token, by an implementation of ECDSA that is not ours. Clones are the same token.
#[derive(Clone, Debug, Default)]
struct Token(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_dead: AtomicBool,
    is_confused: AtomicBool,
    refuses: AtomicBool,
    returns_der: AtomicBool,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    signatures: AtomicUsize,
}

/// Counts a signature while it is in flight, also if it is cancelled.
struct InFlight<'a>(&'a State);

impl<'a> InFlight<'a> {
    fn new(state: &'a State) -> Self {
        let now = state.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        state.most_in_flight.fetch_max(now, Ordering::SeqCst);
        Self(state)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Signer for Token {
    fn verifying_key(&self) -> VerifyingKey {
        SigningKey::from_pem(KEY).unwrap().verifying_key()
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a> {
        Box::pin(async move {
            let state = &*self.0;
            let _in_flight = InFlight::new(state);
            if state.is_dead.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            sleep(LATENCY).await;
            if state.refuses.load(Ordering::SeqCst) {
                return Err(SignError::new("the session is closed"));
            }
            state.signatures.fetch_add(1, Ordering::SeqCst);
            let key = p256::ecdsa::SigningKey::from_pkcs8_pem(KEY).unwrap();
            let message = if state.is_confused.load(Ordering::SeqCst) { b"something else" } else { message };
            let signature: p256::ecdsa::Signature = key.sign(message);
            Ok(if state.returns_der.load(Ordering::SeqCst) {
                Signature::ecdsa_der(signature.to_der().as_bytes())
            } else {
                Signature::jws(signature.to_bytes().to_vec())
            })
        })
    }
}

fn builder(token: &Token, limits: SignerLimits) -> AuthorizationServerBuilder {
    let key = SigningKey::from_signer(token.clone(), limits).unwrap();
    AuthorizationServer::builder(ISSUER, KeyRing::new(key), MemoryStore::try_from(common::clients()).unwrap())
}

async fn ask(server: &AuthorizationServer) -> Answer {
    Answer::read(respond(server).await).await
}

async fn respond(server: &AuthorizationServer) -> http::Response<Full<Bytes>> {
    let request: http::Request<Body> = billing_asks(GRANT).into();
    server.token_service().oneshot(request.map(|_| Full::new(Bytes::from(GRANT)))).await.unwrap()
}

/// The operator's text of a refusal, with its causes.
async fn reason(server: &AuthorizationServer) -> String {
    let response = respond(server).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    chain(response.extensions().get::<TokenError>().unwrap())
}

#[tokio::test(start_paused = true)]
async fn an_external_key_signs_in_either_form_and_its_tokens_are_valid() {
    for returns_der in [false, true] {
        let token = Token::default();
        token.0.returns_der.store(returns_der, Ordering::SeqCst);
        let server = builder(&token, SignerLimits::default()).build().unwrap();
        let verifier = server.verifier(API).unwrap();
        for _ in 0..20 {
            let token = ask(&server).await.assert_token();
            assert_eq!(verifier.verify(&token).await.unwrap().client_id().as_str(), "billing");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_use_every_place_of_a_slow_token_and_no_more() {
    const AT_ONCE: usize = 50;
    let token = Token::default();
    let server = builder(&token, SignerLimits::default().at_once(AT_ONCE)).build().unwrap();
    let start = Instant::now();
    let requests: Vec<_> = (0..1_000)
        .map(|_| {
            let server = server.clone();
            tokio::spawn(async move { ask(&server).await.assert_token() })
        })
        .collect();
    for request in requests {
        request.await.unwrap();
    }
    // By the simulated clock: as many batches as there must be, and not one more.
    assert_eq!(start.elapsed(), LATENCY * u32::try_from(1_000 / AT_ONCE).unwrap());
    assert_eq!(token.0.most_in_flight.load(Ordering::SeqCst), AT_ONCE);
    assert_eq!(token.0.signatures.load(Ordering::SeqCst), 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_dead_token_is_a_503_at_its_deadline_while_verification_goes_on() {
    const DEADLINE: Duration = Duration::from_millis(700);
    let token = Token::default();
    let server = builder(&token, SignerLimits::default().at_once(2).deadline(DEADLINE)).build().unwrap();
    let verifier = server.verifier(API).unwrap().without_cache();
    let issued = ask(&server).await.assert_token();
    token.0.is_dead.store(true, Ordering::SeqCst);
    let start = Instant::now();
    let requests: Vec<_> = (0..10)
        .map(|_| {
            let server = server.clone();
            tokio::spawn(async move { ask(&server).await })
        })
        .collect();
    tokio::task::yield_now().await;
    assert!(verifier.verify(&issued).await.is_ok());
    for request in requests {
        let answer = request.await.unwrap();
        answer.assert_refused(503, "temporarily_unavailable");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!(start.elapsed(), DEADLINE, "also those that waited for their turn");
    assert!(verifier.verify(&issued).await.is_ok());
    assert_eq!(token.0.in_flight.load(Ordering::SeqCst), 0, "calls that are too late are dropped");
    assert!(reason(&server).await.ends_with("the key could not sign: no answer within 700ms"));
    token.0.is_dead.store(false, Ordering::SeqCst);
    ask(&server).await.assert_token();
}

#[tokio::test(start_paused = true)]
async fn a_failed_or_wrong_signature_is_a_503_with_its_reason_for_the_operator() {
    let token = Token::default();
    let server = builder(&token, SignerLimits::default()).build().unwrap();
    token.0.refuses.store(true, Ordering::SeqCst);
    let refused = reason(&server).await;
    assert!(refused.contains("client `billing`: the key could not sign: the session is closed"), "{refused}");
    token.0.refuses.store(false, Ordering::SeqCst);
    token.0.is_confused.store(true, Ordering::SeqCst);
    let wrong = reason(&server).await;
    assert!(wrong.contains("does not verify; check that the signer uses this key"), "{wrong}");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_of_an_external_key_is_a_503_at_once() {
    let token = Token::default();
    let server = builder(&token, SignerLimits::default().at_once(1).waiting(1)).build().unwrap();
    let start = Instant::now();
    let requests: Vec<_> = (0..3)
        .map(|_| {
            let server = server.clone();
            tokio::spawn(async move { (ask(&server).await.status.as_u16(), Instant::now()) })
        })
        .collect();
    let mut answers = Vec::new();
    for request in requests {
        let (status, at) = request.await.unwrap();
        answers.push((status, at - start));
    }
    assert_eq!(answers, [(200, LATENCY), (200, 2 * LATENCY), (503, Duration::ZERO)]);
}

#[tokio::test(start_paused = true)]
async fn identical_requests_share_one_signature_of_an_external_key_and_its_failure() {
    let token = Token::default();
    let server = builder(&token, SignerLimits::default()).reuse_tokens(50).build().unwrap();
    let all = async |server: &AuthorizationServer| {
        let requests: Vec<_> = (0..10)
            .map(|_| {
                let server = server.clone();
                tokio::spawn(async move { ask(&server).await })
            })
            .collect();
        let mut answers = Vec::new();
        for request in requests {
            answers.push(request.await.unwrap());
        }
        answers
    };
    token.0.refuses.store(true, Ordering::SeqCst);
    let start = Instant::now();
    for answer in all(&server).await {
        answer.assert_refused(503, "temporarily_unavailable");
    }
    assert_eq!(start.elapsed(), LATENCY, "the others do not try one after the other");
    token.0.refuses.store(false, Ordering::SeqCst);
    let answers = all(&server).await;
    let first = answers[0].assert_token();
    assert!(answers.iter().all(|answer| answer.assert_token() == first));
    assert_eq!(token.0.signatures.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_leaves_its_signature_to_the_next() {
    let token = Token::default();
    let server = builder(&token, SignerLimits::default()).reuse_tokens(50).build().unwrap();
    let spawn = || {
        let server = server.clone();
        tokio::spawn(async move { ask(&server).await.assert_token() })
    };
    let (first, second) = (spawn(), spawn());
    sleep(LATENCY / 2).await;
    first.abort();
    second.await.unwrap();
    assert_eq!(token.0.signatures.load(Ordering::SeqCst), 1);
}

#[test]
fn a_signer_with_a_secret_or_without_a_place_is_an_error() {
    #[derive(Debug)]
    struct Shared;

    impl Signer for Shared {
        fn verifying_key(&self) -> VerifyingKey {
            SigningKey::dangerous_hs256_verifiers_can_forge([7; 32]).unwrap().verifying_key()
        }

        fn sign<'a>(&'a self, _: &'a [u8]) -> SignFuture<'a> {
            Box::pin(async { Err(SignError::new("never called")) })
        }
    }

    let refusal =
        |key: Result<SigningKey, _>| key.map_err(|error: tower_client_credentials::keys::KeyError| error.to_string());
    let error = refusal(SigningKey::from_signer(Shared, SignerLimits::default())).unwrap_err();
    assert!(error.contains("asymmetric"), "{error}");
    for limits in [SignerLimits::default().at_once(0), SignerLimits::default().deadline(Duration::ZERO)] {
        let error = refusal(SigningKey::from_signer(Token::default(), limits)).unwrap_err();
        assert!(error.contains("larger value"), "{error}");
    }
    let key = SigningKey::from_signer(Token::default(), SignerLimits::default()).unwrap();
    assert!(key.to_pkcs8_pem().unwrap_err().to_string().contains("cannot be exported"));
}
