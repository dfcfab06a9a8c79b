//! [`TokenLifetime`]: the lifetime of a token.

use std::time::Duration;

/// A lifetime in whole seconds, from 1 s to 365 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TokenLifetime(u64);

const LONGEST: u64 = 365 * 24 * 60 * 60;

impl TokenLifetime {
    /// The default of a server. A service requests a new token every few minutes, and a stolen one is soon worthless.
    pub(crate) const DEFAULT: Duration = Duration::from_secs(600);
    pub(crate) const LONGEST: Duration = Duration::from_secs(LONGEST);

    pub(crate) const fn new(lifetime: Duration) -> Result<Self, &'static str> {
        match (lifetime.as_secs(), lifetime.subsec_nanos()) {
            (seconds @ 1..=LONGEST, 0) => Ok(Self(seconds)),
            _ => Err("a token's lifetime must be whole seconds, from 1 second to 365 days"),
        }
    }

    pub(crate) const fn to_duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}
