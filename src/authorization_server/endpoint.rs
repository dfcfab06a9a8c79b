//! Which paths are ours.

use std::collections::HashSet;

use http::uri::PathAndQuery;

use super::ConfigError;
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

    pub(super) fn or(self, default: Option<String>) -> Option<String> {
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
    pub(super) token: String,
    pub(super) jwks: Option<String>,
    pub(super) metadata: Option<String>,
}

impl Endpoints {
    /// The defaults: below the issuer's path, but for the metadata, whose place RFC 8414 §3.1 prescribes.
    pub(super) fn of(issuer: &Issuer) -> Self {
        let base = issuer.path();
        Self {
            token: format!("{base}/token"),
            jwks: Some(format!("{base}/.well-known/jwks.json")),
            metadata: Some(format!("/.well-known/oauth-authorization-server{base}")),
        }
    }

    pub(super) fn at(&self, path: &str) -> Option<Endpoint> {
        match path {
            _ if path == self.token => Some(Endpoint::Token),
            _ if self.jwks.as_deref() == Some(path) => Some(Endpoint::Jwks),
            _ if self.metadata.as_deref() == Some(path) => Some(Endpoint::Metadata),
            _ => None,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let paths = [Some(&self.token), self.jwks.as_ref(), self.metadata.as_ref()];
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
        Ok(())
    }
}
