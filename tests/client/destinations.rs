//! Attempts to have a credential or a token sent to another party. None of them succeeds.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};
use tower_client_credentials::client::{
    AccessToken, CallError, ClientAuthentication, ClientConfigError, SecretSource, TokenSourceErrorKind,
};
use tower_client_credentials::{ClientCredentials, ClientCredentialsLayer};

use super::world::{API, ISSUER, Issue, ResourceServer, Verdict, World};

/// Records what a server on any host receives, by URL. It responds as the test specifies.
pub type Answer = std::pin::Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

#[derive(Clone, Default)]
pub struct Internet {
    received: Arc<Mutex<Vec<(String, String)>>>,
}

impl Internet {
    /// A service that records each request with its credentials, and responds.
    pub fn serve(
        &self,
        answer: impl Fn(&str) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
    ) -> impl tower::Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = Infallible, Future = Answer>
    + Clone
    + Send
    + 'static {
        let received = self.received.clone();
        service_fn(move |request: Request<Full<Bytes>>| {
            let (received, answer) = (received.clone(), answer.clone());
            let future: Answer = Box::pin(async move {
                let (head, body) = request.into_parts();
                let url = head.uri.to_string();
                let body = body.collect().await.unwrap().to_bytes();
                let header = head.headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap());
                let credentials = format!("{header:?} {body:?}");
                received.lock().unwrap().push((url.clone(), credentials));
                Ok::<_, Infallible>(answer(&url))
            });
            future
        })
    }

    pub fn urls(&self) -> Vec<String> {
        self.received.lock().unwrap().iter().map(|(url, _)| url.clone()).collect()
    }

    /// Returns where any part of the credential arrived.
    pub fn credentials_at(&self) -> Vec<String> {
        let received = self.received.lock().unwrap();
        let has_credential =
            |text: &str| text.contains("Basic") || text.contains("the-secret") || text.contains("client_id");
        received.iter().filter(|(_, credentials)| has_credential(credentials)).map(|(url, _)| url.clone()).collect()
    }
}

pub fn json(body: impl Into<String>) -> Response<Full<Bytes>> {
    Response::new(Full::from(body.into()))
}

fn redirect(to: &str) -> Response<Full<Bytes>> {
    Response::builder().status(307).header(header::LOCATION, to).body(Full::default()).unwrap()
}

const TOKEN: &str = r#"{"access_token": "a-token", "token_type": "Bearer", "expires_in": 600}"#;

