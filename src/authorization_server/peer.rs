//! [`PeerAddress`]: finds the address of a request's caller.

use std::net::IpAddr;
use std::sync::Arc;

use http::Extensions;

use super::head::Head;
use super::trusted_proxies::TrustedProxies;
use crate::debug_fields::debug_fields;

type Find = dyn Fn(&Extensions) -> Option<IpAddr> + Send + Sync;

/// Finds the caller's address: that of the peer in the extensions of a request, or the one that trusted proxies report.
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

    /// Returns whether there are trusted proxies, but no way to find the peer's address.
    pub(super) fn lacks_peer(&self) -> bool {
        self.proxies.is_some() && self.find.is_none()
    }

    pub(super) fn of(&self, head: &Head) -> Option<IpAddr> {
        let peer = self.find.as_ref()?(&head.extensions)?;
        Some(self.proxies.as_ref().map_or(peer, |proxies| proxies.client_address(peer, &head.headers)))
    }
}

debug_fields!(PeerAddress, |this| { find: this.find.is_some(), proxies: this.proxies });
