//! [`ConfigError`]: the reasons why a server cannot be built.

use crate::audience::{Audience, InvalidAudience};
use crate::issuer::{InvalidIssuer, Issuer};
use crate::registration::ClientError;
use crate::transport::InvalidDocument;

/// The settings of an authorization server are invalid. The text says what is wrong and how to fix it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The issuer identifier is invalid.
    #[error(transparent)]
    Issuer(#[from] InvalidIssuer),
    /// A resource or the default audience is invalid.
    #[error("invalid resource or default audience: {0}")]
    Audience(InvalidAudience),
    /// A resource was added twice.
    #[error("duplicate resource `{0}`; add it once, with all its scopes")]
    ResourceTwice(Audience),
    /// Two spellings of one resource (RFC 3986 §6.2.2, §6.2.3) have different scopes.
    #[error(
        "`{0}` and `{1}` are spellings of one resource, but have different scopes; use one spelling, or give both the same \
             scopes with .resource_with_scopes(…)"
    )]
    ResourceSpelledTwice(Audience, Audience),
    /// A default scope, or a scope of a resource, is not a known scope.
    #[error("unknown scope `{0}`: it is not in .known_scopes(…); add it there, or remove it")]
    UnknownScope(String),
    /// The clock of the server is not that of its key ring, so that it could not tell when it must stop signing.
    #[error(
        "the clock of the server and that of its key ring differ by more than 5 seconds; give the same clock to both, with \
             AuthorizationServerBuilder::clock and KeyManagerBuilder::clock"
    )]
    KeyRingClock,
    /// The public URL is invalid.
    #[error("invalid public URL: {0}")]
    PublicUrl(InvalidIssuer),
    /// A client's registration is invalid.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The token lifetime is out of range.
    #[error("{0}")]
    Lifetime(&'static str),
    /// A limit would refuse every request, or contradicts another setting.
    #[error("{0}")]
    Limits(&'static str),
    /// The settings of client assertions are invalid.
    #[error("client assertions: {0}")]
    Assertions(String),
    /// An endpoint path is invalid: no request could have it.
    #[error(
        "invalid path `{0}`: it must begin with a slash, have no query, and be percent-encoded as in a request line"
    )]
    Path(String),
    /// [`proxy_strips_issuer_path`](super::AuthorizationServerBuilder::proxy_strips_issuer_path) is set, but the issuer
    /// has no path.
    #[error(
        "the issuer `{0}` has no path that a proxy could remove; remove .proxy_strips_issuer_path(), or add the path to the \
             issuer"
    )]
    NoIssuerPath(Issuer),
    /// A revocation endpoint is set, but there are no revocations.
    #[error("the revocation endpoint needs revocations; set them with .revocations(…)")]
    NoRevocations,
    /// Trusted proxies are set, but not how to find the peer's address.
    #[error(
        "trusted proxies need the address of the peer; set how to find it with .peer_address(…), for example with axum's \
             `ConnectInfo`"
    )]
    NoPeerAddress,
    /// Two endpoints have the same path.
    #[error("two endpoints have the same path; give each a path of its own")]
    PathTwice,
    /// A document or a header cannot be created from the settings.
    #[error("cannot create a document or header from the settings: {0}")]
    Document(String),
}

// Not `#[from]`: the inner error would also be the source, and its text is already part of the message.
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
