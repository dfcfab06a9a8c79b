//! Where a request comes from, as far as the server around us and its proxies know.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::Extensions;

use super::head::Head;
use super::trusted_proxies::TrustedProxies;

type Find = dyn Fn(&Extensions) -> Option<IpAddr> + Send + Sync;

/// Finds the caller's address: the peer's among the extensions of a request, or what trusted proxies say of it.
#[derive(Clone, Default)]
pub(super) struct PeerAddress {
    find: Option<Arc<Find>>,
    proxies: Option<Arc<TrustedProxies>>,
}

impl PeerAddress {
    pub(super) fn find(&mut self, find: impl Fn(&Extensions) -> Option<IpAddr> + Send + Sync + 'static) {
        self.find = Some(Arc::new(find));
    }

    pub(super) fn trust(&mut self, proxies: TrustedProxies) {
        self.proxies = Some(Arc::new(proxies));
    }

    /// Returns whether there are proxies to trust, and no way to know who the peer is.
    pub(super) fn lacks_peer(&self) -> bool {
        self.proxies.is_some() && self.find.is_none()
    }

    pub(super) fn of(&self, head: &Head) -> Option<IpAddr> {
        let peer = self.find.as_ref()?(&head.extensions)?;
        Some(self.proxies.as_ref().map_or(peer, |proxies| proxies.client_address(peer, &head.headers)))
    }
}

impl fmt::Debug for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerAddress").field("find", &self.find.is_some()).field("proxies", &self.proxies).finish()
    }
}
