//! [`ConfigError`]: why a server cannot be built.

use crate::audience::{Audience, InvalidAudience};
use crate::issuer::{InvalidIssuer, Issuer};
use crate::registration::ClientError;
use crate::transport::InvalidDocument;

/// An authorization server cannot be built from these settings; the text says what to change.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The issuer is none.
    #[error(transparent)]
    Issuer(#[from] InvalidIssuer),
    /// A resource, or the default audience, is none.
    #[error("an audience of the server is {0}")]
    Audience(InvalidAudience),
    /// A resource was named twice.
    #[error("the resource {0} is named twice; name it once, with all its scopes")]
    ResourceTwice(Audience),
    /// Two spellings of one resource (RFC 3986 §6.2.2, §6.2.3) have different scopes.
    #[error(
        "`{0}` and `{1}` are spellings of one resource, and have different scopes; use one spelling, or give both the same \
         scopes with .resource_with_scopes(…)"
    )]
    ResourceSpelledTwice(Audience, Audience),
    /// A default scope, or one tied to a resource, is none of the known scopes.
    #[error("the scope `{0}` is none of the known scopes; add it with .known_scopes(…)")]
    UnknownScope(String),
    /// The public URL is none.
    #[error("the public URL is {0}")]
    PublicUrl(InvalidIssuer),
    /// A client's registration is wrong.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The lifetime of tokens is out of bounds.
    #[error("{0}")]
    Lifetime(&'static str),
    /// A limit that would let nothing through.
    #[error("{0}")]
    Limits(&'static str),
    /// A path that no request could arrive with.
    #[error("`{0}` is not a path; it must begin with a slash, and be escaped as in a request line")]
    Path(String),
    /// A proxy is said to remove a path that the issuer does not have.
    #[error(
        "the issuer `{0}` has no path that a proxy could remove; remove .proxy_strips_issuer_path(), or name the path in the \
         issuer"
    )]
    NoIssuerPath(Issuer),
    /// A revocation endpoint, and nothing that it could write to.
    #[error("a revocation endpoint needs revocations; give the server some with .revocations(…)")]
    NoRevocations,
    /// Trusted proxies, and no way to know whether the peer is one of them.
    #[error(
        "trusted proxies need the address of the peer; say where it is with .peer_address(…), for example in the \
         `ConnectInfo` of axum"
    )]
    NoPeerAddress,
    /// Two endpoints at one path.
    #[error("two endpoints have the same path; give each a path of its own")]
    PathTwice,
    /// A document or header could not be made from the settings.
    #[error("the settings make no valid document: {0}")]
    Document(String),
}

// Not `#[from]`, which would make it the source as well: the text has it already.
impl From<InvalidAudience> for ConfigError {
    fn from(error: InvalidAudience) -> Self {
        Self::Audience(error)
    }
}

impl From<InvalidDocument> for ConfigError {
    fn from(error: InvalidDocument) -> Self {
        Self::Document(error.to_string())
    }
}
