//! Dates new tokens after a revocation. [`ClockSetBack`](super::clock_set_back::ClockSetBack) handles a wall clock that was set back since.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock::{Moment, UnixTime};
use crate::crypto::{Random, RandomError};
use crate::timing::{CLOCK_SKEW, MAX_DATED_AHEAD};

/// How long a client waits at least after its tokens were revoked, in seconds.
const MIN_WAIT: u64 = CLOCK_SKEW.as_secs() + 1 - MAX_DATED_AHEAD.as_secs();

/// The prefix of the `jti` of a client's marked tokens: 72 random bits in base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark([u8; Self::LENGTH]);

impl Mark {
    pub(crate) const LENGTH: usize = 12;

    /// Returns a random mark.
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

    pub(super) fn is_prefix_of(&self, token_id: &str) -> bool {
        token_id.as_bytes().starts_with(&self.0)
    }
}

/// The date of a client's next token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    pub(crate) issued_at: UnixTime,
    pub(crate) marked: Option<Marked>,
}

/// The additional properties of a token that is dated by a wall clock that was set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) mark: Mark,
    /// The latest time at which the token may expire.
    pub(crate) expires_by: UnixTime,
}

impl Date {
    /// Returns the date of a token without a mark.
    pub(crate) fn usual(issued_at: UnixTime) -> Self {
        Self { issued_at, marked: None }
    }
}

/// The number of seconds after which the client may request a token again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait(pub(crate) u64);

/// The second up to which all tokens of a client are revoked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cutoff {
    pub(super) second: u64,
    /// When the view learned of the revocation.
    pub(super) learned: Moment,
}

impl Cutoff {
    /// Returns the second after the cutoff if a token can be dated by it at the time `now`.
    ///
    /// # Errors
    ///
    /// The time until it can.
    pub(super) fn next(self, now: UnixTime) -> Result<u64, Wait> {
        let (next, max) = (self.second.saturating_add(1), now.after(MAX_DATED_AHEAD).as_secs());
        if next > max { Err(Wait(next - max)) } else { Ok(next) }
    }

    /// Checks that the cutoff has passed by the later of two clocks, and that the view has known it for [`MIN_WAIT`], so that
    /// requests that were in progress have ended.
    ///
    /// # Errors
    ///
    /// The time until both are true.
    pub(super) fn has_passed(self, now: Moment) -> Result<(), Wait> {
        self.next(UnixTime::at(now.not_before(self.learned).wall))?;
        let known = now.monotonic.saturating_duration_since(self.learned.monotonic).as_secs();
        if known < MIN_WAIT { Err(Wait(MIN_WAIT - known)) } else { Ok(()) }
    }
}

/// Dates a token after the `cutoff`, or by the clock if that is later.
///
/// # Errors
///
/// The time to wait until the second after the cutoff is at most [`MAX_DATED_AHEAD`] ahead of `now`.
pub(super) fn date_after(cutoff: Cutoff, now: UnixTime) -> Result<Date, Wait> {
    let next = cutoff.next(now)?;
    Ok(Date::usual(UnixTime::from_secs(next).map_or(now, |next| next.max(now))))
}
