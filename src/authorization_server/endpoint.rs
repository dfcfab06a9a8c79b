//! [`Endpoints`]: the endpoints of the server and their paths.

use std::collections::HashSet;

use http::uri::PathAndQuery;

use super::config_error::ConfigError;
use crate::issuer::Issuer;

/// The endpoints of an authorization server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// RFC 6749 §3.2.
    Token,
    /// RFC 6749 §3.1.
    Authorization,
    /// RFC 7009 §2.
    Revocation,
    /// RFC 7662 §2.
    Introspection,
    /// The key set, RFC 7517 §5.
    Jwks,
    /// RFC 8414 §3.
    Metadata,
}

/// The path of an endpoint that can be turned off.
#[derive(Clone, Debug, Default)]
pub(super) enum PathSetting {
    #[default]
    Default,
    At(String),
    Off,
}

impl PathSetting {
    pub(super) fn new(path: Option<&str>) -> Self {
        path.map_or(Self::Off, |path| Self::At(path.to_owned()))
    }

    fn or(self, default: Option<String>) -> Option<String> {
        match self {
            Self::Default => default,
            Self::At(path) => Some(path),
            Self::Off => None,
        }
    }
}

/// The path of each endpoint.
#[derive(Clone, Debug)]
pub(super) struct Endpoints {
    pub(super) token: Option<String>,
    pub(super) authorization: Option<String>,
    pub(super) revocation: Option<String>,
    pub(super) introspection: Option<String>,
    pub(super) jwks: Option<String>,
    pub(super) metadata: Option<String>,
}

/// The path settings of the builder.
#[derive(Debug, Default)]
pub(super) struct PathSettings {
    pub(super) token: PathSetting,
    pub(super) authorization: PathSetting,
    pub(super) revocation: PathSetting,
    pub(super) introspection: PathSetting,
    pub(super) jwks: PathSetting,
    pub(super) metadata: PathSetting,
    /// Whether a proxy removes the issuer's path before requests arrive.
    pub(super) stripped: bool,
}

impl Endpoints {
    /// Creates the paths. By default they are below the issuer's path, except for the metadata, whose path RFC 8414
    /// §3.1 defines. If nothing is `revocable`, revocation and introspection have no default. The authorization
    /// endpoint never has a default, since no request to it can succeed.
    pub(super) fn new(issuer: &Issuer, settings: PathSettings, revocable: bool) -> Result<Self, ConfigError> {
        let base = issuer.path();
        if settings.stripped && base.is_empty() {
            return Err(ConfigError::NoIssuerPath(issuer.clone()));
        }
        let arrives_below = if settings.stripped { "" } else { base };
        let below = |path: &str| Some(format!("{arrives_below}{path}"));
        let endpoints = Self {
            token: settings.token.or(below("/token")),
            authorization: settings.authorization.or(None),
            revocation: settings.revocation.or(below("/revoke").filter(|_| revocable)),
            introspection: settings.introspection.or(below("/introspect").filter(|_| revocable)),
            jwks: settings.jwks.or(below("/.well-known/jwks.json")),
            metadata: settings.metadata.or(Some(format!("/.well-known/oauth-authorization-server{base}"))),
        };
        if endpoints.revocation.is_some() && !revocable {
            return Err(ConfigError::NoRevocations);
        }
        endpoints.checked()
    }

    pub(super) fn at(&self, path: &str) -> Option<Endpoint> {
        match path {
            _ if self.token.as_deref() == Some(path) => Some(Endpoint::Token),
            _ if self.introspection.as_deref() == Some(path) => Some(Endpoint::Introspection),
            _ if self.revocation.as_deref() == Some(path) => Some(Endpoint::Revocation),
            _ if self.jwks.as_deref() == Some(path) => Some(Endpoint::Jwks),
            _ if self.metadata.as_deref() == Some(path) => Some(Endpoint::Metadata),
            _ if self.authorization.as_deref() == Some(path) => Some(Endpoint::Authorization),
            _ => None,
        }
    }

    fn checked(self) -> Result<Self, ConfigError> {
        let paths =
            [&self.token, &self.authorization, &self.revocation, &self.introspection, &self.jwks, &self.metadata];
        let mut seen = HashSet::new();
        for path in paths.into_iter().flatten() {
            let as_received = path.parse::<PathAndQuery>().is_ok_and(|uri| uri.path() == path.as_str());
            if !path.starts_with('/') || !as_received {
                return Err(ConfigError::Path(path.clone()));
            }
            if !seen.insert(path) {
                return Err(ConfigError::PathTwice(path.clone()));
            }
        }
        Ok(self)
    }
}
