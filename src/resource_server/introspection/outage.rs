//! [`Outage`]: decides whether an introspection endpoint is down, and how often it is asked while it is.
//!
//! A caller chooses the tokens that are asked about, and may know some that the server cannot answer. So:
//!
//! 1. A token that failed is not asked about again for a [`PAUSE`], or for as long as `Retry-After` said. Others are.
//! 2. The server is down when no connection could be made, or when three different tokens failed in a row and no token
//!    had an answer for [`QUIET`]. One token counts once, however often it fails.
//! 3. While it is down, it is asked seldom. Tokens that it called active before have attempts of their own, so that made-up
//!    tokens do not use up every attempt. The first answer ends the outage.
//! 4. How seldom depends on the failures. Without a connection, after a refusal (401, 429, 503), or when a token failed
//!    that was active before, there is one attempt per pause. When only tokens failed that were never seen active, they may
//!    be a stranger's, and may well be the cause themselves: then there are [`ATTEMPTS`] at once; those without an answer
//!    for two seconds do not count any more. A server that is overloaded answers late or never, so this is seldom, too; and
//!    an error that comes at once leaves the place to the next token, which may be a good one.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, SystemTime};

use super::answer::NoAnswerKind;
use crate::resource_server::Undecided;

/// How long a token that failed, and a server that is down, are left alone.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// The longest pause that `Retry-After` can ask for.
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(10);

/// How many different tokens have to fail in a row.
const FAILED_TOKENS: usize = 3;

/// How long the server must not have answered about any token. It is the longest time that a request takes: the answer
/// about a good token would have come by then.
const QUIET: Duration = Duration::from_secs(5);

/// How many attempts there are at once after a failure that may be the token's fault, and as many again about tokens that
/// were active before.
pub(super) const ATTEMPTS: usize = 8;

/// No answer about one token.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) undecided: Undecided,
    pub(super) kind: NoAnswerKind,
    pub(super) pause: Duration,
}

/// Whether the server is down, and the evidence for it.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// The hashes of up to [`FAILED_TOKENS`] different tokens that failed since the last answer.
    failed: Vec<u64>,
    /// Whether one of the tokens that failed since the last answer was active before. No stranger has such a token.
    known_failed: bool,
    last_answer: Option<SystemTime>,
    down: Option<Down>,
    /// The last attempt about a token that was active before. It outlives the outage, so that a caller who can end one and
    /// begin another, by tokens of the right kinds, does not delay the next attempt each time.
    attempted: Option<SystemTime>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Down {
    failure: Failure,
    /// The last attempt about a token that was never seen active.
    attempted: SystemTime,
}

/// A token may be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    /// The server is up.
    Freely,
    /// The server is down, and this finds out whether it still is.
    Attempt,
}

impl Outage {
    /// Decides whether a token may be asked about now, when so many attempts about tokens like it wait for an answer. If
    /// the server is down, it counts as the attempt.
    pub(super) fn admit(&mut self, was_active: bool, attempts: usize, now: SystemTime) -> Result<Admitted, Failure> {
        let Some(Down { failure, attempted }) = &mut self.down else { return Ok(Admitted::Freely) };
        // Without a connection, no token is asked about, so none has a better chance.
        let has_own = was_active && failure.kind != NoAnswerKind::NoConnection;
        let last = if has_own { self.attempted } else { Some(*attempted) };
        let is_too_soon = match failure.kind {
            NoAnswerKind::Failed if !self.known_failed => attempts >= ATTEMPTS,
            _ => last.is_some_and(|last| is_within(failure.pause, last, now)),
        };
        if is_too_soon {
            return Err(failure.clone());
        }
        if has_own {
            self.attempted = Some(now);
        } else {
            *attempted = now;
        }
        Ok(Admitted::Attempt)
    }

    pub(super) fn answered(&mut self, now: SystemTime) {
        self.failed.clear();
        self.known_failed = false;
        self.last_answer = Some(now);
        if self.down.take().is_some() {
            tracing::info!("an introspection endpoint answers again");
        }
    }

