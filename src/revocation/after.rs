//! [`After`]: lets a client get valid tokens after its tokens were revoked and the wall clock was set back.
//!
//! A token is revoked with all that its client was issued up to a second, the *end*. A server whose wall clock was set back
//! would have to date a new token before the end, among the revoked ones, or ahead of the wall clock. It does not date ahead:
//! a later revocation comes from another host, whose clock may be right, and must reach the token by its date. So it dates
//! by the wall clock, and begins the `jti` of the token with a *mark*, which the view has drawn at random for this client:
//!
//! 1. A mark is drawn once the end is over by the larger of two clocks: the time on the wall when the view learned of the
//!    revocation, and the time that has passed since.
//! 2. A token with the mark is valid in this view though it is dated before the end. No token from before the mark has it,
//!    and no caller can write one: the issuer signs the `jti`.
//! 3. Each revocation that the view learns of later, by whichever clock, revokes the marked tokens up to its second. One
//!    with a later end revokes all of them.
//! 4. No other view knows the mark: for another replica, and for this process after a restart, the token is revoked.
//! 5. A marked token expires before the wall clock comes near the end again, so that no revocation of that time has the same
//!    second as the former one and passes for it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock::{Moment, UnixTime};
use crate::crypto::{Random, RandomError};
use crate::timing::{CLOCK_SKEW, MAX_CLIENT_ANSWER_AGE, MAX_DATED_AHEAD};

/// How long before an end a marked token expires, in seconds. A revocation names a second that is at most 10 seconds ahead of
/// a clock, which may itself be 5 seconds ahead; the rest is the usual leeway of a verifier.
const MARGIN: u64 = (CLOCK_SKEW.as_secs() + MAX_CLIENT_ANSWER_AGE.as_secs()) + 2 * CLOCK_SKEW.as_secs();

/// So near an end the client waits for it, since a marked token would live for some seconds only.
const NEAR: u64 = MARGIN + 10;

/// How long a client waits after its tokens were revoked, in seconds, where the clocks are right.
const LEAST_WAIT: u64 = CLOCK_SKEW.as_secs() + 1 - MAX_DATED_AHEAD.as_secs();

/// How the `jti` of a client's marked tokens begins: 72 random bits in base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark([u8; Self::LENGTH]);

impl Mark {
    pub(crate) const LENGTH: usize = 12;

    #[expect(clippy::expect_used, reason = "both lengths are constants")]
    pub(crate) fn generate(random: &dyn Random) -> Result<Self, RandomError> {
        let (mut bits, mut text) = ([0; 9], [0; Self::LENGTH]);
        random.fill(&mut bits)?;
        URL_SAFE_NO_PAD.encode_slice(bits, &mut text).expect("9 bytes are 12 characters in base64url");
        Ok(Self(text))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    fn begins(&self, token_id: &str) -> bool {
        token_id.as_bytes().starts_with(&self.0)
    }
}

/// The date of a client's next token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    pub(crate) issued_at: UnixTime,
    pub(crate) marked: Option<Marked>,
}

/// A token that is dated by a wall clock that was set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) mark: Mark,
    /// When it has to expire.
    pub(crate) expires_by: UnixTime,
}

impl Date {
    pub(crate) fn usual(issued_at: UnixTime) -> Self {
        Self { issued_at, marked: None }
    }
}

/// A client has to wait for so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait(pub(crate) u64);

/// The second up to which all tokens of a client are revoked.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) second: u64,
    /// When the view learned of it.
    pub(super) learned: Moment,
}

impl End {
    /// Returns the first second by which a token can be dated after this, or how long that takes by a clock that shows `now`.
    fn next(self, now: UnixTime) -> Result<u64, Wait> {
        let (next, most) = (self.second.saturating_add(1), now.after(MAX_DATED_AHEAD).as_secs());
        if next > most { Err(Wait(next - most)) } else { Ok(next) }
    }

    /// Whether it is over by the larger of two clocks, and known for as long as a client waits after a revocation, so that
    /// requests that are under way have ended.
    fn is_over(self, now: Moment) -> Result<(), Wait> {
        self.next(UnixTime::at(now.not_before(self.learned).wall))?;
        let known = now.monotonic.saturating_duration_since(self.learned.monotonic).as_secs();
        if known < LEAST_WAIT { Err(Wait(LEAST_WAIT - known)) } else { Ok(()) }
    }
}

/// The revocations and marks of a client since its end.
#[derive(Debug, Default)]
pub(super) struct After {
    /// The latest end among those that the view learned of since and that are earlier. Marked tokens up to it are revoked.
    earlier: Option<End>,
    /// The first of the former `earlier` ends, where the wall clock was set back once more since.
    passed: Option<u64>,
    mark: Option<Mark>,
}

impl After {
    /// Whether a token that was issued at that time, up to the end, is valid as far as its date goes.
    pub(super) fn spares(&self, token_id: &str, issued_at: u64) -> bool {
        let is_revoked = self.earlier.is_some_and(|earlier| issued_at <= earlier.second);
        !is_revoked && self.mark.is_some_and(|mark| mark.begins(token_id))
    }

