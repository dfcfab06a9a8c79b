//! [`FetchPlaces`]: limits how many fetches are in flight, so that hosts that do not answer cannot take all places.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::sync::BoundedMap;

/// The maximum number of fetches at once, and of those from one host.
const MAX_FETCHES: usize = 32;
const MAX_FETCHES_PER_HOST: usize = 4;

/// The maximum number of fetches at once from hosts whose last fetch did not succeed. The other places stay free for hosts that
/// answer, also if many clients have the URL of a dead host.
const MAX_UNPROVEN: usize = 24;

/// The number of hosts whose last fetch is remembered.
const MAX_HOSTS: usize = 10_000;

pub(super) struct FetchPlaces {
    all: Semaphore,
    unproven: Semaphore,
    hosts: Mutex<HashMap<String, Arc<Semaphore>>>,
    /// The hosts whose last fetch succeeded.
    proven: Mutex<BoundedMap<String, ()>>,
}

/// A place, which ends with the fetch. A fetch that is dropped has not succeeded.
pub(super) struct FetchPlace<'a> {
    places: &'a FetchPlaces,
    host: &'a str,
    succeeded: bool,
    _of_host: OwnedSemaphorePermit,
    _unproven: Option<SemaphorePermit<'a>>,
    _of_all: SemaphorePermit<'a>,
}

impl Default for FetchPlaces {
    fn default() -> Self {
        Self {
            all: Semaphore::new(MAX_FETCHES),
            unproven: Semaphore::new(MAX_UNPROVEN),
            hosts: Mutex::default(),
            proven: Mutex::new(BoundedMap::new(MAX_HOSTS)),
        }
    }
}

impl FetchPlaces {
    /// Waits for a place for a fetch from this host.
    pub(super) async fn enter<'a>(&'a self, host: &'a str) -> Result<FetchPlace<'a>, AcquireError> {
        let of_host = self.host(host).acquire_owned().await?;
        let unproven = if self.is_proven(host) { None } else { Some(self.unproven.acquire().await?) };
        let of_all = self.all.acquire().await?;
        Ok(FetchPlace { places: self, host, succeeded: false, _of_host: of_host, _unproven: unproven, _of_all: of_all })
    }

    fn is_proven(&self, host: &str) -> bool {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner).get(&host.to_owned()).is_some()
    }

    fn host(&self, host: &str) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        // Only hosts with a fetch in flight are kept.
        hosts.retain(|_, places| Arc::strong_count(places) > 1);
        let places = hosts.entry(host.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(MAX_FETCHES_PER_HOST)));
        places.clone()
    }
}

impl FetchPlace<'_> {
    /// Ends the fetch, which had an answer.
    pub(super) fn succeed(mut self) {
        self.succeeded = true;
    }
}

impl Drop for FetchPlace<'_> {
    fn drop(&mut self) {
        let mut proven = self.places.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if self.succeeded {
            proven.insert(self.host.to_owned(), ());
        } else {
            proven.remove(&self.host.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, timeout};

    use super::{FetchPlaces, MAX_FETCHES, MAX_FETCHES_PER_HOST, MAX_UNPROVEN};

    /// Returns whether there is a place. The time is simulated, and passes only while nothing else can happen.
    async fn has_place(places: &FetchPlaces, host: &str) -> bool {
        timeout(Duration::from_secs(1), places.enter(host)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_that_do_not_answer_leave_places_for_those_that_do() {
        let places = FetchPlaces::default();
        places.enter("good").await.unwrap().succeed();
        let dead: Vec<String> = (0..100).map(|number| format!("dead-{number}")).collect();
        let mut held = Vec::new();
        for host in &dead {
            if let Ok(place) = timeout(Duration::from_secs(1), places.enter(host)).await {
                held.push(place.unwrap());
            }
        }
        assert_eq!(held.len(), MAX_UNPROVEN);
        assert!(has_place(&places, "good").await);
        // That fetch was dropped, so the host is proven no more.
        assert!(!has_place(&places, "good").await);
        held.clear();
        places.enter("good").await.unwrap().succeed();
        assert!(has_place(&places, "dead-0").await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_places_in_all_and_of_one_host_are_bounded() {
        let places = FetchPlaces::default();
        let hosts: Vec<String> = (0..MAX_FETCHES).map(|number| format!("good-{number}")).collect();
        for host in &hosts {
            places.enter(host).await.unwrap().succeed();
        }
        let mut held = Vec::new();
        for _ in 0..MAX_FETCHES_PER_HOST {
            held.push(places.enter(&hosts[0]).await.unwrap());
        }
        assert!(!has_place(&places, &hosts[0]).await);
        for host in &hosts[MAX_FETCHES_PER_HOST..] {
            held.push(places.enter(host).await.unwrap());
        }
        assert_eq!(held.len(), MAX_FETCHES);
        assert!(!has_place(&places, &hosts[1]).await && !has_place(&places, "other").await);
        held.clear();
        assert!(has_place(&places, &hosts[0]).await);
    }
}
