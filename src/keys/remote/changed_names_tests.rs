//! Tests of names whose key changes: `{current: K1}` → `{current: K2, previous: K1}`.

use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use serde_json::{Value, json};
use tokio::time::sleep;
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::tests::{API, Body, ISSUER, KEYS, MINUTE, SECOND, Site, connected, issuer, naming};
use crate::deadline::in_time;
use crate::verification::{InvalidToken, RefusedToken, Verifier, VerifyError};
use crate::{BearerAuthLayer, ClientSecret, Introspection};

const FORGED: VerifyError = VerifyError::Refused(RefusedToken::new(InvalidToken::Signature));

fn encode(bytes: impl AsRef<[u8]>) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// A key that can have any name.
struct Key(SigningKey);

impl Key {
    fn new(seed: u8) -> Self {
        Self(SigningKey::from_slice(&[seed; 32]).unwrap())
    }

    fn jwk(&self, name: Option<&str>) -> Value {
        let point = self.0.verifying_key().to_encoded_point(false);
        let (x, y) = (encode(point.x().unwrap()), encode(point.y().unwrap()));
        json!({"kty": "EC", "crv": "P-256", "kid": name, "x": x, "y": y})
    }

    fn token(&self, name: Option<&str>) -> String {
        let claims = json!({
            "iss": ISSUER, "sub": "billing", "aud": API, "client_id": "billing", "jti": "1", "scope": "read",
            "iat": 1_700_000_000, "exp": 2_000_000_000,
        });
        self.sign(name, "at+jwt", &claims)
    }

    fn sign(&self, name: Option<&str>, typ: &str, claims: &Value) -> String {
        let header = match name {
            Some(name) => json!({"alg": "ES256", "typ": typ, "kid": name}),
            None => json!({"alg": "ES256", "typ": typ}),
        };
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature: Signature = self.0.sign(signed.as_bytes());
        format!("{signed}.{}", encode(signature.to_bytes()))
    }
}

impl Site {
    fn publishes<const N: usize>(&self, keys: [(Option<&str>, &Key); N]) {
        let keys: Vec<_> = keys.iter().map(|(name, key)| key.jwk(*name)).collect();
        self.set(KEYS, &json!({ "keys": keys }).to_string());
    }
}

const CURRENT: Option<&str> = Some("current");
const PREVIOUS: Option<&str> = Some("previous");

/// Returns a site that publishes the first key as `current`, a verifier that accepted tokens of it, and both keys.
async fn before_the_change() -> (Site, Verifier, [Key; 2]) {
    let keys = [Key::new(1), Key::new(2)];
    let site = Site::of(&super::tests::ring());
    site.publishes([(CURRENT, &keys[0])]);
    let verifier = connected(&site).await;
    verifier.verify(&keys[0].token(CURRENT)).await.unwrap();
    (site, verifier, keys)
}

async fn assert_new_set_holds(verifier: &Verifier, [old, new]: &[Key; 2]) {
    for _ in 0..2 {
        assert_eq!(
            verifier.verify(&old.token(CURRENT)).await.unwrap_err(),
            FORGED,
            "the name no longer means this key"
        );
        assert!(verifier.verify(&new.token(CURRENT)).await.is_ok(), "the name means the new key");
        assert!(verifier.verify(&old.token(PREVIOUS)).await.is_ok(), "the old key has another name");
        assert_eq!(verifier.verify(&new.token(PREVIOUS)).await.unwrap_err(), FORGED);
    }
}

#[test]
fn after_a_regular_fetch_a_name_means_the_key_in_the_new_set() {
    in_time(async {
        for is_cached in [true, false] {
            let (site, verifier, keys) = before_the_change().await;
            let verifier = if is_cached { verifier } else { verifier.without_cache() };
            let proof = verifier.verify(&keys[0].token(CURRENT)).await.unwrap();
            site.publishes([(CURRENT, &keys[1]), (PREVIOUS, &keys[0])]);
            sleep(9 * MINUTE).await;
            assert_eq!(site.fetches(), 2);
            assert_eq!(
                verifier.still_good(&proof).unwrap_err(),
                VerifyError::Refused(RefusedToken::new(InvalidToken::UnknownKey)),
                "its key is in the set, with another name"
            );
            // One failed signature may cause a fetch of the same set.
            assert_new_set_holds(&verifier, &keys).await;
            assert_eq!(site.fetches(), 3);
            verifier.verify_now(&keys[1].token(CURRENT)).unwrap();
        }
    });
}

