//! What the backends on SQL have in common: how clients, changes and times are written down, and what of an error is
//! told.

mod lease;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub(super) use self::lease::Lease;
use super::{Change, Revocation, StoreError};
use crate::client_id::ClientId;
use crate::clock::{UnixTime, later};
use crate::crypto::sha256;
use crate::deadline::within;
use crate::registration::RegisteredClient;
use crate::registration::from_json;
use crate::timing::CLIENT_CHANGE_RETENTION;

/// The default of what a call may take, that of [the server](crate::AuthorizationServerBuilder::store_timeout).
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// How many changes are told at a time.
pub(super) const PAGE: usize = 10_000;

/// How many clients are created in one transaction, which is short enough for others to get their turn.
pub(super) const CREATED_AT_ONCE: usize = 5_000;

/// How many rows are purged in one transaction.
pub(super) const PURGED_AT_ONCE: i64 = 5_000;

/// Used credentials stay this much longer than they must, since the clock of who purges may be ahead of the clock of
/// who is asked to take one.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

/// A row of the feed.
pub(super) struct Row {
    /// A [`Change`] in JSON, which also has a form for characters that a column of text does not take.
    pub(super) change: String,
    /// Of a revocation: two that say the same are kept once, so that nobody fills a table by saying it again.
    pub(super) digest: Option<Vec<u8>>,
    pub(super) forget_at: i64,
}

impl Row {
    pub(super) fn revoked(revocation: Revocation) -> Result<Self, StoreError> {
        let forget_at = i64::try_from(revocation.expires_at());
        let forget_at = forget_at.map_err(|_| StoreError::new("the revocation expires after the end of time"))?;
        let change = json(&Change::Revoked(revocation))?;
        Ok(Self { digest: Some(sha256(change.as_bytes()).to_vec()), change, forget_at })
    }

    pub(super) fn client(id: &ClientId, now: SystemTime) -> Result<Self, StoreError> {
        let forget_at = seconds(later(now, CLIENT_CHANGE_RETENTION));
        Ok(Self { change: json(&Change::Client(id.clone()))?, digest: None, forget_at })
    }

    /// What is told of a client that changed, and of one that gets no more tokens.
    pub(super) fn of_client(
        id: &ClientId,
        is_former: bool,
        now: SystemTime,
        longest: Duration,
    ) -> Result<Vec<Self>, StoreError> {
        let mut rows = vec![Self::client(id, now)?];
        if is_former {
            rows.push(Self::revoked(Revocation::former_client(id.clone(), now, longest))?);
        }
        Ok(rows)
    }

    pub(super) fn read(change: &str) -> Result<Change, StoreError> {
        serde_json::from_str(change).map_err(StoreError::new)
    }
}

pub(super) fn record(client: &RegisteredClient) -> Result<String, StoreError> {
    json(client)
}

pub(super) fn client(record: &str) -> Result<Arc<RegisteredClient>, StoreError> {
    from_json(record).map(Arc::new).map_err(StoreError::new)
}

fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    let mut text = Vec::with_capacity(256);
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, InAscii);
    value.serialize(&mut serializer).map_err(StoreError::new)?;
    String::from_utf8(text).map_err(StoreError::new)
}

/// Escapes characters that are not ASCII: a database with another encoding than UTF-8 does not take all of them.
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

/// Used credentials that expired before this may be purged at `now`.
pub(super) fn replays_until(now: SystemTime) -> i64 {
    seconds(now).saturating_sub_unsigned(CLOCKS_DIFFER.as_secs())
}

/// Bounds the whole of a call: the wait for a connection, and every statement.
pub(super) async fn in_time<T, E: From<StoreError>>(
    time: Duration,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match within(time, call).await {
        Ok(result) => result,
        Err(late) => Err(StoreError::new(late).into()),
    }
}

/// What is told of an error of the database: its message and code, and not its details, which may quote a row.
pub(super) fn failed(error: sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::Database(said) => match (said.message(), said.code()) {
            (message, Some(code)) => StoreError::new(format!("the database says: {message} ({code})")),
            (message, None) => StoreError::new(format!("the database says: {message}")),
        },
        other => StoreError::of_client(&other),
    }
}

/// Refuses tables that may say what this version cannot read.
pub(super) fn newer(found: i64, known: i64) -> StoreError {
    StoreError::new(format!(
        "its tables are of version {found}, and this version of the crate knows them up to {known}: use the newer one"
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
    fn a_row_reads_back_as_the_change_that_it_was_even_with_characters_that_no_column_takes() {
        let revocation = Revocation::token("a\0bé🦀\"\\", CLIENT, UNIX_EPOCH, UNIX_EPOCH);
        let row = Row::revoked(revocation.clone()).unwrap();
        assert!(row.change.bytes().all(|byte| matches!(byte, 0x20..=0x7e)), "{}", row.change);
        assert_eq!(Row::read(&row.change).unwrap(), Change::Revoked(revocation));
        assert_eq!(Row::read(&Row::client(&CLIENT, UNIX_EPOCH).unwrap().change).unwrap(), Change::Client(CLIENT));
    }

    #[test]
    fn a_used_credential_is_kept_for_a_minute_beyond_its_end() {
        let end = UNIX_EPOCH + Duration::from_secs(1_000);
        assert!(replays_until(end + Duration::from_secs(59)) < seconds(end));
        assert_eq!(replays_until(end + Duration::from_secs(60)), seconds(end));
    }

    #[test]
    fn revocations_that_say_the_same_have_the_same_digest() {
        let digest = |name| Row::revoked(Revocation::key(name, UNIX_EPOCH, super::CALL_TIMEOUT)).unwrap().digest;
        assert_eq!(digest("a"), digest("a"));
        assert_ne!(digest("a"), digest("b"));
    }
}
