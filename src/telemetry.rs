//! Fields of tracing spans. Their names are those of OpenTelemetry's semantic conventions, or begin with `oauth.` if
//! these have none.
//!
//! A client id is never recorded as `enduser.id` or `user.id`: a client is not a user (RFC 9068 §5), and must not be
//! found in searches for users.

use tracing::Span;
use tracing::field::{Empty, display};

use crate::client_id::ClientId;

/// Returns the span of a request to the token endpoint.
pub(crate) fn token_request() -> Span {
    tracing::info_span!(
        "token_request",
        otel.kind = "internal",
        oauth.client_id = Empty,
        http.response.status_code = Empty,
        "error.type" = Empty,
    )
}

/// Returns the span of a verification that waits for another service. A verification without waiting takes less time
/// than creating a span.
pub(crate) fn verification() -> Span {
    tracing::info_span!("verify_token", otel.kind = "internal")
}

/// Records the decision about a request in its span, if the span has the fields `oauth.client_id` and `error.type`.
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
