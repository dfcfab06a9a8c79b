//! The decision about a request with an API key: whether it has one, and whether the key may be used.

use std::any::Any;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName};

use super::api_keys::{ApiKeys, Inner};
use super::identity::ApiKeyIdentity;
use super::key::Key;
use crate::client_id::ClientId;
use crate::crypto::sha256;
use crate::metrics;
use crate::resource_server::authorization_scheme::BearerToken;
use crate::resource_server::error::BearerError;
use crate::resource_server::policy::{Forbidden, PolicyError, RequestHead};
use crate::revocation::{Revocations, RevokedClients};
use crate::verification::{Verifier, VerifyError};

/// The maximum length of an API key: that of a secret, so that every key of which a [`ClientSecret`](crate::ClientSecret) can
/// be made is accepted. A longer text is a token, and is not looked up.
const LONGEST: usize = crate::secret::LONGEST;

/// What a request presents as an API key.
pub(crate) enum Presented {
    /// Nothing that can be a key.
    Nothing,
    /// One of the keys.
    Known(Arc<Key>),
    /// A key that is not known. Behind `Bearer` it may be a token.
    Unknown,
    /// Several keys, or a key and a token.
    Several,
}

impl ApiKeys {
    /// Creates the proof of a key of this set. `guard` is the layer that admits its request.
    pub(crate) fn prove(&self, key: Arc<Key>, guard: Arc<dyn Any + Send + Sync>) -> ApiKeyIdentity {
        ApiKeyIdentity::new(key, self.0.clone(), guard)
    }

    /// Returns the key of a proof that this set created.
    pub(crate) fn key_of(&self, identity: &ApiKeyIdentity) -> Option<Arc<Key>> {
        let is_own = std::ptr::addr_eq(Arc::as_ptr(identity.set()), Arc::as_ptr(&self.0));
        is_own.then(|| identity.key().clone())
    }

    /// Returns the header of the key, or `None` if it is behind `Bearer`.
    pub(crate) fn own_header(&self) -> Option<&HeaderName> {
        self.0.header.as_ref()
    }

    /// Looks up the key of a request.
    pub(crate) fn find(&self, headers: &HeaderMap) -> Presented {
        let bearer = BearerToken::read(headers);
        let Some(name) = &self.0.header else {
            return match bearer {
                Ok(bearer) => self.look_up(bearer.as_bytes()),
                Err(_) => Presented::Nothing,
            };
        };
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next(), bearer) {
            (None, ..) => Presented::Nothing,
            (Some(value), None, Err(BearerError::NoCredentials)) => match self.look_up(value.as_bytes()) {
                Presented::Nothing => Presented::Unknown,
                found => found,
            },
            _ => Presented::Several,
        }
    }

    /// Returns whether a value is a key or looks like one, so that it must not leave this process.
    pub(crate) fn is_like_a_key(&self, text: &[u8]) -> bool {
        let has_prefix = self.0.prefixes.iter().any(|prefix| text.starts_with(prefix.as_bytes()));
        let is_format = || match std::str::from_utf8(text) {
            Ok(text) => self.0.formats.iter().any(|is_key| is_key(text)),
            Err(_) => false,
        };
        has_prefix || (!self.0.formats.is_empty() && is_format()) || matches!(self.look_up(text), Presented::Known(_))
    }

    /// Returns whether a wrong key can be told from an opaque token: by its header, or by a setting of its form.
    #[cfg(feature = "remote")]
    pub(crate) fn is_told_from_a_token(&self) -> bool {
        self.0.header.is_some() || self.0.prefixes.len() > 1 || !self.0.formats.is_empty()
    }

    fn look_up(&self, text: &[u8]) -> Presented {
        if text.is_empty() || text.len() > LONGEST {
            return Presented::Nothing;
        }
        // The time of a look-up by the digest reveals nothing about the digests of the set: a caller cannot choose a digest.
        self.0.by_digest.get(&sha256(text)).cloned().map_or(Presented::Unknown, Presented::Known)
    }

    /// Counts a wrong key, and returns its refusal.
    pub(crate) fn wrong(&self, error: BearerError, request: RequestHead<'_>, now: SystemTime) -> BearerError {
        let peer = self.0.peer.as_ref().and_then(|address| address(request));
        match self.0.wrong.count(peer, self.0.limit, now) {
            Ok(()) => error,
            Err(retry_after_seconds) => BearerError::TooManyAttempts { retry_after_seconds },
        }
    }

    /// Checks the date of a known key, and counts its use.
    pub(crate) fn check_date(&self, key: &Key, now: SystemTime) -> Result<(), BearerError> {
        key.client.count(now);
        if now < self.0.end {
            return Ok(());
        }
        let end = self.0.end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Err(BearerError::ApiKeysEnded { client_id: key.client_id().clone(), end })
    }

    /// Refuses a key if the tokens of its client are revoked, or if that is unknown.
    pub(crate) fn check_revoked(key: &Key, verifier: &Verifier) -> Result<(), BearerError> {
        // Checked before the flag: a poll that ends in between does not make the flag more recent.
        let ready = verifier.revoked().try_for_each(Revocations::check_ready);
        if key.client.is_revoked() {
            return Err(BearerError::ApiKeyRevoked { client_id: key.client_id().clone() });
        }
        ready.map_err(|error| VerifyError::from(error).into())
    }

    /// Creates the counter of each client, so that an alert on an increase notices its first request.
    pub(crate) fn expect_requests(&self) {
        self.0.clients.keys().for_each(|client| metrics::expect_api_key_requests(client.as_str()));
    }

    /// Refuses the keys of clients whose tokens are revoked, now and from now on.
    pub(crate) fn follow(&self, revocations: &Revocations) {
        let watcher: Arc<dyn RevokedClients> = self.0.clone();
        // Before the look at the view, so that no revocation is missed.
        revocations.watch(&watcher);
        for (id, client) in &self.0.clients {
            if revocations.revokes_client(id) {
                client.revoke();
            }
        }
    }

    /// Asks the policies. `has_others` says whether the layer has policies for tokens, which cannot judge a key.
    pub(crate) fn judge(
        &self,
        identity: &ApiKeyIdentity,
        request: RequestHead<'_>,
        has_others: bool,
    ) -> Result<(), BearerError> {
        if has_others && self.0.policies.is_empty() {
            let reason =
                "the policy of the route judges tokens only, and the caller has an API key; set ApiKeys::policy";
            return Err(refused(identity, Forbidden::new(reason).into()));
        }
        let refused = |error| refused(identity, error);
        self.0.policies.iter().try_for_each(|policy| policy(identity, request).map_err(refused))
    }
}

impl RevokedClients for Inner {
    fn revoked(&self, client_id: &ClientId) {
        self.clients.get(client_id).into_iter().for_each(|client| client.revoke());
    }
}

fn refused(identity: &ApiKeyIdentity, error: PolicyError) -> BearerError {
    let (client_id, granted) = (identity.client_id().clone(), identity.scopes().clone());
    match error {
        PolicyError::Unavailable(unavailable) => unavailable.into(),
        PolicyError::Refused(forbidden) => match forbidden.into_parts() {
            (_, Some(required)) => BearerError::InsufficientScope { client_id, granted, required },
            (reason, None) => BearerError::Forbidden { client_id, reason },
        },
    }
}
