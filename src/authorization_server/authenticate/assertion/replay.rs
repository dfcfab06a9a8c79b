//! [`Replays`]: records each assertion once, within the share of its client.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::authorization_server::error::{Fault, TokenError};
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::deadline;
use crate::store::{Replay, ReplayBounds, ReplayId, ReplayLog};

/// The maximum number of recorded assertions of one client that have not expired. Beyond it, the client gets 503.
const MAX_OF_CLIENT: u32 = 50_000;

/// The maximum number of recorded assertions that have not expired.
const MAX_ENTRIES: u32 = 1_000_000;

const LOG_IS_FULL: &str = "1,000,000 assertions are recorded that have not expired; use assertions with a shorter lifetime, or \
                           tokens with a longer one";

const CLIENT_IS_FULL: &str = "the client has 50,000 recorded assertions that have not expired; it should request a token less \
                              often, or sign assertions with a shorter lifetime";

/// How often the counts of all clients are brought up to date.
const SWEEP: Duration = Duration::from_secs(60);

/// The same while the log is full. Entries expire in whole seconds.
const SWEEP_OF_FULL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Replays {
    log: Arc<dyn ReplayLog>,
    timeout: Duration,
    shares: Mutex<Shares>,
}

impl Replays {
    pub(super) fn new(log: Arc<dyn ReplayLog>, timeout: Duration) -> Self {
        Self { log, timeout, shares: Mutex::default() }
    }

    /// Records the use of a credential of this client until a time. Returns whether it is the first use.
    pub(super) async fn record(
        &self,
        client: &ClientId,
        id: &ReplayId,
        until: UnixTime,
        now: UnixTime,
    ) -> Result<bool, TokenError> {
        // Taken before the call, so that concurrent calls cannot exceed the share together.
        self.shares().take(client, until, now).map_err(|full| TokenError::new(Fault::UNAVAILABLE).detailed(full))?;
        let bounds = ReplayBounds::new(client.as_str(), MAX_OF_CLIENT, MAX_ENTRIES);
        let asked = self.log.check_and_insert_within(id, bounds, until.to_system(), now.to_system());
        // The place is given back only if nothing was recorded for certain. A call that fails, is late or is dropped may have
        // recorded the assertion, so a client that hangs up does not exceed its share.
        let recorded = deadline::within(self.timeout, asked).await.map_err(TokenError::unavailable)?;
        match recorded.map_err(TokenError::unavailable)? {
            Replay::Fresh => Ok(true),
            Replay::Seen => {
                self.shares().give_back(client, until);
                Ok(false)
            }
            full @ (Replay::OwnerFull | Replay::Full) => {
                self.shares().give_back(client, until);
                let text = if full == Replay::OwnerFull { CLIENT_IS_FULL } else { LOG_IS_FULL };
                Err(TokenError::new(Fault::UNAVAILABLE).detailed(text))
            }
        }
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of assertions of each client that this process recorded or may have recorded, by the second of their expiry. A store
/// that replicas share also counts for all of them.
#[derive(Debug, Default)]
struct Shares {
    clients: HashMap<ClientId, Share>,
    total: u32,
    swept_at: Option<UnixTime>,
}

#[derive(Debug, Default)]
struct Share {
    count: u32,
    by_expiry: BTreeMap<UnixTime, u32>,
}

impl Share {
    /// Removes what has expired, and returns how many that were.
    fn expire(&mut self, now: UnixTime) -> u32 {
        let mut expired = 0_u32;
        while let Some(first) = self.by_expiry.first_entry().filter(|first| *first.key() <= now) {
            expired = expired.saturating_add(first.remove());
        }
        self.count = self.count.saturating_sub(expired);
        expired
    }
}

impl Shares {
    fn take(&mut self, client: &ClientId, until: UnixTime, now: UnixTime) -> Result<(), &'static str> {
        self.sweep(now, SWEEP);
        if self.total >= MAX_ENTRIES {
            self.sweep(now, SWEEP_OF_FULL);
        }
        if self.total >= MAX_ENTRIES {
            return Err(LOG_IS_FULL);
        }
        if !self.clients.contains_key(client) {
            self.clients.insert(client.clone(), Share::default());
        }
        let Some(share) = self.clients.get_mut(client) else { return Ok(()) };
        self.total = self.total.saturating_sub(share.expire(now));
        if share.count >= MAX_OF_CLIENT {
            return Err(CLIENT_IS_FULL);
        }
        share.count += 1;
        self.total += 1;
        *share.by_expiry.entry(until).or_default() += 1;
        Ok(())
    }

    fn give_back(&mut self, client: &ClientId, until: UnixTime) {
        let Some(share) = self.clients.get_mut(client) else { return };
        if let Some(count) = share.by_expiry.get_mut(&until).filter(|count| **count > 0) {
            *count -= 1;
            share.count = share.count.saturating_sub(1);
            self.total = self.total.saturating_sub(1);
        }
    }

    /// Removes what has expired, and clients without recorded assertions, once in each `period`, and after the clock was set back.
    fn sweep(&mut self, now: UnixTime, period: Duration) {
        if self.swept_at.is_some_and(|at| at <= now && now < at.after(period)) {
            return;
        }
        self.swept_at = Some(now);
        let mut total = 0_u32;
        self.clients.retain(|_, share| {
            share.expire(now);
            total = total.saturating_add(share.count);
            share.count > 0
        });
        self.total = total;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll, Waker};
    use std::time::{Duration, SystemTime};

    use super::{MAX_ENTRIES, MAX_OF_CLIENT, Replays, Shares};
    use crate::client_id::ClientId;
    use crate::clock::UnixTime;
    use crate::store::{MemoryStore, Replay, ReplayId, ReplayLog, StoreError, StoreFuture};

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(seconds).unwrap()
    }

