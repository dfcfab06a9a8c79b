//! Slows down guessing of secrets (RFC 6749 §2.3.1: the server MUST protect itself against brute force).
//!
//! Failures are counted per minute. A random secret cannot be guessed: the right one always passes, so no one can lock
//! out its owner, and only wrong ones are refused. A chosen secret can be guessed: an attempt over the limit is refused
//! before any hashing.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::attempt_limits::AttemptLimits;
use super::{Fault, TokenError};
use crate::client_id::ClientId;
use crate::clock::{Clock, UnixTime};
use crate::network::network;

/// The maximum number of pairs of id and address that are counted separately per minute. An outsider can use any number
/// of either.
const TRACKED: usize = 10_000;

const WINDOW_SECONDS: u64 = 60;

/// A client id, and the address of its caller if known.
type Pair = (ClientId, Option<IpAddr>);

#[derive(Debug)]
pub(crate) struct Throttle {
    limits: AttemptLimits,
    counts: Arc<Counts>,
}

#[derive(Debug)]
struct Counts {
    clock: Arc<dyn Clock>,
    window: Mutex<Window>,
}

/// The failures of the current minute, and the checks in flight.
#[derive(Debug, Default)]
struct Window {
    minute: u64,
    /// Failures of generated secrets and of unknown clients. All pairs beyond the bound share one count.
    generated: HashMap<Pair, u32>,
    generated_beyond: u32,
    /// Failures of chosen secrets, each of which took a slow hash. Beyond the bound, only the count by client applies.
    /// That map contains only registered clients.
    chosen: HashMap<Pair, u32>,
    chosen_by_client: HashMap<ClientId, u32>,
    /// Running and waiting checks. A client has at most as many as its limit.
    in_flight: HashMap<Pair, u32>,
    in_flight_by_client: HashMap<ClientId, u32>,
}

/// Permission to check a chosen secret. It is held until the check ends, so that a caller that hangs up does not
/// release it early. If it is dropped without a check, it is not counted.
#[must_use]
pub(super) struct Attempt {
    counts: Arc<Counts>,
    pair: Pair,
}

impl Throttle {
    pub(crate) fn new(limits: AttemptLimits, clock: Arc<dyn Clock>) -> Self {
        Self { limits, counts: Arc::new(Counts { clock, window: Mutex::default() }) }
    }

    /// Counts a wrong generated secret. Returns an error beyond the limit.
    pub(super) fn failed(&self, id: &ClientId, peer: Option<IpAddr>) -> Result<(), TokenError> {
        let pair = (id.clone(), peer.map(network));
        let mut window = self.counts.window();
        let Window { generated, generated_beyond, .. } = &mut *window;
        let count = count_up(generated, pair).unwrap_or_else(|| {
            *generated_beyond = generated_beyond.saturating_add(1);
            *generated_beyond
        });
        drop(window);
        if count > self.limits.generated_by_address { Err(self.too_many()) } else { Ok(()) }
    }

    /// Requests permission to check a chosen secret. `id` must be that of a registered client.
    pub(super) fn attempt(&self, id: &ClientId, peer: Option<IpAddr>) -> Result<Attempt, TokenError> {
        let AttemptLimits { chosen_by_address, chosen_by_client, .. } = self.limits;
        let by_address_limit = if peer.is_some() { chosen_by_address } else { u32::MAX };
        let pair = (id.clone(), peer.map(network));
        let mut window = self.counts.window();
        let Window { chosen, chosen_by_client: by_client, in_flight, in_flight_by_client, .. } = &mut *window;
        let (by_address, by_client) = (count(chosen, &pair), count(by_client, id));
        if by_client >= chosen_by_client || by_address >= by_address_limit {
            drop(window);
            return Err(self.too_many());
        }
        // All attempts in flight could fail, so there may be at most as many as the limits have left.
        let (with_pair, with_client) = (count(in_flight, &pair), count(in_flight_by_client, id));
        let left = (by_address_limit - by_address > with_pair) && (chosen_by_client - by_client > with_client);
        if !left {
            return Err(
                TokenError::new(Fault::UNAVAILABLE).detailed("too many concurrent secret checks for this client")
            );
        }
        *in_flight.entry(pair.clone()).or_default() += 1;
        *in_flight_by_client.entry(id.clone()).or_default() += 1;
        Ok(Attempt { counts: self.counts.clone(), pair })
    }

    fn too_many(&self) -> TokenError {
        let rest = WINDOW_SECONDS - UnixTime::now(&*self.counts.clock).as_secs() % WINDOW_SECONDS;
        TokenError::new(Fault::TOO_MANY_FAILURES).retry_after(rest)
    }
}

