//! Revoked tokens are refused: revoked by the revocation endpoint (RFC 7009) and by the operator, over sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use common::request::{GRANT, Stream, TokenRequest, billing_asks, post};
use common::stack::{Answer, Site, Stack, on_every_stack};
use common::{API, ISSUER, KEY, NOW, SECRET, WRONG_SECRET, client, clients, clock, forge, settings};
use oauth2::basic::BasicClient;
use oauth2::{AuthType, ClientId as OauthId, ClientSecret as OauthSecret, RevocationUrl, StandardRevocableToken};
use tower::ServiceExt as _;
use tower_client_credentials::authorization_server::{
    AuthorizationServerBuilder, ClientCacheLimits, ConfigError, PendingGrant,
};
use tower_client_credentials::clock::{Clock as _, ManualClock};
use tower_client_credentials::event::{self, Outcome};
use tower_client_credentials::registration::RegisteredClient;
use tower_client_credentials::store::{
    ChangeFeed, Changes, ClientAdmin as _, Cursor, Revocation, RevocationStore, StoreError, StoreFuture,
};
use tower_client_credentials::verification::{InvalidToken, VerifyError};
use tower_client_credentials::{
    AuthorizationServer, BearerAuthLayer, ClientId, ClientStore, KeyRing, MemoryStore, Revocations,
};

const BILLING: ClientId = ClientId::from_static("billing");

fn store() -> MemoryStore {
    MemoryStore::try_from(clients()).unwrap().clock(clock())
}

async fn follow(store: impl RevocationStore) -> Revocations {
    Revocations::follow(store).clock(clock()).await.unwrap()
}

/// A server whose clients and revocations are those of the store.
async fn revocable() -> (AuthorizationServer, Revocations) {
    let store = store();
    let revocations = follow(store.clone()).await;
    (settings(store).revocations(revocations.clone()).build().unwrap(), revocations)
}

async fn protect(stack: Stack, server: &AuthorizationServer) -> Site {
    stack.protect(server, [BearerAuthLayer::new(server.verifier(API).unwrap())]).await
}

async fn token_of_billing(site: &Site) -> String {
    site.send(billing_asks(GRANT)).await.assert_token()
}

async fn using(site: &Site, token: &str) -> Answer {
    site.get_authorized(&format!("Bearer {token}")).await
}

fn revoke(token: &str) -> TokenRequest {
    post(format!("token={token}")).to("/revoke")
}

/// §2.2: 200, an empty object, and no caching.
#[track_caller]
fn assert_done(answer: &Answer) {
    assert_eq!(answer.status, 200, "{answer:?}");
    // Some clients parse every response as JSON.
    assert_eq!((answer.header("content-type"), &answer.body[..]), (Some("application/json"), &b"{}"[..]), "{answer:?}");
    assert_eq!((answer.header("cache-control"), answer.header("pragma")), (Some("no-store"), Some("no-cache")));
}

