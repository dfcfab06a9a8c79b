//! [`FileFault`]: an error in a file, with its line.

use std::fmt;
use std::path::{Path, PathBuf};

/// An error of a file that cannot be used. Its text has the location and the reason, and no value that could be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFault {
    path: PathBuf,
    line: Option<usize>,
    reason: String,
}

impl FileFault {
    pub(super) fn new(path: &Path, line: Option<usize>, reason: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), line, reason: reason.to_string() }
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the line number, starting at 1, if the error is in one line.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// Returns the reason.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.reason)
    }
}

impl std::error::Error for FileFault {}