    /// Whether an earlier end changes nothing at that time.
    pub(super) fn holds(&self, second: u64, now: Moment) -> bool {
        self.earlier.is_some_and(|known| second <= known.second && !is_beyond(known.second, now))
    }

    pub(super) fn add(&mut self, earlier: End) {
        if self.holds(earlier.second, earlier.learned) {
            return;
        }
        match self.earlier {
            // The wall clock was set back after the known end, too: otherwise the new end would be later.
            Some(known) if earlier.second <= known.second => self.pass(known, earlier.learned),
            _ => {}
        }
        self.earlier = Some(earlier);
    }

    /// Records that an end is over though the wall clock is before it. Tokens that were marked until now are revoked.
    fn pass(&mut self, known: End, now: Moment) {
        let before = self.passed.filter(|passed| *passed > UnixTime::at(now.wall).as_secs());
        let passed = before.map_or(known.second, |before| before.min(known.second));
        *self = Self { passed: Some(passed), ..Self::default() };
    }

    /// Dates a token by the wall clock, `end` being too far ahead of it. Without a mark, `fresh` becomes the mark.
    pub(super) fn date(&mut self, end: End, now: Moment, fresh: Mark) -> Result<Date, Wait> {
        let wall = UnixTime::at(now.wall);
        end.is_over(now)?;
        let mut next = wall.as_secs();
        if let Some(earlier) = self.earlier {
            if let Ok(after) = earlier.next(wall) {
                next = next.max(after);
            } else {
                earlier.is_over(now)?;
                self.pass(earlier, now);
            }
        }
        // The first of the ends that the wall clock will reach once more.
        let mut ahead = end.second;
        if let Some(passed) = self.passed {
            match (End { second: passed, learned: now }).next(wall) {
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

/// Whether a second is further ahead of the wall clock than a revocation of now can name one.
fn is_beyond(second: u64, now: Moment) -> bool {
    second > UnixTime::at(now.wall).after(CLOCK_SKEW + MAX_CLIENT_ANSWER_AGE + CLOCK_SKEW).as_secs()
}

/// Dates a token of a client whose tokens are not revoked by time beyond `end`.
pub(super) fn date_after(end: End, now: UnixTime) -> Result<Date, Wait> {
    let next = end.next(now)?;
    Ok(Date::usual(UnixTime::from_secs(next).map_or(now, |next| next.max(now))))
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
        Revocation::Client { client_id: BILLING, issued_until, expires_at }
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

    /// The view learned, at 1,000, that all tokens issued up to 1,005 are revoked; then the wall clock was set back to 100.
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
    async fn a_marked_token_is_valid_until_anything_revokes_what_was_issued_up_to_its_time() {
        let (view, clock, foreign) = set_back();
        assert_eq!(date(&view, &clock), Err(Wait(3)));
        pass(&clock, 3).await;
        let (issued_at, mark, expires_by) = date(&view, &clock).unwrap();
        assert_eq!((issued_at, expires_by), (103, 985));
        assert_eq!(date(&view, &clock), Ok((103, mark, 985)), "one mark for all");
        let token = of(mark, "0123456789");
        assert!(!revokes(&view, &token, 103));
        for other in ["0123456789012345678901", &of(foreign, "0123456789")] {
            assert!(revokes(&view, other, 103), "without the mark");
        }

        // The same record again, or one of an earlier time: nothing changes.
        add(&view, &clock, &client(1_005, 9_000));
        add(&view, &clock, &client(102, 8_000));
        assert!(!revokes(&view, &token, 103));
        // The same record, to be kept for longer.
        add(&view, &clock, &client(1_005, 9_500));
        assert!(!revokes(&view, &token, 103));
        assert_eq!(view.entries(), 1);

        let before = view.generation();
        add(&view, &clock, &client(113, 8_000));
        assert_ne!(view.generation(), before, "a token that was found valid is looked up again");
        assert!(revokes(&view, &token, 103) && revokes(&view, &token, 113));
        assert!(!revokes(&view, &token, 114));
        assert_eq!(date(&view, &clock), Err(Wait(8)), "a request that is under way is not dated before it");
        pass(&clock, 8).await;
        let (issued_at, same, _) = date(&view, &clock).unwrap();
        assert_eq!((issued_at, same), (114, mark));

        add(&view, &clock, &client(1_006, 9_000));
        assert!(revokes(&view, &token, 114), "a later end ends all of them");
    }

    #[tokio::test(start_paused = true)]
    async fn a_marked_token_is_revoked_by_its_name_and_with_others_that_are_too_many() {
        let (view, clock, _) = set_back();
        pass(&clock, 3).await;
        let (_, mark, _) = date(&view, &clock).unwrap();
        let names = ["a", "b", "c", "d", "e"].map(|name| of(mark, name));
        for name in &names[..3] {
            assert!(!view.holds(&token(name), Moment::now(&clock)), "the revocation of the client does not say it");
            add(&view, &clock, &token(name));
            assert!(view.holds(&token(name), Moment::now(&clock)) && revokes(&view, name, 103));
        }
        add(&view, &clock, &client(90, 9_000));
        assert!(revokes(&view, &names[0], 103), "it is kept though an earlier revocation came");
        assert!(!revokes(&view, &names[3], 103));
        add(&view, &clock, &token(&names[3]));
        assert_eq!(view.entries(), 1, "they are summed up");
        assert!(names.iter().all(|name| revokes(&view, name, 103)));
        assert!(!revokes(&view, &names[4], 104));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_twice_keeps_a_client_waiting_for_seconds_and_ends_what_was_marked_before() {
        let (view, clock, _) = set_back();
        pass(&clock, 3).await;
        let (_, mark, _) = date(&view, &clock).unwrap();
        add(&view, &clock, &client(113, 8_000));
        clock.set(at(50).to_system());
        assert_eq!(date(&view, &clock), Err(Wait(8)));
        pass(&clock, 8).await;
        let (issued_at, other, expires_by) = date(&view, &clock).unwrap();
        assert_eq!((issued_at, expires_by), (58, 93), "before the time of either revocation comes again");
        assert_ne!(mark, other);
        assert!(revokes(&view, &of(mark, "a"), 103) && revokes(&view, &of(mark, "a"), 58));
        assert!(!revokes(&view, &of(other, "a"), 58));
        add(&view, &clock, &client(68, 8_000));
        assert!(revokes(&view, &of(other, "a"), 58));
        pass(&clock, 40).await;
        assert_eq!(date(&view, &clock), Err(Wait(13)), "near the time of a revocation it waits");
        pass(&clock, 13).await;
        let (issued_at, _, expires_by) = date(&view, &clock).unwrap();
        assert_eq!((issued_at, expires_by), (114, 985));
    }

    /// Records come in any order when a view starts, and some come twice.
    #[tokio::test(start_paused = true)]
    async fn what_was_revoked_before_the_clock_was_set_back_hides_nothing_of_what_is_revoked_after() {
        let (view, clock, _) = set_back();
        clock.set(at(1_000).to_system());
        add(&view, &clock, &client(990, 9_000));
        clock.set(at(100).to_system());
        pass(&clock, 3).await;
        add(&view, &clock, &client(113, 8_000));
        assert_eq!(date(&view, &clock), Err(Wait(8)), "a request that is under way is not dated before it");
        add(&view, &clock, &client(112, 8_000));
        pass(&clock, 8).await;
        let (issued_at, mark, expires_by) = date(&view, &clock).unwrap();
        assert_eq!((issued_at, expires_by), (114, 970));
        add(&view, &clock, &client(990, 9_000));
        assert!(revokes(&view, &of(mark, "a"), 114), "in doubt it is revoked");
    }

    /// The revocation comes from a host whose clock is between this clock and the right one.
    #[tokio::test(start_paused = true)]
    async fn a_later_end_keeps_a_client_waiting_for_three_seconds_at_least() {
        let (view, clock, _) = set_back();
        pass(&clock, 600).await;
        date(&view, &clock).unwrap();
        add(&view, &clock, &client(1_300, 9_000));
        assert_eq!(date(&view, &clock), Err(Wait(3)));
        pass(&clock, 1).await;
        assert_eq!(date(&view, &clock), Err(Wait(2)));
        pass(&clock, 2).await;
        assert_eq!(date(&view, &clock).unwrap().0, 703);
        // By a clock that is right.
        add(&view, &clock, &client(1_603 + 10, 9_000));
        pass(&clock, 8).await;
        assert_eq!(date(&view, &clock).unwrap().0, 711);
    }

    /// Each revocation comes after the clock was set back once more.
    #[tokio::test(start_paused = true)]
    async fn a_marked_token_expires_before_the_first_of_all_the_seconds_that_the_clock_will_show_again() {
        let (view, clock, _) = set_back();
        pass(&clock, 3).await;
        date(&view, &clock).unwrap();
        add(&view, &clock, &client(113, 8_000));
        clock.set(at(50).to_system());
        pass(&clock, 8).await;
        assert_eq!(date(&view, &clock).unwrap().2, 93, "113 comes again");
        add(&view, &clock, &client(300, 8_000));
        pass(&clock, 250).await;
        clock.set(at(20).to_system());
        assert_eq!(date(&view, &clock).unwrap().2, 93, "113 comes before 300");

        // The clock does not go back behind 113 any more.
        clock.set(at(150).to_system());
        add(&view, &clock, &client(500, 8_000));
        pass(&clock, 400).await;
        clock.set(at(200).to_system());
        assert_eq!(date(&view, &clock).unwrap().2, 480, "113 is past, and 500 comes before 1,005");
    }

    #[test]
    fn a_second_is_too_far_ahead_for_a_revocation_of_now_from_16_seconds_on() {
        let clock = ManualClock::at(at(1_000).to_system());
        assert!(!is_beyond(1_015, Moment::now(&clock)) && is_beyond(1_016, Moment::now(&clock)));
    }
}
