//! What a document says is authentic, or is not used.

use std::sync::Arc;

use serde_json::{Value, json};

use super::KeyEncryptionKey;
use super::document::{Opened, PrivateKeys, open, seal};
use super::exchange::steps_between;
use super::lifecycle::{KeyState, RingState, Waits};
use crate::keys::{Algorithm, SigningKey};

fn by() -> KeyEncryptionKey {
    KeyEncryptionKey::from_bytes((0..32).collect::<Vec<u8>>()).unwrap()
}

/// A ring with a key of each state.
fn ring() -> (RingState, PrivateKeys) {
    let mut private = PrivateKeys::new();
    let mut state = RingState::new(Algorithm::ES256, Waits { before_signing: 10, before_removal: 500 });
    for now in [100, 200, 300] {
        let mut generate = |algorithm| {
            let key = SigningKey::generate(algorithm)?;
            let public = key.verifying_key();
            private.insert(key.key_id().to_owned(), Arc::new(key));
            Ok::<_, crate::keys::KeyError>(public)
        };
        state.advance(now, Some(50), &mut generate).unwrap();
        state.history = state.history.next(state.version).unwrap();
        state.version += 1;
        state.observe(now, state.version);
    }
    assert_eq!(state.keys.len(), 4);
    let retired = state.keys[0].key_id().to_owned();
    state.distrust(&retired, 300).unwrap();
    (state, private)
}

/// Settings that no ring of these tests has.
fn fallback() -> RingState {
    RingState::new(Algorithm::EdDSA, Waits { before_signing: 7, before_removal: 8 })
}

fn read(text: &str) -> Opened {
    open("main", 3, text, &by(), &PrivateKeys::new(), &fallback()).unwrap()
}

#[test]
fn the_steps_between_two_versions_of_a_ring_are_those_of_the_keys_that_differ() {
    let (before, _) = ring();
    let mut after = before.clone();
    assert_eq!(steps_between(&before, &after).len(), 0);
    let removed = after.keys.remove(0).key_id().to_owned();
    let signing = after.signing().unwrap().key_id().to_owned();
    after.keys.iter_mut().find(|entry| entry.key_id() == signing).unwrap().state = KeyState::Distrusted;
    let steps = steps_between(&before, &after).into_iter().map(|step| (step.key_id, step.state));
    assert_eq!(steps.collect::<Vec<_>>(), [(signing, Some(KeyState::Distrusted)), (removed, None)]);
}

