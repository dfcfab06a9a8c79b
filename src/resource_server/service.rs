//! [`BearerAuth`]: a service behind a [`BearerAuthLayer`].

use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{Request, Response};
use tower::Service;

use super::bearer::BearerToken;
use super::challenge::BearerError;
use super::future::ResponseFuture;
use super::{BearerAuthLayer, VerifiedToken};
use crate::response_body::ResponseBody;

/// A service that only requests with a verified token reach; made by [`BearerAuthLayer`].
#[derive(Clone, Debug)]
pub struct BearerAuth<S> {
    inner: S,
    gate: Arc<BearerAuthLayer>,
}

impl<S> BearerAuth<S> {
    pub(super) fn new(inner: S, gate: BearerAuthLayer) -> Self {
        Self { inner, gate: Arc::new(gate) }
    }

    /// The wrapped service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The wrapped service, mutably.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The wrapped service, without protection.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl BearerAuthLayer {
    /// Decides over a request; the proof is the only way in.
    fn admit<B>(&self, request: &Request<B>) -> Result<VerifiedToken, BearerError> {
        let token = match request.extensions().get::<VerifiedToken>() {
            Some(token) if token.is_by(&self.verifier) => token.clone(),
            _ => self.verifier.verify(BearerToken::read(request.headers())?.as_str())?,
        };
        if !token.scopes().contains_all(&self.required) {
            return Err(BearerError::InsufficientScope(self.required.clone()));
        }
        Ok(token)
    }
}

impl<S, B, R> Service<Request<B>> for BearerAuth<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.gate.admit(&request) {
            Ok(token) => {
                if let Some(value) = request.headers_mut().get_mut(AUTHORIZATION) {
                    value.set_sensitive(true);
                }
                request.extensions_mut().insert(token);
                ResponseFuture::inner(self.inner.call(request))
            }
            Err(error) => {
                tracing::info!(%error, "refused a request to a protected route");
                ResponseFuture::refused(self.gate.challenges.answer(error))
            }
        }
    }
}
