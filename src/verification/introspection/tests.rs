//! Tests of introspection with a server that answers, refuses or fails, in simulated time.

mod strangers;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::Introspection;
use crate::ClientSecret;
use crate::client_authentication::{ClientAuthentication, SecretSource};
use crate::clock::{Clock, ManualClock};
use crate::keys::{Algorithm, KeyRing, KeySet, SigningKey};
use crate::transport::{HttpClient, HttpError, HttpFuture};
use crate::verification::{
    InvalidToken, TokenProfile, UnavailableKind, VerifiedToken, Verifier, VerifierError, VerifierErrorKind, VerifyError,
};

const ISSUER: &str = "https://auth.example.com";
const API: &str = "https://api.example.com";
const SECRET: &str = "s/cret: with characters that are encoded";
const NOW: u64 = 1_700_000_000;
const SECOND: Duration = Duration::from_secs(1);

/// The simulated server: the body, media type and status of its answers, or none.
#[derive(Clone, Debug)]
struct Site(Arc<Inner>);

type Headers = Vec<(&'static str, &'static str)>;

/// Used as statuses: the connection closes without an answer, or no answer ever comes.
const CLOSED: u16 = 0;
const SILENT: u16 = 1;

#[derive(Debug)]
struct Inner {
    answer: Mutex<Option<(u16, &'static str, String)>>,
    bad: Mutex<Option<(u16, Headers)>>,
    asked: AtomicUsize,
    last: Mutex<Option<Request<Bytes>>>,
}

impl Site {
    fn saying(answer: &Value) -> Self {
        let inner = Inner {
            answer: Mutex::default(),
            bad: Mutex::default(),
            asked: AtomicUsize::new(0),
            last: Mutex::default(),
        };
        let site = Self(Arc::new(inner));
        site.says(answer);
        site
    }

    fn says(&self, answer: &Value) {
        self.answers(200, "application/json", &answer.to_string());
    }

    fn answers(&self, status: u16, media_type: &'static str, body: &str) {
        *self.0.answer.lock().unwrap() = Some((status, media_type, body.to_owned()));
    }

    /// Tokens whose name begins with `bad` get this status, independent of the others.
    fn fails_for_bad_tokens(&self, status: u16, headers: &[(&'static str, &'static str)]) {
        *self.0.bad.lock().unwrap() = Some((status, headers.to_vec()));
    }

    fn is_down(&self) {
        *self.0.answer.lock().unwrap() = None;
    }

    fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }

    fn last(&self) -> Request<Bytes> {
        self.0.last.lock().unwrap().take().expect("a request")
    }
}

impl HttpClient for Site {
    fn send(&self, request: Request<Bytes>, _: usize) -> HttpFuture<'_> {
        HttpFuture::new(async move {
            self.0.asked.fetch_add(1, Ordering::SeqCst);
            let token = request.body().clone();
            *self.0.last.lock().unwrap() = Some(request);
            sleep(SECOND).await;
            // Tokens whose name begins with `bad` get the answer that is set for them.
            let bad = self.0.bad.lock().unwrap().clone().filter(|_| token.starts_with(b"token=bad"));
            let answer = bad.map(|(status, headers)| (status, "application/json", "{}".to_owned(), headers));
            let usual =
                || self.0.answer.lock().unwrap().clone().map(|(status, kind, body)| (status, kind, body, Vec::new()));
            let Some((status, media_type, body, headers)) = answer.or_else(usual) else {
                return Err(HttpError::no_connection("connection refused"));
            };
            if status == CLOSED {
                return Err(HttpError::new("connection closed before message completed"));
            }
            if status == SILENT {
                return std::future::pending().await;
            }
            let mut response = Response::builder().status(status).header("content-type", media_type);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response.body(body.into()).unwrap())
        })
    }
}

fn clock() -> ManualClock {
    ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW))
}

fn introspection(site: &Site, clock: &ManualClock) -> Introspection {
    let secret = ClientSecret::new(SECRET).unwrap();
    Introspection::new(ISSUER, API)
        .unwrap()
        .at("https://auth.example.com/introspect")
        .unwrap()
        .client_secret_basic("the api", secret)
        .unwrap()
        .http_client(site.clone())
        .clock(clock.clone())
}

fn verifier(site: &Site) -> (Verifier, ManualClock) {
    let clock = clock();
    (introspection(site, &clock).build().unwrap(), clock)
}

