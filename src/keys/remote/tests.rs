//! Tests with an issuer that goes down, changes its keys or sends invalid answers, in simulated time.

pub(super) use std::convert::Infallible;
pub(super) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
pub(super) use std::sync::{Arc, Mutex};
pub(super) use std::time::{Duration, SystemTime};

pub(super) use bytes::Bytes;
pub(super) use http::{Request, Response, StatusCode};
pub(super) use serde_json::json;
pub(super) use tokio::time::{Instant, sleep};
pub(super) use tower::limit::ConcurrencyLimit;
pub(super) use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};

pub(super) use crate::BearerAuthLayer;
pub(super) use crate::clock::{Clock, ManualClock};
pub(super) use crate::deadline::in_time;
pub(super) use crate::keys::{Algorithm, FoundKey, KeyRing, NoKey, SigningKey};
pub(super) use crate::transport::{HttpClient, HttpError, HttpFuture};
pub(super) use crate::verification::{
    InvalidToken, RefusedToken, RemoteIssuer, UnavailableKind, Verifier, VerifierErrorKind, VerifyError,
};

pub(super) type Body = http_body_util::Full<Bytes>;
use crate::watchdog::Watchdog;

pub(super) const ISSUER: &str = "https://auth.example.com/tenant";
pub(super) const API: &str = "https://api.example.com";
pub(super) const METADATA: &str = "https://auth.example.com/.well-known/oauth-authorization-server/tenant";
pub(super) const OPENID: &str = "https://auth.example.com/tenant/.well-known/openid-configuration";
pub(super) const KEYS: &str = "https://keys.example.com/jwks";
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);

/// A wall clock that follows tokio's clock, which tests control.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wall(pub(super) Instant);

impl Clock for Wall {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + self.0.elapsed()
    }
}

/// A simulated issuer behind an HTTP client without a network.
#[derive(Clone, Debug, Default)]
pub(super) struct Site(pub(super) Arc<Inner>);

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) down: AtomicBool,
    pub(super) fetches: AtomicUsize,
    pub(super) discoveries: AtomicUsize,
    pub(super) unchanged: AtomicUsize,
    /// The number of requests for keys that must not be answered by a cache.
    pub(super) revalidations: AtomicUsize,
    /// Whether an answer has the content at the time of the request, rather than at the time of the answer.
    pub(super) is_early: AtomicBool,
    /// Whether a 304 answer lacks the tag.
    pub(super) is_terse: AtomicBool,
    /// A URL that never answers.
    pub(super) hangs: Mutex<Option<String>>,
    /// The URLs that received a tag.
    pub(super) conditional: Mutex<Vec<String>>,
    pub(super) takes: Mutex<Duration>,
    pub(super) pages: Mutex<Vec<(String, Page)>>,
    _watchdog: Watchdog,
}

#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
}

impl Site {
    /// Creates a site with the metadata of RFC 8414 and the keys of this ring.
    pub(super) fn of(keys: &KeyRing) -> Self {
        let site = Self::default();
        site.set(METADATA, &json!({"issuer": ISSUER, "jwks_uri": KEYS}).to_string());
        site.publish(keys);
        site
    }

    pub(super) fn publish(&self, keys: &KeyRing) {
        self.set(KEYS, &serde_json::to_string(&keys.to_jwk_set()).unwrap());
    }

    pub(super) fn set(&self, url: &str, body: &str) {
        self.set_page(url, Page { status: StatusCode::OK, headers: Vec::new(), body: body.to_owned() });
    }

    pub(super) fn set_page(&self, url: &str, page: Page) {
        let mut pages = self.0.pages.lock().unwrap();
        pages.retain(|(own, _)| own != url);
        pages.push((url.to_owned(), page));
    }

    pub(super) fn remove(&self, url: &str) {
        self.0.pages.lock().unwrap().retain(|(own, _)| own != url);
    }

    pub(super) fn is_down(&self, down: bool) {
        self.0.down.store(down, Ordering::SeqCst);
    }

    /// Answers with the page at the time of the request, after this delay.
    pub(super) fn answers_as_of_the_request(&self, time: Duration) {
        self.0.is_early.store(true, Ordering::SeqCst);
        self.takes(time);
    }

    pub(super) fn hangs_at(&self, url: &str) {
        *self.0.hangs.lock().unwrap() = Some(url.to_owned());
    }

