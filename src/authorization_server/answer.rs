//! The shape of every answer to a form: JSON that nobody caches (RFC 6749 §5.1).

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

/// Answers with a struct of strings, numbers and JSON values, all of which can be serialized.
#[expect(clippy::expect_used, reason = "an empty body instead would be a malformed answer")]
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    answer(status, serde_json::to_vec(body).expect("an answer consists of strings, numbers and JSON values"))
}

/// The same with a body that is JSON already.
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
    fn a_body_that_cannot_be_serialized_is_a_mistake_of_the_program_and_no_empty_answer() {
        let _ = super::json(StatusCode::OK, &HashMap::from([((1, 2), "keys of JSON are text")]));
    }
}
