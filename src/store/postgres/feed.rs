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
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{Error, FromRow, PgConnection, Row as _};

use crate::store::last_write::{TOO_MANY, ToCheck};
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
    /// The feed must start over: the row of the place or of a write does not exist, because it was lost, unless it was purged,
    /// or there were too many writes to check.
    StartOver {
        sign_of_loss: Option<&'static str>,
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
    /// Which of the last writes are missing, counted from 1. Set in the first row only.
    missing: Option<Vec<i64>>,
    /// The time of the database, in milliseconds since 1970.
    pub(super) clock: i64,
    xid: Option<String>,
    seq: Option<i64>,
    forget_at: Option<i64>,
    change: Option<String>,
}

impl Fetched {
    /// Returns whether this is a row of the feed.
    pub(super) fn has_change(&self) -> bool {
        self.change.is_some()
    }
}

impl FromRow<'_, PgRow> for Fetched {
    fn from_row(row: &PgRow) -> Result<Self, Error> {
        Ok(Self {
            snapshot: row.try_get("snapshot")?,
            is_standby: row.try_get("is_standby")?,
            is_known: row.try_get("is_known")?,
            missing: row.try_get("missing")?,
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

impl Place {
    /// Reads everything in one statement, and so from one snapshot.
    pub(super) async fn fetch(&self, written: &[Self], connection: &mut PgConnection) -> Result<Vec<Fetched>, Error> {
        let page = "SELECT taken.snapshot::text, pg_is_in_recovery() AS is_standby,
                EXISTS (SELECT FROM tcc_feed WHERE xid = $1::text::xid8 AND seq = $2 AND change = $5) AS is_known,
                CASE WHEN row_number() OVER (ORDER BY told.xid, told.seq) = 1 THEN ARRAY (
                    SELECT own.number FROM unnest($6::text[], $7::bigint[], $8::text[]) WITH ORDINALITY
                        AS own (xid, seq, change, number)
                    WHERE NOT EXISTS (SELECT FROM tcc_feed AS feed
                        WHERE feed.xid = own.xid::xid8 AND feed.seq = own.seq AND feed.change = own.change)
                ) END AS missing,
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
            .bind(written.iter().map(|place| place.xid.to_string()).collect::<Vec<_>>())
            .bind(written.iter().map(|place| place.seq).collect::<Vec<_>>())
            .bind(written.iter().map(|place| place.change.as_str()).collect::<Vec<_>>())
            .fetch_all(connection)
            .await
    }

    /// Converts the result. `written` are the writes of this process that no poll has seen.
    pub(super) fn read(&self, rows: Vec<Fetched>, written: &ToCheck<Self>, now: i64) -> Result<FeedPage, StoreError> {
        let damaged = || StoreError::new("unexpected result of the feed query of Postgres");
        let Fetched { snapshot, is_standby, is_known, missing, .. } = rows.first().ok_or_else(damaged)?;
        if *is_standby {
            return Err(StoreError::new(STANDBY));
        }
        let snapshot = Snapshot::parse(snapshot).ok_or_else(damaged)?;
        let is_gone = |place: &Self, is_there: bool| place.xid > 0 && (place.xid >= snapshot.end || !is_there);
        let is_lost = |place: &Self| {
            let may_be_purged = place.forget_at <= now.saturating_add_unsigned(CLOCKS_DIFFER.as_secs());
            place.xid >= snapshot.end || !may_be_purged
        };
        let missing = missing.as_deref().unwrap_or_default();
        let is_write_lost = (1..)
            .zip(&written.writes)
            .any(|(number, place)| is_gone(place, !missing.contains(&number)) && is_lost(place));
        let sign_of_loss = if is_write_lost || (is_gone(self, *is_known) && is_lost(self)) {
            Some(LOST)
        } else {
            // A reader that starts receives everything in any case.
            (written.is_incomplete && self.xid > 0).then_some(TOO_MANY)
        };
        if sign_of_loss.is_some() || is_gone(self, *is_known) {
            return Ok(FeedPage::StartOver { sign_of_loss });
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
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, ':');
        let (xid, seq, forget_at) = (parts.next()?, parts.next()?, parts.next()?);
        let open = numbers(parts.next()?)?;
        let change = parts.next()?.to_owned();
        Some(Self { xid: xid.parse().ok()?, seq: seq.parse().ok()?, forget_at: forget_at.parse().ok()?, change, open })
    }
}

/// The error for a standby: its data may be old, and it accepts no revocation.
pub(super) const STANDBY: &str = "the server is a standby, which may be far behind; use the URL of the primary";

const LOST: &str = "Postgres lost rows of the feed that it had returned: it was restored from a backup, or another server took \
                    over without the last writes";

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
    use super::{Changes, FeedPage, Fetched, LOST, PAGE, Place, Snapshot, TOO_MANY, ToCheck};
    use crate::store::last_write::{LastWrites, MAX_UNREAD};

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
        match place.parse::<Place>().unwrap().read(rows, &ToCheck::default(), 0).unwrap() {
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
            match place("10:1:99::x").read(rows, &ToCheck::default(), now).unwrap() {
                FeedPage::StartOver { sign_of_loss } => Some(sign_of_loss.is_some()),
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

    fn written(places: &[&str]) -> ToCheck<Place> {
        let last = LastWrites::default();
        for text in places {
            last.acknowledged(place(text));
        }
        last.get()
    }

    fn sign(from: &str, rows: Vec<Fetched>, written: &ToCheck<Place>, now: i64) -> Option<&'static str> {
        match place(from).read(rows, written, now).unwrap() {
            FeedPage::StartOver { sign_of_loss } => Some(sign_of_loss.expect("a purge has no sign of loss")),
            FeedPage::Changes(_) => None,
        }
    }

    #[test]
    fn an_unseen_write_is_lost_if_its_row_is_missing_before_it_may_be_purged() {
        let sign = |snapshot: &str, missing: &[i64], now| {
            let rows = vec![Fetched { missing: Some(missing.to_vec()), ..nothing(snapshot) }];
            sign("10:1:99::x", rows, &written(&["11:2:99::x", "12:3:99::y", "12:4:999::z"]), now)
        };
        assert_eq!(sign("13:13:", &[], 0), None);
        for number in [1, 2, 3] {
            assert_eq!(sign("13:13:", &[number], 0), Some(LOST), "{number}");
        }
        assert_eq!(sign("12:12:", &[], 0), Some(LOST), "the transaction of two of them has not happened");
        assert_eq!(sign("13:13:", &[1, 2], 99), None, "they were purged");
        assert_eq!(sign("13:13:", &[1, 2, 3], 99), Some(LOST), "the last one was not");
    }

    #[test]
    fn more_writes_than_are_remembered_make_a_reader_start_over_unless_it_just_starts() {
        let places: Vec<String> = (0..=MAX_UNREAD).map(|number| format!("11:{number}:99::x")).collect();
        let written = written(&places.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(sign("10:1:99::x", vec![nothing("13:13:")], &written, 0), Some(TOO_MANY));
        assert_eq!(sign("", vec![nothing("13:13:")], &written, 0), None);
    }

    #[test]
    fn a_standby_is_refused() {
        let rows = |is_standby| vec![Fetched { is_standby, ..nothing("9:9:") }];
        assert!(place("").read(rows(false), &ToCheck::default(), 0).is_ok());
        assert!(place("").read(rows(true), &ToCheck::default(), 0).is_err());
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
