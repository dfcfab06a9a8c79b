//! [`Entry`]: the tokens of one key, and when another one is requested.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, Weak};

use tokio::sync::watch;
use tracing::Span;

use super::super::access_token::AccessToken;
use super::super::attempts::{Attempts, NotYet};
use super::super::concurrency::{Mutex, MutexGuard, Runtime};
use super::super::issuer_client::{IssuerClient, Obtained};
use super::super::ready_tokens::ReadyToken;
use super::super::refused_tokens::RefusedTokens;
use super::super::token_error::{TokenSourceError, TokenSourceErrorKind};
use super::super::token_request::TokenQuery;
use super::background_request::{PendingRequest, PlannedRequest};
use super::{Flight, Outcome, Siblings, Tokens};
use crate::clock::Moment;

/// The tokens of one key: of the same issuer, client and credential, for the same resources, scopes and parameters.
pub(crate) struct Entry {
    pub(super) client: Arc<IssuerClient>,
    pub(super) siblings: Weak<dyn Siblings>,
    pub(super) query: TokenQuery,
    /// The tokens with more scopes that are used in place of these, since a resource server asked for them and the issuer gave one.
    pub(super) wider: OnceLock<Tokens>,
    /// Whether the issuer gives these tokens: it gave one, and no request that failed has left the entry without one since. Otherwise
    /// the tokens with fewer scopes are used. Written under the lock on the state.
    pub(super) is_granted: AtomicBool,
    pub(super) ready: ReadyToken,
    pub(super) state: Mutex<State>,
    /// Written when a token was obtained or refused, for those that watch.
    pub(super) changes: watch::Sender<()>,
}

pub(super) struct State {
    pub(super) current: Option<AccessToken>,
    /// The request for a token that is in flight.
    pub(super) flight: Option<Flight>,
    /// How many requests were started.
    pub(super) flights: u64,
    pub(super) attempts: Attempts,
    pub(super) refused: RefusedTokens,
    /// The token that was dropped last. Another call, which was sent before that, may still be accepted with it.
    pub(super) dropped: Option<AccessToken>,
    /// That such a call was accepted is noted in `attempts`.
    pub(super) is_acceptance_noted: bool,
    /// The tokens with fewer scopes in place of which these are used from the first one on. There are at most as many as sets of tokens.
    pub(super) narrower: Vec<Weak<Entry>>,
}

/// What a caller does next.
pub(super) enum Step {
    Done(Outcome),
    Wait(Flight),
}