    /// `was_active` is whether the server called the token active before.
    pub(super) fn failed(&mut self, token: &str, was_active: bool, failure: &Failure, now: SystemTime) {
        self.known_failed |= was_active && failure.kind != NoAnswerKind::Unusable;
        match failure.kind {
            NoAnswerKind::NoConnection => self.is_down(failure, now),
            NoAnswerKind::Refused | NoAnswerKind::Failed => {
                // There is a connection again, so that the token may be the cause.
                self.down.take_if(|down| down.failure.kind == NoAnswerKind::NoConnection);
                let token = self.hasher.hash_one(token);
                if self.failed.len() < FAILED_TOKENS && !self.failed.contains(&token) {
                    self.failed.push(token);
                }
                let is_quiet = self.last_answer.is_none_or(|answer| !is_within(QUIET, answer, now));
                if self.down.is_some() || self.failed.len() >= FAILED_TOKENS && is_quiet {
                    self.is_down(failure, now);
                }
            }
            // The server is up. It is down again with the next failure, unless it answers before.
            NoAnswerKind::Unusable => self.down = None,
        }
    }

    /// A failure during an outage leaves the attempts as they are: each began its pause.
    fn is_down(&mut self, failure: &Failure, now: SystemTime) {
        if let Some(down) = &mut self.down {
            down.failure = failure.clone();
        } else {
            tracing::warn!("an introspection endpoint is down, and is asked only now and then until it answers");
            self.down = Some(Down { failure: failure.clone(), attempted: now });
        }
    }
}

