//! [`Attempts`]: when the next request for a token is allowed.

use std::time::Duration;

use super::refusal::Refusal;
use super::token_error::TokenSourceError;
use crate::clock::Moment;

/// The pause after the first failure. It doubles with each failure that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause after failures that we choose.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The longest `Retry-After` that is honoured: an issuer that sends a mistaken one must not stop its clients for a day.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// How many tokens in a row may be requested because resource servers refused the ones before, which they had accepted.
const REFUSAL_BURST: u32 = 20;

/// How long it takes to earn another such request.
const REFUSAL_EVERY: Duration = Duration::from_secs(1);

/// The most time that has to pass until the bucket is full, if it has one request left.
const MAX_DEBT: Duration = REFUSAL_EVERY.saturating_mul(REFUSAL_BURST - 1);

/// For so long after the refusal of a token that had been accepted, its successors count as accepted too: a path that refuses
/// every token may get them first.
const STILL_ACCEPTED: Duration = Duration::from_secs(60);

/// The state of one key. It holds a few numbers, whatever the issuer and the resource servers answer.
#[derive(Debug)]
pub(super) struct Attempts {
    failures: u32,
    /// The last failure, and how long it keeps the next attempt back.
    pause: Option<Pause>,
    /// The token in use was refused by a resource server, and no other one was requested since.
    is_refused: bool,
    /// How many tokens in a row were refused before any resource server accepted them.
    never_accepted: u32,
    /// Since when and for how long such tokens keep the next attempt back.
    refusal_pause: Option<(Moment, Duration)>,
    /// Since when and for how long a successor that is refused without an explanation stays in use.
    keep_pause: Option<(Moment, Duration)>,
    /// When a resource server last refused a token that had been accepted.
    accepted_at: Option<Moment>,
    refusals: RefusalBudget,
}

#[derive(Debug)]
struct Pause {
    from: Moment,
    time: Duration,
    error: TokenSourceError,
}

/// Why no request for a token may start now.
#[derive(Debug)]
pub(super) enum NotYet {
    /// The last one failed.
    Failed(TokenSourceError),
    /// Too many tokens were refused.
    Refused(Duration),
}

impl Attempts {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            failures: 0,
            pause: None,
            is_refused: false,
            never_accepted: 0,
            refusal_pause: None,
            keep_pause: None,
            accepted_at: None,
            refusals: RefusalBudget::new(now),
        }
    }

    /// Returns whether a token that a resource server refused stays in use. It does if no other token may be requested now, and the
    /// token may be valid: resource servers accept the tokens of this key, or the refusal was not explained. Then one path that
    /// refuses every token does not stop the calls of the others, even before the first of them was accepted.
    pub(super) fn keeps(&self, refusal: Refusal, was_accepted: bool, now: Moment) -> bool {
        let is_paused = self.pause.as_ref().is_some_and(|pause| now.since(pause.from) < pause.time);
        let may_replace = !is_paused && self.refusals.allows(now);
        match refusal {
            _ if self.is_accepted(was_accepted, now) => !may_replace,
            Refusal::InvalidToken => false,
            Refusal::Unexplained => !may_replace || self.keep_pause.is_some_and(|(from, time)| now.since(from) < time),
        }
    }

    /// Returns whether a token counts as accepted by a resource server.
    fn is_accepted(&self, was_accepted: bool, now: Moment) -> bool {
        was_accepted || self.accepted_at.is_some_and(|at| now.since(at) < STILL_ACCEPTED)
    }

    /// A resource server accepted the token that was refused last.
    pub(super) fn was_accepted_after_all(&mut self, now: Moment) {
        self.accepted_at = Some(now);
        self.token_was_used_up();
    }

    /// Starts a request for a token, if one is allowed.
    pub(super) fn start(&mut self, now: Moment) -> Result<(), NotYet> {
        if let Some(Pause { from, time, error }) = &self.pause {
            let left = time.saturating_sub(now.since(*from));
            if !left.is_zero() {
                return Err(NotYet::Failed(error.clone().with_retry_after(Some(left))));
            }
        }
        if self.is_refused {
            let (from, time) = self.refusal_pause.unwrap_or((now, Duration::ZERO));
            let left = time.saturating_sub(now.since(from));
            if !left.is_zero() {
                return Err(NotYet::Refused(left));
            }
            self.refusals.take(now).map_err(NotYet::Refused)?;
            self.is_refused = false;
        }
        Ok(())
    }

    /// A request brought a token.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.pause = None;
        self.is_refused = false;
    }

    /// The token in use was replaced because of its age, and not because it was refused.
    pub(super) fn token_was_used_up(&mut self) {
        self.never_accepted = 0;
        self.refusal_pause = None;
        self.keep_pause = None;
    }

    /// A request failed. Returns the error with the time until the next attempt. `random` is from 0 to 1.
    pub(super) fn failed(&mut self, error: TokenSourceError, now: Moment, random: f64) -> TokenSourceError {
        self.failures = self.failures.saturating_add(1);
        let asked_for = error.retry_after().unwrap_or_default().min(MAX_RETRY_AFTER);
        let time = pause(self.failures, random).max(asked_for);
        let error = error.with_retry_after(Some(time));
        self.pause = Some(Pause { from: now, time, error: error.clone() });
        error
    }

    /// A resource server refused the token in use. A token that was accepted before is replaced at once: it was revoked, or one of
    /// several resource servers errs. Tokens that are refused from the start point to a configuration that another token does not
    /// change, so the first one is replaced at once, and the others after longer and longer pauses. Those that are refused without
    /// an explanation stay in use during the pause.
    pub(super) fn refused(&mut self, refusal: Refusal, was_accepted: bool, now: Moment, random: f64) {
        let is_accepted = self.is_accepted(was_accepted, now);
        if was_accepted {
            self.accepted_at = Some(now);
        }
        self.is_refused = true;
        self.never_accepted = if is_accepted { 0 } else { self.never_accepted.saturating_add(1) };
        self.refusal_pause = match (refusal, self.never_accepted) {
            (Refusal::Unexplained, _) | (_, 0 | 1) => None,
            (Refusal::InvalidToken, several) => Some((now, pause(several - 1, random))),
        };
        self.keep_pause = match self.never_accepted {
            0 => None,
            several => Some((now, pause(several, random))),
        };
    }
}

