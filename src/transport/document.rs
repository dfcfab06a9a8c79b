//! A public JSON document that is made once and served from memory: a key set, the metadata of either role.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::Body as _;
use http_body_util::Full;
use serde::Serialize;

use crate::crypto::sha256;

/// How documents are served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DocumentSettings {
    pub(crate) max_age: Duration,
    pub(crate) cross_origin: bool,
}

impl Default for DocumentSettings {
    /// Five minutes: long enough to spare the server, short enough for a new key.
    fn default() -> Self {
        Self { max_age: Duration::from_secs(300), cross_origin: false }
    }
}

/// The settings make no valid document.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidDocument(pub(crate) String);

#[derive(Debug)]
pub(crate) struct Document {
    body: Bytes,
    content_type: &'static str,
    etag: HeaderValue,
    caching: HeaderValue,
    /// Whether web pages of any origin may read it.
    cross_origin: bool,
}

impl Document {
    pub(crate) fn new(
        content_type: &'static str,
        content: &impl Serialize,
        settings: DocumentSettings,
    ) -> Result<Self, InvalidDocument> {
        let body = serde_json::to_vec(content).map_err(|error| InvalidDocument(error.to_string()))?;
        let header = |text: String| HeaderValue::try_from(text).map_err(|error| InvalidDocument(error.to_string()));
        let caching = header(format!("public, max-age={}", settings.max_age.as_secs()))?;
        let etag = header(format!("\"{}\"", URL_SAFE_NO_PAD.encode(sha256(&body))))?;
        Ok(Self { body: body.into(), content_type, etag, caching, cross_origin: settings.cross_origin })
    }

    /// GET and HEAD, with the conditional request of RFC 9110 §13.1.2.
    pub(crate) fn answer(&self, head: &Parts) -> Response<Full<Bytes>> {
        if self.cross_origin && head.method == Method::OPTIONS {
            return preflight();
        }
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return method_not_allowed(if self.cross_origin { "GET, HEAD, OPTIONS" } else { "GET, HEAD" });
        }
        let unchanged = self.is_known_to(&head.headers);
        let body = if unchanged { Bytes::new() } else { self.body.clone() };
        let mut response = Response::new(Full::new(body));
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, self.caching.clone());
        headers.insert(ETAG, self.etag.clone());
        if self.cross_origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("etag"));
        }
        if unchanged {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        }
        response
    }

    fn is_known_to(&self, headers: &HeaderMap) -> bool {
        let known =
            headers.get_all(IF_NONE_MATCH).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        known.map(<[u8]>::trim_ascii).any(|tag| {
            // Weak comparison (§8.8.3.2): what a cache weakened is still the same document.
            tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == self.etag.as_bytes()
        })
    }
}

/// A page that asks with `If-None-Match` asks for leave first.
fn preflight() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("if-none-match"));
    response
}

fn method_not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// What HEAD gets of an answer: no body, and the length that it would have (RFC 9110 §9.3.2). hyper sees to that over
/// HTTP/1.1 and not over HTTP/2, where a body is an error to the client.
pub(crate) fn without_body(response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let length = response.body().size_hint().exact().filter(|length| *length > 0);
    let mut response = response.map(|_| Full::default());
    if let Some(length) = length {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    response
}
