//! The settings for third-party issuers, each tested with a server that behaves like it, and the assertions that we sign.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use hmac::{Hmac, Mac as _};
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full};
use p256::ecdsa::signature::Verifier as _;
use p256::pkcs8::DecodePrivateKey as _;
use serde_json::{Value, json};
use sha2::Sha256;
use tower::service_fn;
use tower_client_credentials::client::{ClientAuthentication, SecretSource};
use tower_client_credentials::{ClientCredentials, Scope, Scopes, SigningKey};

/// A token request, as a server reads it.
#[derive(Clone, Debug, Default)]
struct Received {
    url: String,
    authorization: Option<String>,
    form: Vec<(String, String)>,
}

impl Received {
    fn all(&self, name: &str) -> Vec<&str> {
        self.form.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str()).collect()
    }

    fn one(&self, name: &str) -> &str {
        let [value] = self.all(name)[..] else { panic!("{name} in {self:?}") };
        value
    }
}

/// How a server publishes its metadata, and the form of its responses.
#[derive(Clone, Copy)]
struct Server {
    metadata_url: &'static str,
    metadata: &'static str,
    answer: &'static str,
}

const ANSWER: &str = r#"{"access_token": "a.b.c", "expires_in": 3600, "token_type": "Bearer"}"#;

/// Requests one token, and returns what the server received.
async fn request(server: Server, credentials: ClientCredentials) -> Received {
    let received = Arc::new(Mutex::new(None));
    let record = received.clone();
    let service = service_fn(move |request: Request<Full<Bytes>>| {
        let record = record.clone();
        async move {
            let (head, body) = request.into_parts();
            let url = head.uri.to_string();
            if head.method == http::Method::GET {
                let is_there = url == server.metadata_url;
                let response = Response::builder().status(if is_there { 200 } else { 404 });
                return Ok::<_, Infallible>(response.body(Full::<Bytes>::from(server.metadata)).unwrap());
            }
            assert_eq!(head.headers[header::CONTENT_TYPE], "application/x-www-form-urlencoded");
            let form = serde_urlencoded::from_bytes(&body.collect().await.unwrap().to_bytes()).unwrap();
            let authorization = head.headers.get(header::AUTHORIZATION).map(|value| {
                assert!(value.is_sensitive());
                let value = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
                String::from_utf8(STANDARD.decode(value).unwrap()).unwrap()
            });
            *record.lock().unwrap() = Some(Received { url, authorization, form });
            Ok(Response::new(server.answer.into()))
        }
    });
    let token = credentials.http_service(service).build().unwrap().token().await.unwrap();
    assert_eq!(token.expose(), "a.b.c");
    received.lock().unwrap().clone().unwrap()
}

fn secret() -> SecretSource {
    SecretSource::from_value("p@ss:word+1")
}

fn scopes(text: &str) -> Scopes {
    text.parse().unwrap()
}

#[tokio::test]
async fn keycloak() {
    let server = Server {
        metadata_url: "https://id.example.com/realms/main/.well-known/openid-configuration",
        metadata: r#"{"issuer": "https://id.example.com/realms/main",
            "token_endpoint": "https://id.example.com/realms/main/protocol/openid-connect/token"}"#,
        answer: r#"{"access_token": "a.b.c", "expires_in": 300, "refresh_expires_in": 0, "token_type": "Bearer",
            "not-before-policy": 0, "scope": "invoices email"}"#,
    };
    let credentials = ClientCredentials::new("https://id.example.com/realms/main", "billing", secret());
    let received = request(server, credentials.scope(Scope::from_static("invoices"))).await;
    assert_eq!(received.url, "https://id.example.com/realms/main/protocol/openid-connect/token");
    assert_eq!(received.authorization.as_deref(), Some("billing:p%40ss%3Aword%2B1"), "RFC 6749 §2.3.1");
    assert_eq!((received.one("grant_type"), received.one("scope")), ("client_credentials", "invoices"));
    assert!(received.all("client_secret").is_empty() && received.all("client_id").is_empty());
}

