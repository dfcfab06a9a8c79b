//! [`Losses`]: reports that the store lost writes that it had acknowledged.

use std::sync::Mutex;
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::event::{EventSender, Outcome};
use crate::metrics;
use crate::sync::lock;

/// The minimum time between two reports in the log and to the listeners. Two store servers that alternate under one host name
/// would otherwise cause a report at each poll.
const INTERVAL: Duration = Duration::from_secs(60);

/// Where losses are reported, and when the last one was.
#[derive(Debug, Default)]
pub(super) struct Losses {
    listeners: Mutex<Vec<EventSender>>,
    reported: Mutex<Option<Moment>>,
}

impl Losses {
    /// Adds a listener unless it is there already.
    pub(super) fn report_to(&self, events: &EventSender) {
        let mut listeners = lock(&self.listeners);
        listeners.retain(|other| !other.is_closed());
        if !listeners.iter().any(|other| other.ptr_eq(events)) {
            listeners.push(events.clone());
        }
    }

    /// Counts a loss. Reports it in the log and as an event unless another was reported within [`INTERVAL`].
    pub(super) fn report(&self, reason: &str, clock: &dyn Clock) {
        metrics::store_lost_data();
        if !self.is_due(Moment::now(clock)) {
            return;
        }
        tracing::error!(
            reason,
            "the revocation store lost writes that it had acknowledged; this process still refuses the tokens that it knows to be \
             revoked, and writes the missing revocations to the store again; check the clients and repeat the latest revocations"
        );
        let mut listeners = lock(&self.listeners);
        listeners.retain(|events| !events.is_closed());
        for events in listeners.iter() {
            events.report(clock.now(), Outcome::StoreLostData { reason: reason.to_owned() });
        }
    }

    fn is_due(&self, now: Moment) -> bool {
        let mut reported = lock(&self.reported);
        let is_due = reported.is_none_or(|then| now.since(then) >= INTERVAL);
        if is_due {
            *reported = Some(now);
        }
        is_due
    }
}
