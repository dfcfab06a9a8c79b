//! [`KeysUrl`]: the URL at which a client publishes its public keys.

use std::sync::Arc;

use super::InvalidCredential;
use crate::clock::UnixTime;
use crate::keys::Algorithm;
use crate::uri::{self, PlainHttp};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeysUrl {
    url: Arc<str>,
    algorithm: Option<Algorithm>,
    /// Keys that were fetched before are not used.
    refreshed_at: Option<UnixTime>,
}

impl KeysUrl {
    pub(super) fn new(url: &str) -> Result<Self, InvalidCredential> {
        match uri::secure(url, PlainHttp::Loopback) {
            Ok(_) => Ok(Self { url: url.into(), algorithm: None, refreshed_at: None }),
            Err(why) => Err(InvalidCredential::new(format!("invalid `jwks_uri`: {why}"))),
        }
    }

    pub(super) fn restricted_to(self, algorithm: Algorithm) -> Self {
        Self { algorithm: Some(algorithm), ..self }
    }

    pub(super) fn refreshed_at(self, time: UnixTime) -> Self {
        Self { refreshed_at: Some(time), ..self }
    }

    pub(crate) fn url(&self) -> &Arc<str> {
        &self.url
    }

    pub(crate) fn algorithm(&self) -> Option<Algorithm> {
        self.algorithm
    }

    pub(crate) fn refreshed(&self) -> Option<UnixTime> {
        self.refreshed_at
    }
}
