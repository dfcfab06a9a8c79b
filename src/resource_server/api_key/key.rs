//! [`Key`]: one API key, and the use of the keys of its client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::client_id::ClientId;
use crate::scope::Scopes;

/// One key: its client and its scopes.
pub(crate) struct Key {
    pub(super) client: Arc<Client>,
    pub(super) scopes: Scopes,
}

pub(super) struct Client {
    id: ClientId,
    requests: AtomicU64,
    /// In seconds since 1970. 0 if no key was used.
    last_used: AtomicU64,
    /// Whether its tokens were revoked since this process follows the revocations. The entry in the view expires, and this does
    /// not.
    is_revoked: AtomicBool,
}

/// The use of the API keys of one client by this process.
#[derive(Clone, Debug)]
pub struct ApiKeyUsage {
    client_id: ClientId,
    requests: u64,
    last_used: Option<SystemTime>,
}

impl Key {
    pub(crate) fn client_id(&self) -> &ClientId {
        &self.client.id
    }

    pub(crate) fn scopes(&self) -> &Scopes {
        &self.scopes
    }
}

impl Client {
    pub(super) fn new(id: ClientId) -> Self {
        Self { id, requests: AtomicU64::new(0), last_used: AtomicU64::new(0), is_revoked: AtomicBool::new(false) }
    }

    /// Refuses its keys from now on.
    pub(super) fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Release);
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.is_revoked.load(Ordering::Acquire)
    }

    pub(super) fn count(&self, now: SystemTime) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.last_used.fetch_max(now, Ordering::Relaxed);
    }

    pub(super) fn usage(&self) -> ApiKeyUsage {
        let last_used = Some(self.last_used.load(Ordering::Relaxed)).filter(|seconds| *seconds > 0);
        ApiKeyUsage {
            client_id: self.id.clone(),
            requests: self.requests.load(Ordering::Relaxed),
            last_used: last_used.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds)),
        }
    }
}

impl ApiKeyUsage {
    /// Returns the client.
    #[must_use]
    pub fn client_id(&self) -> &ClientId {
        &self.client_id
    }

    /// Returns the number of requests with one of its keys, also of those that were refused, for example with 403. The metric
    /// `tower_client_credentials_api_key_requests_total` counts the admitted ones.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Returns the time of the last such request, or `None` if there was none.
    #[must_use]
    pub fn last_used(&self) -> Option<SystemTime> {
        self.last_used
    }
}
