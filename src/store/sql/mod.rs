//! The common parts of the SQL backends: the encoding of clients, changes and times, and the text of database errors.

mod pooled_connection;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub(super) use self::pooled_connection::PooledConnection;
use super::{Change, FeedEntry, Revocation, StoreError};
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::crypto::sha256;
use crate::deadline::within;
use crate::keys::rotation::Replica;
use crate::registration::RegisteredClient;
use crate::registration::from_json;

/// The maximum number of changes in the result of one call.
pub(super) const PAGE: usize = 10_000;

/// The number of clients created in one transaction, which keeps the transaction short.
pub(super) const CREATED_AT_ONCE: usize = 5_000;

/// The number of rows purged in one transaction.
pub(super) const PURGED_AT_ONCE: i64 = 5_000;

/// The number of expired used credentials that are removed for each new one. So their table stays bounded without a purge,
/// which only a reader of the feed calls.
pub(super) const PURGED_PER_USE: i64 = 10;

/// How much longer than required used credentials are kept, since the clock of the process that purges may be ahead of the
/// clock of the process that checks.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

/// A row of the feed.
pub(super) struct Row {
    /// A [`Change`] in JSON, with characters escaped that a text column does not accept.
    pub(super) change: String,
    /// The digest of a revocation. Equal revocations are stored once, so that repeating one cannot fill the table.
    pub(super) digest: Option<Vec<u8>>,
    pub(super) forget_at: i64,
}

impl Row {
    pub(super) fn of(entry: &FeedEntry) -> Result<Self, StoreError> {
        let forget_at = i64::try_from(entry.keep_until);
        let forget_at = forget_at.map_err(|_| StoreError::new("invalid revocation: `expires_at` is out of range"))?;
        let change = json(&entry.change)?;
        let is_revocation = matches!(entry.change, Change::Revoked(_));
        Ok(Self { digest: is_revocation.then(|| sha256(change.as_bytes()).to_vec()), change, forget_at })
    }

    pub(super) fn revoked(revocation: Revocation) -> Result<Self, StoreError> {
        Self::of(&FeedEntry::revoked(revocation))
    }

    pub(super) fn client(id: &ClientId, now: SystemTime) -> Result<Self, StoreError> {
        Self::of(&FeedEntry::client(id, now))
    }

    /// Returns the rows of all entries.
    pub(super) fn all(entries: &[FeedEntry]) -> Result<Vec<Self>, StoreError> {
        entries.iter().map(Self::of).collect()
    }

    pub(super) fn read(change: &str) -> Result<Change, StoreError> {
        serde_json::from_str(change).map_err(StoreError::new)
    }
}

pub(super) fn client(record: &str) -> Result<Arc<RegisteredClient>, StoreError> {
    from_json(record).map(Arc::new).map_err(StoreError::new)
}

/// Writes a record as JSON, with characters escaped that are not ASCII.
pub(super) fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    let mut text = Vec::with_capacity(256);
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, InAscii);
    value.serialize(&mut serializer).map_err(StoreError::new)?;
    String::from_utf8(text).map_err(StoreError::new)
}

/// Escapes all characters that are not ASCII, since a database with another encoding than UTF-8 does not accept all of them.
struct InAscii;

impl serde_json::ser::Formatter for InAscii {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for character in fragment.chars() {
            let mut units = [0; 2];
            match character {
                '\0'..='\x7f' => write!(writer, "{character}")?,
                _ => {
                    for unit in character.encode_utf16(&mut units) {
                        write!(writer, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

pub(super) fn seconds(time: SystemTime) -> i64 {
    i64::try_from(UnixTime::at(time).as_secs()).unwrap_or(i64::MAX)
}

/// Returns the time in milliseconds since 1970.
#[cfg(feature = "sqlite")]
pub(super) fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Converts a number that is never negative.
pub(super) fn version_of(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Parses the live replicas of a key ring, a JSON list of names, versions and proofs.
pub(super) fn live_replicas(json: &str) -> Result<Vec<Replica>, StoreError> {
    let replicas: Vec<(String, u64, String)> = serde_json::from_str(json).map_err(StoreError::new)?;
    Ok(replicas.into_iter().map(|(name, version, proof)| Replica { name, version, proof }).collect())
}

/// Returns the expiry until which used credentials may be purged at `now`.
pub(super) fn replays_until(now: SystemTime) -> i64 {
    seconds(now).saturating_sub_unsigned(CLOCKS_DIFFER.as_secs())
}

/// Limits the total time of a call: the wait for a connection, and every statement.
pub(super) async fn in_time<T, E: From<StoreError>>(
    time: Duration,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match within(time, call).await {
        Ok(result) => result,
        Err(late) => Err(StoreError::new(late).into()),
    }
}

/// The code of Postgres for a role that lacks rights.
const LACKS_RIGHTS: &str = "42501";

/// What to grant.
const RIGHTS: &str = "GRANT SELECT, INSERT, UPDATE, DELETE on the tables `tcc_…` and USAGE on the sequences `tcc_…` to the role \
                      (SELECT is enough for a service that only verifies tokens)";

/// Converts an error of the database: keeps its message and code, but not its details, which may quote a row.
pub(super) fn failed(error: sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::Database(said) => match (said.message(), said.code()) {
            (message, Some(code)) if code == LACKS_RIGHTS => {
                StoreError::new(format!("database error: {message} ({code}); {RIGHTS}"))
            }
            (message, Some(code)) => StoreError::new(format!("database error: {message} ({code})")),
            (message, None) => StoreError::new(format!("database error: {message}")),
        },
        other => StoreError::of_client(&other),
    }
}

/// Returns the error for tables of a newer version, which this version may be unable to read.
pub(super) fn newer(found: i64, known: i64) -> StoreError {
    StoreError::new(format!(
        "the tables are of version {found}, and this version of the crate supports versions up to {known}: use a newer version"
    ))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{Row, replays_until, seconds};
    use crate::client_id::ClientId;
    use crate::store::{Change, Revocation};

    const CLIENT: ClientId = ClientId::from_static("billing");

    #[test]
    fn a_row_reads_back_as_the_same_change_also_with_unusual_characters() {
        let revocation = Revocation::token("a\0bé🦀\"\\", CLIENT, UNIX_EPOCH, UNIX_EPOCH);
        let row = Row::revoked(revocation.clone()).unwrap();
        assert!(row.change.bytes().all(|byte| matches!(byte, 0x20..=0x7e)), "{}", row.change);
        assert_eq!(Row::read(&row.change).unwrap(), Change::Revoked(revocation));
        assert_eq!(Row::read(&Row::client(&CLIENT, UNIX_EPOCH).unwrap().change).unwrap(), Change::Client(CLIENT));
    }

    #[test]
    fn a_used_credential_is_kept_for_a_minute_after_its_expiry() {
        let end = UNIX_EPOCH + Duration::from_secs(1_000);
        assert!(replays_until(end + Duration::from_secs(59)) < seconds(end));
        assert_eq!(replays_until(end + Duration::from_secs(60)), seconds(end));
    }

    #[test]
    fn equal_revocations_have_the_same_digest() {
        let digest = |name| Row::revoked(Revocation::key(name, UNIX_EPOCH, Duration::from_secs(2))).unwrap().digest;
        assert_eq!(digest("a"), digest("a"));
        assert_ne!(digest("a"), digest("b"));
    }
}
