//! The record of the clients that still send the URL of the token endpoint as `aud`.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use tower_client_credentials::authorization_server::ClientAssertions;
use tower_client_credentials::clock::ManualClock;
use tower_client_credentials::event;
use tower_client_credentials::registration::RegisteredClient;
use tower_client_credentials::store::{
    AdminError, ChangeFeed, Changes, ClientAdmin, ClientChange, Cursor, Revision, StoreError, StoreFuture,
};
use tower_client_credentials::{Client, ClientId, ClientStore, MemoryStore};

use crate::common::forge::Draft;
use crate::common::{API, ISSUER, NOW, at, clock, settings};
use crate::world::{Sign as _, World, asks, ec_keys, good};

/// A store that counts the writes, and may fail.
#[derive(Clone, Debug)]
struct Counted {
    store: MemoryStore,
    writes: Arc<AtomicUsize>,
    fails: bool,
}

impl ClientStore for Counted {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        self.store.find(id)
    }
}

impl ChangeFeed for Counted {
    fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes> {
        self.store.changes(cursor)
    }
}

impl ClientAdmin for Counted {
    fn apply(&self, change: ClientChange) -> StoreFuture<'_, (), AdminError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        if self.fails {
            return StoreFuture::new(async { Err(StoreError::new("the disk is full").into()) });
        }
        self.store.apply(change)
    }

    fn load<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<(Arc<RegisteredClient>, Revision)>> {
        self.store.load(id)
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<Arc<RegisteredClient>>> {
        self.store.list(after, limit)
    }
}

struct Site {
    world: World,
    store: Counted,
    clock: ManualClock,
    number: usize,
}

impl Site {
    fn new(fails: bool) -> Self {
        let store = MemoryStore::try_from(clients()).unwrap();
        let (clock, (sender, events)) = (clock(), event::channel());
        let store = Counted { store, writes: Arc::default(), fails };
        let assertions = ClientAssertions::new(store.store.clone()).record_legacy_uses(store.clone());
        let builder = settings(store.store.clone()).clock(clock.clone()).client_assertions(assertions).events(sender);
        Self { world: World { server: builder.build().unwrap(), events }, store, clock, number: 0 }
    }

    fn seconds(&self) -> u64 {
        use tower_client_credentials::clock::Clock as _;
        self.clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
    }

    /// Returns an assertion of this client for now, with a `jti` of its own.
    fn assertion(&mut self, client: &str, audience: &str) -> Draft {
        self.number += 1;
        let (now, jti) = (self.seconds(), format!("number {}", self.number));
        let draft = good(client, "ES256", Some("k1")).claim("aud", audience).claim("jti", jti);
        draft.claim("iat", now).claim("nbf", now).claim("exp", now + 60)
    }

    async fn send(&mut self, client: &str, audience: &str, seed: u8) -> StatusCode {
        let assertion = self.assertion(client, audience).es256(seed);
        let status = self.world.send(asks(&assertion)).await.status;
        settle().await;
        status
    }

    async fn last_use(&self, client: &'static str) -> Option<SystemTime> {
        let found = self.store.find(&ClientId::from_static(client)).await.unwrap().unwrap();
        found.legacy_audience_used()
    }

    fn writes(&self) -> usize {
        self.store.writes.load(Ordering::SeqCst)
    }
}

/// Both may send the URL for a day.
fn clients() -> [Client; 2] {
    let until = at(NOW + 86_400);
    ["old", "old too"]
        .map(|id| Client::with_credential(id, ec_keys(7, Some("k1"))).audience(API).legacy_assertions_until(until))
}

/// Lets the tasks of this thread run to their end: nothing in them waits for the outside.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

const ENDPOINT: &str = "https://auth.example.com/token";

#[tokio::test]
async fn the_last_use_of_an_allowance_is_recorded_once_an_hour_and_only_for_a_client_that_authenticated() {
    let mut site = Site::new(false);
    assert_eq!(site.send("old", ENDPOINT, 8).await, StatusCode::UNAUTHORIZED);
    assert_eq!(site.send("old", ISSUER, 7).await, StatusCode::OK);
    assert_eq!((site.writes(), site.last_use("old").await), (0, None));
    for _ in 0..5 {
        assert_eq!(site.send("old", ENDPOINT, 7).await, StatusCode::OK);
    }
    assert_eq!((site.writes(), site.last_use("old").await), (1, Some(at(NOW))));
    site.clock.advance(Duration::from_secs(3_599));
    assert_eq!(site.send("old", ENDPOINT, 7).await, StatusCode::OK);
    assert_eq!((site.writes(), site.last_use("old").await), (1, Some(at(NOW))));
    site.clock.advance(Duration::from_secs(1));
    assert_eq!(site.send("old", ENDPOINT, 7).await, StatusCode::OK);
    assert_eq!((site.writes(), site.last_use("old").await), (2, Some(at(NOW + 3_600))));
    assert_eq!(site.last_use("old too").await, None);
    assert_eq!(site.send("old too", ENDPOINT, 7).await, StatusCode::OK);
    assert_eq!((site.writes(), site.last_use("old too").await), (3, Some(at(NOW + 3_600))));
}

#[tokio::test]
async fn an_assertion_that_is_valid_for_too_long_is_recorded_as_a_use_of_the_allowance_as_well() {
    let mut site = Site::new(false);
    let assertion = site.assertion("old", ISSUER).claim("exp", NOW + 3_000).es256(7);
    assert_eq!(site.world.send(asks(&assertion)).await.status, StatusCode::OK);
    settle().await;
    assert_eq!((site.writes(), site.last_use("old").await), (1, Some(at(NOW))));
}

#[tokio::test]
async fn a_use_is_not_recorded_for_a_client_that_lost_its_allowance_or_another_replica_recorded() {
    let mut site = Site::new(false);
    assert_eq!(site.send("old", ENDPOINT, 7).await, StatusCode::OK);
    assert_eq!(site.writes(), 1);
    // A replica that has just started reads the record, and writes nothing.
    let (sender, events) = event::channel();
    let assertions = ClientAssertions::new(site.store.store.clone()).record_legacy_uses(site.store.clone());
    let builder = settings(site.store.store.clone()).client_assertions(assertions).events(sender);
    site.world = World { server: builder.build().unwrap(), events };
    assert_eq!(site.send("old", ENDPOINT, 7).await, StatusCode::OK);
    assert_eq!(site.writes(), 1);
    let old = ClientId::from_static("old");
    site.store.store.update(&old, |client| client.edit().without_legacy_assertions()).await.unwrap();
    assert_eq!(site.last_use("old").await, None, "it goes with the allowance");
    assert_eq!(site.send("old", ENDPOINT, 7).await, StatusCode::UNAUTHORIZED);
    assert_eq!((site.writes(), site.last_use("old").await), (1, None));
}

#[tokio::test]
async fn a_store_that_does_not_record_a_use_refuses_no_request_and_is_asked_once_an_hour() {
    let mut site = Site::new(true);
    for _ in 0..5 {
        assert_eq!(site.send("old", ENDPOINT, 7).await, StatusCode::OK);
    }
    assert_eq!(site.writes(), 1);
    site.clock.advance(Duration::from_secs(3_600));
    assert_eq!(site.send("old", ENDPOINT, 7).await, StatusCode::OK);
    assert_eq!(site.writes(), 2);
}
