//! The clients in Postgres.

use std::num::NonZeroUsize;

use sqlx::{Connection as _, PgConnection, Row as _};

use super::feed::last_told;
use super::{PostgresStore, feed, workloads};
use crate::client_id::ClientId;
use crate::registration::RegisteredClient;
use crate::store::database::{Found, Records, Terms};
use crate::store::listed_client::client_of;
use crate::store::sql::{self, Row};
use crate::store::{AdminError, ClientCondition, Revision, StoreError};

impl PostgresStore {
    pub(super) async fn find_client(&self, id: &ClientId) -> Result<Found, StoreError> {
        let row = self.call(async |connection| {
            let row = "SELECT pg_is_in_recovery(), record, revision
                FROM (SELECT) AS always LEFT JOIN tcc_clients ON id = $1";
            let row = sqlx::query_as::<_, (bool, Option<String>, Option<i64>)>(row).bind(id.as_str());
            row.fetch_one(connection).await
        });
        let (is_standby, record, revision) = row.await?;
        if is_standby {
            return Err(StoreError::new(feed::STANDBY));
        }
        let Some((record, revision)) = record.zip(revision) else { return Ok(None) };
        Ok(Some((client_of(id, sql::client(&record))?, Revision::new(revision.cast_unsigned()))))
    }

    /// Returns the ids and the records of the first rows after this id.
    pub(super) async fn records(&self, after: Option<String>, limit: NonZeroUsize) -> Result<Records, StoreError> {
        self.call(async |connection| {
            // No id is empty, so all ids come after the empty one.
            let page = "SELECT id, record FROM tcc_clients WHERE id > $1 ORDER BY id LIMIT $2";
            let page = sqlx::query_as(page).bind(after.unwrap_or_default());
            page.bind(i64::try_from(limit.get()).unwrap_or(i64::MAX)).fetch_all(connection).await
        })
        .await
    }

