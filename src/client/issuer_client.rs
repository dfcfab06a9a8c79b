//! [`IssuerClient`]: obtains tokens from the issuer by one set of credentials.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Uri};
use tracing::Instrument as _;
use tracing::field::Empty;

use super::access_token::AccessToken;
use super::authenticate::{AssertionContext, ClientAuthentication};
use super::discovery::TokenEndpoint;
use super::lifetime::Lifetime;
use super::refusal::Refusal;
use super::statistics::{Counters, Statistics};
use super::token_error::{TokenSourceError, TokenSourceErrorKind};
use super::token_request::{self, Granted, TokenQuery};
use super::transport::{Transport, TransportError};
use crate::client_id::ClientId;
use crate::clock::{Clock, Moment};
use crate::crypto::Random;
use crate::deadline::within;
use crate::issuer::Issuer;
use crate::metrics;
use crate::scope::Scopes;
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
    pub(super) transport: Arc<dyn Transport>,
    pub(super) plain_http: PlainHttp,
    pub(super) timeout: Duration,
    pub(super) margin: Duration,
    /// The scopes that may be requested in addition, if a resource server asks for them.
    pub(super) max_scopes: Option<Scopes>,
    /// The life of tokens whose issuer names none.
    pub(super) assumed_life: Option<Duration>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
}

#[derive(Debug)]
pub(super) struct IssuerClient {
    settings: IssuerSettings,
    counters: Counters,
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

    pub(super) fn now(&self) -> Moment {
        Moment::now(&*self.settings.clock)
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
        self.settings.timeout.saturating_mul(4)
    }

    /// Requests one token. Its life counts from before the request, since the issuer may make it at any time after that.
    pub(super) async fn obtain(&self, query: &TokenQuery) -> Result<Obtained, TokenSourceError> {
        let span = tracing::info_span!(
            "obtain_token",
            otel.kind = "client",
            oauth.client_id = %self.settings.client_id,
            server.address = self.settings.issuer.as_str(),
            http.response.status_code = Empty,
            "error.type" = Empty,
        );
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
        let IssuerSettings { issuer, transport, plain_http, timeout, .. } = settings;
        let endpoint = settings.endpoint.url(&**transport, issuer, *plain_http, *timeout, self.now()).await?;
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
        let (mut form, mut headers) = (query.form(), HeaderMap::new());
        let context = AssertionContext {
            client_id: &settings.client_id,
            audience: settings.assertion_audience.as_deref().unwrap_or(settings.issuer.as_str()),
            clock: &*settings.clock,
            random: &*settings.random,
        };
        let applied = within(settings.timeout, settings.authentication.apply(context, &mut form, &mut headers)).await;
        match applied {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(TokenSourceError::of(TokenSourceErrorKind::Credential, error.to_string())),
            Err(late) => {
                let message = format!("the credential could not be read: {late}");
                return Err(TokenSourceError::of(TokenSourceErrorKind::Credential, message));
            }
        }
        let request = token_request::request(endpoint, &form, headers);
        drop(form);
        let sent = within(settings.timeout, settings.transport.send(request)).await;
        let response = sent.unwrap_or_else(|_| Err(TransportError::late(settings.timeout)));
        let response = response.map_err(|error| {
            TokenSourceError::of(TokenSourceErrorKind::Unavailable, format!("{endpoint} cannot be asked: {error}"))
        })?;
        tracing::Span::current().record("http.response.status_code", response.status().as_u16());
        token_request::read(endpoint, &response, settings.clock.now())
    }

    /// Counts and logs how a request for a token ended.
    pub(super) fn report(&self, outcome: &Result<AccessToken, TokenSourceError>) {
        let (issuer, client_id) = (self.settings.issuer.as_str(), self.settings.client_id.as_str());
        match outcome {
            Ok(token) => {
                self.counters.obtained();
                metrics::token_obtained(issuer, token.expires_at());
                tracing::debug!(issuer, client_id, expires_at = ?token.expires_at(), "obtained an access token");
            }
            Err(error) => {
                self.counters.failed();
                metrics::token_not_obtained(issuer, error.kind().name());
                tracing::warn!(issuer, client_id, %error, "could not obtain an access token");
            }
        }
    }
}
