//! The checks that a cached token must pass again at every use, and a new one at its first: issuer, audience, times and
//! revocation.

use std::time::Duration;

use super::{Settings, TrustedIssuer};
use crate::clock::UnixTime;
use crate::keys::{FoundKey, VerifyingKey};
use crate::quoted::quoted;
use crate::revocation::NotCleared;
use crate::verification::claims::Claims;
use crate::verification::validity_period::{in_its_time, out_of_time};
use crate::verification::{InvalidToken, RefusedToken, TokenProfile, VerifyError};

impl TrustedIssuer {
    /// Checks again what can change between two uses of a proof: the trust in the key, and everything in
    /// [`check`](Self::check).
    pub(crate) fn still_good(&self, claims: &Claims, found: &FoundKey) -> Result<(), VerifyError> {
        self.0.keys.still_trust(found).map_err(|no_key| self.without_key(no_key, None))?;
        self.check(claims, &found.key)
    }

    /// Checks all that must hold at every use of a token: at its verification and at each later use of the proof. `key` is the
    /// key that signed it; its [id](VerifyingKey::key_id) is a thumbprint, independent of the issuer's name for it.
    pub(super) fn check(&self, claims: &Claims, key: &VerifyingKey) -> Result<(), VerifyError> {
        let Settings { issuer, audience, clock, leeway, revocations, profile, .. } = &*self.0;
        if claims.issuer != *issuer.text() {
            return Err(claims.of_another_issuer(issuer).into());
        }
        let is_for_us = match profile {
            None => claims.audiences.contains(audience.text()),
            Some(profile) => profile.is_for(audience, claims),
        };
        if !is_for_us {
            return Err(self.for_another_audience(claims).into());
        }
        let now = UnixTime::now(&**clock);
        in_its_time(claims, now, *leeway)
            .map_err(|reason| out_of_time(reason, claims, now, *leeway, "`Verifier::leeway` sets how far it may be"))?;
        let Some(revocations) = revocations else { return Ok(()) };
        revocations.check(claims.named(key), &claims.cleared).map_err(|error| not_cleared(error, claims))
    }

    /// Returns the remaining lifetime of a token with these claims, leeway included.
    pub(crate) fn time_left(&self, claims: &Claims) -> Duration {
        match claims.expires_at.to_system().duration_since(self.now()) {
            Ok(left) => left.saturating_add(self.0.leeway),
            Err(past) => self.0.leeway.saturating_sub(past.duration()),
        }
    }

    #[cold]
    fn for_another_audience(&self, claims: &Claims) -> RefusedToken {
        match &self.0.profile {
            None => TokenProfile::default().for_another_audience(&self.0.audience, claims),
            Some(profile) => profile.for_another_audience(&self.0.audience, claims),
        }
    }
}

/// Names the token in the refusal of a revoked one: it was signed by the issuer, so an operator can look it up.
#[cold]
fn not_cleared(error: NotCleared, claims: &Claims) -> VerifyError {
    if error != NotCleared::Revoked {
        return error.into();
    }
    let (token_id, client_id) = (quoted(&claims.token_id), quoted(&claims.client_id));
    let detail = format!("`jti` is {token_id} and `client_id` is {client_id}");
    RefusedToken::because(InvalidToken::Revoked, detail).into()
}
