//! [`Place`]: a position in the feed, in terms of transactions.
//!
//! A sequence assigns its numbers when a row is written, but rows become visible when their transaction commits:
//! `seq > cursor` misses a row that was written early and committed late. So each row has the id of its transaction, and a cursor
//! lists the transactions that it could not see. A transaction gets its id when it first writes.
//!
//! 1. Rows are read in the order of (transaction, number), up to the last visible one. That row is the place.
//! 2. The transactions before the place that were open at that moment are saved with it. Their rows are read next.
//! 3. The place makes no statement about later transactions, although a snapshot could: after a crash, the id of a transaction
//!    that left no trace on the disk is assigned again. The ids up to the place are safe from that, since the row there was
//!    committed.
//! 4. The row at the place must still exist, with the same text: ids and numbers alone can be assigned again after a failover.
//!    Otherwise this is another history, after a restore or a failover, and the feed starts over. It also starts over after
//!    that row was purged, since nothing then shows that the history is the same; that is not a loss.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{Error, FromRow, PgConnection, Row as _};

use crate::store::sql::{PAGE, Row};
use crate::store::{Changes, Cursor, StoreError};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The transaction of the last row that was read.
    xid: u64,
    seq: i64,
    forget_at: i64,
    change: String,
    /// The earlier transactions that were open.
    open: Vec<u64>,
}

/// An answer of the feed.
#[derive(Debug)]
pub(super) enum FeedPage {
    Changes(Changes),
    /// The row of the place does not exist, so the feed must start over. The row was lost unless it was purged.
    StartOver {
        is_lost: bool,
    },
}

/// How much earlier than by the clock of this process another process, whose clock is ahead, may purge a row.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

/// A row of the result of [`Place::fetch`]: the state of the server, equal in all rows, and a row of the feed, if there is
/// one.
#[derive(Clone, Debug, Default)]
pub(super) struct Fetched {
    /// `xmin:xmax:xip,…`
    snapshot: String,
    is_standby: bool,
    /// Whether the row of the place exists.
    is_known: bool,
    /// Whether the row of the last write exists.
    is_written: bool,
    /// The time of the database, in milliseconds since 1970.
    pub(super) clock: i64,
    xid: Option<String>,
    seq: Option<i64>,
    forget_at: Option<i64>,
    change: Option<String>,
}

impl FromRow<'_, PgRow> for Fetched {
    fn from_row(row: &PgRow) -> Result<Self, Error> {
        Ok(Self {
            snapshot: row.try_get("snapshot")?,
            is_standby: row.try_get("is_standby")?,
            is_known: row.try_get("is_known")?,
            is_written: row.try_get("is_written")?,
            clock: row.try_get("clock")?,
            xid: row.try_get("xid")?,
            seq: row.try_get("seq")?,
            forget_at: row.try_get("forget_at")?,
            change: row.try_get("change")?,
        })
    }
}

/// The last of the rows in `told`, in the form of a [`Place`].
macro_rules! last_told {
    () => {
        "(SELECT concat_ws(':', xid, seq, forget_at, '', change) FROM told ORDER BY seq DESC LIMIT 1)"
    };
}
pub(super) use last_told;

/// The place of the last write of this process, until a poll has seen it. A failover may lose it before that.
#[derive(Debug, Default)]
pub(super) struct LastWrite(Mutex<Place>);

impl LastWrite {
    /// Stores the last row of a write, if it wrote any.
    pub(super) fn set(&self, told: Option<&str>) {
        if let Some(place) = told.and_then(Place::parse) {
            *self.lock() = place;
        }
    }

    pub(super) fn get(&self) -> Place {
        self.lock().clone()
    }

