//! [`Expiry`]: ends an answer when its token expires.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, Method, Request, Response};
use http_body::Frame;
use http_body_util::Full;
use tokio::time::Sleep;
use tower::BoxError;

use super::challenge::Challenges;
use super::error::BearerError;
use super::grpc::Grpc;
use crate::transport::{BodyEnd, RefusalHook, without_body};
use crate::verification::InvalidToken;

/// Waits for the expiry of a token while its request is answered.
pub(super) struct Expiry {
    sleep: Pin<Box<Sleep>>,
    challenges: Arc<Challenges>,
    grpc: Option<Grpc>,
    body: Option<Box<Body>>,
}

/// The hook for the body of the refusal, and what it needs of the request.
struct Body {
    hook: RefusalHook<BearerError>,
    request: Extensions,
    is_head: bool,
}

/// The error that breaks off a body. A normal end of the body could be taken for a complete answer.
#[derive(Debug, thiserror::Error)]
#[error("the access token expired before its answer was complete")]
struct BrokenOff;

impl Expiry {
    /// Creates the timer. `left` is the remaining lifetime by the verifier's clock; from here on, tokio measures the time.
    pub(super) fn new(left: Duration, challenges: Arc<Challenges>, grpc: Option<Grpc>) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep(left)), challenges, grpc, body: None }
    }

    /// Sets the hook that writes the body of the refusal.
    pub(super) fn write_body<B>(&mut self, hook: &RefusalHook<BearerError>, request: &Request<B>) {
        let is_head = request.method() == Method::HEAD;
        self.body = Some(Box::new(Body { hook: hook.clone(), request: request.extensions().clone(), is_head }));
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sleep.as_mut().poll(cx)
    }

    /// Returns the answer to a request that has none yet.
    pub(super) fn refusal(self) -> Response<Full<Bytes>> {
        tracing::info!("a token expired before its request was answered");
        let refusal = self.challenges.answer(InvalidToken::Expired.into(), None, self.grpc);
        match self.body {
            Some(body) => body.write(refusal),
            None => refusal,
        }
    }
}

impl Body {
    fn write(self, mut refusal: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
        self.hook.apply(&mut refusal, &self.request);
        if self.is_head { without_body(refusal) } else { refusal }
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
