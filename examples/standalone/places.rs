//! Connection limits: one in total, and one per address, which prevents one caller from taking all connections.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_client_credentials::authorization_server::TrustedProxies;

pub(crate) struct Places {
    all: Arc<Semaphore>,
    by_address: Mutex<HashMap<IpAddr, Taken>>,
}

/// The connections per address. The map has at most as many entries as there are connections.
#[derive(Default)]
struct Taken {
    connections: usize,
    was_warned_of: bool,
}

/// The place of one connection, which is released when it is dropped.
pub(crate) struct Place {
    address: Option<(Arc<Places>, IpAddr)>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Places {
    pub(crate) fn new(connections: NonZeroU32) -> Arc<Self> {
        let all = Arc::new(Semaphore::new(connections.get() as usize));
        Arc::new(Self { all, by_address: Mutex::default() })
    }

    /// Waits until a connection can be accepted. Until then, connections wait in the listener's queue.
    pub(crate) async fn any(&self) -> Option<OwnedSemaphorePermit> {
        self.all.clone().acquire_owned().await.ok()
    }

    /// Takes a place for a connection of this peer. Returns `None` if its address has reached its limit.
    ///
    /// The connections of trusted proxies carry requests of many callers, so only the total limits them.
    pub(crate) fn of(
        self: &Arc<Self>,
        permit: Option<OwnedSemaphorePermit>,
        peer: IpAddr,
        per_address: NonZeroU32,
        proxies: Option<&TrustedProxies>,
    ) -> Option<Place> {
        if proxies.is_some_and(|proxies| proxies.contains(peer)) {
            return Some(Place { address: None, _permit: permit });
        }
        let address = site(peer);
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = by_address.entry(address).or_default();
        if taken.connections >= per_address.get() as usize {
            if !std::mem::replace(&mut taken.was_warned_of, true) {
                tracing::warn!(
                    %address,
                    connections = taken.connections,
                    "refused a connection: too many from its address; raise limits.connections_per_address, or add it \
                     to proxies.trusted if it is a proxy"
                );
            }
            return None;
        }
        taken.connections += 1;
        Some(Place { address: Some((self.clone(), address)), _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((places, address)) = self.address.take() else { return };
        let mut by_address = places.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = by_address.get_mut(&address) {
            taken.connections -= 1;
            if taken.connections == 0 {
                by_address.remove(&address);
            }
        }
    }
}

/// An IPv4 address, or the /64 of an IPv6 address, which usually belongs to one caller.
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (!0 << 64)).into(),
    }
}
