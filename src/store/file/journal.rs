//! Revocations beside the file: one line of JSON each, appended, and read again when somebody else appended some.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::stamp::Stamp;
use super::write;
use crate::clock::UnixTime;
use crate::store::Revocation;

pub(super) struct Journal {
    path: PathBuf,
    /// What was read or written here, so that a line is told once.
    known: HashSet<Revocation>,
    /// Which file was read, and how far.
    read: Option<(u64, u64)>,
}

impl Journal {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, known: HashSet::new(), read: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn append(&mut self, revocations: &[Revocation]) -> io::Result<()> {
        if revocations.is_empty() {
            return Ok(());
        }
        let lines: String = revocations.iter().map(line).collect::<Result<_, _>>()?;
        let _lock = write::Lock::take(&self.path)?;
        write::append(&self.path, &lines)?;
        self.known.extend(revocations.iter().cloned());
        Ok(())
    }

    /// What is new in the file, apart from what this process wrote.
    pub(super) fn read(&mut self) -> io::Result<Vec<Revocation>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened?,
        };
        let stamp = Stamp::of(&file.metadata()?);
        let from = match self.read {
            Some((number, place)) if number == stamp.number() && place <= stamp.length() => place,
            _ => 0,
        };
        if from == stamp.length() {
            return Ok(Vec::new());
        }
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        // A line without an end is still being written; what is no revocation was never acknowledged.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        bytes.truncate(whole);
        self.read = Some((stamp.number(), from + whole as u64));
        let read =
            bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Revocation>(line).ok());
        let known = &mut self.known;
        Ok(read.filter(|revocation| known.insert(revocation.clone())).collect())
    }

    /// Leaves out what has expired, when there is some.
    pub(super) fn compact(&mut self, now: UnixTime) -> io::Result<()> {
        let is_over = |revocation: &Revocation| revocation.expires_at() <= now.as_secs();
        if !self.known.iter().any(is_over) {
            return Ok(());
        }
        let _lock = write::Lock::take(&self.path)?;
        self.read = None;
        self.read()?;
        self.known.retain(|revocation| !is_over(revocation));
        let lines: String = self.known.iter().map(line).collect::<Result<_, _>>()?;
        write::replace(&self.path, lines.as_bytes())
    }
}

fn line(revocation: &Revocation) -> io::Result<String> {
    Ok(serde_json::to_string(revocation)? + "\n")
}
