//! A bound on how long we wait for a part that is not ours.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// The longest wait that a setting can ask for, and what [`Duration::MAX`] comes to: about 24 days. Postgres and SQLite
/// count timeouts in milliseconds of 31 bits, and the connection pools add them to the time now without a check.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_millis(i32::MAX as u64);

/// The part took longer than it may.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
pub(crate) struct Late(Duration);

/// Waits no longer than `time`. What is ready at once costs no timer, and needs no runtime.
pub(crate) async fn within<F: Future>(time: Duration, future: F) -> Result<F::Output, Late> {
    let mut future = pin!(future);
    if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
        return Ok(output);
    }
    // Boxed, or whatever could have to wait would carry the weight of a timer.
    Box::pin(tokio::time::timeout(time, future)).await.map_err(|_| Late(time))
}

/// How much simulated time a test may take; all of them take less.
#[cfg(test)]
const LIMIT: Duration = Duration::from_secs(20 * 24 * 3_600);

/// Runs a test in simulated time. One that waits for what never comes fails at the limit, and does not hang.
#[cfg(test)]
pub(crate) fn in_time(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let limited = async { tokio::time::timeout(LIMIT, test).await };
    runtime.block_on(limited).expect("what the test waits for never comes");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::within;

    #[tokio::test(start_paused = true)]
    async fn an_endless_wait_is_one() {
        assert!(within(Duration::MAX, tokio::time::sleep(Duration::from_secs(2))).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_answers_is_late_and_what_does_is_not() {
        let time = Duration::from_secs(2);
        assert!(within(time, std::future::pending::<()>()).await.is_err());
        assert_eq!(within(time, std::future::ready(1)).await.unwrap(), 1);
        let slow = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            2
        };
        assert_eq!(within(time, slow).await.unwrap(), 2);
    }
}
