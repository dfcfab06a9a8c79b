//! The queue of events. A full queue drops events and counts them, so that no response waits for a receiver.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tokio::sync::mpsc;

use super::{Event, Outcome};

/// The default capacity of the queue.
pub(super) const QUEUED: usize = 1_024;

const MAX_QUEUED: usize = 1_000_000;

/// Creates a queue of 1,024 events. Pass the sender to servers and layers, and receive the events in your own task.
#[must_use]
pub fn channel() -> (EventSender, EventReceiver) {
    channel_with_capacity(QUEUED)
}

/// Creates a queue with another capacity, from 1 to 1,000,000 events.
#[must_use]
pub fn channel_with_capacity(events: usize) -> (EventSender, EventReceiver) {
    let (sender, receiver) = mpsc::channel(events.clamp(1, MAX_QUEUED));
    let counts = Arc::<Counts>::default();
    (EventSender { sender, counts: counts.clone() }, EventReceiver { receiver, counts })
}

/// The events of a queue.
#[derive(Debug, Default)]
struct Counts {
    queued: AtomicU64,
    dropped: AtomicU64,
}

/// The sending half of a queue of events. A clone sends to the same queue.
#[derive(Clone, Debug)]
pub struct EventSender {
    sender: mpsc::Sender<Event>,
    counts: Arc<Counts>,
}

impl EventSender {
    /// Returns whether both send to the same queue.
    pub(crate) fn ptr_eq(&self, other: &Self) -> bool {
        self.sender.same_channel(&other.sender)
    }

    /// Returns whether the receiver was dropped.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Queues the event, or drops and counts it if the queue is full. Never waits.
    pub(crate) fn send(&self, event: Event) {
        let count = if self.sender.try_send(event).is_ok() { &self.counts.queued } else { &self.counts.dropped };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Queues an event that belongs to no request.
    pub(crate) fn report(&self, at: SystemTime, outcome: Outcome) {
        self.send(Event { at, outcome, client_id: None, extensions: http::Extensions::new() });
    }

    /// Returns the number of events that were queued.
    pub(super) fn sent(&self) -> u64 {
        self.counts.queued.load(Ordering::Relaxed)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }
}

/// The receiving half of a queue of events.
#[derive(Debug)]
pub struct EventReceiver {
    receiver: mpsc::Receiver<Event>,
    counts: Arc<Counts>,
}

impl EventReceiver {
    /// Waits for the next event. Returns `None` after all senders were dropped.
    pub async fn recv(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }

    /// Returns the next event, if there is one.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.receiver.try_recv().ok()
    }

    /// Returns the number of events that were dropped because the queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn blocking_recv(&mut self) -> Option<Event> {
        self.receiver.blocking_recv()
    }

    /// Returns whether all senders were dropped.
    pub(super) fn is_closed(&self) -> bool {
        self.receiver.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::{Event, channel_with_capacity};
    use crate::event::Outcome;

    fn event() -> Event {
        let outcome = Outcome::Admitted { token_id: "t".to_owned() };
        Event { at: SystemTime::UNIX_EPOCH, outcome, client_id: None, extensions: http::Extensions::new() }
    }

    #[test]
    fn a_full_queue_drops_and_counts_events_and_never_waits() {
        let (sender, mut receiver) = channel_with_capacity(2);
        (0..5).for_each(|_| sender.send(event()));
        assert_eq!(receiver.dropped(), 3);
        assert!(receiver.try_recv().is_some() && receiver.try_recv().is_some());
        assert!(receiver.try_recv().is_none());
    }
}
