//! Secrets: hashes from older systems, rotation, and that no secret is ever shown.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::request::{GRANT, TokenRequest, post};
use common::stack::{Answer, Site, Stack};
use common::{API, NOW, SECRET, WRONG_SECRET, at, clock, settings};
use http::Request;
use tower::ServiceExt as _;
use tower_client_credentials::authorization_server::AttemptLimits;
use tower_client_credentials::event::{self, Event, EventReceiver, Outcome};
use tower_client_credentials::registration::{RegisteredClient, RegisteredSecret};
use tower_client_credentials::secret::StoredSecret;
use tower_client_credentials::store::{
    AdminError, Change, ChangeFeed, Changes, ClientAdmin, ClientChange, Cursor, Revision, StoreError, StoreFuture,
};
use tower_client_credentials::{AuthorizationServer, Client, ClientId, ClientSecret, ClientStore, MemoryStore};

const CHOSEN: &str = "correct horse";
const WRONG: &str = "battery staple";

/// A secret that is hashed below, with the form of a generated one.
const GENERATED: &str = "tcc_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8PJj0uA";

/// Hashes by other implementations: passlib 1.7.4, bcrypt 4.0.1 and Django 5.2 in Python, and the PHP manual; the last is of
/// RFC 7914 §11.
const HASHES: [(&str, &str); 10] = [
    (CHOSEN, "$2a$04$0yWGFAOAjmQEDyrat4fki.frz7q.igeEohcDo0n3M68N0yRNSgRUq"),
    (CHOSEN, "$2b$04$u/mWKFMpDHcv4.JavTZaAe8Hmybpmq4oNOGJmHFJk9sdgydrWCqIe"),
    (CHOSEN, "$2y$04$TFczTCFDVGE64ZEQr5f3ceilS0gKQvt5cS0ZwBw3/70EnhySpgAce"),
    (CHOSEN, "$pbkdf2-sha256$1000$yvlfK8V4D4EQgjBGCKGUkg$Ut2xSFGboJkYOPmRF64bykWAHkg6NX.mIH2/sOoyU9M"),
    (CHOSEN, "$pbkdf2-sha256$i=1000,l=32$yvlfK8V4D4EQgjBGCKGUkg$Ut2xSFGboJkYOPmRF64bykWAHkg6NX+mIH2/sOoyU9M"),
    (CHOSEN, "$pbkdf2-sha256$i=1000$yvlfK8V4D4EQgjBGCKGUkg$Ut2xSFGboJkYOPmRF64bykWAHkg6NX+mIH2/sOoyU9M"),
    (
        CHOSEN,
        "$pbkdf2-sha512$1000$D0GI8b6XklKq9R6DcG7NOQ$\
         uTMFJGraT822glefdCjFmq.DIStVe17l3U2OSrE12m.F6nKtYI0WaSFk3Zwg19/e5biLisgCGMPKvLXQrOsq3g",
    ),
    (CHOSEN, "pbkdf2_sha256$1000$NaClNaClNaClNaClNaClNa$pcoEeOKdU29ad7CREHyoIszxaCZuhS476TlVjDMs2+M="),
    ("rasmuslerdorf", "$2a$07$usesomesillystringfore2uDLvp1Ii2e./U9C8sBjqp8I90dH6hi"),
    (
        "passwd",
        "$pbkdf2-sha256$i=1,l=64$c2FsdA$\
         VawEblbjCJ/sFpHCJUS2BflBhSFt3gRl5oudV8INrLxJypzM8Xm2RZkWZLOdd+8xfHG4RbHjC9UJESBB06GXgw",
    ),
];

const BCRYPT_OF_CHOSEN: &str = HASHES[1].1;
const BCRYPT_OF_GENERATED: &str = "$2b$04$aQtnG.gtxd3oWwOWYyHAyuBGHTseUEgczFrmFrFF3BHhKGrhspZ3K";

/// Eighty characters, of which bcrypt uses 72.
const LONG: &str = "01234567890123456789012345678901234567890123456789012345678901234567890123456789";
const BCRYPT_OF_LONG: &str = "$2b$04$C6JEfoqm/g7efsnku1odE.GIx8teHVJpbmZE.NCNR5QUp3WJg2eXa";

fn stored(hash: &str) -> StoredSecret {
    hash.parse().unwrap()
}

/// A client with one secret, labelled `1`.
fn person(secret: StoredSecret) -> Client {
    Client::new("person", secret).audience(API)
}

fn person_shows(secret: &str) -> TokenRequest {
    post(GRANT).basic("person", secret)
}

async fn send(server: &AuthorizationServer, request: TokenRequest) -> Answer {
    Answer::read(server.token_service().oneshot(Request::from(request)).await.unwrap()).await
}