    pub(super) fn takes(&self, time: Duration) {
        *self.0.takes.lock().unwrap() = time;
    }

    /// Returns how often the keys were fetched.
    pub(super) fn fetches(&self) -> usize {
        self.0.fetches.load(Ordering::SeqCst)
    }

    pub(super) fn discoveries(&self) -> usize {
        self.0.discoveries.load(Ordering::SeqCst)
    }

    /// Returns how many requests for keys had `Cache-Control: no-cache`.
    pub(super) fn revalidations(&self) -> usize {
        self.0.revalidations.load(Ordering::SeqCst)
    }
}

impl HttpClient for Site {
    fn send(&self, request: Request<Bytes>, _: usize) -> HttpFuture<'_> {
        HttpFuture::new(async move {
            let url = request.uri().to_string();
            if request.headers().contains_key("if-none-match") {
                self.0.conditional.lock().unwrap().push(url.clone());
            }
            let counter = if url.contains("well-known") { &self.0.discoveries } else { &self.0.fetches };
            counter.fetch_add(1, Ordering::SeqCst);
            if request.headers().get("cache-control").is_some_and(|value| value == "no-cache") && url == KEYS {
                self.0.revalidations.fetch_add(1, Ordering::SeqCst);
            }
            if self.0.hangs.lock().unwrap().as_deref() == Some(&url) {
                return std::future::pending().await;
            }
            let takes = *self.0.takes.lock().unwrap();
            if self.0.is_early.load(Ordering::SeqCst) {
                let answer = self.answer(&request, &url);
                sleep(takes).await;
                return answer;
            }
            sleep(takes).await;
            self.answer(&request, &url)
        })
    }
}

impl Site {
    pub(super) fn answer(&self, request: &Request<Bytes>, url: &str) -> Result<Response<Bytes>, HttpError> {
        if self.0.down.load(Ordering::SeqCst) {
            return Err(HttpError::new("connection refused"));
        }
        let pages = self.0.pages.lock().unwrap();
        let Some((_, page)) = pages.iter().find(|(own, _)| own == url) else {
            return Ok(Response::builder().status(404).body("<html>".into()).unwrap());
        };
        let mut response = Response::builder().status(page.status);
        for (name, value) in &page.headers {
            response = response.header(*name, value);
            if *name == "etag" && request.headers().get("if-none-match").is_some_and(|tag| tag == value.as_str()) {
                self.0.unchanged.fetch_add(1, Ordering::SeqCst);
                if self.0.is_terse.load(Ordering::SeqCst) {
                    response = Response::builder();
                }
                return Ok(response.status(304).body(Bytes::new()).unwrap());
            }
        }
        Ok(response.body(page.body.clone().into()).unwrap())
    }
}

pub(super) fn issuer(site: &Site) -> RemoteIssuer {
    RemoteIssuer::new(ISSUER, API).unwrap().http_client(site.clone()).clock(Wall(Instant::now()))
}

pub(super) async fn connected(site: &Site) -> Verifier {
    issuer(site).connect().await.unwrap()
}

pub(super) fn ring() -> KeyRing {
    KeyRing::new(SigningKey::generate(Algorithm::ES256).unwrap())
}

/// The wall clock at the start of tests.
pub(super) const BEGIN: u64 = 1_700_000_000;

/// Returns a token that is valid for ten years.
pub(super) fn token(keys: &KeyRing) -> String {
    token_of(keys, BEGIN)
}

/// Returns a token that was issued at this second.
pub(super) fn token_of(keys: &KeyRing, iat: u64) -> String {
    let claims = json!({
        "iss": ISSUER, "sub": "billing", "aud": API, "client_id": "billing", "jti": "1", "scope": "read",
        "iat": iat, "exp": 2_000_000_000,
    });
    keys.signing_key().sign(claims.to_string().as_bytes()).unwrap()
}

/// Returns a token that names an unknown key. Nothing else in it is read.
pub(super) fn naming(key_id: &str) -> String {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": key_id});
    format!("{}.{}.AAAA", encode(&header.to_string()), encode("{}"))
}

#[track_caller]
pub(super) fn assert_unavailable(verified: Result<crate::VerifiedToken, VerifyError>) -> u64 {
    match verified {
        Err(VerifyError::Unavailable(unavailable)) if unavailable.kind() == UnavailableKind::Keys => {
            unavailable.retry_after_seconds()
        }
        verified => panic!("{verified:?}"),
    }
}

