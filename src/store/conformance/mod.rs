//! Conformance tests for the storage traits, for the backends of this crate and for your own stores (feature `test-util`).
//!
//! 1. There is one function per trait. Each takes a closure that creates an empty store, and calls it once per step.
//! 2. The first step that fails ends the run. Its [`Violation`] has the name of the step, which states the contract.
//! 3. [`durability`] takes a closure that opens *the same* store each time, for stores that outlive their process or are
//!    shared between replicas.
//!
//! # Caveat
//!
//! Steps with concurrent calls run them as Tokio tasks: use a multi-threaded runtime. A store with its own clock must use the
//! clock of the operating system here.
//!
//! # Example
//!
//! ```
//! use tower_client_credentials::MemoryStore;
//! use tower_client_credentials::keys::rotation::MemoryKeyStore;
//! use tower_client_credentials::store::conformance::{self, Violation};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Violation> {
//! conformance::clients(|| async { MemoryStore::default() }).await?;
//! conformance::revocations(|| async { MemoryStore::default() }).await?;
//! conformance::client_changes(|| async { MemoryStore::default() }).await?;
//! conformance::replay_log(|| async { MemoryStore::default() }).await?;
//! conformance::key_store(|| async { MemoryKeyStore::default() }).await
//! # }
//! ```

mod client_changes;
mod clients;
mod concurrent_clients;
mod durability;
mod key_store;
mod replay_log;
mod revocations;
mod workloads;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::task::JoinSet;

pub use self::client_changes::client_changes;
pub use self::clients::clients;
pub use self::durability::durability;
pub use self::key_store::key_store;
pub use self::replay_log::replay_log;
pub use self::revocations::revocations;
use super::{Change, ClientAdmin, Cursor, Revision, RevocationStore, StoreError};
use crate::client_id::ClientId;
use crate::registration::{Client, RegisteredClient};
use crate::secret::ClientSecret;

/// An error of a conformance test: the store violates its contract.
#[derive(thiserror::Error)]
#[error("{step}: {what}")]
pub struct Violation {
    step: &'static str,
    what: BoxError,
}

// Shown by `unwrap`, and by a test that returns an error.
impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cause = self.what.source();
        write!(f, "{self}")?;
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl Violation {
    /// Returns the name of the step that failed. It states the contract.
    #[must_use]
    pub fn step(&self) -> &'static str {
        self.step
    }
}

type BoxError = Box<dyn Error + Send + Sync>;
type Outcome = Result<(), BoxError>;

/// Runs one step. Its name states the contract.
async fn step<S>(step: &'static str, store: S, check: impl AsyncFnOnce(Arc<S>) -> Outcome) -> Result<(), Violation> {
    check(Arc::new(store)).await.map_err(|what| Violation { step, what })
}

fn ensure(holds: bool, otherwise: impl Into<String>) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise.into().into()) }
}

/// Runs `count` calls concurrently, and returns their results.
async fn race<T, F>(count: usize, call: impl Fn(usize) -> F) -> Result<Vec<T>, BoxError>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut calls: JoinSet<T> = (0..count).map(call).collect();
    let mut returned = Vec::with_capacity(count);
    while let Some(result) = calls.join_next().await {
        returned.push(result?);
    }
    Ok(returned)
}

fn blank(id: &str) -> Result<Client, BoxError> {
    Ok(Client::new(id, ClientSecret::generate()?).audience("https://api.example.com"))
}

fn client(id: &str) -> Result<RegisteredClient, BoxError> {
    Ok(blank(id)?.register()?)
}

async fn revision<S: ClientAdmin>(store: &S, id: &ClientId) -> Result<Revision, BoxError> {
    Ok(store.load(id).await?.ok_or("`load` does not find the client")?.1)
}

async fn listed<S: ClientAdmin>(
    store: &S,
    after: Option<&ClientId>,
    limit: usize,
) -> Result<Vec<ClientId>, StoreError> {
    let page = store.list(after, NonZeroUsize::new(limit).unwrap_or(NonZeroUsize::MIN)).await?;
    Ok(page.iter().map(|client| client.id().clone()).collect())
}

/// Reads the feed to its end, as a replica does.
async fn follow<S: RevocationStore>(store: &S, cursor: &mut Cursor) -> Result<Vec<Change>, StoreError> {
    let mut reported = Vec::new();
    loop {
        let answer = store.changes(cursor).await?;
        reported.extend(answer.changes);
        *cursor = answer.cursor;
        if !answer.more {
            return Ok(reported);
        }
    }
}

#[cfg(test)]
mod tests;
