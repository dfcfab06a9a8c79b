//! The token endpoint: configured, or discovered from the issuer's metadata (RFC 8414, OpenID Connect Discovery).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Request, Response, StatusCode, Uri};

use super::token_error::{TokenSourceError, TokenSourceErrorKind};
use super::transport;
use crate::clock::Moment;
use crate::issuer::Issuer;
use crate::issuer_metadata::{self, Endpoint};
use crate::quoted::shown_url;
use crate::transport::{HttpClient, Limits, retry_after};
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

impl TokenEndpoint {
    pub(super) fn discovered() -> Self {
        Self::Discovered(Mutex::new(None))
    }

    /// Returns the URL, after a look at the metadata if need be.
    pub(super) async fn url(
        &self,
        client: &dyn HttpClient,
        issuer: &Issuer,
        plain_http: PlainHttp,
        limits: Limits,
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
        let (url, trusted) = match (discover(client, issuer, plain_http, limits, now).await, earlier) {
            (Ok(url), _) => (url, METADATA_AGE),
            (Err(error), Some(url)) => {
                let token_endpoint = shown_url(&url.to_string());
                tracing::warn!(%issuer, %error, token_endpoint, "the token endpoint that is known stays in use");
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
    client: &dyn HttpClient,
    issuer: &Issuer,
    plain_http: PlainHttp,
    limits: Limits,
    now: Moment,
) -> Result<Uri, TokenSourceError> {
    let [first, second] = issuer_metadata::well_known_urls(issuer);
    let first_error = match token_endpoint(client, issuer, &first, plain_http, limits, now).await {
        Ok(url) => return Ok(url),
        Err(error) => error,
    };
    let second_error = match token_endpoint(client, issuer, &second, plain_http, limits, now).await {
        Ok(url) => return Ok(url),
        Err(error) => error,
    };
    // A document that cannot be used says more than one that does not exist.
    let kind = match (first_error.kind, second_error.kind) {
        (TokenSourceErrorKind::Unavailable, TokenSourceErrorKind::Unavailable) => TokenSourceErrorKind::Unavailable,
        _ => TokenSourceErrorKind::InvalidAnswer,
    };
    let retry_after = first_error.retry_after.max(second_error.retry_after);
    let (first, second) = (first_error.message, second_error.message);
    let message = format!("the token endpoint of {issuer} cannot be discovered: {first}; {second}");
    Err(TokenSourceError::of(kind, message).with_retry_after(retry_after))
}

/// Why a document cannot be used.
pub(super) struct NoDocument {
    pub(super) kind: TokenSourceErrorKind,
    pub(super) message: String,
    /// The server said that there is no document.
    pub(super) is_absent: bool,
    /// How long the server asks to wait.
    pub(super) retry_after: Option<Duration>,
}

impl From<NoDocument> for TokenSourceError {
    fn from(NoDocument { kind, message, retry_after, .. }: NoDocument) -> Self {
        Self::of(kind, message).with_retry_after(retry_after)
    }
}

async fn token_endpoint(
    client: &dyn HttpClient,
    issuer: &Issuer,
    url: &str,
    plain_http: PlainHttp,
    limits: Limits,
    now: Moment,
) -> Result<Uri, NoDocument> {
    let answer = fetch_json(client, url, limits, now).await?;
    issuer_metadata::endpoint(issuer, url, answer.body(), Endpoint::Token, plain_http).map_err(|message| NoDocument {
        kind: TokenSourceErrorKind::InvalidAnswer,
        message: format!("{url}: {message}"),
        is_absent: false,
        retry_after: None,
    })
}

/// Fetches a document without any credential.
pub(super) async fn fetch_json(
    client: &dyn HttpClient,
    url: &str,
    limits: Limits,
    now: Moment,
) -> Result<Response<Bytes>, NoDocument> {
    let unavailable = |what: String| NoDocument {
        kind: TokenSourceErrorKind::Unavailable,
        message: format!("{url}: {what}"),
        is_absent: false,
        retry_after: None,
    };
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = url.parse().map_err(|_| unavailable("this is not a URL".to_owned()))?;
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    let answer = transport::send(client, request, limits).await.map_err(|error| unavailable(error.to_string()))?;
    match answer.status() {
        StatusCode::OK => Ok(answer),
        status if status.is_redirection() => Err(unavailable(format!("a redirect ({status}) is not followed"))),
        status => {
            let is_absent = status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS;
            let retry_after = retry_after(answer.headers(), now.wall);
            Err(NoDocument { is_absent, retry_after, ..unavailable(format!("it answered {status}")) })
        }
    }
}

/// Parses the URL of a token endpoint, which gets a credential.
pub(super) fn check_endpoint(url: &str, plain_http: PlainHttp) -> Result<Uri, &'static str> {
    uri::secure(url, plain_http)
}
