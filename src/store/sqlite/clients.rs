//! The clients in SQLite.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use sqlx::{Row as _, SqliteConnection};

use super::revocations::insert_all;
use super::{SqliteStore, workloads};
use crate::client_id::ClientId;
use crate::registration::{RegisteredClient, WorkloadKey};
use crate::store::client_page::ClientPage;
use crate::store::listed_client::client_of;
use crate::store::sql::{self, CREATED_AT_ONCE, Row, failed, in_time};
use crate::store::{
    AdminError, ClientAdmin, ClientChange, ClientCondition, ClientStore, ClientWrite, ListedClient, Revision,
    StoreError, StoreFuture,
};

impl ClientStore for SqliteStore {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        StoreFuture::new(async move { Ok(self.load(id).await?.map(|(client, _)| client)) })
    }

    fn find_by_workload<'a>(&'a self, keys: &'a [WorkloadKey]) -> StoreFuture<'a, Option<Vec<ClientId>>> {
        StoreFuture::new(async move {
            in_time(self.timeout, async {
                let open = self.files.open().await?;
                let found = sqlx::query_scalar::<_, String>(workloads::FIND).bind(workloads::keys(keys)?);
                Ok(Some(workloads::ids(&found.fetch_all(&open.readers).await.map_err(failed)?)?))
            })
            .await
        })
    }

    fn is_administered(&self) -> bool {
        true
    }
}

impl SqliteStore {
    /// Returns the ids and the records of the first rows after this id.
    async fn rows_of_clients(
        &self,
        after: Option<String>,
        limit: NonZeroUsize,
    ) -> Result<Vec<(String, String)>, StoreError> {
        in_time(self.timeout, async {
            let open = self.files.open().await?;
            // No id is empty, so all ids come after the empty one.
            let page = "SELECT id, record FROM tcc_clients WHERE id > ?1 ORDER BY id LIMIT ?2";
            let page = sqlx::query_as::<_, (String, String)>(page).bind(after.unwrap_or_default());
            let page = page.bind(i64::try_from(limit.get()).unwrap_or(i64::MAX)).fetch_all(&open.readers);
            page.await.map_err(failed)
        })
        .await
    }

    async fn create_some(&self, clients: &[RegisteredClient]) -> Result<usize, StoreError> {
        let mut rows = Vec::with_capacity(clients.len());
        for client in clients {
            rows.push((client.id().as_str(), sql::record(client)?));
        }
        let rows = serde_json::to_string(&rows).map_err(StoreError::new)?;
        self.write(async |connection| self.insert_some(connection, clients, rows).await).await
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
}

/// Adds a client.
async fn create(connection: &mut SqliteConnection, client: &RegisteredClient) -> Result<(), AdminError> {
    let next = next_revision(connection).await?;
    let created = "INSERT INTO tcc_clients (id, revision, record) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    let created = sqlx::query(created).bind(client.id().as_str()).bind(next).bind(sql::record(client)?);
    if created.execute(&mut *connection).await.map_err(failed)?.rows_affected() == 0 {
        return Err(AdminError::Exists);
    }
    Ok(workloads::replace(connection, client).await?)
}

/// Replaces a client that is still at this revision.
async fn replace(
    connection: &mut SqliteConnection,
    client: &RegisteredClient,
    revision: Revision,
) -> Result<(), AdminError> {
    if self::revision(connection, client.id()).await?.ok_or(AdminError::NotFound)? != revision {
        return Err(AdminError::Conflict);
    }
    let next = next_revision(connection).await?;
    let replaced = sqlx::query("UPDATE tcc_clients SET record = ?2, revision = ?3 WHERE id = ?1");
    let replaced = replaced.bind(client.id().as_str()).bind(sql::record(client)?).bind(next);
    replaced.execute(&mut *connection).await.map_err(failed)?;
    Ok(workloads::replace(connection, client).await?)
}

/// Deletes a client.
async fn delete(connection: &mut SqliteConnection, id: &ClientId) -> Result<(), AdminError> {
    let deleted = sqlx::query("DELETE FROM tcc_clients WHERE id = ?1").bind(id.as_str());
    if deleted.execute(connection).await.map_err(failed)?.rows_affected() == 0 {
        return Err(AdminError::NotFound);
    }
    Ok(())
}

impl ClientAdmin for SqliteStore {
    fn apply(&self, change: ClientChange) -> StoreFuture<'_, (), AdminError> {
        StoreFuture::new(async move {
            let (write, conditions, entries) = change.into_parts(self.clock.now(), self.longest_token_lifetime);
            let told = Row::all(&entries)?;
            self.write(async |connection| {
                check(connection, &conditions).await?;
                match &write {
                    ClientWrite::Create(client) => create(connection, client).await?,
                    ClientWrite::Replace(client, revision) => replace(connection, client, *revision).await?,
                    ClientWrite::Delete(id) => delete(connection, id).await?,
                }
                Ok(insert_all(connection, told).await?)
            })
            .await
        })
    }

    fn create_all(&self, clients: Vec<RegisteredClient>) -> StoreFuture<'_, usize> {
        StoreFuture::new(async move {
            let mut created = 0;
            for clients in clients.chunks(CREATED_AT_ONCE) {
                created += in_time(self.timeout, self.create_some(clients)).await?;
            }
            Ok(created)
        })
    }

    fn load<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<(Arc<RegisteredClient>, Revision)>> {
        StoreFuture::new(async move {
            in_time(self.timeout, async {
                let open = self.files.open().await?;
                let row = sqlx::query("SELECT record, revision FROM tcc_clients WHERE id = ?1").bind(id.as_str());
                let Some(row) = row.fetch_optional(&open.readers).await.map_err(failed)? else { return Ok(None) };
                let revision: i64 = row.try_get(1).map_err(failed)?;
                let client = client_of(id, sql::client(row.try_get(0).map_err(failed)?))?;
                Ok(Some((client, Revision::new(revision.cast_unsigned()))))
            })
            .await
        })
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<Arc<RegisteredClient>>> {
        StoreFuture::new(async move {
            let page = ClientPage::read(after, limit, |after, count| self.rows_of_clients(after, count)).await?;
            page.iter().map(|(id, record)| client_of(id, sql::client(record))).collect()
        })
    }

    fn list_entries<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<ListedClient>> {
        StoreFuture::new(async move {
            let page = ClientPage::read(after, limit, |after, count| self.rows_of_clients(after, count)).await?;
            Ok(page.into_iter().map(|(id, record)| ListedClient::of(id, sql::client(&record))).collect())
        })
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
        if revision(connection, id).await? != Some(*expected) {
            return Err(AdminError::Conflict);
        }
    }
    Ok(())
}

async fn revision(connection: &mut SqliteConnection, id: &ClientId) -> Result<Option<Revision>, StoreError> {
    let revision = sqlx::query_scalar::<_, i64>("SELECT revision FROM tcc_clients WHERE id = ?1").bind(id.as_str());
    let revision = revision.fetch_optional(connection).await.map_err(failed)?;
    Ok(revision.map(i64::cast_unsigned).map(Revision::new))
}
