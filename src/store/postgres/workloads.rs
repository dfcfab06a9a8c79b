//! The index of clients by their workloads: a column of the table of clients, so that a client and its entries change in one step.
//!
//! The column is null for a client without credentials, and for one that was written without the index. A partial index has the latter,
//! so that each connect finds them at once. A version of this crate without the column can use the same tables: it can neither read nor
//! write a client with credentials for workloads.

use sqlx::PgConnection;

use super::schema::{WITHOUT_TIMEOUT, locked, run};
use super::{PostgresStore, feed};
use crate::registration::RegisteredClient;
use crate::store::StoreError;
use crate::store::sql::{self, failed};

/// The keys of the workloads are in hexadecimal.
const COLUMN: &str = r#"
    ALTER TABLE tcc_clients ADD COLUMN IF NOT EXISTS workloads TEXT[];
    CREATE INDEX IF NOT EXISTS tcc_clients_workloads ON tcc_clients USING GIN (workloads);
    CREATE INDEX IF NOT EXISTS tcc_clients_unindexed ON tcc_clients (id)
        WHERE workloads IS NULL AND record LIKE '%"credentials"%';
"#;

/// Finds the clients of any of these keys. `MATERIALIZED`, since Postgres otherwise reads the whole table in the hope that two rows
/// come early.
///
/// Also returns whether there are clients that are not in the index. `ORDER BY`, for the same reason: it excludes all but an index with
/// that order, of which the partial one is the smallest.
const FIND: &str = r#"SELECT pg_is_in_recovery(), ARRAY(
    WITH found AS MATERIALIZED (SELECT id FROM tcc_clients WHERE workloads && $1::text[])
    SELECT id FROM found LIMIT 2),
    EXISTS (SELECT FROM (SELECT id FROM tcc_clients
        WHERE workloads IS NULL AND record LIKE '%"credentials"%' ORDER BY id LIMIT 1) AS unindexed)"#;

/// How many clients are added to the index in one statement.
const INDEXED_AT_ONCE: i64 = 1_000;

/// How many clients that are not in the index a search reads at once. The first one is nearly always a reason to stop.
const REFUSED_AT_ONCE: i64 = 10;

/// Returns the column of a client, with spaces between the keys.
pub(super) fn of(client: &RegisteredClient) -> Option<String> {
    // Not null for a client with credentials, which would be found as one without an entry.
    (!client.credentials().is_empty())
        .then(|| client.workload_keys().iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
}

/// Creates the column of tables that have none, and adds the clients that were written without it. A role that changes no clients does
/// not need it.
pub(super) async fn prepare(connection: &mut PgConnection) -> Result<(), StoreError> {
    let rights = "SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'tcc_clients' AND pg_table_is_visible(oid)
        AND has_table_privilege(oid, 'INSERT') AND has_table_privilege(oid, 'UPDATE')), quote_ident(current_user)";
    let (writes, role): (bool, String) = sqlx::query_as(rights).fetch_one(&mut *connection).await.map_err(failed)?;
    if !is_complete(connection).await? {
        if !writes {
            return Ok(());
        }
        let created = locked(connection, Some(WITHOUT_TIMEOUT), async |connection| {
            // While this waits for a long transaction, such as that of a backup, all others wait for this.
            run(connection, "SET LOCAL lock_timeout = '10s'").await?;
            run(connection, COLUMN).await
        });
        if let Err(error) = created.await {
            let error = failed(error);
            let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            let column = COLUMN.split_whitespace().collect::<Vec<_>>().join(" ");
            return Err(StoreError::new(format!(
                "the role {role} may change clients, but the table `tcc_clients` lacks the index of their workloads: {why}; run this \
                 once as the owner of the tables: {column}"
            )));
        }
    }
    if writes { index_all(connection).await } else { Ok(()) }
}

async fn is_complete(connection: &mut PgConnection) -> Result<bool, StoreError> {
    let parts = "SELECT count(*) FROM pg_class
        WHERE relname IN ('tcc_clients_workloads', 'tcc_clients_unindexed') AND pg_table_is_visible(oid)";
    Ok(sqlx::query_scalar::<_, i64>(parts).fetch_one(connection).await.map_err(failed)? == 2)
}

impl PostgresStore {
    /// Returns the clients of any of these workloads.
    pub(super) async fn ids_of_workloads(&self, keys: Vec<String>) -> Result<Vec<String>, StoreError> {
        let mut are_checked = false;
        loop {
            let found = sqlx::query_as::<_, (bool, Vec<String>, bool)>(FIND).bind(&keys);
            let found = self.call(async |connection| found.fetch_one(connection).await);
            let (is_standby, ids, has_unindexed) = found.await?;
            if is_standby {
                return Err(StoreError::new(feed::STANDBY));
            }
            if are_checked || !has_unindexed {
                return Ok(ids);
            }
            // Then searches again, since the index may have been completed between the two.
            refuse_unindexed(self).await?;
            are_checked = true;
        }
    }
}

/// Returns an error if a client with a credential is not in the index. Records that this version does not understand stay out of it.
async fn refuse_unindexed(store: &PostgresStore) -> Result<(), StoreError> {
    let mut after = String::new();
    loop {
        let page = store.call(async |connection| unindexed(connection, &after, REFUSED_AT_ONCE).await).await?;
        let Some((last, ..)) = page.last() else { return Ok(()) };
        after.clone_from(last);
        let mut clients = page.iter().filter_map(|(_, _, record)| sql::client(record).ok());
        if let Some(client) = clients.find(|client| of(client).is_some()) {
            return Err(StoreError::new(format!(
                "the index of workloads lacks the client {:?}: another process is adding it, or it was written without the index; \
                 restart a process whose role may change clients, which adds it",
                client.id().as_str()
            )));
        }
    }
}

/// Returns a page of the clients that were written without the index: id, revision and record.
async fn unindexed(
    connection: &mut PgConnection,
    after: &str,
    limit: i64,
) -> Result<Vec<(String, i64, String)>, sqlx::Error> {
    let page = r#"SELECT id, revision, record FROM tcc_clients
        WHERE workloads IS NULL AND record LIKE '%"credentials"%' AND id > $1 ORDER BY id LIMIT $2"#;
    sqlx::query_as(page).bind(after).bind(limit).fetch_all(connection).await
}

/// Adds the clients that were written without the index.
async fn index_all(connection: &mut PgConnection) -> Result<(), StoreError> {
    let mut after = String::new();
    loop {
        let page = unindexed(connection, &after, INDEXED_AT_ONCE).await.map_err(failed)?;
        let Some((last, ..)) = page.last() else { return Ok(()) };
        after.clone_from(last);
        let (mut ids, mut revisions, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        for (id, revision, record) in page {
            // No request can use a record that this version does not understand.
            if let Ok(client) = sql::client(&record) {
                ids.push(id);
                revisions.push(revision);
                columns.push(of(&client));
            }
        }
        let indexed = "UPDATE tcc_clients AS own SET workloads = string_to_array(new.workloads, ' ')
            FROM unnest($1::text[], $2::bigint[], $3::text[]) AS new (id, revision, workloads)
            WHERE own.id = new.id AND own.revision = new.revision AND own.workloads IS NULL";
        let indexed = sqlx::query(indexed).bind(ids).bind(revisions).bind(columns);
        indexed.execute(&mut *connection).await.map_err(failed)?;
    }
}
