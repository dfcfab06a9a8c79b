//! [`ClockSetBack`]: dates new tokens after a revocation when the wall clock was set back since.
//!
//! Revoking a client's tokens revokes every token issued up to a second, the *cutoff*. When the wall clock is set back after
//! that, a new token dated by the wall clock is dated before the cutoff, like the revoked tokens. The server does not date it
//! ahead of the wall clock instead: a later revocation may come from another host, whose clock may be right, and must apply to
//! the token by its date. So the server dates the token by the wall clock and starts its `jti` with a *mark*. The view generates
//! the mark at random for this client:
//!
//! 1. The mark is generated once the cutoff has passed. The later of two clocks decides: the wall clock, and the wall time at
//!    which the view learned of the revocation plus the monotonic time since.
//! 2. A token with the mark is valid in this view although it is dated before the cutoff. Tokens issued earlier do not have the
//!    mark, and a caller cannot forge it, since the issuer signs the `jti`.
//! 3. Each revocation that the view learns of later revokes the marked tokens dated up to its second, whichever clock that
//!    second comes from. A revocation with a later cutoff revokes all marked tokens.
//! 4. No other view knows the mark. Other replicas, and this process after a restart, treat the token as revoked.
//! 5. A marked token expires before the wall clock comes close to the cutoff again. Otherwise a new revocation could name the
//!    same second as the former one and be mistaken for it.

use super::token_date::{Cutoff, Date, Mark, Marked, Wait};
use crate::clock::{Moment, UnixTime};
use crate::timing::{CLOCK_SKEW, MAX_CLIENT_ANSWER_AGE, MAX_DATED_AHEAD};

/// How long before a cutoff a marked token expires, in seconds.
///
/// A revocation names a second that is at most 10 seconds ahead of a clock, and that clock may itself be 5 seconds ahead. The
/// rest is the usual leeway of a verifier.
const MARGIN: u64 = (CLOCK_SKEW.as_secs() + MAX_CLIENT_ANSWER_AGE.as_secs()) + 2 * CLOCK_SKEW.as_secs();

/// When the cutoff is at most this many seconds ahead, the client waits for it. A marked token would expire within seconds.
const NEAR: u64 = MARGIN + 10;

/// The state of a client whose tokens were revoked and whose server's wall clock may have been set back since.
#[derive(Debug, Default)]
pub(super) struct ClockSetBack {
    /// The latest of the cutoffs that the view learned of since and that are before the client's cutoff. Marked tokens issued
    /// up to it are revoked.
    earlier: Option<Cutoff>,
    /// The first of the former values of `earlier` that the wall clock, set back once more, has yet to reach again.
    passed: Option<u64>,
    mark: Option<Mark>,
}

impl ClockSetBack {
    /// Returns whether a token that is dated up to the client's cutoff is exempt from it.
    pub(super) fn exempts(&self, token_id: &str, issued_at: u64) -> bool {
        let is_revoked = self.earlier.is_some_and(|earlier| issued_at <= earlier.second);
        !is_revoked && self.mark.is_some_and(|mark| mark.is_prefix_of(token_id))
    }

    /// Returns whether adding an earlier cutoff at the time `now` would change nothing.
    pub(super) fn holds(&self, second: u64, now: Moment) -> bool {
        self.earlier.is_some_and(|known| second <= known.second && !is_beyond(known.second, now))
    }

    /// Adds a cutoff that is before the client's cutoff.
    pub(super) fn add(&mut self, earlier: Cutoff) {
        if self.holds(earlier.second, earlier.learned) {
            return;
        }
        match self.earlier {
            // The wall clock was set back after the known cutoff, too: otherwise the new cutoff would be later.
            Some(known) if earlier.second <= known.second => self.pass(known, earlier.learned),
            _ => {}
        }
        self.earlier = Some(earlier);
    }