#[tokio::test]
async fn auth0_with_its_audience_parameter() {
    let server = Server {
        metadata_url: "https://tenant.eu.auth0.com/.well-known/openid-configuration",
        metadata: r#"{"issuer": "https://tenant.eu.auth0.com/", "token_endpoint": "https://tenant.eu.auth0.com/oauth/token"}"#,
        answer: ANSWER,
    };
    let authentication = ClientAuthentication::secret_post(secret());
    // The trailing slash is part of the issuer.
    let credentials = ClientCredentials::new("https://tenant.eu.auth0.com/", "billing", authentication)
        .parameter("audience", "https://api.example.com");
    let received = request(server, credentials).await;
    assert_eq!(received.one("audience"), "https://api.example.com");
    assert_eq!((received.one("client_id"), received.one("client_secret")), ("billing", "p@ss:word+1"));
    assert_eq!(received.authorization, None, "one method per request (RFC 6749 §2.3)");
    assert!(received.all("resource").is_empty() && received.all("scope").is_empty());
}

#[tokio::test]
async fn entra_id_with_the_default_scope_of_an_application() {
    let server = Server {
        metadata_url: "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0/.well-known/openid-configuration",
        metadata: r#"{"issuer": "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0",
            "token_endpoint":
                "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/oauth2/v2.0/token"}"#,
        answer: r#"{"token_type": "Bearer", "expires_in": "3599", "ext_expires_in": "3599", "access_token": "a.b.c"}"#,
    };
    let issuer = "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0";
    let credentials = ClientCredentials::new(issuer, "billing", ClientAuthentication::secret_post(secret()))
        .scopes(scopes("api://invoices/.default"));
    let received = request(server, credentials).await;
    assert_eq!(received.one("scope"), "api://invoices/.default");
    assert!(received.url.ends_with("/oauth2/v2.0/token"));
}

#[tokio::test]
async fn okta_with_an_assertion_for_its_token_endpoint() {
    let server = Server {
        metadata_url: "https://company.okta.com/.well-known/oauth-authorization-server/oauth2/default",
        metadata: r#"{"issuer": "https://company.okta.com/oauth2/default",
            "token_endpoint": "https://company.okta.com/oauth2/default/v1/token"}"#,
        answer: r#"{"token_type": "Bearer", "expires_in": 3600, "access_token": "a.b.c", "scope": "invoices"}"#,
    };
    let key = SigningKey::from_pem(KEY).unwrap();
    let endpoint = "https://company.okta.com/oauth2/default/v1/token";
    let authentication = ClientAuthentication::private_key_jwt(key);
    let credentials = ClientCredentials::new("https://company.okta.com/oauth2/default", "billing", authentication)
        .scope(Scope::from_static("invoices"))
        .assertion_audience(endpoint);
    let received = request(server, credentials).await;
    check_assertion(received.one("client_assertion"), Key::Es256, endpoint);
}

#[tokio::test]
async fn cognito_with_a_token_endpoint_at_another_host() {
    let server = Server {
        metadata_url: "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_abc/.well-known/openid-configuration",
        metadata: r#"{"issuer": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_abc",
            "token_endpoint": "https://company.auth.eu-central-1.amazoncognito.com/oauth2/token"}"#,
        answer: ANSWER,
    };
    let issuer = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_abc";
    let credentials = ClientCredentials::new(issuer, "billing", secret()).scopes(scopes("invoices/read"));
    let received = request(server, credentials).await;
    assert_eq!(received.url, "https://company.auth.eu-central-1.amazoncognito.com/oauth2/token");
    assert!(received.authorization.is_some());
}

#[tokio::test]
async fn hydra_with_its_audience_parameter() {
    let server = Server {
        metadata_url: "https://hydra.example.com/.well-known/openid-configuration",
        metadata: r#"{"issuer": "https://hydra.example.com/", "token_endpoint": "https://hydra.example.com/oauth2/token"}"#,
        answer: r#"{"access_token": "a.b.c", "expires_in": 3599, "scope": "", "token_type": "bearer"}"#,
    };
    let credentials = ClientCredentials::new("https://hydra.example.com/", "billing", secret())
        .parameter("audience", "https://api.example.com https://other.example.com");
    let received = request(server, credentials).await;
    assert_eq!(received.one("audience"), "https://api.example.com https://other.example.com");
}

const ISSUER: &str = "https://auth.example.com";

/// An issuer without metadata.
const PLAIN: Server = Server { metadata_url: "", metadata: "", answer: ANSWER };

fn credentials(authentication: ClientAuthentication) -> ClientCredentials {
    ClientCredentials::new(ISSUER, "billing", authentication).token_endpoint("https://auth.example.com/token")
}

const KEY: &str = include_str!("../keys/p256.pem");