#[test]
fn an_accepted_token_is_refused_by_every_layer_once_its_name_means_another_key() {
    in_time(async {
        let (site, verifier, [old, new]) = before_the_change().await;
        let inner = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::default())));
        let service = BearerAuthLayer::new(verifier).layer(inner);
        let status = async |token: &str| {
            let request = Request::get("/").header("authorization", format!("Bearer {token}"));
            service.clone().oneshot(request.body(Body::default()).unwrap()).await.unwrap().status().as_u16()
        };
        assert_eq!(status(&old.token(CURRENT)).await, 200);
        site.publishes([(CURRENT, &new), (PREVIOUS, &old)]);
        sleep(9 * MINUTE).await;
        assert_eq!(status(&old.token(CURRENT)).await, 401);
        assert_eq!((status(&new.token(CURRENT)).await, status(&old.token(PREVIOUS)).await), (200, 200));
    });
}

#[test]
fn a_new_key_under_a_known_name_is_fetched_for_its_first_token() {
    in_time(async {
        let (site, verifier, keys) = before_the_change().await;
        site.publishes([(CURRENT, &keys[1]), (PREVIOUS, &keys[0])]);
        site.takes(SECOND);
        let token = keys[1].token(CURRENT);
        let waiting: Vec<_> = (0..50)
            .map(|_| {
                let (verifier, token) = (verifier.clone(), token.clone());
                tokio::spawn(async move { verifier.verify(&token).await })
            })
            .collect();
        for verified in waiting {
            verified.await.unwrap().unwrap();
        }
        assert_eq!(site.fetches(), 2, "one fetch for all requests");
        assert_new_set_holds(&verifier, &keys).await;
        assert_eq!(site.fetches(), 2, "the next one is allowed after 60 s");
    });
}

#[test]
fn a_set_without_names_changes_its_keys_too() {
    in_time(async {
        let (old, new) = (Key::new(1), Key::new(2));
        let site = Site::of(&super::tests::ring());
        site.publishes([(None, &old)]);
        let verifier = connected(&site).await;
        verifier.verify(&old.token(None)).await.unwrap();
        site.publishes([(None, &new)]);
        assert!(verifier.verify(&new.token(None)).await.is_ok());
        assert_eq!(verifier.verify(&old.token(None)).await.unwrap_err(), FORGED);
        // With two keys of one algorithm, a token without a name matches none.
        site.publishes([(None, &new), (None, &old)]);
        sleep(9 * MINUTE).await;
        assert_eq!(verifier.verify(&new.token(None)).await.unwrap_err(), super::tests::UNKNOWN);
    });
}

#[test]
fn forged_signatures_are_refused_at_once_and_cause_one_fetch_per_minute() {
    in_time(async {
        let (site, verifier, [_, other]) = before_the_change().await;
        let before = site.fetches();
        let forged = other.token(CURRENT);
        for _ in 0..10 {
            for _ in 0..60 {
                assert_eq!(verifier.verify(&forged).await.unwrap_err(), FORGED, "not a 503");
                assert_eq!(verifier.verify_now(&forged).unwrap_err(), FORGED, "without waiting");
                sleep(Duration::from_millis(990)).await;
            }
            sleep(SECOND).await;
        }
        let fetches = site.fetches() - before;
        println!("1,200 forged signatures in 10 minutes: {fetches} fetches");
        assert!((10..=12).contains(&fetches), "{fetches}");
    });
}

#[test]
fn a_forged_signature_is_refused_while_the_issuer_is_down_or_slow() {
    in_time(async {
        let (site, verifier, [_, other]) = before_the_change().await;
        site.is_down(true);
        assert_eq!(verifier.verify(&other.token(CURRENT)).await.unwrap_err(), FORGED);
        site.is_down(false);
        sleep(2 * MINUTE).await;
        site.takes(2 * SECOND);
        // More than can wait: those that cannot are refused, too.
        let forged = other.token(CURRENT);
        let forged: Vec<_> = (0..300)
            .map(|_| {
                let (verifier, token) = (verifier.clone(), forged.clone());
                tokio::spawn(async move { verifier.verify(&token).await.unwrap_err() })
            })
            .collect();
        for error in forged {
            assert_eq!(error.await.unwrap(), FORGED);
        }
    });
}

#[test]
fn forged_signatures_and_unknown_names_have_separate_budgets() {
    in_time(async {
        let (site, verifier, [old, new]) = before_the_change().await;
        // Forged signatures use up their budget: a token with a new name is admitted immediately.
        for _ in 0..10 {
            assert_eq!(verifier.verify(&new.token(CURRENT)).await.unwrap_err(), FORGED);
        }
        site.publishes([(CURRENT, &old), (Some("next"), &new)]);
        assert!(verifier.verify(&new.token(Some("next"))).await.is_ok());
        // Unknown names use up theirs: a token of a new key with a known name is admitted immediately.
        sleep(MINUTE).await;
        for name in 0..100 {
            verifier.verify(&naming(&name.to_string())).await.unwrap_err();
        }
        site.publishes([(CURRENT, &new), (PREVIOUS, &old)]);
        assert!(verifier.verify(&new.token(CURRENT)).await.is_ok());
    });
}

