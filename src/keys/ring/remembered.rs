//! [`SigningKeyAt`]: the key that signs, which each thread remembers, so that reading it writes nothing that threads share.
//!
//! An atomic write costs more than the rest of the reading. So a thread keeps the key with which it signed last, and compares two
//! numbers. It keeps one key, of one ring: no other key, no key set, and nothing for the steps that do not sign.
//!
//! An idle thread keeps this key after the key has left the ring, until it reads the ring again, signs with another one, or ends. Another
//! thread cannot take it away without an atomic write for each token. This is acceptable:
//!
//! - No thread signs with it, since the numbers are compared first.
//! - Someone who can read the memory of the process finds the key that signs now as well. That key is accepted for longer.
//! - A retired key matters only until its last token expires, and a distrusted one is not accepted any more.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use super::lease::Lease;
use super::snapshot::KeySnapshot;
use crate::keys::SigningKey;

/// The key with which a thread signed last.
pub(crate) struct Remembered {
    ring: u64,
    version: u64,
    key: Arc<SigningKey>,
    lease: Option<RememberedLease>,
}

/// The end of a lease, in a form that is compared without a conversion.
struct RememberedLease {
    lease: Arc<Lease>,
    end_in_millis: u64,
    end: SystemTime,
}

thread_local! {
    static LAST: RefCell<Option<Rc<Remembered>>> = const { RefCell::new(None) };
}

/// The key that signs, for one step that does not wait.
pub(crate) enum SigningKeyAt<'a> {
    Fixed(&'a Arc<SigningKey>),
    Remembered(Rc<Remembered>),
}

impl Remembered {
    /// Returns the key of this version of a ring, if the thread signed with it last and may sign with it at this time.
    #[inline]
    pub(super) fn find(ring: u64, version: u64, now: SystemTime) -> Option<Rc<Self>> {
        LAST.try_with(|last| {
            let last = last.try_borrow().ok()?;
            last.as_ref().filter(|last| last.is_of(ring, version) && last.is_usable_at(now)).cloned()
        })
        .ok()
        .flatten()
    }

    /// Remembers the key that signs in a snapshot.
    pub(super) fn new(ring: u64, version: u64, key: &Arc<SigningKey>, keys: &KeySnapshot) -> Rc<Self> {
        let lease = keys.lease().map(|lease| {
            let (end_in_millis, end) = lease.end();
            RememberedLease { lease: lease.clone(), end_in_millis, end }
        });
        let now = Rc::new(Self { ring, version, key: key.clone(), lease });
        replace(Some(now.clone()));
        now
    }

    /// Forgets the key with which the thread signed last, if it is of another version of this ring.
    #[inline]
    pub(super) fn forget_other_versions(ring: u64, version: u64) {
        let is_other = |last: &Rc<Self>| last.ring == ring && last.version != version;
        if LAST.try_with(|last| last.try_borrow().is_ok_and(|last| last.as_ref().is_some_and(is_other))) == Ok(true) {
            replace(None);
        }
    }

    #[inline]
    fn is_of(&self, ring: u64, version: u64) -> bool {
        self.version == version && self.ring == ring
    }

    /// A lease that was renewed in the meantime is read again.
    #[inline]
    fn is_usable_at(&self, now: SystemTime) -> bool {
        self.lease.as_ref().is_none_or(|known| now < known.end && known.lease.end_in_millis() == known.end_in_millis)
    }
}

#[cold]
fn replace(by: Option<Rc<Remembered>>) {
    // The former key is dropped after the borrow, and a thread that ends remembers nothing.
    drop(LAST.try_with(|last| last.try_borrow_mut().ok().and_then(|mut last| std::mem::replace(&mut *last, by))));
}

