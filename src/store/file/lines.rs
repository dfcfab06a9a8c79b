//! Reads the lines that were appended to a file since it was last read. Another process may replace the file.

use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use serde::de::IgnoredAny;

use super::stamp::Stamp;

/// The file that was read, and up to which position.
#[derive(Clone, Default)]
pub(super) struct Place {
    /// The open file. It is kept open so that its inode number is not reused for a file that takes its name. `None` where
    /// files have no numbers; they are then read from the start each time.
    file: Option<Arc<File>>,
    pub(super) length: u64,
    pub(super) lines: usize,
    /// The last bytes before that position. They change if the file was rewritten in place.
    tail: Vec<u8>,
    /// The stamp of the file when it was read.
    stamp: Option<Stamp>,
}

/// The length of a file that counts as another one than any file.
const ANOTHER_FILE: u64 = u64::MAX;

/// How many bytes are compared again. Most lines are longer.
pub(super) const TAIL: usize = 256;

/// The part of the file that has not been read.
pub(super) struct Unread {
    pub(super) place: Place,
    pub(super) bytes: Vec<u8>,
    /// Whether it is another file than the one that was read. `bytes` are then all of it.
    pub(super) is_another: bool,
}

/// Returns how far the file was read, unless it is another file now, and the complete lines after that. The last line may
/// lack its line break. `has_known` tells whether the file had lines before.
pub(super) fn unread(path: &Path, read: &Place, has_known: bool) -> io::Result<Unread> {
    // Checked before the file is opened, since opening a named pipe waits for a writer.
    let is_file = fs::metadata(path).map(|metadata| metadata.is_file());
    let mut file = match is_file.and_then(|is_file| if is_file { File::open(path) } else { Err(not_a_file()) }) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let is_another = has_known;
            return Ok(Unread { place: Place::default(), bytes: Vec::new(), is_another });
        }
        opened => opened?,
    };
    let stamp = Stamp::of(&file.metadata()?);
    let before = read.file.as_ref().and_then(|file| file.metadata().ok()).as_ref().map(Stamp::of);
    let is_same = before.is_some_and(|before| before.is_same_file(&stamp)) && read.length <= stamp.length();
    let is_same = is_same && (read.stamp.as_ref() == Some(&stamp) || read.has_tail(&mut file)?);
    let mut place = if is_same { read.clone() } else { Place::default() };
    let mut bytes = Vec::new();
    if place.length < stamp.length() {
        file.seek(SeekFrom::Start(place.length))?;
        bytes = read_in_one(&mut file, stamp.length() - place.length)?;
    }
    if !is_same {
        place.file = cfg!(unix).then(|| Arc::new(file));
    }
    place.stamp = Some(stamp);
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    if !is_whole(bytes.get(end..).unwrap_or_default()) {
        bytes.truncate(end);
    }
    Ok(Unread { place, bytes, is_another: !is_same && read.length > 0 })
}

impl Place {
    /// Returns a place of which the file counts as another one, so that all of it is read.
    pub(super) fn of_another_file() -> Self {
        Self { length: ANOTHER_FILE, ..Self::default() }
    }

    /// Returns whether this is the stamp of the file when it was read. `None` if there was no file.
    pub(super) fn has(&self, stamp: Option<&Stamp>) -> bool {
        self.length != ANOTHER_FILE && self.stamp.as_ref() == stamp
    }

    pub(super) fn remember_tail(&mut self, read: &[u8]) {
        self.tail.extend_from_slice(read.get(read.len().saturating_sub(TAIL)..).unwrap_or_default());
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
    }

    /// Returns whether the file still has the same bytes before that position.
    fn has_tail(&self, file: &mut File) -> io::Result<bool> {
        file.seek(SeekFrom::Start(self.length.saturating_sub(self.tail.len() as u64)))?;
        Ok(read_in_one(file, self.tail.len() as u64)? == self.tail)
    }
}

fn not_a_file() -> io::Error {
    io::Error::other("it is not a regular file")
}

/// Reads exactly this many bytes with one call. The next writer removes an incomplete line that a crash left, and writes in
/// its place. With two calls, the start of the old line and the end of the new one could be combined into a line that no one
/// wrote.
fn read_in_one(file: &mut impl io::Read, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    let read = loop {
        match file.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    if read == bytes.len() { Ok(bytes) } else { Err(io::Error::other("it changed while it was read")) }
}

/// Returns whether the last line is complete except for its line break, as some editors leave it. A line that a crash cut off
/// is not: no prefix of a JSON object is itself one. Whether the line is an entry is checked later, as for any other line.
pub(super) fn is_whole(line: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::read_in_one;

    /// A file that is rewritten between two calls.
    struct Rewritten(Vec<&'static [u8]>);

    impl io::Read for Rewritten {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            self.0.pop().map_or(Ok(0), |mut now| now.read(bytes))
        }
    }

    #[test]
    fn a_partial_line_of_a_crash_is_never_combined_with_the_line_that_replaced_it() {
        let whole = br#"{"of":"one"}"#;
        let length = whole.len() as u64;
        assert_eq!(read_in_one(&mut Rewritten(vec![whole]), length).unwrap(), whole);
        let rewritten = read_in_one(&mut Rewritten(vec![br#" another"}"#, br#"{"of":"#]), length + 4);
        assert!(rewritten.is_err(), "{rewritten:?}");
    }
}