/// An answer like the example of RFC 7662 §2.2.
fn active() -> Value {
    json!({
        "active": true, "client_id": "billing", "scope": "read write", "sub": "svc", "aud": [API], "iss": ISSUER,
        "exp": NOW + 600, "iat": NOW, "token_type": "Bearer", "tenant": "acme",
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut answer = active();
    answer[name] = value;
    answer
}

fn without(name: &str) -> Value {
    let mut answer = active();
    answer.as_object_mut().unwrap().remove(name);
    answer
}

fn refused(verified: Result<VerifiedToken, VerifyError>) -> InvalidToken {
    match verified {
        Err(VerifyError::Refused(refused)) => refused.reason(),
        verified => panic!("{verified:?}"),
    }
}

#[track_caller]
fn assert_unavailable(verified: Result<VerifiedToken, VerifyError>) -> String {
    match verified {
        Err(VerifyError::Unavailable(unavailable))
            if matches!(unavailable.kind(), UnavailableKind::Introspection | UnavailableKind::UnansweredToken) =>
        {
            std::error::Error::source(&unavailable).map(ToString::to_string).unwrap_or_default()
        }
        verified => panic!("{verified:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_active_token_gives_a_proof_with_the_members_of_the_answer() {
    let site = Site::saying(&active());
    let (verifier, _) = verifier(&site);
    assert!(verifier.is_ready());
    let token = verifier.verify("opaque").await.unwrap();
    assert_eq!(
        (token.client_id().as_str(), token.subject(), token.scopes().as_str()),
        ("billing", "svc", "read write")
    );
    assert_eq!((token.issuer(), token.token_id()), (ISSUER, ""));
    assert_eq!(token.claims::<Value>().unwrap()["tenant"], "acme");
    assert!(verifier.still_good(&token).is_ok());
    let request = site.last();
    assert_eq!((request.method(), request.uri().path()), (&http::Method::POST, "/introspect"));
    assert_eq!(request.body(), "token=opaque&token_type_hint=access_token");
    // `the+api:s%2Fcret%3A+with+characters+that+are+encoded`, by RFC 6749 §2.3.1.
    let basic = "Basic dGhlK2FwaTpzJTJGY3JldCUzQSt3aXRoK2NoYXJhY3RlcnMrdGhhdCthcmUrZW5jb2RlZA==";
    assert_eq!(request.headers()["authorization"], basic);
    assert!(request.headers()["authorization"].is_sensitive());
    assert_eq!(request.headers()["accept"], "application/json");
}

#[tokio::test(start_paused = true)]
async fn credentials_may_be_sent_in_the_body() {
    let site = Site::saying(&active());
    let post = introspection(&site, &clock()).client_secret_post("api", ClientSecret::new(SECRET).unwrap()).unwrap();
    assert!(post.build().unwrap().verify("a+b").await.is_ok());
    let request = site.last();
    let body = "token=a%2Bb&token_type_hint=access_token&client_id=api&\
                client_secret=s%2Fcret%3A+with+characters+that+are+encoded";
    assert_eq!(request.body(), body);
    assert!(!request.headers().contains_key("authorization"));
}

#[tokio::test(start_paused = true)]
async fn an_assertion_authenticates_the_api_and_is_new_for_each_request() {
    let site = Site::saying(&active());
    let key = SigningKey::generate(Algorithm::ES256).unwrap();
    let introspection = introspection(&site, &clock());
    let introspection = introspection.client_authentication("api", ClientAuthentication::private_key_jwt(key)).unwrap();
    let verifier = introspection.build().unwrap();
    let mut names = std::collections::HashSet::new();
    for token in ["a", "b"] {
        verifier.verify(token).await.unwrap();
        let request = site.last();
        assert!(!request.headers().contains_key("authorization"));
        let form: std::collections::HashMap<String, String> = serde_urlencoded::from_bytes(request.body()).unwrap();
        assert_eq!((form["token"].as_str(), form["client_id"].as_str()), (token, "api"));
        assert_eq!(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        let claims = URL_SAFE_NO_PAD.decode(form["client_assertion"].split('.').nth(1).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!((&claims["iss"], &claims["sub"], &claims["aud"]), (&json!("api"), &json!("api"), &json!(ISSUER)));
        assert_eq!((&claims["iat"], &claims["exp"]), (&json!(NOW), &json!(NOW + 60)));
        assert!(names.insert(claims["jti"].as_str().unwrap().to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_in_a_file_is_read_again_and_a_missing_one_is_unavailable_and_named() {
    let site = Site::saying(&active());
    let file = tempfile::NamedTempFile::new().unwrap();
    let secret = ClientAuthentication::secret_post(SecretSource::from_file(file.path()));
    let introspection = introspection(&site, &clock()).client_authentication("api", secret).unwrap();
    let verifier = introspection.build().unwrap();
    for secret in ["first-secret", "second-secret"] {
        std::fs::write(file.path(), secret).unwrap();
        verifier.verify(&format!("with-{secret}")).await.unwrap();
        assert!(site.last().body().ends_with(format!("&client_secret={secret}").as_bytes()));
    }
    let path = file.path().to_owned();
    file.close().unwrap();
    let error = assert_unavailable(verifier.verify("other").await);
    assert!(error.contains(path.to_str().unwrap()) && !error.contains("second-secret"), "{error}");
    assert_eq!(site.asked(), 2, "nothing is sent without the credential");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_cached_for_30_seconds_but_never_past_exp() {
    let site = Site::saying(&with("exp", json!(NOW + 40)));
    let (verifier, clock) = verifier(&site);
    for (second, asked) in [(0, 1), (29, 1), (30, 2), (39, 2), (40, 3)] {
        clock.set(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW + second));
        assert!(verifier.verify("opaque").await.is_ok(), "{second}");
        assert_eq!(site.asked(), asked, "{second}");
    }
    site.says(&json!({"active": false}));
    assert_eq!(refused(verifier.verify("opaque").await), InvalidToken::Inactive);
    assert_eq!(refused(verifier.verify("opaque").await), InvalidToken::Inactive);
    assert_eq!(site.asked(), 4, "inactive answers are cached, too");
    site.says(&with("exp", json!(NOW + 400)));
    clock.advance(30 * SECOND);
    assert!(verifier.verify("opaque").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn concurrent_requests_with_one_token_ask_once_even_if_the_first_disconnects() {
    let site = Site::saying(&active());
    let (verifier, _) = verifier(&site);
    assert!(tokio::time::timeout(SECOND / 2, verifier.verify("opaque")).await.is_err());
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let verifier = verifier.clone();
            tokio::spawn(async move { verifier.verify("opaque").await })
        })
        .collect();
    for verified in waiting {
        verified.await.unwrap().unwrap();
    }
    assert_eq!(site.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn at_most_192_new_tokens_are_asked_about_at_once() {
    let site = Site::saying(&active());
    let (verifier, _) = verifier(&site);
    let waiting: Vec<_> = (0..300)
        .map(|number| {
            let verifier = verifier.clone();
            tokio::spawn(async move { verifier.verify(&format!("token-{number}")).await })
        })
        .collect();
    let mut unavailable = 0;
    for verified in waiting {
        unavailable += usize::from(matches!(verified.await.unwrap(), Err(VerifyError::Unavailable(_))));
    }
    assert_eq!((site.asked(), unavailable), (192, 108));
    assert!(verifier.verify("another").await.is_ok(), "the requests have finished");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_gives_503_and_is_not_asked_for_a_second() {
    let site = Site::saying(&active());
    let (verifier, clock) = verifier(&site);
    assert!(verifier.verify("known").await.is_ok());
    site.is_down();
    clock.advance(5 * SECOND);
    assert!(assert_unavailable(verifier.verify("opaque").await).contains("connection refused"));
    assert_unavailable(verifier.verify("another").await);
    assert_eq!(site.asked(), 2);
    assert!(verifier.verify("known").await.is_ok(), "it was asked about just now");
    clock.advance(30 * SECOND);
    assert_unavailable(verifier.verify("known").await);
    clock.advance(SECOND);
    site.says(&active());
    assert!(verifier.verify("known").await.is_ok(), "it recovers");
}

#[tokio::test(start_paused = true)]
async fn only_a_dangerous_setting_accepts_formerly_active_tokens_while_the_server_is_down() {
    let site = Site::saying(&active());
    let clock = clock();
    let verifier = introspection(&site, &clock).dangerous_old_answers_while_down().build().unwrap();
    assert!(verifier.verify("known").await.is_ok());
    site.is_down();
    clock.advance(300 * SECOND);
    assert!(verifier.verify("known").await.is_ok());
    assert!(verifier.verify("known").await.is_ok(), "also during the pause");
    assert_unavailable(verifier.verify("never seen").await);
    clock.advance(300 * SECOND);
    assert_unavailable(verifier.verify("known").await);
}

#[tokio::test(start_paused = true)]
async fn the_members_of_the_answer_are_checked() {
    for (answer, reason) in [
        (json!({"active": false}), InvalidToken::Inactive),
        (with("active", json!(false)), InvalidToken::Inactive),
        (with("aud", json!("https://other.example.com")), InvalidToken::Audience),
        (with("aud", json!([])), InvalidToken::Audience),
        (without("aud"), InvalidToken::Audience),
        (with("iss", json!("https://other.example.com")), InvalidToken::Issuer),
        (with("token_type", json!("DPoP")), InvalidToken::Type),
        (with("token_type", json!("refresh_token")), InvalidToken::Type),
        (with("exp", json!(NOW - 6)), InvalidToken::Expired),
        (with("nbf", json!(NOW + 7)), InvalidToken::NotYetValid),
        (without("client_id"), InvalidToken::Claims),
        (with("scope", json!("a\"b")), InvalidToken::Claims),
    ] {
        let (verifier, _) = verifier(&Site::saying(&answer));
        assert_eq!(refused(verifier.verify("opaque").await), reason, "{answer}");
    }
    for answer in
        [without("iss"), without("exp"), without("iat"), without("sub"), without("token_type"), without("scope")]
    {
        let (verifier, _) = verifier(&Site::saying(&answer));
        assert!(verifier.verify("opaque").await.is_ok(), "{answer}");
    }
    let lenient = |profile| introspection(&Site::saying(&without("aud")), &clock()).tokens(profile).build().unwrap();
    let profile = TokenProfile::default().without_token_id().clients_instead_of_audience(["billing"]);
    assert!(lenient(profile).verify("opaque").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_unusable_answer_does_not_refuse_the_token() {
    for (status, body, says) in [
        (401, "{}", "the credentials of this API"),
        (403, "{}", "refuses this token"),
        (500, r#"{"active": false}"#, "500"),
        (302, r#"{"active": true}"#, "302"),
        (200, "<html>", "not a JSON"),
        (200, "[]", "not a JSON"),
        (200, "[true]", "not a JSON"),
        (200, "{}", "active"),
        (200, r#"{"active": "true"}"#, "active"),
        (200, r#"{"active": true, "active": false}"#, "not a JSON"),
    ] {
        let site = Site::saying(&active());
        site.answers(status, "application/json", body);
        let (verifier, _) = verifier(&site);
        let error = assert_unavailable(verifier.verify("opaque").await);
        assert!(error.contains(says), "{body}: {error}");
    }
}

/// Returns a signed answer (RFC 9701 §5).
fn sealed(key: &KeyRing, typ: &str, change: impl Fn(&mut Value)) -> String {
    let mut claims = json!({"iss": ISSUER, "aud": "the api", "iat": NOW, "token_introspection": active()});
    change(&mut claims);
    key.signing_key().sign_as(typ, claims.to_string().as_bytes()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn if_signed_answers_are_required_only_a_valid_signed_answer_is_accepted() {
    const TYPE: &str = "token-introspection+jwt";
    const MEDIA_TYPE: &str = "application/token-introspection+jwt";
    let key = KeyRing::new(SigningKey::generate(Algorithm::ES256).unwrap());
    let other = KeyRing::new(SigningKey::generate(Algorithm::ES256).unwrap());
    let keys = Verifier::with_keys(ISSUER, API, KeySet::from([key.signing_key().verifying_key()])).unwrap();
    let answer = async |media_type: &'static str, body: String| {
        let site = Site::saying(&active());
        site.answers(200, media_type, &body);
        let signed = introspection(&site, &clock()).signed_answers(&keys).unwrap().build().unwrap();
        let verified = signed.verify("opaque").await;
        assert_eq!(site.last().headers()["accept"], MEDIA_TYPE);
        verified
    };
    let good = answer(MEDIA_TYPE, sealed(&key, TYPE, |_| {})).await.unwrap();
    assert_eq!(good.claims::<Value>().unwrap()["tenant"], "acme");
    assert!(answer(MEDIA_TYPE, sealed(&key, TYPE, |claims| claims["aud"] = json!(["x", "the api"]))).await.is_ok());
    let inactive = sealed(&key, TYPE, |claims| claims["token_introspection"] = json!({"active": false}));
    assert_eq!(refused(answer(MEDIA_TYPE, inactive).await), InvalidToken::Inactive);
    let list = json!([ISSUER, "the api", NOW, active()]).to_string();
    let list = key.signing_key().sign_as(TYPE, list.as_bytes()).unwrap();
    for (media_type, body, says) in [
        (MEDIA_TYPE, list, "lacks iss"),
        ("application/json", active().to_string(), "not signed"),
        ("application/json", sealed(&key, TYPE, |_| {}), "not signed"),
        (MEDIA_TYPE, active().to_string(), "not a JWS"),
        (MEDIA_TYPE, sealed(&other, TYPE, |_| {}), "key is unknown"),
        (MEDIA_TYPE, sealed(&key, "at+jwt", |_| {}), "is invalid"),
        (MEDIA_TYPE, sealed(&key, TYPE, |claims| claims["iss"] = json!("https://other.example.com")), "another server"),
        (MEDIA_TYPE, sealed(&key, TYPE, |claims| claims["aud"] = json!("another api")), "another client: `iss`"),
        (MEDIA_TYPE, sealed(&key, TYPE, |claims| claims["iat"] = json!(NOW - 61)), "too old"),
        (MEDIA_TYPE, sealed(&key, TYPE, |claims| claims["iat"] = json!(NOW + 6)), "in the future"),
        (MEDIA_TYPE, sealed(&key, TYPE, |claims| claims["token_introspection"] = Value::Null), "active"),
    ] {
        let error = assert_unavailable(answer(media_type, body).await);
        assert!(error.contains(says), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_of_issuers_with_keys_need_no_request() {
    let key = KeyRing::new(SigningKey::generate(Algorithm::ES256).unwrap());
    let site = Site::saying(&active());
    let (opaque, clock) = verifier(&site);
    let keys = KeySet::from([key.signing_key().verifying_key()]);
    let both = Verifier::with_keys(ISSUER, API, keys).unwrap().clock(clock).or(opaque.clone()).unwrap();
    let jwt = json!({
        "iss": ISSUER, "sub": "billing", "aud": API, "client_id": "billing", "jti": "1", "iat": NOW, "exp": NOW + 60,
    });
    let jwt = key.signing_key().sign(jwt.to_string().as_bytes()).unwrap();
    assert!(both.verify(&jwt).await.is_ok());
    // No server is asked about a token that the keys refuse.
    let forged = format!("{}AAAA", &jwt[..jwt.len() - 4]);
    assert!(both.verify(&forged).await.is_err());
    assert_eq!(site.asked(), 0);
    assert!(both.verify("opaque").await.is_ok());
    assert_eq!(site.asked(), 1);
    assert!(both.or(opaque).is_err(), "two endpoints");
}

/// A server in a network that encrypts underneath, behind an HTTP client of the application.
#[tokio::test(start_paused = true)]
async fn plain_http_to_other_hosts_needs_the_setting_that_the_error_names() {
    const INSIDE: &str = "http://keycloak:8080/realms/m";
    let site = Site::saying(&with("iss", json!(INSIDE)));
    let inside = |issuer: &str, endpoint: &str| {
        let secret = ClientSecret::new(SECRET).unwrap();
        let asking = Introspection::new(issuer, API).unwrap().client_secret_basic("api", secret).unwrap();
        asking.at(endpoint).unwrap().http_client(site.clone()).clock(clock())
    };
    let endpoint = "http://keycloak:8080/realms/m/introspect";
    for (issuer, endpoint) in [(INSIDE, "https://h/introspect"), (ISSUER, endpoint), (INSIDE, endpoint)] {
        let error = inside(issuer, endpoint).build().unwrap_err().to_string();
        assert!(error.contains("`dangerous_plain_http`"), "{error}");
    }
    let verifier = inside(INSIDE, endpoint).dangerous_plain_http().build().unwrap();
    assert_eq!(verifier.verify("opaque").await.unwrap().issuer(), INSIDE);
    assert_eq!(site.last().uri().to_string(), endpoint);
}

#[test]
fn building_names_the_missing_setting() {
    let new = || Introspection::new(ISSUER, API).unwrap().http_client(Site::saying(&active()));
    let at = || new().at("https://auth.example.com/introspect").unwrap();
    let refused = |verifier: Result<Verifier, VerifierError>, text: &str| {
        let error = verifier.unwrap_err();
        assert_eq!(error.kind(), VerifierErrorKind::Settings, "{error}");
        assert!(error.to_string().contains(text), "`{text}` is not in: {error}");
    };
    refused(new().build(), "set it with .at(…)");
    refused(at().build(), ".client_secret_basic(…)");
    for url in ["http://auth.example.com/introspect", "https://h:99999", "http://[127.0.0.1]/introspect", "/introspect"]
    {
        refused(
            new().at(url).and_then(Introspection::build),
            &format!("invalid URL of the introspection endpoint `{url}`"),
        );
    }
    let ready = || at().client_secret_basic("api", ClientSecret::new(SECRET).unwrap()).unwrap();
    refused(ready().use_environment_proxy().build(), "remove one of them");
    let invalid_id = at().client_secret_basic("a\nb", ClientSecret::new(SECRET).unwrap());
    refused(invalid_id.and_then(Introspection::build), r#"invalid client id of this API at the issuer "a\nb""#);
    let other = Verifier::with_keys("https://other.example.com", API, KeySet::from([])).unwrap();
    refused(
        at().signed_answers(&other).and_then(Introspection::build),
        "has no keys of the issuer `https://auth.example.com`",
    );
    let shown = format!("{:?}", at().client_secret_basic("api", ClientSecret::new(SECRET).unwrap()).unwrap());
    assert!(!shown.contains("cret"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_bad_answer_for_one_token_does_not_affect_another() {
    let long = " ".repeat(64 * 1024 + 1);
    for (status, body) in [(400, "{}"), (403, "{}"), (413, "{}"), (302, "{}"), (200, "<html>"), (200, &*long)] {
        let site = Site::saying(&active());
        let clock = clock();
        let verifier = introspection(&site, &clock).dangerous_old_answers_while_down().build().unwrap();
        assert!(verifier.verify("known").await.is_ok());
        clock.advance(30 * SECOND);
        site.answers(status, "application/json", body);
        assert_unavailable(verifier.verify("odd").await);
        assert_unavailable(verifier.verify("known").await);
        assert_eq!(site.asked(), 3, "{status}: no pause, and no old answer");
        assert_unavailable(verifier.verify("odd").await);
        assert_eq!(site.asked(), 3, "{status}: the token itself has a pause");
        site.says(&active());
        assert!(verifier.verify("another").await.is_ok(), "{status}");
    }
    for status in [401, 429, 500, 503, CLOSED, SILENT] {
        let site = Site::saying(&active());
        site.fails_for_bad_tokens(status, &[]);
        let (verifier, _) = verifier(&site);
        assert_unavailable(verifier.verify("bad").await);
        assert!(verifier.verify("another").await.is_ok(), "{status}");
        assert_unavailable(verifier.verify("bad").await);
        assert_eq!(site.asked(), 2, "{status}: only this token has a pause");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_token_is_retried_after_a_second_or_after_retry_after_up_to_ten() {
    for (status, headers, pause) in [
        (500, &[][..], 1),
        (429, &[("retry-after", "4")][..], 4),
        (503, &[("retry-after", " 4 ")][..], 4),
        (429, &[("retry-after", "0")][..], 1),
        (503, &[("retry-after", "86400")][..], 10),
        (503, &[("retry-after", "Tue, 14 Nov 2023 22:13:24 GMT")][..], 4),
        (503, &[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")][..], 1),
        (503, &[("retry-after", "-1")][..], 1),
    ] {
        let site = Site::saying(&active());
        site.fails_for_bad_tokens(status, headers);
        let (verifier, clock) = verifier(&site);
        let Err(VerifyError::Unavailable(unavailable)) = verifier.verify("bad").await else { panic!("{headers:?}") };
        assert_eq!(unavailable.retry_after_seconds(), pause, "{headers:?}");
        clock.advance(Duration::from_millis(pause * 1_000 - 1));
        assert_unavailable(verifier.verify("bad").await);
        assert_eq!(site.asked(), 1, "{headers:?}");
        clock.advance(Duration::from_millis(1));
        assert_unavailable(verifier.verify("bad").await);
        assert_eq!(site.asked(), 2, "{headers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_every_request_is_asked_once_per_second_until_it_answers() {
    for status in [401, 429, 503] {
        let site = Site::saying(&active());
        site.answers(status, "application/json", "{}");
        let (verifier, clock) = verifier(&site);
        for number in 0..100 {
            assert_unavailable(verifier.verify(&format!("token-{number}")).await);
        }
        assert_eq!(site.asked(), 3, "{status}: three different tokens are enough");
        for second in 1..=10 {
            clock.advance(SECOND);
            for number in 0..100 {
                assert_unavailable(verifier.verify(&format!("{second}-{number}")).await);
            }
            assert_eq!(site.asked(), 3 + second, "{status}");
        }
        site.says(&active());
        clock.advance(SECOND);
        for number in 0..100 {
            assert!(verifier.verify(&format!("after-{number}")).await.is_ok(), "{status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn made_up_tokens_do_not_block_the_request_for_an_active_one() {
    let site = Site::saying(&active());
    site.fails_for_bad_tokens(429, &[]);
    let (verifier, clock) = verifier(&site);
    assert!(verifier.verify("known").await.is_ok());
    clock.advance(30 * SECOND);
    for second in 0..10 {
        for number in 0..50 {
            assert_unavailable(verifier.verify(&format!("bad-{second}-{number}")).await);
        }
        clock.advance(SECOND);
    }
    assert!(site.asked() <= 1 + 3 + 10, "the server counts as down: {}", site.asked());
    assert_unavailable(verifier.verify("bad-another").await);
    assert!(verifier.verify("known").await.is_ok(), "it has a separate attempt");
    assert!(verifier.verify("never seen").await.is_ok(), "the answer ended the outage");
}

#[tokio::test(start_paused = true)]
async fn the_number_of_remembered_failed_tokens_is_bounded() {
    let site = Site::saying(&active());
    site.fails_for_bad_tokens(500, &[]);
    let (verifier, _) = verifier(&site);
    for round in 0..2_000 {
        assert_unavailable(verifier.verify(&format!("bad-{round}")).await);
        assert!(verifier.verify(&format!("good-{round}")).await.is_ok());
    }
    assert_eq!(site.asked(), 4_000);
    assert_unavailable(verifier.verify("bad-1999").await);
    assert_eq!(site.asked(), 4_000, "the last one is remembered");
    let before = site.asked();
    for round in 0..2_000 {
        assert_unavailable(verifier.verify(&format!("bad-{round}")).await);
    }
    let again = site.asked() - before;
    assert!((1_000..2_000).contains(&again), "no more than 1,000 are remembered: {again}");
}

#[tokio::test(start_paused = true)]
async fn times_out_of_range_are_harmless() {
    for exp in ["9223372036854775803", "9223372036854775807", "253402300799"] {
        let site = Site::saying(&active());
        site.answers(200, "application/json", &active().to_string().replace(&(NOW + 600).to_string(), exp));
        let (verifier, _) = verifier(&site);
        let token = verifier.verify("opaque").await.unwrap();
        assert!(token.time_left() > Duration::from_secs(200_000_000_000), "{exp}");
    }
    let site = Site::saying(&without("exp"));
    let endless = introspection(&site, &clock()).believed_for(Duration::MAX).build().unwrap();
    assert!(endless.verify("opaque").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn fractional_times_are_rounded_to_shorten_the_lifetime() {
    let answer = |exp: &str, iat: &str, nbf: &str| {
        let text = with("nbf", json!(NOW)).to_string();
        let text = text.replace(&format!(r#""exp":{}"#, NOW + 600), &format!(r#""exp":{exp}"#));
        text.replace(&format!(r#""iat":{NOW}"#), &format!(r#""iat":{iat}"#))
            .replace(&format!(r#""nbf":{NOW}"#), &format!(r#""nbf":{nbf}"#))
    };
    let verified = async |body: String| {
        let site = Site::saying(&active());
        site.answers(200, "application/json", &body);
        verifier(&site).0.verify("opaque").await
    };
    let token = verified(answer("1700000600.9", "1700000000.9", "1.7e9")).await.unwrap();
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!((seconds(token.expires_at()), seconds(token.issued_at())), (NOW + 600, NOW));
    // The leeway is five seconds.
    let now = "1700000000";
    assert!(verified(answer("1699999996.1", now, now)).await.is_ok());
    assert_eq!(refused(verified(answer("1699999995.9", now, now)).await), InvalidToken::Expired);
    assert!(verified(answer("1700000600", now, "1700000004.5")).await.is_ok());
    assert_eq!(refused(verified(answer("1700000600", now, "1700000005.1")).await), InvalidToken::NotYetValid);
    assert!(verified(answer("1700000600", "1700000005.9", now)).await.is_ok());
    assert_eq!(refused(verified(answer("1700000600", "1700000006.0", now)).await), InvalidToken::NotYetValid);
    for bad in ["-1.5", "1e12", "\"1700000600\""] {
        assert_eq!(refused(verified(answer(bad, now, now)).await), InvalidToken::Claims, "{bad}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_bound_to_a_key_is_refused_unless_a_dangerous_setting_accepts_it() {
    let bound = [json!({"jkt": "k"}), json!({"x5t#S256": "k"}), json!({}), Value::Null, json!("k"), json!(5)];
    for value in bound {
        let site = Site::saying(&with("cnf", value.clone()));
        let (strict, _) = verifier(&site);
        let error = strict.verify("opaque").await.unwrap_err();
        assert!(error.to_string().contains("dangerous_accept_bound_tokens"), "{error}");
        assert_eq!(refused(Err(error)), InvalidToken::Bound, "{value}");
        let profile = TokenProfile::default().without_token_id().dangerous_accept_bound_tokens();
        let lenient = introspection(&site, &clock()).tokens(profile).build().unwrap();
        assert!(lenient.verify("opaque").await.is_ok(), "{value}");
        site.says(&json!({"active": true, "cnf": value, "token_type": "DPoP", "client_id": "c", "aud": API}));
        assert_eq!(refused(lenient.verify("another").await), InvalidToken::Type);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lack_of_slots_does_not_cause_old_answers_to_be_used() {
    let site = Site::saying(&active());
    let clock = clock();
    let verifier = introspection(&site, &clock).dangerous_old_answers_while_down().build().unwrap();
    for number in 0..65 {
        assert!(verifier.verify(&format!("known-{number}")).await.is_ok());
    }
    clock.advance(30 * SECOND);
    // These take the shared slots, and then those that are reserved for active tokens.
    for (kind, count) in [("new", 192), ("known", 64)] {
        for number in 0..count {
            let verifier = verifier.clone();
            tokio::spawn(async move { verifier.verify(&format!("{kind}-{number}")).await });
        }
        sleep(SECOND / 4).await;
    }
    assert_unavailable(verifier.verify("known-64").await);
    assert_eq!(site.asked(), 65 + 256);
    sleep(SECOND).await;
    assert!(verifier.verify("known-64").await.is_ok(), "slots are free again");
}

#[tokio::test(start_paused = true)]
async fn a_pause_ends_if_the_clock_is_set_back() {
    let site = Site::saying(&active());
    let (verifier, clock) = verifier(&site);
    site.is_down();
    assert_unavailable(verifier.verify("opaque").await);
    site.says(&active());
    clock.set(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW - 600));
    site.says(&with("iat", json!(NOW - 600)));
    assert!(verifier.verify("opaque").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_introspected_token_is_valid_until_exp_plus_leeway() {
    let (verifier, clock) = verifier(&Site::saying(&active()));
    let token = verifier.verify("opaque").await.unwrap();
    assert_eq!(token.time_left(), 605 * SECOND);
    clock.advance(603 * SECOND);
    assert_eq!(token.time_left(), 2 * SECOND);
    clock.advance(603 * SECOND);
    assert_eq!(token.time_left(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_not_valid_yet_is_not_cached_as_refused() {
    let (verifier, clock) = verifier(&Site::saying(&with("nbf", json!(NOW + 7))));
    assert_eq!(refused(verifier.verify("opaque").await), InvalidToken::NotYetValid);
    clock.advance(2 * SECOND);
    assert!(verifier.verify("opaque").await.is_ok());
}

/// A wall clock that advances with the monotonic one, and can be set back.
#[derive(Clone, Debug)]
struct WallClock {
    began: Instant,
    set_back: Arc<Mutex<Duration>>,
}

impl WallClock {
    fn new() -> Self {
        Self { began: Instant::now(), set_back: Arc::default() }
    }
}

impl Clock for WallClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW) + self.began.elapsed() - *self.set_back.lock().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn setting_the_wall_clock_back_does_not_extend_the_cache_time() {
    // Without `iat`, so that the token is also valid by the clock that was set back.
    let site = Site::saying(&without("iat"));
    let clock = WallClock::new();
    let verifier = introspection(&site, &self::clock()).clock(clock.clone()).build().unwrap();
    assert!(verifier.verify("revoked").await.is_ok());
    site.says(&json!({"active": false}));
    sleep(27 * SECOND).await;
    *clock.set_back.lock().unwrap() = 28 * SECOND;
    assert!(verifier.verify("revoked").await.is_ok());
    sleep(2 * SECOND).await;
    assert_eq!(refused(verifier.verify("revoked").await), InvalidToken::Inactive);
    site.says(&without("iat"));
    sleep(28 * SECOND).await;
    assert_eq!(refused(verifier.verify("revoked").await), InvalidToken::Inactive, "it is cached for as long");
    sleep(SECOND).await;
    assert!(verifier.verify("revoked").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn no_old_answer_is_used_after_exp_even_if_the_wall_clock_is_set_back() {
    for is_down in [true, false] {
        let mut answer = without("iat");
        answer["exp"] = json!(NOW + 60);
        let site = Site::saying(&answer);
        let clock = WallClock::new();
        let asking = introspection(&site, &self::clock()).clock(clock.clone()).believed_for(600 * SECOND);
        let verifier = asking.dangerous_old_answers_while_down().build().unwrap();
        assert!(verifier.verify("known").await.is_ok());
        if is_down {
            site.is_down();
        } else {
            site.says(&json!({"active": false}));
        }
        *clock.set_back.lock().unwrap() = 50 * SECOND;
        sleep(58 * SECOND).await;
        assert!(verifier.verify("known").await.is_ok());
        sleep(SECOND).await;
        assert!(verifier.verify("known").await.is_err(), "the server is down: {is_down}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_last_called_inactive_is_not_admitted_while_the_server_is_down() {
    let site = Site::saying(&active());
    let clock = clock();
    let verifier = introspection(&site, &clock).dangerous_old_answers_while_down().build().unwrap();
    assert!(verifier.verify("revoked").await.is_ok());
    clock.advance(30 * SECOND);
    site.says(&json!({"active": false}));
    assert_eq!(refused(verifier.verify("revoked").await), InvalidToken::Inactive);
    // The refusal has expired, too, so the server would be asked again.
    clock.advance(30 * SECOND);
    site.is_down();
    assert_unavailable(verifier.verify("revoked").await);
    assert_eq!(site.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_overlong_token_is_refused_without_a_request() {
    let site = Site::saying(&active());
    let (verifier, _) = verifier(&site);
    assert_eq!(refused(verifier.verify(&"a".repeat(16 * 1024 + 1)).await), InvalidToken::TooLong);
    assert_eq!(site.asked(), 0);
    assert!(verifier.verify(&"a".repeat(16 * 1024)).await.is_ok());
    assert_eq!(site.asked(), 1);
}