#[test]
fn a_ring_is_read_as_it_was_written() {
    let (state, private) = ring();
    let opened = read(&seal("main", &state, &private, &by()).unwrap());
    assert!(opened.problems.is_empty() && opened.encrypted_by == by().name(), "{:?}", opened.problems);
    assert_eq!(format!("{:?}", opened.state), format!("{state:?}"));
    let mut accepted = state.clone();
    accepted.history.accepted_at = 3;
    let text = seal("main", &accepted, &private, &by()).unwrap();
    let again = read(&text);
    assert!(again.problems.is_empty() && again.state.history == accepted.history, "{:?}", again.problems);
    let forgotten = read(&text.replace(r#""accepted_at":3,"#, ""));
    assert!(!forgotten.is_listed && forgotten.state.history.accepted_at == 0, "{:?}", forgotten.problems);
    // Only the keys that may still sign have a private half.
    let states: Vec<_> =
        state.keys.iter().map(|entry| (entry.state, opened.private.contains_key(entry.key_id()))).collect();
    let expected = [
        (KeyState::Distrusted, false),
        (KeyState::Retired, false),
        (KeyState::Signing, true),
        (KeyState::Published, true),
    ];
    assert_eq!(states, expected);
}

#[test]
fn the_text_contains_no_private_key() {
    let (state, private) = ring();
    let text = seal("main", &state, &private, &by()).unwrap();
    for key in private.values() {
        let pem = key.to_pkcs8_pem().unwrap();
        let body: String = pem.expose().lines().filter(|line| !line.starts_with("--")).collect();
        // Any part of it that is long enough to matter, in each alignment of base64.
        for start in 0..4 {
            let part = &body[body.len() / 2 + start..][..16];
            assert!(!text.contains(part));
        }
    }
}

/// Alters the JSON of a ring, and returns the result of reading it.
fn altered(change: impl FnOnce(&mut Value)) -> Opened {
    let (state, private) = ring();
    let mut json: Value = serde_json::from_str(&seal("main", &state, &private, &by()).unwrap()).unwrap();
    change(&mut json);
    read(&json.to_string())
}

#[test]
fn an_altered_row_is_left_out_and_reported() {
    for (member, value) in [
        ("state", json!("published")),
        ("since", json!(0)),
        ("since_version", json!(0)),
        ("everywhere_at", json!(1)),
        ("public", json!(include_str!("../../../tests/keys/rfc7515-a3.jwk"))),
        ("kid", json!("another")),
    ] {
        let opened = altered(|json| json["keys"][0][member] = value);
        assert_eq!(opened.state.keys.len(), 3, "{member}");
        assert!(opened.problems.iter().any(|problem| problem.contains("is not authentic")), "{member}");
    }
}

#[test]
fn swapped_ciphertexts_an_inserted_key_and_a_removed_row_are_found() {
    let opened = altered(|json| {
        let keys = json["keys"].as_array_mut().unwrap();
        let first = keys[2]["private"].take();
        keys[2]["private"] = keys[3]["private"].take();
        keys[3]["private"] = first;
    });
    assert_eq!((opened.state.keys.len(), opened.problems.len()), (2, 2));
    assert!(opened.private.is_empty());

    let opened = altered(|json| {
        let keys = json["keys"].as_array_mut().unwrap();
        let mut row = keys[3].clone();
        let key = SigningKey::generate(Algorithm::ES256).unwrap();
        row["kid"] = json!(key.key_id());
        row["public"] = json!(serde_json::to_string(&key.verifying_key().to_jwk()).unwrap());
        keys.push(row);
    });
    assert_eq!((opened.state.keys.len(), opened.problems.len()), (4, 2), "{:?}", opened.problems);

    let opened = altered(|json| drop(json["keys"].as_array_mut().unwrap().remove(0)));
    assert_eq!((opened.state.keys.len(), opened.problems.len()), (3, 1), "{:?}", opened.problems);
}

#[test]
fn nothing_is_taken_from_a_list_that_is_not_authentic() {
    for (member, value) in [
        ("before_signing", json!(0)),
        ("before_removal", json!(0)),
        ("algorithm", json!("ES384")),
        ("algorithm", json!("none")),
        ("rotate", json!(true)),
        ("earlier", json!([{"version": 1, "mark": "mark"}])),
        ("accepted_at", json!(3)),
        ("distrusted", json!([])),
        ("seal", json!("")),
    ] {
        let opened = altered(|json| json[member] = value);
        let fallback = fallback();
        assert_eq!((opened.state.keys.len(), opened.problems.len()), (4, 1), "{member}: {:?}", opened.problems);
        assert!(!opened.is_listed && opened.state.waits == fallback.waits && !opened.state.rotate, "{member}");
        assert_eq!(opened.state.algorithm, fallback.algorithm, "{member}");
        assert!(opened.state.distrusted.is_empty() && opened.state.history.earlier.is_empty(), "{member}");
        assert_eq!(opened.state.history.accepted_at, 0, "{member}");
    }
}

#[test]
fn a_row_of_another_version_or_another_ring_is_not_authentic() {
    let (state, private) = ring();
    let earlier = seal("main", &RingState { version: 2, ..state.clone() }, &private, &by()).unwrap();
    let renamed: Value = serde_json::from_str(&earlier).unwrap();
    let opened = altered(|json| json["keys"] = renamed["keys"].clone());
    assert_eq!((opened.state.keys.len(), opened.problems.len()), (0, 5), "{:?}", opened.problems);
    let text = seal("other", &state, &private, &by()).unwrap();
    assert_eq!(read(&text).problems.len(), 5);
    // The same version of another history.
    let history = state.history.next(2).unwrap();
    let foreign = seal("main", &RingState { history, ..state.clone() }, &private, &by()).unwrap();
    let foreign: Value = serde_json::from_str(&foreign).unwrap();
    let mut mixed: Value = serde_json::from_str(&seal("main", &state, &private, &by()).unwrap()).unwrap();
    mixed["keys"][1] = foreign["keys"][1].clone();
    let opened = read(&mixed.to_string());
    assert_eq!((opened.state.keys.len(), opened.problems.len()), (3, 1), "{:?}", opened.problems);
    let error = open("main", 3, &earlier, &by(), &PrivateKeys::new(), &fallback()).err().unwrap().to_string();
    assert!(error.contains("is of version 2, but is stored as version 3"), "{error}");
}

#[test]
fn a_wrong_key_encryption_key_is_an_error_that_names_both_and_an_earlier_one_is_read() {
    let (state, private) = ring();
    let text = seal("main", &state, &private, &by()).unwrap();
    let new = KeyEncryptionKey::from_bytes((1..33).collect::<Vec<u8>>()).unwrap();
    let error = open("main", 3, &text, &new, &PrivateKeys::new(), &fallback()).err().unwrap().to_string();
    assert!(error.contains(by().name()) && error.contains(new.name()) && error.contains("::also"), "{error}");
    let opened = open("main", 3, &text, &new.also(by()), &PrivateKeys::new(), &fallback()).unwrap();
    assert!(opened.problems.is_empty() && opened.encrypted_by == by().name());
}
