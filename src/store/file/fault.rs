//! [`FileFault`]: what is wrong with a file, and in which line.

use std::fmt;
use std::path::{Path, PathBuf};

/// A file cannot be used; the text says where and why, and shows no value that could be a secret.
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

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The line, from 1, where it is one.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// What is wrong there.
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
