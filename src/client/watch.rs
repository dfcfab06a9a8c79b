//! [`TokenWatch`]: each new token, for a connection that must renew its own.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::access_token::AccessToken;
use super::token_cache::Tokens;
use super::token_error::TokenSourceError;

/// How often the clock is looked at while a watch waits: a machine that slept does not wake timers in time.
const MAX_SLEEP: Duration = Duration::from_secs(30);

/// The shortest pause between two looks, for tokens that cannot be reused.
const MIN_SLEEP: Duration = Duration::from_secs(1);

/// Gives each new token of a [`CachedTokenSource`](super::CachedTokenSource). While it is awaited, tokens are refreshed ahead of their end even if no
/// request is made.
///
/// ```no_run
/// # use tower_client_credentials::client::CachedTokenSource;
/// # async fn example(source: CachedTokenSource) {
/// let mut tokens = source.watch();
/// loop {
///     match tokens.next().await {
///         Ok(token) => { /* authenticate the connection again */ }
///         Err(error) => tokio::time::sleep(error.retry_after().unwrap_or_default()).await,
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct TokenWatch {
    tokens: Tokens,
    changes: watch::Receiver<()>,
    last: Option<AccessToken>,
    /// The last look failed, so the next one needs no change.
    has_failed: bool,
}

impl TokenWatch {
    pub(super) fn new(tokens: Tokens) -> Self {
        Self { changes: tokens.changes(), tokens, last: None, has_failed: false }
    }

    /// Waits for a token that this watch has not given before: the first one at once, and each later one when it was
    /// refreshed or when the last one was refused.
    ///
    /// # Errors
    ///
    /// When there is no token that can be sent. While an older token is valid, a refresh that fails is not an error.
    pub async fn next(&mut self) -> Result<AccessToken, TokenSourceError> {
        loop {
            if let Some(last) = &self.last
                && !self.has_failed
            {
                let due = last.lifetime().map(|lifetime| lifetime.until_refresh(self.tokens.now())).unwrap_or_default();
                let _ = timeout(due.clamp(MIN_SLEEP, MAX_SLEEP), self.changes.changed()).await;
            }
            let outcome = self.tokens.token().await;
            self.has_failed = outcome.is_err();
            let token = outcome?;
            // Also the change that this call caused. Other tokens may be in use now, with more scopes.
            self.changes = self.tokens.changes();
            if self.last.as_ref() != Some(&token) {
                self.last = Some(token.clone());
                return Ok(token);
            }
        }
    }
}
