//! [`InFlight`]: work in a task of its own that several callers wait for.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::Moment;
use crate::deadline::within;

/// Work that was started, as those see it that wait for it.
///
/// A runtime that exists and does not run cannot end its tasks. So work that takes longer than it can take counts as lost, and is
/// started again. The number tells whether a result belongs to the work that is awaited.
#[derive(Clone, Debug)]
pub(super) struct InFlight<T> {
    number: u64,
    started: Instant,
    longest: Duration,
    result: watch::Receiver<Option<T>>,
}

impl<T: Clone> InFlight<T> {
    /// `longest` is how long the work can take by its time-outs. It counts as lost after twice that time.
    pub(super) fn new(number: u64, now: Moment, longest: Duration) -> (Self, watch::Sender<Option<T>>) {
        let (sender, result) = watch::channel(None);
        (Self { number, started: now.monotonic, longest: longest.saturating_mul(2), result }, sender)
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Returns whether the work can no longer be expected to end.
    pub(super) fn is_lost(&self, now: Moment) -> bool {
        self.time_left(now).is_zero()
    }

    /// The monotonic clock stands still with the machine.
    fn time_left(&self, now: Moment) -> Duration {
        self.longest.saturating_sub(now.monotonic.saturating_duration_since(self.started))
    }

    /// Waits for the result. `None` if the work ended without one or is lost.
    pub(super) async fn result(mut self, now: Moment) -> Option<T> {
        let left = self.time_left(now);
        let result = async { self.result.wait_for(Option::is_some).await.ok().and_then(|result| result.clone()) };
        // Without a runtime there is no timer.
        if Handle::try_current().is_err() {
            return result.await;
        }
        within(left, result).await.ok().flatten()
    }
}
