//! [`ClientEntry`]: the revocations of one client.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::client_id::ClientId;
use crate::clock::{Moment, UnixTime};
use crate::revocation::clock_set_back::ClockSetBack;
use crate::revocation::token_date::{Cutoff, Date, Mark, Wait, date_after};
use crate::store::Revocation;

/// The revocations of one client. Times are seconds since 1970.
#[derive(Debug, Default)]
pub(super) struct ClientEntry {
    pub(super) until: Option<Until>,
    /// Exempts tokens from `until` after the wall clock was set back.
    pub(super) set_back: Option<Box<ClockSetBack>>,
    /// The revoked tokens that `until` does not cover, by `jti`.
    pub(super) tokens: HashMap<Box<str>, TokenEntry>,
    /// Whether the client reached the limit of tokens. Further tokens are then revoked by their date.
    pub(super) too_many: bool,
    /// The number of revocations added since the last purge.
    pub(super) added: usize,
}

/// `too_many` ends for a client with fewer revocations than this between two purges.
const FEW: usize = 10;

/// The maximum number of tokens of a client, expired ones included, as a multiple of the limit. It does not depend on the clock.
const MAX_EXPIRED: usize = 10;

/// The revocation of all tokens issued up to a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until {
    pub(super) issued_at: u64,
    pub(super) expires_at: u64,
    /// When the view first learned of this second, corrected for a wall clock that was set back since the previous one.
    pub(super) learned: Moment,
    /// Whether it only replaces the entries of many revoked tokens.
    pub(super) replaces_tokens: bool,
}

/// A revoked token.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenEntry {
    pub(super) issued_at: u64,
    pub(super) expires_at: u64,
}

impl ClientEntry {
    pub(super) fn len(&self) -> usize {
        self.tokens.len() + usize::from(self.until.is_some())
    }

    pub(super) fn entries<'a>(&'a self, client_id: &'a ClientId) -> impl Iterator<Item = Revocation> + 'a {
        let until = self.until.map(|Until { issued_at, expires_at, replaces_tokens, .. }| Revocation::Client {
            client_id: client_id.clone(),
            issued_until: issued_at,
            expires_at,
            replaces_tokens,
        });
        let tokens = self.tokens.iter().map(|(token_id, TokenEntry { issued_at, expires_at })| Revocation::Token {
            token_id: token_id.to_string(),
            client_id: client_id.clone(),
            issued_at: *issued_at,
            expires_at: *expires_at,
        });
        until.into_iter().chain(tokens)
    }

    /// Returns whether all tokens of the client are revoked for another reason than that many were revoked one by one.
    pub(super) fn is_revoked_itself(&self) -> bool {
        self.until.is_some_and(|until| !until.replaces_tokens)
    }

    pub(super) fn revokes(&self, token_id: &str, issued_at: u64) -> bool {
        self.is_revoked_by_date(token_id, issued_at) || self.tokens.contains_key(token_id)
    }

    /// Returns whether a token is revoked because of its date.
    fn is_revoked_by_date(&self, token_id: &str, issued_at: u64) -> bool {
        self.until.is_some_and(|until| issued_at <= until.issued_at)
            && !exempts(self.set_back.as_deref(), token_id, issued_at)
    }

    pub(super) fn holds_token(&self, token_id: &str, issued_at: u64, expires_at: u64) -> bool {
        self.is_revoked_by_date(token_id, issued_at) && self.until.is_some_and(|until| until.expires_at >= expires_at)
            || self.tokens.get(token_id).is_some_and(|token| token.expires_at >= expires_at)
    }

    pub(super) fn holds_until(&self, issued_at: u64, expires_at: u64, now: Moment) -> bool {
        let is_covered = |until: Until| match issued_at.cmp(&until.issued_at) {
            Ordering::Greater => false,
            Ordering::Equal => true,
            Ordering::Less => self.set_back.as_ref().is_some_and(|set_back| set_back.holds(issued_at, now)),
        };
        self.until.is_some_and(|until| until.expires_at >= expires_at && is_covered(until))
    }

    pub(super) fn date(&mut self, now: Moment, fresh: Mark) -> Result<Date, Wait> {
        let wall = UnixTime::at(now.wall);
        let Some(Until { issued_at, learned, .. }) = self.until else { return Ok(Date::usual(wall)) };
        let cutoff = Cutoff { second: issued_at, learned };
        date_after(cutoff, wall).or_else(|_| self.set_back.get_or_insert_default().date(cutoff, now, fresh))
    }

    pub(super) fn add_token(&mut self, token_id: &str, token: TokenEntry, max: usize, learned: Moment) {
        match self.tokens.entry(token_id.into()) {
            Entry::Occupied(mut known) => known.get_mut().expires_at = token.expires_at.max(known.get().expires_at),
            Entry::Vacant(place) => drop(place.insert(token)),
        }
        self.added = self.added.saturating_add(1);
        if self.tokens.len() < max {
            return;
        }
        // Expired tokens that were not purged yet do not count. The client's other tokens must not be revoked because of them.
        let now = UnixTime::at(learned.wall).as_secs();
        let valid = self.tokens.values().filter(|token| token.expires_at > now).count();
        self.too_many |= valid >= max;
        if valid > max || self.tokens.len() > max.saturating_mul(MAX_EXPIRED) {
            self.collapse(learned);
        }
    }

    /// Replaces the tokens by one entry for all tokens issued up to the most recent of them. All replicas read the same tokens
    /// from the feed, so they agree on that second.
    fn collapse(&mut self, learned: Moment) {
        let last = |time: fn(&TokenEntry) -> u64| self.tokens.values().map(time).max().unwrap_or_default();
        let (issued_at, expires_at) = (last(|token| token.issued_at), last(|token| token.expires_at));
        self.add_until(Until { issued_at, expires_at, learned, replaces_tokens: true });
    }

    /// Joins `until` with the present one: the later second, and the later expiry.
    pub(super) fn add_until(&mut self, until: Until) {
        self.added = self.added.saturating_add(1);
        let known = self.until.unwrap_or(until);
        let is_later = until.issued_at > known.issued_at;
        let joined = Until {
            issued_at: known.issued_at.max(until.issued_at),
            expires_at: known.expires_at.max(until.expires_at),
            learned: if is_later { until.learned.not_before(known.learned) } else { known.learned },
            replaces_tokens: known.replaces_tokens && until.replaces_tokens,
        };
        self.until = Some(joined);
        if is_later {
            self.set_back = None;
        } else if until.issued_at < known.issued_at {
            self.set_back.get_or_insert_default().add(Cutoff { second: until.issued_at, learned: until.learned });
        }
        let set_back = self.set_back.as_deref();
        self.tokens.retain(|id, token| {
            token.issued_at > joined.issued_at
                || token.expires_at > joined.expires_at
                || exempts(set_back, id, token.issued_at)
        });
    }

    pub(super) fn purge(&mut self, now: u64) {
        self.until = self.until.filter(|until| until.expires_at > now);
        self.set_back = self.set_back.take().filter(|_| self.until.is_some());
        self.tokens.retain(|_, token| token.expires_at > now);
        self.too_many &= std::mem::take(&mut self.added) >= FEW;
    }
}

fn exempts(set_back: Option<&ClockSetBack>, token_id: &str, issued_at: u64) -> bool {
    set_back.is_some_and(|set_back| set_back.exempts(token_id, issued_at))
}
