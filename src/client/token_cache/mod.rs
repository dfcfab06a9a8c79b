//! [`Tokens`]: caches the tokens of one key, refreshes them ahead of their end, and requests each of them once for all callers.

mod background_request;
mod entry;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{Instrument as _, Span};

use self::entry::{Entry, Step};
use super::access_token::AccessToken;
use super::in_flight::InFlight;
use super::issuer_client::IssuerClient;
use super::ready_tokens::KeptToken;
use super::refusal::Refusal;
use super::statistics::Statistics;
use super::token_error::TokenSourceError;
use super::token_request::TokenQuery;
use super::token_source::{TokenFuture, TokenSource};
use crate::clock::Moment;
use crate::debug_fields::debug_fields;
use crate::scope::Scopes;
use crate::telemetry;

/// The other sets of tokens by the same credentials.
pub(super) trait Siblings: Send + Sync {
    /// Returns the tokens that all callers with the same query share.
    fn tokens(self: Arc<Self>, query: TokenQuery) -> Result<Tokens, TokenSourceError>;
}

/// A handle on the tokens of one key. It does not know the other sets of tokens, since these know it.
#[derive(Clone)]
pub(super) struct Tokens(Arc<Entry>);

type Outcome = Result<AccessToken, TokenSourceError>;

/// A request for a token.
type Flight = InFlight<Outcome>;

/// A token of this age counts as accepted by a resource server, for callers that do not tell.
const OLD: Duration = Duration::from_secs(60);

impl Tokens {
    pub(super) fn new(client: Arc<IssuerClient>, siblings: Weak<dyn Siblings>, query: TokenQuery) -> Self {
        Self(Arc::new(Entry::new(client, siblings, query)))
    }

    /// Returns the cache from which this token came, if it still exists.
    pub(super) fn of(token: &AccessToken) -> Option<Self> {
        token.cache().map(Self)
    }

    /// Returns whether the map of all sets has the only handle.
    pub(super) fn is_unused(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Returns whether a token of this cache may be sent now.
    pub(super) fn may_be_sent(&self, token: &AccessToken) -> bool {
        self.0.may_be_sent(token)
    }

    pub(super) fn query(&self) -> &TokenQuery {
        &self.0.query
    }

    pub(super) fn statistics(&self) -> Statistics {
        self.0.client.statistics()
    }

    pub(super) fn random_fraction(&self) -> f64 {
        self.0.client.random_fraction()
    }

    pub(super) fn now(&self) -> Moment {
        self.0.client.now()
    }

    /// Returns the changes of the tokens in use, from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.in_use().0.changes.subscribe()
    }

    /// Returns the handle on the tokens that are in use: these, or those with more scopes.
    fn in_use(&self) -> &Self {
        let mut tokens = self;
        while let Some(wider) = tokens.0.wider.get()
            && wider.0.is_granted.load(Ordering::Acquire)
        {
            tokens = wider;
        }
        tokens
    }

