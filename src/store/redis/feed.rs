//! The feed as it is read: a page of changes, and a cursor that notices when the server is not the one it was.

use super::link::Link;
use super::scripts::{Keys, Scripts};
use crate::store::{Change, Changes, Cursor, StoreError};

/// How many changes are told at a time.
const PAGE: usize = 5_000;

/// Whether the server knew the tip, the tip of now, and changes with their places.
type Page = (bool, Vec<String>, Vec<(String, u64)>);

pub(super) async fn read(link: &Link, scripts: &Scripts, keys: &Keys, cursor: &Cursor) -> Result<Changes, StoreError> {
    let Place { after, tip } = Place::parse(cursor)?;
    let mut call = scripts.changes.prepare_invoke();
    keys.give(&mut call)?;
    call.arg(after).arg(tip).arg(PAGE);
    let (known, tips, page): Page = link.script(&call).await?;
    if !known {
        tracing::warn!(
            "Redis does not know how far its feed was read: it lost data, or another server took over. Reading it anew"
        );
    }
    let more = page.len() == PAGE;
    let last = page.last().map(|(_, place)| *place).filter(|_| more);
    let changes = page.iter().map(|(change, _)| serde_json::from_str::<Change>(change)).collect::<Result<_, _>>();
    let changes = changes.map_err(StoreError::new)?;
    let cursor = tips.first().map_or_else(|| Ok(Cursor::start()), |tip| Place::cursor(last, tip))?;
    Ok(Changes::new(changes, cursor).more(more))
}

/// `PLACE TIP`: what was told, up to a place, and the tip that the feed had then.
struct Place<'a> {
    after: u64,
    tip: &'a str,
}

impl<'a> Place<'a> {
    fn parse(cursor: &'a Cursor) -> Result<Self, StoreError> {
        if cursor.as_str().is_empty() {
            return Ok(Self { after: 0, tip: "" });
        }
        let (after, tip) = cursor.as_str().split_once(' ').ok_or_else(|| StoreError::new(NOT_OURS))?;
        Ok(Self { after: after.parse().map_err(StoreError::new)?, tip })
    }

    /// After the last change of a page; without one, after all that there is.
    fn cursor(last: Option<u64>, tip: &str) -> Result<Cursor, StoreError> {
        let (end, _) = tip.split_once('-').ok_or_else(|| StoreError::new(NOT_OURS))?;
        Ok(Cursor::new(match last {
            Some(last) => format!("{last} {tip}"),
            None => format!("{end} {tip}"),
        }))
    }
}

const NOT_OURS: &str = "this cursor is not one of Redis";
