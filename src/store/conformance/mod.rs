//! What every backend is held to: the contracts of the traits, as tests that a store of one's own can run too
//! (feature `test-util`).
//!
//! 1. One function per trait; each takes a closure that makes a store without anything in it, and calls it once per
//!    step.
//! 2. A step that fails ends the run, and its [`Violation`] says which step it was and what the contract asks.
//! 3. [`durability`] takes a closure that opens *the same* store each time, for stores that outlive their process or are
//!    shared between replicas.
//!
//! # Caveat
//!
//! Steps that race run their calls as Tokio tasks: use a runtime of several threads. And the stores are expected to go
//! by the clock of the system, where they go by one of their own.
//!
//! # Example
//!
//! ```
//! use tower_client_credentials::MemoryStore;
//! use tower_client_credentials::store::conformance::{self, Violation};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Violation> {
//! conformance::clients(|| async { MemoryStore::default() }).await?;
//! conformance::revocations(|| async { MemoryStore::default() }).await?;
//! conformance::client_changes(|| async { MemoryStore::default() }).await?;
//! conformance::replay_log(|| async { MemoryStore::default() }).await
//! # }
//! ```

mod client_changes;
mod clients;
mod durability;
mod replay_log;
mod revocations;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use tokio::task::JoinSet;

pub use self::client_changes::client_changes;
pub use self::clients::clients;
pub use self::durability::durability;
pub use self::replay_log::replay_log;
pub use self::revocations::revocations;
use super::{Change, Cursor, RevocationStore, StoreError};
use crate::registration::{Client, RegisteredClient};
use crate::secret::ClientSecret;

/// A store does not keep the contract.
#[derive(thiserror::Error)]
#[error("{step}: {what}")]
pub struct Violation {
    step: &'static str,
    what: BoxError,
}

// What `unwrap` and a test that returns an error show.
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
    /// The sentence that does not hold.
    #[must_use]
    pub fn step(&self) -> &'static str {
        self.step
    }
}

type BoxError = Box<dyn Error + Send + Sync>;
type Outcome = Result<(), BoxError>;

/// Runs one step, whose name is what the contract says.
async fn step<S>(step: &'static str, store: S, check: impl AsyncFnOnce(Arc<S>) -> Outcome) -> Result<(), Violation> {
    check(Arc::new(store)).await.map_err(|what| Violation { step, what })
}

fn ensure(holds: bool, otherwise: impl Into<String>) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise.into().into()) }
}

/// Runs `count` calls at once, and gives back what they returned.
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

/// Follows the feed to its end, as a replica does.
async fn follow<S: RevocationStore>(store: &S, cursor: &mut Cursor) -> Result<Vec<Change>, StoreError> {
    let mut told = Vec::new();
    loop {
        let answer = store.changes(cursor).await?;
        told.extend(answer.changes);
        *cursor = answer.cursor;
        if !answer.more {
            return Ok(told);
        }
    }
}

#[cfg(test)]
mod tests;