impl Entry {
    pub(super) fn new(client: Arc<IssuerClient>, siblings: Weak<dyn Siblings>, query: TokenQuery) -> Self {
        let state = State {
            current: None,
            flight: None,
            flights: 0,
            attempts: Attempts::new(client.now()),
            refused: RefusedTokens::default(),
            dropped: None,
            is_acceptance_noted: false,
            narrower: Vec::new(),
        };
        Self {
            client,
            siblings,
            query,
            wider: OnceLock::new(),
            is_granted: AtomicBool::new(false),
            ready: ReadyToken::new(),
            state: Mutex::new(state),
            changes: watch::Sender::new(()),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the token in use if it can be reused, and has it refreshed in the background once that is due.
    pub(super) fn reusable(self: &Arc<Self>, now: Moment) -> Option<AccessToken> {
        let mut state = self.state();
        let token = state.reusable(now)?;
        state.drop_lost_flight(now);
        let is_due = !token.is_fresh(now) && state.flight.is_none();
        let planned = if is_due { self.plan(&mut state, now).ok() } else { None };
        drop(state);
        if let Some((planned, _)) = planned {
            planned.start();
        }
        Some(token)
    }

    pub(super) fn step(self: &Arc<Self>) -> Step {
        let now = self.client.now();
        if let Some(token) = self.reusable(now) {
            return Step::Done(Ok(token));
        }
        let mut state = self.state();
        // Another thread may have brought one in between.
        if let Some(token) = state.reusable(now) {
            return Step::Done(Ok(token));
        }
        state.drop_lost_flight(now);
        if let Some(flight) = &state.flight {
            return Step::Wait(flight.clone());
        }
        let planned = self.plan(&mut state, now);
        if planned.is_err() {
            // Under the lock, so that it does not undo what a request that succeeds meanwhile notes.
            self.is_granted.store(false, Ordering::Release);
        }
        drop(state);
        match planned {
            Ok((planned, flight)) => {
                planned.start();
                Step::Wait(flight)
            }
            Err(error) => Step::Done(Err(error)),
        }
    }

    /// Notes that a request for a token is in flight, if one may start now.
    fn plan(self: &Arc<Self>, state: &mut State, now: Moment) -> Result<(PlannedRequest, Flight), TokenSourceError> {
        let runtime = Runtime::current().ok_or_else(|| {
            let message = "tokens are requested in a Tokio runtime, which is missing here; call this in an async fn";
            TokenSourceError::of(TokenSourceErrorKind::Internal, message)
        })?;
        if !state.is_acceptance_noted && state.dropped.as_ref().is_some_and(AccessToken::was_accepted) {
            state.is_acceptance_noted = true;
            state.attempts.was_accepted_after_all(now);
        }
        state.attempts.start(now).map_err(|not_yet| match not_yet {
            NotYet::Failed(error) => error,
            NotYet::Refused(wait) => self.refused_too_often().with_retry_after(Some(wait)),
        })?;
        state.flights = state.flights.wrapping_add(1);
        let (flight, sender) = Flight::new(state.flights, now, self.client.longest_attempt());
        state.flight = Some(flight.clone());
        let pending = PendingRequest { entry: self.clone(), number: flight.number(), started: now, sender };
        Ok((PlannedRequest { runtime, cause: Span::current(), pending }, flight))
    }

    fn refused_too_often(&self) -> TokenSourceError {
        TokenSourceError::of(
            TokenSourceErrorKind::TokenRefused,
            format!(
                "resource servers refused several tokens of {} in a row; compare the issuer, the audience and the keys that they \
                 expect, and their clocks",
                self.client.issuer()
            ),
        )
    }

    /// Has these tokens used in place of those with fewer scopes, as soon as the issuer gives one. Until then, the others stay in use:
    /// an issuer that refuses the scopes, or is down, must not stop the calls that do not need them.
    pub(super) fn replaces(self: &Arc<Self>, narrower: &Arc<Self>) {
        let mut state = self.state();
        if state.current.is_some() {
            drop(state);
            self.take_over_from(narrower);
        } else if !state.narrower.iter().any(|own| std::ptr::eq(own.as_ptr(), Arc::as_ptr(narrower))) {
            state.narrower.push(Arc::downgrade(narrower));
        }
    }

    pub(super) fn take_over_from(self: &Arc<Self>, narrower: &Self) {
        // If another set of tokens was first, it stays in use, and the next answer asks for the rest.
        narrower.wider.get_or_init(|| Tokens(self.clone()));
        narrower.changes.send_replace(());
    }

    /// Returns whether a caller that waited for this token may send it.
    pub(super) fn may_be_sent(&self, token: &AccessToken) -> bool {
        let is_alive = token.lifetime().is_none_or(|lifetime| lifetime.may_be_sent(self.client.now()));
        is_alive && !self.state().refused.contains(token)
    }

    /// Takes the token that a request brought.
    pub(super) fn accept(self: &Arc<Self>, obtained: Obtained) -> Outcome {
        let Obtained { granted, lifetime } = obtained;
        let unusable = |what: String| {
            let issuer = self.client.issuer();
            TokenSourceError::of(
                TokenSourceErrorKind::InvalidAnswer,
                format!("the token from {issuer} cannot be used: {what}"),
            )
        };
        let cache: Weak<dyn Any + Send + Sync> = Arc::downgrade(&(self.clone() as Arc<dyn Any + Send + Sync>));
        let token = AccessToken::new(&granted.text, Some(lifetime), granted.scopes, Some(cache));
        let token = token.map_err(|error| unusable(error.to_string()))?;
        if !lifetime.may_be_sent(self.client.now()) {
            return Err(unusable(format!(
                "it had expired when it arrived (`expires_in` is {:?})",
                granted.expires_in.unwrap_or_default()
            )));
        }
        Ok(token)
    }

    pub(super) fn refused_before(&self) -> TokenSourceError {
        TokenSourceError::of(
            TokenSourceErrorKind::TokenRefused,
            format!(
                "{} issued the same token again that a resource server had refused, and it is not sent again",
                self.client.issuer()
            ),
        )
    }
}

impl State {
    fn drop_lost_flight(&mut self, now: Moment) {
        self.flight.take_if(|flight| flight.is_lost(now));
    }

    pub(super) fn reusable(&self, now: Moment) -> Option<AccessToken> {
        self.current.as_ref().filter(|token| is_reusable(token, now)).cloned()
    }

    /// Takes a token that was dropped without an explanation back into use, since no other one can be had.
    pub(super) fn restore_dropped(&mut self, now: Moment) -> Option<AccessToken> {
        let dropped = self.dropped.as_ref().filter(|token| self.current.is_none() && is_reusable(token, now))?;
        if !self.refused.forgive(dropped) {
            return None;
        }
        self.current = self.dropped.take();
        self.current.clone()
    }
}

fn is_reusable(token: &AccessToken, now: Moment) -> bool {
    token.lifetime().is_some_and(|lifetime| lifetime.is_reusable(now))
}