/// The key that must sign an assertion.
#[derive(Clone, Copy, Debug)]
enum Key<'a> {
    Es256,
    Hs256(&'a str),
}

/// Checks an assertion with crates that we do not use for signing (RFC 7523 §3), and returns its `jti`.
fn check_assertion(assertion: &str, key: Key<'_>, audience: &str) -> String {
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (alg, is_valid) = match key {
        Key::Es256 => {
            let key = p256::ecdsa::SigningKey::from_pkcs8_pem(KEY).unwrap();
            let signature = p256::ecdsa::Signature::from_slice(&signature).unwrap();
            ("ES256", key.verifying_key().verify(signed.as_bytes(), &signature).is_ok())
        }
        Key::Hs256(secret) => {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
            mac.update(signed.as_bytes());
            ("HS256", mac.verify_slice(&signature).is_ok())
        }
    };
    assert!(is_valid, "{key:?}");
    let (header, claims) = signed.split_once('.').unwrap();
    let json = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    let (header, claims) = (json(header), json(claims));
    assert_eq!((&header["alg"], &header["typ"]), (&json!(alg), &json!("client-authentication+jwt")));
    assert_eq!(
        (&claims["iss"], &claims["sub"], &claims["aud"]),
        (&json!("billing"), &json!("billing"), &json!(audience))
    );
    let number = |name: &str| claims[name].as_u64().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(number("exp") - number("iat") == 60 && now.abs_diff(number("iat")) < 60, "{claims}");
    claims["jti"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_request_has_a_new_assertion() {
    let key = Arc::new(SigningKey::from_pem(KEY).unwrap());
    let mut names = std::collections::HashSet::new();
    for _ in 0..3 {
        let received = request(PLAIN, credentials(ClientAuthentication::private_key_jwt(key.clone()))).await;
        assert_eq!(received.one("client_assertion_type"), "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        assert_eq!((received.one("client_id"), received.authorization.clone()), ("billing", None));
        assert!(names.insert(check_assertion(received.one("client_assertion"), Key::Es256, ISSUER)));
    }
}

#[tokio::test]
async fn an_assertion_has_the_key_id_that_the_issuer_gave_the_key() {
    let key = SigningKey::from_pem(KEY).unwrap();
    let thumbprint = key.key_id().to_owned();
    for (authentication, kid) in [
        (ClientAuthentication::private_key_jwt_with_kid(SigningKey::from_pem(KEY).unwrap(), "key \"7\""), "key \"7\""),
        (ClientAuthentication::private_key_jwt(key), thumbprint.as_str()),
    ] {
        let received = request(PLAIN, credentials(authentication)).await;
        let assertion = received.one("client_assertion");
        check_assertion(assertion, Key::Es256, ISSUER);
        let header = URL_SAFE_NO_PAD.decode(assertion.split('.').next().unwrap()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&header).unwrap()["kid"], kid);
    }
}

#[tokio::test]
async fn a_function_gives_the_assertion_of_each_request() {
    let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let function = move || {
        let number = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async move { Ok(format!("e30.e30.{number}")) }
    };
    let authentication = ClientAuthentication::jwt_svid_fn(function);
    for number in 0..2 {
        let received = request(PLAIN, credentials(authentication.clone())).await;
        assert_eq!(received.one("client_assertion"), format!("e30.e30.{number}"));
        assert!(received.one("client_assertion_type").ends_with(":jwt-spiffe"));
    }
    for (answer, says) in [(Ok("a secret".to_owned()), "one signed JWT"), (Err("no agent".into()), "no agent")] {
        let answer = Mutex::new(Some(answer));
        let function = move || std::future::ready(answer.lock().unwrap().take().unwrap());
        let source = credentials(ClientAuthentication::assertion_fn(function)).http_service(service_fn(
            |_: Request<Full<Bytes>>| std::future::ready(Ok::<Response<Full<Bytes>>, Infallible>(Response::default())),
        ));
        let error = source.build().unwrap().token().await.unwrap_err().to_string();
        assert!(error.contains(says) && !error.contains("a secret"), "{error}");
    }
}

#[tokio::test]
async fn a_secret_signs_an_assertion_and_is_not_sent() {
    let secret = "0123456789abcdef0123456789abcdef";
    let received =
        request(PLAIN, credentials(ClientAuthentication::secret_jwt(SecretSource::from_value(secret)))).await;
    check_assertion(received.one("client_assertion"), Key::Hs256(secret), ISSUER);
    assert!(!format!("{received:?}").contains(secret));
}

#[tokio::test]
async fn a_short_secret_signs_no_assertion() {
    let service = service_fn(|request: Request<Full<Bytes>>| {
        std::future::ready(Err::<Response<Full<Bytes>>, _>(format!("{} received a request", request.uri())))
    });
    let authentication = ClientAuthentication::secret_jwt(SecretSource::from_value("a-short-secret"));
    let source = credentials(authentication).http_service(service).build().unwrap();
    let error = source.token().await.unwrap_err();
    assert_eq!(error.kind(), tower_client_credentials::client::TokenSourceErrorKind::Credential);
    assert!(error.to_string().contains("32") && !error.to_string().contains("a-short-secret"), "{error}");
}

#[tokio::test]
async fn tokens_in_files_are_read_again_for_each_request() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (authentication, kind) in [
        (ClientAuthentication::kubernetes_token(file.path()), "jwt-bearer"),
        (ClientAuthentication::jwt_svid_file(file.path()), "jwt-spiffe"),
    ] {
        for content in ["e30.e30.AA", "e30.e30.BB\n"] {
            std::fs::write(file.path(), content).unwrap();
            let received = request(PLAIN, credentials(authentication.clone())).await;
            assert_eq!(received.one("client_assertion"), content.trim());
            let expected = format!("urn:ietf:params:oauth:client-assertion-type:{kind}");
            assert_eq!(
                (received.one("client_assertion_type"), received.one("client_id")),
                (expected.as_str(), "billing")
            );
        }
    }
}

#[tokio::test]
async fn with_a_certificate_only_the_client_id_is_sent() {
    let received = request(PLAIN, credentials(ClientAuthentication::certificate())).await;
    assert_eq!(received.form, [("grant_type", "client_credentials"), ("client_id", "billing")].map(owned));
    assert_eq!(received.authorization, None);
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[tokio::test]
async fn a_changed_secret_is_used_from_the_next_request_on() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let authentication = ClientAuthentication::secret_post(SecretSource::from_file(file.path()));
    for secret in ["first", "second"] {
        std::fs::write(file.path(), secret).unwrap();
        assert_eq!(request(PLAIN, credentials(authentication.clone())).await.one("client_secret"), secret);
    }
}

/// An issuer that moves its token endpoint: the old URL answers 404, and the metadata has the new one.
#[tokio::test(start_paused = true)]
async fn a_moved_endpoint_is_discovered_again() {
    let version = Arc::new(Mutex::new((1, 0, 0)));
    let state = version.clone();
    let service = service_fn(move |request: Request<Full<Bytes>>| {
        let (version, discoveries, requests) = &mut *state.lock().unwrap();
        let url = request.uri().to_string();
        let (status, body) = if url == format!("{ISSUER}/.well-known/oauth-authorization-server") {
            *discoveries += 1;
            (200, format!(r#"{{"issuer": "{ISSUER}", "token_endpoint": "{ISSUER}/v{version}/token"}}"#))
        } else if *request.uri() == format!("{ISSUER}/v{version}/token").parse::<Uri>().unwrap() {
            *requests += 1;
            (200, format!(r#"{{"access_token": "t{requests}", "expires_in": 60, "token_type": "Bearer"}}"#))
        } else {
            (404, "<html>".to_owned())
        };
        let response = Response::builder().status(status).body(Full::<Bytes>::from(body)).unwrap();
        async { Ok::<_, Infallible>(response) }
    });
    let source = ClientCredentials::new(ISSUER, "billing", secret()).http_service(service).build().unwrap();
    let pass = |seconds| tokio::time::sleep(std::time::Duration::from_secs(seconds));
    for _ in 0..10 {
        source.token().await.unwrap();
        pass(50).await;
    }
    assert_eq!(version.lock().unwrap().1, 1, "the metadata is remembered");
    version.lock().unwrap().0 = 2;
    for _ in 0..100 {
        source.token().await.unwrap();
        pass(1).await;
    }
    let (_, discoveries, requests) = *version.lock().unwrap();
    assert_eq!(discoveries, 2, "one for the new place");
    println!("a moved endpoint: {discoveries} discoveries, {requests} tokens, {:?}", source.statistics());
    pass(25 * 3_600).await;
    source.token().await.unwrap();
    assert_eq!(version.lock().unwrap().1, 3, "metadata is a day old at most");
}