pub(super) const UNKNOWN: VerifyError = VerifyError::Refused(RefusedToken::new(InvalidToken::UnknownKey));

#[test]
pub(super) fn removing_a_key_invalidates_every_token_that_it_verified() {
    in_time(async {
        let (old, new) = (ring(), ring());
        let site = Site::of(&old);
        let verifier = connected(&site).await;
        let (of_old, of_new) = (token(&old), token(&new));
        verifier.verify(&of_old).await.unwrap();
        site.publish(&new);
        verifier.verify_now(&of_old).unwrap();
        sleep(10 * MINUTE).await;
        verifier.verify(&of_new).await.unwrap();
        assert!(verifier.remembers(&of_old) && verifier.remembers(&of_new), "neither was used again yet");
        assert_eq!(verifier.verify(&of_old).await.unwrap_err(), UNKNOWN);
        assert!(!verifier.remembers(&of_old) && verifier.remembers(&of_new));
    });
}

#[test]
pub(super) fn no_request_with_a_known_key_is_refused_while_the_issuer_is_down_for_ten_minutes() {
    in_time(async {
        let keys = ring();
        let site = Site::of(&keys);
        let (verifier, token) = (connected(&site).await, token(&keys));
        site.is_down(true);
        let mut admitted = 0;
        for _ in 0..10 * 60 {
            sleep(SECOND).await;
            verifier.verify(&token).await.unwrap();
            verifier.verify_now(&token).unwrap();
            admitted += 2;
        }
        println!(
            "the issuer down for 10 minutes: {admitted} of {admitted} requests admitted, {} fetches",
            site.fetches()
        );
        assert!(site.discoveries() > 5, "it was tried again");
    });
}

#[test]
pub(super) fn the_last_keys_are_used_for_a_day_and_then_tokens_get_503_until_the_issuer_recovers() {
    in_time(async {
        let keys = ring();
        let site = Site::of(&keys);
        let (verifier, token) = (connected(&site).await, token(&keys));
        let proof = verifier.verify_now(&token).unwrap();
        site.is_down(true);
        sleep((24 * 60 - 1) * MINUTE).await;
        assert!(verifier.verify(&token).await.is_ok() && verifier.is_ready());
        sleep(2 * MINUTE).await;
        assert!(!verifier.is_ready());
        assert!((1..=30).contains(&assert_unavailable(verifier.verify(&token).await)));
        assert!(matches!(verifier.still_good(&proof), Err(VerifyError::Unavailable(_))));
        site.is_down(false);
        verifier.ready().await;
        assert!(verifier.verify_now(&token).is_ok() && verifier.still_good(&proof).is_ok());
    });
}

#[test]
pub(super) fn a_new_key_is_fetched_for_its_first_token_once_for_all_waiting_requests() {
    in_time(async {
        let (old, new) = (ring(), ring());
        let site = Site::of(&old);
        let verifier = connected(&site).await;
        site.takes(SECOND);
        site.publish(&new.clone().also_trust(old.signing_key().verifying_key()));
        let (before, token) = (site.fetches(), token(&new));
        let waiting: Vec<_> = (0..100)
            .map(|_| {
                let (verifier, token) = (verifier.clone(), token.clone());
                tokio::spawn(async move { verifier.verify(&token).await })
            })
            .collect();
        for verified in waiting {
            verified.await.unwrap().unwrap();
        }
        assert_eq!(site.fetches() - before, 1);
    });
}

#[test]
pub(super) fn a_key_that_arrives_after_the_first_lookup_is_found_by_the_second() {
    in_time(async {
        let (keys, other) = (ring(), ring());
        let verifier = connected(&Site::of(&keys)).await;
        let remote = verifier.remote_keys().unwrap();
        let key = keys.signing_key().verifying_key();
        let found = remote.find_again(key.key_id(), "ES256").unwrap();
        assert_eq!(found.key.key_id(), key.key_id());
        assert!(matches!(remote.find_again(key.key_id(), "RS256"), Err(NoKey::Algorithm(_))));
        let stranger = other.signing_key().verifying_key();
        assert!(matches!(remote.find_again(stranger.key_id(), "ES256"), Err(NoKey::NotAsked)));
        assert!(remote.still_names_again(&found).unwrap());
        assert!(!remote.still_names_again(&FoundKey { key: stranger, ..found }).unwrap());
    });
}

