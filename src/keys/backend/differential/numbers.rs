//! Edge values for the numbers of a signature, signatures of other lengths, and keys of other types.

use rsa::BigUint;

use super::{Both, Subject, fixed, reversed};
use crate::keys::Algorithm;
use crate::keys::parsed_jwk::{ParsedJwk, Purpose};

#[test]
fn edge_values_in_a_signature_are_refused_by_both_backends() {
    let mut refused = 0;
    for subject in Subject::all() {
        let width = subject.signature.len() / subject.halves();
        let mut edges = subject.edges(width);
        edges.extend(subject.signature.chunks(width).map(<[u8]>::to_vec));
        let mut signatures = edges.clone();
        if subject.halves() == 2 {
            signatures = edges.iter().flat_map(|r| edges.iter().map(|s| [&**r, s].concat())).collect();
        }
        for signature in signatures {
            let expected = signature == subject.signature;
            assert_eq!(subject.key.verifies(&subject.message, &signature), expected, "{signature:02x?}");
            refused += usize::from(!expected);
        }
    }
    println!("{refused} refused");
    assert!(refused > 450, "{refused}");
}

#[test]
fn a_signature_of_another_length_is_refused_by_both_backends() {
    for subject in Subject::all() {
        let Subject { key, message, signature, modulus, .. } = &subject;
        let (half, width) = (signature.len() / 2, signature.len());
        for wrong in [
            Vec::new(),
            vec![0; width],
            signature[1..].to_vec(),
            signature[..width - 1].to_vec(),
            signature[..half].to_vec(),
            [&[0], &**signature].concat(),
            [signature, &[0][..]].concat(),
            [&[0], &signature[..half], &[0], &signature[half..]].concat(),
            [&**signature, signature].concat(),
        ] {
            assert!(!key.verifies(message, &wrong), "{}: {wrong:02x?}", subject.algorithm);
        }
        if subject.algorithm.is_rsa() {
            // RFC 8017 §5.2.2: the representative must be below the modulus.
            let beyond = BigUint::from_bytes_be(signature) + modulus;
            for width in [width, width + 1] {
                let beyond = fixed(&beyond, width);
                assert!(beyond.is_none_or(|beyond| !key.verifies(message, &beyond)), "{}", subject.algorithm);
            }
        }
    }
}

/// RFC 7518 §3.4 does not require the lower one of the two valid values of s.
#[test]
fn a_high_s_of_ecdsa_is_accepted_by_both_backends() {
    for subject in Subject::all().iter().filter(|subject| subject.signature.len() < 100) {
        let (r, s) = subject.signature.split_at(subject.signature.len() / 2);
        let other = if subject.algorithm == Algorithm::EdDSA {
            reversed(&fixed(&(&subject.modulus - BigUint::from_bytes_le(s)), s.len()).unwrap())
        } else {
            fixed(&(&subject.modulus - BigUint::from_bytes_be(s)), s.len()).unwrap()
        };
        let accepted = subject.key.verifies(&subject.message, &[r, &other].concat());
        assert_eq!(accepted, subject.algorithm != Algorithm::EdDSA, "{}", subject.algorithm);
    }
}
#[test]
fn a_key_is_refused_by_both_backends_for_an_algorithm_of_another_type() {
    let subjects = Subject::all();
    let numbers = |subject: &Subject| {
        let jwk = subject.jwk.to_string();
        ParsedJwk::new(jwk.as_bytes(), Purpose::Verify).unwrap().public_numbers().unwrap()
    };
    let mut refused = 0;
    for key in &subjects {
        for other in &subjects {
            let is_own = numbers(key).key_type().has(other.algorithm);
            let parsed = Both::parse(&numbers(key), other.algorithm);
            assert_eq!(parsed.is_some(), is_own, "{} for {}", key.algorithm, other.algorithm);
            let verifies = parsed.is_some_and(|parsed| parsed.verifies(&other.message, &other.signature));
            assert_eq!(verifies, is_own && key.modulus == other.modulus, "{} for {}", key.algorithm, other.algorithm);
            refused += usize::from(!verifies);
        }
    }
    assert!(refused > 80, "{refused}");
}
