//! [`Introspector`]: asks the introspection endpoint, once for all concurrent callers with the same token, within bounds.

use std::future::poll_fn;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Request;
use tokio::sync::oneshot;

use super::Settings;
use super::answer_cache::AnswerCache;
use super::outage::{Failure, MAX_PAUSE, Outage, PAUSE, is_within};
use super::requests::{Requests, Started};
use super::response::{Answer, NoAnswer, NoAnswerKind, SIGNED};
use crate::client_authentication::AssertionContext;
use crate::clock::{Moment, UnixTime};
use crate::debug_fields::debug_fields;
use crate::metrics;
use crate::sync::{Finish, InFlight};
use crate::transport::{FetchError, send};
use crate::verification::claims::Claims;
use crate::verification::error::Verified;
use crate::verification::jws::LONGEST_TOKEN;
use crate::verification::{InvalidToken, RefusedToken, Unavailable, UnavailableKind, VerifiedToken, VerifyError};

/// The estimated memory of a failure, in bytes: its error with the URL.
const FAILURE_SIZE: usize = 512;

/// A client of an introspection endpoint. Clones share the answers.
#[derive(Clone)]
pub(crate) struct Introspector(Arc<Shared>);

/// The introspector that was asked. A weak reference, since a cached proof must not keep its own cache alive.
#[derive(Clone)]
pub(crate) struct Asked(Weak<Shared>);

struct Shared {
    settings: Settings,
    active: Mutex<AnswerCache<VerifiedToken>>,
    refused: Mutex<AnswerCache<RefusedToken>>,
    failed: Mutex<AnswerCache<Failure>>,
    requests: Mutex<Requests>,
    outage: Mutex<Outage>,
}

impl Introspector {
    pub(super) fn new(settings: Settings) -> Self {
        Self(Arc::new(Shared {
            settings,
            active: Mutex::new(AnswerCache::new(10_000, 16 * 1024 * 1024)),
            refused: Mutex::new(AnswerCache::new(1_000, 1024 * 1024)),
            failed: Mutex::new(AnswerCache::new(1_000, 1024 * 1024)),
            requests: Mutex::default(),
            outage: Mutex::default(),
        }))
    }

    pub(crate) fn ptr_eq(&self, asked: &Asked) -> bool {
        Weak::ptr_eq(&Arc::downgrade(&self.0), &asked.0)
    }

    /// Returns the issuer of the endpoint.
    pub(crate) fn issuer(&self) -> &str {
        self.0.settings.issuer.as_str()
    }

    fn now(&self) -> Moment {
        Moment::now(&*self.0.settings.clock)
    }

    /// Returns the cached result for a token, while it may be used.
    pub(crate) fn look_up(&self, token: &str) -> Verified {
        if token.len() > LONGEST_TOKEN {
            return Err(InvalidToken::TooLong.into());
        }
        // Both clocks are compared: if the wall clock is set back, no answer is used for longer.
        let now = self.now();
        let is_fresh = |asked| now.since(asked) < self.0.settings.believed;
        if let Some((known, asked)) = lock(&self.0.active).find(token) {
            // Not after `exp`: then the server decides again, by its own clock.
            if is_fresh(asked) && now.not_before(asked).wall < known.expires_at() {
                return Ok(known);
            }
        }
        match lock(&self.0.refused).find(token) {
            Some((invalid, asked)) if is_fresh(asked) => Err(invalid.into()),
            _ => Err(Unavailable::new(UnavailableKind::NotAsked).into()),
        }
    }

    /// Returns the remaining lifetime of a token with these claims, or zero if the introspector was dropped.
    pub(crate) fn time_left(asked: &Asked, claims: &Claims) -> Duration {
        asked.0.upgrade().map_or(Duration::ZERO, |shared| shared.settings.time_left(claims))
    }

    /// Checks again what depends on the time. The proof belongs to the current request.
    pub(crate) fn still_good(&self, claims: &Claims) -> Result<(), VerifyError> {
        Ok(self.0.settings.check(claims, UnixTime::now(&*self.0.settings.clock))?)
    }

