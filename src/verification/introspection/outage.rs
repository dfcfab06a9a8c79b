//! [`Outage`]: decides whether an introspection endpoint is down, and how often it is asked meanwhile.
//!
//! Callers choose the tokens that are asked about, and may know some for which the server cannot answer. Therefore:
//!
//! 1. A token that failed is not asked about again for a [`PAUSE`], or for as long as `Retry-After` said. Other
//!    tokens are.
//! 2. The server is suspected after three different tokens failed in a row and no token had an answer for [`QUIET`]. One token
//!    counts once, however often it fails.
//! 3. If they failed by errors or without an answer, the tokens themselves may be the cause. So a probe asks the server about a
//!    random token: a working server calls it inactive (RFC 7662 §2.2), and then no other token is affected.
//! 4. Otherwise the server is down. After refusals (401, 429, 503) there is no probe, since the server asked this client to
//!    wait. A failed connection cannot be caused by a token, so one is enough, but only if no token had an answer for
//!    [`QUIET`]: one of several hosts behind the address may be gone, or the host may have too many connections.
//! 5. While it is down, it is asked once per pause. Tokens that it called active before have a separate attempt, so that
//!    made-up tokens do not use up every attempt. The first answer ends the outage, including the answer to a probe.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::response::NoAnswerKind;
use crate::transport::FetchError;

/// The pause after a failure, per token, and for a server that is down.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// The maximum pause that `Retry-After` can set.
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(10);

/// The number of different tokens that must fail in a row.
const FAILED_TOKENS: usize = 3;

/// How long the server must not have answered for any token. This is the timeout of a request, within which a valid token
/// would have had its answer.
const QUIET: Duration = Duration::from_secs(5);

/// A missing answer for one token.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) error: Arc<FetchError>,
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
    /// The last attempt for a token that was active before. It is kept across outages: otherwise a caller that can end one
    /// outage and begin another with its tokens would delay the next attempt each time.
    attempted: Option<SystemTime>,
    /// Whether a probe waits for its answer.
    is_probing: bool,
    hasher: RandomState,
}

#[derive(Debug)]
struct Down {
    failure: Failure,
    /// The last attempt for a token that was never active before.
    attempted: SystemTime,
}

impl Outage {
    /// Decides whether a token may be asked about now. If the server is down, this counts as the attempt.
    pub(super) fn admit(&mut self, was_active: bool, now: SystemTime) -> Result<(), Failure> {
        let Some(Down { failure, attempted }) = &mut self.down else { return Ok(()) };
        let last = if was_active { self.attempted } else { Some(*attempted) };
        if last.is_some_and(|last| is_within(failure.pause, last, now)) {
            return Err(failure.clone());
        }
        if was_active {
            self.attempted = Some(now);
        } else {
            *attempted = now;
        }
        Ok(())
    }

    pub(super) fn answered(&mut self, now: SystemTime) {
        self.failed.clear();
        self.last_answer = Some(now);
        if self.down.take().is_some() {
            tracing::info!("an introspection endpoint answers again");
        }
    }

    /// Records that a token failed. Returns whether a probe must be sent now. The probe is followed by
    /// [`answered`](Self::answered) or [`probe_failed`](Self::probe_failed), and by [`probe_ended`](Self::probe_ended).
    #[must_use]
    pub(super) fn failed(&mut self, token: &str, failure: &Failure, now: SystemTime) -> bool {
        match failure.kind {
            NoAnswerKind::NoConnection if self.down.is_some() || self.is_quiet(now) => self.set_down(failure, now),
            NoAnswerKind::NoConnection => {}
            NoAnswerKind::Refused | NoAnswerKind::Failed => {
                // The server accepts connections again, so the token may be the cause.
                self.down.take_if(|down| down.failure.kind == NoAnswerKind::NoConnection);
                let token = self.hasher.hash_one(token);
                if self.failed.len() < FAILED_TOKENS && !self.failed.contains(&token) {
                    self.failed.push(token);
                }
                if self.is_suspected(now) {
                    if failure.kind == NoAnswerKind::Failed {
                        return !std::mem::replace(&mut self.is_probing, true);
                    }
                    self.set_down(failure, now);
                }
            }
            // The server is up. The next failure marks it as down again, unless it answers first.
            NoAnswerKind::Unusable => self.down = None,
        }
        false
    }

