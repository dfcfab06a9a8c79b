//! What all handles of a [`FileStore`](super::FileStore) share: the clients in memory, and how they came there.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use super::fault::FileFault;
use super::journal::Journal;
use super::stamp::Stamp;
use super::{document, operators_text, write};
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::keys::backend::sha256;
use crate::store::{
    AdminError, ClientError, ClientRules, MemoryStore, RegisteredClient, Revision, Revocation, StoreError,
};

/// How often the file is looked at. What is new must be the same twice, so that nothing is read while it is written.
pub(super) const PERIOD: Duration = Duration::from_millis(250);

pub(super) struct Shared {
    pub(super) path: PathBuf,
    pub(super) memory: MemoryStore,
    watch: Mutex<Watch>,
}

/// Held while files are read or written, and by nobody who answers a request.
struct Watch {
    stamp: Option<Stamp>,
    /// The content that was taken, or refused.
    seen: Option<Content>,
    /// Another one, which was there the last time.
    coming: Option<Content>,
    fault: Option<FileFault>,
    /// Why what others revoked may be unknown here.
    journal_fault: Option<FileFault>,
    rules: Option<ClientRules>,
    journal: Journal,
}

/// The digest of what is in the file, or why it cannot be read.
#[derive(Clone, PartialEq, Eq)]
enum Content {
    Digest([u8; 32]),
    Unreadable(String),
}

impl Content {
    fn of(read: &io::Result<Vec<u8>>) -> Self {
        match read {
            Ok(bytes) => Self::Digest(sha256(bytes)),
            Err(error) => Self::Unreadable(error.to_string()),
        }
    }
}

