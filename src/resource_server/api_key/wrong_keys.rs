//! [`WrongKeys`]: limits how many wrong API keys per minute are answered with 401.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::network::network;

/// The default limit, that of wrong random secrets at the token endpoint.
pub(super) const LIMIT: u32 = 100;

/// The maximum number of addresses that are counted separately per minute. All others share one count.
const TRACKED: usize = 10_000;

const WINDOW_SECONDS: u64 = 60;

/// The wrong keys of the current minute, by the network of the caller.
#[derive(Debug, Default)]
pub(super) struct WrongKeys(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    minute: u64,
    by_network: HashMap<Option<IpAddr>, u32>,
    beyond: u32,
}

impl WrongKeys {
    /// Counts a wrong key. Returns the seconds until the next minute if the caller has reached the limit.
    pub(super) fn count(&self, peer: Option<IpAddr>, limit: u32, now: SystemTime) -> Result<(), u64> {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.minute != seconds / WINDOW_SECONDS {
            *window = Window { minute: seconds / WINDOW_SECONDS, ..Window::default() };
        }
        let network = peer.map(network);
        let Window { by_network, beyond, .. } = &mut *window;
        let is_tracked = by_network.len() < TRACKED || by_network.contains_key(&network);
        let count = if is_tracked { by_network.entry(network).or_default() } else { beyond };
        *count = count.saturating_add(1);
        if *count > limit { Err(WINDOW_SECONDS - seconds % WINDOW_SECONDS) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};
    use std::time::{Duration, SystemTime};

    use super::{LIMIT, TRACKED, WrongKeys};

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn peer(last: u8) -> Option<IpAddr> {
        [192, 0, 2, last].into_iter().next().map(|_| [192, 0, 2, last].into())
    }

    #[test]
    fn wrong_keys_beyond_the_limit_are_refused_until_the_next_minute() {
        let wrong = WrongKeys::default();
        for _ in 0..LIMIT {
            assert_eq!(wrong.count(peer(1), LIMIT, at(610)), Ok(()));
        }
        assert_eq!(wrong.count(peer(1), LIMIT, at(610)), Err(50));
        assert_eq!(wrong.count(peer(2), LIMIT, at(610)), Ok(()), "another address has its own count");
        assert_eq!(wrong.count(peer(1), LIMIT, at(660)), Ok(()));
        assert_eq!(wrong.count(peer(1), 0, at(610)), Err(50), "a clock that is set back starts new counts");
    }

    #[test]
    fn the_addresses_of_one_network_share_a_count_and_the_number_of_networks_is_bounded() {
        let wrong = WrongKeys::default();
        let one = |network: u128, host: u128| Some(Ipv6Addr::from_bits((network << 64) | host).into());
        assert_eq!(wrong.count(one(1, 1), 1, at(0)), Ok(()));
        assert!(wrong.count(one(1, 2), 1, at(0)).is_err());
        for network in 2..=TRACKED as u128 {
            assert_eq!(wrong.count(one(network, 1), 1, at(0)), Ok(()));
        }
        assert_eq!(wrong.count(one(1 << 40, 1), 1, at(0)), Ok(()), "the first beyond the bound");
        assert!(wrong.count(one(1 << 41, 1), 1, at(0)).is_err(), "it shares its count");
        assert_eq!(wrong.0.lock().unwrap().by_network.len(), TRACKED);
    }
}