/// Returns the pause after so many failures in a row: 1 s, 2 s, … 30 s, less up to a half.
fn pause(failures: u32, random: f64) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(doubled).min(MAX_PAUSE).mul_f64(0.5 + 0.5 * random)
}

/// A token bucket (RFC 6749 has no such limit): a resource server that refuses at random must not make each request cost the issuer
/// a new token.
#[derive(Debug)]
struct RefusalBudget {
    /// The time that has to pass until the bucket is full, as of `at`.
    debt: Duration,
    at: Moment,
}

impl RefusalBudget {
    fn new(now: Moment) -> Self {
        Self { debt: Duration::ZERO, at: now }
    }

    /// Returns the time that has to pass until the bucket is full.
    fn debt(&self, now: Moment) -> Duration {
        self.debt.saturating_sub(now.since(self.at))
    }

    /// Returns whether a request may be taken.
    fn allows(&self, now: Moment) -> bool {
        self.debt(now) <= MAX_DEBT
    }

    /// Takes one request, or returns how long to wait for it.
    fn take(&mut self, now: Moment) -> Result<(), Duration> {
        let debt = self.debt(now);
        if !self.allows(now) {
            return Err(debt.saturating_sub(MAX_DEBT));
        }
        self.debt = debt.saturating_add(REFUSAL_EVERY);
        self.at = now;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use tokio::time::Instant;

    use super::Refusal::{InvalidToken, Unexplained};
    use super::{Attempts, NotYet, REFUSAL_BURST, REFUSAL_EVERY};
    use crate::client::token_error::{TokenSourceError, TokenSourceErrorKind};
    use crate::clock::Moment;

    fn moments() -> impl Fn(u64) -> Moment {
        let (wall, monotonic) = (SystemTime::UNIX_EPOCH, Instant::now());
        move |milliseconds| {
            let later = Duration::from_millis(milliseconds);
            Moment { wall: wall + later, monotonic: monotonic + later }
        }
    }

    fn failure() -> TokenSourceError {
        TokenSourceError::of(TokenSourceErrorKind::Unavailable, "it is down")
    }

    #[test]
    fn failures_in_a_row_are_further_and_further_apart_but_no_more_than_30_seconds() {
        let at = moments();
        let mut attempts = Attempts::new(at(0));
        let mut time = 0;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            attempts.failed(failure(), at(time), 1.0);
            let Err(NotYet::Failed(error)) = attempts.start(at(time)) else { panic!("too early") };
            let pause = u64::try_from(error.retry_after().unwrap().as_millis()).unwrap();
            assert!(attempts.start(at(time + pause - 1)).is_err());
            pauses.push(pause / 1_000);
            time += pause;
            assert!(attempts.start(at(time)).is_ok());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        attempts.succeeded();
        attempts.failed(failure(), at(time), 0.0);
        assert!(attempts.start(at(time + 499)).is_err() && attempts.start(at(time + 500)).is_ok());
    }

    #[test]
    fn retry_after_is_honoured_for_up_to_five_minutes() {
        let at = moments();
        let mut attempts = Attempts::new(at(0));
        attempts.failed(failure().with_retry_after(Some(Duration::from_secs(40))), at(0), 1.0);
        assert!(attempts.start(at(39_999)).is_err() && attempts.start(at(40_000)).is_ok());
        attempts.failed(failure().with_retry_after(Some(Duration::MAX)), at(50_000), 1.0);
        assert!(attempts.start(at(349_999)).is_err() && attempts.start(at(350_000)).is_ok());
    }

    #[test]
    fn tokens_that_were_accepted_before_are_replaced_20_times_and_then_once_per_second() {
        let at = moments();
        let mut attempts = Attempts::new(at(0));
        let mut started = 0_u32;
        for millisecond in 0..60_000 {
            attempts.refused(InvalidToken, true, at(millisecond), 1.0);
            if attempts.start(at(millisecond)).is_ok() {
                attempts.succeeded();
                started += 1;
            }
        }
        assert_eq!(started, REFUSAL_BURST + 60 / u32::try_from(REFUSAL_EVERY.as_secs()).unwrap() - 1);
    }

    #[test]
    fn tokens_that_are_refused_from_the_start_are_replaced_less_and_less_often() {
        let at = moments();
        let mut attempts = Attempts::new(at(0));
        let mut times = Vec::new();
        let mut is_new = true;
        for millisecond in 0..100_000 {
            if std::mem::take(&mut is_new) {
                attempts.refused(InvalidToken, false, at(millisecond), 1.0);
            }
            if attempts.start(at(millisecond)).is_ok() {
                attempts.succeeded();
                times.push(millisecond / 1_000);
                is_new = true;
                if times.len() == 9 {
                    break;
                }
            }
        }
        assert_eq!(times, [0, 1, 3, 7, 15, 31, 61, 91]);
    }

    #[test]
    fn an_accepted_token_stays_in_use_while_no_other_one_may_be_requested() {
        let at = moments();
        let mut attempts = Attempts::new(at(0));
        for _ in 0..REFUSAL_BURST {
            assert!(!attempts.keeps(InvalidToken, true, at(0)));
            attempts.refused(InvalidToken, true, at(0), 1.0);
            assert!(attempts.start(at(0)).is_ok());
            attempts.succeeded();
        }
        assert!(attempts.keeps(InvalidToken, true, at(999)) && !attempts.keeps(InvalidToken, true, at(1_000)));
        // Its successor counts as accepted for a minute.
        assert!(attempts.keeps(InvalidToken, false, at(999)));
        let mut attempts = Attempts::new(at(0));
        attempts.refused(InvalidToken, true, at(0), 1.0);
        attempts.failed(failure().with_retry_after(Some(Duration::from_secs(120))), at(0), 1.0);
        assert!(attempts.keeps(InvalidToken, false, at(59_999)) && !attempts.keeps(InvalidToken, false, at(60_000)));
        assert!(attempts.keeps(InvalidToken, true, at(119_999)) && !attempts.keeps(InvalidToken, true, at(120_000)));
    }

    /// Each token is refused from the start, by requests that come all the time.
    #[test]
    fn tokens_that_are_refused_without_an_explanation_stay_in_use_between_replacements() {
        let at = moments();
        let mut attempts = Attempts::new(at(0));
        let mut times = Vec::new();
        for millisecond in 0..130_000 {
            if !attempts.keeps(Unexplained, false, at(millisecond)) {
                attempts.refused(Unexplained, false, at(millisecond), 1.0);
                assert!(attempts.start(at(millisecond)).is_ok(), "no call waits for a pause");
                attempts.succeeded();
                times.push(millisecond / 1_000);
            }
        }
        assert_eq!(times, [0, 1, 3, 7, 15, 31, 61, 91, 121]);
        // A refusal with a reason is another matter.
        assert!(!attempts.keeps(InvalidToken, false, at(130_000)));
    }

    #[test]
    fn a_token_that_is_refused_without_an_explanation_stays_in_use_while_the_issuer_is_down() {
        let at = moments();
        let mut attempts = Attempts::new(at(0));
        attempts.failed(failure(), at(0), 1.0);
        assert!(attempts.keeps(Unexplained, false, at(999)) && !attempts.keeps(Unexplained, false, at(1_000)));
        assert!(!attempts.keeps(InvalidToken, false, at(999)));
    }

    #[test]
    fn a_token_that_lived_ends_the_pauses_after_refusals() {
        let at = moments();
        let mut attempts = Attempts::new(at(0));
        for _ in 0..5 {
            attempts.refused(InvalidToken, false, at(0), 1.0);
        }
        assert!(matches!(attempts.start(at(7_999)), Err(NotYet::Refused(_))));
        assert!(attempts.start(at(8_000)).is_ok());
        attempts.token_was_used_up();
        attempts.refused(InvalidToken, false, at(9_000), 1.0);
        assert!(attempts.start(at(9_000)).is_ok());
    }

    #[test]
    fn a_clock_that_is_set_back_delays_nothing() {
        let at = moments();
        let mut attempts = Attempts::new(at(86_400_000));
        attempts.failed(failure(), at(86_400_000), 1.0);
        let set_back = Moment { wall: at(0).wall, ..at(86_401_000) };
        assert!(attempts.start(set_back).is_ok());
    }
}