    /// Asks the server, or waits for the request in flight about the same token.
    pub(crate) async fn ask(&self, token: &str) -> Verified {
        let request = match self.join_or_start(token) {
            Ok(request) => request,
            Err(not_asked) => return not_asked,
        };
        let unknown = || Err(self.unavailable(UnavailableKind::Introspection).into());
        request.result().await.unwrap_or_else(unknown)
    }

    fn join_or_start(&self, token: &str) -> Result<InFlight<Verified>, Verified> {
        let mut requests = lock(&self.0.requests);
        if let Some(request) = requests.get(token) {
            return Ok(request);
        }
        let now = self.now();
        if let Some(failure) = self.recent_failure(token, now.wall) {
            return Err(self.without_answer(token, &failure));
        }
        let was_active = lock(&self.0.active).find(token).is_some();
        // The server is not the cause: no old answer is used, and no attempt is counted.
        if !requests.has_slot(was_active, now) {
            return Err(Err(self.unavailable(UnavailableKind::UnansweredToken).into()));
        }
        let admitted = lock(&self.0.outage).admit(was_active, now.wall);
        if let Err(mut failure) = admitted {
            // Another token that was active may be asked about at any time, and an answer ends the outage.
            if was_active {
                failure.pause = PAUSE;
            }
            return Err(self.without_answer(token, &failure));
        }
        let Started { result, finish, cancelled } = requests.start(token, was_active, now);
        // A runtime that shuts down drops the task immediately, and the guard then locks the requests.
        drop(requests);
        let mut request = StartedRequest { introspector: self.clone(), token: token.into(), verified: None, finish };
        // The task continues if the caller disconnects, since others may wait for the result.
        tokio::spawn(async move {
            let introspector = request.introspector.clone();
            let (verified, probe) = introspector.exchange(&request.token, cancelled).await;
            request.verified = Some(verified);
            drop(request);
            if let Some(probe) = probe {
                introspector.ask_about_own(probe).await;
            }
        });
        Ok(result)
    }

    async fn exchange(&self, token: &str, cancelled: oneshot::Receiver<()>) -> (Verified, Option<Probe>) {
        let asked = self.now();
        let answer = match before(cancelled, self.answer(token)).await {
            Some(answer) => answer,
            None => Err(NoAnswer::too_slow(&self.0.settings.endpoint)),
        };
        match answer {
            Ok(answer) => (self.learn(token, answer, asked), None),
            Err(no_answer) => {
                let (failure, probe) = self.fail(token, no_answer);
                (self.without_answer(token, &failure), probe)
            }
        }
    }

    /// Asks about a random token, which a working server calls inactive (RFC 7662 §2.2).
    async fn ask_about_own(&self, _probe: Probe) {
        let answer = self.answer(&own_token()).await;
        let now = self.now().wall;
        match answer {
            Ok(_) => lock(&self.0.outage).answered(now),
            Err(no_answer) => {
                let failure = Self::failure(no_answer);
                lock(&self.0.outage).probe_failed(&failure, now);
            }
        }
    }

    async fn answer(&self, token: &str) -> Result<Answer, NoAnswer> {
        let settings = &self.0.settings;
        match send(&*settings.client, self.request(token).await?, settings.limits).await {
            Ok(response) => settings.read(response).await,
            Err(cause) => Err(NoAnswer::new(FetchError::new(&settings.endpoint.to_string(), cause))),
        }
    }

    /// Returns the last failure of a token during its pause.
    fn recent_failure(&self, token: &str, now: SystemTime) -> Option<Failure> {
        let (failure, failed) = lock(&self.0.failed).find(token)?;
        is_within(failure.pause, failed.wall, now).then_some(failure)
    }

    fn learn(&self, token: &str, answer: Answer, asked: Moment) -> Verified {
        lock(&self.0.outage).answered(self.0.settings.clock.now());
        match answer {
            Ok((claims, payload)) => {
                let verified = VerifiedToken::introspected(token, claims, payload, Asked(Arc::downgrade(&self.0)));
                lock(&self.0.refused).forget(token);
                lock(&self.0.failed).forget(token);
                lock(&self.0.active).keep(token, verified.clone(), verified.size(), asked);
                Ok(verified)
            }
            Err(refused) => {
                lock(&self.0.active).forget(token);
                // The token may become valid before the answer would expire.
                if refused.reason() != InvalidToken::NotYetValid {
                    lock(&self.0.refused).keep(token, refused.clone(), refused.size(), asked);
                }
                Err(refused.into())
            }
        }
    }

