//! The clients in Postgres.

use std::num::NonZeroUsize;
use std::sync::Arc;

use sqlx::{Connection as _, PgConnection, Row as _};

use super::feed::last_told;
use super::{PostgresStore, feed, workloads};
use crate::client_id::ClientId;
use crate::clock::later;
use crate::registration::{RegisteredClient, WorkloadKey};
use crate::store::client_page::ClientPage;
use crate::store::listed_client::client_of;
use crate::store::sql::{self, CREATED_AT_ONCE, Row};
use crate::store::{
    AdminError, ClientAdmin, ClientChange, ClientCondition, ClientStore, ClientWrite, ListedClient, Revision,
    StoreError, StoreFuture,
};

impl ClientStore for PostgresStore {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        StoreFuture::new(async move { Ok(self.load(id).await?.map(|(client, _)| client)) })
    }

    fn find_by_workload<'a>(&'a self, keys: &'a [WorkloadKey]) -> StoreFuture<'a, Option<Vec<ClientId>>> {
        StoreFuture::new(async move {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            let ids = workloads::find(self, &keys).await?;
            let ids: Result<_, _> = ids.iter().map(|id| id.parse().map_err(StoreError::new)).collect();
            Ok(Some(ids?))
        })
    }

    fn is_administered(&self) -> bool {
        true
    }
}

impl PostgresStore {
    /// Returns the ids and the records of the first rows after this id.
    async fn rows_of_clients(
        &self,
        after: Option<String>,
        limit: NonZeroUsize,
    ) -> Result<Vec<(String, String)>, StoreError> {
        self.call(async |connection| {
            // No id is empty, so all ids come after the empty one.
            let page = "SELECT id, record FROM tcc_clients WHERE id > $1 ORDER BY id LIMIT $2";
            let page = sqlx::query_as::<_, (String, String)>(page).bind(after.unwrap_or_default());
            page.bind(i64::try_from(limit.get()).unwrap_or(i64::MAX)).fetch_all(connection).await
        })
        .await
    }

    /// Returns how many clients were added, or `None` if a condition does not hold.
    async fn create_some(
        &self,
        clients: &[RegisteredClient],
        conditions: &[ClientCondition],
    ) -> Result<Option<usize>, StoreError> {
        let now = self.clock.now();
        let (mut ids, mut records, mut told, mut indexed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for client in clients {
            ids.push(client.id().as_str());
            indexed.push(workloads::of(client));
            records.push(sql::record(client)?);
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
        let created = self.call_if(conditions, clients.first().map(RegisteredClient::id), async |connection| {
            let created = sqlx::query(created).bind(ids).bind(records).bind(told.changes).bind(told.forget_at);
            let created = created.bind(indexed);
            let row = created.fetch_one(connection).await?;
            Ok((row.try_get::<i64, _>(0)?, row.try_get::<Option<String>, _>(1)?))
        });
        let Some((created, told)) = created.await? else { return Ok(None) };
        self.wrote(told.as_deref());
        Ok(Some(usize::try_from(created).unwrap_or_default()))
    }

    async fn replace_with(
        &self,
        client: &RegisteredClient,
        revision: Revision,
        conditions: &[ClientCondition],
        told: Rows,
    ) -> Result<(), AdminError> {
        let record = sql::record(client)?;
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
        let counts = self.call_if(conditions, Some(client.id()), async |connection| {
            let replaced = sqlx::query_as::<_, (i64, i64, Option<String>)>(replaced).bind(client.id().as_str());
            let replaced = replaced.bind(revision.number().cast_signed()).bind(record);
            let replaced =
                replaced.bind(told.changes).bind(told.digests).bind(told.forget_at).bind(workloads::of(client));
            replaced.fetch_one(connection).await
        });
        match counts.await?.ok_or(AdminError::Conflict)? {
            (0, 0, _) => Err(AdminError::NotFound),
            (0, ..) => Err(AdminError::Conflict),
            (.., told) => {
                self.wrote(told.as_deref());
                Ok(())
            }
        }
    }

    async fn delete_with(&self, id: &ClientId, conditions: &[ClientCondition], told: Rows) -> Result<(), AdminError> {
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
        let deleted = self.call_if(conditions, Some(id), async |connection| {
            let deleted = sqlx::query(deleted).bind(id.as_str());
            let deleted = deleted.bind(told.changes).bind(told.digests).bind(told.forget_at);
            let row = deleted.fetch_optional(connection).await?;
            row.map(|row| row.try_get::<Option<String>, _>(0)).transpose()
        });
        let told = deleted.await?.ok_or(AdminError::Conflict)?.ok_or(AdminError::NotFound)?;
        self.wrote(told.as_deref());
        Ok(())
    }

    /// Makes a call if the conditions hold, and returns `None` if one does not. The rows of the conditions and of `changed` are
    /// locked until the end of the transaction, in the order of their ids, so that two changes never wait for each other.
    async fn call_if<T>(
        &self,
        conditions: &[ClientCondition],
        changed: Option<&ClientId>,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<Option<T>, StoreError> {
        if conditions.is_empty() {
            return Ok(Some(self.call(statement).await?));
        }
        let ids: Vec<&str> = conditions.iter().map(|(id, _)| id).chain(changed).map(ClientId::as_str).collect();
        self.call(async |connection| {
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
        })
        .await
    }
}

impl ClientAdmin for PostgresStore {
    fn apply(&self, change: ClientChange) -> StoreFuture<'_, (), AdminError> {
        StoreFuture::new(async move {
            let now = later(self.clock.now(), self.clock_check.delay());
            let (write, conditions, entries) = change.into_parts(now, self.longest_token_lifetime);
            let told = Rows::of(Row::all(&entries)?);
            match write {
                ClientWrite::Create(client) => match self.create_some(&[client], &conditions).await? {
                    None => Err(AdminError::Conflict),
                    Some(0) => Err(AdminError::Exists),
                    Some(_) => Ok(()),
                },
                ClientWrite::Replace(client, revision) => self.replace_with(&client, revision, &conditions, told).await,
                ClientWrite::Delete(id) => self.delete_with(&id, &conditions, told).await,
            }
        })
    }

    fn create_all(&self, clients: Vec<RegisteredClient>) -> StoreFuture<'_, usize> {
        StoreFuture::new(async move {
            let mut created = 0;
            for clients in clients.chunks(CREATED_AT_ONCE) {
                created += self.create_some(clients, &[]).await?.unwrap_or_default();
            }
            Ok(created)
        })
    }

    fn load<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<(Arc<RegisteredClient>, Revision)>> {
        StoreFuture::new(async move {
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