impl Shared {
    /// Reads both files for the first time.
    pub(super) fn open(path: PathBuf, journal: PathBuf, memory: MemoryStore) -> Result<Self, FileFault> {
        let watch = Watch {
            stamp: None,
            seen: None,
            coming: None,
            fault: None,
            journal_fault: None,
            rules: None,
            journal: Journal::new(journal),
        };
        let shared = Self { path, memory, watch: Mutex::new(watch) };
        let mut watch = shared.watch();
        let read = read(&shared.path);
        watch.seen = Some(Content::of(&read));
        let clients = parse(&shared.path, read, None)?;
        shared.follow_journal(&mut watch)?;
        // Who is disabled has no good tokens, whoever wrote that, and when.
        shared.memory.replace_all(&clients).map_err(|error| FileFault::new(&shared.path, None, error))?;
        drop(watch);
        Ok(shared)
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fault(&self) -> Option<FileFault> {
        let watch = self.watch();
        watch.fault.clone().or_else(|| watch.journal_fault.clone())
    }

    /// Whether all that is revoked is known here.
    pub(super) fn knows_what_is_revoked(&self) -> Result<(), StoreError> {
        self.watch().journal_fault.clone().map_or(Ok(()), |fault| Err(StoreError::new(fault)))
    }

    /// Holds the clients, those of today and those to come, against a server's rules.
    pub(super) fn keep_to(&self, rules: &ClientRules) -> Result<(), ClientError> {
        crate::store::ClientStore::validate(&self.memory, rules)?;
        self.watch().rules = Some(rules.clone());
        Ok(())
    }

    /// Looks whether the files have changed.
    pub(super) fn poll(&self) {
        let mut watch = self.watch();
        let fault = self.follow_journal(&mut watch).err();
        if let Some(fault) = fault.as_ref().filter(|fault| watch.journal_fault.as_ref() != Some(fault)) {
            tracing::warn!("{fault}; until it is mended, nobody can say what is revoked");
        }
        watch.journal_fault = fault;
        let stamp = fs::metadata(&self.path).ok().as_ref().map(Stamp::of);
        let same = stamp.is_some() && stamp == watch.stamp && watch.coming.is_none();
        if same && stamp.as_ref().is_some_and(Stamp::is_settled) {
            return;
        }
        watch.stamp = stamp;
        let read = read(&self.path);
        let content = Content::of(&read);
        if watch.seen.as_ref() == Some(&content) {
            watch.coming = None;
        } else if watch.coming.as_ref() == Some(&content) {
            self.take(&mut watch, content, read);
        } else {
            watch.coming = Some(content);
        }
    }

    /// Puts what was read in the place of what there was, or keeps that and says why.
    fn take(&self, watch: &mut Watch, content: Content, read: io::Result<Vec<u8>>) {
        watch.coming = None;
        match parse(&self.path, read, watch.rules.as_ref()) {
            Ok(clients) => {
                let count = clients.len();
                if let Err(error) = self.keep(watch, clients) {
                    // Not seen, so that it is tried again.
                    return watch.report(FileFault::new(&self.path, None, operators_text(&error)));
                }
                watch.fault = None;
                tracing::info!(path = %self.path.display(), clients = count, "the file of clients was read anew");
            }
            Err(fault) => watch.report(fault),
        }
        watch.seen = Some(content);
    }

    fn keep(&self, watch: &mut Watch, clients: Vec<RegisteredClient>) -> Result<(), StoreError> {
        let revoked = self.memory.replace_all(&clients)?;
        // In this process they are in force already, whether or not the folder can be written to.
        if let Err(error) = watch.journal.append(&revoked) {
            tracing::warn!(%error, "the tokens of disabled and deleted clients are revoked until this process ends only");
        }
        Ok(())
    }

    /// What is in the file at this moment, for those who ask the store itself. A fault is for [`Self::fault`] to tell.
    pub(super) fn read_now(&self) -> Result<(), StoreError> {
        let mut watch = self.watch();
        let read = read(&self.path);
        let content = Content::of(&read);
        if watch.seen.as_ref() != Some(&content) {
            let clients = parse(&self.path, read, watch.rules.as_ref()).map_err(StoreError::new)?;
            self.keep(&mut watch, clients)?;
            watch.seen = Some(content);
            watch.fault = None;
        }
        Ok(())
    }

    /// Changes the clients, writes the file anew, and takes that.
    pub(super) fn edit<T>(
        &self,
        change: impl FnOnce(&mut Vec<RegisteredClient>, &dyn Fn(&ClientId) -> Option<Revision>) -> Result<T, AdminError>,
    ) -> Result<T, AdminError> {
        let cannot = |error: io::Error| StoreError::new(FileFault::new(&self.path, None, error));
        let _lock = write::Lock::take(&self.path).map_err(cannot)?;
        self.read_now()?;
        let mut watch = self.watch();
        let mut clients = parse(&self.path, read(&self.path), None).map_err(StoreError::new)?;
        let changed = change(&mut clients, &|id| self.memory.revision(id))?;
        if let Some(rules) = &watch.rules {
            clients.iter().try_for_each(|client| rules.check(client))?;
        }
        let text = document::render(&clients).map_err(StoreError::new)?;
        // First what is called back, then what the file says: between the two, too much is refused.
        let revoked = self.memory.revoked_by(&clients);
        watch.journal.append(&revoked).map_err(cannot)?;
        write::replace(&self.path, text.as_bytes()).map_err(cannot)?;
        watch.seen = Some(Content::Digest(sha256(text.as_bytes())));
        watch.fault = None;
        self.memory.replace_all(&clients)?;
        Ok(changed)
    }

    pub(super) fn revoke(&self, revocation: Revocation) -> Result<(), StoreError> {
        let mut watch = self.watch();
        watch.journal.append(std::slice::from_ref(&revocation)).map_err(StoreError::new)?;
        self.memory.revoke_now(revocation)
    }

    pub(super) fn compact(&self, now: SystemTime) -> Result<(), StoreError> {
        // What somebody else appended since the last poll is read here as well.
        self.watch().journal.compact(UnixTime::at(now), |revocation| self.memory.revoke_now(revocation.clone()))
    }

    fn follow_journal(&self, watch: &mut Watch) -> Result<(), FileFault> {
        watch.journal.read(|revocation| self.memory.revoke_now(revocation.clone()))
    }

    /// Polls for as long as somebody holds the store.
    pub(super) fn follow(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(PERIOD).await;
                let Some(shared) = weak.upgrade() else { return };
                let _ = tokio::task::spawn_blocking(move || shared.poll()).await;
            }
        });
    }
}