#[test]
pub(super) fn a_caller_that_disconnects_does_not_end_the_fetch_for_others() {
    in_time(async {
        let (old, new) = (ring(), ring());
        let site = Site::of(&old);
        let verifier = connected(&site).await;
        site.takes(2 * SECOND);
        site.publish(&new);
        let (before, token) = (site.fetches(), token(&new));
        assert!(tokio::time::timeout(SECOND, verifier.verify(&token)).await.is_err());
        assert!(verifier.verify(&token).await.is_ok());
        assert_eq!(site.fetches() - before, 1);
    });
}

#[test]
pub(super) fn a_key_removed_from_the_set_is_trusted_until_the_next_fetch() {
    in_time(async {
        let (old, new) = (ring(), ring());
        let site = Site::of(&old);
        let (verifier, token) = (connected(&site).await, token(&old));
        let proof = verifier.verify_now(&token).unwrap();
        site.publish(&new);
        sleep(8 * MINUTE + SECOND).await;
        assert_eq!(verifier.verify(&token).await.unwrap_err(), UNKNOWN);
        assert_eq!(verifier.still_good(&proof).unwrap_err(), UNKNOWN);
    });
}

#[test]
pub(super) fn a_service_that_starts_before_its_issuer_is_unready_and_recovers() {
    in_time(async {
        let keys = ring();
        let site = Site::of(&keys);
        site.is_down(true);
        let verifier = issuer(&site).build().unwrap();
        assert!(!verifier.is_ready());
        let retry_after = assert_unavailable(verifier.verify(&token(&keys)).await);
        assert!((1..=2).contains(&retry_after), "{retry_after}");
        sleep(10 * MINUTE).await;
        site.is_down(false);
        let waited = Instant::now();
        verifier.ready().await;
        println!("ready {:?} after the issuer was up", waited.elapsed());
        assert!(verifier.is_ready() && waited.elapsed() <= 31 * SECOND);
        assert!(verifier.verify(&token(&keys)).await.is_ok());
    });
}

#[test]
pub(super) fn keys_are_refreshed_by_cache_control_and_not_sent_again_if_unchanged() {
    in_time(async {
        let keys = ring();
        let site = Site::of(&keys);
        let body = serde_json::to_string(&keys.to_jwk_set()).unwrap();
        let headers = vec![("cache-control", "max-age=3600".to_owned()), ("etag", "\"1\"".to_owned())];
        site.set_page(KEYS, Page { status: StatusCode::OK, headers, body });
        let verifier = connected(&site).await;
        assert_eq!(site.fetches(), 1);
        sleep((42 * 60 - 1) * SECOND).await;
        assert_eq!(site.fetches(), 1);
        sleep(6 * MINUTE + 2 * SECOND).await;
        assert_eq!((site.fetches(), site.0.unchanged.load(Ordering::SeqCst)), (2, 1));
        assert_eq!(site.discoveries(), 1, "the metadata is not fetched each time");
        sleep(48 * HOUR).await;
        assert!(verifier.verify_now(&token(&keys)).is_ok());
        assert!((2..=4).contains(&site.discoveries()), "but once a day: {}", site.discoveries());
    });
}

#[test]
pub(super) fn nothing_is_fetched_after_the_verifier_is_dropped() {
    in_time(async {
        let site = Site::of(&ring());
        drop(connected(&site).await);
        sleep(24 * HOUR).await;
        assert_eq!(site.fetches(), 1);
    });
}

#[test]
pub(super) fn openid_discovery_is_used_if_there_is_no_rfc_8414_metadata() {
    in_time(async {
        let keys = ring();
        let site = Site::of(&keys);
        site.remove(METADATA);
        site.set(OPENID, &json!({"issuer": ISSUER, "jwks_uri": KEYS}).to_string());
        assert!(connected(&site).await.verify(&token(&keys)).await.is_ok());
    });
}

#[test]
pub(super) fn a_key_set_url_needs_no_metadata() {
    in_time(async {
        let keys = ring();
        let site = Site::of(&keys);
        site.remove(METADATA);
        let verifier = issuer(&site).jwks_url(KEYS).unwrap().connect().await.unwrap();
        assert!(verifier.verify(&token(&keys)).await.is_ok());
        assert_eq!(site.discoveries(), 0);
        for url in ["http://keys.example.com/jwks", "https://h:99999", "ftp://keys.example.com", "/jwks", ""] {
            let refused = issuer(&site).jwks_url(url).and_then(RemoteIssuer::build).unwrap_err();
            assert_eq!(refused.kind(), VerifierErrorKind::Settings);
            assert!(refused.to_string().starts_with(&format!("invalid URL of the keys `{url}`")), "{refused}");
        }
    });
}

