//! [`Pkcs8`]: a private key before a backend parses it. Every format is converted to PKCS#8, the only one that backends read.

use pkcs8::PrivateKeyInfoRef;
use pkcs8::der::asn1::{AnyRef, OctetStringRef};
use pkcs8::der::{self, Decode as _, Encode, Reader as _};
use pkcs8::spki::AlgorithmIdentifierRef;
use sec1::EcPrivateKey;
use zeroize::Zeroizing;

use super::KeyError;
use super::key_error;
use super::key_type::KeyType;
use super::structure::Structure;

/// A `PrivateKeyInfo` (RFC 5208 §5) of a known type, wiped on drop.
pub(super) struct Pkcs8 {
    pub(super) key_type: KeyType,
    pub(super) der: Zeroizing<Vec<u8>>,
}

impl Pkcs8 {
    /// Converts an unencrypted private key in any structure.
    pub(super) fn from_der(structure: Structure, der: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        match structure {
            Structure::Pkcs8 => from_pkcs8(der).ok_or_else(key_error::unknown_private_key),
            Structure::Sec1 => Self::wrap(sec1_type(&der).ok_or_else(key_error::unknown_private_key)?, &der),
            Structure::Pkcs1 => Self::wrap(KeyType::Rsa, &der),
            Structure::Encrypted => Err(key_error::encrypted()),
            Structure::ForeignPrivate => Err(key_error::foreign_private()),
            Structure::Spki | Structure::Pkcs1Public | Structure::Certificate | Structure::Other => {
                Err(key_error::no_private_key(&[structure]))
            }
        }
    }

    /// Wraps `key`, the structure that the type has inside PKCS#8: SEC1, PKCS#1, or the seed as an octet string.
    pub(super) fn wrap(key_type: KeyType, key: &[u8]) -> Result<Self, KeyError> {
        let info = OctetStringRef::new(key).map(|key| PrivateKeyInfoRef::new(key_type.identifier(), key));
        let der = info.map_err(|_| key_error::unknown_private_key()).and_then(|info| encode(&info))?;
        Ok(Self { key_type, der })
    }
}

/// Writes a structure that contains a private key. The result is wiped on drop.
pub(super) fn encode(key: &impl Encode) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    // The length is computed first, so no growing buffer leaves copies in memory.
    key.to_der().map(Zeroizing::new).map_err(|_| key_error::unknown_private_key())
}

/// Writes an octet string, as PKCS#8 contains the seed of an Ed25519 key. The result is wiped on drop.
pub(super) fn encode_octets(octets: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    OctetStringRef::new(octets).map_err(|_| key_error::unknown_private_key()).and_then(|octets| encode(&octets))
}

/// Reads only the type. The backend reads the key itself.
fn from_pkcs8(der: Zeroizing<Vec<u8>>) -> Option<Pkcs8> {
    let algorithm = AnyRef::from_der(&der).ok()?.sequence(|info| {
        let _version: AnyRef<'_> = info.decode()?;
        let algorithm: AlgorithmIdentifierRef<'_> = info.decode()?;
        info.drain(info.remaining_len())?;
        Ok::<_, der::Error>(algorithm)
    });
    let key_type = KeyType::from_identifier(&algorithm.ok()?)?;
    Some(Pkcs8 { key_type, der })
}

/// Returns the type of an `ECPrivateKey`. Its curve may be omitted only within PKCS#8 (RFC 5915 §3).
fn sec1_type(der: &[u8]) -> Option<KeyType> {
    KeyType::from_curve(EcPrivateKey::from_der(der).ok()?.parameters?.named_curve()?)
}
