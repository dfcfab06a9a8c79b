//! The clients in SQLite.

use std::collections::HashSet;
use std::num::NonZeroUsize;

use sqlx::{Row as _, SqliteConnection};

use super::revocations::insert_all;
use super::{SqliteStore, workloads};
use crate::client_id::ClientId;
use crate::registration::RegisteredClient;
use crate::store::database::{Found, Records, Terms};
use crate::store::listed_client::client_of;
use crate::store::sql::{self, Row, failed};
use crate::store::{AdminError, ClientCondition, Revision, StoreError};

impl SqliteStore {
    pub(super) async fn find_client(&self, id: &ClientId) -> Result<Found, StoreError> {
        let row = sqlx::query("SELECT record, revision FROM tcc_clients WHERE id = ?1").bind(id.as_str());
        let row = self.read(async |open| row.fetch_optional(&open.readers).await.map_err(failed)).await?;
        let Some(row) = row else { return Ok(None) };
        let revision: i64 = row.try_get(1).map_err(failed)?;
        let client = client_of(id, sql::client(row.try_get(0).map_err(failed)?))?;
        Ok(Some((client, Revision::new(revision.cast_unsigned()))))
    }

    pub(super) async fn ids_of_workloads(&self, keys: Vec<String>) -> Result<Vec<String>, StoreError> {
        let keys = serde_json::to_string(&keys).map_err(StoreError::new)?;
        let found = sqlx::query_scalar(workloads::FIND).bind(keys);
        self.read(async |open| found.fetch_all(&open.readers).await.map_err(failed)).await
    }

    /// Returns the ids and the records of the first rows after this id.
    pub(super) async fn records(&self, after: Option<String>, limit: NonZeroUsize) -> Result<Records, StoreError> {
        // No id is empty, so all ids come after the empty one.
        let page = "SELECT id, record FROM tcc_clients WHERE id > ?1 ORDER BY id LIMIT ?2";
        let page = sqlx::query_as(page).bind(after.unwrap_or_default());
        let page = page.bind(i64::try_from(limit.get()).unwrap_or(i64::MAX));
        self.read(async |open| page.fetch_all(&open.readers).await.map_err(failed)).await
    }

    /// Adds clients, and returns how many were added.
    pub(super) async fn create_some(&self, clients: &[RegisteredClient], terms: &Terms) -> Result<usize, AdminError> {
        let mut rows = Vec::with_capacity(clients.len());
        for client in clients {
            rows.push((client.id().as_str(), sql::json(client)?));
        }
        let rows = serde_json::to_string(&rows).map_err(StoreError::new)?;
        let created = self.write(async |connection| {
            check(connection, &terms.conditions).await?;
            match self.insert_some(connection, clients, rows).await? {
                // Rolled back, since a commit would wake the readers of the feed.
                0 => Err(AdminError::Exists),
                created => Ok(created),
            }
        });
        match created.await {
            Err(AdminError::Exists) => Ok(0),
            created => created,
        }
    }

    async fn insert_some(
        &self,
        connection: &mut SqliteConnection,
        clients: &[RegisteredClient],
        rows: String,
    ) -> Result<usize, StoreError> {
        let revision = next_revision(connection).await?;
        let created = "INSERT INTO tcc_clients (id, revision, record)
            SELECT value ->> 0, ?2, value ->> 1 FROM json_each(?1) WHERE true ON CONFLICT DO NOTHING RETURNING id";
        let created = sqlx::query_scalar::<_, String>(created).bind(rows).bind(revision);
        let created = created.fetch_all(&mut *connection).await.map_err(failed)?;
        let mut changes = Vec::with_capacity(created.len());
        let now = self.clock.now();
        for id in &created {
            changes.push(Row::client(&id.parse().map_err(StoreError::new)?, now)?);
        }
        let forget_at = changes.first().map(|row| row.forget_at);
        let changes = serde_json::to_string(&changes.iter().map(|row| &row.change).collect::<Vec<_>>());
        let told = sqlx::query("INSERT INTO tcc_feed (change, forget_at) SELECT value, ?2 FROM json_each(?1)")
            .bind(changes.map_err(StoreError::new)?)
            .bind(forget_at);
        told.execute(&mut *connection).await.map_err(failed)?;
        // Of several clients with one id, the first was created.
        let mut new: HashSet<&str> = created.iter().map(String::as_str).collect();
        workloads::insert(connection, clients.iter().filter(|client| new.remove(client.id().as_str()))).await?;
        Ok(created.len())
    }

    /// Replaces a client that is still at this revision.
    pub(super) async fn replace_client(
        &self,
        client: &RegisteredClient,
        at: Revision,
        terms: &Terms,
    ) -> Result<(), AdminError> {
        let (record, told) = (sql::json(client)?, Row::all(&terms.entries)?);
        self.write(async |connection| {
            check(connection, &terms.conditions).await?;
            if revision_of(connection, client.id()).await?.ok_or(AdminError::NotFound)? != at {
                return Err(AdminError::Conflict);
            }
            let next = next_revision(connection).await?;
            let replaced = sqlx::query("UPDATE tcc_clients SET record = ?2, revision = ?3 WHERE id = ?1");
            let replaced = replaced.bind(client.id().as_str()).bind(record).bind(next);
            replaced.execute(&mut *connection).await.map_err(failed)?;
            workloads::replace(connection, client).await?;
            Ok(insert_all(connection, told).await?)
        })
        .await
    }

    pub(super) async fn delete_client(&self, id: &ClientId, terms: &Terms) -> Result<(), AdminError> {
        let told = Row::all(&terms.entries)?;
        self.write(async |connection| {
            check(connection, &terms.conditions).await?;
            let deleted = sqlx::query("DELETE FROM tcc_clients WHERE id = ?1").bind(id.as_str());
            if deleted.execute(&mut *connection).await.map_err(failed)?.rows_affected() == 0 {
                return Err(AdminError::NotFound);
            }
            Ok(insert_all(connection, told).await?)
        })
        .await
    }
}

/// Returns the next revision. Each change of a client adds a row to the feed, so its number is higher, even after a purge.
async fn next_revision(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    let last = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'tcc_feed'), 0) + 1";
    sqlx::query_scalar(last).fetch_one(connection).await.map_err(failed)
}

/// Checks the conditions of a change. No other write can change the result before the end of the transaction.
async fn check(connection: &mut SqliteConnection, conditions: &[ClientCondition]) -> Result<(), AdminError> {
    for (id, expected) in conditions {
        if revision_of(connection, id).await? != Some(*expected) {
            return Err(AdminError::Conflict);
        }
    }
    Ok(())
}

async fn revision_of(connection: &mut SqliteConnection, id: &ClientId) -> Result<Option<Revision>, StoreError> {
    let revision = sqlx::query_scalar::<_, i64>("SELECT revision FROM tcc_clients WHERE id = ?1").bind(id.as_str());
    let revision = revision.fetch_optional(connection).await.map_err(failed)?;
    Ok(revision.map(i64::cast_unsigned).map(Revision::new))
}
