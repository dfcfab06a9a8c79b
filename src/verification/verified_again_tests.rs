//! Tests of repeated tokens: which results are cached, and which checks are repeated.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use super::{InvalidToken, TokenProfile, VerifiedToken, Verifier, VerifyError};
use crate::clock::{Clock, ManualClock};
use crate::keys::{KeyRing, TrustedKeys};
use crate::{MemoryStore, Revocations};

const ISSUER: &str = "https://auth.example.com";
const API: &str = "https://api.example.com";
const NOW: u64 = 1_700_000_000;

/// A verifier, and the keys of its issuer.
struct Issuer {
    keys: KeyRing,
    clock: ManualClock,
    verifier: Verifier,
}

fn issuer() -> Issuer {
    let keys = KeyRing::generate().unwrap();
    let clock = ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW));
    let trusted = TrustedKeys::Ring(keys.clone());
    let (issuer, audience) = (ISSUER.parse().unwrap(), API.parse().unwrap());
    Issuer { verifier: Verifier::new(issuer, audience, trusted, Arc::new(clock.clone())), keys, clock }
}

impl Issuer {
    fn token(&self, number: usize) -> String {
        self.token_for(API, number)
    }

    fn token_for(&self, audience: &str, number: usize) -> String {
        self.keys.signing_key().sign(claims(audience, number).as_bytes()).unwrap()
    }

    fn token_of_type(&self, typ: &str, number: usize) -> String {
        self.keys.signing_key().sign_as(typ, claims(API, number).as_bytes()).unwrap()
    }
}

fn claims(audience: &str, number: usize) -> String {
    let claims = serde_json::json!({
        "iss": ISSUER, "sub": "billing", "aud": audience, "client_id": "billing", "iat": NOW, "exp": NOW + 600,
        "jti": number.to_string(),
    });
    claims.to_string()
}

fn refusal(verified: Result<VerifiedToken, VerifyError>) -> InvalidToken {
    match verified.unwrap_err() {
        VerifyError::Refused(refused) => refused.reason(),
        VerifyError::Unavailable(unavailable) => panic!("{unavailable}"),
    }
}

#[test]
fn a_token_that_was_verified_is_not_verified_again_by_any_clone() {
    let issuer = issuer();
    let token = issuer.token(1);
    let first = issuer.verifier.verify_now(&token).unwrap();
    assert!(issuer.verifier.verify_now(&token).unwrap().ptr_eq(&first));
    let clone = issuer.verifier.clone();
    assert!(clone.verify_now(&token).unwrap().ptr_eq(&first));
    assert!(!issuer.verifier.verify_now(&issuer.token(2)).unwrap().ptr_eq(&first));
}

#[test]
fn the_time_is_checked_again() {
    let issuer = issuer();
    let token = issuer.token(1);
    let first = issuer.verifier.verify_now(&token).unwrap();
    issuer.clock.advance(Duration::from_secs(604));
    assert!(issuer.verifier.verify_now(&token).unwrap().ptr_eq(&first));
    issuer.clock.advance(Duration::from_secs(1));
    for _ in 0..2 {
        assert_eq!(refusal(issuer.verifier.verify_now(&token)), InvalidToken::Expired);
    }
    assert!(issuer.verifier.remembers(&token), "it is refused without checking the signature again");
    issuer.clock.set(issuer.clock.now() - Duration::from_secs(1_000));
    assert_eq!(refusal(issuer.verifier.verify_now(&token)), InvalidToken::NotYetValid);
}

#[test]
fn a_verifier_with_another_setting_starts_with_an_empty_cache() {
    let issuer = issuer();
    let token = issuer.token(1);
    let first = issuer.verifier.verify_now(&token).unwrap();
    issuer.clock.advance(Duration::from_secs(603));
    assert!(issuer.verifier.verify_now(&token).is_ok());
    let strict = issuer.verifier.clone().leeway(Duration::ZERO);
    assert!(!strict.remembers(&token));
    assert_eq!(refusal(strict.verify_now(&token)), InvalidToken::Expired);
    let lax = issuer.verifier.leeway(Duration::from_secs(60));
    assert!(!lax.verify_now(&token).unwrap().ptr_eq(&first));
}

#[test]
fn a_header_accepted_under_one_profile_is_checked_again_under_another() {
    let issuer = issuer();
    let token = issuer.token_of_type("JWT", 1);
    let lenient = issuer.verifier.clone().tokens(TokenProfile::default().jwt_type()).without_cache();
    assert!(lenient.verify_now(&token).is_ok() && lenient.verify_now(&issuer.token_of_type("JWT", 2)).is_ok());
    for strict in [lenient.clone().tokens(TokenProfile::default()), lenient.tokens(TokenProfile::default())] {
        assert_eq!(refusal(strict.verify_now(&token)), InvalidToken::Type);
    }
}

