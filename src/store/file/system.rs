//! [`System`]: the clock and the file of clients, as a store asks the operating system for them.

use std::path::Path;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use super::stamp::Stamp;

type Read = dyn Fn(&Path) -> io::Result<Vec<u8>> + Send + Sync;
type Sleep = dyn Fn(Duration) + Send + Sync;

/// What a test replaces.
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
    /// Returns the stamp of a file that has not changed for a while, so that each later change gives it another one.
    pub(super) fn settled(&self, stamp: Option<Stamp>) -> Option<Stamp> {
        stamp.filter(|stamp| stamp.is_settled((self.now)()))
    }
}

pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    fs::metadata(path).ok().as_ref().map(Stamp::of)
}

/// Reads regular files only: opening a named pipe waits for a writer.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    fs::read(path)
}
