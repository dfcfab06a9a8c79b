//! Random alterations of tokens and keys.

use std::collections::BTreeMap;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use rsa::BigUint;

use super::{Both, PublicNumbers, Subject, encode, fixed, member, reversed};
use crate::keys::Algorithm;
use crate::keys::parsed_jwk::{ParsedJwk, Purpose};

/// A pseudorandom sequence with a seed (`SplitMix64`), so that a failure can be repeated.
pub(super) struct TestRng(pub(super) u64);

impl TestRng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn flip_bit(&mut self, bytes: &mut [u8]) {
        let place = self.below(bytes.len());
        bytes[place] ^= 1 << self.below(8);
    }

    /// Replaces, removes or adds one character of a base64url text, rarely with an invalid one.
    fn alter_text(&mut self, text: &str) -> String {
        const CHARACTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/. ";
        let mut text = text.as_bytes().to_vec();
        let place = self.below(text.len());
        match self.below(4) {
            0 => drop(text.remove(place)),
            1 => text.insert(place, *self.one_of(CHARACTERS)),
            _ => text[place] = *self.one_of(CHARACTERS),
        }
        String::from_utf8(text).unwrap()
    }
}

/// Counts the decisions of both backends, per kind of alteration.
#[derive(Default)]
struct Tally(BTreeMap<&'static str, [usize; 2]>);

impl Tally {
    fn count(&mut self, what: &'static str, accepted: bool) {
        self.0.entry(what).or_default()[usize::from(accepted)] += 1;
    }

    fn accepted(&self) -> usize {
        self.0.values().map(|[_, accepted]| accepted).sum()
    }
}

/// Alters the token of a subject in one way; both backends must decide alike.
fn alter_token(subject: &Subject, rng: &mut TestRng, tally: &mut Tally) {
    let (mut message, mut signature) = (subject.message.clone(), subject.signature.clone());
    let width = signature.len() / subject.halves();
    let what = match rng.below(12) {
        0 => "nothing",
        1 | 2 => {
            rng.flip_bit(&mut message);
            "a bit of the message"
        }
        3 | 4 => {
            rng.flip_bit(&mut signature);
            "a bit of the signature"
        }
        5 => {
            rng.flip_bit(&mut signature);
            rng.flip_bit(&mut signature);
            "two bits of the signature"
        }
        6 => {
            let place = rng.below(signature.len());
            signature[place] = *rng.one_of(&[0, 1, 0x7F, 0x80, 0xFF]);
            "a byte of the signature"
        }
        7 => {
            match rng.below(4) {
                0 => signature.truncate(rng.below(signature.len())),
                1 => drop(signature.remove(0)),
                2 => signature.insert(0, *rng.one_of(&[0, 0xFF])),
                _ => signature.push(*rng.one_of(&[0, 0xFF])),
            }
            "the length of the signature"
        }
        8 => {
            let edges = subject.edges(width);
            let start = rng.below(subject.halves()) * width;
            signature[start..start + width].copy_from_slice(rng.one_of::<Vec<u8>>(&edges));
            "a number of the signature"
        }
        9 => {
            // Congruent numbers, and the negated one.
            let start = rng.below(subject.halves()) * width;
            let part = &mut signature[start..start + width];
            let little = subject.algorithm == Algorithm::EdDSA;
            let value = if little { BigUint::from_bytes_le(part) } else { BigUint::from_bytes_be(part) };
            let n = &subject.modulus;
            let value = match rng.below(3) {
                0 => value + n,
                1 => n + n - (value % n),
                _ => n - (value % n),
            };
            let Some(bytes) = fixed(&value, width) else { return tally.count("a remainder, too wide", false) };
            part.copy_from_slice(&if little { reversed(&bytes) } else { bytes });
            "a remainder of the signature"
        }
        10 => {
            let by = width % signature.len();
            signature.rotate_left(by);
            "the order of the numbers"
        }
        _ => {
            // The whole token as text, for which only strict base64url is accepted.
            let token = format!("{}.{}", std::str::from_utf8(&message).unwrap(), encode(&signature));
            let token = rng.alter_text(&token);
            let Some((head, tail)) = token.rsplit_once('.') else { return tally.count("the text", false) };
            let Ok(tail) = Base64UrlUnpadded::decode_vec(tail) else { return tally.count("the text", false) };
            (message, signature) = (head.as_bytes().to_vec(), tail);
            "the text, still valid base64url"
        }
    };
    let accepted = subject.key.verifies(&message, &signature);
    let same = message == subject.message && signature == subject.signature;
    let is_ecdsa = matches!(subject.algorithm, Algorithm::ES256 | Algorithm::ES384);
    let other_s = is_ecdsa && what == "a remainder of the signature" && message == subject.message;
    assert!(accepted == same || (accepted && other_s), "{what}: {message:02x?} {signature:02x?}");
    tally.count(what, accepted);
}

/// Alters the key of a subject in one way; both backends must load the same keys, and verify the same with them.
fn alter_key(subject: &Subject, rng: &mut TestRng, tally: &mut Tally) {
    let mut jwk = subject.jwk.clone();
    let names: &[&str] = match subject.algorithm {
        Algorithm::ES256 | Algorithm::ES384 => &["x", "y"],
        Algorithm::EdDSA => &["x"],
        _ => &["n", "e"],
    };
    let name = *rng.one_of(names);
    let mut bytes = member(&jwk, name);
    let what = match rng.below(8) {
        0 | 1 => {
            rng.flip_bit(&mut bytes);
            jwk[name] = encode(&bytes).into();
            "a bit of the key"
        }
        2 => {
            let place = rng.below(bytes.len());
            bytes[place] = *rng.one_of(&[0, 1, 0x7F, 0x80, 0xFF]);
            jwk[name] = encode(&bytes).into();
            "a byte of the key"
        }
        3 => {
            match rng.below(3) {
                0 => bytes.insert(0, 0),
                1 => bytes.push(0),
                _ => drop(bytes.remove(0)),
            }
            jwk[name] = encode(&bytes).into();
            "zeros of a number of the key"
        }
        4 => {
            let edges = subject.edges(bytes.len().max(5));
            jwk[name] = encode(&rng.one_of(&edges)[..bytes.len()]).into();
            "a number of the key"
        }
        5 => {
            jwk[name] = rng.alter_text(jwk[name].as_str().unwrap()).into();
            "the text of a number of the key"
        }
        6 => {
            let (one, other) = (jwk[names[0]].clone(), jwk[names[names.len() - 1]].clone());
            jwk[names[0]] = other;
            jwk[names[names.len() - 1]] = one;
            "the order of the numbers of the key"
        }
        _ => {
            let (member, value) = *rng.one_of(&[
                ("crv", "P-256"),
                ("crv", "P-384"),
                ("crv", "Ed25519"),
                ("crv", "secp256k1"),
                ("kty", "EC"),
                ("kty", "OKP"),
                ("kty", "RSA"),
                ("alg", "ES256"),
                ("alg", "ES384"),
                ("alg", "EdDSA"),
                ("alg", "RS256"),
                ("alg", "PS256"),
                ("alg", "none"),
            ]);
            jwk[member] = value.into();
            "the type of the key"
        }
    };
    let jwk = jwk.to_string();
    let Ok(parsed) = ParsedJwk::new(jwk.as_bytes(), Purpose::Verify) else { return tally.count(what, false) };
    let Ok(numbers) = parsed.public_only() else { return tally.count(what, false) };
    let Some(key) = Both::parse(&numbers, parsed.algorithm) else { return tally.count(what, false) };
    if !key.is_point() {
        tally.count("of these, not a point: loaded only by aws-lc", false);
    }
    // An altered key must not verify the signature.
    let is_own = parsed.algorithm == subject.algorithm && key_is(subject, &numbers);
    assert_eq!(key.verifies(&subject.message, &subject.signature), is_own, "{jwk}");
    tally.count(what, true);
}

fn key_is(subject: &Subject, numbers: &PublicNumbers) -> bool {
    let jwk = subject.jwk.to_string();
    ParsedJwk::new(jwk.as_bytes(), Purpose::Verify).unwrap().public_only().unwrap() == *numbers
}

fn alter(seed: u64, cases: usize) {
    let subjects = Subject::all();
    let (mut tokens, mut keys) = (Tally::default(), Tally::default());
    let mut rng = TestRng(seed);
    for case in 0..cases {
        let subject = &subjects[case % subjects.len()];
        if rng.below(4) == 0 {
            alter_key(subject, &mut rng, &mut keys);
        } else {
            alter_token(subject, &mut rng, &mut tokens);
        }
    }
    println!("seed {seed}, {cases} altered tokens and keys");
    for (kind, tally) in [("token", &tokens), ("key", &keys)] {
        for (what, [refused, accepted]) in &tally.0 {
            println!("{kind}: {what}: {refused} refused, {accepted} accepted by both");
        }
        // Enough accepted alterations for a meaningful comparison.
        assert!(tally.accepted() > cases / 100, "{} accepted", tally.accepted());
    }
}

#[test]
fn both_backends_decide_alike_on_altered_tokens_and_keys() {
    alter(21, 2_000);
}

#[test]
#[ignore = "long: run by scripts/attack"]
fn attack_both_decide_alike_about_500_000_altered_tokens_and_keys() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for seed in 0..threads {
            scope.spawn(move || alter(2_026 + seed as u64, 500_000_usize.div_ceil(threads)));
        }
    });
}