    /// Records that a cutoff has passed although the wall clock is before it. Revokes the tokens marked so far.
    fn pass(&mut self, known: Cutoff, now: Moment) {
        let before = self.passed.filter(|passed| *passed > UnixTime::at(now.wall).as_secs());
        let passed = before.map_or(known.second, |before| before.min(known.second));
        *self = Self { passed: Some(passed), ..Self::default() };
    }

    /// Dates a token by a wall clock that is too far behind the `cutoff`. If the client has no mark yet, `fresh` becomes its
    /// mark.
    ///
    /// # Errors
    ///
    /// The time that the client has to wait.
    pub(super) fn date(&mut self, cutoff: Cutoff, now: Moment, fresh: Mark) -> Result<Date, Wait> {
        let wall = UnixTime::at(now.wall);
        cutoff.has_passed(now)?;
        let mut next = wall.as_secs();
        if let Some(earlier) = self.earlier {
            if let Ok(after) = earlier.next(wall) {
                next = next.max(after);
            } else {
                earlier.has_passed(now)?;
                self.pass(earlier, now);
            }
        }
        // The first of the cutoffs that the wall clock will reach again.
        let mut ahead = cutoff.second;
        if let Some(passed) = self.passed {
            match (Cutoff { second: passed, learned: now }).next(wall) {
                Ok(after) => next = next.max(after),
                Err(_) => ahead = passed,
            }
        }
        if ahead <= wall.as_secs().saturating_add(NEAR) {
            return Err(Wait(ahead.saturating_add(1).saturating_sub(wall.after(MAX_DATED_AHEAD).as_secs())));
        }
        let valid = |second| UnixTime::from_secs(second).unwrap_or(wall);
        let expires_by = valid(ahead.saturating_sub(MARGIN));
        let mark = *self.mark.get_or_insert(fresh);
        Ok(Date { issued_at: valid(next), marked: Some(Marked { mark, expires_by }) })
    }
}