/// Returns whether `now` is less than `time` after `then`. It is not when the clock was set back: pauses end then.
pub(super) fn is_within(time: Duration, then: SystemTime, now: SystemTime) -> bool {
    now.duration_since(then).is_ok_and(|age| age < time)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{ATTEMPTS, Admitted, Failure, NoAnswerKind, Outage, PAUSE};
    use crate::resource_server::{Undecided, UndecidedKind};

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + seconds * SECOND
    }

    fn failure(kind: NoAnswerKind) -> Failure {
        Failure { undecided: Undecided::new(UndecidedKind::Introspection), kind, pause: PAUSE }
    }

    fn fails(outage: &mut Outage, token: &str, now: SystemTime) {
        outage.failed(token, false, &failure(NoAnswerKind::Refused), now);
    }

    fn admits(outage: &mut Outage, was_active: bool, now: SystemTime) -> bool {
        outage.admit(was_active, 0, now).is_ok()
    }

    #[test]
    fn three_different_tokens_in_a_row_are_an_outage_and_one_token_is_not_however_often_it_fails() {
        let mut outage = Outage::default();
        for second in 0..1_000 {
            fails(&mut outage, "a", at(second));
        }
        fails(&mut outage, "b", at(1_000));
        assert!(admits(&mut outage, false, at(1_000)));
        outage.answered(at(1_000));
        for (token, is_up) in [("a", true), ("b", true), ("a", true), ("c", false)] {
            fails(&mut outage, token, at(1_005));
            assert_eq!(admits(&mut outage, false, at(1_005)), is_up, "{token}");
        }
    }

    #[test]
    fn failures_beside_answers_are_no_outage_whatever_their_number() {
        let mut outage = Outage::default();
        for second in 0..100 {
            outage.answered(at(second * 5));
            for number in 0..300 {
                fails(&mut outage, &number.to_string(), at(second * 5 + 4));
                assert!(admits(&mut outage, false, at(second * 5 + 4)));
            }
        }
        fails(&mut outage, "another", at(500));
        assert!(!admits(&mut outage, false, at(500)), "no answer for five seconds");
    }

    #[test]
    fn a_server_that_refuses_is_asked_once_a_pause_and_once_more_about_tokens_that_were_active() {
        let mut outage = Outage::default();
        for token in ["a", "b", "c"] {
            fails(&mut outage, token, at(0));
        }
        assert!(!admits(&mut outage, false, at(0)));
        for second in 1..10 {
            let admitted =
                |outage: &mut Outage, was_active| (0..100).filter(|_| admits(outage, was_active, at(second))).count();
            assert_eq!((admitted(&mut outage, false), admitted(&mut outage, true)), (1, 1));
            fails(&mut outage, "d", at(second));
        }
        outage.answered(at(10));
        assert!((0..100).all(|_| admits(&mut outage, false, at(10))));
    }

    #[test]
    fn a_server_that_fails_is_asked_a_few_times_at_once() {
        let mut outage = Outage::default();
        for token in ["a", "b", "c"] {
            outage.failed(token, false, &failure(NoAnswerKind::Failed), at(0));
        }
        for was_active in [false, true] {
            assert_eq!(outage.admit(was_active, ATTEMPTS - 1, at(0)).ok(), Some(Admitted::Attempt));
            assert!(outage.admit(was_active, ATTEMPTS, at(100)).is_err());
        }
        fails(&mut outage, "d", at(100));
        assert!(admits(&mut outage, false, at(100)) && !admits(&mut outage, false, at(100)), "it refuses now");
    }

    #[test]
    fn a_server_that_fails_for_a_token_that_was_active_is_asked_once_a_pause() {
        let mut outage = Outage::default();
        for (token, was_active) in [("a", false), ("b", true), ("c", false)] {
            outage.failed(token, was_active, &failure(NoAnswerKind::Failed), at(0));
        }
        for second in 1..10 {
            assert_eq!((0..100).filter(|_| admits(&mut outage, false, at(second))).count(), 1);
            outage.failed("d", false, &failure(NoAnswerKind::Failed), at(second));
        }
        outage.answered(at(10));
        for token in ["a", "b", "c"] {
            outage.failed(token, false, &failure(NoAnswerKind::Failed), at(20));
        }
        assert!((0..100).all(|_| admits(&mut outage, false, at(20))), "another outage, by tokens that no one knows");
    }

    #[test]
    fn a_new_outage_does_not_delay_the_attempts_about_tokens_that_were_active() {
        let mut outage = Outage::default();
        for token in ["a", "b"] {
            fails(&mut outage, token, at(0));
        }
        let mut admitted = 0;
        for step in 0..10_000 {
            let now = at(0) + step * SECOND / 1_000;
            fails(&mut outage, "c", now);
            admitted += usize::from(admits(&mut outage, true, now));
            outage.failed("refused by a gateway", false, &failure(NoAnswerKind::Unusable), now);
        }
        assert_eq!(admitted, 10, "one a second");
    }

    #[test]
    fn without_a_connection_there_is_one_attempt_a_pause_from_the_first_failure_on() {
        let mut outage = Outage::default();
        outage.answered(at(0));
        outage.failed("a", false, &failure(NoAnswerKind::NoConnection), at(0));
        assert!(!admits(&mut outage, true, at(0)));
        assert!(admits(&mut outage, true, at(1)) && !admits(&mut outage, false, at(1)));
    }

    #[test]
    fn an_answer_that_cannot_be_used_is_no_outage() {
        let mut outage = Outage::default();
        for token in ["a", "b", "c", "d"] {
            outage.failed(token, false, &failure(NoAnswerKind::Unusable), at(0));
            assert!(admits(&mut outage, false, at(0)));
        }
    }

    #[test]
    fn after_a_lost_connection_one_failing_token_is_no_outage() {
        for kind in [NoAnswerKind::Refused, NoAnswerKind::Failed, NoAnswerKind::Unusable] {
            let mut outage = Outage::default();
            outage.failed("a", false, &failure(NoAnswerKind::NoConnection), at(0));
            assert!(admits(&mut outage, false, at(1)));
            outage.failed("bad", false, &failure(kind), at(1));
            assert!((0..100).all(|_| outage.admit(false, 100, at(1)).is_ok()), "{kind:?}");
        }
    }

    #[test]
    fn a_pause_ends_when_the_clock_is_set_back() {
        let mut outage = Outage::default();
        for token in ["a", "b", "c"] {
            fails(&mut outage, token, at(600));
        }
        assert!(!admits(&mut outage, false, at(600)) && admits(&mut outage, false, at(0)));
    }
}
