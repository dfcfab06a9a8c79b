//! [`AuditLog`]: writes events as JSON lines, for auditors.

use std::io::{self, Write};
use std::mem;
use std::net::IpAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

use http::Extensions;
use tokio::sync::watch;

use super::audit_line::Line;
use super::audit_target::{Target, open};
use super::{Event, EventReceiver, EventSender, Outcome, QUEUED, channel_with_capacity};
use crate::debug_fields::debug_fields;
use crate::metrics;

/// How long the writer waits after a failed write.
const RETRY: Duration = Duration::from_secs(1);

/// Writes each event as one JSON object per line, in a stable schema: who, by which credential, with which key, which rule refused,
/// and from where. The page [Observability](crate::manual::observability) has the schema.
///
/// 1. A thread of its own writes. No request waits for it: events wait in a queue of 1,024, and beyond that they are lost and counted.
/// 2. A write that fails is repeated every second. Meanwhile there is an error in the log, an
///    [event](Self::events) `AuditLogFailed`, and a metric. The first line after a loss is `audit_log_gap` with the number of events.
///    After a failed write, a line may be empty or incomplete.
/// 3. A file is opened to append, readable by its owner only. If it is renamed or removed, for example by `logrotate`, the next line
///    goes to a new file of that name. Each process needs a file of its own.
/// 4. A line contains no secret and no token.
///
/// ```
/// use std::net::SocketAddr;
///
/// use axum::extract::ConnectInfo;
/// use tower_client_credentials::event::AuditLog;
/// use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("audit.jsonl");
/// let (events, log) = AuditLog::file(path)?
///     .caller_address(|extensions| extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.ip()))
///     .start()?;
/// let server = AuthorizationServer::builder("https://auth.example.com", KeyRing::generate()?, MemoryStore::default())
///     .events(events)
///     .build()?;
/// assert!(log.is_writing());
/// # Ok(()) }
/// ```
#[must_use = "nothing is written until `start` is called"]
pub struct AuditLog {
    target: Target,
    caller: Option<Box<CallerAddress>>,
    events: Option<EventSender>,
    capacity: usize,
    retry: Duration,
}

type CallerAddress = dyn Fn(&Extensions) -> Option<IpAddr> + Send;

/// A handle to an [`AuditLog`] that was started. The log is written until all its senders are dropped.
#[derive(Clone, Debug)]
pub struct AuditLogHandle {
    events: EventSender,
    state: watch::Receiver<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The number of events that were written, or lost because the last sender was dropped during a failure.
    finished: u64,
    /// Whether the last write failed.
    fails: bool,
}

impl AuditLog {
    /// Writes to a file, which is created if it does not exist.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened.
    pub fn file(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let file = open(&path)?;
        Ok(Self::to(Target::File(path, file)))
    }

    /// Writes to a writer, such as [`std::io::stdout`]. Each line is one call of `write_all`, and then `flush`.
    pub fn writer(writer: impl Write + Send + 'static) -> Self {
        Self::to(Target::Writer(Box::new(writer)))
    }

    fn to(target: Target) -> Self {
        Self { target, caller: None, events: None, capacity: QUEUED, retry: RETRY }
    }

    /// Sets how to find the address of the caller of a request, for the member `caller`. By default it is left out.
    ///
    /// Behind proxies, let an outer layer put the result of
    /// [`TrustedProxies::client_address`](crate::authorization_server::TrustedProxies::client_address) into the extensions.
    pub fn caller_address(self, find: impl Fn(&Extensions) -> Option<IpAddr> + Send + 'static) -> Self {
        Self { caller: Some(Box::new(find)), ..self }
    }

    /// Sends an event [`AuditLogFailed`](Outcome::AuditLogFailed) to this sender when the log cannot be written. It must not be the
    /// sender of this log. None by default.
    pub fn events(self, events: EventSender) -> Self {
        Self { events: Some(events), ..self }
    }

    /// Sets how many events wait while the log cannot be written, from 1 to 1,000,000. 1,024 by default.
    pub fn capacity(self, events: usize) -> Self {
        Self { capacity: events, ..self }
    }

    /// Starts the thread, and returns the sender for servers and layers.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub fn start(self) -> io::Result<(EventSender, AuditLogHandle)> {
        let (events, receiver) = channel_with_capacity(self.capacity);
        let (sender, state) = watch::channel(State::default());
        metrics::audit_log_started();
        let writer = Writer { log: self, receiver, state: sender, is_torn: false, reported: 0, gap: 0 };
        thread::Builder::new().name("audit-log".to_owned()).spawn(move || writer.run())?;
        Ok((events.clone(), AuditLogHandle { events, state }))
    }
}

impl AuditLogHandle {
    /// Returns whether the last line was written.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        !self.state.borrow().fails
    }

    /// Returns the number of events that were lost because the queue was full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.events.dropped()
    }

    /// Waits until every event that was sent so far is written, at most for this time. Returns whether all are. Call it before the
    /// process ends.
    pub async fn flush(&self, limit: Duration) -> bool {
        let sent = self.events.sent();
        let mut state = self.state.clone();
        let done = state.wait_for(|state| state.finished >= sent);
        matches!(tokio::time::timeout(limit, done).await, Ok(Ok(_)))
    }
}

/// The thread.
struct Writer {
    log: AuditLog,
    receiver: EventReceiver,
    state: watch::Sender<State>,
    /// Whether the last line may be incomplete.
    is_torn: bool,
    /// How many lost events were counted in the metric.
    reported: u64,
    /// How many lost events the log has in its lines.
    gap: u64,
}

