//! [`ReusedTokens`]: by option, who asks again for the same gets the same token.
//!
//! The mechanism alone: authentication, policy and hook have run before, each time.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::grant::Grant;
use super::mint::{AccessToken, Minter};
use crate::authorization_server::error::TokenError;
use crate::clock::UnixTime;
use crate::sync::Striped;

/// How many tokens are kept: one a place. Two grants that meet in one drive each other out, and cost a signature.
const PLACES: usize = 8_192;

/// A longer token is not kept, in bytes, so that all of them together are bounded: at 16 MiB.
const LONGEST_KEPT: usize = 2_048;

/// Tokens that were issued lately, by what was granted.
pub(in crate::authorization_server) struct ReusedTokens {
    /// Of a token's life, for how much of it it is given out again.
    percent: u64,
    /// Keyed at random, so that nobody can choose grants that meet in one place.
    hasher: RandomState,
    places: Striped<Mutex<Option<Kept>>, PLACES>,
}

struct Kept {
    grant: Grant,
    token: AccessToken,
    /// From here, to before there, it is given out again.
    from: UnixTime,
    until: UnixTime,
}

impl ReusedTokens {
    pub(in crate::authorization_server) fn new(percent: u8) -> Self {
        Self { percent: percent.into(), hasher: RandomState::new(), places: Striped::default() }
    }

    /// The token that this grant got before, or a new one.
    pub(super) fn token(&self, minter: &Minter, grant: &Grant) -> Result<AccessToken, TokenError> {
        // Locked while the token is signed: of those who ask for the same at once, one signs, and the others would have
        // taken as long themselves.
        let mut place = self.place(grant).lock().unwrap_or_else(PoisonError::into_inner);
        let now = UnixTime::now(&*minter.clock);
        if let Some(kept) = place.as_ref().filter(|kept| kept.is_good(minter, grant, now)) {
            return Ok(kept.token.again(now.as_secs() - kept.from.as_secs()));
        }
        let token = minter.mint(grant)?;
        *place = (token.as_str().len() <= LONGEST_KEPT).then(|| Kept::new(grant, &token, now, self.percent));
        Ok(token)
    }

    /// Returns whether a token is kept that this grant gets again.
    pub(super) fn has_token(&self, minter: &Minter, grant: &Grant) -> bool {
        let place = self.place(grant).lock().unwrap_or_else(PoisonError::into_inner);
        place.as_ref().is_some_and(|kept| kept.is_good(minter, grant, UnixTime::now(&*minter.clock)))
    }

    fn place(&self, grant: &Grant) -> &Mutex<Option<Kept>> {
        self.places.of(self.hasher.hash_one((grant.client().id(), grant.scopes(), grant.audiences())))
    }
}

impl Kept {
    fn new(grant: &Grant, token: &AccessToken, now: UnixTime, percent: u64) -> Self {
        let until = now.after(Duration::from_secs(token.expires_in() * percent / 100));
        Self { grant: grant.terms(), token: token.again(0), from: now, until }
    }

    /// Returns whether the token may be given out again for this grant. A token that was revoked, or for which the
    /// revocations cannot tell, is not.
    fn is_good(&self, minter: &Minter, grant: &Grant, now: UnixTime) -> bool {
        self.is_due(grant, now) && minter.stands_by(&self.token, grant.client().id())
    }

    /// A clock that was set back is no reason to give out a token for longer.
    fn is_due(&self, grant: &Grant, now: UnixTime) -> bool {
        self.from <= now && now < self.until && self.grant.has_the_terms_of(grant)
    }
}

impl fmt::Debug for ReusedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReusedTokens").field("percent", &self.percent).finish_non_exhaustive()
    }
}
