//! Reads the feed: a page of changes, and a cursor that shows whether the file lost entries that were read before.
//!
//! Each row of the feed leaves a tip: its number, and a random name. Number 0 is the epoch of the file, created with its
//! tables. A file that was restored from an older copy uses the same numbers again, but under other names.

use sqlx::SqlitePool;

use crate::store::last_write::LastWrite;
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

/// The last tip and the epoch, in the form of [`LastWrite`].
pub(super) const LAST_TIP: &str =
    "SELECT seq || '-' || hex(name) || ' ' || (SELECT hex(name) FROM tcc_tips WHERE seq = 0)
    FROM tcc_tips ORDER BY seq DESC LIMIT 1";

/// The epoch, the last tip, whether the tips of the cursor and of the last write exist, and a row of the feed.
type Fetched = (String, i64, String, bool, bool, Option<i64>, Option<String>);

pub(super) async fn read(readers: &SqlitePool, last_write: &LastWrite, cursor: &Cursor) -> Result<Changes, StoreError> {
    let place = Place::parse(cursor)?;
    let own = last_write.get();
    let own_cursor = if own.is_empty() { Cursor::start() } else { Cursor::new(format!("0 {own}")) };
    let own_place = Place::parse(&own_cursor)?;
    let rows = fetch(readers, &place, &own_place).await?;
    let head = Head::of(&rows)?;
    let known = head.knows(&place, head.has_seen);
    let own_known = head.knows(&own_place, head.has_own);
    last_write.checked(&own);
    let sign = known.sign_of_loss().or_else(|| own_known.sign_of_loss());
    if sign.is_none() && known == Known::Yes {
        return page(&rows, &head, place.after);
    }
    if known == Known::Behind {
        tracing::warn!(
            "too many changes were written to SQLite since the last read of its feed; reading it again from the start"
        );
    }
    let rows = fetch(readers, &Place::default(), &Place::default()).await?;
    let changes = page(&rows, &Head::of(&rows)?, 0)?;
    Ok(match sign {
        Some(sign) => changes.lost(sign),
        None => changes,
    })
}

/// Reads everything in one statement, and so from one snapshot.
async fn fetch(readers: &SqlitePool, place: &Place<'_>, own: &Place<'_>) -> Result<Vec<Fetched>, StoreError> {
    let page = "SELECT head.*, feed.seq, feed.change FROM (
            SELECT (SELECT hex(name) FROM tcc_tips WHERE seq = 0), (SELECT max(seq) FROM tcc_tips),
                (SELECT hex(name) FROM tcc_tips ORDER BY seq DESC LIMIT 1),
                EXISTS (SELECT 1 FROM tcc_tips WHERE seq = ?3 AND hex(name) = ?4),
                EXISTS (SELECT 1 FROM tcc_tips WHERE seq = ?5 AND hex(name) = ?6)
        ) AS head
        LEFT JOIN (SELECT seq, change FROM tcc_feed WHERE seq > ?1 ORDER BY seq LIMIT ?2) AS feed ON true
        ORDER BY feed.seq";
    let limit = i64::try_from(PAGE).unwrap_or(i64::MAX).saturating_add(1);
    let rows = sqlx::query_as(page).bind(place.after).bind(limit);
    let rows = rows.bind(place.tip.0).bind(place.tip.1).bind(own.tip.0).bind(own.tip.1);
    rows.fetch_all(readers).await.map_err(failed)
}

/// The epoch and tips of a file.
struct Head<'a> {
    epoch: &'a str,
    tip: (i64, &'a str),
    has_seen: bool,
    has_own: bool,
}

impl<'a> Head<'a> {
    fn of(rows: &'a [Fetched]) -> Result<Self, StoreError> {
        let damaged = || StoreError::new("unexpected result of the feed query of SQLite");
        let (epoch, seq, name, has_seen, has_own, ..) = rows.first().ok_or_else(damaged)?;
        Ok(Self { epoch, tip: (*seq, name), has_seen: *has_seen, has_own: *has_own })
    }

    fn knows(&self, place: &Place<'_>, has_tip: bool) -> Known {
        if place.epoch.is_empty() || (place.epoch == self.epoch && has_tip) {
            Known::Yes
        } else if place.epoch != self.epoch {
            Known::AnotherFile
        } else if place.tip.0 <= self.tip.0.saturating_sub(TIPS_KEPT) {
            Known::Behind
        } else {
            Known::Lost
        }
    }
}

/// Whether a file has the last entry that a reader received, or the last write of this process.
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
        let (tip, epoch) = rest.split_once(' ')?;
        let (seq, name) = tip.split_once('-')?;
        Some(Self { after: after.parse().ok()?, tip: (seq.parse().ok()?, name), epoch })
    }
}

#[cfg(test)]
mod tests {
    use super::{Head, Known, Place};
    use crate::store::Cursor;

    #[test]
    fn a_place_is_known_or_lost_or_too_far_behind_or_from_another_file() {
        let head = Head { epoch: "E", tip: (20_000, "F"), has_seen: true, has_own: false };
        let knows = |cursor: &str, has_tip| head.knows(&Place::parse(&Cursor::new(cursor)).unwrap(), has_tip);
        assert!(knows("", false) == Known::Yes && knows("5 7-A E", true) == Known::Yes);
        assert!(knows("5 10001-A E", false) == Known::Lost && knows("5 20001-A E", false) == Known::Lost);
        assert!(knows("5 10000-A E", false) == Known::Behind && knows("5 7-A X", true) == Known::AnotherFile);
        for wrong in ["5", "5 7", "5 7-A", "x 7-A E", "5 x-A E"] {
            assert!(Place::parse(&Cursor::new(wrong)).is_err(), "{wrong}");
        }
    }
}