/// An issuer and its keys in a network that encrypts underneath, behind an HTTP client of the application.
#[test]
pub(super) fn plain_http_to_other_hosts_needs_the_setting_even_with_an_own_http_client() {
    in_time(async {
        const INSIDE: &str = "http://keycloak:8080/realms/m";
        let keys = ring();
        let site = Site::default();
        let metadata = json!({"issuer": INSIDE, "jwks_uri": "http://keys:8080/jwks"}).to_string();
        site.set("http://keycloak:8080/.well-known/oauth-authorization-server/realms/m", &metadata);
        site.set("http://keys:8080/jwks", &serde_json::to_string(&keys.to_jwk_set()).unwrap());
        let inside = || RemoteIssuer::new(INSIDE, API).unwrap().http_client(site.clone()).clock(Wall(Instant::now()));

        let refused = inside().connect().await.unwrap_err();
        assert!(refused.to_string().starts_with(&format!("invalid issuer `{INSIDE}`")), "{refused}");
        assert!(refused.to_string().contains("`dangerous_plain_http`"), "{refused}");
        let refused = issuer(&site).jwks_url("http://keys:8080/jwks").unwrap().connect().await.unwrap_err();
        assert!(refused.to_string().contains("`dangerous_plain_http`"), "{refused}");
        assert_eq!(site.discoveries() + site.fetches(), 0, "nothing was requested");

        let claims = |issuer: &str| json!({"iss": issuer, "sub": "b", "aud": API, "client_id": "b", "jti": "1", "iat": 1_700_000_000, "exp": 2_000_000_000});
        let sign = |issuer| keys.signing_key().sign(claims(issuer).to_string().as_bytes()).unwrap();
        let verifier = inside().dangerous_plain_http().connect().await.unwrap();
        assert!(verifier.verify(&sign(INSIDE)).await.is_ok());
        let named =
            issuer(&site).dangerous_plain_http().jwks_url("http://keys:8080/jwks").unwrap().connect().await.unwrap();
        assert!(named.verify(&sign(ISSUER)).await.is_ok());
    });
}

#[test]
pub(super) fn no_setting_lets_an_https_issuer_redirect_to_plain_http() {
    in_time(async {
        let redirect = |location: &str| Page {
            status: StatusCode::FOUND,
            headers: vec![("location", location.to_owned())],
            body: String::new(),
        };
        let site = Site::of(&ring());
        site.set(METADATA, &json!({"issuer": ISSUER, "jwks_uri": "http://keys.example.com/jwks"}).to_string());
        let refused = issuer(&site).dangerous_plain_http().connect().await.unwrap_err().to_string();
        assert!(refused.contains("use https, as the issuer does"), "{refused}");
        for (url, location) in [(METADATA, METADATA), (KEYS, KEYS)] {
            let site = Site::of(&ring());
            site.set_page(url, redirect(&location.replace("https://", "http://")));
            let refused = issuer(&site).dangerous_plain_http().connect().await.unwrap_err().to_string();
            assert!(refused.contains("redirects to another host"), "{refused}");
        }
    });
}

#[test]
pub(super) fn a_proxy_setting_for_a_replaced_http_client_is_an_error() {
    in_time(async {
        let refused = issuer(&Site::of(&ring())).use_environment_proxy().build().unwrap_err();
        assert!(
            refused.kind() == VerifierErrorKind::Settings && refused.to_string().contains("remove one"),
            "{refused}"
        );
    });
}

#[test]
pub(super) fn connecting_with_an_endless_timeout_waits_for_the_issuer() {
    in_time(async {
        let keys = ring();
        let site = Site::of(&keys);
        site.is_down(true);
        let connecting =
            tokio::spawn(issuer(&site).connect_timeout(Duration::MAX).oldest_keys(Duration::MAX).connect());
        sleep(HOUR).await;
        site.is_down(false);
        assert!(connecting.await.unwrap().unwrap().verify(&token(&keys)).await.is_ok());
    });
}

