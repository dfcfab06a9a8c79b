//! [`ClientCacheLimits`]: the settings of the cache.

use std::time::Duration;

/// Limits of the token endpoint's cache of clients. The store is not cached if it is [in
/// memory](crate::ClientStore::in_memory).
///
/// A change of a client is effective at the latest when its entry expires, and sooner if the server follows the
/// [feed](crate::store::ChangeFeed::changes) of a revocation store. If it has not heard from that feed for 2
/// seconds, the server asks the client store about each client every 2 seconds.
///
/// ```
/// use std::time::Duration;
/// use tower_client_credentials::authorization_server::ClientCacheLimits;
///
/// let limits = ClientCacheLimits::default().found(Duration::from_secs(10));
/// assert_eq!(limits.absent, Duration::from_secs(5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "the limits are not used until a server has them"]
pub struct ClientCacheLimits {
    /// How long a client that was found can be accepted. The default is 60 seconds. With revocations the maximum is 10
    /// minutes, because a store reports changes of clients for no longer than that.
    pub found: Duration,
    /// How long a refusal can use an answer that was fetched for a refusal: that there is no such client, or that none
    /// of its secrets matches. The default is 5 seconds.
    pub absent: Duration,
    /// The maximum number of clients, and the maximum number of unknown ids, in the cache. The default is 10,000 each.
    pub entries: usize,
}

impl Default for ClientCacheLimits {
    fn default() -> Self {
        Self { found: Duration::from_secs(60), absent: Duration::from_secs(5), entries: 10_000 }
    }
}

impl ClientCacheLimits {
    /// Sets [`found`](Self#structfield.found).
    pub const fn found(self, time: Duration) -> Self {
        Self { found: time, ..self }
    }

    /// Sets [`absent`](Self#structfield.absent).
    pub const fn absent(self, time: Duration) -> Self {
        Self { absent: time, ..self }
    }

    /// Sets [`entries`](Self#structfield.entries).
    pub const fn entries(self, clients: usize) -> Self {
        Self { entries: clients, ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::ClientCacheLimits;

    #[test]
    fn each_limit_is_set_alone() {
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3_600));
        let usual = ClientCacheLimits::default();
        assert_eq!(usual, ClientCacheLimits { found: minute, absent: minute / 12, entries: 10_000 });
        assert_eq!(usual.found(hour), ClientCacheLimits { found: hour, ..usual });
        assert_eq!(usual.absent(hour), ClientCacheLimits { absent: hour, ..usual });
        assert_eq!(usual.entries(7), ClientCacheLimits { entries: 7, ..usual });
    }
}
