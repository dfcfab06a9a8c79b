//! Which paths are ours.

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

/// The path of each endpoint.
#[derive(Clone, Debug)]
pub(super) struct Endpoints {
    pub(super) token: String,
    pub(super) jwks: String,
    pub(super) metadata: String,
}

impl Endpoints {
    /// The defaults: below the issuer's path, but for the metadata, whose place RFC 8414 §3.1 prescribes.
    pub(super) fn of(issuer: &Issuer) -> Self {
        let base = issuer.path();
        Self {
            token: format!("{base}/token"),
            jwks: format!("{base}/.well-known/jwks.json"),
            metadata: format!("/.well-known/oauth-authorization-server{base}"),
        }
    }

    pub(super) fn at(&self, path: &str) -> Option<Endpoint> {
        match path {
            _ if path == self.token => Some(Endpoint::Token),
            _ if path == self.jwks => Some(Endpoint::Jwks),
            _ if path == self.metadata => Some(Endpoint::Metadata),
            _ => None,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for path in [&self.token, &self.jwks, &self.metadata] {
            let as_received = path.parse::<http::uri::PathAndQuery>().is_ok_and(|uri| uri.path() == path);
            if !path.starts_with('/') || !as_received {
                return Err(ConfigError::Path(path.clone()));
            }
        }
        if self.token == self.jwks || self.token == self.metadata || self.jwks == self.metadata {
            return Err(ConfigError::PathTwice);
        }
        Ok(())
    }
}