fn metadata(issuer: &str, endpoint: &str) -> String {
    format!(r#"{{"issuer": "{issuer}", "token_endpoint": "{endpoint}"}}"#)
}

/// Every host with a token endpoint of the attacker.
const EVIL: &str = "evil.example";

#[tokio::test]
async fn no_metadata_sends_the_credential_to_another_party() {
    let evil = format!("https://{EVIL}/token");
    for (way, document) in [
        ("metadata of another issuer", metadata(&format!("https://{EVIL}"), &evil)),
        ("an issuer that differs by a slash", metadata(&format!("{ISSUER}/"), &evil)),
        ("an issuer that differs by case", metadata("https://AUTH.example.com", &evil)),
        ("an issuer with a port", metadata("https://auth.example.com:443", &evil)),
        ("an issuer without https", metadata("http://auth.example.com", &evil)),
        ("an endpoint without https", metadata(ISSUER, &format!("http://{EVIL}/token"))),
        ("an endpoint on loopback without https", metadata(ISSUER, "http://127.0.0.1:8080/token")),
        ("an endpoint with a user name", metadata(ISSUER, &format!("https://auth.example.com@{EVIL}/token"))),
        ("an endpoint without a host", metadata(ISSUER, "https:///token")),
        ("a relative endpoint", metadata(ISSUER, "//evil.example/token")),
        ("an endpoint of another scheme", metadata(ISSUER, "ftp://evil.example/token")),
        ("a list", format!(r#"["{ISSUER}", "{evil}"]"#)),
        ("the issuer twice", format!(r#"{{"issuer": "{ISSUER}", "issuer": "{ISSUER}", "token_endpoint": "{evil}"}}"#)),
        ("HTML", format!("<html><a href={evil}>token</a></html>")),
    ] {
        let internet = Internet::default();
        let service =
            internet.serve(move |url| json(if url.contains(".well-known") { document.as_str() } else { TOKEN }));
        let source = ClientCredentials::new(ISSUER, "billing", SecretSource::from_value("the-secret"))
            .http_service(service)
            .build()
            .unwrap();
        let error = source.token().await.unwrap_err();
        assert_eq!(error.kind(), TokenSourceErrorKind::InvalidAnswer, "{way}: {error}");
        assert_eq!(internet.credentials_at(), Vec::<String>::new(), "{way}");
        assert!(internet.urls().iter().all(|url| url.starts_with(ISSUER)), "{way}: {:?}", internet.urls());
    }
}

#[tokio::test]
async fn no_redirect_of_the_issuer_is_followed() {
    for (way, at) in [("of the metadata", ".well-known"), ("of the token endpoint", "/token")] {
        for to in ["https://evil.example/token", "//evil.example/token", "/elsewhere", "http://auth.example.com/token"]
        {
            let internet = Internet::default();
            let service = internet.serve(move |url| {
                if url.contains(at) { redirect(to) } else { json(metadata(ISSUER, &format!("{ISSUER}/token"))) }
            });
            let source = ClientCredentials::new(ISSUER, "billing", SecretSource::from_value("the-secret"))
                .http_service(service)
                .build()
                .unwrap();
            assert!(source.token().await.is_err(), "a redirect {way} to {to}");
            let expected = if at == "/token" { vec![format!("{ISSUER}/token")] } else { vec![] };
            assert_eq!(internet.credentials_at(), expected, "a redirect {way} to {to}");
            assert!(internet.urls().iter().all(|url| url.starts_with(ISSUER)), "{:?}", internet.urls());
        }
    }
}

#[tokio::test]
async fn no_request_carries_a_token_to_another_origin() {
    let source = AccessToken::bearer("a-token").unwrap();
    let layer = ClientCredentialsLayer::from_source(source, API).unwrap();
    for uri in [
        "http://api.example.com/",
        "https://api.example.com:8443/",
        "https://api.example.com.evil.example/",
        "https://api.example.com@evil.example/",
        "https://evil.example/?https://api.example.com",
        "https://evil.example/",
        "https://auth.example.com/",
        "https://127.0.0.1/",
        "ws://api.example.com/",
        "/relative",
        "*",
    ] {
        let internet = Internet::default();
        let mut service = layer.layer(internet.serve(|_| json("")));
        let request = Request::get(uri).body(Full::<Bytes>::default()).unwrap();
        let error = service.ready().await.unwrap().call(request).await.unwrap_err();
        assert!(matches!(error, CallError::Destination(_)) && error.is_before_call(), "{uri}: {error}");
        assert_eq!(internet.urls(), Vec::<String>::new(), "{uri}");
    }
    let internet = Internet::default();
    let mut service = layer.layer(internet.serve(|_| json("")));
    let request = Request::get(API).header("host", "evil.example").body(Full::<Bytes>::default()).unwrap();
    assert!(matches!(service.call(request).await, Err(CallError::Destination(_))));
    assert!(service.call(Request::get(API).body(Full::<Bytes>::default()).unwrap()).await.is_ok());
    assert_eq!(internet.urls(), [format!("{API}/")]);
}

/// A client that follows redirects outside of the layer passes each of them through the layer again.
#[tokio::test]
async fn a_redirect_of_the_resource_server_does_not_receive_the_token() {
    let internet = Internet::default();
    let layer = ClientCredentialsLayer::from_source(AccessToken::bearer("a-token").unwrap(), API).unwrap();
    let mut service = layer.layer(internet.serve(|_| redirect("https://evil.example/")));
    let first = service.call(Request::get(API).body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    let location = first.headers()[header::LOCATION].to_str().unwrap();
    let second = service.call(Request::get(location).body(Full::<Bytes>::default()).unwrap()).await;
    assert!(matches!(second, Err(CallError::Destination(_))));
    assert_eq!(internet.urls(), [format!("{API}/")]);
}

/// No content of a refusal changes where credentials go, unless that is configured.
#[tokio::test(start_paused = true)]
async fn a_refusal_sends_credentials_nowhere() {
    for challenge in [
        r#"Bearer error="invalid_token", resource_metadata="https://evil.example/.well-known/oauth-protected-resource""#,
        r#"Bearer error="invalid_token", authorization_uri="https://evil.example/token""#,
        r#"Bearer error="insufficient_scope", scope="admin""#,
        r#"Bearer as_uri="https://evil.example/""#,
    ] {
        let world = World::new(|_| Issue::Token(Some(600))).resource_rule(move |_, _| Verdict::Challenge(challenge));
        let layer = ClientCredentialsLayer::from_source(world.source(), API).unwrap();
        let mut service = layer.layer(ResourceServer(world.clone()));
        let request = Request::get(format!("{API}/a")).body(Full::<Bytes>::default()).unwrap();
        assert_eq!(service.call(request).await.unwrap().status(), 401, "{challenge}");
        assert_eq!(world.lock().seen.violations, Vec::<String>::new(), "{challenge}");
    }
}

#[test]
fn settings_that_would_send_a_credential_unencrypted_are_rejected() {
    let build = |issuer: &str, endpoint: Option<&str>| {
        let mut credentials = ClientCredentials::new(issuer, "billing", ClientAuthentication::certificate())
            .http_service(Internet::default().serve(|_| json("")));
        if let Some(endpoint) = endpoint {
            credentials = credentials.token_endpoint(endpoint);
        }
        credentials.build().err()
    };
    assert_eq!(build(ISSUER, None), None);
    assert_eq!(build("http://127.0.0.1:1", None), None);
    assert!(matches!(build("http://auth.example.com", None), Some(ClientConfigError::Issuer(_))));
    for endpoint in ["http://auth.example.com/token", "https://user@auth.example.com/token", "/token", "ftp://h/token"]
    {
        let error = build(ISSUER, Some(endpoint));
        assert!(matches!(error, Some(ClientConfigError::TokenEndpoint { .. })), "{endpoint}: {error:?}");
    }
    let source = AccessToken::bearer("a-token").unwrap();
    for origin in ["http://api.example.com", "api.example.com", "https://u@api.example.com", "urn:api"] {
        let error = ClientCredentialsLayer::from_source(source.clone(), origin).unwrap_err();
        assert!(matches!(error, ClientConfigError::Origin(_)), "{origin}: {error}");
    }
}

#[test]
fn settings_that_cannot_work_are_rejected_with_how_to_fix_them() {
    let credentials = || {
        ClientCredentials::new(ISSUER, "billing", ClientAuthentication::certificate())
            .http_service(Internet::default().serve(|_| json("")))
    };
    for (error, says) in [
        (credentials().resource("api").build().err(), "invalid resource `api`"),
        (credentials().parameter("scope", "a").build().err(), "`scope` has a setting"),
        (credentials().parameter("client_secret", "a").build().err(), "`client_secret` has a setting"),
        (ClientCredentialsLayer::new(credentials()).err(), "set `resource(…)`"),
        (ClientCredentialsLayer::new(credentials().resource("api://billing")).err(), "set `resource(…)`"),
        (ClientCredentialsLayer::new(credentials().resource("http://api.example.com")).err(), "dangerous_plain_http"),
    ] {
        let error = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(says), "{says}: {error}");
    }
    let plain = credentials().dangerous_plain_http().resource("http://api.example.com");
    assert!(ClientCredentialsLayer::new(plain).is_ok());
}