impl Watch {
    /// Once per fault, not once per poll.
    fn report(&mut self, fault: FileFault) {
        if self.fault.as_ref() != Some(&fault) {
            tracing::warn!("{fault}; what was read before stays in force");
            self.fault = Some(fault);
        }
    }
}

/// Plain files only: whoever opens a pipe waits for who writes to it.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    fs::read(path)
}

fn parse(
    path: &Path,
    read: io::Result<Vec<u8>>,
    rules: Option<&ClientRules>,
) -> Result<Vec<RegisteredClient>, FileFault> {
    let bytes = read.map_err(|error| FileFault::new(path, None, format!("cannot read it: {error}")))?;
    document::parse(&bytes, rules).map_err(|(line, reason)| FileFault::new(path, Some(line), reason))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use tempfile::TempDir;

    use super::Shared;
    use crate::store::{Change, Cursor, MemoryStore, Revocation, RevocationStore as _};

    /// One process each; neither polls.
    fn two_processes(folder: &TempDir) -> [Shared; 2] {
        let path = folder.path().join("clients.toml");
        std::fs::write(&path, "clients = []\n").unwrap();
        let open = |()| Shared::open(path.clone(), path.with_extension("revoked"), MemoryStore::default()).unwrap();
        [(), ()].map(open)
    }

    fn key(name: &str, lifetime: u64) -> Revocation {
        Revocation::key(name, UNIX_EPOCH, Duration::from_secs(lifetime))
    }

    /// After what [`key`] of no lifetime is good for.
    fn later() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(10_000)
    }

    async fn knows(shared: &Shared, revocation: &Revocation) -> bool {
        let told = shared.memory.changes(&Cursor::start()).await.unwrap().changes;
        told.contains(&Change::Revoked(revocation.clone()))
    }

    #[tokio::test]
    async fn what_another_process_revoked_is_not_lost_to_who_compacts_before_its_next_poll() {
        let folder = tempfile::tempdir().unwrap();
        let [service, tool] = two_processes(&folder);
        service.revoke(key("old", 0)).unwrap();
        tool.revoke(key("new", 100_000)).unwrap();
        service.compact(later()).unwrap();
        assert!(knows(&service, &key("new", 100_000)).await);
        service.poll();
        assert!(knows(&service, &key("new", 100_000)).await);
        let [again, _] = two_processes(&folder);
        assert!(knows(&again, &key("new", 100_000)).await && !knows(&again, &key("old", 0)).await);
    }

    #[tokio::test]
    async fn a_last_line_that_lacks_its_end_alone_is_a_callback_too_and_blank_lines_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let [service, tool] = two_processes(&folder);
        let journal = folder.path().join("clients.revoked");
        service.revoke(key("old", 100_000)).unwrap();
        let mended = std::fs::read_to_string(&journal).unwrap().replace("old", "by hand");
        std::fs::write(&journal, format!("\n{}", mended.trim_end())).unwrap();
        tool.poll();
        assert!(knows(&tool, &key("by hand", 100_000)).await, "before anybody writes behind it");
        service.revoke(key("next", 100_000)).unwrap();
        tool.poll();
        assert!(knows(&tool, &key("next", 100_000)).await && tool.fault().is_none());
        let [again, _] = two_processes(&folder);
        assert!(knows(&again, &key("by hand", 100_000)).await && knows(&again, &key("next", 100_000)).await);
    }

    #[tokio::test]
    async fn a_last_line_without_an_end_that_is_no_revocation_is_named_and_kept_like_any_other() {
        let unknown = r#"{"account":{"name":"of a later version"}}"#;
        let folder = tempfile::tempdir().unwrap();
        let [service, tool] = two_processes(&folder);
        let journal = folder.path().join("clients.revoked");
        service.revoke(key("old", 100_000)).unwrap();
        let good = std::fs::read_to_string(&journal).unwrap();
        std::fs::write(&journal, format!("{good}{unknown}")).unwrap();
        tool.poll();
        assert_eq!(tool.fault().unwrap().line(), Some(2));
        assert!(tool.knows_what_is_revoked().is_err());
        service.revoke(key("next", 100_000)).unwrap();
        let text = std::fs::read_to_string(&journal).unwrap();
        assert!(text.starts_with(&format!("{good}{unknown}\n")) && text.lines().count() == 3, "{text}");
        tool.poll();
        assert_eq!(tool.fault().unwrap().line(), Some(2));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_file_that_took_the_place_of_the_one_that_was_read_is_read_from_its_start() {
        let folder = tempfile::tempdir().unwrap();
        let [service, tool] = two_processes(&folder);
        let journal = folder.path().join("clients.revoked");
        service.revoke(key("one", 100_000)).unwrap();
        tool.poll();
        // As often as it takes for a number of a file to come again, where nobody has it open.
        for number in 0..10 {
            let name = format!("k{number}");
            let line = std::fs::read_to_string(&journal).unwrap().lines().next().unwrap().to_owned();
            let former = if number == 0 { "one".to_owned() } else { format!("k{}", number - 1) };
            let line = line.replace(&former, &name) + "\n";
            std::fs::remove_file(&journal).unwrap();
            std::fs::write(&journal, line.clone() + &line).unwrap();
            tool.poll();
            assert!(knows(&tool, &key(&name, 100_000)).await, "{name}");
        }
    }

    #[tokio::test]
    async fn a_line_that_cannot_be_read_is_named_and_kept_and_what_a_crash_cut_off_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let [service, tool] = two_processes(&folder);
        let journal = folder.path().join("clients.revoked");
        service.revoke(key("old", 0)).unwrap();
        let mut text = std::fs::read_to_string(&journal).unwrap();
        text.push_str(r#"{"key":{"key_id":"cut of"#);
        std::fs::write(&journal, &text).unwrap();
        service.revoke(key("next", 100_000)).unwrap();
        tool.poll();
        assert!(knows(&tool, &key("next", 100_000)).await && tool.knows_what_is_revoked().is_ok());

        let good = std::fs::read_to_string(&journal).unwrap();
        assert!(!good.contains("cut of"), "it was never acknowledged");
        let bad = format!("{good}{}", r#"{"account":{"name":"of a later version"}}"#) + "\n";
        std::fs::write(&journal, &bad).unwrap();
        service.revoke(key("behind", 100_000)).unwrap();
        let bad = std::fs::read_to_string(&journal).unwrap();
        tool.poll();
        let fault = tool.fault().unwrap();
        assert_eq!((fault.path(), fault.line()), (journal.as_path(), Some(3)), "{fault}");
        assert!(tool.knows_what_is_revoked().is_err(), "whoever asks is not told that all is well");
        assert!(service.compact(later()).is_err());
        assert_eq!(std::fs::read_to_string(&journal).unwrap(), bad, "nothing is lost");
        let open = Shared::open(folder.path().join("clients.toml"), journal.clone(), MemoryStore::default());
        assert_eq!(open.err().unwrap().line(), Some(3));

        std::fs::write(
            &journal,
            bad.replace("account", "key")
                .replace("name\":", "key_id\":\"k\",\"expires_at\":9,\"x\":")
                .replace(",\"x\":\"of a later version\"", ""),
        )
        .unwrap();
        tool.poll();
        assert!(tool.knows_what_is_revoked().is_ok() && tool.fault().is_none());
        assert!(knows(&tool, &key("behind", 100_000)).await);
    }
}
