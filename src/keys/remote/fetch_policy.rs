//! When keys are fetched, and how long they may be used. The mechanism is in [`refresh`](super::refresh).

use std::time::Duration;

use http::HeaderMap;
use http::header::{AGE, CACHE_CONTROL};

use super::budget::Rate;
use crate::crypto::Random;

/// The settings.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// How long a set without `Cache-Control` is fresh.
    pub(crate) fresh: Duration,
    pub(crate) least_fresh: Duration,
    pub(crate) most_fresh: Duration,
    /// How long the last good set may be used.
    pub(crate) oldest: Duration,
    /// How often unknown names may cause a fetch. A name that a fetched set lacked causes no other fetch for one interval of
    /// this rate.
    pub(crate) unknown: Rate,
    /// How often failed signatures under known names may cause a fetch.
    pub(crate) signatures: Rate,
    /// Whether shared caches must revalidate their copies until the first fetch has succeeded.
    pub(crate) revalidate_first: bool,
    /// How long after its last use a set is refreshed by the schedule. `None` means always. A set that was not used is fetched only
    /// when a request needs it.
    pub(crate) refreshed_after_use: Option<Duration>,
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The maximum pause between failing attempts, in seconds.
const LONGEST_PAUSE: u64 = 30;

/// The maximum pause between fetches while there is no usable set, and so the maximum `Retry-After` of a request that needs
/// one. It equals the maximum pause after failures: while every request is answered 503, a fetch that succeeded long ago is as
/// useless as a failed one.
pub(super) const LONGEST_PAUSE_WITHOUT_KEYS: Duration = Duration::from_secs(LONGEST_PAUSE);

impl Default for Policy {
    fn default() -> Self {
        Self {
            fresh: 10 * MINUTE,
            least_fresh: MINUTE,
            most_fresh: DAY,
            oldest: DAY,
            unknown: Rate { burst: 3, every: Duration::from_secs(10) },
            signatures: Rate { burst: 1, every: MINUTE },
            revalidate_first: false,
            refreshed_after_use: None,
        }
    }
}

impl Policy {
    /// The minimum of `oldest`. A set is fresh for at least a minute; if it became too old before that, it would be fetched
    /// without end.
    pub(crate) const LEAST_OLDEST: Duration = MINUTE;

    /// Returns the time from a successful fetch to the next one: 70 to 80 % of the time for which the set is fresh and may be
    /// used. The jitter prevents replicas that started together from fetching together.
    pub(super) fn next_after_success(&self, caching: Caching, random: &dyn Random) -> Duration {
        let fresh = match caching {
            Caching::For(time) => time.clamp(self.least_fresh, self.most_fresh),
            Caching::Never => self.least_fresh,
            Caching::Unspecified => self.fresh,
        };
        // A set is fetched again before it becomes unusable, even if the issuer declares it fresh for longer.
        fresh.min(self.oldest).mul_f64(0.7 + 0.1 * fraction(random))
    }

    /// Returns the time until the next attempt after this many failures in a row: 1 s, 2 s, … 30 s, minus up to half of it.
    #[allow(clippy::unused_self)] // it is for the policy to say
    pub(super) fn next_after_failure(&self, failures: u32, random: &dyn Random) -> Duration {
        let pause = 1_u64.checked_shl(failures.saturating_sub(1)).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
        Duration::from_secs(pause).mul_f64(0.5 + 0.5 * fraction(random))
    }
}

/// Returns a random number from 0 to 1, or one in the middle if there is no randomness.
fn fraction(random: &dyn Random) -> f64 {
    let mut bytes = [0; 4];
    match random.fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}

/// How long an answer is fresh (RFC 9111 §4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caching {
    For(Duration),
    Never,
    Unspecified,
}

impl Caching {
    /// Reads `max-age` minus `Age`, or never for `no-store` and `no-cache`. This is a private cache, so `s-maxage` is ignored.
    pub(super) fn from_headers(headers: &HeaderMap) -> Self {
        let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        let directives = values.flat_map(|value| value.split(',')).map(str::trim);
        let mut caching = Self::Unspecified;
        for directive in directives {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
                return Self::Never;
            }
            if name.eq_ignore_ascii_case("max-age") {
                // §1.2.2: an invalid number counts as stale.
                let seconds = value.trim_matches('"').parse::<u64>().unwrap_or(0);
                caching = Self::For(Duration::from_secs(seconds.saturating_sub(age(headers))));
            }
        }
        caching
    }
}

fn age(headers: &HeaderMap) -> u64 {
    headers.get(AGE).and_then(|age| age.to_str().ok()?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;

    use super::{Caching, Policy};
    use crate::crypto::{Random, RandomError};

    #[derive(Debug)]
    struct Always(u8);

    impl Random for Always {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
            bytes.fill(self.0);
            Ok(())
        }
    }

    fn caching(headers: &[(&'static str, &'static str)]) -> Caching {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Caching::from_headers(&map)
    }

    #[test]
    fn cache_control_sets_how_long_a_set_is_fresh() {
        let seconds = |seconds| Caching::For(Duration::from_secs(seconds));
        assert_eq!(caching(&[]), Caching::Unspecified);
        assert_eq!(caching(&[("cache-control", "public")]), Caching::Unspecified);
        assert_eq!(caching(&[("cache-control", "public, Max-Age=300")]), seconds(300));
        assert_eq!(caching(&[("cache-control", "max-age=\"300\""), ("age", "100")]), seconds(200));
        assert_eq!(caching(&[("cache-control", "max-age=300"), ("age", "400")]), seconds(0));
        assert_eq!(caching(&[("cache-control", "max-age=x")]), seconds(0));
        for never in ["no-store", "max-age=300, no-cache", "NO-CACHE"] {
            assert_eq!(caching(&[("cache-control", never)]), Caching::Never, "{never}");
        }
    }

    #[test]
    fn the_next_fetch_is_due_at_70_to_80_percent_within_a_minute_and_a_day() {
        let policy = Policy::default();
        let next = |caching, random| policy.next_after_success(caching, &Always(random)).as_secs();
        let hours = |hours: u64| Caching::For(Duration::from_secs(hours * 3_600));
        assert_eq!((next(hours(1), 0), next(hours(1), 255)), (2_520, 2_880));
        assert_eq!((next(Caching::Unspecified, 0), next(Caching::Unspecified, 255)), (420, 480));
        assert_eq!((next(Caching::Never, 255), next(hours(0), 255)), (48, 48));
        assert_eq!(next(hours(1_000), 255), 69_120);
    }

    #[test]
    fn the_next_fetch_is_due_before_the_set_becomes_unusable() {
        let policy = Policy { oldest: Duration::from_secs(3_600), ..Policy::default() };
        let day = Caching::For(Duration::from_secs(24 * 3_600));
        assert_eq!(policy.next_after_success(day, &Always(255)).as_secs(), 2_880);
    }

    #[test]
    fn the_pause_after_failures_grows_to_at_most_30_seconds() {
        let policy = Policy::default();
        let next = |failures| policy.next_after_failure(failures, &Always(255)).as_secs();
        assert_eq!([1, 2, 3, 5, 6, 7, 64, u32::MAX].map(next), [1, 2, 4, 16, 30, 30, 30, 30]);
        assert_eq!(policy.next_after_failure(9, &Always(0)).as_secs(), 15);
    }
}
