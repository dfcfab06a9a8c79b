//! [`TokenSets`]: the tokens of one set of credentials, by the query for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::issuer_client::IssuerClient;
use super::token_cache::{Siblings, Tokens};
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

    /// Returns the tokens that the application starts with.
    pub(super) fn first(self: &Arc<Self>, query: TokenQuery) -> Tokens {
        let tokens = self.new_tokens(query.clone());
        self.lock().insert(query, tokens.clone());
        tokens
    }

    fn new_tokens(self: &Arc<Self>, query: TokenQuery) -> Tokens {
        let siblings: Weak<Self> = Arc::downgrade(self);
        Tokens::new(self.client.clone(), siblings, query)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TokenQuery, Tokens>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Siblings for TokenSets {
    fn tokens(self: Arc<Self>, query: TokenQuery) -> Result<Tokens, TokenSourceError> {
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
        let tokens = self.new_tokens(query.clone());
        sets.insert(query, tokens.clone());
        Ok(tokens)
    }
}
