//! [`Clock`]: where the time comes from.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The wall clock of a server or a verifier, injected so that tests set it and none of them sleeps.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_client_credentials::Clock;
///
/// #[derive(Debug)]
/// struct Late(Duration);
///
/// impl Clock for Late {
///     fn now(&self) -> SystemTime {
///         SystemTime::now() - self.0
///     }
/// }
/// ```
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time now. It is read on every request, so it must not block.
    fn now(&self) -> SystemTime;
}

/// The clock of the operating system, the default.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "its name is its value, and there is nothing to set")]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock that stands still until it is moved, for tests (feature `test-util`). Clones show the same time.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_client_credentials::{Clock, ManualClock};
///
/// let clock = ManualClock::at(SystemTime::UNIX_EPOCH);
/// clock.advance(Duration::from_secs(5));
/// assert_eq!(clock.now(), SystemTime::UNIX_EPOCH + Duration::from_secs(5));
/// ```
#[cfg(any(test, feature = "test-util"))]
#[derive(Clone, Debug)]
pub struct ManualClock(std::sync::Arc<std::sync::Mutex<SystemTime>>);

#[cfg(any(test, feature = "test-util"))]
impl ManualClock {
    /// A clock that shows this time.
    #[must_use]
    pub fn at(now: SystemTime) -> Self {
        Self(std::sync::Arc::new(std::sync::Mutex::new(now)))
    }

    /// Shows this time from now on.
    pub fn set(&self, now: SystemTime) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = now;
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        self.set(self.now() + by);
    }
}

#[cfg(any(test, feature = "test-util"))]
impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A point in time by two clocks: that on the wall, which goes on while a machine sleeps, and the monotonic one, which nobody
/// sets back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) wall: SystemTime,
    pub(crate) monotonic: Instant,
}

impl Moment {
    pub(crate) fn now(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: Instant::now() }
    }

    /// The time since then, by the clock that says more: what is old by either is old.
    pub(crate) fn since(self, then: Self) -> Duration {
        let by_wall = self.wall.duration_since(then.wall).unwrap_or_default();
        by_wall.max(self.monotonic.saturating_duration_since(then.monotonic))
    }
}

/// Whole seconds since the epoch: the `NumericDate` of RFC 7519 §2, without the fractions that it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UnixTime(u64);

impl UnixTime {
    /// The second that `clock` shows.
    pub(crate) fn now(clock: &dyn Clock) -> Self {
        Self::at(clock.now())
    }

    /// The second of that time; a time before 1970 is its first.
    pub(crate) fn at(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }

    /// `None` beyond what a [`SystemTime`] can hold, so that [`UnixTime::to_system`] is total.
    pub(crate) fn from_secs(secs: u64) -> Option<Self> {
        UNIX_EPOCH.checked_add(Duration::from_secs(secs)).map(|_| Self(secs))
    }

    pub(crate) fn as_secs(self) -> u64 {
        self.0
    }

    pub(crate) fn to_system(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.0)
    }

    pub(crate) fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by.as_secs()))
    }
}
