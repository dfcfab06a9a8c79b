//! [`Clock`]: the source of the time.

mod rfc3339;

use std::any::Any;
use std::fmt;
use std::fs::Metadata;
use std::num::NonZero;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

pub use self::rfc3339::Rfc3339;

/// The wall clock of a server or a verifier, injected so that tests can set it instead of sleeping.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_client_credentials::clock::Clock;
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
    /// Returns the current time. Called for every request, so it must not block.
    fn now(&self) -> SystemTime;
}

/// The clock of the operating system. This is the default.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "a unit struct without settings")]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock that is shared. That of the system has ticks, which are cheap to read.
#[derive(Clone, Debug)]
pub(crate) enum SharedClock {
    System,
    Other(Arc<dyn Clock>),
}

/// A tick of the system's coarse clock, which advances every few milliseconds: between two readings of the same one, at most 20 ms have
/// passed. Time during which a machine was suspended does not count: in the first 20 ms after that, it can be the tick from before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tick(NonZero<u64>);

impl SharedClock {
    pub(crate) fn new(clock: impl Clock) -> Self {
        if (&clock as &dyn Any).is::<SystemClock>() { Self::System } else { Self::Other(Arc::new(clock)) }
    }

    /// Returns the current tick in a fifth of the time that the wall clock takes. Other clocks than that of the system have none.
    #[inline]
    pub(crate) fn tick(&self) -> Option<Tick> {
        match self {
            Self::System => NonZero::new(coarsetime::Instant::now_without_cache_update().as_ticks()).map(Tick),
            Self::Other(_) => None,
        }
    }
}

impl Clock for SharedClock {
    fn now(&self) -> SystemTime {
        match self {
            Self::System => SystemTime::now(),
            Self::Other(clock) => clock.now(),
        }
    }
}

/// A clock that changes only when it is set, for tests (feature `test-util`). Clones share the time.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_client_credentials::clock::{Clock, ManualClock};
///
/// let clock = ManualClock::at(SystemTime::UNIX_EPOCH);
/// clock.advance(Duration::from_secs(5));
/// assert_eq!(clock.now(), SystemTime::UNIX_EPOCH + Duration::from_secs(5));
/// ```
#[cfg(any(test, feature = "test-util"))]
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<std::sync::Mutex<SystemTime>>);

#[cfg(any(test, feature = "test-util"))]
impl ManualClock {
    /// Creates a clock with this time.
    #[must_use]
    pub fn at(now: SystemTime) -> Self {
        Self(Arc::new(std::sync::Mutex::new(now)))
    }

    /// Sets the time.
    pub fn set(&self, now: SystemTime) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = now;
    }

    /// Advances the time, at most to the end of the year 9999.
    pub fn advance(&self, by: Duration) {
        self.set(later(self.now(), by));
    }
}

#[cfg(any(test, feature = "test-util"))]
impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A point in time by two clocks: the wall clock, which advances while a machine is suspended, and the monotonic clock, which
/// cannot be set back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) wall: SystemTime,
    pub(crate) monotonic: Instant,
}

impl Moment {
    pub(crate) fn now(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: Instant::now() }
    }

    /// Returns the time since `then`, by the clock that shows more. Something that is old by either clock counts as old.
    pub(crate) fn since(self, then: Self) -> Duration {
        let by_wall = self.wall.duration_since(then.wall).unwrap_or_default();
        by_wall.max(self.monotonic.saturating_duration_since(then.monotonic))
    }

    /// Returns this moment with the wall time that there would be if the wall clock had not been set back since `then`.
    pub(crate) fn not_before(self, then: Self) -> Self {
        let wall = then.wall.checked_add(self.since(then)).map_or(self.wall, |wall| wall.max(self.wall));
        Self { wall, ..self }
    }
}

/// The last second of the year 9999, which every platform can represent. Sums of times that exceed a [`SystemTime`] become
/// this.
const LATEST: u64 = 253_402_300_799;

