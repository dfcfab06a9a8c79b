//! [`RedisStoreBuilder`]: the settings of a [`RedisStore`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use redis::Client;

use super::link::Link;
use super::scripts::Keys;
use super::{RedisStore, Shared, compare_clocks, durability, permissions, workloads};
use crate::store::StoreError;
use crate::store::builder::StoreBuilder;
use crate::store::clock_check::ClockCheck;
use crate::store::last_write::LastWrites;
use crate::store::wake::Wake;

/// The settings of a [`RedisStore`], each with a default.
pub type RedisStoreBuilder = StoreBuilder<RedisSettings>;

/// The settings that only Redis has.
#[derive(Clone)]
pub struct RedisSettings {
    url: String,
    prefix: String,
    strict: bool,
}

impl RedisSettings {
    pub(super) fn new(url: &str) -> Self {
        Self { url: url.to_owned(), prefix: "tcc".to_owned(), strict: false }
    }
}

impl RedisStoreBuilder {
    /// Sets the prefix of all keys, which is put in braces. The default is `tcc`. Services that share a server need different
    /// prefixes.
    ///
    /// Two installations with the same prefix share all data: each accepts the clients of the other. The databases of one
    /// server (`/0`, `/1`) are separate.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.backend.prefix = prefix.into();
        self
    }

    /// Refuses a server that may lose acknowledged writes, or whose settings cannot be read. By default such a server is used,
    /// with a warning in the log.
    pub fn require_durable(mut self) -> Self {
        self.backend.strict = true;
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
        if self.backend.prefix.is_empty() || self.backend.prefix.contains(['{', '}']) {
            return Err(StoreError::new(
                "invalid key prefix: it is empty or contains braces; use a plain name, for example `tcc`",
            ));
        }
        let client = Client::open(self.backend.url.as_str()).map_err(|_| StoreError::new(MALFORMED))?;
        if self.backend.url.starts_with("rediss:") {
            choose_cryptography();
        }
        let link = Link::new(client, self.call_timeout).map_err(|error| StoreError::of_client(&error))?;
        link.command::<String>(&redis::cmd("PING")).await?;
        let keys = Keys::new(&self.backend.prefix);
        permissions::refuse_cluster(&link).await?;
        permissions::check(&link, &keys).await?;
        let problems = durability::problems(&link).await;
        if self.backend.strict && !problems.is_empty() {
            return Err(StoreError::new(format!("Redis may lose acknowledged writes: {}", problems.join("; "))));
        }
        durability::warn(&problems);
        let Self { clock, longest_token_lifetime: longest, .. } = self;
        let clock_check = ClockCheck::default();
        compare_clocks(&link, &*clock, &clock_check).await;
        let (last_writes, had_clients) = (LastWrites::default(), AtomicBool::new(false));
        let shared = Shared {
            link,
            keys,
            wake: Wake::default(),
            clock,
            longest,
            problems,
            last_writes,
            clock_check,
            had_clients,
        };
        // A user without the rights cannot make the index. A request that needs it then fails with the reason.
        let _ = workloads::prepare(&shared).await;
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

/// Without the URL, which contains the password.
impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
