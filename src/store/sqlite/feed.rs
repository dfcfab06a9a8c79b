//! Reads the feed: a page of changes, and a cursor that shows whether the file lost entries that were read before.
//!
//! Each row of the feed leaves a tip: its number, and a random name. Number 0 is the epoch of the file, created with its
//! tables. A file that was restored from an older copy uses the same numbers again, but under other names.

use sqlx::SqlitePool;

use crate::store::last_write::{LastWrites, TOO_MANY};
use crate::store::sql::{PAGE, Row, failed};
use crate::store::{Changes, Cursor, StoreError};

/// How many numbers back tips are kept. A trigger creates the tips, so every writer leaves them.
pub(super) const TIPS: &str = "
    CREATE TABLE tcc_tips (seq INTEGER PRIMARY KEY, name BLOB NOT NULL) STRICT;
    INSERT INTO tcc_tips VALUES (0, randomblob(8));
    CREATE TRIGGER tcc_feed_tip AFTER INSERT ON tcc_feed BEGIN
        INSERT OR REPLACE INTO tcc_tips VALUES (NEW.seq, randomblob(8));
        DELETE FROM tcc_tips WHERE seq > 0 AND seq <= NEW.seq - 10000;
    END;
    INSERT INTO tcc_schema VALUES (2);
";

const TIPS_KEPT: i64 = 10_000;

/// The last tip and the epoch, in the form that [`LastWrites`] keeps.
pub(super) const LAST_TIP: &str =
    "SELECT seq || '-' || hex(name) || ' ' || (SELECT hex(name) FROM tcc_tips WHERE seq = 0)
    FROM tcc_tips ORDER BY seq DESC LIMIT 1";

/// The epoch, the last tip, whether the tip of the cursor exists, the last missing tip of this process, and a row of the feed.
type Fetched = (String, i64, String, bool, Option<i64>, Option<i64>, Option<String>);

pub(super) async fn read(
    connection: &SqlitePool,
    last_writes: &LastWrites<String>,
    cursor: &Cursor,
) -> Result<Changes, StoreError> {
    let place = Place::parse(cursor)?;
    let own = last_writes.get();
    let own_tips = Tips::of(&own.writes);
    let rows = fetch(connection, &place, &own_tips).await?;
    let head = Head::of(&rows)?;
    let known = head.knows(&place, head.has_seen);
    let sign = known.sign_of_loss().or_else(|| head.knows_own(&own_tips).sign_of_loss());
    // A reader that starts receives everything in any case.
    let sign = sign.or_else(|| (own.is_incomplete && !place.epoch.is_empty()).then_some(TOO_MANY));
    if sign.is_none() && known == Known::Yes {
        let changes = page(&rows, &head, place.after)?;
        last_writes.checked(&own);
        return Ok(changes);
    }
    if known == Known::Behind {
        tracing::warn!(
            "too many changes were written to SQLite since the last read of its feed; reading it again from the start"
        );
    }
    let rows = fetch(connection, &Place::default(), &Tips::default()).await?;
    let changes = page(&rows, &Head::of(&rows)?, 0)?;
    // No await may follow: a caller that cancels this call there would drop the report of a loss.
    last_writes.checked(&own);
    Ok(match sign {
        Some(sign) => changes.lost(sign),
        None => changes,
    })
}

/// Reads everything in one statement, and so from one snapshot.
async fn fetch(connection: &SqlitePool, place: &Place<'_>, own: &Tips<'_>) -> Result<Vec<Fetched>, StoreError> {
    let page = "SELECT head.*, feed.seq, feed.change FROM (
            SELECT (SELECT hex(name) FROM tcc_tips WHERE seq = 0), (SELECT max(seq) FROM tcc_tips),
                (SELECT hex(name) FROM tcc_tips ORDER BY seq DESC LIMIT 1),
                EXISTS (SELECT 1 FROM tcc_tips WHERE seq = ?3 AND hex(name) = ?4),
                (SELECT max(own.value ->> 0) FROM json_each(?5) AS own WHERE NOT EXISTS (
                    SELECT 1 FROM tcc_tips WHERE seq = own.value ->> 0 AND hex(name) = own.value ->> 1))
        ) AS head
        LEFT JOIN (SELECT seq, change FROM tcc_feed WHERE seq > ?1 ORDER BY seq LIMIT ?2) AS feed ON true
        ORDER BY feed.seq";
    let limit = i64::try_from(PAGE).unwrap_or(i64::MAX).saturating_add(1);
    let own = serde_json::to_string(&own.tips).map_err(StoreError::new)?;
    let rows = sqlx::query_as(page).bind(place.after).bind(limit);
    let rows = rows.bind(place.tip.0).bind(place.tip.1).bind(own);
    rows.fetch_all(connection).await.map_err(failed)
}

/// The epoch and tips of a file.
struct Head<'a> {
    epoch: &'a str,
    tip: (i64, &'a str),
    has_seen: bool,
    /// The last of the checked tips that does not exist.
    missing: Option<i64>,
}

impl<'a> Head<'a> {
    fn of(rows: &'a [Fetched]) -> Result<Self, StoreError> {
        let damaged = || StoreError::new("unexpected result of the feed query of SQLite");
        let (epoch, seq, name, has_seen, missing, ..) = rows.first().ok_or_else(damaged)?;
        Ok(Self { epoch, tip: (*seq, name), has_seen: *has_seen, missing: *missing })
    }

