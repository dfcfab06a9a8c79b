//! `[audit]`: the events for auditors, one JSON object per line.

use std::io;
use std::path::Path;
use std::time::Duration;

use tower_client_credentials::event::{AuditLog, AuditLogHandle, EventSender};

use crate::caller;
use crate::config::{Config, Mistake, Source};

/// The audit log, which a reload keeps.
#[derive(Clone)]
pub(crate) struct Audit {
    pub(crate) events: EventSender,
    handle: AuditLogHandle,
}

impl Audit {
    /// Starts the audit log, if the file has one. If `creates` is false, it only checks that the folder of the file exists.
    pub(crate) fn of(config: &Config, source: &Source, creates: bool) -> Result<Option<Self>, Mistake> {
        let Some(file) = &config.audit.file else { return Ok(None) };
        let path = source.resolve(file);
        let mistake = |error: io::Error| {
            let why = format!(
                "cannot write {}: {error}; its folder must exist, and this process must be able to write it",
                path.display()
            );
            source.mistake_in("audit.file", why)
        };
        let is_stdout = file == Path::new("-");
        if !creates {
            let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
            let checked = if is_stdout || folder.is_dir() { Ok(None) } else { Err(io::ErrorKind::NotFound.into()) };
            return checked.map_err(mistake);
        }
        let log = if is_stdout { Ok(AuditLog::writer(io::stdout())) } else { AuditLog::file(&path) };
        let (events, handle) = log.and_then(|log| log.caller_address(caller::of).start()).map_err(mistake)?;
        Ok(Some(Self { events, handle }))
    }

    /// Waits until all events are written, for a few seconds.
    pub(crate) async fn flush(&self) {
        if !self.handle.flush(Duration::from_secs(5)).await {
            tracing::error!("the last events could not be written to the audit log");
        }
    }
}
