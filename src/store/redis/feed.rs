//! Reads the feed: a page of changes, and a cursor that shows whether the server lost entries that were read before.

use super::Shared;
use super::scripts::CHANGES;
use crate::store::last_write::TOO_MANY;
use crate::store::{Change, Changes, Cursor, StoreError};

/// The maximum number of changes in the result of one call.
const PAGE: usize = 5_000;

/// Whether the server has the tip of the cursor and those of the last writes, its current tip and epoch, the changes with
/// their places, and its time in seconds and microseconds, or nothing.
type Page = (String, String, String, String, Vec<(String, u64)>, Vec<i64>);

/// Returns the changes, and the time of the server in milliseconds since 1970 if the user may read it.
pub(super) async fn read(shared: &Shared, cursor: &Cursor) -> Result<(Changes, Option<i64>), StoreError> {
    let Shared { link, keys, last_writes, .. } = shared;
    let Place { after, tip, epoch } = Place::parse(cursor)?;
    let own = last_writes.get();
    let mut call = keys.call(&CHANGES)?;
    // A reader that starts receives everything in any case.
    let is_incomplete = own.is_incomplete && after > 0;
    call.arg(if is_incomplete { 0 } else { after }).arg(tip).arg(epoch).arg(PAGE);
    for (tip, epoch) in own.writes.iter().filter_map(|write| write.split_once(' ')) {
        call.arg(tip).arg(epoch);
    }
    let (known, own_known, tip, epoch, page, time): Page = link.script(&call).await?;
    let more = page.len() == PAGE;
    let last = page.last().map(|(_, place)| *place).filter(|_| more);
    let changes = page.iter().map(|(change, _)| serde_json::from_str::<Change>(change)).collect::<Result<_, _>>();
    let changes = Changes::new(changes.map_err(StoreError::new)?, Place::cursor(last, &tip, &epoch)?).more(more);
    if known == "behind" {
        tracing::warn!(
            "too many changes were written to Redis since the last read of its feed; reading it again from the start"
        );
    }
    // No await may follow: a caller that cancels this call there would drop the report of a loss.
    last_writes.checked(&own);
    let sign = sign_of_loss(&known).or_else(|| sign_of_loss(&own_known));
    let changes = match sign.or_else(|| is_incomplete.then_some(TOO_MANY)) {
        Some(sign) => changes.lost(sign),
        None => changes,
    };
    Ok((changes, millis(&time)))
}

/// Converts an answer to `TIME`.
pub(super) fn millis(time: &[i64]) -> Option<i64> {
    let [seconds, micros] = time else { return None };
    Some(seconds.saturating_mul(1_000).saturating_add(micros / 1_000))
}

fn sign_of_loss(known: &str) -> Option<&'static str> {
    match known {
        "emptied" => Some(
            "the feed of Redis is gone, or is another one: the server was emptied (FLUSHALL, FLUSHDB), it evicted the feed, or \
             another server without the data took its place",
        ),
        "lost" => Some(
            "the last writes to Redis are gone: it failed over to a replica that did not have them, or started from a truncated \
             append-only file or an older copy",
        ),
        _ => None,
    }
}

/// `PLACE TIP EPOCH`: the place of the last change that the reader received, and the tip and the epoch of the feed at that
/// time.
#[derive(Default)]
struct Place<'a> {
    after: u64,
    tip: &'a str,
    epoch: &'a str,
}

impl<'a> Place<'a> {
    fn parse(cursor: &'a Cursor) -> Result<Self, StoreError> {
        if cursor.as_str().is_empty() {
            return Ok(Self::default());
        }
        let mut parts = cursor.as_str().split(' ');
        let (Some(after), Some(tip), Some(epoch), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(StoreError::new(NOT_OURS));
        };
        Ok(Self { after: after.parse().map_err(StoreError::new)?, tip, epoch })
    }

    /// Creates the cursor after the last change of a page, or after all changes if `last` is `None`. For a feed without a tip
    /// or an epoch, the cursor is at the start.
    fn cursor(last: Option<u64>, tip: &str, epoch: &str) -> Result<Cursor, StoreError> {
        if tip.is_empty() || epoch.is_empty() {
            return Ok(Cursor::start());
        }
        let (end, _) = tip.split_once('-').ok_or_else(|| StoreError::new(NOT_OURS))?;
        Ok(Cursor::new(match last {
            Some(last) => format!("{last} {tip} {epoch}"),
            None => format!("{end} {tip} {epoch}"),
        }))
    }
}

const NOT_OURS: &str = "invalid cursor: it does not belong to a Redis store";

#[cfg(test)]
mod tests {
    use super::Place;
    use crate::store::Cursor;

    #[test]
    fn a_written_cursor_reads_back_equal() {
        let cursor = Place::cursor(None, "7-ab", "e").unwrap();
        assert_eq!(cursor.as_str(), "7 7-ab e");
        let Place { after, tip, epoch } = Place::parse(&cursor).unwrap();
        assert_eq!((after, tip, epoch), (7, "7-ab", "e"));
        assert_eq!(Place::cursor(Some(5), "7-ab", "e").unwrap().as_str(), "5 7-ab e");
        assert_eq!(Place::cursor(None, "", "e").unwrap(), Cursor::start());
        for wrong in ["7", "7 7-ab", "x 7-ab e", "7 7-ab e f"] {
            assert!(Place::parse(&Cursor::new(wrong)).is_err(), "{wrong}");
        }
    }
}
