//! Parses public keys in DER (RFC 5280 §4.1.2.7, RFC 8017 §A.1.1) into [`PublicNumbers`].

use pkcs1::RsaPublicKeyRef;
use pkcs8::der::Decode as _;
use pkcs8::spki::SubjectPublicKeyInfoRef;

use super::KeyError;
use super::jwk::PublicNumbers;
use super::key_error;
use super::key_type::KeyType;
use super::structure::Structure;

/// Returns the numbers of a public key in any structure.
pub(super) fn public_numbers(structure: Structure, der: &[u8]) -> Result<PublicNumbers, KeyError> {
    match structure {
        Structure::Spki => spki(der)?,
        Structure::Pkcs1Public => rsa(der),
        _ if structure.is_private() => return Err(key_error::private_for_public()),
        _ => return Err(key_error::no_public_key(&[structure])),
    }
    .ok_or_else(key_error::unknown_public_key)
}

fn spki(der: &[u8]) -> Result<Option<PublicNumbers>, KeyError> {
    let Some((key_type, key)) = split(der) else { return Ok(None) };
    let numbers = match (key_type, key) {
        (KeyType::Rsa, _) => rsa(key),
        (KeyType::Ed25519, _) => Some(PublicNumbers::Ed25519 { x: key.into() }),
        (KeyType::P256 | KeyType::P384, [2 | 3, ..]) => return Err(compressed()),
        (KeyType::P256 | KeyType::P384, _) => PublicNumbers::from_point(key),
    };
    Ok(numbers.filter(|numbers| numbers.key_type() == key_type))
}

fn split(der: &[u8]) -> Option<(KeyType, &[u8])> {
    let info = SubjectPublicKeyInfoRef::from_der(der).ok()?;
    // A key fills whole bytes.
    Some((KeyType::from_identifier(&info.algorithm)?, info.subject_public_key.as_bytes()?))
}

fn rsa(der: &[u8]) -> Option<PublicNumbers> {
    let key = RsaPublicKeyRef::from_der(der).ok()?;
    let [n, e] = [key.modulus, key.public_exponent].map(|number| number.as_bytes());
    let positive = [n, e].iter().all(|number| number.first() > Some(&0));
    positive.then(|| PublicNumbers::Rsa { n: n.into(), e: e.into() })
}

fn compressed() -> KeyError {
    KeyError::unsupported(
        "the public key has a compressed point, which is unsupported: convert it with \
         `openssl ec -pubin -in KEY -conv_form uncompressed -pubout`",
    )
}

#[cfg(test)]
mod tests {
    use pkcs8::der::asn1::AnyRef;
    use pkcs8::der::{Encode as _, Tag};

    use super::public_numbers;
    use crate::keys::key_type::KeyType;
    use crate::keys::structure::Structure;

    /// `INTEGER 0xC1C1…` with 2,048 bits, and `INTEGER 65537`.
    fn rsa_numbers() -> [Vec<u8>; 2] {
        [element(Tag::Integer, &[&[0], &[0xC1; 256]]), element(Tag::Integer, &[&[1, 0, 1]])]
    }

    fn element(tag: Tag, parts: &[&[u8]]) -> Vec<u8> {
        AnyRef::new(tag, &parts.concat()).unwrap().to_der().unwrap()
    }

    fn spki(key_type: KeyType, bits: &[u8], behind: &[u8]) -> Vec<u8> {
        let algorithm = key_type.identifier().to_der().unwrap();
        element(Tag::Sequence, &[&algorithm, &element(Tag::BitString, &[bits]), behind])
    }

    fn is_read(der: &[u8]) -> bool {
        public_numbers(Structure::Spki, der).is_ok()
    }

    #[test]
    fn a_point_must_have_the_width_of_its_curve_and_a_bit_string_whole_bytes() {
        let point = [&[0, 4][..], &[7; 64]].concat();
        let wide = [&[0, 4][..], &[7; 96]].concat();
        assert!(is_read(&spki(KeyType::P256, &point, &[])) && is_read(&spki(KeyType::P384, &wide, &[])));
        assert!(!is_read(&spki(KeyType::P384, &point, &[])) && !is_read(&spki(KeyType::P256, &wide, &[])));
        assert!(!is_read(&spki(KeyType::P256, &[&[1], &point[1..]].concat(), &[])));
        assert!(!is_read(&spki(KeyType::P256, &point, &[2, 1, 1])));
        assert!(!is_read(&spki(KeyType::P256, &[0], &[])) && !is_read(&spki(KeyType::P256, &[], &[])));
    }

    #[test]
    fn an_rsa_key_must_be_exactly_two_positive_integers() {
        let [n, e] = rsa_numbers();
        let rsa = |parts: &[&[u8]]| public_numbers(Structure::Pkcs1Public, &element(Tag::Sequence, parts)).is_ok();
        assert!(rsa(&[&n, &e]));
        assert!(!rsa(&[&n]) && !rsa(&[&n, &e, &e]));
        for content in [&[][..], &[0], &[0x80], &[0, 1], &[0, 0, 0x80], &[0xFF]] {
            let wrong = element(Tag::Integer, &[content]);
            assert!(!rsa(&[&n, &wrong]) && !rsa(&[&wrong, &e]), "{content:02x?}");
        }
        assert!(!is_read(&spki(KeyType::Rsa, &[&[0], &element(Tag::Sequence, &[&n])[..]].concat(), &[])));
    }

    #[test]
    fn other_structures_are_not_read_as_public_keys() {
        for structure in [Structure::Pkcs8, Structure::Encrypted, Structure::Certificate, Structure::Other] {
            assert!(public_numbers(structure, &spki(KeyType::Ed25519, &[0; 33], &[])).is_err(), "{structure:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_reader_never_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64)) {
            let _ = (Structure::detect(&bytes), public_numbers(Structure::Spki, &bytes), public_numbers(Structure::Pkcs1Public, &bytes));
        }
    }
}