/// Polls until the condition holds, for up to a minute, since the machine may be busy.
async fn eventually<T>(mut find: impl AsyncFnMut() -> Option<T>) -> T {
    // Uses the clock of the machine, since that of the runtime is paused in some tests.
    let begun = Instant::now();
    loop {
        if let Some(found) = find().await {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the condition did not hold within a minute");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_hash_from_an_older_system_accepts_its_secret_and_no_other() {
    for (secret, hash) in HASHES {
        let server = settings(MemoryStore::try_from([person(stored(hash))]).unwrap()).build().unwrap();
        let site = Stack::PLAIN.issue(&server).await;
        site.send(person_shows(secret)).await.assert_token();
        for wrong in [WRONG, &secret[1..], hash] {
            site.send(person_shows(wrong)).await.assert_refused(401, "invalid_client");
        }
        assert_eq!(stored(hash).to_phc_string(), hash);
        assert!(!format!("{:?}", stored(hash)).contains(&hash[hash.len() - 8..]));
    }
}

#[test]
fn a_hash_that_would_keep_a_core_busy_or_fill_the_memory_is_rejected_when_it_is_read() {
    let bcrypt = |cost: &str| BCRYPT_OF_CHOSEN.replacen("$04$", &format!("${cost}$"), 1);
    let pbkdf2 = |iterations: &str| HASHES[3].1.replacen("1000", iterations, 1);
    let django = |iterations: &str| HASHES[7].1.replacen("1000", iterations, 1);
    let argon2 = |parameters: &str| {
        format!("$argon2id$v=19${parameters}$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
    };
    for good in
        [bcrypt("14"), pbkdf2("2000000"), django("1200000"), argon2("m=65536,t=3,p=4"), argon2("m=262144,t=4,p=1")]
    {
        assert!(good.parse::<StoredSecret>().is_ok(), "{good}");
    }
    let bad = [
        bcrypt("15"),
        bcrypt("31"),
        bcrypt("03"),
        pbkdf2("2000001"),
        pbkdf2("4294967295"),
        pbkdf2("0"),
        pbkdf2("i=5000000,l=32"),
        HASHES[9].1.replacen("i=1,", "i=1000001,", 1),
        django("2000001"),
        argon2("m=262145,t=1,p=1"),
        argon2("m=65536,t=17,p=1"),
        argon2("m=4294967295,t=1,p=1"),
        argon2("m=64,t=4294967295,p=1"),
    ];
    for bad in bad {
        let error = bad.parse::<StoredSecret>().unwrap_err().to_string();
        assert!(!error.contains(&bad), "{error}");
    }
    for broken in [
        "$2b$04$",
        "$2x$04$u/mWKFMpDHcv4.JavTZaAe8Hmybpmq4oNOGJmHFJk9sdgydrWCqIe",
        "$pbkdf2-sha256$1000$yvlfK8V4D4EQgjBGCKGUkg",
        "$pbkdf2-sha256$1000$yvlfK8V4D4EQgjBGCKGUkg$AAAA",
        "$pbkdf2-sha256$i=1000,l=31$yvlfK8V4D4EQgjBGCKGUkg$Ut2xSFGboJkYOPmRF64bykWAHkg6NX+mIH2/sOoyU9M",
        "$pbkdf2-sha1$1000$yvlfK8V4D4EQgjBGCKGUkg$Ut2xSFGboJkYOPmRF64bykWAHkg6NX.mIH2/sOoyU9M",
        "pbkdf2_sha256$1000$$pcoEeOKdU29ad7CREHyoIszxaCZuhS476TlVjDMs2+M=",
    ] {
        assert!(broken.parse::<StoredSecret>().is_err(), "{broken}");
    }
}

#[tokio::test]
async fn the_first_success_replaces_the_hash_of_an_older_system_and_nothing_else() {
    for (secret, hash, scheme) in
        [(CHOSEN, BCRYPT_OF_CHOSEN, "$argon2id$"), (GENERATED, BCRYPT_OF_GENERATED, "$sha256$")]
    {
        let old = RegisteredSecret::new("of old", stored(hash)).unwrap().created_at(at(1)).expires_at(at(NOW + 99));
        let other = RegisteredSecret::new("other", stored(HASHES[8].1)).unwrap();
        let client = person(stored(HASHES[0].1)).without_secret("1").registered_secret(old).registered_secret(other);
        let clients = MemoryStore::try_from([client]).unwrap();
        let server = settings(clients.clone()).upgrade_hashes(clients.clone()).build().unwrap();
        send(&server, person_shows(WRONG)).await.assert_refused(401, "invalid_client");
        assert_eq!(clients.changes(&Cursor::start()).await.unwrap().changes, [], "a wrong one changes nothing");

        send(&server, person_shows(secret)).await.assert_token();
        let id = ClientId::from_static("person");
        let registered = eventually(async || {
            let client = clients.find(&id).await.unwrap().unwrap();
            client.secrets()[0].stored().to_phc_string().starts_with(scheme).then_some(client)
        })
        .await;
        let upgraded = &registered.secrets()[0];
        assert_eq!(
            (upgraded.label(), upgraded.created(), upgraded.expires()),
            ("of old", Some(at(1)), Some(at(NOW + 99)))
        );
        assert_eq!(registered.secrets()[1].stored(), &stored(HASHES[8].1));
        assert_eq!(clients.changes(&Cursor::start()).await.unwrap().changes, [Change::Client(id)]);
        send(&server, person_shows(secret)).await.assert_token();
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_after_a_failed_upgrade_does_not_delay_the_next_attempt() {
    let clients = Observed::of(person(stored(BCRYPT_OF_CHOSEN))).in_trouble(Trouble::ReadOnly);
    let clock = clock();
    let server = settings(clients.clone()).upgrade_hashes(clients.clone()).clock(clock.clone()).build().unwrap();
    send(&server, person_shows(CHOSEN)).await.assert_token();
    eventually(async || (clients.loaded() == 1).then_some(())).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    clients.cause(Trouble::None);
    clock.set(at(NOW - 3_600));
    send(&server, person_shows(CHOSEN)).await.assert_token();
    assert_eq!(clients.loaded(), 1, "the pause is not over");
    tokio::time::advance(Duration::from_secs(60)).await;
    send(&server, person_shows(CHOSEN)).await.assert_token();
    eventually(async || (clients.replaced() == 1).then_some(())).await;
}

/// 128 random bits in hexadecimal, by Python's `hashlib.pbkdf2_hmac`.
const RANDOM: &str = "5f4dcc3b5aa765d61d8327deb882cf99";
const PBKDF2_OF_RANDOM: &str = "$pbkdf2-sha256$1000$MDEyMzQ1Njc4OWFiY2RlZg$P6/6EwbuLWdxmNRVbL3OQ/amQUpPw72orilOS3n8a/8";

#[tokio::test]
async fn an_imported_secret_that_is_declared_random_is_never_locked_out_and_is_upgraded_to_a_digest() {
    for (is_random, secret, hash, tenth_and_eleventh, right, scheme) in [
        (true, RANDOM, PBKDF2_OF_RANDOM, [401, 401], 200, "$sha256$"),
        // A secret that cannot be random is not stored as a digest, regardless of the declaration.
        (true, CHOSEN, BCRYPT_OF_CHOSEN, [401, 401], 200, "$argon2id$"),
        (false, RANDOM, PBKDF2_OF_RANDOM, [401, 429], 429, "$argon2id$"),
    ] {
        let clients = MemoryStore::try_from([person(stored(hash))]).unwrap();
        let (clock, peer) = (clock(), std::net::IpAddr::from([192, 0, 2, 1]));
        let builder = settings(clients.clone()).upgrade_hashes(clients.clone()).clock(clock.clone());
        let builder = builder.peer_address(move |_| Some(peer));
        let builder = if is_random { builder.imported_secrets_are_random() } else { builder };
        let server = builder.build().unwrap();
        let mut statuses = Vec::new();
        for _ in 0..11 {
            statuses.push(send(&server, person_shows(WRONG)).await.status.as_u16());
        }
        let answer = send(&server, person_shows(secret)).await.status.as_u16();
        println!("declared random: {is_random}; 11 wrong guesses {statuses:?}, the right secret {answer}");
        assert_eq!((&statuses[9..], answer), (&tenth_and_eleventh[..], right));
        clock.advance(Duration::from_secs(60));
        send(&server, person_shows(secret)).await.assert_token();
        let id = ClientId::from_static("person");
        eventually(async || {
            let client = clients.find(&id).await.unwrap().unwrap();
            client.secrets()[0].stored().to_phc_string().starts_with(scheme).then_some(())
        })
        .await;
        send(&server, person_shows(secret)).await.assert_token();
    }
}

#[tokio::test]
async fn guesses_at_an_imported_random_secret_are_refused_beyond_a_hundred_a_minute() {
    let clients = MemoryStore::try_from([person(stored(PBKDF2_OF_RANDOM))]).unwrap();
    let server = settings(clients).imported_secrets_are_random().build().unwrap();
    let mut statuses = Vec::new();
    for _ in 0..110 {
        statuses.push(send(&server, person_shows(WRONG)).await.status.as_u16());
    }
    assert_eq!(statuses, [[401; 100].as_slice(), &[429; 10]].concat());
    send(&server, person_shows(RANDOM)).await.assert_token();
}

/// A flood of wrong secrets: the number of addresses, of attacked imported clients, and of concurrent requests.
#[derive(Clone, Copy, Debug)]
struct Guesses {
    addresses: u8,
    ids: u8,
    in_flight: u8,
}

/// Sends a request from this address.
async fn send_from(server: &AuthorizationServer, address: u8, request: TokenRequest) -> u16 {
    let mut request = Request::from(request);
    request.extensions_mut().insert(std::net::IpAddr::from([192, 0, 2, address]));
    server.token_service().oneshot(request).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_flood_of_guesses_at_imported_random_secrets_keeps_no_owner_at_another_address_from_its_token() {
    for flood in [
        // The hash of a chosen secret serves as well, since the server relies on the declaration.
        Guesses { addresses: 1, ids: 1, in_flight: 100 },
        Guesses { addresses: 1, ids: 12, in_flight: 100 },
        Guesses { addresses: 20, ids: 1, in_flight: 100 },
        Guesses { addresses: 20, ids: 12, in_flight: 100 },
        // Exactly as many as fit, so that only the owner exceeds the limit.
        Guesses { addresses: 10, ids: 12, in_flight: 10 },
    ] {
        let imported =
            (0..12).map(|number| Client::new(format!("client-{number}"), stored(BCRYPT_OF_CHOSEN)).audience(API));
        let person = person(ClientSecret::new(CHOSEN).unwrap().try_into().unwrap());
        let server = settings(MemoryStore::try_from(imported.chain([person]).collect::<Vec<_>>()).unwrap())
            .imported_secrets_are_random()
            .peer_address(|extensions| extensions.get().copied())
            .slow_checks(2, 8)
            .build()
            .unwrap();
        let wrong = AtomicUsize::new(0);
        let attackers = (0..flood.in_flight).map(|number| {
            let (server, wrong) = (&server, &wrong);
            async move {
                let (address, id) = (1 + number % flood.addresses, number % flood.ids);
                loop {
                    let status = send_from(server, address, post(GRANT).basic(&format!("client-{id}"), WRONG)).await;
                    wrong.fetch_add(usize::from(matches!(status, 401 | 429)), Ordering::Relaxed);
                    assert_ne!(status, 200);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        });
        let owners = async {
            while wrong.load(Ordering::Relaxed) < 50 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let (mut own, mut unrelated) = (Vec::new(), Vec::new());
            for number in 0..20 {
                own.push(send_from(&server, 200, post(GRANT).basic("client-0", CHOSEN)).await);
                if number % 4 == 0 {
                    unrelated.push(send_from(&server, 201, person_shows(CHOSEN)).await);
                }
            }
            (own, unrelated)
        };
        let (own, unrelated) = tokio::select! {
            statuses = owners => statuses,
            _ = futures_util::future::join_all(attackers) => unreachable!(),
        };
        let passed = |statuses: &[u16]| statuses.iter().filter(|status| **status == 200).count();
        println!(
            "{flood:?}: 200 for the owner {} of {}, for an unrelated client {} of {}; {} wrong guesses checked",
            passed(&own),
            own.len(),
            passed(&unrelated),
            unrelated.len(),
            wrong.load(Ordering::Relaxed)
        );
        assert_eq!((own, unrelated), (vec![200; 20], vec![200; 5]), "{flood:?}");
    }
}

#[tokio::test]
async fn a_hash_for_which_bcrypt_used_only_the_beginning_of_the_secret_is_not_replaced() {
    let clients = Observed::of(person(stored(BCRYPT_OF_LONG)));
    let server = settings(clients.clone()).upgrade_hashes(clients.clone()).build().unwrap();
    for secret in [LONG, &LONG[..72]] {
        send(&server, person_shows(secret)).await.assert_token();
    }
    // When its check has run, those of the others have run before.
    send(&server, person_shows(&LONG[..71])).await.assert_refused(401, "invalid_client");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(clients.loaded(), 0);
}

/// A store that counts calls, and whose writes fail or conflict with another change.
#[derive(Clone, Debug)]
struct Observed {
    clients: MemoryStore,
    trouble: Arc<Mutex<Trouble>>,
    found: Arc<AtomicUsize>,
    loaded: Arc<AtomicUsize>,
    replaced: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    None,
    ReadOnly,
    SomebodyIsFaster,
    /// The client was disabled, or its secret replaced, before the upgrade loads it.
    DisabledBefore,
    ReplacedBefore,
}

impl Observed {
    fn of(client: Client) -> Self {
        Self {
            clients: MemoryStore::try_from([client]).unwrap(),
            trouble: Arc::new(Mutex::new(Trouble::None)),
            found: Arc::default(),
            loaded: Arc::default(),
            replaced: Arc::default(),
        }
    }

    fn in_trouble(self, trouble: Trouble) -> Self {
        self.cause(trouble);
        self
    }

    fn cause(&self, trouble: Trouble) {
        *self.trouble.lock().unwrap() = trouble;
    }

    fn loaded(&self) -> usize {
        self.loaded.load(Ordering::SeqCst)
    }

    fn replaced(&self) -> usize {
        self.replaced.load(Ordering::SeqCst)
    }
}

impl ClientStore for Observed {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        StoreFuture::new(async move {
            self.found.fetch_add(1, Ordering::SeqCst);
            self.clients.find(id).await
        })
    }
}

impl ChangeFeed for Observed {
    fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes> {
        self.clients.changes(cursor)
    }
}

impl ClientAdmin for Observed {
    fn apply(&self, change: ClientChange) -> StoreFuture<'_, (), AdminError> {
        StoreFuture::new(async move {
            if *self.trouble.lock().unwrap() == Trouble::ReadOnly {
                return Err(StoreError::new("the database is read-only").into());
            }
            self.clients.apply(change).await?;
            self.replaced.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    }

    fn load<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<(Arc<RegisteredClient>, Revision)>> {
        StoreFuture::new(async move {
            let trouble = *self.trouble.lock().unwrap();
            match trouble {
                Trouble::DisabledBefore => self.clients.disable(id).await.unwrap(),
                Trouble::ReplacedBefore => self.clients.update(id, replace_secret).await.unwrap(),
                _ => {}
            }
            let loaded = self.clients.load(id).await;
            if trouble == Trouble::SomebodyIsFaster {
                self.clients.disable(id).await.unwrap();
            }
            self.loaded.fetch_add(1, Ordering::SeqCst);
            loaded
        })
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<Arc<RegisteredClient>>> {
        StoreFuture::new(async move { self.clients.list(after, limit).await })
    }
}

/// Puts the hash of another secret under the same label.
fn replace_secret(client: &RegisteredClient) -> Client {
    client.edit().replace_secret(RegisteredSecret::new("1", stored(HASHES[8].1)).unwrap())
}

#[tokio::test]
async fn the_hash_of_a_client_that_was_disabled_or_has_another_secret_by_then_is_not_replaced() {
    for (trouble, is_enabled, hash) in
        [(Trouble::DisabledBefore, false, BCRYPT_OF_CHOSEN), (Trouble::ReplacedBefore, true, HASHES[8].1)]
    {
        let clients = Observed::of(person(stored(BCRYPT_OF_CHOSEN))).in_trouble(trouble);
        let server = settings(clients.clone()).upgrade_hashes(clients.clone()).build().unwrap();
        send(&server, person_shows(CHOSEN)).await.assert_token();
        // Loading and replacing happen in one poll of one task, so the replacement has been tried by then.
        eventually(async || (clients.loaded() == 1).then_some(())).await;
        let client = clients.clients.find(&ClientId::from_static("person")).await.unwrap().unwrap();
        assert_eq!((client.is_enabled(), client.secrets()[0].stored()), (is_enabled, &stored(hash)), "{trouble:?}");
        assert_eq!(clients.replaced(), 0, "{trouble:?}");
    }
}

#[tokio::test]
async fn the_next_login_after_an_upgrade_uses_the_new_hash_though_the_client_was_cached() {
    let clients = Observed::of(person(stored(BCRYPT_OF_CHOSEN)));
    let server = settings(clients.clone()).upgrade_hashes(clients.clone()).build().unwrap();
    send(&server, person_shows(CHOSEN)).await.assert_token();
    eventually(async || (clients.replaced() == 1).then_some(())).await;
    for _ in 0..3 {
        send(&server, person_shows(CHOSEN)).await.assert_token();
    }
    assert_eq!(clients.found.load(Ordering::SeqCst), 2, "once before the upgrade, and once after it");
    assert_eq!(clients.loaded(), 1, "nothing is hashed again");
}

#[tokio::test]
async fn a_failed_upgrade_fails_no_request_and_is_tried_again_a_minute_later() {
    let clients = Observed::of(person(stored(BCRYPT_OF_CHOSEN))).in_trouble(Trouble::ReadOnly);
    let clock = clock();
    let server = settings(clients.clone()).upgrade_hashes(clients.clone()).clock(clock.clone()).build().unwrap();
    send(&server, person_shows(CHOSEN)).await.assert_token();
    let failed = "could not replace the secret hash of an older system";
    let line = eventually(async || log().lines().find(|line| line.contains(failed)).map(str::to_owned)).await;
    assert!(line.contains(" oauth.client_id=person"), "{line}");
    for _ in 0..5 {
        send(&server, person_shows(CHOSEN)).await.assert_token();
    }
    assert_eq!(clients.loaded(), 1);
    clients.cause(Trouble::None);
    clock.advance(Duration::from_secs(60));
    send(&server, person_shows(CHOSEN)).await.assert_token();
    eventually(async || (clients.replaced() == 1).then_some(())).await;
}

#[tokio::test]
async fn an_upgrade_does_not_undo_a_concurrent_change() {
    let clients = Observed::of(person(stored(BCRYPT_OF_CHOSEN))).in_trouble(Trouble::SomebodyIsFaster);
    let server = settings(clients.clone()).upgrade_hashes(clients.clone()).build().unwrap();
    send(&server, person_shows(CHOSEN)).await.assert_token();
    eventually(async || (clients.loaded() == 1).then_some(())).await;
    // A second success sees the client in its current state.
    clients.cause(Trouble::None);
    let client = clients.clients.find(&ClientId::from_static("person")).await.unwrap().unwrap();
    assert!(!client.is_enabled(), "the other change");
    assert_eq!((client.secrets()[0].stored(), clients.replaced()), (&stored(BCRYPT_OF_CHOSEN), 0));
}

#[tokio::test]
async fn a_new_secret_is_accepted_though_the_client_is_cached_and_a_flood_of_wrong_ones_causes_few_store_calls() {
    let clients = Observed::of(person(ClientSecret::new(SECRET.as_str()).unwrap().try_into().unwrap()));
    let clock = clock();
    let server = settings(clients.clone()).clock(clock.clone()).build().unwrap();
    for _ in 0..10 {
        send(&server, person_shows(&SECRET)).await.assert_token();
    }
    assert_eq!(clients.found.load(Ordering::SeqCst), 1);
    clock.advance(Duration::from_secs(5));
    for _ in 0..50 {
        send(&server, person_shows(&WRONG_SECRET)).await.assert_refused(401, "invalid_client");
    }
    assert_eq!(clients.found.load(Ordering::SeqCst), 2, "one look of the last five seconds does for all refusals");

    let new = ClientSecret::generate().unwrap();
    let id = ClientId::from_static("person");
    clients.add_secret(&id, RegisteredSecret::new("new", &new).unwrap()).await.unwrap();
    clock.advance(Duration::from_secs(5));
    send(&server, person_shows(new.expose())).await.assert_token();
    assert_eq!(clients.found.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_client_that_was_enabled_again_is_accepted_as_soon_as_the_cached_answer_is_five_seconds_old() {
    let secret = ClientSecret::new(SECRET.as_str()).unwrap();
    let clients = Observed::of(person(secret.try_into().unwrap()).disabled());
    let clock = clock();
    let server = settings(clients.clone()).clock(clock.clone()).build().unwrap();
    send(&server, person_shows(&SECRET)).await.assert_refused(401, "invalid_client");
    clients.enable(&ClientId::from_static("person")).await.unwrap();
    clock.advance(Duration::from_secs(5));
    send(&server, person_shows(&SECRET)).await.assert_token();
    assert_eq!(clients.found.load(Ordering::SeqCst), 2);
}

fn old_secrets(events: &mut EventReceiver) -> Vec<(Event, String, String)> {
    let mut found = Vec::new();
    while let Some(event) = events.try_recv() {
        if let Outcome::OldSecretUsed { label, newer, .. } = &event.outcome {
            found.push((event.clone(), label.clone(), newer.clone()));
        }
    }
    found
}

#[tokio::test]
async fn an_old_secret_that_is_still_used_is_reported_once_an_hour_by_its_label() {
    let secrets: Vec<ClientSecret> = (0..4).map(|_| ClientSecret::generate().unwrap()).collect();
    let labelled = |number: usize, label: &str| RegisteredSecret::new(label, &secrets[number]).unwrap();
    let client = person(stored(HASHES[0].1))
        .without_secret("1")
        .registered_secret(labelled(0, "2024"))
        .registered_secret(labelled(1, "2026").created_at(at(NOW - 10)))
        .registered_secret(labelled(2, "2025").created_at(at(NOW - 20)))
        .registered_secret(labelled(3, "ended").created_at(at(NOW - 5)).expires_at(at(NOW - 1)));
    let (sender, mut events) = event::channel();
    let clock = clock();
    let server =
        settings(MemoryStore::try_from([client]).unwrap()).events(sender).clock(clock.clone()).build().unwrap();
    let mut request = Request::from(person_shows(secrets[0].expose()));
    request.extensions_mut().insert("a request id");
    assert_eq!(server.token_service().oneshot(request).await.unwrap().status(), 200);

    let told = old_secrets(&mut events);
    let (event, label, newer) = &told[0];
    assert_eq!((told.len(), label.as_str()), (1, "2024"));
    assert!(["2025", "2026"].contains(&newer.as_str()));
    assert_eq!((event.client_id.as_deref(), event.at), (Some("person"), at(NOW)));
    assert_eq!(event.extensions.get(), Some(&"a request id"));

    // The third is older than the second, regardless of their order, and the expired one does not count as newer.
    for number in [2, 1, 0, 2] {
        send(&server, person_shows(secrets[number].expose())).await.assert_token();
    }
    let told: Vec<_> = old_secrets(&mut events).into_iter().map(|(_, old, newer)| (old, newer)).collect();
    assert_eq!(told, [("2025".to_owned(), "2026".to_owned())]);
    clock.advance(Duration::from_secs(60 * 60));
    for _ in 0..3 {
        send(&server, person_shows(secrets[0].expose())).await.assert_token();
    }
    assert_eq!(old_secrets(&mut events).len(), 1);
}

#[tokio::test]
async fn a_wrong_secret_is_an_event_even_if_its_caller_disconnected_and_a_correct_one_is_not() {
    let (sender, mut events) = event::channel();
    let clients = MemoryStore::try_from([person(stored(BCRYPT_OF_CHOSEN))]).unwrap();
    // One client has two of the three places, so that neither waits.
    let server = settings(clients).slow_checks(3, 0).events(sender).build().unwrap();
    for secret in [CHOSEN, WRONG] {
        let mut answer = Box::pin(send(&server, person_shows(secret)));
        assert!(futures_util::poll!(&mut answer).is_pending());
        drop(answer);
    }
    let event = eventually(async || events.try_recv()).await;
    let Outcome::AuthenticationFailed(error) = &event.outcome else { panic!("{event:?}") };
    assert!(error.to_string().contains("hung up"), "{error}");
    assert_eq!((event.client_id.as_deref(), error.status().as_u16()), (Some("person"), 401));
    eventually(async || {
        let answer = send(&server, person_shows(CHOSEN)).await;
        let Outcome::Issued { .. } = events.try_recv()?.outcome else { panic!("{answer:?}") };
        Some(())
    })
    .await;
}

#[tokio::test]
async fn chosen_secrets_are_checked_and_hashes_replaced_where_the_application_chooses() {
    let (checks, waiting) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
    let checked = thread::spawn(move || waiting.into_iter().map(|check| check()).count());
    let clients = Observed::of(person(stored(BCRYPT_OF_CHOSEN)));
    let builder = settings(clients.clone()).upgrade_hashes(clients.clone());
    let server = builder.slow_checks_on(move |check| checks.send(check).unwrap()).build().unwrap();
    send(&server, person_shows(CHOSEN)).await.assert_token();
    send(&server, person_shows(WRONG)).await.assert_refused(401, "invalid_client");
    eventually(async || (clients.replaced() == 1).then_some(())).await;
    drop(server);
    assert_eq!(checked.join().unwrap(), 2);
}

#[tokio::test]
async fn a_dropped_check_is_a_503_is_not_counted_and_frees_its_place() {
    let handed_over = AtomicUsize::new(0);
    let clients = MemoryStore::try_from([person(stored(BCRYPT_OF_CHOSEN))]).unwrap();
    let builder = settings(clients).slow_checks(1, 0).slow_checks_on(move |check| {
        if handed_over.fetch_add(1, Ordering::Relaxed) >= 200 {
            check();
        }
    });
    let server = builder.build().unwrap();
    for _ in 0..200 {
        send(&server, person_shows(WRONG)).await.assert_refused(503, "temporarily_unavailable");
    }
    send(&server, person_shows(CHOSEN)).await.assert_token();
}

/// Captures everything that this process logs, from the first call on.
fn log() -> String {
    static LOG: LazyLock<Log> = LazyLock::new(|| {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        tracing::subscriber::set_global_default(subscriber.with_writer(move || writer.clone()).finish()).unwrap();
        log
    });
    String::from_utf8_lossy(&LOG.0.lock().unwrap()).into_owned()
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_no_event_no_error_no_debug_and_no_response_shows_a_secret() {
    log();
    let record =
        format!(r#"{{"client_id":"plain","client_secrets":[{{"label":"1","dangerous_plain":"{CHOSEN} 2"}}]}}"#);
    let plain: RegisteredClient = serde_json::from_str(&record).unwrap();
    let client = person(stored(BCRYPT_OF_CHOSEN)).secret(ClientSecret::new(SECRET.as_str()).unwrap());
    let clients = MemoryStore::try_from([client, Client::from_registered(plain).audience(API)]).unwrap();
    let (sender, mut events) = event::channel();
    let server = settings(clients.clone()).upgrade_hashes(clients.clone()).events(sender).build().unwrap();

    let mut shown = vec![format!("{clients:?} {server:?} {:?}", ClientSecret::new(CHOSEN).unwrap())];
    for (id, secret) in [
        ("person", CHOSEN),
        ("person", &SECRET),
        ("person", WRONG),
        ("person", &WRONG_SECRET),
        ("person", LONG),
        ("plain", "correct horse 2"),
        ("nobody", WRONG),
    ] {
        let answer = send(&server, post(GRANT).basic(id, secret)).await;
        shown.push(format!("{:?} {:?}", answer.headers, answer.reason));
        shown.push(String::from_utf8(answer.body.to_vec()).unwrap());
    }
    for text in [CHOSEN, &SECRET[..20], &format!("{}x", *SECRET)] {
        shown.push(format!("{:?}", text.parse::<StoredSecret>()));
    }
    eventually(async || log().contains("replaced the secret hash of an older system").then_some(())).await;
    while let Some(event) = events.try_recv() {
        shown.push(format!("{event:?}"));
    }
    for client in clients.list(None, NonZeroUsize::MAX).await.unwrap() {
        shown.push(format!("{client:?}"));
    }
    shown.push(log());
    let shown = shown.concat();
    assert!(
        shown.contains("matches none of the client") && shown.contains("OldSecretUsed"),
        "what should be seen is seen: {shown}"
    );
    for secret in [CHOSEN, WRONG, LONG, &SECRET, &WRONG_SECRET, GENERATED, &BCRYPT_OF_CHOSEN[30..]] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

/// Requests tokens one after another, and returns the sorted times.
async fn times(site: &Site, request: &TokenRequest, times: usize) -> Vec<Duration> {
    let mut took = Vec::new();
    for _ in 0..times {
        let start = Instant::now();
        let answer = site.send(request.clone()).await;
        took.push(start.elapsed());
        answer.assert_token();
    }
    took.sort();
    took
}

/// The outcomes of the requests of a flood.
#[derive(Clone, Debug, Default)]
struct Flood {
    checked: Arc<AtomicUsize>,
    turned_away: Arc<AtomicUsize>,
}

impl Flood {
    /// Wrong secrets for `victim`, fifty a second.
    async fn run(self, site: Site) {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        loop {
            pace.tick().await;
            match site.send(post(GRANT).basic("victim", WRONG)).await.status.as_u16() {
                401 => self.checked.fetch_add(1, Ordering::SeqCst),
                503 => self.turned_away.fetch_add(1, Ordering::SeqCst),
                other => panic!("an answer of {other}"),
            };
        }
    }
}

/// Prints how the times under a flood compare. Asserts that no other client was refused, and that the flood had its effect.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_wrong_secrets_for_one_client_affects_no_other_client_and_no_owner_of_a_generated_secret() {
    const TIMES: usize = 60;
    let chosen = |id: &str| Client::new(id, ClientSecret::new(CHOSEN).unwrap()).audience(API);
    let victim = chosen("victim").secret(ClientSecret::new(SECRET.as_str()).unwrap());
    let clients = MemoryStore::try_from([victim, chosen("other")]).unwrap();
    let no_limits = AttemptLimits::default().chosen_by_address(u32::MAX).chosen_by_client(u32::MAX);
    let server = settings(clients).attempt_limits(no_limits).build().unwrap();
    let site = Stack::PLAIN.issue(&server).await;
    let (other, owner) = (post(GRANT).basic("other", CHOSEN), post(GRANT).basic("victim", &SECRET));
    let alone = [times(&site, &other, TIMES).await, times(&site, &owner, TIMES).await];

    let flood = Flood::default();
    let callers: Vec<_> = (0..16).map(|_| tokio::spawn(flood.clone().run(site.clone()))).collect();
    let turned_away = || flood.turned_away.load(Ordering::SeqCst);
    eventually(async || (turned_away() > 0).then_some(())).await;
    let flooded = [times(&site, &other, TIMES).await, times(&site, &owner, TIMES).await];
    callers.iter().for_each(tokio::task::JoinHandle::abort);

    for (who, (alone, flooded)) in
        ["another client with a chosen secret", "the owner with a generated one"].iter().zip(alone.iter().zip(&flooded))
    {
        let (p50, p99) = (TIMES / 2, TIMES - 1);
        println!(
            "{who}: p50 {:?} alone, {:?} in the flood; p99 {:?} and {:?}, {:.2} times",
            alone[p50],
            flooded[p50],
            alone[p99],
            flooded[p99],
            flooded[p99].as_secs_f64() / alone[p99].as_secs_f64()
        );
    }
    let checked = flood.checked.load(Ordering::SeqCst);
    println!("the flood: {checked} wrong secrets checked, {} turned away", turned_away());
    assert!(checked > 0);
}
