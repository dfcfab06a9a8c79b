//! What traces get to know: fields by the names of OpenTelemetry's semantic conventions where these have one, and else
//! under `oauth.`.
//!
//! A client is never an `enduser.id` or a `user.id`: it is no user (RFC 9068 §5), and who looks for users must not find it.

use tracing::Span;
use tracing::field::{Empty, display};

use crate::client_id::ClientId;

/// The span of one request to the token endpoint.
pub(crate) fn token_request() -> Span {
    tracing::info_span!(
        "token_request",
        otel.kind = "internal",
        oauth.client_id = Empty,
        http.response.status_code = Empty,
        "error.type" = Empty,
    )
}

/// The span of a verification that has to ask somebody. What needs nobody takes less time than a span does.
pub(crate) fn verification() -> Span {
    tracing::info_span!("verify_token", otel.kind = "internal")
}

/// Tells the span around a request how it was decided, if it has fields for that: `oauth.client_id` and `error.type`.
pub(crate) fn decided(client_id: Option<&ClientId>, error: Option<&str>) {
    if !tracing::dispatcher::has_been_set() {
        return;
    }
    let span = Span::current();
    if let Some(client_id) = client_id {
        span.record("oauth.client_id", display(client_id));
    }
    if let Some(error) = error {
        span.record("error.type", error);
    }
}
