//! [`IssuerClient`]: obtains tokens from the issuer by one set of credentials.

use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, StatusCode, Uri};
use tracing::{Instrument as _, Span};

use super::access_token::AccessToken;
use super::discovery::TokenEndpoint;
use super::lifetime::Lifetime;
use super::refusal::Refusal;
use super::statistics::{Counters, Statistics};
use super::token_error::{TokenSourceError, TokenSourceErrorKind};
use super::token_request::{self, Granted, TokenQuery};
use super::transport;
use crate::client_authentication::{AssertionContext, ClientAuthentication, CredentialError};
use crate::client_id::ClientId;
use crate::clock::{Clock as _, Moment, SharedClock};
use crate::crypto::Random;
use crate::event::{Event, EventSender, Failure, Outcome};
use crate::issuer::Issuer;
use crate::metrics;
use crate::quoted::shown_url;
use crate::scope::Scopes;
use crate::telemetry;
use crate::transport::{HttpClient, Limits};
use crate::uri::PlainHttp;

/// What requests for tokens go by. No part of it changes.
#[derive(Debug)]
pub(super) struct IssuerSettings {
    pub(super) issuer: Issuer,
    pub(super) client_id: ClientId,
    pub(super) authentication: ClientAuthentication,
    pub(super) endpoint: TokenEndpoint,
    /// The `aud` of client assertions, if it is not the issuer.
    pub(super) assertion_audience: Option<String>,
    pub(super) http: Arc<dyn HttpClient>,
    pub(super) plain_http: PlainHttp,
    pub(super) limits: Limits,
    pub(super) margin: Duration,
    /// The scopes that may be requested in addition, if a resource server asks for them.
    pub(super) max_scopes: Option<Scopes>,
    /// The life of tokens whose issuer names none.
    pub(super) assumed_life: Option<Duration>,
    pub(super) clock: SharedClock,
    pub(super) random: Arc<dyn Random>,
    pub(super) events: Option<EventSender>,
}

#[derive(Debug)]
pub(super) struct IssuerClient {
    settings: IssuerSettings,
    counters: Counters,
}

/// What a request for a token took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    pub(super) duration: Duration,
    /// How many calls waited for it.
    pub(super) waiting: usize,
}

/// A token and its times.
pub(super) struct Obtained {
    pub(super) granted: Granted,
    pub(super) lifetime: Lifetime,
}

impl IssuerClient {
    pub(super) fn new(settings: IssuerSettings) -> Self {
        Self { settings, counters: Counters::default() }
    }

    pub(super) fn issuer(&self) -> &Issuer {
        &self.settings.issuer
    }

    pub(super) fn client_id(&self) -> &ClientId {
        &self.settings.client_id
    }

    pub(super) fn max_scopes(&self) -> Option<&Scopes> {
        self.settings.max_scopes.as_ref()
    }

    pub(super) fn statistics(&self) -> Statistics {
        self.counters.read()
    }

    /// Counts a caller that has no token yet.
    pub(super) fn caller_waits(&self) {
        self.counters.waited();
        metrics::caller_waits_for_token(self.settings.issuer.as_str());
    }

    /// Counts a token that a resource server refused.
    pub(super) fn token_was_refused(&self, refusal: Refusal) {
        let (issuer, client_id) = (self.settings.issuer.as_str(), self.settings.client_id.as_str());
        self.counters.refused();
        metrics::obtained_token_refused(issuer);
        let explained = refusal == Refusal::InvalidToken;
        self.send(|issuer| Outcome::ObtainedTokenRefused { issuer, explained });
        match refusal {
            Refusal::InvalidToken => {
                tracing::warn!(issuer, client_id, "a resource server refused an access token; it is not sent again");
            }
            Refusal::Unexplained => tracing::warn!(
                issuer,
                client_id,
                "a resource server refused an access token without a `WWW-Authenticate` header; another one is requested"
            ),
        }
    }

    /// Notes a token that a resource server refused and that stays in use.
    pub(super) fn refused_token_is_kept(&self) {
        let (issuer, client_id) = (self.settings.issuer.as_str(), self.settings.client_id.as_str());
        tracing::debug!(
            issuer,
            client_id,
            "a resource server refused an access token that other requests may be accepted with; it stays in use, since it is too \
             early to request another one"
        );
    }

    pub(super) fn clock(&self) -> &SharedClock {
        &self.settings.clock
    }

    pub(super) fn now(&self) -> Moment {
        Moment::now(&self.settings.clock)
    }

