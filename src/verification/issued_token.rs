//! [`IssuedTokens`]: an authorization server reads a token that it issued, whoever it is for.

use serde_json::{Map, Value};

use super::claims::Claims;
use super::jws::{Header, Jws, decode, is_access_token};
use super::trusted_issuer::in_its_time;
use super::{InvalidToken, VerifyError};
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::issuer::Issuer;
use crate::keys::{KeyRing, TrustedKeys, VerifyingKey};
use crate::revocation::Revocations;
use crate::store::Revocation;
use crate::timing::MAX_LEEWAY;

/// What an authorization server knows its tokens by.
#[derive(Clone, Debug)]
pub(crate) struct IssuedTokens {
    issuer: Issuer,
    keys: TrustedKeys,
}

/// A token that the server signed; only [`IssuedTokens::recognise`] makes one. It may have expired, or be revoked.
pub(crate) struct IssuedToken {
    claims: Claims,
    payload: Vec<u8>,
    key: VerifyingKey,
}

/// Why a text is no [`IssuedToken`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotIssued {
    /// Nothing that the server signed.
    Unknown,
    /// The server signed it, and it is no access token.
    AnotherType,
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
        let key = self.keys.find(&header.kid, &header.alg).map_err(|_| NotIssued::Unknown)?.key;
        let payload = jws.verified_payload(&key)?;
        if !is_access_token(&header.typ) {
            return Err(NotIssued::AnotherType);
        }
        let claims = Claims::parse(&payload, &[self.issuer.text()]).ok_or(NotIssued::Unknown)?;
        // A key may be shared with somebody who issues under another name.
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

    /// Whether it has begun, and not expired: by the second where who decides is who issued it.
    pub(crate) fn is_current(&self, now: UnixTime) -> bool {
        now < self.claims.expires_at && in_its_time(&self.claims, now, MAX_LEEWAY).is_ok()
    }

    /// Whether a verifier could take it for good still.
    pub(crate) fn is_of_use(&self, now: UnixTime) -> bool {
        now < self.claims.expires_at.after(MAX_LEEWAY)
    }

    pub(crate) fn check(&self, revocations: &Revocations) -> Result<(), VerifyError> {
        Ok(revocations.check(self.claims.named(&self.key), &self.claims.cleared)?)
    }

    /// What revokes it.
    pub(crate) fn revocation(&self) -> Revocation {
        let Claims { client_id, issued_at, expires_at, .. } = &self.claims;
        Revocation::token(self.id(), client_id.clone(), issued_at.to_system(), expires_at.to_system())
    }

    /// Returns all of its claims as they came.
    ///
    /// An error when a claim that we do not read cannot be held, such as a number beyond those of JSON in Rust. Another
    /// program with the same key can sign such a token.
    pub(crate) fn members(&self) -> Result<Map<String, Value>, serde_json::Error> {
        serde_json::from_slice(&self.payload)
    }
}
