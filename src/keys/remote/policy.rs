//! When keys are fetched, and for how long they are good; the mechanism is [`cache`](super::cache).

use std::time::Duration;

use http::HeaderMap;
use http::header::{AGE, CACHE_CONTROL};

use super::budget::Rate;
use crate::crypto::Random;

/// The numbers.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// How long a set without `Cache-Control` is fresh.
    pub(crate) fresh: Duration,
    pub(crate) least_fresh: Duration,
    pub(crate) most_fresh: Duration,
    /// How long the last good set is used.
    pub(crate) oldest: Duration,
    /// How often unknown names may cause a fetch. A name that a fetched set lacked is refused without another fetch for as
    /// long as one fetch of these takes to be earned.
    pub(crate) unknown: Rate,
    /// How often failed signatures under known names may cause a fetch.
    pub(crate) signatures: Rate,
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest pause between attempts that fail, in seconds.
const LONGEST_PAUSE: u64 = 30;

/// The longest pause between fetches while no set may be used, and so the longest `Retry-After` of a request that needs one.
/// It is the longest pause after failures: while every request is answered 503, a fetch that succeeded long ago is no better
/// than one that failed.
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
        }
    }
}

impl Policy {
    /// The least that `oldest` may be: a set is fresh for a minute at least, and one that is too old before that would be
    /// fetched without end.
    pub(crate) const LEAST_OLDEST: Duration = MINUTE;

    /// How long after a fetch the next one is due: at 70 to 80 % of the time for which the set is fresh and may be used, so
    /// that replicas which started together do not ask together.
    pub(super) fn next_after_success(&self, caching: Caching, random: &dyn Random) -> Duration {
        let fresh = match caching {
            Caching::For(time) => time.clamp(self.least_fresh, self.most_fresh),
            Caching::Never => self.least_fresh,
            Caching::Unsaid => self.fresh,
        };
        // A set is fetched again before it may not be used any more, however long the issuer calls it fresh.
        fresh.min(self.oldest).mul_f64(0.7 + 0.1 * fraction(random))
    }

    /// How long after this many failures in a row the next attempt is due: 1 s, 2 s, … 30 s, less up to a half.
    #[allow(clippy::unused_self)] // it is for the policy to say
    pub(super) fn next_after_failure(&self, failures: u32, random: &dyn Random) -> Duration {
        let pause = 1_u64.checked_shl(failures.saturating_sub(1)).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
        Duration::from_secs(pause).mul_f64(0.5 + 0.5 * fraction(random))
    }
}

/// From 0 to 1; in the middle when there is no chance to be had.
fn fraction(random: &dyn Random) -> f64 {
    let mut bytes = [0; 4];
    match random.fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}

/// What an answer says about how long it is fresh (RFC 9111 §4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caching {
    For(Duration),
    Never,
    Unsaid,
}

impl Caching {
    /// `max-age` less `Age`; `no-store` and `no-cache` are never. We are a private cache: `s-maxage` is not for us.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        let directives = values.flat_map(|value| value.split(',')).map(str::trim);
        let mut caching = Self::Unsaid;
        for directive in directives {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
                return Self::Never;
            }
            if name.eq_ignore_ascii_case("max-age") {
                // §1.2.2: what is no number is stale.
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
        Caching::of(&map)
    }

    #[test]
    fn cache_control_says_for_how_long() {
        let seconds = |seconds| Caching::For(Duration::from_secs(seconds));
        assert_eq!(caching(&[]), Caching::Unsaid);
        assert_eq!(caching(&[("cache-control", "public")]), Caching::Unsaid);
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
        assert_eq!((next(Caching::Unsaid, 0), next(Caching::Unsaid, 255)), (420, 480));
        assert_eq!((next(Caching::Never, 255), next(hours(0), 255)), (48, 48));
        assert_eq!(next(hours(1_000), 255), 69_120);
    }

    #[test]
    fn the_next_fetch_is_due_before_the_set_may_not_be_used_any_more() {
        let policy = Policy { oldest: Duration::from_secs(3_600), ..Policy::default() };
        let day = Caching::For(Duration::from_secs(24 * 3_600));
        assert_eq!(policy.next_after_success(day, &Always(255)).as_secs(), 2_880);
    }

    #[test]
    fn failures_in_a_row_are_further_and_further_apart_but_no_more_than_30_seconds() {
        let policy = Policy::default();
        let next = |failures| policy.next_after_failure(failures, &Always(255)).as_secs();
        assert_eq!([1, 2, 3, 5, 6, 7, 64, u32::MAX].map(next), [1, 2, 4, 16, 30, 30, 30, 30]);
        assert_eq!(policy.next_after_failure(9, &Always(0)).as_secs(), 15);
    }
}
