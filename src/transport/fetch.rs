//! Sends requests to an issuer, within limits.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, ETAG, IF_NONE_MATCH, LOCATION};
use http::{HeaderValue, Request, Response, StatusCode, Uri};

use super::{HttpClient, Limits};
use crate::deadline::within;
use crate::quoted::{LONGEST_URL, cut};

/// The maximum number of redirects within the same host, such as to a terminating slash.
const MAX_REDIRECTS: usize = 3;

/// A request to an issuer failed. The text is for the operator. Clones share the error.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{url}: {cause}")]
pub(crate) struct FetchError {
    url: Arc<str>,
    cause: Arc<Cause>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error(transparent)]
    Late(#[from] crate::deadline::Late),
    #[error("no answer: {0}")]
    Http(crate::transport::HttpError),
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    #[error("the answer is a {0}")]
    Status(StatusCode),
    #[error("it redirects to another host, or too often; configure the target URL directly")]
    Redirect,
    #[error("neither well-known URL has the metadata of this issuer: {0}; {1}")]
    Discovery(FetchError, FetchError),
    #[error("{0}")]
    Document(String),
}

// Not `#[from]`: it would set the source, too, whose text is already part of this error's text.
impl From<crate::transport::HttpError> for Cause {
    fn from(error: crate::transport::HttpError) -> Self {
        Self::Http(error)
    }
}

impl FetchError {
    pub(crate) fn new(url: &str, cause: impl Into<Cause>) -> Self {
        // Bounded, since an issuer chooses the URL of its keys, and each fetch error contains it.
        let (start, rest) = cut(url, LONGEST_URL);
        Self { url: format!("{start}{rest}").into(), cause: Arc::new(cause.into()) }
    }

    pub(crate) fn document(url: &Uri, what: impl Into<String>) -> Self {
        Self::new(&url.to_string(), Cause::Document(what.into()))
    }

    pub(crate) fn status(url: &Uri, status: StatusCode) -> Self {
        Self::new(&url.to_string(), Cause::Status(status))
    }

    /// Returns whether no connection could be made.
    pub(crate) fn is_no_connection(&self) -> bool {
        matches!(&*self.cause, Cause::Http(error) if error.is_no_connection())
    }

    /// Returns whether the source has no document any more, so that the last one must not be used.
    #[cfg(feature = "workload_api")]
    pub(crate) fn is_withdrawn(&self) -> bool {
        matches!(&*self.cause, Cause::Http(error) if error.is_withdrawn())
    }

    /// Returns whether the same request may succeed later without a change of the configuration.
    pub(crate) fn is_transient(&self) -> bool {
        match &*self.cause {
            Cause::Late(_) | Cause::Http(_) => true,
            Cause::Status(status) => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            Cause::Discovery(first, second) => first.is_transient() || second.is_transient(),
            Cause::TooLong(_) | Cause::Redirect | Cause::Document(_) => false,
        }
    }
}

/// Whether a shared cache may answer a request (RFC 9111 §5.2.1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SharedCaches {
    /// It may, while its copy is fresh.
    MayAnswer,
    /// It must revalidate its copy with the issuer first.
    MustRevalidate,
}

/// Sends one request, and returns any answer within the limits of time and length.
pub(crate) async fn send(
    client: &dyn HttpClient,
    request: Request<Bytes>,
    limits: Limits,
) -> Result<Response<Bytes>, Cause> {
    let sent = within(limits.time, client.send(request, limits.body)).await?;
    let response =
        sent.map_err(|error| if error.is_too_long() { Cause::TooLong(limits.body) } else { error.into() })?;
    if response.body().len() > limits.body {
        return Err(Cause::TooLong(limits.body));
    }
    Ok(response)
}

/// The `ETag` of a document, and the URL that sent it: a tag is only valid for the same URL (RFC 9110 §8.8.3).
#[derive(Clone, Debug)]
pub(crate) struct Tag {
    url: Uri,
    value: HeaderValue,
}

/// An answer, and the URL that it came from after all redirects.
pub(crate) struct Answer {
    url: Uri,
    pub(crate) response: Response<Bytes>,
}

impl Answer {
    /// Returns whether the document is unchanged since the tag was sent.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.response.status() == StatusCode::NOT_MODIFIED
    }

    /// Returns the tag for a conditional request for this document.
    pub(crate) fn tag(&self) -> Option<Tag> {
        let value = self.response.headers().get(ETAG)?.clone();
        Some(Tag { url: self.url.clone(), value })
    }
}

/// Fetches a JSON document. The tag is sent only to its own URL, which may answer that the document is unchanged (304).
pub(crate) async fn get(
    client: &dyn HttpClient,
    url: &Uri,
    tag: Option<&Tag>,
    caches: SharedCaches,
    limits: Limits,
) -> Result<Answer, FetchError> {
    let followed = within(limits.time, follow(client, url, tag, caches, limits)).await;
    followed.map_err(Cause::Late).and_then(|answer| answer).map_err(|cause| FetchError::new(&url.to_string(), cause))
}

