//! Public keys in DER (RFC 5280 §4.1.2.7, RFC 8017 §A.1.1): bytes → [`PublicNumbers`].

use super::KeyError;
use super::der::{BIT_STRING, Reader, SEQUENCE};
use super::form::Form;
use super::jwk::PublicNumbers;
use super::key_type::KeyType;
use super::refusal;

/// The numbers of a public key of any form.
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
    // The first octet counts the unused bits of the last: no key has any.
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
        "the point of the public key is compressed: write it out with \
         `openssl ec -pubin -in KEY -conv_form uncompressed -pubout`",
    )
}