impl Writer {
    fn run(mut self) {
        while let Some(event) = self.receiver.blocking_recv() {
            self.count_lost();
            let caller = self.log.caller.as_ref().and_then(|find| find(&event.extensions));
            self.write(&Line::of(&event, caller).to_bytes());
            let lost = self.receiver.dropped();
            if lost > self.gap {
                self.write(&Line::of_gap(SystemTime::now(), lost - self.gap).to_bytes());
                self.gap = lost;
            }
            self.state.send_modify(|state| state.finished += 1);
        }
    }

    /// Writes a line. Repeats it until it succeeds, or until no sender is left.
    fn write(&mut self, line: &[u8]) {
        loop {
            // An incomplete line must not swallow the next line.
            let written = if self.is_torn { self.log.target.write(b"\n") } else { Ok(()) };
            let written = written.and_then(|()| self.log.target.write(line));
            self.is_torn = written.is_err();
            let failed_before = self.state.borrow().fails;
            self.state.send_if_modified(|state| mem::replace(&mut state.fails, written.is_err()) != written.is_err());
            match written {
                Ok(()) => {
                    if failed_before {
                        tracing::info!(lost = self.receiver.dropped(), "the audit log is written again");
                    }
                    return;
                }
                Err(error) => {
                    metrics::audit_write_failed();
                    if !failed_before {
                        self.report(&error);
                    }
                }
            }
            if self.receiver.is_closed() {
                return;
            }
            thread::sleep(self.log.retry);
            self.count_lost();
        }
    }

    fn report(&self, error: &io::Error) {
        let place = self.log.target.to_string();
        tracing::error!(
            %error,
            path = place,
            "cannot write the audit log; events wait in memory, and are lost when the queue is full"
        );
        if let Some(events) = &self.log.events {
            let outcome = Outcome::AuditLogFailed { reason: format!("cannot write {place}: {error}") };
            events.send(Event { at: SystemTime::now(), outcome, client_id: None, extensions: Extensions::new() });
        }
    }

    fn count_lost(&mut self) {
        let lost = self.receiver.dropped();
        metrics::audit_events_lost(lost - self.reported);
        self.reported = lost;
    }
}

debug_fields!(AuditLog, |this| {
    target: this.target.to_string(),
    caller: this.caller.is_some(),
    capacity: this.capacity,
});

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, SystemTime};

    use http::Extensions;
    use serde_json::Value;

    use super::{AuditLog, Event, EventSender, Outcome};
    use crate::event::channel;

    /// Patience on a machine under load. A test that passes does not wait.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn send(events: &EventSender, token_id: &str) {
        let outcome = Outcome::Admitted { token_id: token_id.to_owned() };
        events.send(Event { at: SystemTime::UNIX_EPOCH, outcome, client_id: None, extensions: Extensions::new() });
    }

    /// A disk that may be full: it then takes half a line.
    #[derive(Clone, Default)]
    struct Disk {
        content: Arc<Mutex<Vec<u8>>>,
        is_full: Arc<AtomicBool>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.is_full.load(Ordering::SeqCst) {
                self.content.lock().unwrap().extend(&bytes[..bytes.len() / 2]);
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.content.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Disk {
        /// The lines that are JSON.
        fn lines(&self) -> Vec<Value> {
            let content = String::from_utf8(self.content.lock().unwrap().clone()).unwrap();
            content.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_noticed_and_loses_only_what_the_queue_cannot_hold_and_says_how_much() {
        let disk = Disk::default();
        let (own, mut told) = channel();
        let mut log = AuditLog::writer(disk.clone()).capacity(4).events(own);
        log.retry = Duration::from_millis(5);
        let (events, handle) = log.start().unwrap();
        send(&events, "before");
        assert!(handle.flush(PATIENCE).await && handle.is_writing());

        disk.is_full.store(true, Ordering::SeqCst);
        send(&events, "first");
        handle.state.clone().wait_for(|state| state.fails).await.unwrap();
        (0..10).for_each(|number| send(&events, &number.to_string())); // no call waits
        assert_eq!(handle.lost(), 6, "one is being written, and four wait");
        let reason = told.recv().await.unwrap().outcome;
        assert!(matches!(&reason, Outcome::AuditLogFailed { reason } if reason.contains("the writer")), "{reason:?}");
        assert!(told.try_recv().is_none(), "once for each failure");

        disk.is_full.store(false, Ordering::SeqCst);
        assert!(handle.flush(PATIENCE).await);
        let lines = disk.lines();
        let ids: Vec<_> = lines.iter().map(|line| line["token_id"].as_str().unwrap_or("gap").to_owned()).collect();
        assert_eq!(ids, ["before", "first", "gap", "0", "1", "2", "3"]);
        assert_eq!((&lines[2]["event"], &lines[2]["lost"]), (&"audit_log_gap".into(), &6.into()));
        assert!(handle.is_writing());
    }

    #[tokio::test]
    async fn a_renamed_file_is_replaced_by_a_new_one_that_only_its_owner_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let (events, handle) = AuditLog::file(&path).unwrap().start().unwrap();
        send(&events, "old");
        assert!(handle.flush(PATIENCE).await);
        std::fs::rename(&path, folder.path().join("audit.jsonl.1")).unwrap();
        send(&events, "new");
        assert!(handle.flush(PATIENCE).await);
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(read("audit.jsonl.1").contains("\"old\"") && read("audit.jsonl").contains("\"new\""));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error_at_construction() {
        assert!(AuditLog::file("/nowhere/at/all/audit.jsonl").is_err());
    }
}
