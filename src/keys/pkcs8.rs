//! [`Pkcs8`]: a private key before a backend parses it. Every format is converted to PKCS#8, the only one that backends read.

use zeroize::Zeroizing;

use super::KeyError;
use super::der::{CONTEXT_0, OCTET_STRING, Reader, SEQUENCE, write};
use super::form::Form;
use super::key_type::KeyType;
use super::refusal;

/// A `PrivateKeyInfo` (RFC 5208 §5) of a known type, wiped on drop.
pub(super) struct Pkcs8 {
    pub(super) key_type: KeyType,
    pub(super) der: Zeroizing<Vec<u8>>,
}

/// `INTEGER 0`, the version of PKCS#8 and of PKCS#1.
pub(super) const VERSION_0: &[u8] = &[2, 1, 0];
/// `INTEGER 1`, the version of SEC1.
pub(super) const VERSION_1: &[u8] = &[2, 1, 1];

impl Pkcs8 {
    /// Converts an unencrypted private key of any form.
    pub(super) fn from_der(form: Form, der: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        match form {
            Form::Pkcs8 => from_pkcs8(der),
            Form::Sec1 => from_sec1(&der),
            Form::Pkcs1 => Some(Self::wrap(KeyType::Rsa, &der)),
            Form::Encrypted => return Err(refusal::encrypted()),
            Form::ForeignPrivate => return Err(refusal::foreign_private()),
            Form::Spki | Form::Pkcs1Public | Form::Certificate | Form::Other => {
                return Err(refusal::no_private_key(&[form]));
            }
        }
        .ok_or_else(refusal::unknown_private_key)
    }

    /// Wraps `key`, the form that the type has inside PKCS#8: SEC1, PKCS#1, or the seed as an octet string.
    pub(super) fn wrap(key_type: KeyType, key: &[u8]) -> Self {
        let algorithm = write(SEQUENCE, &[key_type.identifier()]);
        let der = write(SEQUENCE, &[VERSION_0, &algorithm, &write(OCTET_STRING, &[key])]);
        Self { key_type, der }
    }
}

fn from_pkcs8(der: Zeroizing<Vec<u8>>) -> Option<Pkcs8> {
    let mut info = Reader::sequence(&der)?;
    info.take(super::der::INTEGER)?;
    let key_type = KeyType::from_identifier(info.take(SEQUENCE)?)?;
    Some(Pkcs8 { key_type, der })
}

/// The curve is in `parameters`, which may be omitted only within PKCS#8 (RFC 5915 §3).
fn from_sec1(der: &[u8]) -> Option<Pkcs8> {
    let mut key = Reader::sequence(der)?;
    key.take(super::der::INTEGER)?;
    key.take(OCTET_STRING)?;
    KeyType::from_curve(key.take(CONTEXT_0)?).map(|key_type| Pkcs8::wrap(key_type, der))
}
