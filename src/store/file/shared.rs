//! The state that all handles of a [`FileStore`](super::FileStore) share: the clients in memory, and the code that reads them.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::fault::FileFault;
use super::journal::Journal;
use super::stamp::Stamp;
use super::state::{Content, State};
use super::system::{System, stamp};
use super::used::Used;
use super::{Calls, client_file, operators_text, write};
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::crypto::sha256;
use crate::registration::{ClientRules, RegisteredClient};
use crate::store::{AdminError, MemoryStore, Replay, ReplayId, Revision, Revocation, StoreError};
use crate::sync::lock;

/// How often the file is read. New content is used only if two reads find the same, so that a partially written file is not
/// used.
pub(super) const PERIOD: Duration = Duration::from_millis(250);

/// The default of how long to wait for other processes that write the clients. Writing a large file takes up to two seconds, and several
/// processes may wait.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// How many times a call reads a file that changes with each read. In total it waits as long as for other processes that
/// write.
const MAX_READS: u32 = 40;

/// How many clients one message lists.
const MAX_NAMED: usize = 5;

const POLLS: [fn(&Shared); 3] = [Shared::poll_journal, Shared::poll_clients, Shared::poll_used];

/// The state behind several locks, so that only writers wait while a large file is read or written. A thread that takes several
/// of them takes them in this order.
pub(super) struct Shared {
    pub(super) path: PathBuf,
    pub(super) memory: MemoryStore,
    /// Held while the file of clients is read or written.
    clients: Mutex<Clients>,
    /// Held while revocations are read or appended.
    journal: Mutex<Journal>,
    /// Held while used credentials are read or appended. No other lock is taken with it.
    used: Mutex<Used>,
    /// Held only briefly.
    state: Mutex<State>,
    pub(super) calls: Calls,
    /// Whether entries of the file of revocations were missing. Read without waiting for the journal.
    has_lost: Arc<AtomicBool>,
    pub(super) system: System,
    lock_timeout: Duration,
}

/// The clients in use.
#[derive(Default)]
struct Clients {
    /// The clients in the order of the file.
    in_force: Vec<Arc<RegisteredClient>>,
    /// The content that they were read from.
    taken: Option<Content>,
    /// Whether that is complete content, and not a single read that may have seen a partial change.
    is_whole: bool,
    /// Different content that the last poll found.
    pending: Option<Content>,
}

impl Shared {
    /// Reads the files for the first time.
    pub(super) fn open(
        path: PathBuf,
        journal: PathBuf,
        used: PathBuf,
        memory: MemoryStore,
        lock_timeout: Duration,
    ) -> Result<Self, FileFault> {
        let has_lost = Arc::new(AtomicBool::new(false));
        let (journal, used) = (Mutex::new(Journal::new(journal, has_lost.clone())), Mutex::new(Used::new(used)));
        let (clients, state, calls, system) = (Mutex::default(), Mutex::default(), Calls::default(), System::default());
        let shared = Self { path, memory, clients, journal, used, state, calls, has_lost, system, lock_timeout };
        let read = (shared.system.read)(&shared.path);
        let content = Content::of(&read);
        let clients = parse(&shared.path, read, None)?;
        let began = Instant::now();
        shared.follow_journal()?;
        lock(&shared.state).set_journal(began, Ok(()));
        lock(&shared.used).read(UnixTime::at(shared.memory.now()))?;
        // A disabled client has no valid tokens, even if it was disabled while no server was running.
        let replaced = shared.memory.replace_all(&clients);
        replaced.map_err(|error| FileFault::new(&shared.path, None, error))?;
        let mut in_force = lock(&shared.clients);
        shared.set_current(&mut in_force, content, clients);
        // One read is enough to start with, but not to write the content back.
        in_force.is_whole = false;
        drop(in_force);
        Ok(shared)
    }