impl Counts {
    /// Returns the counts of the current minute.
    fn window(&self) -> MutexGuard<'_, Window> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = UnixTime::now(&*self.clock).as_secs() / WINDOW_SECONDS;
        if window.minute != minute {
            let (in_flight, in_flight_by_client) =
                (std::mem::take(&mut window.in_flight), std::mem::take(&mut window.in_flight_by_client));
            *window = Window { minute, in_flight, in_flight_by_client, ..Window::default() };
        }
        window
    }
}

impl Attempt {
    /// Counts the attempt as failed.
    pub(super) fn failed(self) {
        let mut window = self.counts.window();
        let by_client = window.chosen_by_client.entry(self.pair.0.clone()).or_default();
        *by_client = by_client.saturating_add(1);
        count_up(&mut window.chosen, self.pair.clone());
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut window = self.counts.window();
        count_down(&mut window.in_flight, &self.pair);
        count_down(&mut window.in_flight_by_client, &self.pair.0);
    }
}

fn count<K: Eq + Hash>(counts: &HashMap<K, u32>, key: &K) -> u32 {
    counts.get(key).copied().unwrap_or_default()
}

/// Decrements a count, and removes it at zero.
fn count_down<K: Eq + Hash>(counts: &mut HashMap<K, u32>, key: &K) {
    match counts.get_mut(key) {
        Some(count) if *count > 1 => *count -= 1,
        _ => drop(counts.remove(key)),
    }
}