async fn follow(
    client: &dyn HttpClient,
    url: &Uri,
    tag: Option<&Tag>,
    caches: SharedCaches,
    limits: Limits,
) -> Result<Answer, Cause> {
    let mut at = url.clone();
    for _ in 0..=MAX_REDIRECTS {
        // Also after a redirect: the document at the target has its own tag.
        let tag = tag.filter(|tag| tag.url == at).map(|tag| &tag.value);
        let response = send(client, request(&at, tag, caches), limits).await?;
        match response.status() {
            StatusCode::OK => return Ok(Answer { url: at, response }),
            StatusCode::NOT_MODIFIED if tag.is_some() => return Ok(Answer { url: at, response }),
            status if status.is_redirection() && response.headers().contains_key(LOCATION) => {
                at = same_host(&at, response.headers().get(LOCATION)).ok_or(Cause::Redirect)?;
            }
            status => return Err(Cause::Status(status)),
        }
    }
    Err(Cause::Redirect)
}

fn request(url: &Uri, tag: Option<&HeaderValue>, caches: SharedCaches) -> Request<Bytes> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = url.clone();
    // A key set may also be `application/jwk-set+json` (RFC 7517 §8.5.2).
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json, application/jwk-set+json"));
    if caches == SharedCaches::MustRevalidate {
        request.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    if let Some(tag) = tag {
        request.headers_mut().insert(IF_NONE_MATCH, tag.clone());
    }
    request
}

/// Returns the target of a redirect if it keeps scheme, host and port: an absolute path, or a whole URL.
fn same_host(from: &Uri, location: Option<&HeaderValue>) -> Option<Uri> {
    // A fragment is not sent to the server (RFC 9110 §10.2.2).
    let to = location?.to_str().ok()?.split('#').next()?;
    let to = match to.strip_prefix('/') {
        // Two slashes start a host (RFC 3986 §4.2).
        Some(rest) if rest.starts_with('/') => return None,
        Some(_) => crate::uri::http_url(&format!("{}://{}{to}", from.scheme_str()?, from.authority()?)),
        None => crate::uri::http_url(to),
    }
    .ok()?;
    (to.scheme() == from.scheme() && to.authority() == from.authority()).then_some(to)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::{HeaderValue, Request, Response};

    use super::super::{HttpClient, HttpError, HttpFuture};
    use super::{Cause, FetchError, Limits, same_host, send};

    /// A client that answers with this many bytes and ignores the limit.
    #[derive(Debug)]
    struct Long(usize);

    impl HttpClient for Long {
        fn send(&self, _: Request<Bytes>, _: usize) -> HttpFuture<'_> {
            HttpFuture::new(async move { Ok(Response::new(vec![b' '; self.0].into())) })
        }
    }

    #[tokio::test]
    async fn the_limit_on_the_length_is_enforced_even_if_the_http_client_ignores_it() {
        let limits = Limits { time: Duration::from_secs(5), body: 100 };
        let send = |length| async move { send(&Long(length), Request::default(), limits).await };
        assert_eq!(send(100).await.unwrap().body().len(), 100);
        assert!(matches!(send(101).await, Err(Cause::TooLong(100))));
    }

    #[test]
    fn an_error_reports_that_there_was_no_connection() {
        let error = |error: HttpError| FetchError::new("https://h.example", error).is_no_connection();
        assert!(error(HttpError::no_connection("refused")) && !error(HttpError::new("reset")));
    }

    #[test]
    fn a_redirect_must_keep_its_host() {
        let from = "https://h.example/a".parse().unwrap();
        let follow = |to: &'static str| same_host(&from, Some(&HeaderValue::from_static(to))).map(|to| to.to_string());
        assert_eq!(follow("/b?c").as_deref(), Some("https://h.example/b?c"));
        assert_eq!(follow("https://h.example/a/").as_deref(), Some("https://h.example/a/"));
        assert_eq!(follow("/b#c").as_deref(), Some("https://h.example/b"));
        for to in [
            "http://h.example/a",
            "https://h.example:8443/a",
            "https://o.example/a",
            "//o.example/a",
            "/\\o.example/a",
            "https://o.example@h.example/a",
            "https://h.example*/a",
            "a b",
            "",
        ] {
            assert_eq!(follow(to), None, "{to}");
        }
    }

    #[test]
    fn a_redirect_to_a_relative_path_is_not_appended_to_the_host() {
        let from = "https://h.example/a".parse().unwrap();
        for to in ["*", "b", "?b", ".evil.example/", ":8443/", "@evil.example/", "#b"] {
            assert_eq!(same_host(&from, Some(&HeaderValue::from_static(to))), None, "{to}");
        }
    }
}
