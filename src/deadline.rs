//! Timeouts for external parts.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// The maximum timeout, also for a setting of [`Duration::MAX`]: about 24 days. Postgres and SQLite count timeouts in
/// milliseconds with 31 bits, and the connection pools add them to the current time without a check.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_millis(i32::MAX as u64);

/// The part did not answer within the timeout.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
pub(crate) struct Late(Duration);

/// Waits for a future, but no longer than `time`. A future that is ready immediately costs no timer, and needs no runtime.
pub(crate) async fn within<F: Future>(time: Duration, future: F) -> Result<F::Output, Late> {
    let mut future = pin!(future);
    if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
        return Ok(output);
    }
    // Boxed, so that the timer does not enlarge every future that may wait.
    Box::pin(tokio::time::timeout(time, future)).await.map_err(|_| Late(time))
}

/// The maximum simulated time of a test.
#[cfg(test)]
const LIMIT: Duration = Duration::from_secs(20 * 24 * 3_600);

/// Runs a test in simulated time. A test that waits forever fails at the limit instead of hanging.
#[cfg(test)]
pub(crate) fn in_time(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let limited = async { tokio::time::timeout(LIMIT, test).await };
    runtime.block_on(limited).expect("the test waits for something that never happens");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::within;

    #[tokio::test(start_paused = true)]
    async fn the_maximum_duration_never_times_out() {
        assert!(within(Duration::MAX, tokio::time::sleep(Duration::from_secs(2))).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_part_that_does_not_answer_in_time_is_late() {
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