    fn client(id: &str) -> ClientId {
        id.parse().unwrap()
    }

    #[test]
    fn a_client_beyond_its_share_is_refused_until_its_entries_expire_and_others_are_not() {
        let mut shares = Shares::default();
        let (one, other) = (client("one"), client("other"));
        for number in 0..MAX_OF_CLIENT {
            shares.take(&one, at(100 + u64::from(number % 3)), at(0)).unwrap();
        }
        for now in [0, 99] {
            assert!(shares.take(&one, at(200), at(now)).unwrap_err().contains("50,000"));
            shares.take(&other, at(300), at(now)).unwrap();
        }
        shares.take(&one, at(200), at(100)).unwrap();
        assert_eq!(shares.clients.get(&one).unwrap().by_expiry.len(), 3);
    }

    #[test]
    fn a_place_that_is_given_back_can_be_taken_again_but_not_twice() {
        let mut shares = Shares::default();
        let one = client("one");
        shares.take(&one, at(100), at(0)).unwrap();
        shares.give_back(&one, at(100));
        shares.give_back(&one, at(100));
        shares.give_back(&one, at(101));
        shares.give_back(&client("other"), at(100));
        assert_eq!((shares.total, shares.clients.get(&one).unwrap().count), (0, 0));
        shares.take(&one, at(100), at(0)).unwrap();
        assert_eq!(shares.total, 1);
    }

    #[test]
    fn the_number_of_all_entries_is_bounded_and_clients_without_entries_are_forgotten() {
        let mut shares = Shares::default();
        for number in 0..MAX_ENTRIES / MAX_OF_CLIENT {
            let id = client(&number.to_string());
            (0..MAX_OF_CLIENT).for_each(|_| shares.take(&id, at(100), at(0)).unwrap());
        }
        assert!(shares.take(&client("next"), at(100), at(59)).unwrap_err().contains("1,000,000"));
        shares.take(&client("next"), at(200), at(100)).unwrap();
        assert_eq!((shares.total, shares.clients.len()), (1, 1));
        shares.take(&client("next"), at(200), at(0)).unwrap();
        assert_eq!(shares.total, 2, "also after the clock was set back");
    }

    #[test]
    fn a_full_log_accepts_entries_again_in_the_second_in_which_some_expire() {
        let mut shares = Shares::default();
        for number in 0..MAX_ENTRIES / MAX_OF_CLIENT {
            let id = client(&number.to_string());
            let until = if number == 0 { 31 } else { 30 };
            (0..MAX_OF_CLIENT).for_each(|_| shares.take(&id, at(until), at(0)).unwrap());
        }
        let next = client("next");
        assert!(shares.take(&next, at(200), at(29)).unwrap_err().contains("1,000,000"));
        shares.take(&next, at(200), at(30)).unwrap();
        assert_eq!((shares.total, shares.clients.len()), (MAX_OF_CLIENT + 1, 2));
    }

