//! The file of used credentials: one line of JSON each. A use is in the file and synced before it is accepted.
//!
//! Each use takes the lock of the file and reads what other processes have appended, so two processes never accept one credential
//! both. The entries are in memory as well. The file is rewritten without the expired ones when most of its lines have expired.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::FileFault;
use super::lines::{self, Place, Unread, is_whole};
use super::system::stamp;
use super::write;
use crate::clock::UnixTime;
use crate::object::Object;
use crate::store::memory::Replays;
use crate::store::{Replay, ReplayId, StoreError};

/// How long to wait for another process that appends or compacts: the default time limit of a store call.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// How many lines of expired entries the file may have in addition to as many as those of the others.
const EXPIRED_LINES: usize = 1_000;

pub(super) struct Used {
    path: PathBuf,
    entries: Replays,
    read: Place,
    /// Why the file could not be rewritten. Kept so that it is logged once.
    write_error: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// The digest in hexadecimal.
    id: String,
    expires_at: u64,
}

impl Used {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, entries: Replays::default(), read: Place::default(), write_error: None }
    }

    pub(super) fn check_and_insert(
        &mut self,
        id: ReplayId,
        expires_at: UnixTime,
        now: UnixTime,
    ) -> Result<Replay, StoreError> {
        let _lock = write::Lock::take(&self.path, LOCK_TIMEOUT).map_err(StoreError::new)?;
        self.read(now).map_err(StoreError::new)?;
        // Before the new line is written, because the disk may be full.
        if self.read.lines > 2 * self.entries.len() + EXPIRED_LINES {
            self.rewrite_or_log();
        }
        let former = self.entries.end_of(&id);
        let replay = self.entries.check_and_insert(id, expires_at, now)?;
        if replay == Replay::Fresh {
            if let Err(error) = self.append(id, expires_at) {
                self.entries.restore(id, former);
                return Err(error);
            }
            // So that the new line is missed if it disappears. If this read fails, the next call reads it.
            let _ = self.read(now);
        }
        Ok(replay)
    }

    fn append(&mut self, id: ReplayId, expires_at: UnixTime) -> Result<(), StoreError> {
        let line = line(&id, expires_at).map_err(StoreError::new)?;
        write::append(&self.path, &line, is_whole)
            .map_err(|error| StoreError::new(FileFault::new(&self.path, None, error)))
    }

    /// Reads the entries of other processes. The caller holds the lock, or reads for the first time.
    pub(super) fn read(&mut self, now: UnixTime) -> Result<(), FileFault> {
        let unread = lines::unread(&self.path, &self.read, !self.entries.is_empty());
        let Unread { mut place, bytes, is_another } =
            unread.map_err(|error| FileFault::new(&self.path, None, error))?;
        let mut there = HashSet::new();
        for text in bytes.split_inclusive(|byte| *byte == b'\n') {
            place.length += text.len() as u64;
            let number = place.lines + 1;
            place.lines += usize::from(text.ends_with(b"\n"));
            if text.trim_ascii().is_empty() {
                continue;
            }
            let (id, expires_at) = parse(text).ok_or_else(|| {
                let reason = "invalid entry of a used credential; remove the line, after which this credential can be used again \
                              until it expires";
                FileFault::new(&self.path, Some(number), reason)
            })?;
            if is_another {
                there.insert(id);
            }
            self.entries.load(id, expires_at, now);
        }
        place.remember_tail(&bytes);
        self.read = place;
        if is_another {
            // Another process removes an entry only a minute after its end, so its clock may be ahead by that.
            let missing = self.entries.lasting(now).filter(|id| !there.contains(*id)).count();
            if missing > 0 {
                self.rewrite()?;
                tracing::warn!(
                    path = %self.path.display(),
                    credentials = missing,
                    "used credentials were missing in their file, as after a restore from an older copy, and were written again"
                );
            }
        }
        Ok(())
    }

    /// Reads the file if it has changed, so that entries that are missing in it are written again while a process knows them. Waits for no
    /// other process: the next poll tries again. An error is left to the next use, which returns it.
    pub(super) fn poll(&mut self, now: UnixTime) {
        if self.read.has(stamp(&self.path).as_ref()) {
            return;
        }
        if let Ok(_lock) = write::Lock::take(&self.path, Duration::ZERO) {
            let _ = self.read(now);
        }
    }

    /// Removes expired entries, if there are any.
    pub(super) fn compact(&mut self, now: UnixTime) -> Result<(), StoreError> {
        if self.read.lines == 0 && self.entries.is_empty() && !self.path.exists() {
            return Ok(());
        }
        let _lock = write::Lock::take(&self.path, LOCK_TIMEOUT).map_err(StoreError::new)?;
        self.read(now).map_err(StoreError::new)?;
        self.entries.purge_all(now);
        if self.read.lines > self.entries.len() {
            self.rewrite().map_err(StoreError::new)?;
        }
        Ok(())
    }

    fn rewrite(&mut self) -> Result<(), FileFault> {
        let lines: std::io::Result<String> = self.entries.all().map(|(id, end)| line(id, end)).collect();
        lines
            .and_then(|lines| write::replace(&self.path, lines.as_bytes(), || Ok(())))
            .map_err(|error| FileFault::new(&self.path, None, error))?;
        // The next call reads all of the new file.
        self.read = Place::of_another_file();
        Ok(())
    }

    /// Rewrites the file. A failure changes nothing for this process, which appends to the old file.
    fn rewrite_or_log(&mut self) {
        let error = self.rewrite().err().map(|fault| fault.to_string());
        if let Some(error) = error.as_ref().filter(|error| self.write_error.as_ref() != Some(error)) {
            tracing::warn!(error, "expired entries cannot be removed from the file of used credentials");
        }
        self.write_error = error;
    }
}

fn line(id: &ReplayId, expires_at: UnixTime) -> std::io::Result<String> {
    let line = Line { id: id.to_hex(), expires_at: expires_at.as_secs() };
    Ok(serde_json::to_string(&line)? + "\n")
}

fn parse(text: &[u8]) -> Option<(ReplayId, UnixTime)> {
    let Object(Line { id, expires_at }) = serde_json::from_slice(text).ok()?;
    Some((ReplayId::from_hex(&id)?, UnixTime::from_secs(expires_at)?))
}
