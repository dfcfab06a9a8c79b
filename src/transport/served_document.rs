//! [`Document`]: a public JSON document that is rendered once and served from memory, such as a key set or metadata.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH,
    IF_NONE_MATCH,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::Body as _;
use http_body_util::Full;
use serde::Serialize;

use crate::crypto::sha256;

/// How a document is served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DocumentSettings {
    pub(crate) max_age: Duration,
    pub(crate) cross_origin: bool,
}

impl Default for DocumentSettings {
    /// Returns the defaults: five minutes, which spares the server and is short enough for a new key.
    fn default() -> Self {
        Self { max_age: Duration::from_secs(300), cross_origin: false }
    }
}

/// The document cannot be rendered.
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

    /// Answers GET and HEAD, with the conditional requests of RFC 9110 §13.1.1 and §13.1.2. Conditions by date are ignored,
    /// since the document has no date.
    pub(crate) fn answer(&self, head: &Parts) -> Response<Full<Bytes>> {
        if self.cross_origin && head.method == Method::OPTIONS {
            return preflight();
        }
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return method_not_allowed(if self.cross_origin { "GET, HEAD, OPTIONS" } else { "GET, HEAD" });
        }
        let status = self.status(&head.headers);
        let body = if status == StatusCode::OK { self.body.clone() } else { Bytes::new() };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(ETAG, self.etag.clone());
        if status != StatusCode::PRECONDITION_FAILED {
            headers.insert(CACHE_CONTROL, self.caching.clone());
        }
        if self.cross_origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("etag"));
        }
        if status == StatusCode::OK {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        }
        response
    }

    /// Evaluates the preconditions, in the order of RFC 9110 §13.2.2.
    fn status(&self, headers: &HeaderMap) -> StatusCode {
        let is_named = |condition: HeaderName, comparison| {
            let mut values = headers.get_all(condition).iter();
            values.any(|value| names(value.as_bytes(), self.etag.as_bytes(), comparison))
        };
        if headers.contains_key(IF_MATCH) && !is_named(IF_MATCH, Comparison::Strong) {
            StatusCode::PRECONDITION_FAILED
        } else if is_named(IF_NONE_MATCH, Comparison::Weak) {
            StatusCode::NOT_MODIFIED
        } else {
            StatusCode::OK
        }
    }
}

/// How entity tags are compared (RFC 9110 §8.8.3.2). The weak comparison also matches a tag that a cache weakened.
#[derive(Clone, Copy, PartialEq)]
enum Comparison {
    Strong,
    Weak,
}

/// Returns whether the value of an `If-Match` or `If-None-Match` header names the document: by a single `*`, or by its tag in
/// the list. Inside a tag, a comma and a `*` are ordinary characters. The list ends where it is malformed.
fn names(value: &[u8], own: &[u8], comparison: Comparison) -> bool {
    if value.trim_ascii() == b"*" {
        return true;
    }
    let mut rest = value;
    while let Some((tag, is_weak, behind)) = next_tag(rest) {
        if tag == own && (comparison == Comparison::Weak || !is_weak) {
            return true;
        }
        rest = behind;
    }
    false
}

/// Returns whether the value of an `If-Match` header names this tag (RFC 9110 §13.1.1).
pub(crate) fn names_strongly(value: &[u8], own: &[u8]) -> bool {
    names(value, own, Comparison::Strong)
}

/// Returns the next entity tag of a list with its quotes, whether it is weak, and the rest of the list.
fn next_tag(list: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    let start = list.iter().position(|byte| !matches!(byte, b',' | b' ' | b'\t'))?;
    let list = list.get(start..)?;
    let weak = list.strip_prefix(b"W/");
    let list = weak.unwrap_or(list);
    let end = list.strip_prefix(b"\"")?.iter().position(|byte| *byte == b'"')?;
    let (tag, rest) = list.split_at_checked(end + 2)?;
    Some((tag, weak.is_some(), rest))
}

/// Answers the preflight request of a page, which precedes a request with `If-None-Match`.
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

/// Turns an answer into that for HEAD: no body, and the length that it would have (RFC 9110 §9.3.2). hyper does this over
/// HTTP/1.1 but not over HTTP/2, where clients treat a body as an error.
pub(crate) fn without_body(response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let length = response.body().size_hint().exact().filter(|length| *length > 0);
    let mut response = response.map(|_| Full::default());
    if let Some(length) = length {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::{Comparison, names};

    #[test]
    fn a_tag_is_found_in_a_list_but_not_inside_another_tag() {
        const OWN: &[u8] = br#""own""#;
        for (value, strong, weak) in [
            (r#""own""#, true, true),
            (r#"W/"own""#, false, true),
            (r#""a", "own""#, true, true),
            (r#""a",W/"own" , "b""#, false, true),
            ("\t, ,\"own\"\t,", true, true),
            ("*", true, true),
            (" * ", true, true),
            (r#""a", *"#, false, false),
            (r#""a,*,b""#, false, false),
            (r#""a", "b,"#, false, false),
            (r#"w/"own""#, false, false),
            ("own", false, false),
            (r#"own, "own""#, false, false),
            (r#""own"#, false, false),
            ("", false, false),
            ("W/", false, false),
            (r#""""#, false, false),
        ] {
            assert_eq!(names(value.as_bytes(), OWN, Comparison::Strong), strong, "{value}");
            assert_eq!(names(value.as_bytes(), OWN, Comparison::Weak), weak, "{value}");
        }
        assert!(!names(br#""a,"b","c""#, br#""b""#, Comparison::Weak), "the quotes belong to other tags");
    }
}
