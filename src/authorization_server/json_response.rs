//! Builds the JSON answers of the endpoints, which must not be cached (RFC 6749 §5.1).

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

/// Returns an answer with `body` as JSON. `body` consists of strings, numbers and JSON values, so serializing it cannot
/// fail.
#[expect(clippy::expect_used, reason = "an empty body instead would be a malformed answer")]
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    answer(status, serde_json::to_vec(body).expect("an answer consists of strings, numbers and JSON values"))
}

/// Returns an answer with a body that is already JSON.
pub(super) fn answer(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
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
        let _ = super::json(StatusCode::OK, &HashMap::from([((1, 2), "keys of JSON are text")]));
    }
}
