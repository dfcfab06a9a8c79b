//! A public JSON document that is made once and served from memory: the key set, the metadata.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::ConfigError;
use crate::keys::backend::sha256;

/// Cached by everybody for five minutes: long enough to spare the server, short enough for a new key.
const CACHING: HeaderValue = HeaderValue::from_static("public, max-age=300");

#[derive(Debug)]
pub(super) struct Document {
    body: Bytes,
    content_type: &'static str,
    etag: HeaderValue,
    /// Whether web pages of any origin may read it.
    cross_origin: bool,
}

impl Document {
    pub(super) fn new(
        content_type: &'static str,
        content: &impl Serialize,
        cross_origin: bool,
    ) -> Result<Self, ConfigError> {
        let body = serde_json::to_vec(content).map_err(|error| ConfigError::Document(error.to_string()))?;
        let etag = HeaderValue::try_from(format!("\"{}\"", URL_SAFE_NO_PAD.encode(sha256(&body))))
            .map_err(|error| ConfigError::Document(error.to_string()))?;
        Ok(Self { body: body.into(), content_type, etag, cross_origin })
    }

    /// GET and HEAD, with the conditional request of RFC 9110 §13.1.2.
    pub(super) fn answer(&self, head: &Parts) -> Response<Full<Bytes>> {
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return method_not_allowed();
        }
        let unchanged = self.is_known_to(&head.headers);
        let body = if unchanged { Bytes::new() } else { self.body.clone() };
        let mut response = Response::new(Full::new(body));
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, CACHING);
        headers.insert(ETAG, self.etag.clone());
        if self.cross_origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
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

fn method_not_allowed() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}