    pub(super) fn fault(&self) -> Option<FileFault> {
        let state = lock(&self.state);
        state.fault.clone().or_else(|| state.journal_fault.clone())
    }

    /// Returns an error while the journal may contain a revocation that is unknown here: it has a fault, or the poll is late, as when
    /// the runtime has no thread left for it.
    pub(super) fn check_journal(&self) -> Result<(), StoreError> {
        lock(&self.state).check_journal()
    }

    /// Checks the files for changes.
    #[cfg(test)]
    pub(super) fn poll(&self) {
        for poll in POLLS {
            poll(self);
        }
    }

    #[cfg(test)]
    pub(super) fn hold_journal(&self) -> std::sync::MutexGuard<'_, Journal> {
        lock(&self.journal)
    }

    fn poll_journal(&self) {
        let began = Instant::now();
        let read = self.follow_journal();
        lock(&self.state).set_journal(began, read);
    }

    fn poll_used(&self) {
        // A thread that uses a credential reads the file.
        if let Ok(mut used) = self.used.try_lock() {
            used.poll(UnixTime::at(self.memory.now()));
        }
    }

    fn poll_clients(&self) {
        let mut clients = match self.clients.try_lock() {
            Ok(clients) => clients,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Another thread reads or writes the file: the next poll sees the result.
            Err(TryLockError::WouldBlock) => return,
        };
        let stamp = stamp(&self.path);
        if clients.pending.is_none() && self.has(stamp.as_ref()) {
            return;
        }
        let read = (self.system.read)(&self.path);
        let content = Content::of(&read);
        if self.has_seen(&content, stamp) {
            clients.pending = None;
            clients.is_whole |= clients.taken.as_ref() == Some(&content);
        } else if clients.pending.as_ref() == Some(&content) {
            self.take(&mut clients, content, read);
        } else {
            clients.pending = Some(content);
        }
    }

    /// Returns whether a file with this stamp has the content that was last seen.
    fn has(&self, stamp: Option<&Stamp>) -> bool {
        stamp.is_some() && lock(&self.state).stamp.as_ref() == stamp
    }

    /// Returns whether this is the content that was last seen. If so, remembers the stamp that the file had before it was
    /// read, unless the file could not be read: making it readable need not change its stamp.
    fn has_seen(&self, content: &Content, stamp: Option<Stamp>) -> bool {
        let mut state = lock(&self.state);
        let has_seen = state.seen.as_ref() == Some(content);
        if has_seen {
            state.stamp = self.system.settled(stamp).filter(|_| matches!(content, Content::Digest(_)));
        }
        has_seen
    }

    /// Replaces the clients by those that were read. If the file is invalid, keeps them and reports the fault.
    fn take(&self, clients: &mut Clients, content: Content, read: io::Result<Vec<u8>>) {
        clients.pending = None;
        match parse(&self.path, read, self.memory.rules().as_ref()) {
            Ok(new) => {
                let count = new.len();
                if let Err(error) = self.keep(clients, content, new) {
                    // Not marked as seen, so that the next poll tries again.
                    return lock(&self.state).report(FileFault::new(&self.path, None, operators_text(&error)));
                }
                tracing::info!(path = %self.path.display(), clients = count, "the file of clients was read again");
            }
            Err(fault) => {
                let mut state = lock(&self.state);
                state.report(fault);
                (state.seen, state.stamp) = (Some(content), None);
            }
        }
    }

    fn keep(&self, clients: &mut Clients, content: Content, new: Vec<Arc<RegisteredClient>>) -> Result<(), StoreError> {
        let re_enabled = self.re_enabled(&new);
        let revoked = self.memory.replace_all(&new)?;
        if !re_enabled.is_empty() {
            let some: Vec<&str> = re_enabled.iter().take(MAX_NAMED).map(ClientId::as_str).collect();
            tracing::warn!(
                path = %self.path.display(),
                clients = re_enabled.len(),
                first = ?some,
                "the file enables clients that were disabled or deleted; if it is an older copy, disable them again; the tokens \
                 that they had stay revoked"
            );
        }
        // The revocations are already in effect in this process, even if the folder is read-only.
        if let Err(error) = lock(&self.journal).append(&revoked) {
            tracing::warn!(
                %error,
                "cannot save the revocations of disabled and deleted clients; they are lost when this process ends"
            );
        }
        self.set_current(clients, content, new);
        Ok(())
    }

    /// Records the clients in use. Called after they are in memory.
    fn set_current(&self, clients: &mut Clients, content: Content, new: Vec<Arc<RegisteredClient>>) {
        *clients = Clients { in_force: new, taken: Some(content.clone()), is_whole: true, pending: None };
        let mut state = lock(&self.state);
        (state.seen, state.stamp, state.fault) = (Some(content), None, None);
    }

    /// Reads the file until two reads in a row find the same content, or the content is known, or the file has not changed for
    /// a while. Otherwise another program may be in the middle of a write.
    fn read_whole(&self, is_known: impl Fn(&Content) -> bool) -> io::Result<(Content, io::Result<Vec<u8>>)> {
        let mut before = None;
        for _ in 0..MAX_READS {
            let settled = self.system.settled(stamp(&self.path));
            let read = (self.system.read)(&self.path);
            let content = Content::of(&read);
            let is_whole = before.as_ref() == Some(&content) || settled.is_some() && settled == stamp(&self.path);
            if is_whole || read.is_err() || is_known(&content) {
                return Ok((content, read));
            }
            before = Some(content);
            (self.system.sleep)(PERIOD);
        }
        Err(io::Error::other("it changes with each read; replace it by a rename instead of writing into it"))
    }

    /// Reads a file that another process has just written, and only then waits for a writer of this process. A file that was
    /// already refused is not an error here; see [`Self::fault`].
    pub(super) fn read_now(&self) -> Result<(), StoreError> {
        let stamp = stamp(&self.path);
        if self.has(stamp.as_ref()) || self.has_seen(&Content::of(&(self.system.read)(&self.path)), stamp) {
            return Ok(());
        }
        let mut clients = lock(&self.clients);
        let read = self.read_whole(|content| self.has_seen(content, None));
        let (content, read) = read.map_err(|error| StoreError::new(FileFault::new(&self.path, None, error)))?;
        if self.has_seen(&content, None) {
            return Ok(());
        }
        let new = parse(&self.path, read, self.memory.rules().as_ref()).map_err(StoreError::new)?;
        self.keep(&mut clients, content, new)
    }

    /// Changes the clients, rewrites the file, and uses the result.
    pub(super) fn edit<T>(
        &self,
        change: impl FnOnce(
            &mut Vec<Arc<RegisteredClient>>,
            &dyn Fn(&ClientId) -> Option<Revision>,
        ) -> Result<T, AdminError>,
    ) -> Result<T, AdminError> {
        let cannot = |error: io::Error| StoreError::new(FileFault::new(&self.path, None, error));
        // Taken first, so that writers of this process wait for each other here, and not with the time limit for other
        // processes.
        let mut clients = lock(&self.clients);
        let _lock = write::Lock::take(&self.path, self.lock_timeout).map_err(cannot)?;
        let is_known = |content: &Content| clients.is_whole && clients.taken.as_ref() == Some(content);
        let (content, read) = self.read_whole(is_known).map_err(cannot)?;
        if clients.taken.as_ref() != Some(&content) {
            let new = parse(&self.path, read, self.memory.rules().as_ref()).map_err(StoreError::new)?;
            self.keep(&mut clients, content.clone(), new)?;
        }
        clients.is_whole = true;
        let mut new = clients.in_force.clone();
        let changed = change(&mut new, &|id| self.memory.revision(id))?;
        if let Some(rules) = self.memory.rules() {
            new.iter().try_for_each(|client| rules.check(client))?;
        }
        let before: HashSet<_> = clients.in_force.iter().map(Arc::as_ptr).collect();
        let is_new = |client: &&Arc<RegisteredClient>| !before.contains(&Arc::as_ptr(client));
        new.iter().filter(is_new).try_for_each(client_file::check_readable)?;
        let text = client_file::render(&new).map_err(StoreError::new)?;
        // The revocations are written before the clients: after a crash between the two, too many tokens are refused, not too
        // few.
        let revoked = self.memory.revoked_by(&new);
        lock(&self.journal).append(&revoked).map_err(cannot)?;
        let is_unchanged = || match Content::of(&(self.system.read)(&self.path)) {
            now if now == content => Ok(()),
            _ => Err(io::Error::other(
                "another program changed it at the same time, and nothing was changed here; try again, and replace the file \
                 by a rename instead of writing into it",
            )),
        };
        write::replace(&self.path, text.as_bytes(), is_unchanged).map_err(cannot)?;
        self.memory.replace_all(&new)?;
        self.set_current(&mut clients, Content::Digest(sha256(text.as_bytes())), new);
        Ok(changed)
    }

    pub(super) fn revoke(&self, revocation: Revocation) -> Result<(), StoreError> {
        let mut journal = lock(&self.journal);
        journal.append(std::slice::from_ref(&revocation)).map_err(StoreError::new)?;
        self.memory.revoke_now(revocation)
    }

    pub(super) fn compact(&self, now: SystemTime) -> Result<(), StoreError> {
        // This also reads the entries that other processes appended since the last poll.
        lock(&self.journal).compact(UnixTime::at(now), |revocation| self.memory.revoke_now(revocation.clone()))
    }

    /// Records the use of a credential, unless it is already recorded.
    pub(super) fn use_once(&self, id: ReplayId, expires_at: SystemTime, now: SystemTime) -> Result<Replay, StoreError> {
        lock(&self.used).check_and_insert(id, UnixTime::at(expires_at), UnixTime::at(now))
    }

    pub(super) fn compact_used(&self, now: SystemTime) -> Result<(), StoreError> {
        lock(&self.used).compact(UnixTime::at(now))
    }

    fn follow_journal(&self) -> Result<(), FileFault> {
        let now = UnixTime::at(self.memory.now());
        lock(&self.journal).read(now, |revocation| self.memory.revoke_now(revocation.clone()))
    }

    /// Returns whether entries of the file were missing since the last call.
    pub(super) fn take_loss(&self) -> bool {
        self.has_lost.swap(false, Ordering::SeqCst)
    }

    /// Returns the clients that the new content enables, although they were disabled or deleted recently.
    fn re_enabled(&self, new: &[Arc<RegisteredClient>]) -> Vec<ClientId> {
        let journal = lock(&self.journal);
        let former = journal.former_clients();
        let enabled = new.iter().filter(|client| client.is_enabled() && former.contains(client.id()));
        enabled.filter(|client| !self.memory.has_enabled(client.id())).map(|client| client.id().clone()).collect()
    }

    /// Polls the files for as long as the store has a handle. Each has its own task, so that revocations do not wait for a
    /// large file of clients.
    pub(super) fn follow(self: &Arc<Self>) {
        for poll in POLLS {
            let weak = Arc::downgrade(self);
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(PERIOD).await;
                    let Some(shared) = weak.upgrade() else { return };
                    let _ = tokio::task::spawn_blocking(move || poll(&shared)).await;
                }
            });
        }
    }
}

fn parse(
    path: &Path,
    read: io::Result<Vec<u8>>,
    rules: Option<&ClientRules>,
) -> Result<Vec<Arc<RegisteredClient>>, FileFault> {
    let bytes = read.map_err(|error| FileFault::new(path, None, format!("cannot read it: {error}")))?;
    client_file::parse(&bytes, rules).map_err(|(line, reason)| FileFault::new(path, Some(line), reason))
}
