//! `POST /token`: the client-credentials grant (RFC 6749 §4.4).

mod grant;
mod mint;
mod queue;
mod request;
mod response;
mod reuse;
mod too_long;

use std::pin::pin;

use bytes::Bytes;
use http::{Extensions, HeaderValue, Response, Version};
use http_body_util::Full;
use tracing::{Instrument as _, Span};

use self::grant::Grant;
pub(super) use self::grant::GrantPolicy;
pub use self::grant::{GrantHook, GrantRefusal, HookFuture, PendingGrant};
use self::mint::Minted;
pub(super) use self::mint::Minter;
pub(super) use self::queue::TokenQueue;
use self::request::TokenRequest;
pub(super) use self::request::is_another_grant;
use self::response::TokenResponse;
pub(super) use self::reuse::ReusedTokens;
use super::authenticate::Authenticator;
use super::error::TokenError;
use super::head::Head;
use super::report::Reporter;
use crate::event::Outcome;
use crate::metrics::TokenRequestTiming;
use crate::telemetry;
use crate::transport::RefusalHook;

const NAME: &str = "token endpoint";

/// The steps of a token request, in order.
#[derive(Debug)]
pub(super) struct TokenPipeline {
    /// `None` if the number of waiting requests is not limited.
    pub(super) queue: Option<TokenQueue>,
    pub(super) authenticator: Authenticator,
    /// Whether the parameter `audience`, with which some clients name the resource, is a synonym of `resource`. By default it is
    /// ignored, as RFC 6749 §3.2 requires for unrecognized parameters, with a warning.
    pub(super) accepts_audience: bool,
    pub(super) policy: GrantPolicy,
    pub(super) minter: Minter,
    /// `None` if each request gets a new token.
    pub(super) reused: Option<ReusedTokens>,
    pub(super) reporter: Reporter,
    /// The `WWW-Authenticate` header of each 401.
    pub(super) challenge: HeaderValue,
    /// `None` if refusals have the bodies of RFC 6749.
    pub(super) refusal_body: Option<RefusalHook<TokenError>>,
}

impl TokenPipeline {
    /// Returns the refusal of a request with these extensions.
    pub(super) fn refuse(&self, error: TokenError, version: Version, request: &Extensions) -> Response<Full<Bytes>> {
        let mut refusal = error.into_response(&self.challenge, version);
        if let Some(hook) = &self.refusal_body {
            hook.apply(&mut refusal, request);
        }
        refusal
    }

    /// Answers a request. `body` is its body, or the reason why its head or body is refused. It is a reference, since a future stores
    /// each parameter twice.
    pub(super) async fn answer(&self, head: &Head, body: &Result<Bytes, TokenError>) -> Response<Full<Bytes>> {
        let (span, timing) = (telemetry::token_request(), TokenRequestTiming::start());
        let body = match body {
            Ok(body) => body,
            Err(error) => return self.finish(&span, head, Err(error.clone()), &timing),
        };
        // Pinned in place: moving it into the span would store it twice in this future.
        let token = pin!(self.token(head, body, &timing));
        let mut token = token.instrument(span);
        let result = (&mut token).await;
        self.finish(token.span(), head, result, &timing)
    }

    /// Reports the result, and returns the response.
    fn finish(
        &self,
        span: &Span,
        head: &Head,
        result: Result<TokenResponse, TokenError>,
        timing: &TokenRequestTiming,
    ) -> Response<Full<Bytes>> {
        span.in_scope(|| self.report(&head.extensions, &result));
        timing.finish(result.as_ref().map_or_else(TokenError::outcome, |_| "done"));
        let response = match result {
            Ok(response) => response.into_response(),
            Err(error) => self.refuse(error, head.version, &head.extensions),
        };
        span.record("http.response.status_code", response.status().as_u16());
        response
    }

    async fn token(&self, head: &Head, body: &[u8], timing: &TokenRequestTiming) -> Result<TokenResponse, TokenError> {
        // Parsed here, not by the caller, whose future would then store the request twice.
        let request = TokenRequest::read(&head.headers, body, self.accepts_audience)?;
        timing.method(request.credentials.kind());
        let client = self.authenticator.authenticate(&request.credentials, head).await?;
        if request.has_ignored_audience {
            self.authenticator.secret.audit.ignored_audience(&client, &head.extensions);
        }
        let grant = self.policy.grant(client, &request, &head.extensions).await?;
        // The queue is entered only here, just before the signature: a slow step before it, such as looking up an
        // unknown client, would keep others waiting.
        let _turn = match &self.queue {
            Some(queue) if !self.has_token_for(&grant) => Some(queue.turn().await?),
            _ => None,
        };
        // A key in memory signs at once. Only the wait for another key, or for an identical request, is kept in this future.
        let pending = match &self.reused {
            None => match self.minter.mint(&grant)? {
                Minted::Now(token) => return Ok(TokenResponse::new(token, grant)),
                Minted::Later(pending) => pending,
            },
            Some(reused) => match reused.kept(&self.minter, &grant) {
                Some(token) => return Ok(TokenResponse::new(token, grant)),
                None => reused.sign(&self.minter, &grant),
            },
        };
        let token = pending.await?;
        Ok(TokenResponse::new(token, grant))
    }

    fn report(&self, extensions: &Extensions, result: &Result<TokenResponse, TokenError>) {
        match result {
            Ok(response) => {
                let (grant, token) = (response.grant(), response.token());
                let issued = || Outcome::Issued {
                    token_id: token.id().to_owned(),
                    key_id: token.key_id().to_owned(),
                    scopes: grant.scopes().clone(),
                    audiences: grant.audiences().to_vec(),
                    credential: grant.client().used(),
                };
                self.reporter.done(NAME, extensions, grant.client().id(), issued);
            }
            Err(error) => self.reporter.failed(NAME, extensions, error),
        }
    }

    /// Returns whether the grant gets a reused token, which needs no turn.
    fn has_token_for(&self, grant: &Grant) -> bool {
        self.reused.as_ref().is_some_and(|reused| reused.has_token(&self.minter, grant))
    }
}
