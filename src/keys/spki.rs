//! Parses public keys in DER (RFC 5280 §4.1.2.7, RFC 8017 §A.1.1) into [`PublicNumbers`].

use super::KeyError;
use super::der::{BIT_STRING, Reader, SEQUENCE};
use super::form::Form;
use super::jwk::PublicNumbers;
use super::key_type::KeyType;
use super::refusal;

/// Returns the numbers of a public key of any form.
pub(super) fn public_numbers(form: Form, der: &[u8]) -> Result<PublicNumbers, KeyError> {
    match form {
        Form::Spki => spki(der)?,
        Form::Pkcs1Public => rsa(der),
        _ if form.is_private() => return Err(refusal::private_for_public()),
        _ => return Err(refusal::no_public_key(&[form])),
    }
    .ok_or_else(refusal::unknown_public_key)
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
    let mut info = Reader::sequence(der)?;
    let key_type = KeyType::from_identifier(info.take(SEQUENCE)?)?;
    // The first octet is the number of unused bits in the last one, which is zero for keys.
    let key = info.take(BIT_STRING)?.strip_prefix(&[0])?;
    info.end().map(|()| (key_type, key))
}

fn rsa(der: &[u8]) -> Option<PublicNumbers> {
    let mut key = Reader::sequence(der)?;
    let (n, e) = (key.take_positive()?, key.take_positive()?);
    key.end().map(|()| PublicNumbers::Rsa { n: n.into(), e: e.into() })
}

fn compressed() -> KeyError {
    KeyError::new(
        "the public key has a compressed point, which is unsupported: convert it with \
         `openssl ec -pubin -in KEY -conv_form uncompressed -pubout`",
    )
}

#[cfg(test)]
mod tests {
    use super::super::der::{BIT_STRING, SEQUENCE, write, write_positive};
    use super::public_numbers;
    use crate::keys::form::Form;
    use crate::keys::key_type::KeyType;

    fn spki(key_type: KeyType, bits: &[u8], behind: &[u8]) -> Vec<u8> {
        let algorithm = write(SEQUENCE, &[key_type.identifier()]);
        write(SEQUENCE, &[&algorithm, &write(BIT_STRING, &[bits]), behind]).to_vec()
    }

    fn is_read(der: &[u8]) -> bool {
        public_numbers(Form::Spki, der).is_ok()
    }

    #[test]
    fn a_point_must_have_the_width_of_its_curve_and_a_bit_string_whole_bytes() {
        let point = [&[0, 4][..], &[7; 64]].concat();
        let wide = [&[0, 4][..], &[7; 96]].concat();
        assert!(is_read(&spki(KeyType::P256, &point, &[])) && is_read(&spki(KeyType::P384, &wide, &[])));
        assert!(!is_read(&spki(KeyType::P384, &point, &[])) && !is_read(&spki(KeyType::P256, &wide, &[])));
        assert!(!is_read(&spki(KeyType::P256, &[&[1], &point[1..]].concat(), &[])));
        assert!(!is_read(&spki(KeyType::P256, &point, &write_positive(&[1]))));
        assert!(!is_read(&spki(KeyType::P256, &[0], &[])) && !is_read(&spki(KeyType::P256, &[], &[])));
    }

    #[test]
    fn an_rsa_key_must_be_exactly_two_positive_integers() {
        let [n, e] = [write_positive(&[0xC1; 256]), write_positive(&[1, 0, 1])];
        let rsa = |parts: &[&[u8]]| public_numbers(Form::Pkcs1Public, &write(SEQUENCE, parts)).is_ok();
        assert!(rsa(&[&n, &e]));
        assert!(!rsa(&[&n]) && !rsa(&[&n, &e, &e]) && !rsa(&[&n, &[2, 1, 0xFF]]) && !rsa(&[&n, &[2, 1, 0]]));
        assert!(!is_read(&spki(KeyType::Rsa, &[&[0], &write(SEQUENCE, &[&n])[..]].concat(), &[])));
    }

    #[test]
    fn other_structures_are_not_read_as_public_keys() {
        for form in [Form::Pkcs8, Form::Encrypted, Form::Certificate, Form::Other] {
            assert!(public_numbers(form, &spki(KeyType::Ed25519, &[0; 33], &[])).is_err(), "{form:?}");
        }
    }
}
