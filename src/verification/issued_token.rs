//! [`IssuedTokens`]: recognises tokens that an authorization server issued, for any audience.

use serde_json::{Map, Value};

use super::claims::Claims;
use super::jws::{Header, Jws, decode};
use super::token_type::is_access_token;
use super::validity_period::in_its_time;
use super::{InvalidToken, VerifyError};
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::issuer::Issuer;
use crate::keys::{KeyRing, NoKey, TrustedKeys, VerifyingKey};
use crate::revocation::Revocations;
use crate::store::Revocation;
use crate::timing::MAX_LEEWAY;

/// The issuer and keys by which an authorization server recognises its tokens.
#[derive(Clone, Debug)]
pub(crate) struct IssuedTokens {
    issuer: Issuer,
    keys: TrustedKeys,
}

/// A token that the server signed. Only [`IssuedTokens::recognise`] creates one. It may have expired or be revoked.
pub(crate) struct IssuedToken {
    claims: Claims,
    payload: Vec<u8>,
    key: VerifyingKey,
}

/// The reason why a text is not an [`IssuedToken`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotIssued {
    /// The server did not sign it.
    Unknown,
    /// The server signed it, but it is not an access token.
    AnotherType,
    /// The server does not know which keys are trusted now.
    CutOff,
}

impl From<InvalidToken> for NotIssued {
    fn from(_: InvalidToken) -> Self {
        Self::Unknown
    }
}

impl IssuedTokens {
    pub(crate) fn new(issuer: Issuer, keys: KeyRing) -> Self {
        Self { issuer, keys: TrustedKeys::Ring(keys) }
    }

    pub(crate) fn recognise(&self, token: &str) -> Result<IssuedToken, NotIssued> {
        let jws = Jws::split(token)?;
        let header = decode(jws.header)?;
        let header = Header::parse(&header)?;
        let key = self.keys.find(&header.kid, &header.alg).map_err(|no_key| match no_key {
            NoKey::CutOff => NotIssued::CutOff,
            _ => NotIssued::Unknown,
        });
        let key = key?.key;
        let payload = jws.verified_payload(&key)?;
        if !is_access_token(&header.typ) {
            return Err(NotIssued::AnotherType);
        }
        let claims = Claims::parse(&payload, &[self.issuer.text()]).ok_or(NotIssued::Unknown)?;
        // Another issuer may sign with the same key.
        if claims.issuer != *self.issuer.text() {
            return Err(NotIssued::Unknown);
        }
        Ok(IssuedToken { claims, payload, key })
    }
}

impl IssuedToken {
    pub(crate) fn client_id(&self) -> &ClientId {
        &self.claims.client_id
    }

    pub(crate) fn id(&self) -> &str {
        &self.claims.token_id
    }

    pub(crate) fn audiences(&self) -> impl Iterator<Item = &str> {
        self.claims.audiences.iter().map(|audience| &**audience)
    }

    /// Returns whether the token's lifetime has begun and not ended. `exp` has no leeway here, since the issuer itself decides.
    pub(crate) fn is_current(&self, now: UnixTime) -> bool {
        now < self.claims.expires_at && in_its_time(&self.claims, now, MAX_LEEWAY).is_ok()
    }

    /// Returns whether a verifier could still accept the token, with the maximum leeway.
    pub(crate) fn is_of_use(&self, now: UnixTime) -> bool {
        now < self.claims.expires_at.after(MAX_LEEWAY)
    }

    pub(crate) fn check(&self, revocations: &Revocations) -> Result<(), VerifyError> {
        Ok(revocations.check(self.claims.named(&self.key), &self.claims.cleared)?)
    }

    /// Returns the revocation that revokes this token.
    pub(crate) fn revocation(&self) -> Revocation {
        let Claims { client_id, issued_at, expires_at, .. } = &self.claims;
        Revocation::token(self.id(), client_id.clone(), issued_at.to_system(), expires_at.to_system())
    }

    /// Returns all claims unchanged.
    ///
    /// Returns an error if a claim cannot be represented, such as a number outside Rust's range. Another program with the same
    /// key can sign such a token.
    pub(crate) fn members(&self) -> Result<Map<String, Value>, serde_json::Error> {
        serde_json::from_slice(&self.payload)
    }
}
