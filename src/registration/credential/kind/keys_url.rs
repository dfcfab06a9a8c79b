//! [`KeysUrl`]: the URL at which a client publishes its public keys.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::keys::Algorithm;
use crate::registration::InvalidCredential;
use crate::uri::{self, PlainHttp};

/// The maximum number of URLs of a client whose keys are tried for one assertion. It bounds the work of an invalid one.
pub(crate) const MAX_KEY_URLS: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeysUrl {
    url: Arc<str>,
    algorithm: Option<Algorithm>,
    /// Increases with each refresh. Keys that were fetched for a smaller value are not used.
    refreshed_at: Option<UnixTime>,
}

impl KeysUrl {
    pub(crate) fn new(url: &str) -> Result<Self, InvalidCredential> {
        match uri::secure(url, PlainHttp::Loopback) {
            Ok(_) => Ok(Self { url: url.into(), algorithm: None, refreshed_at: None }),
            Err(why) => Err(InvalidCredential::new(format!("invalid `jwks_uri`: {why}"))),
        }
    }

    pub(crate) fn restricted_to(self, algorithm: Algorithm) -> Self {
        Self { algorithm: Some(algorithm), ..self }
    }

    /// Sets this time, or the second after the last refresh if that is later: two refreshes may have one second, and the clocks
    /// of two operators differ.
    pub(crate) fn refreshed_at(self, time: UnixTime) -> Self {
        let after_last = self.refreshed_at.map(|last| last.after(Duration::from_secs(1)));
        Self { refreshed_at: Some(after_last.map_or(time, |next| next.max(time))), ..self }
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
