//! [`Expiry`]: the end of an answer that outlives its token.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use http_body_util::Full;
use tokio::time::Sleep;
use tower::BoxError;

use super::gate::Gate;
use super::grpc::Grpc;
use super::{InvalidToken, RequestHead};

/// Waits for the end of a token's life while its request is answered.
pub(crate) struct Expiry {
    sleep: Pin<Box<Sleep>>,
    gate: Arc<Gate>,
    grpc: Option<Grpc>,
}

/// An end of the body could be taken for the end of the answer.
#[derive(Debug, thiserror::Error)]
#[error("the access token expired before its answer was complete")]
struct BrokenOff;

impl Expiry {
    /// For a token that is good for so long yet, by the clock of its verifier; from here on tokio keeps the time.
    pub(super) fn new(left: Duration, gate: Arc<Gate>, request: RequestHead<'_>) -> Self {
        let grpc = Grpc::of(request, gate.grpc_refusals);
        Self { sleep: Box::pin(tokio::time::sleep(left)), gate, grpc }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sleep.as_mut().poll(cx)
    }

    /// Whether a frame of data may follow those of the body.
    pub(crate) fn may_add_data(&self) -> bool {
        self.grpc.is_some()
    }

    /// The answer to a request that has none yet.
    pub(super) fn refusal(self) -> Response<Full<Bytes>> {
        tracing::info!("a token expired before its request was answered");
        self.gate.challenges.answer(InvalidToken::Expired.into(), self.grpc)
    }

    /// What an answer under way ends with: the status where the protocol has a place for it, and else an error, which the
    /// caller sees as a connection or stream that breaks off.
    pub(crate) fn last_frame(self) -> Result<Frame<Bytes>, BoxError> {
        tracing::info!("a token expired before its answer was complete");
        self.grpc.map(|grpc| grpc.expired()).ok_or_else(|| BrokenOff.into())
    }
}
