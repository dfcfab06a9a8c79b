//! Slows down who guesses secrets (RFC 6749 §2.3.1: the server MUST protect itself against brute force).
//!
//! Failures are counted by minute, for the client id and the caller's address together, and for the id alone. A
//! generated secret cannot be guessed, so the right one always passes, and nobody can lock its owner out. A secret
//! that a person chose can be: there an attempt over the limit is turned away before any hashing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Fault, TokenError};
use crate::client_id::ClientId;
use crate::clock::{Clock, UnixTime};

/// Failures a minute.
const GENERATED_BY_ADDRESS: u32 = 100;
const CHOSEN_BY_ADDRESS: u32 = 10;
const CHOSEN_BY_ID: u32 = 100;

/// How many pairs of id and address are told apart in a minute; all others count as one.
const TRACKED: usize = 10_000;

const WINDOW_SECONDS: u64 = 60;

#[derive(Debug)]
pub(super) struct Throttle {
    clock: Arc<dyn Clock>,
    window: Mutex<Window>,
}

/// The failures of the current minute.
#[derive(Debug, Default)]
struct Window {
    minute: u64,
    failures: HashMap<Key, u32>,
    untracked: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Address(ClientId, Option<IpAddr>),
    Id(ClientId),
}

/// An attempt at a secret that a person chose. It counts as a failure until it is known to be none, so that
/// attempts at the same time are counted too.
#[must_use]
pub(super) struct Attempt(Vec<Key>);

impl Throttle {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, window: Mutex::default() }
    }

    /// Asks leave to check a secret that a person chose.
    pub(super) fn attempt(&self, id: &ClientId, peer: Option<IpAddr>) -> Result<Attempt, TokenError> {
        // Callers whose address is not known share one.
        let limits =
            [(Key::Address(id.clone(), peer.map(network)), CHOSEN_BY_ADDRESS), (Key::Id(id.clone()), CHOSEN_BY_ID)];
        self.with_window(|window| {
            let within = limits.iter().all(|(key, limit)| window.count(key) < *limit);
            if within {
                for (key, _) in &limits {
                    window.add(key);
                }
            }
            within
        })?;
        Ok(Attempt(limits.map(|(key, _)| key).into()))
    }

    /// Takes back an attempt that was none of guessing.
    pub(super) fn forgive(&self, attempt: Attempt) {
        let _ = self.with_window(|window| {
            attempt.0.iter().for_each(|key| window.subtract(key));
            true
        });
    }

    /// Counts a wrong generated secret; an error beyond the limit.
    pub(super) fn failed(&self, id: &ClientId, peer: Option<IpAddr>) -> Result<(), TokenError> {
        let key = Key::Address(id.clone(), peer.map(network));
        self.with_window(|window| {
            window.add(&key);
            window.count(&key) <= GENERATED_BY_ADDRESS
        })
    }

    fn with_window(&self, within: impl FnOnce(&mut Window) -> bool) -> Result<(), TokenError> {
        let now = UnixTime::now(&*self.clock).as_secs();
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.turn_to(now / WINDOW_SECONDS);
        if within(&mut window) {
            return Ok(());
        }
        let rest = WINDOW_SECONDS - now % WINDOW_SECONDS;
        Err(TokenError::new(Fault::TOO_MANY_FAILURES).retry_after(rest))
    }
}

impl Window {
    fn turn_to(&mut self, minute: u64) {
        if self.minute != minute {
            *self = Self { minute, failures: HashMap::new(), untracked: 0 };
        }
    }

    fn count(&self, key: &Key) -> u32 {
        let full = self.failures.len() >= TRACKED;
        self.failures.get(key).copied().unwrap_or(if full { self.untracked } else { 0 })
    }

    fn add(&mut self, key: &Key) {
        let full = self.failures.len() >= TRACKED;
        match self.failures.get_mut(key) {
            Some(count) => *count = count.saturating_add(1),
            None if full => self.untracked = self.untracked.saturating_add(1),
            None => drop(self.failures.insert(key.clone(), 1)),
        }
    }

    fn subtract(&mut self, key: &Key) {
        if let Some(count) = self.failures.get_mut(key) {
            *count = count.saturating_sub(1);
        }
    }
}

/// An IPv6 caller has a whole /64 to choose from.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            address.to_ipv4_mapped().map_or(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into(), IpAddr::V4)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::{CHOSEN_BY_ADDRESS, CHOSEN_BY_ID, GENERATED_BY_ADDRESS, TRACKED, Throttle, network};
    use crate::client_id::ClientId;
    use crate::clock::ManualClock;

    const ID: ClientId = ClientId::from_static("billing");

    fn throttle() -> (Throttle, ManualClock) {
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_200));
        (Throttle::new(Arc::new(clock.clone())), clock)
    }

    #[allow(clippy::unnecessary_wraps)] // as the calls want it
    fn peer(last: u8) -> Option<IpAddr> {
        Some([192, 0, 2, last].into())
    }

    #[test]
    fn wrong_generated_secrets_beyond_a_hundred_a_minute_are_turned_away_until_the_next() {
        let (throttle, clock) = throttle();
        for _ in 0..GENERATED_BY_ADDRESS {
            assert!(throttle.failed(&ID, peer(1)).is_ok());
        }
        assert!(throttle.failed(&ID, peer(1)).is_err());
        assert!(throttle.failed(&ID, peer(2)).is_ok(), "another address has a count of its own");
        clock.advance(Duration::from_secs(60));
        assert!(throttle.failed(&ID, peer(1)).is_ok());
    }

    #[test]
    fn attempts_at_a_chosen_secret_are_limited_by_address_and_by_id() {
        let (throttle, _) = throttle();
        let allowed = |last| (0..=CHOSEN_BY_ID).take_while(|_| throttle.attempt(&ID, peer(last)).is_ok()).count();
        assert_eq!(allowed(1), 10);
        let elsewhere: usize = (2..20).map(allowed).sum();
        assert_eq!(elsewhere, 90, "the id as a whole has a hundred");
        assert_eq!(CHOSEN_BY_ADDRESS, 10);
    }

    #[test]
    fn a_right_chosen_secret_is_not_counted() {
        let (throttle, _) = throttle();
        for _ in 0..1_000 {
            throttle.forgive(throttle.attempt(&ID, peer(1)).unwrap());
        }
        assert!(throttle.attempt(&ID, peer(1)).is_ok());
    }

    #[test]
    fn without_an_address_all_callers_of_an_id_share_one() {
        let (throttle, _) = throttle();
        for _ in 0..CHOSEN_BY_ADDRESS {
            throttle.forgive(throttle.attempt(&ID, None).unwrap());
            let _counted = throttle.attempt(&ID, None).unwrap();
        }
        assert!(throttle.attempt(&ID, None).is_err());
    }

    #[test]
    fn memory_is_bounded_and_what_is_not_tracked_is_limited_together() {
        let (throttle, _) = throttle();
        for address in 0..20_000_u32 {
            let _ = throttle.failed(&ID, Some(address.to_be_bytes().into()));
        }
        let window = throttle.window.lock().unwrap();
        assert_eq!(window.failures.len(), TRACKED);
        assert_eq!(window.untracked, 10_000);
        drop(window);
        assert!(throttle.failed(&ID, peer(1)).is_err());
    }

    #[test]
    fn an_ipv6_caller_is_its_network() {
        let same = |one: &str, other: &str| network(one.parse().unwrap()) == network(other.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff:2"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
    }
}
