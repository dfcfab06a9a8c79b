//! [`RedisStoreBuilder`]: the settings of a [`RedisStore`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use redis::Client;

use super::link::Link;
use super::scripts::{Keys, Scripts};
use super::wake::Wake;
use super::{RedisStore, Shared, compare_clocks, durability, permissions};
use crate::clock::{Clock, SystemClock};
use crate::deadline::LONGEST_WAIT;
use crate::store::StoreError;
use crate::store::clock_check::ClockCheck;
use crate::store::last_write::LastWrites;
use crate::timing::DEFAULT_LONGEST_TOKEN_LIFETIME;

/// The settings of a [`RedisStore`], each with a default.
#[must_use = "nothing is connected yet"]
pub struct RedisStoreBuilder {
    url: String,
    prefix: String,
    timeout: Duration,
    strict: bool,
    clock: Arc<dyn Clock>,
    longest: Duration,
}

impl RedisStoreBuilder {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            prefix: "tcc".to_owned(),
            timeout: Duration::from_secs(2),
            strict: false,
            clock: Arc::new(SystemClock),
            longest: DEFAULT_LONGEST_TOKEN_LIFETIME,
        }
    }

    /// Sets the prefix of all keys, which is put in braces. The default is `tcc`. Services that share a server need different
    /// prefixes.
    ///
    /// Two installations with the same prefix share all data: each accepts the clients of the other. The databases of one
    /// server (`/0`, `/1`) are separate.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the time limit of a call, including the time for a new connection. The default is 2 seconds. The maximum is 24
    /// days; a longer time counts as 24 days.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(LONGEST_WAIT);
        self
    }

    /// Refuses a server that may lose acknowledged writes, or whose settings cannot be read. By default such a server is used,
    /// with a warning in the log.
    pub fn require_durable(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Sets the clock that dates the revocations of disabled clients. The default is the clock of the operating system.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the longest token lifetime, see
    /// [`RevocationStore::longest_token_lifetime`](crate::store::RevocationStore::longest_token_lifetime). The default
    /// is 24 hours.
    pub fn longest_token_lifetime(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// Connects, and checks the settings of the server.
    ///
    /// # Errors
    ///
    /// - The URL or the prefix is malformed.
    /// - The server cannot be reached, or is a node of a cluster.
    /// - The user may not read.
    /// - [`require_durable`](Self::require_durable) is set, and the server may lose acknowledged writes.
    ///
    /// No error contains the password. A user with read access only is accepted; each write then fails.
    pub async fn connect(self) -> Result<RedisStore, StoreError> {
        if self.prefix.is_empty() || self.prefix.contains(['{', '}']) {
            return Err(StoreError::new(
                "invalid key prefix: it is empty or contains braces; use a plain name, for example `tcc`",
            ));
        }
        let client = Client::open(self.url.as_str()).map_err(|_| StoreError::new(MALFORMED))?;
        if self.url.starts_with("rediss:") {
            choose_cryptography();
        }
        let link = Link::new(client, self.timeout).map_err(|error| StoreError::of_client(&error))?;
        link.command::<String>(&redis::cmd("PING")).await?;
        let (keys, scripts) = (Keys::new(&self.prefix), Scripts::new());
        permissions::refuse_cluster(&link).await?;
        permissions::check(&link, &scripts, &keys).await?;
        let problems = durability::problems(&link).await;
        if self.strict && !problems.is_empty() {
            return Err(StoreError::new(format!("Redis may lose acknowledged writes: {}", problems.join("; "))));
        }
        durability::warn(&problems);
        let wake = Wake::new(link.client().clone(), keys.channel());
        let Self { clock, longest, .. } = self;
        let clock_check = ClockCheck::default();
        compare_clocks(&link, &*clock, &clock_check).await;
        let (last_writes, had_clients) = (LastWrites::default(), AtomicBool::new(false));
        let shared =
            Shared { link, scripts, keys, wake, clock, longest, problems, last_writes, clock_check, had_clients };
        Ok(RedisStore { shared: Arc::new(shared) })
    }
}

/// A fixed text, since the error of the library may quote the URL with its password.
const MALFORMED: &str = "invalid Redis URL; use redis://[user:password@]host[:port][/database], or rediss://… for TLS";

/// Chooses a cryptography provider for rustls, which panics if several are in the build and none was chosen.
fn choose_cryptography() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error means that another thread has just chosen one, which is fine.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreBuilder").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
