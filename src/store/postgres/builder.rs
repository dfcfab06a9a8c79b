//! [`PostgresStoreBuilder`]: the settings of a [`PostgresStore`], and its start.

use std::fmt;
use std::str::FromStr as _;
use std::sync::Arc;

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;

use super::pool::Renewal;
use super::reader::Reader;
use super::{PostgresStore, pool, schema};
use crate::store::StoreError;
use crate::store::builder::StoreBuilder;
use crate::store::clock_check::ClockCheck;

/// The settings of a [`PostgresStore`], each with a default.
pub type PostgresStoreBuilder = StoreBuilder<PostgresSettings>;

/// The settings that only Postgres has.
#[derive(Clone)]
pub struct PostgresSettings {
    pub(super) url: String,
    pub(super) connections: u32,
}

/// Without the URL, which contains the password.
impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSettings").field("connections", &self.connections).finish_non_exhaustive()
    }
}

impl PostgresStoreBuilder {
    /// Sets the maximum number of connections. The default is 10. If the store is followed, one more connection reads the
    /// feed, and one listens for the changes of other processes.
    pub fn connections(mut self, most: u32) -> Self {
        self.backend.connections = most;
        self
    }

    /// Connects, and updates the tables to the current version.
    ///
    /// # Errors
    ///
    /// When the URL is invalid, the server cannot be reached, or a newer version of this crate wrote the tables. No error
    /// contains the password.
    pub async fn connect(self) -> Result<PostgresStore, StoreError> {
        if self.backend.connections == 0 || self.call_timeout.as_millis() == 0 {
            return Err(StoreError::new(
                "invalid Postgres settings: neither the number of connections nor the time limit of a call may be zero",
            ));
        }
        let options = self.options()?;
        let clock_check = Arc::<ClockCheck>::default();
        schema::migrate(&options, &*self.clock, &clock_check).await?;
        let renewal = Arc::<Renewal>::default();
        let pool =
            pool::pool(self.backend.connections, self.call_timeout, renewal.clone()).connect_lazy_with(options.clone());
        let reader = Arc::new(Reader::new(options.clone(), renewal.clone(), self.call_timeout));
        let Self { clock, longest_token_lifetime, call_timeout: timeout, .. } = self;
        Ok(PostgresStore {
            pool,
            reader,
            renewal,
            wake: Arc::default(),
            turns: Arc::default(),
            last_writes: Arc::default(),
            clock_check,
            clock,
            longest_token_lifetime,
            timeout,
        })
    }

    /// Parses the URL. Errors do not quote any part of it, since that may be the password.
    fn options(&self) -> Result<PgConnectOptions, StoreError> {
        let is_one = self.backend.url.starts_with("postgres://") || self.backend.url.starts_with("postgresql://");
        let options =
            is_one.then(|| PgConnectOptions::from_str(&self.backend.url).ok()).flatten().ok_or_else(|| {
                StoreError::new(
                    "invalid Postgres URL: write postgres://user:password@host:5432/database, and the \
                 password percent-encoded",
                )
            })?;
        let options = options.disable_statement_logging();
        Ok(match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("tower-client-credentials"),
        })
    }
}
