//! [`ConfigError`]: the reasons why a server cannot be built.

use std::time::Duration;

use crate::audience::{Audience, InvalidAudience};
use crate::issuer::{InvalidIssuer, Issuer};
use crate::quoted::shown_url;
use crate::registration::ClientError;
use crate::transport::InvalidDocument;

/// The settings of an authorization server are invalid. The text names the mistake and how to fix it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The issuer identifier is invalid.
    #[error(transparent)]
    Issuer(#[from] InvalidIssuer),
    /// A resource or the default audience is invalid.
    #[error("invalid resource or default audience: `{audience}` is {error}")]
    #[non_exhaustive]
    Audience {
        /// The value that was given.
        audience: String,
        /// Why it is invalid.
        error: InvalidAudience,
    },
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
    Lifetime(String),
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
    #[error("two endpoints have the path `{0}`; give each a path of its own")]
    PathTwice(String),
    /// A document or a header cannot be created from the settings.
    #[error("cannot create a document or header from the settings: {0}")]
    Document(String),
}

/// The kind of a [`ConfigError`]: the settings to correct.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfigErrorKind {
    /// The issuer identifier.
    Issuer,
    /// The settings for a proxy in front of the server: the public URL, its path, or the address of the peer.
    Proxy,
    /// The resources, the default audience or the scopes.
    Resources,
    /// The registration of a client; [`ConfigError::value`] is its id.
    Client,
    /// The lifetime of tokens, or a limit.
    Limits,
    /// The client assertions.
    Assertions,
    /// The paths of the endpoints, or what an endpoint needs.
    Endpoints,
    /// The clock, which must be that of the key ring.
    Clock,
    /// Texts that a document or a header cannot contain.
    Document,
}

impl ConfigError {
    /// Returns the kind: the settings to correct.
    #[must_use]
    pub const fn kind(&self) -> ConfigErrorKind {
        match self {
            Self::Issuer(_) => ConfigErrorKind::Issuer,
            Self::PublicUrl(_) | Self::NoIssuerPath(_) | Self::NoPeerAddress => ConfigErrorKind::Proxy,
            Self::Audience { .. } | Self::ResourceTwice(_) | Self::ResourceSpelledTwice(..) | Self::UnknownScope(_) => {
                ConfigErrorKind::Resources
            }
            Self::Client(_) => ConfigErrorKind::Client,
            Self::Lifetime(_) | Self::Limits(_) => ConfigErrorKind::Limits,
            Self::Assertions(_) => ConfigErrorKind::Assertions,
            Self::Path(_) | Self::PathTwice(_) | Self::NoRevocations => ConfigErrorKind::Endpoints,
            Self::KeyRingClock => ConfigErrorKind::Clock,
            Self::Document(_) => ConfigErrorKind::Document,
        }
    }

    /// Returns the value that is invalid, if it is one: an issuer, a URL, a resource, a scope, a client id or a path. A URL is without
    /// its password and its query.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        match self {
            Self::Issuer(error) | Self::PublicUrl(error) => Some(error.value()),
            Self::Audience { audience: value, .. }
            | Self::UnknownScope(value)
            | Self::Path(value)
            | Self::PathTwice(value) => Some(value),
            Self::ResourceTwice(audience) | Self::ResourceSpelledTwice(audience, _) => Some(audience.as_str()),
            Self::Client(error) => Some(error.client()),
            Self::NoIssuerPath(issuer) => Some(issuer.as_str()),
            _ => None,
        }
    }

    pub(super) fn audience(audience: &str, error: InvalidAudience) -> Self {
        Self::Audience { audience: shown_url(audience), error }
    }

    pub(super) fn lifetime(lifetime: Duration, expected: &str) -> Self {
        Self::Lifetime(format!("{expected}, found {} seconds", lifetime.as_secs()))
    }
}

