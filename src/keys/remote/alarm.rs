//! [`woken`]: wakes the task that refreshes a key set.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tokio::sync::watch;

/// What woke the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    Finished,
    Changed,
    /// The keys were dropped.
    Dropped,
}

/// Waits for the next finished fetch, or for a change at the source, if that tells of changes.
pub(super) async fn woken(finished: &mut watch::Receiver<u64>, source: &mut Option<watch::Receiver<()>>) -> Woken {
    let mut changed = pin!(async {
        // A source that was dropped never changes.
        if let Some(source) = source
            && source.changed().await.is_ok()
        {
            return;
        }
        pending::<()>().await;
    });
    let mut finished = pin!(finished.changed());
    poll_fn(|cx| match finished.as_mut().poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Woken::Finished),
        Poll::Ready(Err(_)) => Poll::Ready(Woken::Dropped),
        Poll::Pending => changed.as_mut().poll(cx).map(|()| Woken::Changed),
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::{Woken, woken};

    #[tokio::test]
    async fn a_finished_fetch_and_a_change_wake_the_task_and_a_dropped_source_does_not() {
        let (finished, changes) = (watch::Sender::new(0), watch::Sender::new(()));
        let (mut receiver, mut source) = (finished.subscribe(), Some(changes.subscribe()));
        changes.send_replace(());
        assert_eq!(woken(&mut receiver, &mut source).await, Woken::Changed);
        drop(changes);
        finished.send_replace(1);
        assert_eq!(woken(&mut receiver, &mut source).await, Woken::Finished);
        drop(finished);
        assert_eq!(woken(&mut receiver, &mut source).await, Woken::Dropped);
    }
}