#[test]
fn a_known_header_with_another_signature_or_payload_is_refused() {
    let issuer = issuer();
    let verifier = issuer.verifier.clone().without_cache();
    let (one, other) = (issuer.token(1), issuer.token(2));
    verifier.verify_now(&one).unwrap();
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (one, other) = (parts(&one), parts(&other));
    assert_eq!(one[0], other[0], "the headers must be equal");
    let mixed = [&one[0], &one[1], &other[2]].map(String::as_str).join(".");
    assert_eq!(refusal(verifier.verify_now(&mixed)), InvalidToken::Signature);
}

/// No setter leads to this state, and a mistake in one must not either.
#[test]
fn a_cached_proof_of_another_verifier_is_not_accepted() {
    let issuer = issuer();
    let token = issuer.token_for("https://other.example.com", 1);
    let keys = TrustedKeys::Ring(issuer.keys.clone());
    let audience = "https://other.example.com".parse().unwrap();
    let mut other = Verifier::new(ISSUER.parse().unwrap(), audience, keys, Arc::new(issuer.clock.clone()));
    other.cache.clone_from(&issuer.verifier.cache);
    assert!(other.verify_now(&token).is_ok() && issuer.verifier.remembers(&token));
    assert_eq!(refusal(issuer.verifier.verify_now(&token)), InvalidToken::Audience);
}

#[test]
fn the_cache_can_be_turned_off_and_resized() {
    let issuer = issuer();
    let token = issuer.token(1);
    for off in [
        issuer.verifier.clone().without_cache(),
        issuer.verifier.clone().cache(0, 99),
        issuer.verifier.clone().cache(99, 0),
    ] {
        let first = off.verify_now(&token).unwrap();
        assert!(!off.verify_now(&token).unwrap().ptr_eq(&first) && !off.remembers(&token));
    }
    let small = issuer.verifier.clone().cache(2, usize::MAX);
    let tokens = [1, 2, 3].map(|number| issuer.token(number));
    for token in &tokens {
        small.verify_now(token).unwrap();
    }
    assert!(!small.remembers(&tokens[2]), "a token that is used once evicts nothing");
    small.verify_now(&tokens[2]).unwrap();
    assert!(small.remembers(&tokens[2]));
    assert_eq!(tokens.iter().filter(|token| small.remembers(token)).count(), 2);
}

#[test]
fn refused_tokens_are_not_cached_and_evict_nothing() {
    let issuer = issuer();
    let verifier = issuer.verifier.clone().cache(1, usize::MAX);
    let good = issuer.token(1);
    verifier.verify_now(&good).unwrap();
    let (most, _) = good.rsplit_once('.').unwrap();
    let forged =
        [format!("{most}.{}", "A".repeat(86)), issuer.token_for("https://other.example.com", 1), "a.b.c".into()];
    for token in &forged {
        verifier.verify_now(token).unwrap_err();
        assert!(!verifier.remembers(token) && verifier.remembers(&good), "{token}");
    }
}

#[test]
fn another_text_with_a_valid_signature_is_verified_separately() {
    let issuer = issuer();
    let good = issuer.token(1);
    issuer.verifier.verify_now(&good).unwrap();
    let (_, signature) = good.rsplit_once('.').unwrap();
    let other = issuer.token(2);
    let (signed, _) = other.rsplit_once('.').unwrap();
    assert_eq!(refusal(issuer.verifier.verify_now(&format!("{signed}.{signature}"))), InvalidToken::Signature);
}

#[test]
fn threads_share_the_cache() {
    let issuer = issuer();
    let tokens: Vec<String> = (0..16).map(|number| issuer.token(number)).collect();
    let first: Vec<VerifiedToken> = tokens.iter().map(|token| issuer.verifier.verify_now(token).unwrap()).collect();
    let again = |verifier: &Verifier| {
        for (token, first) in tokens.iter().zip(&first).cycle().take(1_000) {
            assert!(verifier.verify_now(token).unwrap().ptr_eq(first));
        }
    };
    thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(|| again(&issuer.verifier.clone())))));
}

#[test]
fn dropping_a_verifier_frees_its_cache() {
    let issuer = issuer();
    issuer.verifier.verify_now(&issuer.token(1)).unwrap();
    let cache = Arc::downgrade(issuer.verifier.cache.as_ref().unwrap());
    drop(issuer.verifier);
    assert!(cache.upgrade().is_none());
}

#[test]
fn a_token_is_valid_until_exp_plus_leeway() {
    let issuer = issuer();
    let token = issuer.verifier.verify_now(&issuer.token(1)).unwrap();
    assert_eq!(token.time_left(), Duration::from_secs(605));
    issuer.clock.advance(Duration::from_secs(604));
    assert_eq!(token.time_left(), Duration::from_secs(1), "4 s after `exp`");
    for _ in 0..2 {
        issuer.clock.advance(Duration::from_secs(1));
        assert_eq!(token.time_left(), Duration::ZERO);
    }
}