    pub(super) fn checked(&self, place: &Place) {
        let mut last = self.lock();
        if *last == *place {
            *last = Place::default();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Reads everything in one statement, and so from one snapshot.
    pub(super) async fn fetch(&self, written: &Self, connection: &mut PgConnection) -> Result<Vec<Fetched>, Error> {
        let page = "SELECT taken.snapshot::text, pg_is_in_recovery() AS is_standby,
                EXISTS (SELECT FROM tcc_feed WHERE xid = $1::text::xid8 AND seq = $2 AND change = $5) AS is_known,
                EXISTS (SELECT FROM tcc_feed WHERE xid = $6::text::xid8 AND seq = $7 AND change = $8) AS is_written,
                (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS clock,
                told.xid::text, told.seq, told.forget_at, told.change
            FROM (SELECT pg_current_snapshot() AS snapshot) AS taken
            LEFT JOIN (
                (SELECT xid, seq, forget_at, change FROM tcc_feed WHERE (xid, seq) > ($1::text::xid8, $2)
                    ORDER BY xid, seq LIMIT $4)
                UNION ALL
                (SELECT xid, seq, forget_at, change FROM tcc_feed WHERE xid = ANY ($3::text[]::xid8[])
                    ORDER BY xid, seq LIMIT $4)
                ORDER BY xid, seq LIMIT $4
            ) AS told ON true
            ORDER BY told.xid, told.seq";
        let open: Vec<String> = self.open.iter().map(u64::to_string).collect();
        let limit = i64::try_from(PAGE).unwrap_or(i64::MAX).saturating_add(1);
        sqlx::query_as(page)
            .bind(self.xid.to_string())
            .bind(self.seq)
            .bind(open)
            .bind(limit)
            .bind(&self.change)
            .bind(written.xid.to_string())
            .bind(written.seq)
            .bind(&written.change)
            .fetch_all(connection)
            .await
    }

    /// Converts the result. `written` is the last write that no poll has seen.
    pub(super) fn read(&self, rows: Vec<Fetched>, written: &Self, now: i64) -> Result<FeedPage, StoreError> {
        let damaged = || StoreError::new("unexpected result of the feed query of Postgres");
        let Fetched { snapshot, is_standby, is_known, is_written, .. } = rows.first().ok_or_else(damaged)?;
        if *is_standby {
            return Err(StoreError::new(STANDBY));
        }
        let snapshot = Snapshot::parse(snapshot).ok_or_else(damaged)?;
        let is_gone = |place: &Self, is_there: bool| place.xid > 0 && (place.xid >= snapshot.end || !is_there);
        let is_lost = |place: &Self| {
            let may_be_purged = place.forget_at <= now.saturating_add_unsigned(CLOCKS_DIFFER.as_secs());
            place.xid >= snapshot.end || !may_be_purged
        };
        let is_write_lost = is_gone(written, *is_written) && is_lost(written);
        if is_write_lost || is_gone(self, *is_known) {
            return Ok(FeedPage::StartOver { is_lost: is_write_lost || is_lost(self) });
        }
        let mut next = Self::default();
        let mut changes = Vec::with_capacity(rows.len());
        let more = rows.len() > PAGE;
        for row in rows.into_iter().take(PAGE) {
            let Fetched { xid: Some(xid), seq: Some(seq), forget_at: Some(forget_at), change: Some(change), .. } = row
            else {
                break;
            };
            changes.push(Row::read(&change)?);
            next = Self { xid: xid.parse().map_err(StoreError::new)?, seq, forget_at, change, open: Vec::new() };
        }
        // Only rows of earlier transactions were read, so the place does not move back.
        if !more && (next.xid, next.seq) < (self.xid, self.seq) {
            next = self.clone();
        }
        next.open = snapshot.open.into_iter().filter(|xid| *xid < next.xid).collect();
        Ok(FeedPage::Changes(Changes::new(changes, Cursor::new(next.to_string())).more(more)))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:", self.xid, self.seq, self.forget_at)?;
        for (number, xid) in self.open.iter().enumerate() {
            if number > 0 {
                f.write_char(',')?;
            }
            write!(f, "{xid}")?;
        }
        write!(f, ":{}", self.change)
    }
}

impl FromStr for Place {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        Self::parse(text).ok_or_else(|| StoreError::new("invalid cursor: it does not belong to a Postgres store"))
    }
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, ':');
        let (xid, seq, forget_at) = (parts.next()?, parts.next()?, parts.next()?);
        let open = numbers(parts.next()?)?;
        let change = parts.next()?.to_owned();
        Some(Self { xid: xid.parse().ok()?, seq: seq.parse().ok()?, forget_at: forget_at.parse().ok()?, change, open })
    }
}

/// The error for a standby: its data may be old, and it accepts no revocation.
pub(super) const STANDBY: &str = "the server is a standby, which may be far behind; use the URL of the primary";

struct Snapshot {
    /// The first id that was not assigned yet.
    end: u64,
    open: Vec<u64>,
}

impl Snapshot {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':').skip(1);
        Some(Self { end: parts.next()?.parse().ok()?, open: numbers(parts.next()?)? })
    }
}

fn numbers(text: &str) -> Option<Vec<u64>> {
    text.split(',').filter(|number| !number.is_empty()).map(|number| number.parse().ok()).collect()
}

