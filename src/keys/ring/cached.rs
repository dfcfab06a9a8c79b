//! [`Cached`]: the keys that a thread read last, so that reading them again writes nothing that threads share.

use std::cell::Cell;
use std::ops::Deref;
use std::sync::Arc;

use super::snapshot::KeySnapshot;

/// The keys of one ring, of one of its versions.
struct Entry {
    ring: u64,
    version: u64,
    keys: Arc<KeySnapshot>,
}

thread_local! {
    /// One entry, so that a thread keeps the keys of at most one ring in memory. Keys that the ring does not have any more stay
    /// there until the thread reads a ring again; the key that signs now is in the same memory.
    static LAST: Cell<Option<Entry>> = const { Cell::new(None) };
}

/// The current keys of a ring. When it is dropped, its thread remembers them.
pub(crate) struct Cached(Option<Entry>);

impl Cached {
    /// Returns the keys of this version of a ring: those that the thread remembers, or those that `load` returns.
    #[inline]
    pub(super) fn get(ring: u64, version: u64, load: impl FnOnce() -> Arc<KeySnapshot>) -> Self {
        match LAST.try_with(Cell::take) {
            Ok(Some(entry)) if entry.ring == ring && entry.version == version => Self(Some(entry)),
            _ => Self(Some(Entry { ring, version, keys: load() })),
        }
    }
}

impl Deref for Cached {
    type Target = KeySnapshot;

    #[inline]
    #[expect(clippy::expect_used, reason = "the entry is taken only when this value is dropped")]
    fn deref(&self) -> &KeySnapshot {
        &self.0.as_ref().expect("the keys were taken, although they are in use").keys
    }
}

impl Drop for Cached {
    #[inline]
    fn drop(&mut self) {
        let entry = self.0.take();
        // A thread that ends remembers nothing.
        let _ = LAST.try_with(|last| last.set(entry));
    }
}