/// Returns the error of connecting to a site, and how long that took.
pub(super) async fn refusal(site: &Site) -> (String, Duration) {
    let started = Instant::now();
    let error = issuer(site).connect().await.unwrap_err();
    let kinds = [VerifierErrorKind::Unavailable, VerifierErrorKind::InvalidAnswer];
    assert!(kinds.contains(&error.kind()), "{error}");
    (error.to_string(), started.elapsed())
}

#[test]
pub(super) fn connecting_fails_immediately_if_waiting_does_not_help() {
    in_time(async {
        let metadata = |issuer: &str, keys: &str| json!({"issuer": issuer, "jwks_uri": keys}).to_string();
        let page = |status, headers: &[(&'static str, &str)], body: &str| Page {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            body: body.to_owned(),
        };
        for (url, page, says) in [
            (METADATA, page(404, &[], ""), "404"),
            (METADATA, page(200, &[], "<html>"), "not issuer metadata"),
            (METADATA, page(200, &[], &json!([ISSUER, KEYS]).to_string()), "not issuer metadata"),
            (
                METADATA,
                page(200, &[], &metadata("https://auth.example.com/tenant/", KEYS)),
                r#"is "https://auth.example.com/tenant/", expected "https://auth.example.com/tenant""#,
            ),
            (METADATA, page(200, &[], &metadata(ISSUER, "http://keys.example.com")), "https"),
            (METADATA, page(200, &[], &metadata(ISSUER, "http://127.0.0.1/keys")), "https"),
            (METADATA, page(200, &[], &metadata(ISSUER, "file:///etc/passwd")), "https"),
            (METADATA, page(200, &[], &metadata(ISSUER, "https://keys.example.com:99999")), "port"),
            (METADATA, page(200, &[], &json!({"issuer": ISSUER}).to_string()), "jwks_uri"),
            (METADATA, page(302, &[("location", "https://elsewhere.example")], ""), "redirects to another host"),
            (METADATA, page(302, &[("location", METADATA)], ""), "redirects"),
            (KEYS, page(404, &[], ""), KEYS),
            (KEYS, page(304, &[], ""), "304"), // to a request without a tag
            (KEYS, page(307, &[("location", "https://elsewhere.example/jwks")], ""), "redirects to another host"),
            (KEYS, page(200, &[], r#"{"keys": []}"#), "no usable key"),
            (KEYS, page(200, &[], "[]"), "not a JWK Set"),
            (KEYS, page(200, &[], &json!([ring().to_jwk_set().keys]).to_string()), "not a JWK Set"),
            (KEYS, page(200, &[], &" ".repeat(256 * 1024 + 1)), "longer than 262144 bytes"),
        ] {
            let site = Site::of(&ring());
            site.set_page(url, page);
            let (refusal, took) = refusal(&site).await;
            assert!(refusal.contains(says) && took < SECOND, "{refusal} after {took:?}");
        }
    });
}

#[test]
pub(super) fn connecting_to_a_down_or_slow_issuer_waits_for_the_timeout_and_then_reports_the_reason() {
    in_time(async {
        let site = Site::of(&ring());
        site.is_down(true);
        let (down, took) = refusal(&site).await;
        assert!(down.contains("connection refused") && took == 30 * SECOND, "{down} after {took:?}");
        let site = Site::of(&ring());
        site.takes(6 * SECOND);
        let (slow, took) = refusal(&site).await;
        assert!(slow.contains("no answer within 5s") && took == 30 * SECOND, "{slow} after {took:?}");
        // The issuer comes up during the wait.
        let site = Site::of(&ring());
        site.is_down(true);
        let connecting = tokio::spawn(issuer(&site).connect_timeout(Duration::MAX).connect());
        sleep(10 * SECOND).await;
        site.is_down(false);
        assert!(connecting.await.unwrap().is_ok());
    });
}

#[test]
pub(super) fn at_most_a_thousand_requests_wait_for_keys() {
    in_time(async {
        let site = Site::of(&ring());
        site.takes(SECOND);
        let verifier = issuer(&site).build().unwrap();
        let waiting: Vec<_> = (0..1_100)
            .map(|round| {
                let verifier = verifier.clone();
                tokio::spawn(async move { verifier.verify(&naming(&round.to_string())).await.unwrap_err() })
            })
            .collect();
        let mut unavailable = 0;
        for verified in waiting {
            unavailable += usize::from(matches!(verified.await.unwrap(), VerifyError::Unavailable(_)));
        }
        assert_eq!(unavailable, 100);
    });
}

#[test]
pub(super) fn the_error_outside_of_a_runtime_says_how_to_fix_it() {
    let error = issuer(&Site::default()).build().unwrap_err();
    assert!(error.kind() == VerifierErrorKind::Environment && error.to_string().contains("#[tokio::main]"), "{error}");
}

#[test]
pub(super) fn a_request_that_waits_for_keys_holds_no_slot_of_the_inner_service() {
    in_time(async {
        let keys = ring();
        let site = Site::of(&keys);
        site.takes(SECOND);
        let inner = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::default())));
        let layer = BearerAuthLayer::new(issuer(&site).build().unwrap()).optional();
        let service = layer.layer(ConcurrencyLimit::new(inner, 1));
        let request = Request::get("/").header("authorization", format!("Bearer {}", token(&keys)));
        let (mut one, mut other) = (service.clone(), service);
        let waiting = one.ready().await.unwrap().call(request.body(Body::default()).unwrap());
        let passing = async { other.ready().await.unwrap().call(Request::new(Body::default())).await };
        let passed = tokio::time::timeout(SECOND / 2, passing).await.expect("a free slot");
        assert_eq!(passed.unwrap().status(), StatusCode::OK);
        assert_eq!(waiting.await.unwrap().status(), StatusCode::OK);
        assert!(other.ready().await.is_ok(), "and frees it");
    });
}

