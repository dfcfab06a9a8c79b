//! [`Tokens`]: caches the tokens of one key, refreshes them ahead of their end, and requests each of them once for all callers.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{Instrument as _, Span};

use super::access_token::AccessToken;
use super::attempts::{Attempts, NotYet};
use super::concurrency::{Mutex, MutexGuard, Runtime};
use super::in_flight::InFlight;
use super::issuer_client::{Effort, IssuerClient, Obtained};
use super::ready_tokens::ReadyToken;
use super::refusal::Refusal;
use super::refused_tokens::RefusedTokens;
use super::statistics::Statistics;
use super::token_error::{TokenSourceError, TokenSourceErrorKind};
use super::token_request::TokenQuery;
use super::token_source::{TokenFuture, TokenSource};
use crate::clock::Moment;
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

/// The tokens of one key: of the same issuer, client and credential, for the same resources, scopes and parameters.
pub(super) struct Entry {
    client: Arc<IssuerClient>,
    siblings: Weak<dyn Siblings>,
    query: TokenQuery,
    /// The tokens with more scopes that are used in place of these, since a resource server asked for them.
    wider: OnceLock<Tokens>,
    ready: ReadyToken,
    state: Mutex<State>,
    /// Written when a token was obtained or refused, for those that watch.
    changes: watch::Sender<()>,
}

struct State {
    current: Option<AccessToken>,
    /// The request for a token that is in flight.
    flight: Option<Flight>,
    /// How many requests were started.
    flights: u64,
    attempts: Attempts,
    refused: RefusedTokens,
    /// The token that was dropped last. Another call, which was sent before that, may still be accepted with it.
    dropped: Option<AccessToken>,
    /// That such a call was accepted is noted in `attempts`.
    is_acceptance_noted: bool,
}

type Outcome = Result<AccessToken, TokenSourceError>;

/// A request for a token.
type Flight = InFlight<Outcome>;

/// A token of this age counts as accepted by a resource server, for callers that do not tell.
const OLD: Duration = Duration::from_secs(60);

/// What a caller does next.
enum Step {
    Done(Outcome),
    Wait(Flight),
}

impl Tokens {
    pub(super) fn new(client: Arc<IssuerClient>, siblings: Weak<dyn Siblings>, query: TokenQuery) -> Self {
        let state = State {
            current: None,
            flight: None,
            flights: 0,
            attempts: Attempts::new(client.now()),
            refused: RefusedTokens::default(),
            dropped: None,
            is_acceptance_noted: false,
        };
        let (ready, state, changes) = (ReadyToken::new(), Mutex::new(state), watch::Sender::new(()));
        let wider = OnceLock::new();
        Self(Arc::new(Entry { client, siblings, query, wider, ready, state, changes }))
    }

    /// Returns the tokens among which this one was given out, if they still exist.
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

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    /// Returns the handle on the tokens that are in use: these, or those with more scopes.
    fn in_use(&self) -> &Self {
        let mut tokens = self;
        while let Some(wider) = tokens.0.wider.get() {
            tokens = wider;
        }
        tokens
    }

    pub(super) async fn token(&self) -> Outcome {
        match self.in_use().0.step() {
            Step::Done(outcome) => outcome,
            Step::Wait(flight) => {
                let client = &self.0.client;
                client.caller_waits();
                let span = telemetry::token_wait(client.issuer(), client.client_id());
                let outcome = self.wait(flight).instrument(span.clone()).await;
                if let Err(error) = &outcome {
                    span.record("error.type", error.kind().name());
                }
                outcome
            }
        }
    }