impl Deref for SigningKeyAt<'_> {
    type Target = Arc<SigningKey>;

    #[inline]
    fn deref(&self) -> &Arc<SigningKey> {
        match self {
            Self::Fixed(key) => key,
            Self::Remembered(last) => &last.key,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Weak, mpsc};
    use std::time::{Duration, SystemTime};

    use super::Lease;
    use crate::clock::{Clock as _, ManualClock};
    use crate::keys::{Algorithm, KeyRing, KeySnapshot, SharedKeys, SigningKey};

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn key() -> Arc<SigningKey> {
        Arc::new(SigningKey::generate(Algorithm::EdDSA).unwrap())
    }

    fn keys(signing: Arc<SigningKey>, lease: Option<Arc<Lease>>) -> KeySnapshot {
        let (trusted, max_age) = (vec![signing.verifying_key()], Duration::ZERO);
        let (next_algorithms, distrusted) = (Vec::new(), Vec::new());
        KeySnapshot::shared(SharedKeys { signing: Ok(signing), trusted, next_algorithms, distrusted, max_age, lease })
    }

    fn ring(signing: Arc<SigningKey>) -> KeyRing {
        KeyRing::limited(keys(signing, None), None)
    }

    fn signs(ring: &KeyRing) -> String {
        ring.signing_key_at(NOW).unwrap().key_id().to_owned()
    }

    #[test]
    fn every_thread_sees_a_change_at_its_next_token_and_no_ring_signs_with_the_key_of_another() {
        let rings = [ring(key()), ring(key())];
        // The first ring is read before and after the other one, so that the thread remembers its key when it changes.
        let signing = || {
            let (first, other) = (signs(&rings[0]), signs(&rings[1]));
            assert_eq!(signs(&rings[0]), first);
            [first, other]
        };
        let first = signing();
        assert_ne!(first[0], first[1]);
        let (ask, asked) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || asked.iter().for_each(|()| tell.send(signing()).unwrap()));
            let in_another_thread = || {
                ask.send(()).unwrap();
                told.recv().unwrap()
            };
            assert_eq!(in_another_thread(), first);
            for _ in 0..3 {
                let before = signing();
                rings[0].replace(keys(key(), None));
                let now = signing();
                assert!(now[0] != before[0] && now[1] == before[1]);
                assert_eq!(in_another_thread(), now);
                rings[0].replace(rings[0].snapshot().cut_off());
                assert!(rings[0].signing_key_at(NOW).is_err());
                rings[0].replace(keys(key(), None));
            }
            drop(ask);
        });
    }

    #[test]
    fn a_key_that_is_in_use_stays_what_it_was_whatever_its_thread_reads_in_the_meantime() {
        let rings = [ring(key()), ring(key())];
        let [first, other] = rings.each_ref().map(signs);
        let in_use = rings[0].signing_key_at(NOW).unwrap();
        let same = rings[0].signing_key_at(NOW).unwrap();
        assert_eq!(signs(&rings[1]), other);
        rings[0].replace(keys(key(), None));
        let second = signs(&rings[0]);
        assert!(in_use.key_id() == first && same.key_id() == first && second != first);
        drop((in_use, same));
        assert_eq!(signs(&rings[0]), second);
        assert_eq!(signs(&rings[1]), other);
    }

    /// Creates a ring and a handle by which it is seen whether its first key is still in memory.
    fn observed() -> (KeyRing, Weak<SigningKey>) {
        let signing = key();
        let in_memory = Arc::downgrade(&signing);
        (ring(signing), in_memory)
    }

    #[test]
    fn a_thread_keeps_one_key_and_forgets_it_when_it_reads_the_changed_ring_for_any_step() {
        let (first, first_key) = observed();
        let (other, other_key) = observed();
        signs(&first);
        signs(&other);
        first.replace(keys(key(), None));
        assert_eq!(first_key.strong_count(), 0, "the thread signed with another key since");
        other.replace(keys(key(), None));
        assert_eq!(other_key.strong_count(), 1, "an idle thread keeps the key with which it signed last");
        signs(&other);
        assert_eq!(other_key.strong_count(), 0);

        let (third, third_key) = observed();
        signs(&third);
        third.replace(keys(key(), None));
        assert!(first.current().signing_key().is_ok() && third_key.strong_count() == 1, "another ring did not change");
        assert!(third.current().signing_key().is_ok() && third_key.strong_count() == 0);
    }

    #[test]
    fn a_step_that_does_not_sign_leaves_no_key_in_its_thread() {
        let (ring, key_in_memory) = observed();
        std::thread::scope(|scope| scope.spawn(|| assert!(ring.current().signing_key().is_ok())).join().unwrap());
        let before = ring.current();
        assert_eq!(before.signing_key().unwrap().key_id(), ring.key_ids().next().unwrap());
        drop(before);
        ring.replace(keys(key(), None));
        assert_eq!(key_in_memory.strong_count(), 0);
    }

    #[test]
    fn a_thread_that_ends_and_one_that_signs_with_another_ring_keep_nothing_of_a_dropped_ring() {
        let (ring, in_memory) = observed();
        std::thread::scope(|scope| scope.spawn(|| signs(&ring)).join().unwrap());
        drop(ring);
        assert_eq!(in_memory.strong_count(), 0);
        let (ring, in_memory) = observed();
        signs(&ring);
        drop(ring);
        assert_eq!(in_memory.strong_count(), 1, "its key is kept, like that of a ring that changed");
        signs(&observed().0);
        assert_eq!(in_memory.strong_count(), 0);
    }

    #[test]
    fn a_remembered_key_signs_until_the_lease_ends_by_the_clock_and_again_after_a_renewal() {
        let second = Duration::from_secs(1);
        let clock = ManualClock::at(NOW + 1_000 * second);
        let lease = Arc::new(Lease::new(Arc::new(clock.clone()), 20 * second));
        let ring = KeyRing::limited(keys(key(), Some(lease.clone())), None);
        let signs = || ring.signing_key_at(clock.now()).is_ok();
        assert!(!signs(), "the lease was never renewed");
        for _ in 0..2 {
            lease.renewed(lease.now());
            assert!(signs());
            clock.advance(Duration::from_millis(19_999));
            assert!(signs());
            clock.advance(Duration::from_millis(1));
            assert!(!signs());
        }
        // The clock was set back, and the lease was renewed afterwards: the earlier end counts.
        lease.renewed(lease.now());
        assert!(signs());
        clock.set(NOW + 500 * second);
        lease.renewed(lease.now());
        clock.advance(20 * second);
        assert!(!signs());
    }
}
