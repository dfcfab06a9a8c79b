//! The token endpoint: configured, or discovered from the issuer's metadata (RFC 8414, OpenID Connect Discovery).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use serde::Deserialize;

use super::token_error::{TokenSourceError, TokenSourceErrorKind};
use super::transport::{self, Transport};
use crate::clock::Moment;
use crate::issuer::Issuer;
use crate::object::Object;
use crate::quoted::quoted;
use crate::uri::{self, PlainHttp};

/// How long the metadata is believed while requests for tokens succeed.
const METADATA_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the URL that is known stays in use without another look at metadata that cannot be had.
const RETRY_AGE: Duration = Duration::from_secs(60);

/// Where tokens are requested.
#[derive(Debug)]
pub(super) enum TokenEndpoint {
    /// At this URL.
    At(Uri),
    /// Where the issuer's metadata says. The URL is checked again when it is old or a request there fails. It stays in use while the
    /// metadata cannot be had.
    Discovered(Mutex<Option<Known>>),
}

/// A URL that the issuer's own metadata named.
#[derive(Debug)]
pub(super) struct Known {
    url: Uri,
    checked: Moment,
    /// For how long after that it needs no check.
    trusted: Duration,
}

/// The members of the metadata that decide anything.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    token_endpoint: Option<String>,
}

impl TokenEndpoint {
    pub(super) fn discovered() -> Self {
        Self::Discovered(Mutex::new(None))
    }

    /// Returns the URL, after a look at the metadata if need be.
    pub(super) async fn url(
        &self,
        transport: &dyn Transport,
        issuer: &Issuer,
        plain_http: PlainHttp,
        timeout: Duration,
        now: Moment,
    ) -> Result<Uri, TokenSourceError> {
        let known = match self {
            Self::At(url) => return Ok(url.clone()),
            Self::Discovered(known) => known,
        };
        let earlier = match &*lock(known) {
            Some(Known { url, checked, trusted }) if now.since(*checked) < *trusted => return Ok(url.clone()),
            earlier => earlier.as_ref().map(|known| known.url.clone()),
        };
        let (url, trusted) = match (discover(transport, issuer, plain_http, timeout).await, earlier) {
            (Ok(url), _) => (url, METADATA_AGE),
            (Err(error), Some(url)) => {
                tracing::warn!(%issuer, %error, token_endpoint = %url, "the token endpoint that is known stays in use");
                (url, RETRY_AGE)
            }
            (Err(error), None) => return Err(error),
        };
        *lock(known) = Some(Known { url: url.clone(), checked: now, trusted });
        Ok(url)
    }