/// Assigns rows of another history, whose transactions have not happened in this one, to the current transaction. Such rows
/// exist after a restore from a dump, and their ids would collide with those of later rows.
pub(super) async fn adopt(connection: &mut PgConnection) -> Result<(), Error> {
    let rows = "SELECT EXISTS (SELECT FROM tcc_feed WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()))";
    if sqlx::query_scalar(rows).fetch_one(&mut *connection).await? {
        // With new numbers: a table that was written to during the restore may have some numbers twice.
        let adopted = "UPDATE tcc_feed SET xid = pg_current_xact_id(), seq = DEFAULT
            WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()) AND xid <> pg_current_xact_id()";
        sqlx::query(adopted).execute(connection).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Changes, FeedPage, Fetched, PAGE, Place, Snapshot};

    const CHANGE: &str = r#"{"client":"billing"}"#;

    fn place(text: &str) -> Place {
        text.parse().unwrap()
    }

    fn row(snapshot: &str, xid: u64) -> Fetched {
        let (xid, change) = (Some(xid.to_string()), Some(CHANGE.to_owned()));
        Fetched { xid, seq: Some(1), forget_at: Some(9), change, ..nothing(snapshot) }
    }

    fn nothing(snapshot: &str) -> Fetched {
        Fetched { snapshot: snapshot.to_owned(), is_known: true, ..Fetched::default() }
    }

    fn changes(place: &str, rows: Vec<Fetched>) -> Changes {
        match place.parse::<Place>().unwrap().read(rows, &Place::default(), 0).unwrap() {
            FeedPage::Changes(changes) => changes,
            other @ FeedPage::StartOver { .. } => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_written_place_reads_back_equal() {
        for text in ["0:0:0::", "7:1:99::{}", "7:1:99:5,6:{\"client\":\"a:b\"}"] {
            assert_eq!(place(text).to_string(), text);
        }
        for text in ["7", "7:1:99", "7:1:99:", "a:1:99::", "7:1:99:x:"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
        let snapshot = Snapshot::parse("5:9:5,7").unwrap();
        assert_eq!((snapshot.end, snapshot.open), (9, vec![5, 7]));
    }

    #[test]
    fn a_place_lists_the_open_transactions_before_it_and_none_after_it() {
        let first = changes("", vec![row("5:12:5,9,11", 10)]);
        assert_eq!(first.cursor.as_str(), format!("10:1:9:5,9:{CHANGE}"));
        assert_eq!(
            changes(first.cursor.as_str(), vec![nothing("9:12:9,11")]).cursor.as_str(),
            format!("10:1:9:9:{CHANGE}")
        );
    }

    #[test]
    fn a_row_that_was_committed_late_does_not_move_the_place_back() {
        let late = changes("10:1:99:5:x", vec![row("11:11:", 5)]);
        assert_eq!((late.changes.len(), late.cursor.as_str()), (1, "10:1:99::x"));
    }

    #[test]
    fn another_history_is_detected_and_is_a_loss_unless_the_row_of_the_place_was_purged() {
        let starts_over = |snapshot: &str, is_known, now| {
            let rows = vec![Fetched { is_known, ..nothing(snapshot) }];
            match place("10:1:99::x").read(rows, &Place::default(), now).unwrap() {
                FeedPage::StartOver { is_lost } => Some(is_lost),
                FeedPage::Changes(_) => None,
            }
        };
        assert_eq!(starts_over("10:10:", true, 0), Some(true), "the transaction of the place has not happened");
        assert_eq!(starts_over("10:10:", false, 500), Some(true), "even if the row may be purged");
        assert_eq!(
            starts_over("12:12:", false, 38),
            Some(true),
            "the row of the place is missing before it may be purged"
        );
        assert_eq!(starts_over("12:12:", false, 39), Some(false), "it was purged, perhaps by a clock that is ahead");
        assert_eq!(starts_over("12:12:", true, 0), None);
        assert_eq!(starts_over("12:12:", true, 500), None, "it is not purged yet");
    }

    #[test]
    fn an_unseen_write_is_lost_if_its_row_is_missing_before_it_may_be_purged() {
        let starts_over = |snapshot: &str, is_written, now| {
            let rows = vec![Fetched { is_written, ..nothing(snapshot) }];
            match place("10:1:99::x").read(rows, &place("12:2:99::y"), now).unwrap() {
                FeedPage::StartOver { is_lost } => Some(is_lost),
                FeedPage::Changes(_) => None,
            }
        };
        assert_eq!(starts_over("13:13:", true, 0), None);
        assert_eq!(starts_over("13:13:", false, 0), Some(true));
        assert_eq!(starts_over("12:12:", true, 0), Some(true), "its transaction has not happened");
        assert_eq!(starts_over("13:13:", false, 99), None, "it was purged");
    }

    #[test]
    fn a_standby_is_refused() {
        let rows = |is_standby| vec![Fetched { is_standby, ..nothing("9:9:") }];
        assert!(place("").read(rows(false), &place(""), 0).is_ok());
        assert!(place("").read(rows(true), &place(""), 0).is_err());
    }

    #[test]
    fn a_full_page_sets_more() {
        let rows = |count| (0..count).map(|number| row("99999:99999:", number as u64 + 1)).collect();
        assert!(!changes("", rows(PAGE)).more);
        let page = changes("", rows(PAGE + 1));
        assert_eq!((page.changes.len(), page.more), (PAGE, true));
        assert!(page.cursor.as_str().starts_with("10000:"));
    }
}