#[test]
fn requests_that_wait_for_unknown_names_do_not_block_failed_signatures() {
    in_time(async {
        let (site, verifier, [_, new]) = before_the_change().await;
        site.takes(SECOND);
        let strangers: Vec<_> = (0..1_200)
            .map(|name| {
                let verifier = verifier.clone();
                tokio::spawn(async move { verifier.verify(&naming(&name.to_string())).await.unwrap_err() })
            })
            .collect();
        sleep(SECOND / 2).await;
        assert_eq!(verifier.verify(&Key::new(3).token(CURRENT)).await.unwrap_err(), FORGED, "not a 503");
        site.publishes([(CURRENT, &new)]);
        sleep(MINUTE).await;
        assert!(verifier.verify(&new.token(CURRENT)).await.is_ok());
        let mut too_early = 0;
        for stranger in strangers {
            too_early += usize::from(matches!(stranger.await.unwrap(), VerifyError::Unavailable(_)));
        }
        assert_eq!(too_early, 200);
    });
}

#[test]
fn the_pause_after_a_failed_signature_can_be_set() {
    in_time(async {
        let (old, new) = (Key::new(1), Key::new(2));
        let site = Site::of(&super::tests::ring());
        site.publishes([(CURRENT, &old)]);
        let verifier = issuer(&site).failed_signature_cooldown(5 * SECOND).connect().await.unwrap();
        assert_eq!(verifier.verify(&new.token(CURRENT)).await.unwrap_err(), FORGED);
        site.publishes([(CURRENT, &new)]);
        sleep(4 * SECOND).await;
        assert_eq!(verifier.verify(&new.token(CURRENT)).await.unwrap_err(), FORGED);
        sleep(SECOND).await;
        assert!(verifier.verify(&new.token(CURRENT)).await.is_ok());
    });
}

#[test]
fn signed_introspection_answers_use_the_changed_keys_too() {
    in_time(async {
        let (site, verifier, [_, new]) = before_the_change().await;
        let endpoint = "https://auth.example.com/introspect";
        let introspection = Introspection::new(ISSUER, API)
            .unwrap()
            .at(endpoint)
            .unwrap()
            .client_secret_basic("the api", ClientSecret::new("a secret of 32 characters or more").unwrap())
            .unwrap()
            .http_client(site.clone())
            .clock(super::tests::Wall(tokio::time::Instant::now()))
            .signed_answers(&verifier)
            .unwrap()
            .build()
            .unwrap();
        let answer = json!({
            "iss": ISSUER, "aud": "the api", "iat": 1_700_000_000,
            "token_introspection": {"active": true, "client_id": "billing", "aud": API, "exp": 2_000_000_000},
        });
        let signed = new.sign(CURRENT, "token-introspection+jwt", &answer);
        let headers = vec![("content-type", "application/token-introspection+jwt".to_owned())];
        site.set_page(endpoint, super::tests::Page { status: http::StatusCode::OK, headers, body: signed });
        site.publishes([(CURRENT, &new)]);
        assert_eq!(introspection.verify("opaque").await.unwrap().client_id().as_str(), "billing");
    });
}

#[test]
fn a_forged_signature_is_checked_at_most_twice_and_a_valid_one_of_a_new_key_once() {
    in_time(async {
        use crate::keys::VerifyingKey;

        let (site, verifier, [_, other]) = before_the_change().await;
        let before = VerifyingKey::checks_of_this_thread();
        assert_eq!(verifier.verify(&other.token(CURRENT)).await.unwrap_err(), FORGED);
        assert_eq!(site.fetches(), 2, "it caused a fetch");
        assert_eq!(VerifyingKey::checks_of_this_thread() - before, 2);
        site.publishes([(Some("next"), &other)]);
        let before = VerifyingKey::checks_of_this_thread();
        assert!(verifier.verify(&other.token(Some("next"))).await.is_ok());
        assert_eq!(VerifyingKey::checks_of_this_thread() - before, 1);
    });
}

#[test]
fn a_fetch_for_a_failed_signature_bypasses_shared_caches() {
    in_time(async {
        let (site, verifier, [_, other]) = before_the_change().await;
        assert_eq!(site.revalidations(), 0);
        assert_eq!(verifier.verify(&other.token(CURRENT)).await.unwrap_err(), FORGED);
        assert_eq!(site.revalidations(), 1);
        sleep(9 * MINUTE).await;
        assert_eq!((site.fetches(), site.revalidations()), (3, 1), "a regular fetch may be answered from a cache");
    });
}