    #[tokio::test]
    async fn a_client_that_has_used_its_share_gets_503_and_another_client_is_served() {
        let log = Arc::new(MemoryStore::default());
        let replays = Replays { log, timeout: Duration::from_secs(2), shares: Mutex::default() };
        let (one, other) = (client("one"), client("other"));
        for _ in 0..MAX_OF_CLIENT {
            replays.shares.lock().unwrap().take(&one, at(100), at(0)).unwrap();
        }
        let id = ReplayId::new("one", "a");
        let error = replays.record(&one, &id, at(100), at(0)).await.unwrap_err();
        assert_eq!(error.status().as_u16(), 503);
        assert!(error.to_string().contains("50,000"), "{error}");
        assert!(replays.record(&other, &ReplayId::new("other", "a"), at(100), at(0)).await.unwrap());
        assert!(replays.record(&one, &id, at(200), at(100)).await.unwrap(), "its entries have expired");
    }

    #[derive(Debug)]
    struct Down;

    impl ReplayLog for Down {
        fn check_and_insert<'a>(&'a self, _: &'a ReplayId, _: SystemTime, _: SystemTime) -> StoreFuture<'a, Replay> {
            StoreFuture::new(async move { Err(StoreError::new("down")) })
        }
    }

    /// A log that never answers.
    #[derive(Debug)]
    struct Silent;

    impl ReplayLog for Silent {
        fn check_and_insert<'a>(&'a self, _: &'a ReplayId, _: SystemTime, _: SystemTime) -> StoreFuture<'a, Replay> {
            StoreFuture::new(async move { std::future::pending().await })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_assertion_that_may_be_recorded_keeps_its_place_and_a_log_that_does_not_answer_is_an_error() {
        let of = |log: Arc<dyn ReplayLog>| Replays { log, timeout: Duration::from_secs(2), shares: Mutex::default() };
        let total = |replays: &Replays| replays.shares.lock().unwrap().total;
        let (one, id) = (client("one"), ReplayId::new("one", "a"));
        let replays = of(Arc::new(MemoryStore::default()));
        for is_first in [true, false, false] {
            assert_eq!(replays.record(&one, &id, at(100), at(0)).await.unwrap(), is_first);
            assert_eq!(total(&replays), 1);
        }
        for replays in [of(Arc::new(Down)), of(Arc::new(Silent))] {
            let error = replays.record(&one, &id, at(100), at(0)).await.unwrap_err();
            assert_eq!(error.status().as_u16(), 503);
            assert_eq!(total(&replays), 1);
            replays.shares.lock().unwrap().take(&one, at(200), at(100)).unwrap();
            assert_eq!(total(&replays), 1, "its place has expired");
        }
    }

    /// A log that records, and does not answer.
    #[derive(Debug, Default)]
    struct Mute(MemoryStore);

    impl ReplayLog for Mute {
        fn check_and_insert<'a>(
            &'a self,
            id: &'a ReplayId,
            end: SystemTime,
            now: SystemTime,
        ) -> StoreFuture<'a, Replay> {
            StoreFuture::new(async move {
                assert_eq!(self.0.check_and_insert(id, end, now).await?, Replay::Fresh);
                std::future::pending().await
            })
        }
    }

    #[test]
    fn a_client_that_hangs_up_does_not_exceed_its_share() {
        let log = Arc::new(Mute::default());
        let replays = Replays { log, timeout: Duration::from_secs(2), shares: Mutex::default() };
        let one = client("one");
        // Each call is dropped after its first poll.
        let dropped = |number: u32| {
            let id = ReplayId::new("one", &number.to_string());
            let record = replays.record(&one, &id, at(100), at(0));
            std::pin::pin!(record).poll(&mut Context::from_waker(Waker::noop())).map(Result::unwrap_err)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _runtime = runtime.enter();
        for number in 0..MAX_OF_CLIENT {
            assert!(dropped(number).is_pending());
        }
        let Poll::Ready(error) = dropped(MAX_OF_CLIENT) else { panic!("the share is exceeded") };
        assert!(error.to_string().contains("50,000"), "{error}");
    }
}
