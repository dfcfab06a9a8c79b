//! The file of revocations: one line of JSON each, appended, and read again when another process has appended to it.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::fault::FileFault;
use super::lines::{self, Place, Unread, is_whole};
use super::write;
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::store::{Revocation, StoreError};

/// How long to wait for another process that appends or compacts: the default time limit of a store call.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Journal {
    path: PathBuf,
    /// The entries that were read or written here, so that each line is reported once.
    known: HashSet<Revocation>,
    read: Place,
    /// Known entries that are missing in the file.
    missing: Vec<Revocation>,
    /// Whether lines were missing since this was last taken.
    has_lost: Arc<AtomicBool>,
    /// Why the missing entries could not be written again. Kept so that it is logged once.
    write_error: Option<String>,
}

/// An entry counts as lost only if it would have stayed in the file for at least this long. An entry that expires sooner may
/// have been removed by another process whose clock is ahead.
const MARGIN: Duration = Duration::from_secs(5 * 60);

impl Journal {
    pub(super) fn new(path: PathBuf, has_lost: Arc<AtomicBool>) -> Self {
        Self { path, known: HashSet::new(), read: Place::default(), missing: Vec::new(), has_lost, write_error: None }
    }

    pub(super) fn append(&mut self, revocations: &[Revocation]) -> io::Result<()> {
        let lines: String =
            revocations.iter().filter(|new| !self.known.contains(*new)).map(line).collect::<Result<_, _>>()?;
        if lines.is_empty() {
            return Ok(());
        }
        let _lock = write::Lock::take(&self.path, LOCK_TIMEOUT)?;
        write::append(&self.path, &lines, is_whole)?;
        self.known.extend(revocations.iter().cloned());
        Ok(())
    }

    /// Reports the new entries of the file, except those that this process wrote. Entries that `report` refuses are reported
    /// again the next time. Nothing is reported after a line that cannot be read, so that no revocation is skipped silently.
    /// If another file replaced the one that was read, such as an older copy, the missing entries are written again.
    pub(super) fn read(
        &mut self,
        now: UnixTime,
        report: impl FnMut(&Revocation) -> Result<(), StoreError>,
    ) -> Result<(), FileFault> {
        self.read_on(now, report)?;
        // A failure changes nothing for this process, which knows the entries.
        let error = self.write_missing().err().map(|error| error.to_string());
        if let Some(error) = error.as_ref().filter(|error| self.write_error.as_ref() != Some(error)) {
            tracing::error!(
                path = %self.path.display(),
                error,
                "revocations are missing in the file and cannot be written again"
            );
        }
        self.write_error = error;
        Ok(())
    }

    /// Returns the clients that were disabled or deleted and whose tokens are still revoked.
    pub(super) fn former_clients(&self) -> HashSet<&ClientId> {
        let clients = self.known.iter().filter_map(|revocation| match revocation {
            Revocation::Client { client_id, .. } => Some(client_id),
            _ => None,
        });
        clients.collect()
    }

    fn write_missing(&mut self) -> io::Result<()> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let lines: String = self.missing.iter().map(line).collect::<Result<_, _>>()?;
        let _lock = write::Lock::take(&self.path, LOCK_TIMEOUT)?;
        write::append(&self.path, &lines, is_whole)?;
        tracing::warn!(
            path = %self.path.display(),
            revocations = self.missing.len(),
            "revocations were missing in the file, as after a restore from an older copy, and were written again"
        );
        self.missing.clear();
        Ok(())
    }

    fn read_on(
        &mut self,
        now: UnixTime,
        mut report: impl FnMut(&Revocation) -> Result<(), StoreError>,
    ) -> Result<(), FileFault> {
        let unread = lines::unread(&self.path, &self.read, !self.known.is_empty())
            .map_err(|error| FileFault::new(&self.path, None, error))?;
        let Unread { mut place, bytes, is_another } = unread;
        let mut there = HashSet::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            place.length += line.len() as u64;
            let number = place.lines + 1;
            place.lines += usize::from(line.ends_with(b"\n"));
            if line.trim_ascii().is_empty() {
                continue;
            }
            let fault = |reason: String| FileFault::new(&self.path, Some(number), reason);
            let revocation = serde_json::from_slice::<Revocation>(line);
            let revocation = revocation.map_err(|error| {
                fault(format!("invalid revocation: {error}; correct the line, since it may revoke a token"))
            })?;
            if is_another {
                there.insert(revocation.clone());
            }
            if !self.known.contains(&revocation) {
                report(&revocation).map_err(|error| fault(super::operators_text(&error)))?;
                self.known.insert(revocation);
            }
        }
        place.remember_tail(&bytes);
        self.read = place;
        if is_another {
            let lasts = |revocation: &&Revocation| revocation.expires_at() > now.after(MARGIN).as_secs();
            let missing = self.known.iter().filter(|known| !there.contains(*known)).filter(lasts);
            self.missing = missing.cloned().collect();
            self.has_lost.fetch_or(!self.missing.is_empty(), Ordering::SeqCst);
        }
        Ok(())
    }

    /// Removes expired entries, if there are any, and reports new ones.
    pub(super) fn compact(
        &mut self,
        now: UnixTime,
        report: impl FnMut(&Revocation) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let is_over = |revocation: &Revocation| revocation.expires_at() <= now.as_secs();
        if !self.known.iter().any(is_over) {
            return Ok(());
        }
        let _lock = write::Lock::take(&self.path, LOCK_TIMEOUT).map_err(StoreError::new)?;
        // Missing entries are noticed, too.
        self.read = Place::of_another_file();
        self.read_on(now, report).map_err(StoreError::new)?;
        if !self.missing.is_empty() {
            tracing::warn!(
                path = %self.path.display(),
                revocations = self.missing.len(),
                "revocations were missing in the file, as after a restore from an older copy, and are written again"
            );
        }
        self.known.retain(|revocation| !is_over(revocation));
        let lines: io::Result<String> = self.known.iter().map(line).collect();
        lines.and_then(|lines| write::replace(&self.path, lines.as_bytes(), || Ok(()))).map_err(StoreError::new)?;
        self.missing.clear();
        Ok(())
    }
}

fn line(revocation: &Revocation) -> io::Result<String> {
    Ok(serde_json::to_string(revocation)? + "\n")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_line_that_was_overwritten_in_place_is_read_before_the_file_is_compacted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let key = |id: &str, seconds| Revocation::key(id, std::time::UNIX_EPOCH, Duration::from_secs(seconds));
        let has_lost = Arc::new(AtomicBool::new(false));
        let mut journal = Journal::new(path.clone(), has_lost.clone());
        // The line is followed by more bytes than are compared at each poll.
        let last = "x".repeat(lines::TAIL);
        journal.append(&[key("short", 10), key("one", 20_000)]).unwrap();
        journal.append(&[key(&last, 20_000)]).unwrap();
        journal.read(UnixTime::from_secs(0).unwrap(), |_| Ok(())).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("one", "two")).unwrap();

        let mut told = Vec::new();
        let report = |revocation: &Revocation| {
            told.push(revocation.clone());
            Ok(())
        };
        journal.compact(UnixTime::from_secs(10_000).unwrap(), report).unwrap();
        assert_eq!(told, [key("two", 20_000)]);
        assert!(has_lost.load(Ordering::SeqCst), "the former line is missing");
        let kept = fs::read_to_string(&path).unwrap();
        assert!(kept.contains("two") && kept.contains("one") && !kept.contains("short"), "{kept}");
    }
}