    /// Has a URL checked before it is used again, since it did not answer as a token endpoint: the issuer may have moved it.
    pub(super) fn check_again(&self, url: &Uri) {
        if let Self::Discovered(known) = self
            && let Some(known) = &mut *lock(known)
            && known.url == *url
        {
            known.trusted = Duration::ZERO;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Requests the metadata at both well-known URLs, until one of them has that of the issuer. Any failure of the first leads to
/// the second: an issuer that has only OpenID metadata may answer anything at the other URL.
async fn discover(
    transport: &dyn Transport,
    issuer: &Issuer,
    plain_http: PlainHttp,
    timeout: Duration,
) -> Result<Uri, TokenSourceError> {
    let [first, second] = well_known_urls(issuer);
    let first_error = match token_endpoint(transport, issuer, &first, plain_http, timeout).await {
        Ok(url) => return Ok(url),
        Err(error) => error,
    };
    let second_error = match token_endpoint(transport, issuer, &second, plain_http, timeout).await {
        Ok(url) => return Ok(url),
        Err(error) => error,
    };
    // A document that cannot be used says more than one that does not exist.
    let kind = match (first_error.kind, second_error.kind) {
        (TokenSourceErrorKind::Unavailable, TokenSourceErrorKind::Unavailable) => TokenSourceErrorKind::Unavailable,
        _ => TokenSourceErrorKind::InvalidAnswer,
    };
    let (first, second) = (first_error.message, second_error.message);
    let message = format!("the token endpoint of {issuer} cannot be discovered: {first}; {second}");
    Err(TokenSourceError::of(kind, message))
}

/// RFC 8414 §3.1 has the well-known part before the issuer's path, OpenID Connect Discovery §4.1 behind it.
fn well_known_urls(issuer: &Issuer) -> [String; 2] {
    let (origin, path) = (issuer.origin(), issuer.path());
    [
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{origin}{path}/.well-known/openid-configuration"),
    ]
}

/// Why a document cannot be used.
pub(super) struct NoDocument {
    pub(super) kind: TokenSourceErrorKind,
    pub(super) message: String,
}

async fn token_endpoint(
    transport: &dyn Transport,
    issuer: &Issuer,
    url: &str,
    plain_http: PlainHttp,
    timeout: Duration,
) -> Result<Uri, NoDocument> {
    let answer = fetch_json(transport, url, timeout).await?;
    read_metadata(issuer, url, answer.body(), plain_http).map_err(|message| NoDocument {
        kind: TokenSourceErrorKind::InvalidAnswer,
        message: format!("{url}: {message}"),
    })
}

/// Fetches a document without any credential.
pub(super) async fn fetch_json(
    transport: &dyn Transport,
    url: &str,
    timeout: Duration,
) -> Result<Response<Bytes>, NoDocument> {
    let unavailable =
        |what: String| NoDocument { kind: TokenSourceErrorKind::Unavailable, message: format!("{url}: {what}") };
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = url.parse().map_err(|_| unavailable("this is not a URL".to_owned()))?;
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    let answer = transport::send(transport, request, timeout).await.map_err(|error| unavailable(error.to_string()))?;
    match answer.status() {
        StatusCode::OK => Ok(answer),
        status if status.is_redirection() => Err(unavailable(format!("a redirect ({status}) is not followed"))),
        status => Err(unavailable(format!("it answered {status}"))),
    }
}

/// Reads the token endpoint from metadata that is the issuer's own.
fn read_metadata(issuer: &Issuer, url: &str, body: &[u8], plain_http: PlainHttp) -> Result<Uri, String> {
    let Object::<Metadata>(metadata) = serde_json::from_slice(body)
        .map_err(|_| "this is not metadata: expected a JSON object with an `issuer` (RFC 8414 §3.2)")?;
    // "If these values are not identical, the data contained in the response MUST NOT be used" (RFC 8414 §3.3).
    if metadata.issuer != issuer.as_str() {
        return Err(format!(
            "`issuer` in the metadata is {}, expected {:?}, compared character by character; configure the issuer that the \
             metadata names",
            quoted(&metadata.issuer),
            issuer.as_str()
        ));
    }
    let endpoint = metadata.token_endpoint.ok_or("the metadata has no `token_endpoint`")?;
    let endpoint = check_endpoint(&endpoint, plain_http)
        .map_err(|what| format!("its `token_endpoint` {} cannot be used: {what}", quoted(&endpoint)))?;
    if endpoint.scheme_str() == Some("http") && url.starts_with("https:") {
        return Err("its `token_endpoint` has plain http, and the issuer has https".to_owned());
    }
    Ok(endpoint)
}

/// Parses the URL of a token endpoint, which gets a credential.
pub(super) fn check_endpoint(url: &str, plain_http: PlainHttp) -> Result<Uri, &'static str> {
    uri::secure(url, plain_http)
}

#[cfg(test)]
mod tests {
    use super::{read_metadata, well_known_urls};
    use crate::uri::PlainHttp;

    fn read(metadata: &str) -> Result<String, String> {
        let issuer = "https://h.example/tenant".parse().unwrap();
        let url = "https://h.example/.well-known/oauth-authorization-server/tenant";
        read_metadata(&issuer, url, metadata.as_bytes(), PlainHttp::Loopback).map(|url| url.to_string())
    }

    #[test]
    fn the_well_known_part_stands_before_the_path_and_then_behind_it() {
        assert_eq!(
            well_known_urls(&"https://h.example:8443/tenant/1/".parse().unwrap()),
            [
                "https://h.example:8443/.well-known/oauth-authorization-server/tenant/1",
                "https://h.example:8443/tenant/1/.well-known/openid-configuration",
            ]
        );
    }

    #[test]
    fn an_issuer_may_have_its_token_endpoint_at_another_host_over_https() {
        let metadata = r#"{"issuer": "https://h.example/tenant", "token_endpoint": "https://token.example/token"}"#;
        assert_eq!(read(metadata).unwrap(), "https://token.example/token");
    }

    #[test]
    fn metadata_that_would_send_the_credential_to_another_party_is_refused() {
        for (metadata, says) in [
            (r#"{"issuer": "https://other.example", "token_endpoint": "https://other.example/token"}"#, "expected"),
            (r#"{"issuer": "https://h.example/tenant/", "token_endpoint": "https://h.example/token"}"#, "expected"),
            (r#"{"issuer": "https://H.example/tenant", "token_endpoint": "https://h.example/token"}"#, "expected"),
            (r#"{"issuer": "https://h.example/tenant", "token_endpoint": "http://h.example/token"}"#, "plain http"),
            (r#"{"issuer": "https://h.example/tenant", "token_endpoint": "http://127.0.0.1/token"}"#, "plain http"),
            (r#"{"issuer": "https://h.example/tenant", "token_endpoint": "https://h.example@evil.example/"}"#, "user"),
            (r#"{"issuer": "https://h.example/tenant", "token_endpoint": "/token"}"#, "absolute"),
            (r#"{"issuer": "https://h.example/tenant"}"#, "no `token_endpoint`"),
            (r#"["https://h.example/tenant", "https://h.example/token"]"#, "not metadata"),
            ("<html>", "not metadata"),
        ] {
            let error = read(metadata).unwrap_err();
            assert!(error.contains(says), "{metadata}: {error}");
        }
    }
}
