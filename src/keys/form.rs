//! [`Form`]: the kind of key in a DER structure or in a PEM section.

use super::der::{BIT_STRING, INTEGER, OCTET_STRING, Reader, SEQUENCE};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
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

impl Form {
    /// Recognises the form by the tags of the outermost elements, which are unique.
    pub(super) fn of_der(der: &[u8]) -> Self {
        match Reader::sequence(der).and_then(Reader::tags).as_deref() {
            Some([INTEGER, SEQUENCE, OCTET_STRING, ..]) => Self::Pkcs8,
            Some([INTEGER, OCTET_STRING, ..]) => Self::Sec1,
            Some([INTEGER, INTEGER]) => Self::Pkcs1Public,
            Some([INTEGER, INTEGER, INTEGER, ..]) => Self::Pkcs1,
            Some([SEQUENCE, OCTET_STRING]) => Self::Encrypted,
            Some([SEQUENCE, BIT_STRING]) => Self::Spki,
            Some([SEQUENCE, SEQUENCE, BIT_STRING]) => Self::Certificate,
            _ => Self::Other,
        }
    }

    /// Recognises the form by the label of a PEM section (RFC 7468 §4, and labels of older tools).
    pub(super) fn of_label(label: &[u8]) -> Self {
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
