//! [`KeyFormat`]: the format of a document with keys.

/// The format of the document with the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyFormat {
    /// RFC 7517 §5.
    Jwks,
    /// A JWK Set whose keys for JWT-SVIDs have the `use` `jwt-svid` (SPIFFE Trust Domain and Bundle §4).
    SpiffeBundle,
}
