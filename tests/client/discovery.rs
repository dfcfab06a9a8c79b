//! Discovers the issuer of a resource by the metadata of the resource (RFC 9728).

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use tower::{Layer as _, Service, service_fn};
use tower_client_credentials::client::{CallError, ClientConfigError, SecretSource, TokenSourceErrorKind};
use tower_client_credentials::{ClientCredentials, ClientCredentialsLayer};

use super::destinations::{Internet, json};

const RESOURCE: &str = "https://mcp.example.com/mcp";
const WELL_KNOWN: &str = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp";
const FIRST: &str = "https://first.example.com";
const SECOND: &str = "https://second.example.com";

/// The servers of two issuers and the metadata of the resource, which a test can change.
#[derive(Clone)]
struct Site {
    internet: Internet,
    metadata: Arc<Mutex<String>>,
    /// A URL without a document.
    missing: &'static str,
}

fn metadata(resource: &str, issuers: &[&str]) -> String {
    serde_json::json!({"resource": resource, "authorization_servers": issuers}).to_string()
}

impl Site {
    fn new(metadata: impl Into<String>) -> Self {
        Self { internet: Internet::default(), metadata: Arc::new(Mutex::new(metadata.into())), missing: "" }
    }

    fn credentials(&self, issuer: &str) -> ClientCredentials {
        let (metadata, missing) = (self.metadata.clone(), self.missing);
        let service = self.internet.serve(move |url| {
            if url == missing {
                let mut response = json("");
                *response.status_mut() = http::StatusCode::NOT_FOUND;
                return response;
            }
            let (origin, path) = url.split_at(url.match_indices('/').nth(2).map_or(url.len(), |(at, _)| at));
            match path {
                "/.well-known/oauth-authorization-server" => {
                    json(format!(r#"{{"issuer": "{origin}", "token_endpoint": "{origin}/token"}}"#))
                }
                "/token" => {
                    let token = origin.trim_start_matches("https://");
                    json(format!(r#"{{"access_token": "{token}", "token_type": "Bearer", "expires_in": 3600}}"#))
                }
                _ => json(metadata.lock().unwrap().clone()),
            }
        });
        ClientCredentials::new(issuer, "agent", SecretSource::from_value("the-secret")).http_service(service)
    }

    fn layer(&self) -> ClientCredentialsLayer {
        ClientCredentialsLayer::discover(RESOURCE, [self.credentials(FIRST), self.credentials(SECOND)]).unwrap()
    }
}

/// A resource that accepts the tokens of one issuer, and refuses others with this challenge.
fn resource(
    accepted: &'static str,
    challenge: &'static str,
) -> impl Service<Request<Full<Bytes>>, Response = Response<()>, Error = Infallible, Future: Send> + Clone {
    service_fn(move |request: Request<Full<Bytes>>| {
        let token = request.headers()[header::AUTHORIZATION].to_str().unwrap();
        let mut response = Response::new(());
        if token != format!("Bearer {accepted}") {
            *response.status_mut() = http::StatusCode::UNAUTHORIZED;
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
        }
        std::future::ready(Ok(response))
    })
}

fn request() -> Request<Full<Bytes>> {
    Request::post(RESOURCE).body(Full::default()).unwrap()
}

#[tokio::test]
async fn the_first_issuer_for_which_there_are_credentials_is_used() {
    let site = Site::new(metadata(RESOURCE, &["https://other.example.com", SECOND, FIRST]));
    let mut service = site.layer().layer(resource("second.example.com", "Bearer"));
    for _ in 0..3 {
        assert_eq!(service.call(request()).await.unwrap().status(), 200);
    }
    assert_eq!(site.internet.credentials_at(), [format!("{SECOND}/token")]);
    assert_eq!(site.internet.urls().iter().filter(|url| *url == WELL_KNOWN).count(), 1);
}

#[tokio::test]
async fn metadata_for_another_resource_or_with_unknown_issuers_is_not_used() {
    for document in [
        metadata("https://mcp.example.com/mcp/", &[FIRST]),
        metadata("https://mcp.example.com", &[FIRST]),
        metadata("https://MCP.example.com/mcp", &[FIRST]),
        metadata(RESOURCE, &[]),
        metadata(
            RESOURCE,
            &["https://evil.example", "https://first.example.com/", "https://first.example.com@evil.example"],
        ),
        format!(r#"["{RESOURCE}", ["{FIRST}"]]"#),
        format!(r#"{{"authorization_servers": ["{FIRST}"]}}"#),
        "<html>".to_owned(),
    ] {
        let site = Site::new(document.as_str());
        let mut service = site.layer().layer(resource("none", "Bearer"));
        let error = service.call(request()).await.unwrap_err();
        let CallError::Token(error) = error else { panic!("{document}: {error}") };
        assert_eq!(error.kind(), TokenSourceErrorKind::InvalidAnswer, "{document}");
        assert!(error.to_string().contains(WELL_KNOWN), "{error}");
        assert_eq!(site.internet.credentials_at(), Vec::<String>::new(), "{document}");
        // It is not requested again at once.
        assert!(service.call(request()).await.is_err());
        assert_eq!(site.internet.urls(), [WELL_KNOWN], "{document}");
    }
}

#[tokio::test]
async fn metadata_for_the_whole_host_is_used_if_there_is_none_for_the_path() {
    let root = "https://mcp.example.com/.well-known/oauth-protected-resource";
    for (document, is_used) in
        [(metadata(RESOURCE, &[FIRST]), true), (metadata("https://mcp.example.com", &[FIRST]), false)]
    {
        let site = Site { missing: WELL_KNOWN, ..Site::new(document) };
        let mut service = site.layer().layer(resource("first.example.com", "Bearer"));
        assert_eq!(service.call(request()).await.is_ok(), is_used);
        assert_eq!(site.internet.urls()[..2], [WELL_KNOWN, root]);
        assert_eq!(site.internet.credentials_at().len(), usize::from(is_used), "its `resource` must be the same");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_refusal_the_issuer_that_the_metadata_names_now_is_used() {
    let site = Site::new(metadata(RESOURCE, &[FIRST]));
    let challenge = r#"Bearer resource_metadata="https://mcp.example.com/metadata""#;
    let layer = site.layer();
    assert_eq!(layer.layer(resource("first.example.com", challenge)).call(request()).await.unwrap().status(), 200);
    let mut moved = layer.layer(resource("second.example.com", challenge));
    *site.metadata.lock().unwrap() = metadata(RESOURCE, &[SECOND]);
    // The metadata was just fetched.
    assert_eq!(moved.call(request()).await.unwrap().status(), 401);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(moved.call(request()).await.unwrap().status(), 200);
    assert_eq!(site.internet.credentials_at(), [format!("{FIRST}/token"), format!("{SECOND}/token")]);
    assert!(site.internet.urls().contains(&"https://mcp.example.com/metadata".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_never_causes_a_request_to_another_origin_or_an_unknown_issuer() {
    for challenge in [
        r#"Bearer resource_metadata="https://evil.example/metadata""#,
        r#"Bearer resource_metadata="http://mcp.example.com/metadata""#,
        r#"Bearer resource_metadata="https://mcp.example.com:8443/metadata""#,
        r#"Bearer resource_metadata="https://mcp.example.com@evil.example/metadata""#,
        r#"Bearer resource_metadata="//evil.example/metadata""#,
        r#"Bearer resource_metadata="/metadata""#,
    ] {
        let site = Site::new(metadata(RESOURCE, &[FIRST]));
        let mut service = site.layer().layer(resource("none", challenge));
        for _ in 0..3 {
            assert_eq!(service.call(request()).await.unwrap().status(), 401);
            tokio::time::sleep(Duration::from_secs(61)).await;
        }
        assert_eq!(site.internet.urls().iter().filter(|url| url.contains("metadata")).count(), 0, "{challenge}");
        assert_eq!(site.internet.credentials_at(), [format!("{FIRST}/token")], "{challenge}");
    }
    // Metadata of the same origin that names an unknown issuer changes nothing.
    let site = Site::new(metadata(RESOURCE, &[FIRST]));
    let layer = site.layer();
    let challenge = r#"Bearer resource_metadata="https://mcp.example.com/metadata""#;
    assert_eq!(layer.layer(resource("first.example.com", challenge)).call(request()).await.unwrap().status(), 200);
    *site.metadata.lock().unwrap() = metadata(RESOURCE, &["https://evil.example"]);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(layer.layer(resource("none", challenge)).call(request()).await.unwrap().status(), 401);
    assert_eq!(layer.layer(resource("first.example.com", challenge)).call(request()).await.unwrap().status(), 200);
    assert_eq!(site.internet.credentials_at(), [format!("{FIRST}/token")]);
}

#[test]
fn settings_that_prevent_discovery_are_rejected() {
    let site = Site::new("");
    let discover = |resource: &str, issuers: &[&str]| {
        let credentials: Vec<_> = issuers.iter().map(|issuer| site.credentials(issuer)).collect();
        ClientCredentialsLayer::discover(resource, credentials).err()
    };
    assert!(matches!(discover(RESOURCE, &[]), Some(ClientConfigError::NoCredentials)));
    assert!(matches!(discover(RESOURCE, &[FIRST, FIRST]), Some(ClientConfigError::DuplicateIssuer(_))));
    assert!(matches!(discover("http://mcp.example.com", &[FIRST]), Some(ClientConfigError::ResourceUrl { .. })));
    assert!(matches!(discover("urn:mcp", &[FIRST]), Some(ClientConfigError::ResourceUrl { .. })));
}