/// Uses a wall clock that the test can set.
#[test]
pub(super) fn setting_the_clock_back_delays_no_fetch_and_makes_no_key_younger() {
    in_time(async {
        let (old, new) = (ring(), ring());
        let (site, wall) = (Site::of(&old), ManualClock::at(Wall(Instant::now()).now() + 24 * HOUR));
        let issuer = RemoteIssuer::new(ISSUER, API).unwrap().http_client(site.clone()).clock(wall.clone());
        let (verifier, of_old, of_new) = (issuer.connect().await.unwrap(), token(&old), token(&new));
        let set_back = || wall.set(wall.now() - 5 * HOUR);
        set_back();
        site.publish(&new);
        sleep(9 * MINUTE).await;
        verifier.verify_now(&of_new).unwrap();
        assert_eq!(verifier.verify(&of_old).await.unwrap_err(), UNKNOWN);

        site.is_down(true);
        sleep(10 * MINUTE).await;
        let failed = site.fetches() + site.discoveries();
        set_back();
        sleep(MINUTE).await;
        assert!(site.fetches() + site.discoveries() > failed, "no attempt is delayed");
        sleep(24 * HOUR).await;
        assert_unavailable(verifier.verify(&of_new).await);
        site.is_down(false);
        sleep(MINUTE).await;
        assert!(verifier.verify_now(&of_new).is_ok());
    });
}

#[test]
pub(super) fn setting_the_clock_back_makes_no_metadata_younger() {
    in_time(async {
        let (site, wall) = (Site::of(&ring()), ManualClock::at(Wall(Instant::now()).now()));
        let issuer = RemoteIssuer::new(ISSUER, API).unwrap().http_client(site.clone()).clock(wall.clone());
        let _verifier = issuer.connect().await.unwrap();
        wall.advance(20 * HOUR);
        sleep(20 * HOUR).await;
        wall.set(wall.now() - 5 * HOUR);
        assert_eq!(site.discoveries(), 1);
        sleep(5 * HOUR).await;
        assert_eq!(site.discoveries(), 2, "it is a day old by the monotonic clock");
    });
}

#[test]
pub(super) fn a_cached_token_waits_for_new_keys_if_the_current_ones_are_too_old() {
    in_time(async {
        let keys = ring();
        let (site, wall) = (Site::of(&keys), ManualClock::at(Wall(Instant::now()).now()));
        let issuer = RemoteIssuer::new(ISSUER, API).unwrap().http_client(site.clone()).clock(wall.clone());
        let inner = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::default())));
        let service = BearerAuthLayer::new(issuer.connect().await.unwrap()).layer(inner);
        let authorization = format!("Bearer {}", token(&keys));
        for _ in 0..2 {
            let request = Request::get("/").header("authorization", &authorization);
            let answer = service.clone().oneshot(request.body(Body::default()).unwrap()).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            // The machine was suspended for two days.
            wall.advance(48 * HOUR);
        }
    });
}

