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
use crate::store::last_write::LastWrite;
use crate::timing::DEFAULT_LONGEST_TOKEN_LIFETIME;

/// The settings of a [`RedisStore`], each with its default.
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

    /// What all keys begin with, in braces: `tcc` by default. Services that share a server have one each.
    ///
    /// Two installations with one prefix are one: they have the same clients, and each accepts the clients of the other.
    /// Databases of one server (`/0`, `/1`) are apart.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long a call may take, a new connection for it included: 2 seconds by default. A longer time
    /// than 24 days counts as 24 days.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(LONGEST_WAIT);
        self
    }

    /// Refuses a server that may forget what it acknowledged, or that does not say; by default it is used, with a
    /// warning in the log.
    pub fn require_durable(mut self) -> Self {
        self.strict = true;
        self
    }

    /// The clock by which the tokens of a disabled client are revoked; the system's by default.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The longest life of a token, see
    /// [`RevocationStore::longest_token_lifetime`](crate::RevocationStore::longest_token_lifetime): 24 hours by default.
    pub fn longest_token_lifetime(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// Connects, and looks at the server's settings.
    ///
    /// # Errors
    ///
    /// When the URL or the prefix is malformed, when the server cannot be reached, is a node of a cluster, or does not let its
    /// user read, and when [`require_durable`](Self::require_durable) asks for more than it keeps. No error shows the password.
    /// A user that may only read is no error: each write fails then.
    pub async fn connect(self) -> Result<RedisStore, StoreError> {
        if self.prefix.is_empty() || self.prefix.contains(['{', '}']) {
            return Err(StoreError::new("the prefix of the keys is empty or has braces; give it a plain name"));
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
            return Err(StoreError::new(format!("Redis may forget what it acknowledged: {}", problems.join("; "))));
        }
        durability::warn(&problems);
        let wake = Wake::new(link.client().clone(), keys.channel());
        let Self { clock, longest, .. } = self;
        let clock_check = ClockCheck::default();
        compare_clocks(&link, &*clock, &clock_check).await;
        let (last_write, had_clients) = (LastWrite::default(), AtomicBool::new(false));
        let shared =
            Shared { link, scripts, keys, wake, clock, longest, problems, last_write, clock_check, had_clients };
        Ok(RedisStore { shared: Arc::new(shared) })
    }
}

/// The library's own text may quote the URL.
const MALFORMED: &str =
    "the URL is not one of Redis; write redis://[user:password@]host[:port][/database], or rediss://… for TLS";

/// Where several libraries for TLS are in the build, rustls panics until somebody chose one.
fn choose_cryptography() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error says that somebody else was faster, which does as well.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreBuilder").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
