//! Ed25519 with points of small order, and with numbers and points that are not reduced.

use rsa::BigUint;
use serde_json::json;
use sha2::{Digest as _, Sha512};

use super::{
    Both, FIELD_ED25519, MESSAGE, ORDER_ED25519, PublicNumbers, encode, fixed, jwk, member, number, reversed, small,
};
use crate::keys::Algorithm;

/// Returns every point of small order, including encodings beyond the field (Ed25519, and the list of libsodium).
fn points_of_small_order() -> Vec<[u8; 32]> {
    let field = &*FIELD_ED25519;
    let [one, other] = [
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ];
    let little = |hex: &str| BigUint::from_bytes_le(&number(hex).to_bytes_be());
    let numbers = [small(0), small(1), little(one), little(other), field - small(1), field.clone(), field + small(1)];
    let mut points = Vec::new();
    for number in numbers {
        let mut point: [u8; 32] = reversed(&fixed(&number, 32).unwrap()).try_into().unwrap();
        points.push(point);
        point[31] |= 0x80;
        points.push(point);
    }
    points
}

/// With such a key, anyone can sign: R of small order and S = 0 satisfy the equation for at least one message in eight.
#[test]
fn an_ed25519_key_of_small_order_is_refused_before_either_backend_sees_it() {
    let points = points_of_small_order();
    assert_eq!(points.len(), 14);
    for point in points {
        let numbers = PublicNumbers::Ed25519 { x: point.into() };
        assert!(Both::parse(&numbers, Algorithm::EdDSA).is_none(), "{point:02x?}");
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(&point)}).to_string();
        let refusal = crate::keys::VerifyingKey::from_jwk(jwk).unwrap_err().to_string();
        assert!(refusal.contains("small order"), "{refusal}");
    }
}

/// RFC 8032 §5.1.3: decoding fails if y is not below the prime.
#[test]
fn an_ed25519_key_that_is_encoded_beyond_the_field_is_refused() {
    for above in 0..19 {
        let mut point = reversed(&fixed(&(&*FIELD_ED25519 + small(above)), 32).unwrap());
        for sign in [0, 0x80] {
            point[31] = point[31] & 0x7F | sign;
            assert!(Both::parse(&PublicNumbers::Ed25519 { x: point.clone() }, Algorithm::EdDSA).is_none(), "{above}");
        }
    }
}

/// An Ed25519 signer that follows RFC 8032 §5.1.5 and §5.1.6.
struct Ed25519 {
    secret: BigUint,
    prefix: Vec<u8>,
    public: Vec<u8>,
}

impl Ed25519 {
    fn new() -> Self {
        let seed = member(&jwk(include_str!("../../../../tests/keys/rfc8037-a1.jwk")), "d");
        let public = member(&jwk(include_str!("../../../../tests/keys/rfc8037-a1.jwk")), "x");
        let digest = Sha512::digest(&seed);
        let mut secret = digest[..32].to_vec();
        secret[0] &= 0xF8;
        secret[31] = secret[31] & 0x7F | 0x40;
        Self { secret: BigUint::from_bytes_le(&secret), prefix: digest[32..].to_vec(), public }
    }

    fn hash(parts: &[&[u8]]) -> BigUint {
        BigUint::from_bytes_le(&Sha512::digest(parts.concat())) % &*ORDER_ED25519
    }

    /// Signs for the key `public`, with `point` as R and its discrete logarithm `nonce`.
    fn sign(&self, public: &[u8], message: &[u8], point: &[u8], nonce: &BigUint) -> Vec<u8> {
        let challenge = Self::hash(&[point, public, message]);
        let s = (nonce + challenge * &self.secret) % &*ORDER_ED25519;
        [point, &reversed(&fixed(&s, 32).unwrap())].concat()
    }
}

/// Adds the point of order two, which negates both coordinates.
fn plus_order_two(point: &[u8]) -> Vec<u8> {
    let sign = point[31] & 0x80;
    let mut y = point.to_vec();
    y[31] &= 0x7F;
    let mut sum = reversed(&fixed(&(&*FIELD_ED25519 - BigUint::from_bytes_le(&y)), 32).unwrap());
    sum[31] |= sign ^ 0x80;
    sum
}

#[test]
fn both_backends_agree_on_ed25519_signatures_with_points_of_small_order() {
    let signer = Ed25519::new();
    let parse = |x: &[u8]| Both::parse(&PublicNumbers::Ed25519 { x: x.into() }, Algorithm::EdDSA).unwrap();
    let key = parse(&signer.public);

    // A nonce of 0 makes R the neutral point. Only the owner of the key can do this, and RFC 8032 §5.1.7 accepts it.
    let neutral = [&[1][..], &[0; 31]].concat();
    assert!(key.verifies(MESSAGE, &signer.sign(&signer.public, MESSAGE, &neutral, &small(0))));
    assert!(!key.verifies(b"another", &signer.sign(&signer.public, MESSAGE, &neutral, &small(0))));
    // No other encoding of it, and no other point of small order, satisfies the equation.
    for point in points_of_small_order().iter().filter(|point| point[..] != neutral[..]) {
        assert!(!key.verifies(MESSAGE, &signer.sign(&signer.public, MESSAGE, point, &small(0))), "{point:02x?}");
    }

    // R with a component of order two satisfies only the equation with the cofactor, which neither backend uses.
    let ordinary = {
        use ed25519_dalek::Signer as _;
        let seed = member(&jwk(include_str!("../../../../tests/keys/rfc8037-a1.jwk")), "d");
        let pair = ed25519_dalek::SigningKey::from_bytes(&seed.try_into().unwrap());
        pair.sign(MESSAGE).to_bytes()
    };
    let nonce = Ed25519::hash(&[&signer.prefix, MESSAGE]);
    assert_eq!(signer.sign(&signer.public, MESSAGE, &ordinary[..32], &nonce), ordinary);
    let mixed = plus_order_two(&ordinary[..32]);
    assert!(!key.verifies(MESSAGE, &signer.sign(&signer.public, MESSAGE, &mixed, &nonce)));

    // With a key that has such a component, every second signature satisfies the equation.
    let public = plus_order_two(&signer.public);
    let key = parse(&public);
    assert!(key.is_point());
    let accepted = (0..32_u8).filter(|number| {
        let message = [&[*number][..], &signer.prefix].concat();
        // R is the same point for each message, since the nonce is the same.
        key.verifies(&message, &signer.sign(&public, &message, &ordinary[..32], &nonce))
    });
    let accepted = accepted.count();
    println!("{accepted} of 32 signatures with a key of mixed order");
    assert!((4..28).contains(&accepted), "{accepted}");

    // S plus the order is the same number, but refused (RFC 8032 §5.1.7).
    let key = parse(&signer.public);
    for times in 1..=8_u64 {
        let s = BigUint::from_bytes_le(&ordinary[32..]) + &*ORDER_ED25519 * small(times);
        let signature = [&ordinary[..32], &reversed(&fixed(&s, 32).unwrap())].concat();
        assert!(!key.verifies(MESSAGE, &signature), "{times}");
    }
}