#[test]
pub(super) fn keys_are_fetched_within_the_maximum_age_with_any_cache_control() {
    in_time(async {
        let keys = ring();
        let site = Site::of(&keys);
        let headers = vec![("cache-control", "max-age=86400".to_owned())];
        let body = serde_json::to_string(&keys.to_jwk_set()).unwrap();
        site.set_page(KEYS, Page { status: StatusCode::OK, headers, body });
        let verifier = issuer(&site).oldest_keys(HOUR).connect().await.unwrap();
        let (token, mut admitted) = (token(&keys), 0);
        for _ in 0..24 * 60 {
            sleep(MINUTE).await;
            admitted += u32::from(verifier.verify(&token).await.is_ok());
        }
        println!("one request a minute for a day: {admitted} of 1440 admitted, {} fetches", site.fetches());
        assert_eq!(admitted, 24 * 60);
        assert!((30..=36).contains(&site.fetches()), "{}", site.fetches());
    });
}

#[test]
pub(super) fn keys_are_used_for_at_least_a_minute_with_any_setting() {
    in_time(async {
        let keys = ring();
        let site = Site::of(&keys);
        let verifier = issuer(&site).oldest_keys(Duration::ZERO).connect().await.unwrap();
        for _ in 0..60 {
            sleep(10 * SECOND).await;
            assert!(verifier.verify(&token(&keys)).await.is_ok());
        }
        assert!((12..=16).contains(&site.fetches()), "{}", site.fetches());
    });
}

#[test]
pub(super) fn no_request_waits_longer_than_two_documents_may_take() {
    in_time(async {
        let (old, new) = (ring(), ring());
        let site = Site::of(&old);
        let verifier = connected(&site).await;
        // After a failed fetch, the metadata is fetched again, too, so a fetch takes nearly 15 s.
        site.is_down(true);
        verifier.verify(&naming("a")).await.unwrap_err();
        site.is_down(false);
        site.takes(Duration::from_millis(4_900));
        site.remove(METADATA);
        site.set(OPENID, &json!({"issuer": ISSUER, "jwks_uri": KEYS}).to_string());
        let stranger = verifier.clone();
        tokio::spawn(async move { stranger.verify(&naming("b")).await });
        sleep(SECOND / 10).await;
        let start = Instant::now();
        match verifier.verify(&token(&new)).await {
            Err(VerifyError::Unavailable(unavailable)) => {
                assert_eq!((unavailable.kind(), unavailable.retry_after_seconds()), (UnavailableKind::UnknownKey, 1));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(start.elapsed(), 10 * SECOND);
    });
}

#[test]
pub(super) fn the_age_of_keys_counts_from_the_request_for_them() {
    in_time(async {
        let site = Site::of(&ring());
        site.takes(4 * SECOND);
        let requested = Instant::now();
        let verifier = issuer(&site).jwks_url(KEYS).unwrap().connect().await.unwrap();
        assert_eq!(requested.elapsed(), 4 * SECOND);
        site.is_down(true);
        tokio::time::sleep_until(requested + 24 * HOUR - SECOND).await;
        assert!(verifier.is_ready());
        sleep(SECOND).await;
        assert!(!verifier.is_ready(), "a day after the request");
    });
}

#[test]
fn a_token_with_an_impossible_algorithm_is_refused_without_keys_and_without_a_fetch() {
    in_time(async {
        let (keys, site) = (ring(), Site::default());
        site.is_down(true);
        let verifier = issuer(&site).algorithms([Algorithm::RS256]).build().unwrap();
        sleep(SECOND).await;
        let discoveries = site.discoveries();
        for _ in 0..10 {
            let Err(VerifyError::Refused(refused)) = verifier.verify(&token(&keys)).await else {
                panic!("unavailable")
            };
            assert_eq!(refused.reason(), InvalidToken::Algorithm);
        }
        assert_eq!(site.discoveries(), discoveries);
    });
}

#[test]
fn clones_are_equal_and_separate_issuers_are_not() {
    in_time(async {
        let site = Site::of(&ring());
        let (one, other) = (connected(&site).await, connected(&site).await);
        let [keys, others] = [&one, &other].map(|verifier| verifier.remote_keys().unwrap());
        assert!(keys.ptr_eq(&keys.clone()) && !keys.ptr_eq(others));
        let shown = format!("{keys:?}");
        assert!(shown.contains(ISSUER), "{shown}");
    });
}
