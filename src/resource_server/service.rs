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
use crate::event::{Event, Outcome};
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
    /// Decides over a request; the proof is the only way in, but where credentials are optional.
    fn admit<B>(&self, request: &Request<B>) -> Result<Option<VerifiedToken>, BearerError> {
        let token = match self.verified(request) {
            Err(BearerError::NoCredentials) if self.optional => return Ok(None),
            token => token?,
        };
        if !self.required.are_in(token.scopes()) {
            let (client_id, granted) = (token.client_id().clone(), token.scopes().clone());
            return Err(BearerError::InsufficientScope { client_id, granted });
        }
        Ok(Some(token))
    }

    /// A layer of the same verifier further outside may have done the work.
    fn verified<B>(&self, request: &Request<B>) -> Result<VerifiedToken, BearerError> {
        match request.extensions().get::<VerifiedToken>() {
            Some(token) if token.is_by(&self.verifier) => Ok(token.clone()),
            _ => Ok(self.verifier.verify(self.bearer(request)?.as_str())?),
        }
    }

    fn bearer<'a, B>(&self, request: &'a Request<B>) -> Result<BearerToken<'a>, BearerError> {
        match request.uri().query() {
            Some(query) if self.token_in_query => BearerToken::read_also_in_query(request.headers(), query),
            _ => BearerToken::read(request.headers()),
        }
    }

    fn hand_on<B>(&self, token: VerifiedToken, request: &mut Request<B>) {
        if self.remove_authorization {
            request.headers_mut().remove(AUTHORIZATION);
        } else if let Some(value) = request.headers_mut().get_mut(AUTHORIZATION) {
            value.set_sensitive(true);
        }
        request.extensions_mut().insert(token);
    }

    fn report<B>(&self, request: &Request<B>, decision: &Result<Option<VerifiedToken>, BearerError>) {
        if let Err(error) = decision {
            tracing::info!(%error, "refused a request to a protected route");
        }
        let Some(events) = &self.events else { return };
        let (outcome, client_id) = match decision {
            Ok(None) => return,
            Ok(Some(token)) => (Outcome::Admitted { token_id: token.token_id().to_owned() }, Some(token.client_id())),
            Err(error) => (Outcome::Rejected(error.clone()), error.client_id()),
        };
        events.send(Event {
            at: self.verifier.now(),
            outcome,
            client_id: client_id.cloned(),
            extensions: request.extensions().clone(),
        });
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
        let decision = self.gate.admit(&request);
        self.gate.report(&request, &decision);
        match decision {
            Ok(token) => {
                if let Some(token) = token {
                    self.gate.hand_on(token, &mut request);
                }
                ResponseFuture::inner(self.inner.call(request))
            }
            Err(error) => ResponseFuture::refused(self.gate.challenges.answer(error)),
        }
    }
}
