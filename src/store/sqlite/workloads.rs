//! The index of clients by their workloads.
//!
//! A version of this crate without it can use the same file: a trigger removes the entries of a client that it deletes, and it can
//! neither read nor write a client with credentials for workloads.

use sqlx::SqliteConnection;

use crate::registration::RegisteredClient;
use crate::store::StoreError;
use crate::store::sql::{self, failed};

/// The key is in hexadecimal.
const TABLE: &str = "
    CREATE TABLE tcc_workloads (
        key TEXT NOT NULL,
        client_id TEXT NOT NULL,
        PRIMARY KEY (key, client_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tcc_workloads_client_id ON tcc_workloads (client_id);
    CREATE TRIGGER tcc_workloads_deleted AFTER DELETE ON tcc_clients BEGIN
        DELETE FROM tcc_workloads WHERE client_id = OLD.id;
    END;
";

/// Finds the clients of any of these keys.
pub(super) const FIND: &str = "SELECT DISTINCT client_id FROM tcc_workloads
    WHERE key IN (SELECT value FROM json_each(?1)) LIMIT 2";

/// Creates the index of a file that has none, and adds the clients.
pub(super) async fn prepare(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'tcc_workloads'";
    if sqlx::query_scalar::<_, i64>(tables).fetch_one(&mut *connection).await.map_err(failed)? > 0 {
        return Ok(());
    }
    sqlx::raw_sql(TABLE).execute(&mut *connection).await.map_err(failed)?;
    let records = r#"SELECT record FROM tcc_clients WHERE record LIKE '%"credentials"%'"#;
    let records = sqlx::query_scalar::<_, String>(records).fetch_all(&mut *connection).await.map_err(failed)?;
    // No request can use a record that this version does not understand.
    let clients: Vec<_> = records.iter().filter_map(|record| sql::client(record).ok()).collect();
    insert(connection, clients.iter().map(|client| &**client)).await
}

/// Adds clients that are not in the index.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    clients: impl Iterator<Item = &RegisteredClient>,
) -> Result<(), StoreError> {
    let rows: Vec<(String, &str)> = clients
        .flat_map(|client| client.workload_keys().into_iter().map(|key| (key.to_string(), client.id().as_str())))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let insert =
        "INSERT OR IGNORE INTO tcc_workloads (key, client_id) SELECT value ->> 0, value ->> 1 FROM json_each(?1)";
    let insert = sqlx::query(insert).bind(serde_json::to_string(&rows).map_err(StoreError::new)?);
    insert.execute(connection).await.map(drop).map_err(failed)
}

/// Replaces the entries of a client.
pub(super) async fn replace(connection: &mut SqliteConnection, client: &RegisteredClient) -> Result<(), StoreError> {
    let delete = sqlx::query("DELETE FROM tcc_workloads WHERE client_id = ?1").bind(client.id().as_str());
    delete.execute(&mut *connection).await.map_err(failed)?;
    insert(connection, std::iter::once(client)).await
}