    fn unavailable(&self, kind: UnavailableKind) -> Unavailable {
        if kind == UnavailableKind::UnansweredToken {
            metrics::unanswered_token(self.issuer());
        }
        Unavailable::new(kind).with_issuer(self.0.settings.issuer.clone())
    }

    fn fail(&self, token: &str, no_answer: NoAnswer) -> (Failure, Option<Probe>) {
        let (now, failure) = (self.now(), Self::failure(no_answer));
        lock(&self.0.failed).keep(token, failure.clone(), FAILURE_SIZE, now);
        let is_suspected = lock(&self.0.outage).failed(token, &failure, now.wall);
        (failure, is_suspected.then(|| Probe(self.clone())))
    }

    fn failure(no_answer: NoAnswer) -> Failure {
        let NoAnswer { error, kind, retry_after } = no_answer;
        tracing::warn!(%error, "an introspection endpoint did not answer for a token");
        Failure { error: Arc::new(error), kind, pause: retry_after.unwrap_or(PAUSE).clamp(PAUSE, MAX_PAUSE) }
    }

    /// Decides on a token without an answer. After an unusable answer, no old answer is used: the server is up, and may have
    /// meant to refuse the token.
    fn without_answer(&self, token: &str, failure: &Failure) -> Verified {
        let may_be_old = self.0.settings.old_answers_while_down && failure.kind != NoAnswerKind::Unusable;
        let known = may_be_old.then(|| lock(&self.0.active).find(token)).flatten();
        match known {
            Some((known, asked)) if self.now().not_before(asked).wall < known.expires_at() => Ok(known),
            _ => {
                let is_of_server = failure.kind == NoAnswerKind::NoConnection || lock(&self.0.outage).is_down();
                let kind = if is_of_server { UnavailableKind::Introspection } else { UnavailableKind::UnansweredToken };
                Err(self.unavailable(kind).because(failure.error.clone()).retry_after(failure.pause).into())
            }
        }
    }

    /// Builds the request (RFC 7662 §2.1).
    async fn request(&self, token: &str) -> Result<Request<Bytes>, NoAnswer> {
        let Settings { credentials, endpoint, signer, issuer, clock, limits, .. } = &self.0.settings;
        let form = vec![("token".into(), token.into()), ("token_type_hint".into(), "access_token".into())];
        let context = AssertionContext {
            client_id: &credentials.client_id,
            audience: credentials.assertion_audience.as_deref().unwrap_or(issuer.as_str()),
            clock: &**clock,
            random: &*credentials.random,
        };
        let accept = if signer.is_some() { SIGNED } else { "application/json" };
        let request = credentials.authentication.request(context, endpoint, form, accept, limits.time).await;
        request.map_err(|error| NoAnswer::without_credential(endpoint, &error.to_string()))
    }
}

/// A request in flight. Dropping it frees its slot, and then ends the wait of its callers.
struct StartedRequest {
    introspector: Introspector,
    token: Box<str>,
    verified: Option<Verified>,
    finish: Finish<Verified>,
}

impl Drop for StartedRequest {
    fn drop(&mut self) {
        lock(&self.introspector.0.requests).finish(&self.token, &self.finish);
        if let Some(verified) = self.verified.take() {
            self.finish.finish(verified);
        }
    }
}

/// A probe: a request about a random token. Dropping it allows the next probe.
struct Probe(Introspector);

impl Drop for Probe {
    fn drop(&mut self) {
        lock(&self.0.0.outage).probe_ended();
    }
}

/// Returns a random text that is not a valid token. It is not a secret.
fn own_token() -> String {
    let random = || RandomState::new().hash_one(0);
    format!("{:016x}{:016x}", random(), random())
}

/// Waits for a future, or for the signal to give up.
async fn before<F: Future>(signal: oneshot::Receiver<()>, future: F) -> Option<F::Output> {
    let (mut signal, mut future) = (pin!(signal), pin!(future));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => signal.as_mut().poll(cx).map(|_| None),
    })
    .await
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

debug_fields!(Introspector, |this| { endpoint: this.0.settings.endpoint });
