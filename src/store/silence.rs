//! [`Silence`]: decides when a connection that waits for notifications is tested.
//!
//! A network that drops a connection notifies neither side, and then no notification would ever arrive. The feed is polled as
//! well, so a poll that finds changes without a notification, or that fails, is a reason to test the connection.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Mutex;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::deadline::within;
use crate::sync::lock;

/// A connection that has been silent for this long is tested.
const LONGEST: Duration = Duration::from_secs(60);

/// A connection that has been silent for this long is tested if there is a reason. A notification arrives well within this time
/// before or after the poll that finds the change.
const SUSPICIOUS: Duration = Duration::from_secs(2);

/// The silence of one connection.
#[derive(Debug)]
pub(crate) struct Silence {
    since: Mutex<Instant>,
    reason: Notify,
}

impl Default for Silence {
    fn default() -> Self {
        Self { since: Mutex::new(Instant::now()), reason: Notify::new() }
    }
}

impl Silence {
    /// Records a notification, an answer, or a new connection.
    pub(crate) fn end(&self) {
        *lock(&self.since) = Instant::now();
    }

    /// Records that a poll found changes or failed.
    pub(crate) fn suspect(&self) {
        if lock(&self.since).elapsed() >= SUSPICIOUS {
            self.reason.notify_one();
        }
    }

    /// Waits for the next notification. Returns `None` when the connection must be tested first.
    pub(crate) async fn next<T>(&self, notification: impl Future<Output = T>) -> Option<T> {
        let (mut notification, mut reason) = (pin!(notification), pin!(self.reason.notified()));
        let either = poll_fn(|cx| match notification.as_mut().poll(cx) {
            Poll::Ready(next) => Poll::Ready(Some(next)),
            Poll::Pending => reason.as_mut().poll(cx).map(|()| None),
        });
        within(LONGEST, either).await.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::Silence;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_tested_after_a_minute_or_for_a_reason_if_it_was_silent_for_two_seconds() {
        let silence = Silence::default();
        assert_eq!(silence.next(ready(1)).await, Some(1));
        let started = Instant::now();
        assert_eq!(silence.next(pending::<()>()).await, None);
        assert_eq!(started.elapsed(), Duration::from_secs(60));

        silence.suspect();
        assert_eq!(silence.next(pending::<()>()).await, None);
        assert_eq!(started.elapsed(), Duration::from_secs(60), "at once");

        silence.end();
        sleep(Duration::from_secs(1)).await;
        silence.suspect();
        assert_eq!(silence.next(pending::<()>()).await, None);
        assert_eq!(started.elapsed(), Duration::from_secs(121), "the connection was silent for only a second");
    }
}
