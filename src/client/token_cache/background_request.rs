//! The request for a token that runs in a task of its own, for all callers that wait for the token.

use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use tokio::sync::watch;
use tracing::Span;

use super::super::concurrency::Runtime;
use super::super::issuer_client::Effort;
use super::super::token_error::{TokenSourceError, TokenSourceErrorKind};
use super::Outcome;
use super::entry::Entry;
use crate::clock::Moment;

/// A request for a token that is noted in the state but not started yet. It is started after the lock on the state is released:
/// a runtime that shuts down drops a new task at once, and [`PendingRequest`] takes the lock when it is dropped.
pub(super) struct PlannedRequest {
    pub(super) runtime: Runtime,
    /// The span of the call that causes it.
    pub(super) cause: Span,
    pub(super) pending: PendingRequest,
}

impl PlannedRequest {
    /// Starts the request in a task of its own, so that it does not end with the caller that caused it.
    pub(super) fn start(self) {
        let Self { runtime, cause, pending } = self;
        runtime.spawn(async move {
            let obtained = pending.entry.client.obtain(&pending.entry.query, &cause).await;
            let outcome = obtained.and_then(|obtained| pending.entry.accept(obtained));
            pending.finish(outcome);
        });
    }
}

/// A request for a token in flight. It is removed from the state in any case, also if its task panics or is dropped.
pub(super) struct PendingRequest {
    pub(super) entry: Arc<Entry>,
    pub(super) number: u64,
    pub(super) started: Moment,
    pub(super) sender: watch::Sender<Option<Outcome>>,
}

impl PendingRequest {
    fn finish(&self, outcome: Outcome) {
        let entry = &self.entry;
        let now = entry.client.now();
        let mut state = entry.state();
        // A request that was given up changes nothing: another one has taken its place.
        if state.flight.take_if(|flight| flight.number() == self.number).is_none() {
            return;
        }
        let outcome = match outcome {
            // Under the same lock as the change below, so that no refusal comes between the two.
            Ok(token) if !state.refused.forgive(&token) => Err(entry.refused_before()),
            outcome => outcome,
        };
        let report = outcome.clone();
        let outcome = match outcome {
            Ok(token) => {
                if state.current.is_some() {
                    state.attempts.token_was_used_up();
                }
                state.attempts.succeeded();
                // A token that cannot be reused ends the use of the one before: the issuer has changed what it gives.
                state.current = Some(token.clone());
                entry.ready.set(Some(&token).filter(|token| token.is_fresh(now)));
                Ok(token)
            }
            Err(error) => {
                let error = state.attempts.failed(error, now, entry.client.random_fraction());
                state
                    .restore_dropped(now)
                    .inspect(|token| entry.ready.set(Some(token).filter(|token| token.is_fresh(now))))
                    .ok_or(error)
            }
        };
        let is_granted = outcome.is_ok() || state.reusable(now).is_some();
        entry.is_granted.store(is_granted, Ordering::Release);
        let narrower = if is_granted { mem::take(&mut state.narrower) } else { Vec::new() };
        drop(state);
        narrower.iter().filter_map(Weak::upgrade).for_each(|narrower| entry.take_over_from(&narrower));
        // The flight that new callers found is gone, so each receiver is that of a waiting call.
        let effort = Effort { duration: now.since(self.started), waiting: self.sender.receiver_count() };
        entry.client.report(&entry.query, &report, effort);
        entry.changes.send_replace(());
        self.sender.send_replace(Some(outcome));
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        let is_pending = self.sender.borrow().is_none();
        if is_pending {
            let message = "the task that requested a token was ended: it panicked, or its runtime was shut down";
            self.finish(Err(TokenSourceError::of(TokenSourceErrorKind::Internal, message)));
        }
    }
}
