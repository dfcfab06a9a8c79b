//! Failures of Postgres, or of the network to it, while a server is under load: no acknowledged write is lost, no revoked token
//! is accepted beyond its limit, no caller gets a wrong 401 or 403, and nothing has to be restarted. The counts are printed.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use common::proxy::{End, Line, Proxy};
use common::request::{GRANT, billing_asks, post};
use common::servers::Postgres;
use common::stack::{Site, Stack};
use common::{API, ISSUER, KEY, SECRET, client};
use tower_client_credentials::authorization_server::ClientCacheLimits;
use tower_client_credentials::store::{
    Change, ChangeFeed, ClientAdmin, Cursor, PostgresStore, Replay, ReplayId, ReplayLog, Revocation, RevocationStore,
};
use tower_client_credentials::{AuthorizationServer, BearerAuthLayer, ClientId, ClientStore, KeyRing, Revocations};

/// The client whose tokens are revoked. Beyond 1,000 of them, all its earlier tokens are.
const BILLING: ClientId = ClientId::from_static("billing");
/// A client whose tokens are never revoked.
const STEADY: ClientId = ClientId::from_static("steady");
const HOUR: Duration = Duration::from_secs(3_600);

/// How long recovery may take once the store is reachable: two seconds for hanging calls, the time to reconnect, and more for a
/// busy machine.
const RECOVERY: Duration = Duration::from_secs(20);

/// How long a revoked token may be accepted while all is well: a second, and more for a busy machine.
const SEEN: Duration = Duration::from_secs(10);

/// How each kind of request is answered while all is well.
const WELL: [(&str, u16); 5] =
    [("cold client", 200), ("hot client", 200), ("good token", 200), ("write", 200), ("revoked token", 401)];