    async fn wait(&self, flight: Flight) -> Outcome {
        let mut next = Step::Wait(flight);
        loop {
            let this = self.in_use();
            match next {
                Step::Done(outcome) => return outcome,
                Step::Wait(flight) => {
                    match flight.result(this.now()).await {
                        Some(Ok(token)) if this.0.may_be_sent(&token) => return Ok(token),
                        Some(Err(error)) => return Err(error),
                        // It was refused or has ended while this caller did not run, or it did not come.
                        Some(Ok(_)) | None => {}
                    }
                }
            }
            next = self.in_use().0.step();
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

    fn widen(&self, token: &AccessToken, scopes: &Scopes) -> bool {
        let Self(entry) = self.in_use();
        // Another request has done it already.
        if !token.came_from(entry) {
            return true;
        }
        let query = &entry.query;
        let wider = query.scopes.union(scopes);
        if wider == query.scopes || !entry.client.max_scopes().is_some_and(|max| max.contains_all(&wider)) {
            return false;
        }
        let Some(siblings) = entry.siblings.upgrade() else { return false };
        match siblings.tokens(TokenQuery { scopes: wider, ..query.clone() }) {
            Ok(wider) => {
                tracing::info!(scopes = %wider.0.query.scopes, "a resource server asks for more scopes");
                // Where another thread was first, its scopes are used, and the next answer asks for the rest.
                entry.wider.get_or_init(|| wider);
                true
            }
            Err(_) => false,
        }
    }

    fn invalidate(&self, token: &AccessToken) {
        self.refused(token, Refusal::InvalidToken);
    }

    fn refused_without_explanation(&self, token: &AccessToken) {
        self.refused(token, Refusal::Unexplained);
    }
}

impl Tokens {
    fn refused(&self, token: &AccessToken, refusal: Refusal) {
        // The tokens in use may be others by now: with more scopes, or of another issuer.
        let own = Self::of(token);
        let Self(entry) = own.as_ref().unwrap_or_else(|| self.in_use());
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

impl Entry {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the token in use if it can be reused, and has it refreshed in the background once that is due.
    fn reusable(self: &Arc<Self>, now: Moment) -> Option<AccessToken> {
        let mut state = self.state();
        let token = state.reusable(now)?;
        state.drop_lost_flight(now);
        let is_due = !token.is_fresh(now) && state.flight.is_none();
        let departure = if is_due { self.depart(&mut state, now).ok() } else { None };
        drop(state);
        if let Some((departure, _)) = departure {
            departure.start();
        }
        Some(token)
    }

    fn step(self: &Arc<Self>) -> Step {
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
        let departed = self.depart(&mut state, now);
        drop(state);
        match departed {
            Ok((departure, flight)) => {
                departure.start();
                Step::Wait(flight)
            }
            Err(error) => Step::Done(Err(error)),
        }
    }

    /// Notes that a request for a token is in flight, if one may start now.
    fn depart(self: &Arc<Self>, state: &mut State, now: Moment) -> Result<(Departure, Flight), TokenSourceError> {
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
        let landing = Landing { entry: self.clone(), number: flight.number(), started: now, sender };
        Ok((Departure { runtime, cause: Span::current(), landing }, flight))
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

    /// Returns whether a caller that waited for this token may send it.
    fn may_be_sent(&self, token: &AccessToken) -> bool {
        let is_alive = token.lifetime().is_none_or(|lifetime| lifetime.may_be_sent(self.client.now()));
        is_alive && !self.state().refused.contains(token)
    }

    /// Takes the token that a request brought.
    fn accept(self: &Arc<Self>, obtained: Obtained) -> Outcome {
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

    fn refused_before(&self) -> TokenSourceError {
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

    fn reusable(&self, now: Moment) -> Option<AccessToken> {
        self.current.as_ref().filter(|token| is_reusable(token, now)).cloned()
    }

    /// Takes a token that was dropped without an explanation back into use, since no other one can be had.
    fn restore_dropped(&mut self, now: Moment) -> Option<AccessToken> {
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

/// A request for a token that was noted and not started: a runtime that ends drops its tasks at once, and then the landing
/// needs the lock.
struct Departure {
    runtime: Runtime,
    /// The span of the call that causes it.
    cause: Span,
    landing: Landing,
}

impl Departure {
    /// Starts the request in a task of its own, so that it does not end with the caller that caused it.
    fn start(self) {
        let Self { runtime, cause, landing } = self;
        runtime.spawn(async move {
            let obtained = landing.entry.client.obtain(&landing.entry.query, &cause).await;
            let outcome = obtained.and_then(|obtained| landing.entry.accept(obtained));
            landing.finish(outcome);
        });
    }
}

/// Ends the flight, whatever happens to its task.
struct Landing {
    entry: Arc<Entry>,
    number: u64,
    started: Moment,
    sender: watch::Sender<Option<Outcome>>,
}

impl Landing {
    fn finish(self, outcome: Outcome) {
        self.land(outcome);
    }

    fn land(&self, outcome: Outcome) {
        let entry = &self.entry;
        let now = entry.client.now();
        let mut state = entry.state();
        // A request that was given up changes nothing: another one has taken its place.
        if state.flight.take_if(|flight| flight.number() == self.number).is_none() {
            return;
        }
        let outcome = match outcome {
            // Under the same lock as the change below, so that no refusal comes between the two.
            Ok(token) if !state.refused.forgive(&token) => Err(entry.refused_before()),
            outcome => outcome,
        };
        let report = outcome.clone();
        let outcome = match outcome {
            Ok(token) => {
                if state.current.is_some() {
                    state.attempts.token_was_used_up();
                }
                state.attempts.succeeded();
                // A token that cannot be reused ends the use of the one before: the issuer has changed what it gives.
                state.current = Some(token.clone());
                entry.ready.set(Some(&token).filter(|token| token.is_fresh(now)));
                Ok(token)
            }
            Err(error) => {
                let error = state.attempts.failed(error, now, entry.client.random_fraction());
                state
                    .restore_dropped(now)
                    .inspect(|token| entry.ready.set(Some(token).filter(|token| token.is_fresh(now))))
                    .ok_or(error)
            }
        };
        drop(state);
        // The flight that new callers found is gone, so each receiver is that of a waiting call.
        let effort = Effort { duration: now.since(self.started), waiting: self.sender.receiver_count() };
        entry.client.report(&entry.query, &report, effort);
        entry.changes.send_replace(());
        self.sender.send_replace(Some(outcome));
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let is_pending = self.sender.borrow().is_none();
        if is_pending {
            let message = "the task that requested a token was ended: it panicked, or its runtime was shut down";
            self.land(Err(TokenSourceError::of(TokenSourceErrorKind::Internal, message)));
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { client, query, .. } = &*self.0;
        f.debug_struct("Tokens")
            .field("issuer", client.issuer())
            .field("client_id", client.client_id())
            .field("resources", &query.resources)
            .field("scopes", &query.scopes)
            .finish_non_exhaustive()
    }
}
