//! Builds the answers of endpoints that must not be cached, usually in JSON (RFC 6749 §5.1, RFC 7591 §3.2.1).

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

/// Returns an answer with `body` as JSON. `body` consists of strings, numbers and JSON values, so serializing it cannot
/// fail.
#[expect(clippy::expect_used, reason = "an empty body instead would be a malformed answer")]
pub(crate) fn json_answer(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    answer(status, serde_json::to_vec(body).expect("an answer consists of strings, numbers and JSON values"))
}

/// Returns an answer with a body that is already JSON.
pub(crate) fn answer(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    uncached_answer(status, HeaderValue::from_static("application/json"), body)
}

/// Returns an answer of this media type that no cache stores. The caller makes the header from a literal, so that its text is
/// checked by the compiler and not for each answer.
pub(crate) fn uncached_answer(
    status: StatusCode,
    media_type: HeaderValue,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, media_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use http::StatusCode;

    #[test]
    #[should_panic(expected = "an answer consists of strings, numbers and JSON values")]
    fn a_body_that_cannot_be_serialized_panics() {
        let _ = super::json_answer(StatusCode::OK, &HashMap::from([((1, 2), "keys of JSON are text")]));
    }
}
