//! One exchange with an issuer, in a span of its own.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tracing::Instrument as _;

use crate::deadline::within;
use crate::telemetry;
use crate::transport::{HttpClient, Limits};

/// The longest answer that is read, in bytes: a token of 16 KiB, and what an issuer puts around it.
const MAX_ANSWER: usize = 64 * 1024;

/// How long one exchange may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The limits of requests for tokens and for metadata.
pub(super) const LIMITS: Limits = Limits { time: TIMEOUT, body: MAX_ANSWER };

/// No whole answer came; the text is for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct TransportError(String);

/// Sends one request, and reads the whole answer within the limits. It follows no redirect.
pub(super) async fn send(
    client: &dyn HttpClient,
    request: Request<Bytes>,
    limits: Limits,
) -> Result<Response<Bytes>, TransportError> {
    let span = telemetry::http_request(request.method(), request.uri());
    let sent = span.in_scope(|| client.send(request, limits.body));
    let answer = within(limits.time, sent).instrument(span.clone()).await;
    let error = match &answer {
        Ok(Ok(response)) => Ok(response.status()),
        Ok(Err(_)) => Err("_OTHER"),
        Err(_) => Err("timeout"),
    };
    telemetry::answered(&span, error);
    let answer = answer.map_err(|late| TransportError(late.to_string()))?;
    answer.map_err(|error| TransportError(error.to_string()))
}
