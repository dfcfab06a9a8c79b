//! [`Outage`]: decides whether an introspection endpoint is down, and how often it is asked while it is.
//!
//! A caller chooses the tokens that are asked about, and may know one that the server cannot answer. So:
//!
//! 1. A token that failed is not asked about again for a [`PAUSE`], or for as long as `Retry-After` said. Others are.
//! 2. The server is down when no connection could be made, or when three different tokens failed in a row and no token
//!    had an answer for [`QUIET`]. One token counts once, however often it fails.
//! 3. While it is down, it is asked once per pause; about tokens that it called active before, once more, so that made-up
//!    tokens do not use up every attempt. The first answer ends the outage.

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
    last_answer: Option<SystemTime>,
    down: Option<Down>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Down {
    failure: Failure,
    /// When tokens that were never seen active were asked about last, and those that were.
    attempts: [SystemTime; 2],
}

impl Outage {
    /// Returns whether a token may be asked about now, and counts it as the attempt if the server is down.
    pub(super) fn admit(&mut self, was_active: bool, now: SystemTime) -> Result<(), Failure> {
        let Some(Down { failure, attempts: [unknown, known] }) = &mut self.down else { return Ok(()) };
        // Without a connection, no token is asked about, so none has a better chance.
        let attempt = if was_active && failure.kind != NoAnswerKind::NoConnection { known } else { unknown };
        if is_within(failure.pause, *attempt, now) {
            return Err(failure.clone());
        }
        *attempt = now;
        Ok(())
    }

    pub(super) fn answered(&mut self, now: SystemTime) {
        self.failed.clear();
        self.last_answer = Some(now);
        if self.down.take().is_some() {
            tracing::info!("an introspection endpoint answers again");
        }
    }

    pub(super) fn failed(&mut self, token: &str, failure: &Failure, now: SystemTime) {
        match failure.kind {
            NoAnswerKind::NoConnection => self.is_down(failure, now),
            NoAnswerKind::Failed => {
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
            self.down = Some(Down { failure: failure.clone(), attempts: [now; 2] });
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

    use super::{Failure, NoAnswerKind, Outage, PAUSE};
    use crate::resource_server::{Undecided, UndecidedKind};

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + seconds * SECOND
    }

    fn failure(kind: NoAnswerKind) -> Failure {
        Failure { undecided: Undecided::new(UndecidedKind::Introspection), kind, pause: PAUSE }
    }

    fn fails(outage: &mut Outage, token: &str, now: SystemTime) {
        outage.failed(token, &failure(NoAnswerKind::Failed), now);
    }

    #[test]
    fn three_different_tokens_in_a_row_are_an_outage_and_one_token_is_not_however_often_it_fails() {
        let mut outage = Outage::default();
        for second in 0..1_000 {
            fails(&mut outage, "a", at(second));
        }
        fails(&mut outage, "b", at(1_000));
        assert!(outage.admit(false, at(1_000)).is_ok());
        outage.answered(at(1_000));
        for (token, is_up) in [("a", true), ("b", true), ("a", true), ("c", false)] {
            fails(&mut outage, token, at(1_005));
            assert_eq!(outage.admit(false, at(1_005)).is_ok(), is_up, "{token}");
        }
    }

    #[test]
    fn failures_beside_answers_are_no_outage_whatever_their_number() {
        let mut outage = Outage::default();
        for second in 0..100 {
            outage.answered(at(second * 5));
            for number in 0..300 {
                fails(&mut outage, &number.to_string(), at(second * 5 + 4));
                assert!(outage.admit(false, at(second * 5 + 4)).is_ok());
            }
        }
        fails(&mut outage, "another", at(500));
        assert!(outage.admit(false, at(500)).is_err(), "no answer for five seconds");
    }

    #[test]
    fn a_server_that_is_down_is_asked_once_a_pause_and_once_more_about_tokens_that_were_active() {
        let mut outage = Outage::default();
        for token in ["a", "b", "c"] {
            fails(&mut outage, token, at(0));
        }
        assert!(outage.admit(false, at(0)).is_err() && outage.admit(true, at(0)).is_err());
        for second in 1..10 {
            let admitted = |outage: &mut Outage, was_active| {
                (0..100).filter(|_| outage.admit(was_active, at(second)).is_ok()).count()
            };
            assert_eq!((admitted(&mut outage, false), admitted(&mut outage, true)), (1, 1));
            fails(&mut outage, "d", at(second));
        }
        outage.answered(at(10));
        assert!((0..100).all(|_| outage.admit(false, at(10)).is_ok()));
    }

    #[test]
    fn without_a_connection_there_is_one_attempt_a_pause_from_the_first_failure_on() {
        let mut outage = Outage::default();
        outage.answered(at(0));
        outage.failed("a", &failure(NoAnswerKind::NoConnection), at(0));
        assert!(outage.admit(true, at(0)).is_err());
        assert!(outage.admit(true, at(1)).is_ok() && outage.admit(false, at(1)).is_err());
    }

    #[test]
    fn an_answer_that_cannot_be_used_is_no_outage() {
        let mut outage = Outage::default();
        for token in ["a", "b", "c", "d"] {
            outage.failed(token, &failure(NoAnswerKind::Unusable), at(0));
            assert!(outage.admit(false, at(0)).is_ok());
        }
    }

    #[test]
    fn after_a_lost_connection_one_failing_token_is_no_outage() {
        for kind in [NoAnswerKind::Failed, NoAnswerKind::Unusable] {
            let mut outage = Outage::default();
            outage.failed("a", &failure(NoAnswerKind::NoConnection), at(0));
            assert!(outage.admit(false, at(1)).is_ok());
            outage.failed("bad", &failure(kind), at(1));
            assert!((0..100).all(|_| outage.admit(false, at(1)).is_ok()), "{kind:?}");
        }
    }

    #[test]
    fn a_pause_ends_when_the_clock_is_set_back() {
        let mut outage = Outage::default();
        for token in ["a", "b", "c"] {
            fails(&mut outage, token, at(600));
        }
        assert!(outage.admit(false, at(600)).is_err() && outage.admit(false, at(0)).is_ok());
    }
}