    /// Returns a token that may be sent now, as [`ready`](TokenSource::ready) does. What one service has kept is asked first.
    #[inline]
    pub(super) fn ready_kept<'a>(&self, kept: &'a mut KeptToken) -> Option<&'a AccessToken> {
        let Self(entry) = self.in_use();
        if entry.ready.update(kept, entry.client.clock()) {
            return kept.token();
        }
        Self::reusable_kept(entry, kept)
    }

    #[cold]
    fn reusable_kept<'a>(entry: &Arc<Entry>, kept: &'a mut KeptToken) -> Option<&'a AccessToken> {
        entry.reusable(entry.client.now()).map(|token| kept.replace(token))
    }

    pub(super) async fn token(&self) -> Outcome {
        let tokens = self.in_use();
        self.outcome(tokens, tokens.0.step()).await
    }

    /// Returns the outcome after the first step, which these tokens or those in use took.
    async fn outcome(&self, tokens: &Self, step: Step) -> Outcome {
        if let Step::Done(Ok(token)) = step {
            return Ok(token);
        }
        let client = &self.0.client;
        let span = match &step {
            Step::Done(_) => Span::none(),
            Step::Wait(_) => {
                client.caller_waits();
                telemetry::token_wait(client.issuer(), client.client_id())
            }
        };
        let outcome = self.follow(tokens, step).instrument(span.clone()).await;
        if let Err(error) = &outcome {
            span.record("error.type", error.kind().name());
        }
        outcome
    }

    async fn follow<'a>(&'a self, mut tokens: &'a Self, mut step: Step) -> Outcome {
        loop {
            let outcome = match step {
                Step::Done(outcome) => Some(outcome),
                Step::Wait(flight) => flight.result(tokens.now()).await,
            };
            let in_use = self.in_use();
            match outcome {
                Some(Ok(token)) if tokens.0.may_be_sent(&token) => return Ok(token),
                // If the issuer no longer grants more scopes, the tokens with fewer are in use again.
                Some(Err(error)) if Arc::ptr_eq(&tokens.0, &in_use.0) => return Err(error),
                // It was refused or has ended while this caller did not run, or it did not come.
                Some(_) | None => {}
            }
            tokens = in_use;
            step = tokens.0.step();
        }
    }
}

impl TokenSource for Tokens {
    fn ready(&self) -> Option<AccessToken> {
        let Self(entry) = self.in_use();
        entry.ready.get(entry.client.clock()).or_else(|| entry.reusable(self.now()))
    }

    fn token(&self) -> TokenFuture {
        let tokens = self.clone();
        Box::pin(async move { Tokens::token(&tokens).await })
    }

    fn widen(&self, token: &AccessToken, scopes: &Scopes) -> Option<TokenFuture> {
        let Self(entry) = self.in_use();
        // Another request has done it already.
        if !token.came_from(entry) {
            return Some(TokenSource::token(self));
        }
        let query = &entry.query;
        let wider = query.scopes.union(scopes);
        if wider == query.scopes || !entry.client.max_scopes().is_some_and(|max| max.contains_all(&wider)) {
            return None;
        }
        let wider = entry.siblings.upgrade()?.tokens(TokenQuery { scopes: wider, ..query.clone() }).ok()?;
        tracing::info!(scopes = %wider.0.query.scopes, "a resource server asks for more scopes");
        wider.0.replaces(entry);
        let step = wider.0.step();
        Some(Box::pin(async move { wider.outcome(&wider, step).await }))
    }

    fn invalidate(&self, token: &AccessToken) {
        Self::refused(token, Refusal::InvalidToken);
    }

    fn refused_without_explanation(&self, token: &AccessToken) {
        Self::refused(token, Refusal::Unexplained);
    }
}

impl Tokens {
    fn refused(token: &AccessToken, refusal: Refusal) {
        // The tokens in use may be others by now: with more scopes, or of another issuer. A token that is not from a cache, or whose
        // cache is gone, concerns none of them.
        let Some(Self(entry)) = Self::of(token) else { return };
        let now = entry.client.now();
        let was_accepted = token.was_accepted() || token.lifetime().is_some_and(|life| life.age(now) >= OLD);
        let mut state = entry.state();
        let is_current = state.current.as_ref() == Some(token);
        if is_current && state.flight.is_none() && state.attempts.keeps(refusal, was_accepted, now) {
            drop(state);
            entry.client.refused_token_is_kept();
            return;
        }
        if !state.refused.insert(token, refusal) {
            return;
        }
        entry.client.token_was_refused(refusal);
        // Without a current token, the refused one was given to callers that waited for it.
        if is_current || state.current.is_none() {
            state.current = None;
            state.dropped = Some(token.clone());
            state.is_acceptance_noted = false;
            state.attempts.refused(refusal, was_accepted, now, entry.client.random_fraction());
            entry.ready.set(None);
            entry.changes.send_replace(());
        }
    }
}

debug_fields!(Tokens, |this| {
    issuer: this.0.client.issuer(),
    client_id: this.0.client.client_id(),
    resources: this.0.query.resources,
    scopes: this.0.query.scopes,
});
