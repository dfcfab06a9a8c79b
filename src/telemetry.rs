//! Fields of tracing spans. Their names are those of OpenTelemetry's semantic conventions, or begin with `oauth.` if
//! these have none.
//!
//! A client id is never recorded as `enduser.id` or `user.id`: a client is not a user (RFC 9068 §5), and must not be
//! found in searches for users.

use http::{Method, StatusCode, Uri};
use tracing::Span;
use tracing::field::{Empty, display};

use crate::client_id::ClientId;
use crate::issuer::Issuer;
use crate::quoted::shown_url;
use crate::scope::Scopes;

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

/// Returns the span of the calling side that obtains one token, with its HTTP requests inside. It runs in a task of its own, so it
/// follows from the span of the call that caused it.
pub(crate) fn token_fetch(issuer: &Issuer, client_id: &ClientId, scopes: &Scopes) -> Span {
    tracing::info_span!(
        "obtain_token",
        otel.kind = "internal",
        oauth.issuer = %issuer,
        oauth.client_id = %client_id,
        oauth.scope = scopes.as_str(),
        "error.type" = Empty,
    )
}

/// Returns the span of a call that waits for a token. A call that does not wait has none.
pub(crate) fn token_wait(issuer: &Issuer, client_id: &ClientId) -> Span {
    tracing::info_span!(
        "wait_for_token",
        otel.kind = "internal",
        oauth.issuer = %issuer,
        oauth.client_id = %client_id,
        "error.type" = Empty,
    )
}

/// Returns the span of one HTTP request that this crate sends, with the fields of an HTTP client span.
pub(crate) fn http_request(method: &Method, url: &Uri) -> Span {
    let is_https = url.scheme_str() == Some("https");
    // Without the query, which may have a key of the application.
    let shown = shown_url(&url.to_string());
    tracing::info_span!(
        "http_request",
        otel.name = method.as_str(),
        otel.kind = "client",
        http.request.method = method.as_str(),
        server.address = url.host().unwrap_or_default(),
        server.port = url.port_u16().unwrap_or(if is_https { 443 } else { 80 }),
        url.full = %shown,
        http.response.status_code = Empty,
        "error.type" = Empty,
    )
}

/// Records the answer to an HTTP request of this crate in its span. `error` is a short name of what prevented the answer.
pub(crate) fn answered(span: &Span, answer: Result<StatusCode, &'static str>) {
    match answer {
        Ok(status) => {
            span.record("http.response.status_code", status.as_u16());
            if status.is_client_error() || status.is_server_error() {
                span.record("error.type", status.as_str());
            }
        }
        Err(error) => {
            span.record("error.type", error);
        }
    }
}

/// Records that a call is sent once more, in the span of the application around it, if that has the field.
pub(crate) fn call_resent() {
    if tracing::dispatcher::has_been_set() {
        Span::current().record("http.request.resend_count", 1);
    }
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