/// So many clients that the cache does not have the next one.
const COLD: usize = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_killed_under_load_and_comes_back() {
    let mut postgres = postgres();
    let load = Load::on(&postgres.url(), &postgres.url(), Duration::from_secs(5)).await;
    let running = load.start();
    for _ in 0..2 {
        load.until_all_is_well("at first, or again").await;
        load.expect_trouble();
        postgres.kill();
        load.until("a client could not be looked up", |load| load.has_grown("cold client", 503, 3)).await;
        load.until("writes failed", |load| load.has_grown("write", 503, 3)).await;
        tokio::task::block_in_place(|| postgres.restart());
        load.mark();
    }
    load.until_all_is_well("after the last restart").await;
    load.end(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_or_stalls_for_less_than_the_limit_is_not_noticed_by_callers_with_tokens() {
    let postgres = postgres();
    let proxy = Proxy::before(postgres.port()).await;
    let load = Load::on(&Postgres::url_at(proxy.port, "postgres"), &postgres.url(), Duration::from_secs(30)).await;
    let running = load.start();
    for line in [Line::Cut, Line::Stalled] {
        load.until_all_is_well("before").await;
        load.expect_trouble();
        proxy.set(line);
        let second = Duration::from_secs(1);
        load.until("the view is a second old", |load| load.revocations.age() > second).await;
        load.until("a client could not be looked up", |load| load.has_grown("cold client", 503, 1)).await;
        proxy.set(Line::Up);
        load.mark();
    }
    load.until_all_is_well("after").await;
    load.end(running).await;
    assert_eq!(load.count("good token", 503), 0, "the view was younger than its bound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_stalls_for_longer_than_the_limit_is_a_503_until_it_is_back() {
    let postgres = postgres();
    let proxy = Proxy::before(postgres.port()).await;
    let load = Load::on(&Postgres::url_at(proxy.port, "postgres"), &postgres.url(), Duration::from_secs(2)).await;
    let running = load.start();
    for line in [Line::Stalled, Line::Cut] {
        load.until_all_is_well("before").await;
        load.expect_trouble();
        proxy.set(line);
        load.until("protected routes answer 503", |load| load.has_grown("good token", 503, 10)).await;
        load.until("a revoked token gets 503, too", |load| load.has_grown("revoked token", 503, 1)).await;
        proxy.set(Line::Up);
        load.mark();
    }
    load.until_all_is_well("after").await;
    load.end(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_half_closed_or_lost_are_made_anew_and_a_slow_line_is_no_trouble() {
    let postgres = postgres();
    let proxy = Proxy::before(postgres.port()).await;
    let load = Load::on(&Postgres::url_at(proxy.port, "postgres"), &postgres.url(), Duration::from_secs(30)).await;
    let running = load.start();
    let faults: [(&str, &dyn Fn()); 3] = [
        ("the server's half", &|| proxy.half_close(End::Client)),
        ("the client's half", &|| proxy.half_close(End::Server)),
        ("lost", &|| proxy.strand()),
    ];
    for (name, strike) in faults {
        load.until_all_is_well(&format!("before {name}")).await;
        load.expect_trouble();
        strike();
        load.until("a client could not be looked up", |load| load.has_grown("cold client", 503, 1)).await;
        load.mark();
    }
    load.until_all_is_well("after").await;
    load.expect_trouble();
    proxy.set(Line::Slow(Duration::from_millis(30)));
    // No request fails on a line that is slow and nothing else, once the requests of before have ended.
    load.until_all_is_well("on a slow line").await;
    load.until_all_are_served(20).await;
    load.end(running).await;
    assert_eq!(load.count("good token", 503), 0, "the view was younger than its bound");
}

/// The process is killed, not the machine, so nothing written is lost and no test has to wait for a disk.
fn postgres() -> Postgres {
    Postgres::with(&["fsync=off"])
}

/// Callers of one server, an administrator of its store on another connection, and the outcomes.
struct Load {
    site: Site,
    revocations: Revocations,
    operator: PostgresStore,
    operators: String,
    /// How long a replica may accept a revoked token.
    bound: Duration,
    cold: AtomicUsize,
    tally: Mutex<Tally>,
    marked: Mutex<Tally>,
    acknowledged: Mutex<Vec<usize>>,
    slowest: Mutex<Duration>,
    is_over: AtomicBool,
    /// Odd in healthy phases, and a new number for each phase.
    phase: AtomicUsize,
    /// Counts of requests that began and ended in a healthy phase.
    wrongly_unavailable: Mutex<Tally>,
}

/// Counts by caller and status. For writes, 503 stands for an error.
type Tally = BTreeMap<(&'static str, u16), usize>;

impl Load {
    async fn on(url: &str, operators: &str, bound: Duration) -> Arc<Self> {
        let operator = PostgresStore::connect(operators).await.unwrap();
        let one = |id: String| client(&id).audience(API).register().unwrap();
        for id in [BILLING, STEADY] {
            operator.create(one(id.to_string())).await.unwrap();
        }
        let cold = (0..COLD).map(|number| one(format!("cold-{number}"))).collect();
        assert_eq!(operator.create_all(cold).await.unwrap(), COLD);
        let store = PostgresStore::connect(url).await.unwrap();
        let revocations = Revocations::follow(store.clone()).max_age(bound).await.unwrap();
        let server = AuthorizationServer::builder(ISSUER, KeyRing::from_pem(KEY).unwrap(), store)
            .revocations(revocations.clone())
            .client_cache(ClientCacheLimits::default().found(HOUR / 6))
            .build()
            .unwrap();
        let guard = BearerAuthLayer::new(server.verifier(API).unwrap());
        let site = Stack::PLAIN.protect(&server, [guard]).await;
        Arc::new(Self {
            site,
            revocations,
            operator,
            operators: operators.to_owned(),
            bound,
            cold: AtomicUsize::new(0),
            tally: Mutex::default(),
            marked: Mutex::default(),
            acknowledged: Mutex::default(),
            slowest: Mutex::default(),
            is_over: AtomicBool::new(false),
            phase: AtomicUsize::new(0),
            wrongly_unavailable: Mutex::default(),
        })
    }

    fn start(self: &Arc<Self>) -> Vec<tokio::task::JoinHandle<()>> {
        let [hot, good, back, write] = [self.clone(), self.clone(), self.clone(), self.clone()];
        let cold = (0..4).map(|_| self.clone()).map(|load| tokio::spawn(async move { load.ask_cold().await }));
        let mut running = vec![
            tokio::spawn(async move { hot.ask_hot().await }),
            tokio::spawn(async move { good.use_one().await }),
            tokio::spawn(async move { back.revoke_and_try().await }),
            tokio::spawn(async move { write.write().await }),
        ];
        running.extend(cold);
        running
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    /// Counts the response to a request that began in a phase.
    fn told(&self, phase: usize, who: &'static str, status: u16) {
        *self.tally.lock().unwrap().entry((who, status)).or_default() += 1;
        if status == 503 && self.is_still_well(phase) {
            *self.wrongly_unavailable.lock().unwrap().entry((who, status)).or_default() += 1;
        }
    }

    fn phase(&self) -> usize {
        self.phase.load(Ordering::SeqCst)
    }

    /// Returns whether the phase is healthy and has not changed since it was read.
    fn is_still_well(&self, phase: usize) -> bool {
        phase % 2 == 1 && self.phase() == phase
    }

    /// Marks the start of a failure. Called before the store is made to fail.
    fn expect_trouble(&self) {
        let phase = self.phase.fetch_add(1, Ordering::SeqCst);
        assert_eq!(phase % 2, 1, "all is well before");
    }

    fn count(&self, who: &'static str, status: u16) -> usize {
        self.tally.lock().unwrap().get(&(who, status)).copied().unwrap_or_default()
    }

    /// Only events from now on count.
    fn mark(&self) {
        *self.marked.lock().unwrap() = self.tally.lock().unwrap().clone();
    }

    fn has_grown(&self, who: &'static str, status: u16, by: usize) -> bool {
        let before = self.marked.lock().unwrap().get(&(who, status)).copied().unwrap_or_default();
        self.count(who, status) >= before + by
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        self.until_at(Instant::now() + Duration::from_secs(60), what, holds).await;
    }

    async fn until_at(&self, deadline: Instant, what: &str, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            let tally = self.tally.lock().unwrap().clone();
            assert!(Instant::now() < deadline, "not in time: {what}; {tally:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until each kind of request is served several times in a row without a 503.
    async fn until_all_is_well(&self, when: &str) {
        let begun = Instant::now();
        loop {
            self.mark();
            for (who, status) in WELL {
                let what = format!("{when}: {who} {status}");
                self.until_at(begun + RECOVERY, &what, |load| load.has_grown(who, status, 5)).await;
            }
            if !WELL.iter().any(|(who, _)| self.has_grown(who, 503, 1)) {
                break;
            }
        }
        let what = format!("{when}: the view is followed");
        self.until_at(begun + RECOVERY, &what, |load| load.revocations.is_ready()).await;
        println!("{when}: all is well after {:?}", begun.elapsed());
        // It must stay so for some time, in which no request may get a 503.
        self.phase.fetch_add(1, Ordering::SeqCst);
        self.until_all_are_served(5).await;
    }

    /// Waits until that many more requests of each kind are served.
    async fn until_all_are_served(&self, requests: usize) {
        self.mark();
        for (who, status) in WELL {
            self.until(&format!("{who} {status}"), |load| load.has_grown(who, status, requests)).await;
        }
        self.mark();
    }

    async fn ask_cold(&self) {
        while self.goes_on() {
            let id = format!("cold-{}", self.cold.fetch_add(1, Ordering::Relaxed) % COLD);
            let phase = self.phase();
            let answer = self.site.send(post(GRANT).basic(&id, &SECRET)).await;
            self.told(phase, "cold client", answer.status.as_u16());
        }
    }

    async fn ask_hot(&self) {
        while self.goes_on() {
            let phase = self.phase();
            let answer = self.site.send(billing_asks(GRANT)).await;
            self.told(phase, "hot client", answer.status.as_u16());
        }
    }

    async fn use_one(&self) {
        let token = self.site.send(post(GRANT).basic(&STEADY, &SECRET)).await.assert_token();
        while self.goes_on() {
            let phase = self.phase();
            self.told(phase, "good token", self.present(&token).await.0);
        }
    }

    /// The status, and when the request was sent.
    async fn present(&self, token: &str) -> (u16, Instant) {
        let asked = Instant::now();
        let answer = self.site.get_authorized(&format!("Bearer {token}")).await;
        (answer.status.as_u16(), asked)
    }

    /// Returns a time shortly before the last successful poll began.
    fn polled(&self) -> Option<Instant> {
        let now = Instant::now();
        // The age is in whole milliseconds.
        now.checked_sub(self.revocations.age() + Duration::from_millis(1))
    }

    /// Gets a token, has it revoked by the administrator, and uses it for longer than it may be accepted.
    async fn revoke_and_try(&self) {
        while self.goes_on() {
            let phase = self.phase();
            let answer = self.site.send(billing_asks(GRANT)).await;
            // While the server cannot know whether the client was disabled, it gets no token.
            if answer.status == 503 {
                self.told(phase, "hot client", 503);
                continue;
            }
            let token = answer.assert_token();
            let now = SystemTime::now();
            let revocation = Revocation::token(token_id(&token), BILLING, now, now + HOUR);
            let revoked_in = self.phase();
            if self.operator.revoke(revocation).await.is_err() {
                continue; // whether it is revoked is unknown
            }
            let revoked = Instant::now();
            loop {
                let phase = self.phase();
                let polled = self.polled();
                let (status, asked) = self.present(&token).await;
                self.told(phase, "revoked token", status);
                let since = asked.saturating_duration_since(revoked);
                if status == 200 {
                    // The age of a view is in whole milliseconds.
                    let bound = self.bound + Duration::from_millis(1);
                    assert!(since <= bound, "it is accepted {since:?} after it was revoked");
                    // The polls may be late, since the callers of this test use every core.
                    assert!(polled <= Some(revoked), "it is accepted after a poll that began after it was revoked");
                    if self.is_still_well(revoked_in) {
                        let mut slowest = self.slowest.lock().unwrap();
                        *slowest = since.max(*slowest);
                    }
                }
                if status == 401 {
                    assert_ne!(self.present(&token).await.0, 200, "it is accepted again");
                    break;
                }
                if !self.goes_on() {
                    break;
                }
            }
        }
    }

    /// Writes a client, a revocation and a used credential with the same number, and records acknowledged writes.
    async fn write(&self) {
        let mut number = 0;
        while self.goes_on() {
            number += 1;
            let phase = self.phase();
            let is_written = self.write_one(number).await;
            self.told(phase, "write", if is_written { 200 } else { 503 });
            if is_written {
                self.acknowledged.lock().unwrap().push(number);
            }
        }
    }

    async fn write_one(&self, number: usize) -> bool {
        let now = SystemTime::now();
        let written = client(&format!("written-{number}")).register().unwrap();
        let revocation = Revocation::token(format!("written {number}"), written.id().clone(), now, now + HOUR);
        self.operator.create(written).await.is_ok()
            && self.operator.revoke(revocation).await.is_ok()
            && self.operator.check_and_insert(&used(number), now + HOUR, now).await.is_ok()
    }

    /// Stops the callers, and looks up all acknowledged writes.
    async fn end(&self, running: Vec<tokio::task::JoinHandle<()>>) {
        self.is_over.store(true, Ordering::Relaxed);
        for task in running {
            task.await.unwrap();
        }
        let tally = self.tally.lock().unwrap().clone();
        let acknowledged = self.acknowledged.lock().unwrap().clone();
        let slowest = *self.slowest.lock().unwrap();
        println!("{tally:?}");
        println!(
            "{} writes acknowledged; while all was well, a revocation was seen within {slowest:?}",
            acknowledged.len()
        );
        assert!(acknowledged.len() > 10, "too few writes to show that none is lost");
        assert!(slowest < SEEN, "a revocation was seen only after {slowest:?} while all was well");
        let wrongly = self.wrongly_unavailable.lock().unwrap().clone();
        assert!(wrongly.is_empty(), "503 while all was well: {wrongly:?}");
        // A machine under load is slow, which is not tested here.
        let patient = PostgresStore::builder(&self.operators).call_timeout(Duration::from_secs(30));
        let patient = patient.connect().await.unwrap();
        let told = follow(&patient).await;
        for number in acknowledged {
            let id: ClientId = format!("written-{number}").parse().unwrap();
            assert!(patient.find(&id).await.unwrap().is_some(), "{id} is lost");
            let name = format!("written {number}");
            assert!(told.contains(&name), "that `{name}` was revoked is lost");
            let now = SystemTime::now();
            let replay = patient.check_and_insert(&used(number), now + HOUR, now).await.unwrap();
            assert_eq!(replay, Replay::Seen, "that credential {number} was used is lost");
        }
        let expected = |(who, status): (&str, u16)| match who {
            "revoked token" => matches!(status, 200 | 401 | 503),
            _ => matches!(status, 200 | 503),
        };
        assert!(tally.keys().all(|row| expected(*row)), "a wrong answer: {tally:?}");
    }
}

fn used(number: usize) -> ReplayId {
    ReplayId::new("faults", &number.to_string())
}

/// Its `jti`.
fn token_id(token: &str) -> String {
    use base64::Engine as _;

    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<serde_json::Value>(&claims).unwrap()["jti"].as_str().unwrap().to_owned()
}

/// Returns the ids of all revoked tokens.
async fn follow(store: &PostgresStore) -> std::collections::HashSet<String> {
    let (mut names, mut cursor) = (std::collections::HashSet::new(), Cursor::start());
    loop {
        let page = store.changes(&cursor).await.unwrap();
        cursor = page.cursor;
        names.extend(page.changes.into_iter().filter_map(|change| match change {
            Change::Revoked(Revocation::Token { token_id, .. }) => Some(token_id),
            _ => None,
        }));
        if !page.more {
            return names;
        }
    }
}
