//! [`Structure`]: the ASN.1 structure of a key, in DER or in a PEM section.

use pkcs8::der::asn1::AnyRef;
use pkcs8::der::{self, Decode as _, Reader as _, Tag, Tagged as _};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Structure {
    /// `PrivateKeyInfo` (RFC 5208 §5, RFC 5958 §2).
    Pkcs8,
    /// `ECPrivateKey` (RFC 5915 §3).
    Sec1,
    /// `RSAPrivateKey` (RFC 8017 §A.1.2).
    Pkcs1,
    /// `EncryptedPrivateKeyInfo` (RFC 5958 §3).
    Encrypted,
    /// A private key in an unsupported format, such as OpenSSH's.
    ForeignPrivate,
    /// `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7).
    Spki,
    /// `RSAPublicKey` (RFC 8017 §A.1.1).
    Pkcs1Public,
    Certificate,
    Other,
}

impl Structure {
    /// Detects the structure by the tags of the outermost elements, which are unique.
    pub(super) fn detect(der: &[u8]) -> Self {
        use Tag::{BitString, Integer, OctetString, Sequence};

        match tags(der).as_deref() {
            Ok([Integer, Sequence, OctetString, ..]) => Self::Pkcs8,
            Ok([Integer, OctetString, ..]) => Self::Sec1,
            Ok([Integer, Integer]) => Self::Pkcs1Public,
            Ok([Integer, Integer, Integer, ..]) => Self::Pkcs1,
            Ok([Sequence, OctetString]) => Self::Encrypted,
            Ok([Sequence, BitString]) => Self::Spki,
            Ok([Sequence, Sequence, BitString]) => Self::Certificate,
            _ => Self::Other,
        }
    }

    /// Detects the structure by the label of a PEM section (RFC 7468 §4, and labels of older tools).
    pub(super) fn from_label(label: &[u8]) -> Self {
        match label {
            b"PRIVATE KEY" => Self::Pkcs8,
            b"EC PRIVATE KEY" => Self::Sec1,
            b"RSA PRIVATE KEY" => Self::Pkcs1,
            b"ENCRYPTED PRIVATE KEY" => Self::Encrypted,
            b"PUBLIC KEY" => Self::Spki,
            b"RSA PUBLIC KEY" => Self::Pkcs1Public,
            _ if label.ends_with(b"PRIVATE KEY") => Self::ForeignPrivate,
            _ if label.ends_with(b"CERTIFICATE") => Self::Certificate,
            _ => Self::Other,
        }
    }

    pub(super) const fn is_private(self) -> bool {
        matches!(self, Self::Pkcs8 | Self::Sec1 | Self::Pkcs1 | Self::Encrypted | Self::ForeignPrivate)
    }

    pub(super) const fn is_public(self) -> bool {
        matches!(self, Self::Spki | Self::Pkcs1Public)
    }
}

/// Returns the tags of the elements of a sequence, which must be all of `der`.
fn tags(der: &[u8]) -> der::Result<Vec<Tag>> {
    AnyRef::from_der(der)?.sequence(|elements| {
        let mut tags = Vec::new();
        while !elements.is_finished() {
            tags.push(elements.decode::<AnyRef<'_>>()?.tag());
        }
        Ok(tags)
    })
}

#[cfg(test)]
mod tests {
    use super::Structure;

    #[test]
    fn the_form_of_a_structure_is_recognised_and_bytes_that_are_not_der_have_none() {
        let public = &b"\x30\x06\x02\x01\x05\x02\x01\x03"[..];
        assert_eq!(Structure::detect(public), Structure::Pkcs1Public);
        assert_eq!(Structure::detect(b"\x30\x07\x30\x00\x03\x03\x00\x01\x02"), Structure::Spki);
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 0x80, 2, 1, 5, 2, 1, 3, 0, 0],          // indefinite
            &[0x30, 0x81, 6, 2, 1, 5, 2, 1, 3],             // a length that is not the shortest
            &[0x30, 6, 2, 1, 5, 2, 1],                      // truncated
            &[0x30, 6, 2, 1, 5, 2, 2, 3],                   // truncated inside
            &[0x30, 6, 2, 1, 5, 2, 1, 3, 0],                // trailing data
            &[0x31, 6, 2, 1, 5, 2, 1, 3],                   // a set
            &[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF, 2, 1, 5], // longer than memory
        ] {
            assert_eq!(Structure::detect(bytes), Structure::Other, "{bytes:02x?}");
        }
    }
}
