//! [`ReusedTokens`]: optionally reuses a token for identical requests.
//!
//! Authentication, policy and the grant hook have run before, for each request.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::grant::Grant;
use super::mint::{AccessToken, Minter, PendingToken};
use crate::authorization_server::error::TokenError;
use crate::clock::UnixTime;
use crate::debug_fields::debug_fields;
use crate::sync::{Flight, SingleFlight, Striped};

/// The number of tokens that are kept, one per slot. Two grants with the same slot evict each other, which costs a
/// signature.
const PLACES: usize = 8_192;

/// The maximum length of a kept token in bytes. It limits all kept tokens to 16 MiB.
const MAX_KEPT_BYTES: usize = 2_048;

/// The most recently issued tokens, by grant.
pub(crate) struct ReusedTokens {
    /// The part of a token's lifetime in which it is reused, in percent.
    percent: u64,
    /// Randomly keyed, so that no one can choose grants with the same slot.
    hasher: RandomState,
    places: Striped<Place, PLACES>,
}

/// The last token of the grants with one hash, and the signature that is in flight for one of them.
#[derive(Default)]
struct Place {
    kept: Mutex<Option<Kept>>,
    in_flight: SingleFlight<Grant, Result<AccessToken, TokenError>>,
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the kept token, if this grant gets it.
    fn reused(&self, minter: &Minter, grant: &Grant) -> Option<AccessToken> {
        let place = self.lock();
        let now = UnixTime::now(&*minter.clock);
        let kept = place.as_ref().filter(|kept| kept.is_reusable(minter, grant, now))?;
        Some(kept.token.reused(now.as_secs() - kept.from.as_secs()))
    }
}

struct Kept {
    grant: Grant,
    token: AccessToken,
    /// The token is reused from this time until before `until`.
    from: UnixTime,
    until: UnixTime,
}

impl ReusedTokens {
    pub(crate) fn new(percent: u8) -> Self {
        Self { percent: percent.into(), hasher: RandomState::new(), places: Striped::default() }
    }

    /// Returns the token that this grant got before, if it gets it again.
    pub(super) fn kept(&self, minter: &Minter, grant: &Grant) -> Option<AccessToken> {
        self.place(grant).reused(minter, grant)
    }

    /// Returns a new token. Of concurrent identical requests, one signs.
    pub(super) fn sign<'a>(&'a self, minter: &'a Minter, grant: &'a Grant) -> PendingToken<'a> {
        Box::pin(self.signed(self.place(grant), minter, grant))
    }

    /// Signs a token, or waits for the one that an identical request signs now.
    async fn signed(&self, place: &Place, minter: &Minter, grant: &Grant) -> Result<AccessToken, TokenError> {
        loop {
            match place.in_flight.start(|| grant.terms(), |other| other.has_the_terms_of(grant)) {
                Flight::Follower(other) => {
                    // Without a result, the other request was cancelled.
                    if let Some(result) = other.result().await {
                        return result;
                    }
                }
                Flight::Occupied => return minter.mint(grant)?.token().await,
                Flight::Leader(mut leader) => {
                    // Another request may have signed between the look into the place and the start.
                    if let Some(token) = place.reused(minter, grant) {
                        leader.finish(Ok(token.reused(0)));
                        return Ok(token);
                    }
                    let now = UnixTime::now(&*minter.clock);
                    let signed = match minter.mint(grant) {
                        Ok(new) => new.token().await,
                        Err(error) => Err(error),
                    };
                    if let Ok(token) = &signed {
                        let fits = token.as_str().len() <= MAX_KEPT_BYTES;
                        *place.lock() = fits.then(|| Kept::new(grant, token, now, self.percent));
                    }
                    leader.finish(signed.as_ref().map(|token| token.reused(0)).map_err(Clone::clone));
                    return signed;
                }
            }
        }
    }

    /// Returns whether there is a kept token that this grant gets.
    pub(super) fn has_token(&self, minter: &Minter, grant: &Grant) -> bool {
        let place = self.place(grant).lock();
        place.as_ref().is_some_and(|kept| kept.is_reusable(minter, grant, UnixTime::now(&*minter.clock)))
    }

    fn place(&self, grant: &Grant) -> &Place {
        self.places.select(self.hasher.hash_one((grant.client().id(), grant.scopes(), grant.audiences())))
    }
}

impl Kept {
    fn new(grant: &Grant, token: &AccessToken, now: UnixTime, percent: u64) -> Self {
        let until = now.after(Duration::from_secs(token.expires_in() * percent / 100));
        Self { grant: grant.terms(), token: token.reused(0), from: now, until }
    }

    /// Returns whether the token can be reused for this grant. It cannot if it is revoked, or if the revocations are
    /// unavailable.
    fn is_reusable(&self, minter: &Minter, grant: &Grant, now: UnixTime) -> bool {
        self.is_due(grant, now) && minter.is_valid(&self.token, grant.client().id())
    }

    /// Returns whether the time and the terms of the grant allow reusing the token. If the clock was set back, they do
    /// not.
    fn is_due(&self, grant: &Grant, now: UnixTime) -> bool {
        self.from <= now && now < self.until && self.grant.has_the_terms_of(grant)
    }
}

debug_fields!(ReusedTokens { percent });