impl From<InvalidDocument> for ConfigError {
    fn from(error: InvalidDocument) -> Self {
        Self::Document(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ConfigError, ConfigErrorKind};
    use crate::authorization_server::{AuthorizationServer, AuthorizationServerBuilder};
    use crate::keys::KeyRing;
    use crate::registration::{Client, ClientErrorKind};
    use crate::secret::ClientSecret;
    use crate::store::MemoryStore;

    #[test]
    fn the_kind_names_the_settings_and_the_value_is_the_invalid_one_without_a_password() {
        let error = |set: fn(AuthorizationServerBuilder) -> AuthorizationServerBuilder, issuer: &str| {
            let keys = KeyRing::generate().unwrap();
            set(AuthorizationServer::builder(issuer, keys, MemoryStore::default())).build().unwrap_err()
        };
        let issuer = "https://auth.example.com";
        for (error, kind, value) in [
            (error(|server| server, "https://u:hunter2@h"), ConfigErrorKind::Issuer, Some("https://…@h")),
            (
                error(|server| server.public_url("http://h?k=hunter2"), issuer),
                ConfigErrorKind::Proxy,
                Some("http://h?…"),
            ),
            (error(AuthorizationServerBuilder::proxy_strips_issuer_path, issuer), ConfigErrorKind::Proxy, Some(issuer)),
            (error(|server| server.resource("api"), issuer), ConfigErrorKind::Resources, Some("api")),
            (error(|server| server.token_lifetime(Duration::ZERO), issuer), ConfigErrorKind::Limits, None),
            (error(|server| server.jwks_path("/token"), issuer), ConfigErrorKind::Endpoints, Some("/token")),
            (error(|server| server.revocation_path("/revoke"), issuer), ConfigErrorKind::Endpoints, None),
        ] {
            assert_eq!((error.kind(), error.value()), (kind, value), "{error}");
        }
        let clients = MemoryStore::try_from([Client::new("billing", ClientSecret::generate().unwrap())]).unwrap();
        let error = AuthorizationServer::builder(issuer, KeyRing::generate().unwrap(), clients).build().unwrap_err();
        assert_eq!((error.kind(), error.value()), (ConfigErrorKind::Client, Some("billing")), "{error}");
        let ConfigError::Client(error) = error else { panic!("{error}") };
        assert_eq!(error.kind(), ClientErrorKind::ServerSettings);
    }

    #[test]
    fn the_error_of_a_setting_shows_its_value_and_the_expected_one_but_no_password() {
        let text = |set: fn(AuthorizationServerBuilder) -> AuthorizationServerBuilder, issuer: &str| {
            let keys = KeyRing::generate().unwrap();
            set(AuthorizationServer::builder(issuer, keys, MemoryStore::default())).build().unwrap_err().to_string()
        };
        let issuer = "https://auth.example.com";
        for (error, expected) in [
            (text(|server| server, "auth.example.com"), "invalid issuer `auth.example.com` (RFC 8414 §2): "),
            (text(|server| server, "https://u:hunter2@h"), "invalid issuer `https://…@h` (RFC 8414 §2): "),
            (
                text(|server| server.public_url("http://h?k=hunter2"), issuer),
                "invalid public URL: invalid issuer `http://h?…`",
            ),
            (
                text(|server| server.resource("api"), issuer),
                "invalid resource or default audience: `api` is not an audience",
            ),
            (
                text(|server| server.default_audience("a\nb"), issuer),
                r"invalid resource or default audience: `a\nb` is not",
            ),
            (
                text(|server| server.token_lifetime(Duration::ZERO), issuer),
                "a token's lifetime must be whole seconds, from 1 second to 365 days, found 0 seconds",
            ),
            (text(|server| server.jwks_path("/token"), issuer), "two endpoints have the path `/token`; give each"),
            (text(|server| server.token_path("token"), issuer), "invalid path `token`: it must begin with a slash"),
        ] {
            assert!(
                error.starts_with(expected) && !error.contains("hunter2"),
                "expected `{expected}…`, found: {error}"
            );
        }
    }
}
