//! Private keys with altered DER. If both backends load a key, it must be the same key, and both accept the same scalars.
//!
//! A few malformed files are loaded only by aws-lc: an EC key with a scalar that is much too short or with the point in hybrid
//! form, and PKCS#8 of the version that includes a public key, but without one. Such a file belongs to the operator, and
//! RustCrypto reports it when the process starts.

use sec1::EcPrivateKey;
use zeroize::Zeroizing;

use super::altered::TestRng;
use super::{ORDER_P256, ORDER_P384, PublicNumbers, aws_lc_rs, fixed, rust_crypto, small};
use crate::keys::key_type::KeyType;
use crate::keys::pkcs8::{Pkcs8, encode, encode_octets};
use crate::keys::structure::Structure;

/// Returns the public half of a private key, by aws-lc and by `RustCrypto`.
fn loaded(key: &Pkcs8) -> (Option<PublicNumbers>, Option<PublicNumbers>) {
    let aws_lc = aws_lc_rs::KeyPair::from_pkcs8(key).ok().map(|pair| pair.public_numbers());
    let rust_crypto = rust_crypto::KeyPair::from_pkcs8(key).ok().map(|pair| pair.public_numbers());
    (aws_lc, rust_crypto)
}

#[test]
fn both_backends_load_an_altered_private_key_as_the_same_key_or_not_at_all() {
    let mut rng = TestRng(8);
    let (mut altered, mut both, mut one_alone) = (0, 0, 0);
    for text in [
        include_str!("../../../../tests/keys/p256.pem"),
        include_str!("../../../../tests/keys/p256.sec1.pem"),
        include_str!("../../../../tests/keys/p384.pem"),
        include_str!("../../../../tests/keys/ed25519.pem"),
    ] {
        let section = crate::keys::pem::private_section(text.as_bytes()).unwrap();
        let right = section.der().unwrap();
        for place in 0..right.len() {
            let mut der = Zeroizing::new(right.to_vec());
            der[place] ^= 1 << rng.below(8);
            altered += 1;
            let Ok(key) = Pkcs8::from_der(section.structure, der) else { continue };
            match loaded(&key) {
                (None, None) => {}
                (Some(aws_lc), Some(rust_crypto)) => {
                    assert_eq!(aws_lc, rust_crypto, "byte {place}");
                    both += 1;
                }
                (aws_lc, _) => {
                    println!("byte {place} of {:?}: loaded by aws-lc: {}", section.structure, aws_lc.is_some());
                    one_alone += 1;
                }
            }
        }
    }
    println!("{altered} altered keys: {both} loaded by both backends, {one_alone} by only one");
    assert!(altered > 400 && both > 30 && one_alone <= 4);
}

#[test]
fn both_backends_load_the_same_scalars() {
    let ec = |key_type, scalar: &[u8]| {
        let inner = encode(&EcPrivateKey { private_key: scalar, parameters: None, public_key: None }).unwrap();
        let (aws_lc, rust_crypto) = loaded(&Pkcs8::wrap(key_type, &inner).unwrap());
        assert_eq!(aws_lc, rust_crypto, "{scalar:02x?}");
        aws_lc.is_some()
    };
    for (key_type, order, width) in [(KeyType::P256, &*ORDER_P256, 32), (KeyType::P384, &*ORDER_P384, 48)] {
        for (scalar, is_valid) in [
            (small(0), false),
            (small(1), true),
            (order - small(1), true),
            (order.clone(), false),
            (order + small(1), false),
            ((small(1) << (8 * width)) - small(1), false),
        ] {
            assert_eq!(ec(key_type, &fixed(&scalar, width).unwrap()), is_valid, "{scalar:x}");
        }
        for wrong in [0, width + 1, 2 * width] {
            assert!(!ec(key_type, &vec![1; wrong]), "{wrong} bytes");
        }
    }
    for width in [0, 1, 31, 32, 33, 64] {
        let key = Pkcs8::wrap(KeyType::Ed25519, &encode_octets(&vec![1; width]).unwrap()).unwrap();
        let (aws_lc, rust_crypto) = loaded(&key);
        assert_eq!(aws_lc, rust_crypto, "{width} bytes");
        assert_eq!(aws_lc.is_some(), width == 32, "{width} bytes");
    }
    // The same bytes as another structure are not a key.
    assert!(Pkcs8::from_der(Structure::Spki, Pkcs8::wrap(KeyType::Ed25519, &[4, 32]).unwrap().der).is_err());
}