/// Returns the time that is `by` later, or the end of the year 9999 if a [`SystemTime`] cannot represent the sum.
pub(crate) fn later(time: SystemTime, by: Duration) -> SystemTime {
    time.checked_add(by).unwrap_or_else(|| time.max(UNIX_EPOCH + Duration::from_secs(LATEST)))
}

/// Returns the whole milliseconds of a duration.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the time in milliseconds since 1970.
pub(crate) fn unix_millis(time: SystemTime) -> u64 {
    millis(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Returns the time that is this many milliseconds after the start of 1970.
pub(crate) fn at_unix_millis(millis: u64) -> SystemTime {
    later(UNIX_EPOCH, Duration::from_millis(millis))
}

/// Returns when the content, the name, the owner or the permissions of a file last changed (`ctime`), which no program can set. `None` on
/// systems without such a time.
pub(crate) fn changed_at(metadata: &Metadata) -> Option<SystemTime> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let nanoseconds = u32::try_from(metadata.ctime_nsec()).ok();
        let since_1970 = u64::try_from(metadata.ctime()).ok().zip(nanoseconds);
        since_1970.and_then(|(seconds, nanoseconds)| UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds)))
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        None
    }
}

/// Whole seconds since the epoch, at most what a [`SystemTime`] can represent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UnixTime(u64);

impl UnixTime {
    /// Returns the current second.
    pub(crate) fn now(clock: &dyn Clock) -> Self {
        Self::at(clock.now())
    }

    /// Returns the second of that time, or 0 for a time before 1970.
    pub(crate) fn at(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }

    /// Returns `None` if a [`SystemTime`] cannot represent it, so that [`UnixTime::to_system`] always succeeds.
    pub(crate) fn from_secs(secs: u64) -> Option<Self> {
        UNIX_EPOCH.checked_add(Duration::from_secs(secs)).map(|_| Self(secs))
    }

    pub(crate) fn as_secs(self) -> u64 {
        self.0
    }

    pub(crate) fn to_system(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.0)
    }

    /// Returns the second that is `by` earlier, at least 0.
    pub(crate) fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by.as_secs()))
    }

    /// Returns the second that is `by` later, at most the end of the year 9999, so that the sum is a valid [`SystemTime`], too.
    pub(crate) fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by.as_secs()).min(self.0.max(LATEST)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    use super::{Clock as _, LATEST, ManualClock, SharedClock, SystemClock, UnixTime, later};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn sums_of_times_are_valid_and_end_with_the_year_9999() {
        let end = UNIX_EPOCH + Duration::from_secs(LATEST);
        let sum = |seconds, by| UnixTime::from_secs(seconds).unwrap().after(by).to_system();
        assert_eq!(sum(5, SECOND), UNIX_EPOCH + 6 * SECOND);
        assert_eq!(sum(5, Duration::MAX), end);
        assert_eq!(sum(LATEST - 1, SECOND), end);
        assert_eq!(later(UNIX_EPOCH, SECOND), UNIX_EPOCH + SECOND);
        assert_eq!(later(UNIX_EPOCH, Duration::MAX), end);
        // A time that is already later does not change.
        let last = UnixTime::from_secs(i64::MAX.unsigned_abs()).unwrap();
        assert_eq!(last.after(SECOND), last);
        assert_eq!(later(last.to_system(), Duration::MAX), last.to_system());
    }

    #[test]
    fn a_tick_of_the_system_ends_and_other_clocks_have_none() {
        let clock = SharedClock::new(SystemClock);
        let (first, start) = (clock.tick().unwrap(), Instant::now());
        while clock.tick() == Some(first) {
            assert!(start.elapsed() < SECOND, "the tick does not end");
        }
        assert_eq!(SharedClock::new(ManualClock::at(UNIX_EPOCH)).tick(), None);
    }

    #[test]
    fn advancing_a_manual_clock_stops_at_the_end_of_the_year_9999() {
        let clock = ManualClock::at(SystemTime::now());
        clock.advance(Duration::MAX);
        assert_eq!(clock.now(), UNIX_EPOCH + Duration::from_secs(LATEST));
    }
}
