//! Rings, their clones and the threads that read them.

use std::sync::Arc;

use super::{Algorithm, KeyRing, KeySnapshot, SigningKey, TrustLevel, VerifyingKey};

#[test]
fn the_signing_key_comes_first_and_no_key_twice() {
    let next = SigningKey::generate(Algorithm::ES256).unwrap().verifying_key();
    let ring = KeyRing::generate().unwrap();
    let first = ring.signing_key().key_id().to_owned();
    let ring = ring.also_trust(next.clone()).also_trust(next.clone());
    assert_eq!(ring.key_ids().collect::<Vec<_>>(), [first.as_str(), next.key_id()]);
    assert_eq!(ring.to_jwk_set().keys.len(), 2);
}

#[cfg(feature = "aws_lc_rs")]
#[test]
fn an_rsa_key_is_trusted_under_each_of_its_algorithms() {
    let rsa = || SigningKey::from_pem(include_str!("../../../tests/keys/rsa2048.pem")).unwrap();
    let old = rsa().verifying_key();
    let ring = KeyRing::new(rsa().with_algorithm(Algorithm::PS256).unwrap()).also_trust(old.clone()).also_trust(old);
    let key_id = ring.signing_key().key_id().to_owned();
    let algorithms: Vec<_> = ring.current().named(&key_id).map(VerifyingKey::algorithm).collect();
    assert_eq!(algorithms, [Algorithm::PS256, Algorithm::RS256]);
}

#[test]
fn debug_shows_names_and_no_key() {
    let ring = KeyRing::from_pem(include_str!("../../../tests/keys/p256.pem")).unwrap();
    let shown = format!("{ring:?}");
    assert!(shown.contains(ring.signing_key().key_id()) && shown.len() < 400, "{shown}");
}

#[test]
fn clones_follow_a_change_and_one_more_key_stays_trusted() {
    let ring = KeyRing::limited(KeySnapshot::new(SigningKey::generate(Algorithm::ES256).unwrap()), None);
    let clone = ring.clone();
    let more = SigningKey::generate(Algorithm::EdDSA).unwrap().verifying_key();
    let other = ring.clone().also_trust(more.clone());
    let new = SigningKey::generate(Algorithm::ES256).unwrap();
    let new_id = new.key_id().to_owned();
    ring.replace(KeySnapshot::new(new));
    for ring in [&ring, &clone, &other] {
        assert_eq!(ring.key_ids().collect::<Vec<_>>(), [new_id.as_str(), more.key_id()]);
    }
    assert!(clone.ptr_eq(&ring) && other.ptr_eq(&ring));
}

#[test]
fn what_remembers_a_key_learns_at_once_that_it_is_cut_off_back_or_gone() {
    let keys = [Algorithm::ES256, Algorithm::EdDSA].map(|algorithm| SigningKey::generate(algorithm).unwrap());
    let [first, second] = keys.map(|key| key.verifying_key());
    let of = |key: &VerifyingKey| {
        KeySnapshot::new(SigningKey::generate(Algorithm::ES256).unwrap()).also_trusting(key.clone())
    };
    let ring = KeyRing::limited(of(&first), None);
    let trust = ring.current().trust_in(&first).unwrap();
    assert_eq!(trust.get(), TrustLevel::Trusted);
    ring.replace(ring.snapshot().cut_off());
    assert_eq!(trust.get(), TrustLevel::CutOff);
    ring.replace(of(&first).also_trusting(second.clone()));
    assert_eq!(trust.get(), TrustLevel::Trusted);
    assert!(Arc::ptr_eq(&trust, &ring.current().trust_in(&first).unwrap()), "the flag stays the same");
    ring.replace(of(&second));
    assert_eq!(trust.get(), TrustLevel::Gone);
    ring.replace(of(&first));
    assert_eq!(trust.get(), TrustLevel::Gone, "a key that comes back has to be found again");
    assert_eq!(ring.current().trust_in(&first).unwrap().get(), TrustLevel::Trusted);
    assert!(KeyRing::generate().unwrap().current().trust_in(&first).is_none());
}
