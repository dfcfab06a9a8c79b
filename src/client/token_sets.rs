//! [`TokenSets`]: the tokens of one set of credentials, by the query for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cached_token_source::CachedTokenSource;
use super::issuer_client::IssuerClient;
use super::token_cache::Tokens;
use super::token_error::{TokenSourceError, TokenSourceErrorKind};
use super::token_request::TokenQuery;

/// How many sets of tokens there can be. Sets that are not in use make room.
const MAX_SETS: usize = 1_000;

#[derive(Debug)]
pub(super) struct TokenSets {
    client: Arc<IssuerClient>,
    sets: Mutex<HashMap<TokenQuery, Tokens>>,
}

impl TokenSets {
    pub(super) fn new(client: Arc<IssuerClient>) -> Arc<Self> {
        Arc::new(Self { client, sets: Mutex::default() })
    }

    /// Returns the source that the application starts with.
    pub(super) fn first(self: Arc<Self>, query: TokenQuery) -> CachedTokenSource {
        let tokens = Tokens::new(self.client.clone(), Arc::downgrade(&self), query.clone());
        self.lock().insert(query, tokens.clone());
        CachedTokenSource::of(tokens, self)
    }

    /// Returns the source that all callers with the same query share.
    pub(super) fn shared(self: &Arc<Self>, query: TokenQuery) -> Result<CachedTokenSource, TokenSourceError> {
        Ok(CachedTokenSource::of(self.tokens(query)?, self.clone()))
    }

    /// Returns the tokens that all callers with the same query share.
    pub(super) fn tokens(self: &Arc<Self>, query: TokenQuery) -> Result<Tokens, TokenSourceError> {
        let mut sets = self.lock();
        if let Some(tokens) = sets.get(&query) {
            return Ok(tokens.clone());
        }
        if sets.len() >= MAX_SETS {
            sets.retain(|_, tokens| !tokens.is_unused());
        }
        if sets.len() >= MAX_SETS {
            let message = format!("{MAX_SETS} sets of tokens are in use; drop sources that are not needed");
            return Err(TokenSourceError::of(TokenSourceErrorKind::Internal, message));
        }
        let tokens = Tokens::new(self.client.clone(), Arc::downgrade(self), query.clone());
        sets.insert(query, tokens.clone());
        Ok(tokens)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TokenQuery, Tokens>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