    /// Returns a number from 0 to 1, for jitter; one in the middle if there is no randomness.
    pub(super) fn random_fraction(&self) -> f64 {
        let mut bytes = [0; 4];
        match self.settings.random.fill(&mut bytes) {
            Ok(()) => f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX),
            Err(_) => 0.5,
        }
    }

    /// Returns how long one request for a token can take: two looks at the metadata, the credential, and the request itself.
    pub(super) fn longest_attempt(&self) -> Duration {
        self.settings.limits.time.saturating_mul(4)
    }

    fn send(&self, outcome: impl FnOnce(Issuer) -> Outcome) {
        let IssuerSettings { issuer, client_id, clock, events, .. } = &self.settings;
        let Some(events) = events else { return };
        let (outcome, client_id) = (outcome(issuer.clone()), Some(client_id.clone()));
        events.send(Event { at: clock.now(), outcome, client_id, extensions: Extensions::new() });
    }

    /// Requests one token. Its life counts from before the request, since the issuer may make it at any time after that. `cause` is
    /// the span of the call that needs it.
    pub(super) async fn obtain(&self, query: &TokenQuery, cause: &Span) -> Result<Obtained, TokenSourceError> {
        let span = telemetry::token_fetch(&self.settings.issuer, &self.settings.client_id, &query.scopes);
        span.follows_from(cause);
        let requested = self.now();
        let granted = self.request(query).instrument(span.clone()).await;
        if let Err(error) = &granted {
            span.record("error.type", error.kind().name());
        }
        let granted = granted?;
        let Self { settings: IssuerSettings { margin, assumed_life, .. }, .. } = self;
        let lifetime = match granted.expires_in.or(*assumed_life) {
            Some(life) => Lifetime::new(requested, life, *margin, self.random_fraction()),
            None => Lifetime::unknown(requested),
        };
        Ok(Obtained { granted, lifetime })
    }

    async fn request(&self, query: &TokenQuery) -> Result<Granted, TokenSourceError> {
        let settings = &self.settings;
        let IssuerSettings { issuer, http, plain_http, limits, .. } = settings;
        let endpoint = settings.endpoint.url(&**http, issuer, *plain_http, *limits, self.now()).await?;
        let granted = self.request_at(&endpoint, query).await;
        // An OAuth error comes from a token endpoint. After any other failure, the issuer may have moved it.
        if granted
            .as_ref()
            .is_err_and(|error| error.code().is_none() && error.kind() != TokenSourceErrorKind::Credential)
        {
            settings.endpoint.check_again(&endpoint);
        }
        granted
    }

    async fn request_at(&self, endpoint: &Uri, query: &TokenQuery) -> Result<Granted, TokenSourceError> {
        let settings = &self.settings;
        let context = AssertionContext {
            client_id: &settings.client_id,
            audience: settings.assertion_audience.as_deref().unwrap_or(settings.issuer.as_str()),
            clock: &settings.clock,
            random: &*settings.random,
        };
        let (form, time) = (query.form(), settings.limits.time);
        let request = settings.authentication.request(context, endpoint, form, "application/json", time).await;
        let credential =
            |error: CredentialError| TokenSourceError::of(TokenSourceErrorKind::Credential, error.to_string());
        let request = request.map_err(credential)?;
        let sent = transport::send(&*settings.http, request, settings.limits).await;
        let response = sent.map_err(|error| {
            let endpoint = shown_url(&endpoint.to_string());
            TokenSourceError::of(TokenSourceErrorKind::Unavailable, format!("{endpoint} cannot be asked: {error}"))
        })?;
        token_request::read(endpoint, &response, settings.clock.now())
    }

    /// Counts, logs and tells how a request for a token ended.
    pub(super) fn report(&self, query: &TokenQuery, outcome: &Result<AccessToken, TokenSourceError>, effort: Effort) {
        let Effort { duration, waiting } = effort;
        let scopes = query.scopes.clone();
        let (issuer, client_id) = (self.settings.issuer.as_str(), self.settings.client_id.as_str());
        match outcome {
            Ok(token) => {
                self.counters.obtained();
                metrics::token_obtained(issuer, self.settings.clock.now(), token.expires_at());
                tracing::debug!(issuer, client_id, expires_at = ?token.expires_at(), "obtained an access token");
                let expires_at = token.expires_at();
                self.send(|issuer| Outcome::TokenObtained { issuer, scopes, expires_at, waiting, duration });
            }
            Err(error) => {
                self.counters.failed();
                metrics::token_not_obtained(issuer, error.kind().name());
                tracing::warn!(issuer, client_id, %error, "could not obtain an access token");
                self.send(|issuer| {
                    let failure = Failure::new(error.kind().name(), StatusCode::SERVICE_UNAVAILABLE, error.clone());
                    Outcome::TokenNotObtained { issuer, scopes, failure, waiting, duration }
                });
            }
        }
    }
}
