//! Where a request comes from, as far as the server around us knows.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::Extensions;

type Find = dyn Fn(&Extensions) -> Option<IpAddr> + Send + Sync;

/// Finds the caller's address among the extensions of a request.
#[derive(Clone, Default)]
pub(super) struct PeerAddress(Option<Arc<Find>>);

impl PeerAddress {
    pub(super) fn new(find: impl Fn(&Extensions) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(find)))
    }

    pub(super) fn of(&self, extensions: &Extensions) -> Option<IpAddr> {
        self.0.as_ref()?(extensions)
    }
}

impl fmt::Debug for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PeerAddress").field(&self.0.is_some()).finish()
    }
}
