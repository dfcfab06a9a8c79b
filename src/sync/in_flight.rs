//! [`InFlight`]: work that runs once, and whose result all callers share.

use tokio::sync::watch;

/// Work in progress. All clones wait for the same result.
///
/// The work runs in a task of its own, which has the [`Finish`]. It continues if its callers stop waiting.
#[derive(Clone, Debug)]
pub(crate) struct InFlight<T>(watch::Receiver<Option<T>>);

/// Hands the result to the callers. If it is dropped without a result, their wait ends without one.
#[derive(Debug)]
pub(crate) struct Finish<T>(watch::Sender<Option<T>>);

impl<T> InFlight<T> {
    pub(crate) fn start() -> (Self, Finish<T>) {
        let (sender, receiver) = watch::channel(None);
        (Self(receiver), Finish(sender))
    }
}

impl<T: Clone> InFlight<T> {
    /// Returns whether the work still runs: it was not dropped.
    pub(super) fn is_running(&self) -> bool {
        self.0.has_changed().is_ok()
    }

    /// Waits for the result. Returns `None` if the work ended without one, for example since the runtime shut down.
    pub(crate) async fn result(mut self) -> Option<T> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

impl<T> Finish<T> {
    pub(crate) fn finish(&mut self, result: T) {
        self.0.send_replace(Some(result));
    }

    /// Returns whether the callers with this handle wait for this result.
    pub(crate) fn is_for(&self, in_flight: &InFlight<T>) -> bool {
        self.0.subscribe().same_channel(&in_flight.0)
    }
}

#[cfg(test)]
mod tests {
    use super::InFlight;

    #[tokio::test]
    async fn all_callers_get_the_result_even_after_the_work_has_ended() {
        let (in_flight, mut finish) = InFlight::start();
        let early = tokio::spawn(in_flight.clone().result());
        tokio::task::yield_now().await;
        finish.finish(7);
        drop(finish);
        assert_eq!((early.await.unwrap(), in_flight.result().await), (Some(7), Some(7)));
    }

    #[tokio::test]
    async fn the_wait_ends_without_a_result_if_the_work_is_dropped() {
        let (in_flight, finish) = InFlight::<()>::start();
        let waiting = tokio::spawn(in_flight.clone().result());
        tokio::task::yield_now().await;
        drop(finish);
        assert_eq!((waiting.await.unwrap(), in_flight.result().await), (None, None));
    }

    #[test]
    fn a_result_is_for_the_callers_of_its_own_work_only() {
        let ((one, finish_one), (other, _finish)) = (InFlight::<()>::start(), InFlight::<()>::start());
        assert!(finish_one.is_for(&one) && finish_one.is_for(&InFlight::clone(&one)) && !finish_one.is_for(&other));
    }
}
