//! [`Lease`]: until when a replica may sign without hearing from the key store.

use std::fmt;
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Moment};

/// The time at which the lease was last renewed, by two clocks. A machine that was suspended finds it too old when it wakes up.
pub(crate) struct Lease {
    clock: Arc<dyn Clock>,
    usable: Duration,
    renewed: Mutex<Option<Moment>>,
}

impl Lease {
    /// Creates a lease that is over until it is renewed, and may be used for `usable` after each renewal.
    pub(crate) fn new(clock: Arc<dyn Clock>, usable: Duration) -> Self {
        Self { clock, usable, renewed: Mutex::new(None) }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment::now(&*self.clock)
    }

    /// Records a renewal that was requested at this time.
    pub(crate) fn renewed(&self, requested_at: Moment) {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = Some(requested_at);
    }

    /// Returns the time since the last renewal was requested.
    pub(crate) fn age(&self) -> Option<Duration> {
        let renewed = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        renewed.map(|renewed| self.now().since(renewed))
    }

    /// Returns whether this process may still sign.
    pub(crate) fn is_usable(&self) -> bool {
        self.age().is_some_and(|age| age < self.usable)
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("usable", &self.usable).field("age", &self.age()).finish_non_exhaustive()
    }
}
