//! [`State`]: what the files of a store contained when they were last read.

use std::io;
use std::time::Duration;

use tokio::time::Instant;

use super::fault::FileFault;
use super::stamp::Stamp;
use crate::crypto::sha256;
use crate::store::StoreError;

/// A poll of the revocations that is later than this is an error of the feed, so that the age of a view is true. Longer than the time that
/// a poll waits for a revocation of this process, which may wait for another process.
const LATE: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct State {
    /// The content that was last used or refused.
    pub(super) seen: Option<Content>,
    /// The stamp of a file with that content. The file need not be read while it has this stamp.
    pub(super) stamp: Option<Stamp>,
    pub(super) fault: Option<FileFault>,
    /// Why revocations of other processes may be unknown here.
    pub(super) journal_fault: Option<FileFault>,
    /// When the last successful read of the revocations began.
    journal_read: Option<Instant>,
}

/// The digest of the content of the file, or the reason why it cannot be read.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Content {
    Digest([u8; 32]),
    Unreadable(String),
}

impl Content {
    pub(super) fn of(read: &io::Result<Vec<u8>>) -> Self {
        match read {
            Ok(bytes) => Self::Digest(sha256(bytes)),
            Err(error) => Self::Unreadable(error.to_string()),
        }
    }
}

impl State {
    /// Logs a fault once, not with every poll.
    pub(super) fn report(&mut self, fault: FileFault) {
        if self.fault.as_ref() != Some(&fault) {
            tracing::warn!("{fault}; the clients that were read before stay in use");
            self.fault = Some(fault);
        }
    }

    /// Records a read of the revocations and when it began. Logs a fault once.
    pub(super) fn set_journal(&mut self, began: Instant, read: Result<(), FileFault>) {
        let fault = read.err();
        match &fault {
            None => self.journal_read = Some(began),
            Some(fault) if self.journal_fault.as_ref() != Some(fault) => {
                tracing::warn!("{fault}; the feed of revocations fails until this is fixed");
            }
            Some(_) => {}
        }
        self.journal_fault = fault;
    }

    pub(super) fn check_journal(&self) -> Result<(), StoreError> {
        if let Some(fault) = &self.journal_fault {
            return Err(StoreError::new(fault.clone()));
        }
        let age = self.journal_read.map(|read| read.elapsed());
        match age.filter(|age| *age <= LATE) {
            Some(_) => Ok(()),
            None => Err(StoreError::new(format!(
                "the file of revocations was last read {} seconds ago: the disk is slow, or the runtime has no thread left for blocking \
                 calls",
                age.unwrap_or_default().as_secs()
            ))),
        }
    }
}