    /// Adds clients, and returns how many were added.
    pub(super) async fn create_some(&self, clients: &[RegisteredClient], terms: &Terms) -> Result<usize, AdminError> {
        let now = self.clock.now();
        let (mut ids, mut records, mut told, mut indexed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for client in clients {
            ids.push(client.id().as_str());
            indexed.push(workloads::of(client));
            records.push(sql::json(client)?);
            told.push(Row::client(client.id(), now)?);
        }
        let told = Rows::of(told);
        let created = concat!(
            "WITH new AS (
                SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[])
                    AS new (id, record, change, forget_at, workloads)
            ), created AS (
                INSERT INTO tcc_clients (id, revision, record, workloads)
                SELECT id, nextval('tcc_revision'), record, string_to_array(workloads, ' ') FROM new
                ON CONFLICT DO NOTHING RETURNING id
            ), told AS (
                INSERT INTO tcc_feed (change, forget_at)
                SELECT DISTINCT ON (id) change, forget_at FROM new JOIN created USING (id)
                RETURNING xid, seq, forget_at, change
            )
            SELECT count(*), ",
            last_told!(),
            ", pg_notify('tcc_feed', '') FROM created"
        );
        let created = self.call_if(&terms.conditions, clients.first().map(RegisteredClient::id), async |connection| {
            let created = sqlx::query(created).bind(ids).bind(records).bind(told.changes).bind(told.forget_at);
            let created = created.bind(indexed);
            let row = created.fetch_one(connection).await?;
            Ok((row.try_get::<i64, _>(0)?, row.try_get::<Option<String>, _>(1)?))
        });
        let (created, told) = created.await?;
        self.wrote(told.as_deref());
        Ok(usize::try_from(created).unwrap_or_default())
    }

    /// Replaces a client that is still at this revision.
    pub(super) async fn replace_client(
        &self,
        client: &RegisteredClient,
        at: Revision,
        terms: &Terms,
    ) -> Result<(), AdminError> {
        let (record, told) = (sql::json(client)?, Rows::of(Row::all(&terms.entries)?));
        let replaced = concat!(
            "WITH replaced AS (
                UPDATE tcc_clients SET record = $3, revision = nextval('tcc_revision'), workloads = string_to_array($7, ' ')
                WHERE id = $1 AND revision = $2 RETURNING id
            ), told AS (
                INSERT INTO tcc_feed (change, digest, forget_at)
                SELECT new.* FROM unnest($4::text[], $5::bytea[], $6::bigint[]) AS new, replaced ON CONFLICT DO NOTHING
                RETURNING xid, seq, forget_at, change
            ), woken AS (
                SELECT pg_notify('tcc_feed', '') FROM replaced
            )
            SELECT (SELECT count(*) FROM woken), (SELECT count(*) FROM tcc_clients WHERE id = $1), ",
            last_told!()
        );
        let counts = self.call_if(&terms.conditions, Some(client.id()), async |connection| {
            let replaced = sqlx::query_as::<_, (i64, i64, Option<String>)>(replaced).bind(client.id().as_str());
            let replaced = replaced.bind(at.number().cast_signed()).bind(record);
            let replaced =
                replaced.bind(told.changes).bind(told.digests).bind(told.forget_at).bind(workloads::of(client));
            replaced.fetch_one(connection).await
        });
        match counts.await? {
            (0, 0, _) => Err(AdminError::NotFound),
            (0, ..) => Err(AdminError::Conflict),
            (.., told) => {
                self.wrote(told.as_deref());
                Ok(())
            }
        }
    }

    pub(super) async fn delete_client(&self, id: &ClientId, terms: &Terms) -> Result<(), AdminError> {
        let told = Rows::of(Row::all(&terms.entries)?);
        let deleted = concat!(
            "WITH deleted AS (
                DELETE FROM tcc_clients WHERE id = $1 RETURNING id
            ), told AS (
                INSERT INTO tcc_feed (change, digest, forget_at)
                SELECT new.* FROM unnest($2::text[], $3::bytea[], $4::bigint[]) AS new, deleted ON CONFLICT DO NOTHING
                RETURNING xid, seq, forget_at, change
            )
            SELECT ",
            last_told!(),
            ", pg_notify('tcc_feed', '') FROM deleted"
        );
        let deleted = self.call_if(&terms.conditions, Some(id), async |connection| {
            let deleted = sqlx::query(deleted).bind(id.as_str());
            let deleted = deleted.bind(told.changes).bind(told.digests).bind(told.forget_at);
            let row = deleted.fetch_optional(connection).await?;
            row.map(|row| row.try_get::<Option<String>, _>(0)).transpose()
        });
        let told = deleted.await?.ok_or(AdminError::NotFound)?;
        self.wrote(told.as_deref());
        Ok(())
    }

    /// Makes a call if the conditions hold. The rows of the conditions and of `changed` are
    /// locked until the end of the transaction, in the order of their ids, so that two changes never wait for each other.
    async fn call_if<T>(
        &self,
        conditions: &[ClientCondition],
        changed: Option<&ClientId>,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, AdminError> {
        if conditions.is_empty() {
            return Ok(self.call(statement).await?);
        }
        let ids: Vec<&str> = conditions.iter().map(|(id, _)| id).chain(changed).map(ClientId::as_str).collect();
        let done = self.call(async |connection| {
            let mut transaction = connection.begin().await?;
            let locked = "SELECT id, revision FROM tcc_clients WHERE id = ANY($1) ORDER BY id FOR UPDATE";
            let locked = sqlx::query_as::<_, (String, i64)>(locked).bind(ids).fetch_all(&mut *transaction).await?;
            let holds = |(id, revision): &ClientCondition| {
                locked.iter().any(|(own, at)| own == id.as_str() && at.cast_unsigned() == revision.number())
            };
            if !conditions.iter().all(holds) {
                transaction.rollback().await?;
                return Ok(None);
            }
            let done = statement(&mut transaction).await?;
            transaction.commit().await?;
            Ok(Some(done))
        });
        done.await?.ok_or(AdminError::Conflict)
    }
}

/// Rows of the feed as columns, for `unnest`.
struct Rows {
    changes: Vec<String>,
    digests: Vec<Option<Vec<u8>>>,
    forget_at: Vec<i64>,
}

impl Rows {
    fn of(rows: Vec<Row>) -> Self {
        let mut told = Self { changes: Vec::new(), digests: Vec::new(), forget_at: Vec::new() };
        for row in rows {
            told.changes.push(row.change);
            told.digests.push(row.digest);
            told.forget_at.push(row.forget_at);
        }
        told
    }
}
