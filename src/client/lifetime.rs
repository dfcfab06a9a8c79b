//! [`Lifetime`]: until when a token is reused, and until when it may be sent.

use std::time::{Duration, SystemTime};

use crate::clock::{Moment, later};

/// A token is refreshed once this much of its life has passed, less the jitter.
const REFRESH_AT: f64 = 0.8;

/// By how much of that time the jitter can bring the refresh forward, so that replicas that started together do not ask
/// together.
const JITTER: f64 = 0.1;

/// A token with less left than this is not reused: each caller that needs a token waits for a new one.
const MIN_REUSED: Duration = Duration::from_secs(1);

/// The margin takes at most this share of a life, so that a token that lives for 10 s can be used.
const MAX_MARGIN_SHARE: u32 = 10;

/// The longest life that is believed: a sum with a larger one may have no date.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3_600);

/// The times of one token, counted from the moment at which it was requested. The issuer made it later than that, so that it
/// lives no shorter than is counted here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime {
    requested: Moment,
    /// When a new token is due.
    refresh: Duration,
    /// Until when the token is given to callers that did not wait for it.
    reused: Duration,
    /// Until when it may be sent; `None` if the issuer did not say how long it lives.
    sent: Option<Duration>,
    life: Option<Duration>,
}

impl Lifetime {
    /// `random` is from 0 to 1.
    pub(super) fn new(requested: Moment, life: Duration, margin: Duration, random: f64) -> Self {
        let life = life.min(LONGEST);
        let margin = margin.min(life / MAX_MARGIN_SHARE);
        let reused = life.saturating_sub(margin.max(MIN_REUSED));
        let refresh = life.mul_f64(REFRESH_AT * (1.0 - JITTER * random)).min(reused);
        Self { requested, refresh, reused, sent: Some(life.saturating_sub(margin)), life: Some(life) }
    }

    /// A token of unknown life is given only to the callers that waited for it.
    pub(super) fn unknown(requested: Moment) -> Self {
        Self { requested, refresh: Duration::ZERO, reused: Duration::ZERO, sent: None, life: None }
    }

    pub(super) fn is_fresh(&self, now: Moment) -> bool {
        now.since(self.requested) < self.refresh
    }

    pub(super) fn is_reusable(&self, now: Moment) -> bool {
        now.since(self.requested) < self.reused
    }

    pub(super) fn may_be_sent(&self, now: Moment) -> bool {
        self.sent.is_none_or(|sent| now.since(self.requested) < sent)
    }

    pub(super) fn age(&self, now: Moment) -> Duration {
        now.since(self.requested)
    }

    /// Returns how long it is until a new token is due.
    pub(super) fn until_refresh(&self, now: Moment) -> Duration {
        self.refresh.saturating_sub(now.since(self.requested))
    }

    pub(super) fn expires_at(self) -> Option<SystemTime> {
        Some(later(self.requested.wall, self.life?))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use tokio::time::Instant;

    use super::Lifetime;
    use crate::clock::Moment;

    const MARGIN: Duration = Duration::from_secs(5);

    fn moments() -> impl Fn(f64) -> Moment {
        let (wall, monotonic) = (SystemTime::UNIX_EPOCH, Instant::now());
        move |seconds| {
            let later = Duration::from_secs_f64(seconds);
            Moment { wall: wall + later, monotonic: monotonic + later }
        }
    }

    #[test]
    fn a_token_is_refreshed_at_72_to_80_percent_and_sent_until_the_margin() {
        let at = moments();
        let token = |random| Lifetime::new(at(0.0), Duration::from_secs(600), MARGIN, random);
        assert!(token(1.0).is_fresh(at(431.9)) && !token(1.0).is_fresh(at(432.1)));
        assert!(token(0.0).is_fresh(at(479.9)) && !token(0.0).is_fresh(at(480.1)));
        assert!(token(0.0).is_reusable(at(594.9)) && !token(0.0).is_reusable(at(595.0)));
        assert!(token(0.0).may_be_sent(at(594.9)) && !token(0.0).may_be_sent(at(595.0)));
    }

    #[test]
    fn a_short_life_keeps_most_of_itself_and_its_last_second_is_for_those_who_wait() {
        let at = moments();
        let token = |life| Lifetime::new(at(0.0), Duration::from_secs_f64(life), MARGIN, 0.0);
        assert!(token(10.0).is_reusable(at(8.9)) && !token(10.0).is_reusable(at(9.0)));
        assert!(
            !token(1.0).is_reusable(at(0.0)) && token(1.0).may_be_sent(at(0.8)) && !token(1.0).may_be_sent(at(0.91))
        );
        assert!(!token(0.0).may_be_sent(at(0.0)));
    }

    #[test]
    fn a_token_of_unknown_life_may_be_sent_and_is_not_reused() {
        let at = moments();
        let token = Lifetime::unknown(at(0.0));
        assert!(!token.is_fresh(at(0.0)) && !token.is_reusable(at(0.0)) && token.may_be_sent(at(0.5)));
        assert_eq!(token.expires_at(), None);
    }

    #[test]
    fn an_endless_life_is_one_year() {
        let at = moments();
        let token = Lifetime::new(at(0.0), Duration::MAX, MARGIN, 0.0);
        assert_eq!(token.expires_at(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(31_536_000)));
    }

    #[test]
    fn either_clock_ends_a_token_and_neither_prolongs_it() {
        let at = moments();
        let token = Lifetime::new(at(100_000.0), Duration::from_secs(600), MARGIN, 0.0);
        // The process slept: the monotonic clock did not move.
        let slept = Moment { monotonic: at(100_000.0).monotonic, ..at(103_600.0) };
        // The wall clock was set back by a day.
        let set_back = Moment { wall: at(14_200.0).wall, ..at(100_600.0) };
        assert!(!token.may_be_sent(slept) && !token.may_be_sent(set_back));
        assert!(token.may_be_sent(Moment { wall: at(14_200.0).wall, ..at(100_300.0) }));
    }
}