/// Increments a count and returns it. Returns `None` for a new key in a full map.
fn count_up<K: Eq + Hash>(counts: &mut HashMap<K, u32>, key: K) -> Option<u32> {
    if counts.len() >= TRACKED && !counts.contains_key(&key) {
        return None;
    }
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(1);
    Some(*count)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use http::header::RETRY_AFTER;
    use http::{HeaderValue, Version};

    use super::{AttemptLimits, TRACKED, Throttle, TokenError};
    use crate::client_id::ClientId;
    use crate::clock::ManualClock;

    const ID: ClientId = ClientId::from_static("billing");

    fn throttle() -> (Throttle, ManualClock) {
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_200));
        (Throttle::new(AttemptLimits::default(), Arc::new(clock.clone())), clock)
    }

    #[allow(clippy::unnecessary_wraps)] // the calls need an `Option`
    fn peer(last: u8) -> Option<IpAddr> {
        Some([192, 0, 2, last].into())
    }

    /// Returns how many of 1,000 wrong chosen secrets are checked.
    fn wrong_ones_allowed(throttle: &Throttle, peer: Option<IpAddr>) -> usize {
        (0..1_000).map_while(|_| throttle.attempt(&ID, peer).ok()).map(super::Attempt::failed).count()
    }

    #[test]
    fn wrong_generated_secrets_beyond_100_a_minute_are_refused_until_the_next_minute() {
        let (throttle, clock) = throttle();
        for _ in 0..100 {
            assert!(throttle.failed(&ID, peer(1)).is_ok());
        }
        assert!(throttle.failed(&ID, peer(1)).is_err());
        assert!(throttle.failed(&ID, peer(2)).is_ok(), "another address has its own count");
        clock.advance(Duration::from_secs(60));
        assert!(throttle.failed(&ID, peer(1)).is_ok());
    }

    #[test]
    fn wrong_chosen_secrets_are_limited_per_address_and_per_client() {
        let (throttle, clock) = throttle();
        assert_eq!(wrong_ones_allowed(&throttle, peer(1)), 10);
        let elsewhere: usize = (2..20).map(|last| wrong_ones_allowed(&throttle, peer(last))).sum();
        assert_eq!(elsewhere, 90, "the limit for the client is 100");
        clock.advance(Duration::from_secs(60));
        assert_eq!(wrong_ones_allowed(&throttle, peer(1)), 10);
    }

    #[test]
    fn failures_from_many_addresses_exhaust_the_limit_of_the_client_with_429() {
        let (throttle, _) = throttle();
        let failures: usize = (1..=10).map(|last| wrong_ones_allowed(&throttle, peer(last))).sum();
        assert_eq!(failures, 100);
        let refusals = [1, 11].map(|last| throttle.attempt(&ID, peer(last)).err().unwrap().status().as_u16());
        assert_eq!(refusals, [429, 429], "an address with failures, and a new one");
    }

    #[test]
    fn a_clock_that_is_set_back_starts_new_counts() {
        let (throttle, clock) = throttle();
        assert_eq!(wrong_ones_allowed(&throttle, peer(1)), 10);
        for _ in 0..100 {
            assert!(throttle.failed(&ID, peer(1)).is_ok());
        }
        clock.set(SystemTime::UNIX_EPOCH + Duration::from_secs(600));
        assert!(throttle.failed(&ID, peer(1)).is_ok());
        assert_eq!(wrong_ones_allowed(&throttle, peer(1)), 10);
    }

    #[test]
    fn without_a_known_address_only_the_limit_of_the_client_applies() {
        let (throttle, _) = throttle();
        assert_eq!(wrong_ones_allowed(&throttle, None), 100);
    }

    #[test]
    fn the_right_chosen_secret_and_one_that_could_not_be_checked_are_not_counted() {
        let (throttle, _) = throttle();
        for _ in 0..1_000 {
            drop(throttle.attempt(&ID, peer(1)).unwrap());
        }
        assert_eq!(wrong_ones_allowed(&throttle, peer(1)), 10);
        assert!(throttle.counts.window().in_flight.is_empty());
        assert!(throttle.counts.window().in_flight_by_client.is_empty());
    }

    #[test]
    fn attempts_in_flight_do_not_exceed_the_limits_and_are_not_failures() {
        let (throttle, clock) = throttle();
        let from = |last| -> Vec<_> { (0..1_000).map_while(|_| throttle.attempt(&ID, peer(last)).ok()).collect() };
        let (one, other) = (from(1), from(2));
        assert_eq!((one.len(), other.len()), (10, 10), "the limit of an address is 10");
        let rest: Vec<_> = (3..30).flat_map(from).collect();
        assert_eq!(rest.len(), 80, "the limit of a client is 100");
        assert_eq!(throttle.attempt(&ID, peer(1)).err().unwrap().status(), 503);
        clock.advance(Duration::from_secs(60));
        let refused = [1, 99].map(|last| throttle.attempt(&ID, peer(last)).err().unwrap().status());
        assert_eq!(refused, [503, 503], "they are still in flight in the next minute");
        drop((other, rest));
        assert_eq!(throttle.attempt(&ID, peer(1)).err().unwrap().status(), 503, "those of this address are, too");
        drop(one);
        assert_eq!(wrong_ones_allowed(&throttle, peer(1)), 10);
    }

    #[test]
    fn memory_is_bounded_and_a_flood_of_unknown_ids_does_not_affect_chosen_secrets() {
        let (throttle, _) = throttle();
        for address in 0..20_000_u32 {
            let _ = throttle.failed(&ID, Some(address.to_be_bytes().into()));
        }
        assert_eq!(throttle.counts.window().generated.len(), TRACKED);
        assert!(throttle.failed(&ID, peer(1)).is_err(), "pairs beyond the bound share one count");
        assert_eq!(wrong_ones_allowed(&throttle, peer(1)), 10);
    }

    #[test]
    fn attempts_in_flight_do_not_exceed_what_failures_left_of_the_client_limit() {
        let (throttle, _) = throttle();
        let failed: usize = (0..12)
            .map(|last| {
                (0..8).map_while(|_| throttle.attempt(&ID, peer(last)).ok()).map(super::Attempt::failed).count()
            })
            .sum();
        assert_eq!(failed, 96);
        let under_way: Vec<_> = (20..40).map_while(|last| throttle.attempt(&ID, peer(last)).ok()).collect();
        assert_eq!(under_way.len(), 4, "all of them could fail");
    }

    #[test]
    fn an_attempt_that_ends_makes_room_for_exactly_one_more() {
        let (throttle, _) = throttle();
        let mut under_way: Vec<_> = (0..20).map_while(|_| throttle.attempt(&ID, peer(1)).ok()).collect();
        assert_eq!(under_way.len(), 10);
        drop(under_way.pop());
        under_way.extend((0..20).map_while(|_| throttle.attempt(&ID, peer(1)).ok()));
        assert_eq!(under_way.len(), 10);
        drop(under_way);
        let again: Vec<_> = (0..20).map_while(|_| throttle.attempt(&ID, peer(1)).ok()).collect();
        assert_eq!(again.len(), 10, "no attempt is counted after its end");
    }

    #[test]
    fn failures_in_one_minute_are_counted_together_and_retry_after_is_the_rest_of_the_minute() {
        let (throttle, clock) = throttle();
        (0..60).for_each(|_| throttle.failed(&ID, peer(1)).unwrap());
        clock.advance(Duration::from_secs(17));
        (0..40).for_each(|_| throttle.failed(&ID, peer(1)).unwrap());
        let seconds = |error: TokenError| {
            let response = error.into_response(&HeaderValue::from_static("Basic"), Version::HTTP_11);
            response.headers()[RETRY_AFTER].to_str().unwrap().parse::<u64>().unwrap()
        };
        assert_eq!(seconds(throttle.failed(&ID, peer(1)).unwrap_err()), 43);
        clock.advance(Duration::from_secs(42));
        assert_eq!(seconds(throttle.failed(&ID, peer(1)).unwrap_err()), 1);
        clock.advance(Duration::from_secs(1));
        assert!(throttle.failed(&ID, peer(1)).is_ok());
    }
}
