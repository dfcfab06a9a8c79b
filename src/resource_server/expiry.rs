//! [`Expiry`]: ends an answer when its token expires.

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

use super::challenge::Challenges;
use super::grpc::Grpc;
use crate::transport::BodyEnd;
use crate::verification::InvalidToken;

/// Waits for the expiry of a token while its request is answered.
pub(super) struct Expiry {
    sleep: Pin<Box<Sleep>>,
    challenges: Arc<Challenges>,
    grpc: Option<Grpc>,
}

/// The error that breaks off a body. A normal end of the body could be taken for a complete answer.
#[derive(Debug, thiserror::Error)]
#[error("the access token expired before its answer was complete")]
struct BrokenOff;

impl Expiry {
    /// Creates the timer. `left` is the remaining lifetime by the verifier's clock; from here on, tokio measures the time.
    pub(super) fn new(left: Duration, challenges: Arc<Challenges>, grpc: Option<Grpc>) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep(left)), challenges, grpc }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sleep.as_mut().poll(cx)
    }

    /// Returns the answer to a request that has none yet.
    pub(super) fn refusal(self) -> Response<Full<Bytes>> {
        tracing::info!("a token expired before its request was answered");
        self.challenges.answer(InvalidToken::Expired.into(), None, self.grpc)
    }
}

impl BodyEnd for Expiry {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(cx)
    }

    fn may_add_data(&self) -> bool {
        self.grpc.is_some()
    }

    /// Returns the gRPC status, or an error if the protocol has no place for a status. The caller then sees the connection or
    /// stream break off.
    fn last_frame(self: Box<Self>) -> Result<Frame<Bytes>, BoxError> {
        tracing::info!("a token expired before its answer was complete");
        self.grpc.map(|grpc| grpc.expired()).ok_or_else(|| BrokenOff.into())
    }
}
