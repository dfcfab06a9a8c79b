//! Which paths are ours.

use std::collections::HashSet;

use http::uri::PathAndQuery;

use super::config_error::ConfigError;
use crate::issuer::Issuer;

/// The endpoints of an authorization server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// RFC 6749 §3.2.
    Token,
    /// The key set, RFC 7517 §5.
    Jwks,
    /// RFC 8414 §3.
    Metadata,
}

/// Where an endpoint that can be turned off is put.
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
    pub(super) jwks: Option<String>,
    pub(super) metadata: Option<String>,
}

impl Endpoints {
    /// The defaults: below the issuer's path, but for the metadata, whose place RFC 8414 §3.1 prescribes.
    pub(super) fn of(issuer: &Issuer) -> Self {
        let base = issuer.path();
        Self {
            token: Some(format!("{base}/token")),
            jwks: Some(format!("{base}/.well-known/jwks.json")),
            metadata: Some(format!("/.well-known/oauth-authorization-server{base}")),
        }
    }

    pub(super) fn moved_to(
        self,
        token: PathSetting,
        jwks: PathSetting,
        metadata: PathSetting,
    ) -> Result<Self, ConfigError> {
        let moved =
            Self { token: token.or(self.token), jwks: jwks.or(self.jwks), metadata: metadata.or(self.metadata) };
        moved.checked()
    }

    pub(super) fn at(&self, path: &str) -> Option<Endpoint> {
        match path {
            _ if self.token.as_deref() == Some(path) => Some(Endpoint::Token),
            _ if self.jwks.as_deref() == Some(path) => Some(Endpoint::Jwks),
            _ if self.metadata.as_deref() == Some(path) => Some(Endpoint::Metadata),
            _ => None,
        }
    }

    fn checked(self) -> Result<Self, ConfigError> {
        let paths = [&self.token, &self.jwks, &self.metadata];
        let mut seen = HashSet::new();
        for path in paths.into_iter().flatten() {
            let as_received = path.parse::<PathAndQuery>().is_ok_and(|uri| uri.path() == path.as_str());
            if !path.starts_with('/') || !as_received {
                return Err(ConfigError::Path(path.clone()));
            }
            if !seen.insert(path) {
                return Err(ConfigError::PathTwice);
            }
        }
        Ok(self)
    }
}