    fn knows(&self, place: &Place<'_>, has_tip: bool) -> Known {
        if place.epoch.is_empty() || (place.epoch == self.epoch && has_tip) {
            Known::Yes
        } else if place.epoch != self.epoch {
            Known::AnotherFile
        } else {
            self.lacks(place.tip.0)
        }
    }

    fn knows_own(&self, own: &Tips<'_>) -> Known {
        if own.epochs.iter().any(|epoch| *epoch != self.epoch) {
            return Known::AnotherFile;
        }
        self.missing.map_or(Known::Yes, |missing| self.lacks(missing))
    }

    fn lacks(&self, seq: i64) -> Known {
        if seq <= self.tip.0.saturating_sub(TIPS_KEPT) { Known::Behind } else { Known::Lost }
    }
}

/// The tips of the writes of this process.
#[derive(Default)]
struct Tips<'a> {
    tips: Vec<(i64, &'a str)>,
    epochs: Vec<&'a str>,
}

impl<'a> Tips<'a> {
    fn of(writes: &'a [String]) -> Self {
        let (tips, epochs) = writes.iter().filter_map(|write| tip_and_epoch(write)).unzip();
        Self { tips, epochs }
    }
}

fn tip_and_epoch(text: &str) -> Option<((i64, &str), &str)> {
    let (tip, epoch) = text.split_once(' ')?;
    let (seq, name) = tip.split_once('-')?;
    Some(((seq.parse().ok()?, name), epoch))
}

/// Whether a file has the last entry that a reader received, or the last writes of this process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Yes,
    /// Too many later entries to determine it.
    Behind,
    Lost,
    AnotherFile,
}

impl Known {
    fn sign_of_loss(self) -> Option<&'static str> {
        match self {
            Self::Yes | Self::Behind => None,
            Self::Lost => Some("the last writes to the SQLite file are gone: it was restored from an older copy"),
            Self::AnotherFile => Some("another SQLite file replaced the one that this process had open"),
        }
    }
}

fn page(rows: &[Fetched], head: &Head<'_>, after: i64) -> Result<Changes, StoreError> {
    let told = rows.iter().filter_map(|(.., seq, change)| seq.zip(change.as_deref()));
    let told: Vec<(i64, &str)> = told.take(PAGE).collect();
    let more = rows.len() > PAGE;
    let last = told.last().map_or(after, |(seq, _)| *seq);
    let after = if more { last } else { last.max(head.tip.0) };
    let changes = told.iter().map(|(_, change)| Row::read(change)).collect::<Result<_, _>>()?;
    let cursor = format!("{after} {}-{} {}", head.tip.0, head.tip.1, head.epoch);
    Ok(Changes::new(changes, Cursor::new(cursor)).more(more))
}

/// `AFTER SEQ-NAME EPOCH`: the number of the last change that the reader received, and the last tip and the epoch of the file
/// at that time.
#[derive(Default)]
struct Place<'a> {
    after: i64,
    tip: (i64, &'a str),
    epoch: &'a str,
}

impl<'a> Place<'a> {
    fn parse(cursor: &'a Cursor) -> Result<Self, StoreError> {
        if cursor.as_str().is_empty() {
            return Ok(Self::default());
        }
        Self::of_parts(cursor.as_str())
            .ok_or_else(|| StoreError::new("invalid cursor: it does not belong to an SQLite store"))
    }

    fn of_parts(text: &'a str) -> Option<Self> {
        let (after, rest) = text.split_once(' ')?;
        let (tip, epoch) = tip_and_epoch(rest)?;
        Some(Self { after: after.parse().ok()?, tip, epoch })
    }
}

#[cfg(test)]
mod tests {
    use super::{Head, Known, Place, Tips};
    use crate::store::Cursor;

    #[test]
    fn a_place_is_known_or_lost_or_too_far_behind_or_from_another_file() {
        let head = Head { epoch: "E", tip: (20_000, "F"), has_seen: true, missing: None };
        let knows = |cursor: &str, has_tip| head.knows(&Place::parse(&Cursor::new(cursor)).unwrap(), has_tip);
        assert!(knows("", false) == Known::Yes && knows("5 7-A E", true) == Known::Yes);
        assert!(knows("5 10001-A E", false) == Known::Lost && knows("5 20001-A E", false) == Known::Lost);
        assert!(knows("5 10000-A E", false) == Known::Behind && knows("5 7-A X", true) == Known::AnotherFile);
        for wrong in ["5", "5 7", "5 7-A", "x 7-A E", "5 x-A E"] {
            assert!(Place::parse(&Cursor::new(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_lost_write_among_others_is_a_loss_and_a_write_that_is_too_far_behind_is_not() {
        let knows = |missing, writes: &[&str]| {
            let writes: Vec<String> = writes.iter().map(|write| (*write).to_owned()).collect();
            Head { epoch: "E", tip: (20_000, "F"), has_seen: true, missing }.knows_own(&Tips::of(&writes))
        };
        assert!(knows(None, &[]) == Known::Yes && knows(None, &["19000-A E", "20000-F E"]) == Known::Yes);
        assert!(knows(Some(10_001), &["10001-A E", "20000-F E"]) == Known::Lost);
        assert!(knows(Some(10_000), &["10000-A E", "20000-F E"]) == Known::Behind);
        assert!(knows(None, &["20000-F E", "7-A X"]) == Known::AnotherFile);
    }
}