    fn is_suspected(&self, now: SystemTime) -> bool {
        self.down.is_some() || self.failed.len() >= FAILED_TOKENS && self.is_quiet(now)
    }

    fn is_quiet(&self, now: SystemTime) -> bool {
        self.last_answer.is_none_or(|answer| !is_within(QUIET, answer, now))
    }

    pub(super) fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// Records that the probe had no answer either.
    pub(super) fn probe_failed(&mut self, failure: &Failure, now: SystemTime) {
        if failure.kind == NoAnswerKind::Unusable {
            self.down = None;
        } else if self.is_suspected(now) {
            self.set_down(failure, now);
        }
    }

    pub(super) fn probe_ended(&mut self) {
        self.is_probing = false;
    }

    /// Marks the server as down. A failure during an outage does not change the attempts: each began its own pause.
    fn set_down(&mut self, failure: &Failure, now: SystemTime) {
        if let Some(down) = &mut self.down {
            down.failure = failure.clone();
        } else {
            tracing::warn!("an introspection endpoint is down; until it answers, it is asked about once per second");
            self.down = Some(Down { failure: failure.clone(), attempted: now });
        }
    }
}

/// Returns whether `now` is less than `time` after `then`. False if the clock was set back, which ends the pause.
pub(super) fn is_within(time: Duration, then: SystemTime, now: SystemTime) -> bool {
    now.duration_since(then).is_ok_and(|age| age < time)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::{Failure, NoAnswerKind, Outage, PAUSE};
    use crate::transport::FetchError;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + seconds * SECOND
    }

    fn failure(kind: NoAnswerKind) -> Failure {
        let error = FetchError::document(&"https://auth.example.com/introspect".parse().unwrap(), "for a test");
        Failure { error: Arc::new(error), kind, pause: PAUSE }
    }

    fn fails(outage: &mut Outage, token: &str, now: SystemTime) {
        assert!(!outage.failed(token, &failure(NoAnswerKind::Refused), now));
    }

    fn admits(outage: &mut Outage, was_active: bool, now: SystemTime) -> bool {
        outage.admit(was_active, now).is_ok()
    }

    #[test]
    fn three_different_failing_tokens_are_an_outage_but_one_token_never_is() {
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
    fn failures_between_answers_are_not_an_outage() {
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
    fn a_refusing_server_is_asked_once_per_pause_and_once_more_for_active_tokens() {
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
    fn after_three_unanswered_tokens_one_probe_decides_whether_the_server_is_down() {
        let failure = failure(NoAnswerKind::Failed);
        let mut outage = Outage::default();
        let suspects = ["a", "b", "c", "d"].map(|token| outage.failed(token, &failure, at(0)));
        assert_eq!(suspects, [false, false, true, false], "only one probe at a time");
        assert!((0..100).all(|_| admits(&mut outage, false, at(0))), "the probe has no answer yet");
        outage.answered(at(0));
        outage.probe_ended();
        assert!((0..100).all(|_| admits(&mut outage, false, at(0))), "the tokens are the cause");
        let suspects = ["a", "b", "c"].map(|token| outage.failed(token, &failure, at(4)));
        assert_eq!(suspects, [false; 3], "the server has just answered");
        assert!(outage.failed("d", &failure, at(5)));
        outage.probe_failed(&failure, at(5));
        outage.probe_ended();
        assert!(!admits(&mut outage, false, at(5)));
    }

    #[test]
    fn a_failing_server_is_asked_about_one_token_and_one_probe_per_pause() {
        let failure = failure(NoAnswerKind::Failed);
        let mut outage = Outage::default();
        for second in 0..10 {
            let admitted = (0..100).filter(|_| admits(&mut outage, false, at(second))).count();
            assert_eq!(admitted, if second == 0 { 100 } else { 1 });
            let probes = (0..100).filter(|number| outage.failed(&number.to_string(), &failure, at(second))).count();
            assert_eq!(probes, 1);
            outage.probe_failed(&failure, at(second));
            outage.probe_ended();
        }
    }

    #[test]
    fn a_failed_probe_is_not_an_outage_if_another_token_was_answered_meanwhile() {
        let failure = failure(NoAnswerKind::Failed);
        let mut outage = Outage::default();
        assert!(["a", "b", "c"].iter().any(|token| outage.failed(token, &failure, at(0))));
        outage.answered(at(1));
        outage.probe_failed(&failure, at(2));
        assert!((0..100).all(|_| admits(&mut outage, false, at(2))));
    }

    #[test]
    fn an_unusable_answer_to_a_probe_is_not_an_outage() {
        let mut outage = Outage::default();
        assert!(["a", "b", "c"].iter().any(|token| outage.failed(token, &failure(NoAnswerKind::Failed), at(0))));
        outage.probe_failed(&failure(NoAnswerKind::Unusable), at(0));
        assert!((0..100).all(|_| admits(&mut outage, false, at(0))));
    }

    #[test]
    fn a_new_outage_does_not_delay_the_attempts_for_active_tokens() {
        let mut outage = Outage::default();
        for token in ["a", "b"] {
            fails(&mut outage, token, at(0));
        }
        let mut admitted = 0;
        for step in 0..10_000 {
            let now = at(0) + step * SECOND / 1_000;
            fails(&mut outage, "c", now);
            admitted += usize::from(admits(&mut outage, true, now));
            assert!(!outage.failed("refused by a gateway", &failure(NoAnswerKind::Unusable), now));
        }
        assert_eq!(admitted, 10, "one per second");
    }

    #[test]
    fn without_a_connection_there_is_one_attempt_per_pause_and_one_more_for_active_tokens() {
        let mut outage = Outage::default();
        outage.answered(at(0));
        assert!(!outage.failed("a", &failure(NoAnswerKind::NoConnection), at(5)));
        assert!(!admits(&mut outage, false, at(5)));
        assert!(admits(&mut outage, true, at(5)) && !admits(&mut outage, true, at(5)));
        assert!(admits(&mut outage, false, at(6)) && !admits(&mut outage, false, at(6)));
    }

    #[test]
    fn failed_connections_between_answers_are_not_an_outage() {
        let mut outage = Outage::default();
        for second in 0..100 {
            outage.answered(at(second * 5));
            assert!(!outage.failed("a", &failure(NoAnswerKind::NoConnection), at(second * 5 + 4)));
            assert!((0..100).all(|_| admits(&mut outage, false, at(second * 5 + 4))), "{second}");
        }
    }

    #[test]
    fn an_unusable_answer_is_not_an_outage() {
        let mut outage = Outage::default();
        for token in ["a", "b", "c", "d"] {
            assert!(!outage.failed(token, &failure(NoAnswerKind::Unusable), at(0)));
            assert!(admits(&mut outage, false, at(0)));
        }
    }

    #[test]
    fn after_a_lost_connection_one_failing_token_is_not_an_outage() {
        for kind in [NoAnswerKind::Refused, NoAnswerKind::Failed, NoAnswerKind::Unusable] {
            let mut outage = Outage::default();
            assert!(!outage.failed("a", &failure(NoAnswerKind::NoConnection), at(0)));
            assert!(admits(&mut outage, false, at(1)));
            assert!(!outage.failed("bad", &failure(kind), at(1)));
            assert!((0..100).all(|_| admits(&mut outage, false, at(1))), "{kind:?}");
        }
    }

    #[test]
    fn a_pause_ends_if_the_clock_is_set_back() {
        let mut outage = Outage::default();
        for token in ["a", "b", "c"] {
            fails(&mut outage, token, at(600));
        }
        assert!(!admits(&mut outage, false, at(600)) && admits(&mut outage, false, at(0)));
    }
}