/// Returns whether a second is further ahead of the wall clock than any second that a revocation made now can name.
fn is_beyond(second: u64, now: Moment) -> bool {
    second > UnixTime::at(now.wall).after(CLOCK_SKEW + MAX_CLIENT_ANSWER_AGE + CLOCK_SKEW).as_secs()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Date, Mark, Wait, is_beyond};
    use crate::client_id::ClientId;
    use crate::clock::{ManualClock, Moment, UnixTime};
    use crate::crypto::SystemRandom;
    use crate::revocation::Named;
    use crate::revocation::view::{Bounds, View};
    use crate::store::Revocation;

    const BILLING: ClientId = ClientId::from_static("billing");

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(seconds).unwrap()
    }

    fn client(issued_until: u64, expires_at: u64) -> Revocation {
        Revocation::Client { client_id: BILLING, issued_until, expires_at, replaces_tokens: false }
    }

    fn token(id: &str) -> Revocation {
        Revocation::Token { token_id: id.to_owned(), client_id: BILLING, issued_at: 103, expires_at: 700 }
    }

    fn add(view: &View, clock: &ManualClock, revocation: &Revocation) {
        view.add(revocation, Moment::now(clock)).unwrap();
    }

    fn revokes(view: &View, token_id: &str, issued_at: u64) -> bool {
        view.revokes(Named { client_id: &BILLING, token_id, issued_at: at(issued_at), key_id: "k" })
    }

    /// Returns a view that learned, at 1,000, that all tokens issued up to 1,005 are revoked. The wall clock was then set back to
    /// 100.
    fn set_back() -> (View, ManualClock, Mark) {
        let view = View::new(Bounds { tokens_per_client: 3, entries: 100 });
        let clock = ManualClock::at(at(1_000).to_system());
        add(&view, &clock, &client(1_005, 9_000));
        clock.set(at(100).to_system());
        (view, clock, Mark::generate(&SystemRandom).unwrap())
    }

    fn date(view: &View, clock: &ManualClock) -> Result<(u64, Mark, u64), Wait> {
        let fresh = Mark::generate(&SystemRandom).unwrap();
        let Date { issued_at, marked } = view.date(&BILLING, Moment::now(clock), fresh)?;
        let marked = marked.unwrap();
        Ok((issued_at.as_secs(), marked.mark, marked.expires_by.as_secs()))
    }

    fn of(mark: Mark, rest: &str) -> String {
        format!("{}{rest}", std::str::from_utf8(mark.as_bytes()).unwrap())
    }

    async fn pass(clock: &ManualClock, seconds: u64) {
        let time = Duration::from_secs(seconds);
        clock.advance(time);
        tokio::time::advance(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_marked_token_is_valid_until_a_revocation_reaches_its_date() {
        let (view, clock, foreign) = set_back();
        assert_eq!(date(&view, &clock), Err(Wait(3)));
        pass(&clock, 3).await;
        let (issued_at, mark, expires_by) = date(&view, &clock).unwrap();
        assert_eq!((issued_at, expires_by), (103, 985));
        assert_eq!(date(&view, &clock), Ok((103, mark, 985)), "all tokens have the same mark");
        let token = of(mark, "0123456789");
        assert!(!revokes(&view, &token, 103));
        for other in ["0123456789012345678901", &of(foreign, "0123456789")] {
            assert!(revokes(&view, other, 103), "a token without the mark is revoked");
        }

        // The same record again, or one with an earlier cutoff, changes nothing.
        add(&view, &clock, &client(1_005, 9_000));
        add(&view, &clock, &client(102, 8_000));
        assert!(!revokes(&view, &token, 103));
        // The same record with a later expiry.
        add(&view, &clock, &client(1_005, 9_500));
        assert!(!revokes(&view, &token, 103));
        assert_eq!(view.entries(), 1);

        let before = view.generation();
        add(&view, &clock, &client(113, 8_000));
        assert_ne!(view.generation(), before, "a token that was found valid before is looked up again");
        assert!(revokes(&view, &token, 103) && revokes(&view, &token, 113));
        assert!(!revokes(&view, &token, 114));
        assert_eq!(date(&view, &clock), Err(Wait(8)), "a request in progress does not get a token dated before it");
        pass(&clock, 8).await;
        let (issued_at, same, _) = date(&view, &clock).unwrap();
        assert_eq!((issued_at, same), (114, mark));

        add(&view, &clock, &client(1_006, 9_000));
        assert!(revokes(&view, &token, 114), "a later cutoff revokes all marked tokens");
    }

    #[tokio::test(start_paused = true)]
    async fn a_marked_token_is_revoked_by_its_jti_and_when_its_client_has_too_many_revoked_tokens() {
        let (view, clock, _) = set_back();
        pass(&clock, 3).await;
        let (_, mark, _) = date(&view, &clock).unwrap();
        let names = ["a", "b", "c", "d", "e"].map(|name| of(mark, name));
        for name in &names[..3] {
            assert!(!view.holds(&token(name), Moment::now(&clock)), "the revocation of the client does not cover it");
            add(&view, &clock, &token(name));
            assert!(view.holds(&token(name), Moment::now(&clock)) && revokes(&view, name, 103));
        }
        add(&view, &clock, &client(90, 9_000));
        assert!(revokes(&view, &names[0], 103), "an earlier revocation of the client does not remove it");
        assert!(!revokes(&view, &names[3], 103));
        add(&view, &clock, &token(&names[3]));
        assert_eq!(view.entries(), 1, "the tokens become one entry");
        assert!(names.iter().all(|name| revokes(&view, name, 103)));
        assert!(!revokes(&view, &names[4], 104));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_second_clock_change_the_client_waits_for_seconds_and_earlier_marked_tokens_are_revoked() {
        let (view, clock, _) = set_back();
        pass(&clock, 3).await;
        let (_, mark, _) = date(&view, &clock).unwrap();
        add(&view, &clock, &client(113, 8_000));
        clock.set(at(50).to_system());
        assert_eq!(date(&view, &clock), Err(Wait(8)));
        pass(&clock, 8).await;
        let (issued_at, other, expires_by) = date(&view, &clock).unwrap();
        assert_eq!((issued_at, expires_by), (58, 93), "it expires before the clock reaches either cutoff again");
        assert_ne!(mark, other);
        assert!(revokes(&view, &of(mark, "a"), 103) && revokes(&view, &of(mark, "a"), 58));
        assert!(!revokes(&view, &of(other, "a"), 58));
        add(&view, &clock, &client(68, 8_000));
        assert!(revokes(&view, &of(other, "a"), 58));
        pass(&clock, 40).await;
        assert_eq!(date(&view, &clock), Err(Wait(13)), "shortly before a cutoff, the client waits");
        pass(&clock, 13).await;
        let (issued_at, _, expires_by) = date(&view, &clock).unwrap();
        assert_eq!((issued_at, expires_by), (114, 985));
    }

    /// When a view starts, records come in any order, and some come twice.
    #[tokio::test(start_paused = true)]
    async fn revocations_from_before_the_clock_was_set_back_do_not_hide_later_ones() {
        let (view, clock, _) = set_back();
        clock.set(at(1_000).to_system());
        add(&view, &clock, &client(990, 9_000));
        clock.set(at(100).to_system());
        pass(&clock, 3).await;
        add(&view, &clock, &client(113, 8_000));
        assert_eq!(date(&view, &clock), Err(Wait(8)), "a request in progress does not get a token dated before it");
        add(&view, &clock, &client(112, 8_000));
        pass(&clock, 8).await;
        let (issued_at, mark, expires_by) = date(&view, &clock).unwrap();
        assert_eq!((issued_at, expires_by), (114, 970));
        add(&view, &clock, &client(990, 9_000));
        assert!(revokes(&view, &of(mark, "a"), 114), "in doubt, the token is revoked");
    }

    /// The revocation comes from a host whose clock is ahead of this clock and behind the right time.
    #[tokio::test(start_paused = true)]
    async fn a_client_waits_at_least_three_seconds_after_a_later_cutoff() {
        let (view, clock, _) = set_back();
        pass(&clock, 600).await;
        date(&view, &clock).unwrap();
        add(&view, &clock, &client(1_300, 9_000));
        assert_eq!(date(&view, &clock), Err(Wait(3)));
        pass(&clock, 1).await;
        assert_eq!(date(&view, &clock), Err(Wait(2)));
        pass(&clock, 2).await;
        assert_eq!(date(&view, &clock).unwrap().0, 703);
        // This revocation comes from a host with the right time.
        add(&view, &clock, &client(1_603 + 10, 9_000));
        pass(&clock, 8).await;
        assert_eq!(date(&view, &clock).unwrap().0, 711);
    }

    /// The clock is set back before each revocation.
    #[tokio::test(start_paused = true)]
    async fn a_marked_token_expires_before_the_first_cutoff_that_the_clock_reaches_again() {
        let (view, clock, _) = set_back();
        pass(&clock, 3).await;
        date(&view, &clock).unwrap();
        add(&view, &clock, &client(113, 8_000));
        clock.set(at(50).to_system());
        pass(&clock, 8).await;
        assert_eq!(date(&view, &clock).unwrap().2, 93, "the clock reaches 113 again");
        add(&view, &clock, &client(300, 8_000));
        pass(&clock, 250).await;
        clock.set(at(20).to_system());
        assert_eq!(date(&view, &clock).unwrap().2, 93, "113 comes before 300");

        // From here on, the clock stays after 113.
        clock.set(at(150).to_system());
        add(&view, &clock, &client(500, 8_000));
        pass(&clock, 400).await;
        clock.set(at(200).to_system());
        assert_eq!(date(&view, &clock).unwrap().2, 480, "113 has passed, and 500 comes before 1,005");
    }

    #[test]
    fn no_revocation_made_now_names_a_second_16_seconds_ahead() {
        let clock = ManualClock::at(at(1_000).to_system());
        assert!(!is_beyond(1_015, Moment::now(&clock)) && is_beyond(1_016, Moment::now(&clock)));
    }
}