#[tokio::test]
async fn a_client_revokes_one_token_and_the_others_stay_valid() {
    on_every_stack(async |stack| {
        let (server, _) = revocable().await;
        let site = protect(stack, &server).await;
        let (token, other) = (token_of_billing(&site).await, token_of_billing(&site).await);
        assert_eq!(using(&site, &token).await.status, 200);
        for _ in 0..2 {
            assert_done(&site.send(revoke(&token).basic("billing", &SECRET)).await);
            using(&site, &token).await.assert_invalid_token(&InvalidToken::Revoked);
        }
        assert_eq!(using(&site, &other).await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_wrong_token_type_hint_does_not_matter() {
    let (server, _) = revocable().await;
    let site = protect(Stack::PLAIN, &server).await;
    for hint in ["access_token", "refresh_token", "something-else"] {
        let token = token_of_billing(&site).await;
        let request = revoke(&token).param("token_type_hint", hint).basic("billing", &SECRET);
        assert_done(&site.send(request).await);
        using(&site, &token).await.assert_invalid_token(&InvalidToken::Revoked);
    }
}

#[tokio::test]
async fn an_unknown_expired_or_foreign_token_gets_the_same_response_and_is_not_revoked() {
    let (server, revocations) = revocable().await;
    let site = protect(Stack::PLAIN, &server).await;
    let token = token_of_billing(&site).await;
    let of_billing = |request: TokenRequest| request.basic("billing", &SECRET);
    for text in [
        "unknown".to_owned(),
        "a.b.c".to_owned(),
        format!("{token}x"),
        forge::good().sign_with(&forge::foreign_key()),
        forge::good().claim("iss", "https://other.example.com").sign(),
        forge::good().claim("client_id", "reports").sign(),
        forge::good().claim("exp", NOW - 301).claim("iat", NOW - 900).sign(),
        forge::good().without_claim("jti").sign(),
    ] {
        assert_done(&site.send(of_billing(revoke(&text))).await);
    }
    let reports = revoke(&token).param("client_id", "reports").param("client_secret", &SECRET);
    assert_done(&site.send(reports).await);
    assert_eq!(revocations.entries(), 0);
    assert_eq!(using(&site, &token).await.status, 200);
}

#[tokio::test]
async fn a_token_within_the_leeway_of_verifiers_is_revoked_though_it_has_expired() {
    let (server, revocations) = revocable().await;
    let site = protect(Stack::PLAIN, &server).await;
    let late = forge::good().claim("exp", NOW - 3).claim("iat", NOW - 600).sign();
    assert_eq!(using(&site, &late).await.status, 200);
    assert_done(&site.send(revoke(&late).basic("billing", &SECRET)).await);
    using(&site, &late).await.assert_invalid_token(&InvalidToken::Revoked);
    assert_eq!(revocations.entries(), 1);
}

#[tokio::test]
async fn a_signed_token_that_is_not_an_access_token_is_an_unsupported_token_type() {
    let (server, _) = revocable().await;
    let site = Stack::PLAIN.issue(&server).await;
    let id_token = forge::good().header("typ", "JWT").sign();
    let answer = site.send(revoke(&id_token).basic("billing", &SECRET)).await;
    answer.assert_refused(400, "unsupported_token_type");
}

#[tokio::test]
async fn a_revoking_client_authenticates_as_at_the_token_endpoint() {
    let (server, _) = revocable().await;
    let site = protect(Stack::PLAIN, &server).await;
    let token = token_of_billing(&site).await;
    for (request, status, error) in [
        (revoke(&token), 401, "invalid_client"),
        (revoke(&token).basic("billing", &WRONG_SECRET), 401, "invalid_client"),
        (revoke(&token).basic("nobody", &SECRET), 401, "invalid_client"),
        (revoke(&token).basic("retired", &SECRET), 401, "invalid_client"),
        (revoke(&token).param("client_id", "billing").param("client_secret", &SECRET), 401, "invalid_client"),
        (revoke(&token).basic("billing", &SECRET).param("client_secret", &SECRET), 400, "invalid_request"),
        (post("token_type_hint=access_token").to("/revoke").basic("billing", &SECRET), 400, "invalid_request"),
        (revoke(&token).param("token", &token).basic("billing", &SECRET), 400, "invalid_request"),
        (revoke(&token).basic("billing", &SECRET).method("GET"), 405, "invalid_request"),
        (revoke(&token).basic("billing", &SECRET).content_types(&["application/json"]), 400, "invalid_request"),
        (post(vec![b'a'; 65 * 1024]).to("/revoke").basic("billing", &SECRET), 413, "invalid_request"),
        (revoke(&token).basic("billing", &SECRET).to("/revoke?client_secret=x"), 400, "invalid_request"),
    ] {
        site.send(request).await.assert_refused(status, error);
    }
    assert_eq!(using(&site, &token).await.status, 200);
}

#[tokio::test]
async fn a_wrong_head_at_either_endpoint_is_refused_at_once_regardless_of_the_speed_of_the_body() {
    let (server, _) = revocable().await;
    on_every_stack(async |stack| {
        let site = stack.issue(&server).await;
        for path in ["/revoke", "/introspect"] {
            let request = || post("").basic("billing", &SECRET).to(path);
            for (request, status) in [
                (request().method("GET"), 405),
                (request().content_types(&["application/json"]), 400),
                (request().to(&format!("{path}?client_secret=x")), 400),
            ] {
                let mut request = request.stream(Stream::of(["token=x"]).then_stalls());
                request.headers_mut().insert(http::header::CONTENT_LENGTH, 100.into());
                site.send(request).await.assert_refused(status, "invalid_request");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_oauth2_crate_revokes() {
    let (server, _) = revocable().await;
    let site = protect(Stack::PLAIN, &server).await;
    for (id, method, form) in [
        ("billing", AuthType::BasicAuth, billing_asks(GRANT)),
        ("reports", AuthType::RequestBody, post(GRANT).param("client_id", "reports").param("client_secret", &SECRET)),
    ] {
        let token = site.send(form).await.assert_token();
        // The crate requires HTTPS. The test redirects the request to its own server.
        let https = RevocationUrl::new("https://auth.example.com/revoke".to_owned()).unwrap();
        let client = BasicClient::new(OauthId::new(id.to_owned()))
            .set_client_secret(OauthSecret::new(SECRET.clone()))
            .set_auth_type(method)
            .set_revocation_url(https);
        let token_to_revoke = StandardRevocableToken::AccessToken(oauth2::AccessToken::new(token.clone()));
        let request = client.revoke_token(token_to_revoke).unwrap();
        let send = |mut request: http::Request<Vec<u8>>| {
            *request.uri_mut() = site.url("/revoke").parse().unwrap();
            site.call(request)
        };
        request.request_async(&send).await.unwrap();
        using(&site, &token).await.assert_invalid_token(&InvalidToken::Revoked);
    }
}

#[tokio::test]
async fn the_operator_revokes_one_token_a_client_and_a_key() {
    let (events, mut listener) = event::channel();
    let (store, now) = (store(), clock());
    let revocations = follow(store.clone()).await;
    let server = settings(store).clock(now.clone()).revocations(revocations.clone()).events(events).build().unwrap();
    let site = protect(Stack::PLAIN, &server).await;

    let token = token_of_billing(&site).await;
    let Outcome::Issued { token_id, .. } = listener.try_recv().unwrap().outcome else { panic!("an issued token") };
    let other = token_of_billing(&site).await;
    revocations.revoke_token(&BILLING, &token_id).await.unwrap();
    using(&site, &token).await.assert_invalid_token(&InvalidToken::Revoked);
    assert_eq!(using(&site, &other).await.status, 200);

    revocations.revoke_client(&BILLING).await.unwrap();
    using(&site, &other).await.assert_invalid_token(&InvalidToken::Revoked);
    let answer = site.send(billing_asks(GRANT)).await;
    answer.assert_refused(503, "temporarily_unavailable");
    assert_eq!(answer.header("retry-after"), Some("3"));
    now.advance(Duration::from_secs(3));
    let next = token_of_billing(&site).await;
    assert_eq!(using(&site, &next).await.status, 200, "its date is three seconds ahead");
    assert_eq!(forge::parts(&next).1["iat"], NOW + 6);

    revocations.revoke_key(&forge::key_id()).await.unwrap();
    using(&site, &next).await.assert_invalid_token(&InvalidToken::Revoked);
    let answer = site.send(billing_asks(GRANT)).await;
    answer.assert_refused(503, "temporarily_unavailable");
    assert!(answer.reason.unwrap().contains("give the server another key"));
}

#[tokio::test]
async fn a_client_that_was_revoked_repeatedly_waits_for_the_clock() {
    let (server, revocations) = revocable().await;
    let site = protect(Stack::PLAIN, &server).await;
    revocations.revoke_client(&BILLING).await.unwrap();
    revocations.revoke_client(&BILLING).await.unwrap();
    let answer = site.send(billing_asks(GRANT)).await;
    answer.assert_refused(503, "temporarily_unavailable");
    assert_eq!(answer.header("retry-after"), Some("4"));
    let reports = post(GRANT).param("client_id", "reports").param("client_secret", &SECRET);
    site.send(reports).await.assert_token();
}

#[tokio::test]
async fn disabling_a_client_revokes_its_tokens() {
    let store = store();
    let revocations = follow(store.clone()).await;
    let server = settings(store.clone()).revocations(revocations.clone()).build().unwrap();
    let site = protect(Stack::PLAIN, &server).await;
    let token = token_of_billing(&site).await;
    store.disable(&BILLING).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while revocations.entries() == 0 {
        assert!(tokio::time::Instant::now() < deadline, "the view has it");
        tokio::task::yield_now().await;
    }
    using(&site, &token).await.assert_invalid_token(&InvalidToken::Revoked);
}

/// Runs in process, so that the time of the runtime can be paused.
async fn ask(server: &AuthorizationServer) -> Answer {
    let request = http::Request::from(billing_asks(GRANT));
    Answer::read(server.token_service().oneshot(request).await.unwrap()).await
}

/// A server whose wall clock was set back after `revoke_client`, and the token that it issued next.
struct SetBack {
    store: MemoryStore,
    revocations: Revocations,
    now: ManualClock,
    server: AuthorizationServer,
    old: String,
    new: String,
}

async fn set_back_after_a_revocation(seconds: u64) -> SetBack {
    let now = clock();
    let store = MemoryStore::try_from(clients()).unwrap().clock(now.clone());
    let revocations = Revocations::follow(store.clone()).clock(now.clone()).await.unwrap();
    let introspects = client("gateway").introspects(API).without_grant().register().unwrap();
    store.create(introspects).await.unwrap();
    let server = settings(store.clone()).clock(now.clone()).revocations(revocations.clone()).reuse_tokens(50);
    let server = server.build().unwrap();
    let old = ask(&server).await.assert_token();
    revocations.revoke_client(&BILLING).await.unwrap();

    now.set(common::at(NOW - seconds));
    let answer = ask(&server).await;
    answer.assert_refused(503, "temporarily_unavailable");
    assert_eq!(answer.header("retry-after"), Some("3"), "and not until the clock is right again");
    tokio::time::advance(Duration::from_secs(3)).await;
    let new = ask(&server).await.assert_token();
    SetBack { store, revocations, now, server, old, new }
}

async fn is_active(server: &AuthorizationServer, token: &str) -> bool {
    let asked = post(format!("token={token}")).basic("gateway", &SECRET);
    let answer = server.introspection_service().oneshot(asked.into()).await.unwrap();
    Answer::read(answer).await.json()["active"] == true
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_after_a_revocation_delays_the_client_by_seconds_only() {
    for seconds in [3_600, 86_400] {
        let SetBack { revocations, now, server, old, new, .. } = set_back_after_a_revocation(seconds).await;
        let verifier = server.verifier(API).unwrap();
        let claims = forge::parts(&new).1;
        assert_eq!(claims["iat"], NOW - seconds, "it is dated by the wall clock");
        assert_eq!(
            claims["exp"],
            NOW - seconds + 600,
            "its lifetime is not longer than that of other tokens, by either clock"
        );
        assert!(verifier.verify_now(&new).is_ok(), "it is valid where it was issued");
        assert_eq!(verifier.verify_now(&old).unwrap_err(), InvalidToken::NotYetValid.into());
        assert!(is_active(&server, &new).await && !is_active(&server, &old).await);

        now.advance(Duration::from_secs(60));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let again = ask(&server).await;
        assert_eq!(again.json()["expires_in"], 540, "it is reused for no longer than its lifetime");
        let other = forge::good().claim("iat", NOW - seconds).claim("exp", NOW + 600).sign();
        assert_eq!(
            verifier.verify_now(&other).unwrap_err(),
            InvalidToken::Revoked.into(),
            "its date alone is not enough"
        );

        revocations.revoke_client(&BILLING).await.unwrap();
        assert_eq!(
            verifier.verify_now(&new).unwrap_err(),
            InvalidToken::Revoked.into(),
            "a second revocation reaches it"
        );
        assert_eq!(ask(&server).await.header("retry-after"), Some("3"));
        tokio::time::advance(Duration::from_secs(3)).await;
        let third = ask(&server).await.assert_token();
        assert!(verifier.verify_now(&third).is_ok());
        assert_eq!(verifier.verify_now(&new).unwrap_err(), InvalidToken::Revoked.into());

        // Correct again, or as wrong as before.
        now.set(common::at(NOW + 100));
        tokio::time::sleep(Duration::from_secs(1)).await;
        for token in [&old, &new, &other, &third] {
            assert!(verifier.verify_now(token).is_err());
        }
        let usual = ask(&server).await.assert_token();
        assert!(verifier.verify_now(&usual).is_ok());
    }
}

/// Revokes the tokens of a client in one of the possible ways. `elsewhere` is another host with this clock.
async fn end_tokens(way: usize, own: &SetBack, elsewhere: &ManualClock) -> Option<&'static str> {
    let store = own.store.clone().clock(elsewhere.clone());
    let other = Revocations::follow(store.clone()).clock(elsewhere.clone()).await.unwrap();
    let longest = Duration::from_secs(86_400);
    Some(match way {
        0 => {
            store.disable(&BILLING).await.unwrap();
            "ClientAdmin::disable"
        }
        1 => {
            store.delete(&BILLING).await.unwrap();
            "ClientAdmin::delete"
        }
        2 => {
            other.revoke_client(&BILLING).await.unwrap();
            "Revocations::revoke_client elsewhere"
        }
        3 => {
            other.disable(&store, &BILLING).await.unwrap();
            "Revocations::disable elsewhere"
        }
        4 => {
            other.delete(&store, &BILLING).await.unwrap();
            "Revocations::delete elsewhere"
        }
        5 => {
            let revocation = Revocation::client(BILLING, elsewhere.now(), longest);
            store.revoke(revocation).await.unwrap();
            "RevocationStore::revoke"
        }
        6 => {
            own.revocations.revoke_client(&BILLING).await.unwrap();
            "Revocations::revoke_client"
        }
        7 => {
            own.revocations.disable(&own.store, &BILLING).await.unwrap();
            "Revocations::disable"
        }
        8 => {
            own.revocations.delete(&own.store, &BILLING).await.unwrap();
            "Revocations::delete"
        }
        9 => {
            let request = post(format!("token={}", own.new)).basic("billing", &SECRET);
            let answer = own.server.revocation_service().unwrap().oneshot(request.into()).await.unwrap();
            assert_eq!(answer.status(), 200);
            "the revocation endpoint"
        }
        _ => return None,
    })
}

#[tokio::test(start_paused = true)]
async fn every_revocation_of_a_client_after_a_clock_was_set_back_ends_its_new_token_everywhere() {
    for (seconds, is_right) in [(60, true), (60, false), (3_600, true), (3_600, false), (86_400, true), (86_400, false)]
    {
        for way in 0.. {
            let own = set_back_after_a_revocation(seconds).await;
            let verifier = own.server.verifier(API).unwrap();
            assert!(verifier.verify_now(&own.new).is_ok());
            let elsewhere = if is_right { ManualClock::at(common::at(NOW + 10)) } else { own.now.clone() };
            let Some(name) = end_tokens(way, &own, &elsewhere).await else { break };
            let case = format!("{name}, set back by {seconds}, and the other clock is right: {is_right}");
            own.now.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_secs(1)).await;
            let refused = Err(InvalidToken::Revoked.into());
            assert_eq!(verifier.verify_now(&own.new).map(drop), refused, "{case}");
            assert!(!is_active(&own.server, &own.new).await, "{case}");

            // After a restart, and in another process.
            let fresh = Revocations::follow(own.store.clone()).clock(own.now.clone()).await.unwrap();
            let restarted = settings(own.store.clone()).clock(own.now.clone()).revocations(fresh);
            let restarted = restarted.build().unwrap().verifier(API).unwrap();
            // By each clock that is possible during the life of the token.
            for time in [NOW - seconds, NOW - seconds + 300, NOW, NOW + 5, NOW + 300, NOW + 900] {
                own.now.set(common::at(time));
                tokio::time::sleep(Duration::from_secs(1)).await;
                let both = [&verifier, &restarted].map(|verifier| [(verifier, &own.new), (verifier, &own.old)]);
                for (verifier, token) in both.into_iter().flatten() {
                    let refused = verifier.verify_now(token).unwrap_err();
                    assert!(matches!(refused, VerifyError::Refused(_)), "{case}, at {time}: {refused:?}");
                }
            }
        }
    }
}

/// The same second occurs twice, with the same revocation, which a store keeps once.
#[tokio::test(start_paused = true)]
async fn a_token_from_a_clock_that_was_set_back_has_expired_when_the_time_of_the_revocation_comes_again() {
    let SetBack { store, now, server, new, .. } = set_back_after_a_revocation(120).await;
    let verifier = server.verifier(API).unwrap();
    let claims = forge::parts(&new).1;
    assert_eq!((claims["iat"].as_u64(), claims["exp"].as_u64()), (Some(NOW - 120), Some(NOW - 15)));
    now.set(common::at(NOW - 61));
    let again = ask(&server).await;
    assert_eq!(again.json()["expires_in"], 46, "it is reused");
    now.set(common::at(NOW - 40));
    let next = ask(&server).await;
    let (next, expires_in) = (next.assert_token(), next.json()["expires_in"].clone());
    assert_eq!(expires_in, 25);
    assert!(verifier.verify_now(&next).is_ok());

    now.set(common::at(NOW - 20));
    let near = ask(&server).await;
    near.assert_refused(503, "temporarily_unavailable");
    assert_eq!(near.header("retry-after"), Some("23"));
    now.set(common::at(NOW - 10));
    for token in [&new, &next] {
        assert!(verifier.verify_now(token).is_err());
    }
    now.set(common::at(NOW));
    store.revoke(Revocation::client(BILLING, now.now(), Duration::from_secs(86_400))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for token in [&new, &next] {
        assert!(verifier.verify_now(token).is_err());
    }
    now.set(common::at(NOW + 3));
    let usual = ask(&server).await.assert_token();
    assert_eq!(forge::parts(&usual).1["exp"], NOW + 606);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_back_causes_a_warning_for_each_affected_client() {
    let log = Log::default();
    let writer = log.clone();
    common::enable_log_lines();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let SetBack { now, server, .. } = set_back_after_a_revocation(3_600).await;
    now.advance(Duration::from_secs(500));
    ask(&server).await.assert_token();
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("the wall clock was set back").count(), 1, "{text}");
    assert!(text.contains("billing") && text.contains("correct the clock"), "{text}");
}

#[tokio::test]
async fn the_wait_after_the_tokens_of_a_client_were_revoked_is_no_error_in_the_log() {
    let log = Log::default();
    let writer = log.clone();
    common::enable_log_lines();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let (server, revocations) = revocable().await;
    revocations.revoke_client(&BILLING).await.unwrap();
    let answer = ask(&server).await;
    answer.assert_refused(503, "temporarily_unavailable");
    assert_eq!(answer.header("retry-after"), Some("3"));
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(!text.contains("ERROR") && !text.contains("WARN"), "{text}");
    assert!(text.contains("INFO") && text.contains("its tokens were revoked a moment ago"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_because_of_a_wrong_clock_is_an_error_in_the_log() {
    let SetBack { store, now, .. } = set_back_after_a_revocation(3_600).await;
    let log = Log::default(); // of what follows
    let writer = log.clone();
    common::enable_log_lines();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let elsewhere = Revocations::follow(store.clone()).clock(now.clone()).await.unwrap();
    let elsewhere = settings(store).clock(now.clone()).revocations(elsewhere).build().unwrap();
    ask(&elsewhere).await.assert_refused(503, "temporarily_unavailable");
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("ERROR") && text.contains("could not answer a client"), "{text}");
}

/// The clock of one host is an hour ahead, and is then corrected.
#[tokio::test(start_paused = true)]
async fn a_token_from_a_clock_that_was_set_back_is_valid_in_its_own_process_only() {
    let SetBack { store, server, now, new, .. } = set_back_after_a_revocation(3_600).await;
    let elsewhere = Revocations::follow(store.clone()).clock(now.clone()).await.unwrap();
    let elsewhere = settings(store).clock(now.clone()).revocations(elsewhere).build().unwrap();
    assert!(server.verifier(API).unwrap().verify_now(&new).is_ok());
    let refused = elsewhere.verifier(API).unwrap().verify_now(&new).unwrap_err();
    assert_eq!(refused, InvalidToken::Revoked.into(), "other processes cannot distinguish it from a revoked one");
    ask(&elsewhere).await.assert_refused(503, "temporarily_unavailable");
}

#[tokio::test]
async fn one_call_disables_a_client_in_its_store_and_ends_its_tokens_even_if_the_store_is_not_followed() {
    for is_deleted in [false, true] {
        let (clients, feed) = (store(), MemoryStore::default());
        let (revocations, elsewhere) = (follow(feed.clone()).await, follow(feed).await);
        let builder = |revocations: &Revocations| settings(Elsewhere(clients.clone())).revocations(revocations.clone());
        let (server, other) = (builder(&revocations).build().unwrap(), builder(&elsewhere).build().unwrap());
        let (site, far) = (protect(Stack::PLAIN, &server).await, protect(Stack::PLAIN, &other).await);
        let token = token_of_billing(&site).await;
        token_of_billing(&far).await;
        if is_deleted {
            revocations.delete(&clients, &BILLING).await.unwrap();
        } else {
            revocations.disable(&clients, &BILLING).await.unwrap();
        }
        // The clocks stand still: by time alone, both caches would keep the client for a minute.
        site.send(billing_asks(GRANT)).await.assert_refused(401, "invalid_client");
        using(&site, &token).await.assert_invalid_token(&InvalidToken::Revoked);
        let begun = tokio::time::Instant::now();
        let mut issued = 0;
        while far.send(billing_asks(GRANT)).await.status != 401 {
            assert!(begun.elapsed() < Duration::from_secs(5), "the feed reports it");
            issued += 1;
        }
        println!("elsewhere it was refused after {:?}, and {issued} tokens", begun.elapsed());
        using(&far, &token).await.assert_invalid_token(&InvalidToken::Revoked);
        // A second call does no harm, and an unknown client is an error.
        let again = revocations.disable(&clients, &BILLING).await;
        assert_eq!(again.is_err(), is_deleted, "{again:?}");
    }
}

#[cfg(feature = "file")]
#[tokio::test]
async fn building_a_server_that_does_not_follow_its_administered_store_logs_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clients.toml");
    std::fs::write(&path, "clients = []\n").unwrap();
    let file = tower_client_credentials::store::FileStore::open(&path).await.unwrap();
    let build = |has_revocations: bool, is_administered: bool| {
        let (log, file, revocations) = (Log::default(), file.clone(), has_revocations.then(|| follow(file.clone())));
        async move {
            let revocations = match revocations {
                Some(revocations) => Some(revocations.await),
                None => None,
            };
            let builder = if is_administered { settings(file) } else { settings(MemoryStore::default()) };
            let builder = revocations.into_iter().fold(builder, AuthorizationServerBuilder::revocations);
            let writer = log.clone();
            common::enable_log_lines();
            let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
            tracing::subscriber::with_default(subscriber, || builder.build()).unwrap();
            String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
        }
    };
    let text = build(false, true).await;
    assert!(text.contains("WARN") && text.contains("Revocations::follow(…)"), "{text}");
    assert_eq!(build(true, true).await, "");
    assert_eq!(build(false, false).await, "");
}

/// A store that is not in memory, so that its clients are cached.
#[derive(Clone, Debug)]
struct Elsewhere(MemoryStore);

impl ClientStore for Elsewhere {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        StoreFuture::new(async move { self.0.find(id).await })
    }
}

#[tokio::test]
async fn a_changed_client_is_looked_up_again_regardless_of_the_cache() {
    let store = store();
    let revocations = follow(store.clone()).await;
    let server = settings(Elsewhere(store.clone())).revocations(revocations).build().unwrap();
    let site = Stack::PLAIN.issue(&server).await;
    site.send(billing_asks(GRANT)).await.assert_token();
    store.disable(&BILLING).await.unwrap();
    let begun = tokio::time::Instant::now();
    // The clock stands still: by time alone, nothing would leave the cache.
    let mut issued = 0;
    while site.send(billing_asks(GRANT)).await.status != 401 {
        assert!(begun.elapsed() < Duration::from_secs(5), "the feed reports it");
        issued += 1;
    }
    println!("a disabled client was refused after {:?}, and {issued} tokens", begun.elapsed());
}

#[tokio::test]
async fn a_client_is_cached_no_longer_than_its_store_keeps_changes() {
    let limits = |minutes: u64| ClientCacheLimits::default().found(Duration::from_secs(60 * minutes));
    let revocations = follow(store()).await;
    let with_feed = |minutes| settings(store()).revocations(revocations.clone()).client_cache(limits(minutes)).build();
    assert!(with_feed(10).is_ok());
    let error = with_feed(11).unwrap_err().to_string();
    assert!(error.contains("`found`") && error.contains("10 minutes"), "{error}");
    assert!(settings(store()).client_cache(limits(11)).build().is_ok(), "without a feed there is nothing to miss");
}

/// Disconnected: the feed reports nothing, and the client is cached.
#[tokio::test]
async fn a_disabled_client_gets_no_token_where_the_feed_has_been_silent_for_two_seconds() {
    let (store, feed, now) = (store(), OutOfReach::default(), clock());
    let revocations = Revocations::follow(feed.clone()).clock(now.clone()).await.unwrap();
    let clients = Elsewhere(store.clone());
    let server = settings(clients).clock(now.clone()).revocations(revocations).build().unwrap();
    let site = Stack::PLAIN.issue(&server).await;
    site.send(billing_asks(GRANT)).await.assert_token();
    feed.1.store(true, Ordering::SeqCst);
    store.disable(&BILLING).await.unwrap();
    now.advance(Duration::from_secs(3));
    site.send(billing_asks(GRANT)).await.assert_refused(401, "invalid_client");
}

#[tokio::test]
async fn a_token_is_dated_at_most_five_seconds_after_the_store_confirmed_its_client() {
    for (seconds, status) in [(5, 200), (6, 503)] {
        let (store, now) = (store(), clock());
        let revocations = follow(store.clone()).await;
        let slow = now.clone();
        let server = settings(store).clock(now).revocations(revocations).grant_hook(move |_: &mut PendingGrant| {
            slow.advance(Duration::from_secs(seconds));
            Ok(())
        });
        let answer = Stack::PLAIN.issue(&server.build().unwrap()).await.send(billing_asks(GRANT)).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

#[tokio::test]
async fn a_token_lives_no_longer_than_revocations_are_kept() {
    #[derive(Clone, Debug)]
    struct Short(MemoryStore);

    impl ChangeFeed for Short {
        fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes> {
            StoreFuture::new(async move { self.0.changes(cursor).await })
        }
    }

    impl RevocationStore for Short {
        fn revoke(&self, revocation: Revocation) -> StoreFuture<'_, ()> {
            StoreFuture::new(async move { self.0.revoke(revocation).await })
        }

        fn purge(&self, now: SystemTime) -> StoreFuture<'_, u64> {
            StoreFuture::new(async move { self.0.purge(now).await })
        }

        fn longest_token_lifetime(&self) -> Duration {
            Duration::from_secs(60)
        }
    }

    let hour = Duration::from_secs(3_600);
    let clients = MemoryStore::try_from([client("billing").audience(API).token_lifetime(hour)]).unwrap();
    let revocations = follow(Short(MemoryStore::default())).await;
    let server = settings(clients).token_lifetime(hour).revocations(revocations).build().unwrap();
    let answer = Stack::PLAIN.issue(&server).await.send(billing_asks(GRANT)).await;
    assert_eq!(answer.json()["expires_in"], 60);
    assert_eq!(forge::parts(&answer.assert_token()).1["exp"], NOW + 60);
}

/// A revocation store that can be unavailable.
#[derive(Clone, Debug, Default)]
struct OutOfReach(MemoryStore, Arc<AtomicBool>);

impl OutOfReach {
    fn reached(&self) -> Result<&MemoryStore, StoreError> {
        if self.1.load(Ordering::SeqCst) { Err(StoreError::new("the store is gone")) } else { Ok(&self.0) }
    }
}

impl ChangeFeed for OutOfReach {
    fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes> {
        StoreFuture::new(async move { self.reached()?.changes(cursor).await })
    }
}

impl RevocationStore for OutOfReach {
    fn revoke(&self, revocation: Revocation) -> StoreFuture<'_, ()> {
        StoreFuture::new(async move { self.reached()?.revoke(revocation).await })
    }

    fn purge(&self, now: SystemTime) -> StoreFuture<'_, u64> {
        StoreFuture::new(async move { self.reached()?.purge(now).await })
    }
}

#[tokio::test]
async fn an_unavailable_store_is_a_503_for_revocations_at_once_and_for_tokens_once_the_view_is_too_old() {
    let (events, mut listener) = event::channel();
    let (store, clock) = (OutOfReach::default(), clock());
    let revocations = Revocations::follow(store.clone()).clock(clock.clone()).await.unwrap();
    // The server's own clock stands still, so its tokens stay valid.
    let server = settings(MemoryStore::try_from(clients()).unwrap()).revocations(revocations.clone()).build().unwrap();
    let guard = BearerAuthLayer::new(server.verifier(API).unwrap()).events(events);
    let site = Stack::PLAIN.protect(&server, [guard]).await;
    let (token, revoked) = (token_of_billing(&site).await, token_of_billing(&site).await);
    assert_done(&site.send(revoke(&revoked).basic("billing", &SECRET)).await);

    store.1.store(true, Ordering::SeqCst);
    let answer = site.send(revoke(&token).basic("billing", &SECRET)).await;
    answer.assert_refused(503, "temporarily_unavailable");
    assert_eq!(using(&site, &token).await.status, 200, "it was not revoked");

    clock.advance(Duration::from_secs(31));
    while listener.try_recv().is_some() {}
    let answer = using(&site, &token).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("1")));
    assert_eq!(answer.header("www-authenticate"), None);
    let Outcome::VerificationUnavailable(error) = listener.try_recv().unwrap().outcome else {
        panic!("the verification was possible")
    };
    assert!(error.to_string().contains("the revocations are unavailable"), "{error}");
    using(&site, &revoked).await.assert_invalid_token(&InvalidToken::Revoked);

    store.1.store(false, Ordering::SeqCst);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while using(&site, &token).await.status != 200 {
        assert!(tokio::time::Instant::now() < deadline, "it recovers");
    }
}

/// Captures the log of this thread as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_logged_once_when_it_begins_and_once_when_it_ends() {
    let log = Log::default();
    let writer = log.clone();
    common::enable_log_lines();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let store = OutOfReach::default();
    let _revocations = follow(store.clone()).await;
    for _ in 0..2 {
        for is_out_of_reach in [true, false] {
            store.1.store(is_out_of_reach, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines = |what: &str| text.lines().filter(|line| line.contains(what)).count();
    assert_eq!((lines("cannot read revocations"), lines("can be read from the store again")), (2, 2), "{text}");
    assert!(text.contains("the store is gone"), "the operator reads why: {text}");
}

#[tokio::test]
async fn each_revocation_is_an_event_with_the_id_of_the_token_and_not_the_token() {
    let (events, mut listener) = event::channel();
    let store = store();
    let revocations = follow(store.clone()).await;
    let server = settings(store).revocations(revocations).events(events).build().unwrap();
    let site = Stack::PLAIN.issue(&server).await;
    let token = token_of_billing(&site).await;
    let Outcome::Issued { token_id: issued, .. } = listener.try_recv().unwrap().outcome else { panic!() };
    for (text, expected) in [(token.as_str(), Some(issued)), ("unknown", None)] {
        site.send(revoke(text).basic("billing", &SECRET)).await;
        let event = listener.try_recv().unwrap();
        let Outcome::Revoked { token_id, .. } = &event.outcome else { panic!("{event:?}") };
        assert_eq!((token_id, event.client_id.as_deref()), (&expected, Some("billing")));
        assert!(!format!("{event:?}").contains(&token));
    }
    site.send(revoke(&token).basic("billing", &WRONG_SECRET)).await;
    assert!(matches!(listener.try_recv().unwrap().outcome, Outcome::AuthenticationFailed(_)));
}

#[tokio::test]
async fn the_metadata_names_the_revocation_endpoint_only_if_there_is_one() {
    let metadata = async |server: &AuthorizationServer| {
        let site = Stack::PLAIN.issue(server).await;
        site.get("/.well-known/oauth-authorization-server").await.json()
    };
    let (server, revocations) = revocable().await;
    let document = metadata(&server).await;
    assert_eq!(document["revocation_endpoint"], format!("{ISSUER}/revoke"));
    let methods = &document["token_endpoint_auth_methods_supported"];
    assert_eq!(&document["revocation_endpoint_auth_methods_supported"], methods);

    let with = |set: fn(AuthorizationServerBuilder) -> AuthorizationServerBuilder| {
        set(settings(MemoryStore::try_from(clients()).unwrap()).revocations(revocations.clone())).build().unwrap()
    };
    let moved = with(|builder| builder.revocation_path("/oauth/revoke"));
    assert_eq!(metadata(&moved).await["revocation_endpoint"], format!("{ISSUER}/oauth/revoke"));
    let off = with(|builder| builder.revocation_path(None));
    assert_eq!(metadata(&off).await.get("revocation_endpoint"), None);
    let site = Stack::PLAIN.issue(&off).await;
    assert_eq!(site.send(revoke("x").basic("billing", &SECRET)).await.json()["path"], "/revoke", "the inner service's");

    let without = settings(MemoryStore::try_from(clients()).unwrap()).build().unwrap();
    assert_eq!(metadata(&without).await.get("revocation_endpoint"), None);
    assert!(without.revocation_service().is_none());
    let mistake = settings(MemoryStore::try_from(clients()).unwrap()).revocation_path("/revoke").build();
    assert!(matches!(mistake, Err(ConfigError::NoRevocations)));
}

#[tokio::test]
async fn a_separate_verifier_refuses_revoked_tokens_too() {
    let (server, revocations) = revocable().await;
    let site = Stack::PLAIN.issue(&server).await;
    let token = token_of_billing(&site).await;
    let elsewhere = AuthorizationServer::builder(ISSUER, KeyRing::from_pem(KEY).unwrap(), MemoryStore::default());
    let verifier = elsewhere.clock(clock()).build().unwrap().verifier(API).unwrap();
    let following = verifier.clone().revocations(revocations.clone());
    assert!(following.verify_now(&token).is_ok());
    assert_done(&site.send(revoke(&token).basic("billing", &SECRET)).await);
    assert_eq!(following.verify_now(&token).unwrap_err(), InvalidToken::Revoked.into());
    assert!(verifier.verify_now(&token).is_ok(), "this verifier follows no store");
}