/// An inner layer uses the proof of an outer one only if both would decide alike.
#[tokio::test]
async fn a_proof_of_a_verifier_with_other_revocations_is_not_reused() {
    let issuer = issuer();
    let revocations = async || Revocations::follow(MemoryStore::default()).clock(issuer.clock.clone()).await.unwrap();
    let (some, others) = (revocations().await, revocations().await);
    let verifier = issuer.verifier.clone().revocations(some.clone());
    let proof = verifier.verify_now(&issuer.token(1)).unwrap();
    assert!(proof.is_by(&verifier) && proof.is_by(&issuer.verifier.clone().revocations(some)));
    assert!(!proof.is_by(&issuer.verifier.clone().revocations(others)));
    assert!(!proof.is_by(&issuer.verifier));
}

#[test]
fn a_cache_without_capacity_is_off() {
    let verifier = issuer().verifier;
    for (tokens, bytes) in [(0, 1_000), (1_000, 0), (0, 0)] {
        assert!(verifier.clone().cache(tokens, bytes).cache.is_none(), "{tokens} {bytes}");
    }
    assert!(verifier.cache(1, 1).cache.is_some());
}

#[tokio::test]
async fn verifiers_with_the_same_revocations_reuse_each_others_proofs() {
    let verifier = issuer().verifier;
    let [one, other] = [MemoryStore::default(), MemoryStore::default()].map(Revocations::follow);
    let (one, other) = (one.await.unwrap(), other.await.unwrap());
    let with = |revocations: &Revocations| verifier.clone().revocations(revocations.clone());
    let trusts = |own: &Verifier, other: &Verifier| other.issuers().all(|issuer| own.trusts_as(issuer));
    assert!(trusts(&with(&one), &with(&one)));
    assert!(!trusts(&with(&one), &with(&other)) && !trusts(&with(&one), &verifier));
}

#[test]
fn a_token_is_valid_from_the_leeway_before_its_start() {
    let Issuer { keys, clock, verifier } = issuer();
    let token = |claim: &str, seconds: u64| {
        let mut claims: serde_json::Value = serde_json::from_str(&claims(API, 1)).unwrap();
        claims[claim] = seconds.into();
        keys.signing_key().sign(claims.to_string().as_bytes()).unwrap()
    };
    clock.set(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW));
    for claim in ["iat", "nbf"] {
        assert!(verifier.verify_now(&token(claim, NOW + 5)).is_ok(), "{claim}");
        assert_eq!(refusal(verifier.verify_now(&token(claim, NOW + 6))), InvalidToken::NotYetValid, "{claim}");
    }
}

#[test]
fn the_error_names_the_claim_that_makes_a_token_too_early() {
    let Issuer { keys, verifier, .. } = issuer();
    for (iat, nbf, shown) in [
        (NOW + 60, None, "`iat` is 1700000060, 60 s after now"),
        (NOW + 60, Some(NOW + 30), "`iat` is 1700000060"),
        (NOW + 60, Some(NOW + 60), "`iat` is 1700000060"),
        (NOW + 30, Some(NOW + 60), "`nbf` is 1700000060"),
    ] {
        let mut claims: serde_json::Value = serde_json::from_str(&claims(API, 1)).unwrap();
        claims["iat"] = iat.into();
        if let Some(nbf) = nbf {
            claims["nbf"] = nbf.into();
        }
        let token = keys.signing_key().sign(claims.to_string().as_bytes()).unwrap();
        let VerifyError::Refused(refused) = verifier.verify_now(&token).unwrap_err() else { panic!("unavailable") };
        let detail = refused.to_string();
        assert!(detail.contains(shown), "{detail}");
    }
}

#[test]
fn the_debug_output_of_a_verifier_names_its_issuer_and_audience() {
    let shown = format!("{:?}", issuer().verifier);
    assert!(shown.contains(ISSUER) && shown.contains(API), "{shown}");
    let shown = format!("{:?}", TokenProfile::default().client_id_in(["azp"]));
    assert!(shown.contains("azp") && shown.contains("jwt_type: false"), "{shown}");
}

#[test]
fn the_error_for_a_token_that_expires_now_says_that_exp_must_be_later() {
    let Issuer { keys, clock, verifier } = issuer();
    let token = keys.signing_key().sign(claims(API, 1).as_bytes()).unwrap();
    clock.set(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW + 600));
    let VerifyError::Refused(refused) = verifier.leeway(Duration::ZERO).verify_now(&token).unwrap_err() else {
        panic!("unavailable")
    };
    let shown = "`exp` is 1700000600, 0 s before now (1700000600), expected less than 0 s before now";
    assert!(refused.to_string().contains(shown), "{refused}");
}

#[test]
fn a_thousand_usual_tokens_are_cached_by_default() {
    let issuer = issuer();
    let tokens: Vec<_> = (0..1_000).map(|number| issuer.token(number)).collect();
    for token in &tokens {
        issuer.verifier.verify_now(token).unwrap();
    }
    assert!(tokens.iter().all(|token| issuer.verifier.remembers(token)));
}
