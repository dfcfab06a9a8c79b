//! [`CachedTokenSource`]: the tokens of one set of credentials, for layers and for anything else.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;

use super::access_token::AccessToken;
use super::issuer_client::IssuerClient;
use super::ready_tokens::KeptToken;
use super::statistics::Statistics;
use super::token_cache::{Siblings as _, Tokens};
use super::token_error::TokenSourceError;
use super::token_request::TokenQuery;
use super::token_sets::TokenSets;
use super::token_source::{TokenFuture, TokenSource};
use super::watch::TokenWatch;
use crate::audience::Audience;
use crate::clock::Moment;
use crate::scope::Scopes;

/// The tokens of one set of credentials. A clone shares them.
///
/// [`ClientCredentials::build`](super::ClientCredentials::build) makes it. See the [module page](super) for its rules.
#[derive(Clone)]
pub struct CachedTokenSource {
    tokens: Tokens,
    sets: Arc<TokenSets>,
}

impl CachedTokenSource {
    pub(super) fn new(client: Arc<IssuerClient>, query: TokenQuery) -> Self {
        let sets = TokenSets::new(client);
        Self { tokens: sets.first(query), sets }
    }

    fn with_query(&self, query: TokenQuery) -> Result<Self, TokenSourceError> {
        Ok(Self { tokens: self.sets.clone().tokens(query)?, sets: self.sets.clone() })
    }

    /// Returns a token that may be sent now. It waits only if no token can be reused.
    ///
    /// # Errors
    ///
    /// When no token can be had. Another attempt is made at the earliest after
    /// [`retry_after`](TokenSourceError::retry_after); callers that come before that get the same error at once.
    pub async fn token(&self) -> Result<AccessToken, TokenSourceError> {
        self.tokens.token().await
    }

    /// Sets the `Authorization` header of a request; see [`token`](Self::token).
    ///
    /// # Errors
    ///
    /// When no token can be had. The headers are not changed then.
    pub async fn authorize(&self, headers: &mut HeaderMap) -> Result<(), TokenSourceError> {
        self.token().await?.authorize(headers);
        Ok(())
    }

    /// Returns a watch that gives each new token, for connections that must renew theirs.
    #[must_use]
    pub fn watch(&self) -> TokenWatch {
        TokenWatch::new(self.tokens.clone())
    }

    /// Tells that a resource server refused this token. It is not given out again; a newer token is not affected. A token that was
    /// accepted before stays in use while no other one may be requested (rule 3 of the [module page](super)).
    pub fn invalidate(&self, token: &AccessToken) {
        self.tokens.invalidate(token);
    }

    /// Returns the source of the tokens with other scopes, by the same credentials. All calls with the same scopes share one
    /// cache.
    ///
    /// # Errors
    ///
    /// When 1,000 sets of tokens are in use.
    pub fn with_scopes(&self, scopes: impl Into<Scopes>) -> Result<Self, TokenSourceError> {
        self.with_query(TokenQuery { scopes: scopes.into(), ..self.tokens.query().clone() })
    }

    /// Returns the source of the tokens for another resource (RFC 8707), by the same credentials. All calls with the same
    /// resource share one cache.
    ///
    /// # Errors
    ///
    /// When 1,000 sets of tokens are in use.
    pub fn with_resource(&self, resource: &Audience) -> Result<Self, TokenSourceError> {
        self.with_query(TokenQuery { resources: vec![resource.as_str().to_owned()], ..self.tokens.query().clone() })
    }

    /// Returns a token that may be sent now, as [`ready`](TokenSource::ready) does, for one service.
    #[inline]
    pub(super) fn ready_kept<'a>(&self, kept: &'a mut KeptToken) -> Option<&'a AccessToken> {
        self.tokens.ready_kept(kept)
    }

    pub(super) fn now(&self) -> Moment {
        self.tokens.now()
    }

    pub(super) fn random_fraction(&self) -> f64 {
        self.tokens.random_fraction()
    }

    /// Returns the counters of these credentials since the start, over all sets of tokens.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.tokens.statistics()
    }
}

impl TokenSource for CachedTokenSource {
    fn ready(&self) -> Option<AccessToken> {
        self.tokens.ready()
    }

    fn token(&self) -> TokenFuture {
        TokenSource::token(&self.tokens)
    }

    fn widen(&self, token: &AccessToken, scopes: &Scopes) -> Option<TokenFuture> {
        self.tokens.widen(token, scopes)
    }

    fn invalidate(&self, token: &AccessToken) {
        self.tokens.invalidate(token);
    }

    fn refused_without_explanation(&self, token: &AccessToken) {
        self.tokens.refused_without_explanation(token);
    }
}

impl fmt::Debug for CachedTokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CachedTokenSource").field(&self.tokens).finish()
    }
}
