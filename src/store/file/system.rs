//! [`System`]: the clock and the file access of a store.

use std::path::Path;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use super::stamp::Stamp;

type Read = dyn Fn(&Path) -> io::Result<Vec<u8>> + Send + Sync;
type Sleep = dyn Fn(Duration) + Send + Sync;

/// The functions that a test replaces.
pub(super) struct System {
    pub(super) now: fn() -> SystemTime,
    pub(super) sleep: Box<Sleep>,
    pub(super) read: Box<Read>,
}

impl Default for System {
    fn default() -> Self {
        Self { now: SystemTime::now, sleep: Box::new(std::thread::sleep), read: Box::new(read) }
    }
}

impl System {
    /// Returns the stamp of a file that has not changed for a while. Each later change then gives it another stamp.
    pub(super) fn settled(&self, stamp: Option<Stamp>) -> Option<Stamp> {
        stamp.filter(|stamp| stamp.is_settled((self.now)()))
    }
}

pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    fs::metadata(path).ok().as_ref().map(Stamp::of)
}

/// Reads a regular file. Other kinds are refused, since opening a named pipe waits for a writer.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    fs::read(path)
}
