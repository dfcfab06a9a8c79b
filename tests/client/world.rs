//! A token server and a resource server in simulated time, which record requests and fail as a test specifies.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use tokio::time::{Instant, sleep};
use tower::{BoxError, Service};
use tower_client_credentials::client::{CachedTokenSource, SecretSource};
use tower_client_credentials::clock::Clock;
use tower_client_credentials::{ClientCredentials, Scope};

pub const ISSUER: &str = "https://auth.example.com";
/// Its query has a key of the application.
pub const TOKEN_URL: &str = "https://auth.example.com/token?key=hunter2";
pub const API: &str = "https://api.example.com";

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A deterministic random number generator.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 to `below`, exclusive.
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// The response of the token server to a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Issue {
    /// A token with this `expires_in`.
    Token(Option<u64>),
    /// The same token as before.
    SameToken,
    NoConnection,
    Never,
    Html,
    Redirect,
    Status(u16, Option<u64>),
    Refuse(&'static str),
}

/// The rules of one world, by the time since its start.
pub type IssueRule = Box<dyn FnMut(Duration) -> Issue + Send>;

/// The response of the resource server to a valid token.
pub type ResourceRule = Box<dyn FnMut(Duration, &Minted) -> Verdict + Send>;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    Accept,
    /// 401 with `error="invalid_token"`.
    InvalidToken,
    /// 401 without a challenge.
    Bare401,
    /// 401 with this challenge.
    Challenge(&'static str),
}

#[derive(Clone, Debug)]
pub struct Minted {
    /// When it was requested, since the start.
    pub requested: Duration,
    /// Its expiry by the issuer's clock; `None` if it has none.
    pub end: Option<Duration>,
    pub delivered: bool,
    /// The client knows that it was refused.
    pub refused: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    pub token_requests: usize,
    pub in_flight: usize,
    pub most_in_flight: usize,
    pub calls: usize,
    pub accepted: usize,
    pub refused: usize,
    /// The forbidden events that occurred.
    pub violations: Vec<String>,
}

pub struct State {
    pub seen: Seen,
    pub tokens: HashMap<String, Minted>,
    pub last: Option<String>,
    issue: IssueRule,
    resource: ResourceRule,
    issue_latency: Duration,
    /// A refused token that was not replaced since may be sent again.
    may_keep_refused: bool,
    /// How often a request of this name arrived.
    arrivals: HashMap<String, usize>,
    slept: Duration,
    clock_error: i64,
}

/// Everything outside of the client.
#[derive(Clone)]
pub struct World {
    start: Instant,
    pub state: Arc<Mutex<State>>,
}

pub const RESOURCE_LATENCY: Duration = Duration::from_millis(20);

impl World {
    pub fn new(issue: impl FnMut(Duration) -> Issue + Send + 'static) -> Self {
        let state = State {
            seen: Seen::default(),
            tokens: HashMap::new(),
            last: None,
            issue: Box::new(issue),
            resource: Box::new(|_, _| Verdict::Accept),
            issue_latency: Duration::from_millis(50),
            may_keep_refused: false,
            arrivals: HashMap::new(),
            slept: Duration::ZERO,
            clock_error: 0,
        };
        Self { start: Instant::now(), state: Arc::new(Mutex::new(state)) }
    }

    pub fn resource_rule(self, rule: impl FnMut(Duration, &Minted) -> Verdict + Send + 'static) -> Self {
        self.lock().resource = Box::new(rule);
        self
    }

    pub fn issue_rule(&self, rule: impl FnMut(Duration) -> Issue + Send + 'static) {
        self.lock().issue = Box::new(rule);
    }

    pub fn issue_latency(self, time: Duration) -> Self {
        self.lock().issue_latency = time;
        self
    }

    /// Lets the client keep a token that was refused, as long as it gets no other one.
    pub fn may_keep_refused(self) -> Self {
        self.lock().may_keep_refused = true;
        self
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Returns the true time since the start.
    pub fn time(&self) -> Duration {
        self.start.elapsed() + self.lock().slept
    }

    /// Suspends the client's machine: the monotonic clock stands still.
    pub fn machine_sleeps(&self, time: Duration) {
        self.lock().slept += time;
    }

    /// Sets the wall clock of the client, which is wrong from now on.
    pub fn set_clock_error(&self, seconds: i64) {
        self.lock().clock_error = seconds;
    }

    pub fn token_requests(&self) -> usize {
        self.lock().seen.token_requests
    }

    pub fn credentials(&self) -> ClientCredentials {
        ClientCredentials::new(ISSUER, "billing", SecretSource::from_value("the-secret-of-billing"))
            .token_endpoint(TOKEN_URL)
            .resource(API)
            .scope(Scope::from_static("read"))
            .http_service(TokenServer(self.clone()))
            .clock(WorldClock(self.clone()))
    }

    pub fn source(&self) -> CachedTokenSource {
        self.credentials().build().unwrap()
    }

    /// Returns whether the client has a token that it can reuse, with some time to spare.
    pub fn has_usable_token(&self) -> bool {
        let now = self.time();
        let state = self.lock();
        state.last.as_ref().and_then(|last| state.tokens.get(last)).is_some_and(|token| {
            let life = token.end.map(|end| end.saturating_sub(token.requested));
            let margin = life.unwrap_or_default().div_f64(10.0).min(Duration::from_secs(5)).max(Duration::from_secs(1));
            let left = token.end.map(|end| end.saturating_sub(now));
            token.delivered && !token.refused && left.is_some_and(|left| left > margin + Duration::from_millis(100))
        })
    }

    fn violation(&self, what: impl Into<String>) {
        self.lock().seen.violations.push(what.into());
    }

    fn mint(&self, requested: Duration, expires_in: Option<u64>) -> String {
        let mut state = self.lock();
        let token = format!("token-{}", state.tokens.len());
        let end = expires_in.map(|life| requested + Duration::from_secs(life.min(1_000_000_000)));
        state.tokens.insert(token.clone(), Minted { requested, end, delivered: false, refused: false });
        token
    }

    async fn issue(self, request: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, BoxError> {
        if request.uri() != TOKEN_URL {
            self.violation(format!("a credential was sent to {}", request.uri()));
        }
        let requested = self.time();
        let (issue, latency) = {
            let mut state = self.lock();
            state.seen.token_requests += 1;
            state.seen.in_flight += 1;
            state.seen.most_in_flight = state.seen.most_in_flight.max(state.seen.in_flight);
            ((state.issue)(requested), state.issue_latency)
        };
        let _landing = Landing(self.clone());
        let form = request.into_body().collect().await?.to_bytes();
        if !form.starts_with(b"grant_type=client_credentials&scope=read&resource=https%3A%2F%2Fapi.example.com") {
            self.violation(format!("the form is {form:?}"));
        }
        sleep(latency).await;
        let answer = |status: u16| Response::builder().status(status);
        Ok(match issue {
            Issue::NoConnection => return Err("connection refused".into()),
            Issue::Never => std::future::pending().await,
            Issue::Html => answer(200).header(header::CONTENT_TYPE, "text/html").body("<html>welcome</html>".into())?,
            Issue::Redirect => {
                answer(307).header(header::LOCATION, "https://evil.example/token").body(Full::default())?
            }
            Issue::Status(status, retry_after) => {
                let answer = answer(status);
                match retry_after {
                    Some(seconds) => answer.header(header::RETRY_AFTER, seconds),
                    None => answer,
                }
                .body(Full::default())?
            }
            Issue::Refuse(error) => answer(400).body(format!(r#"{{"error": "{error}"}}"#).into())?,
            Issue::Token(expires_in) => {
                let token = self.mint(requested, expires_in);
                self.deliver(&token, expires_in)
            }
            Issue::SameToken => {
                let token = self.lock().last.clone().unwrap();
                let end = self.lock().tokens[&token].end;
                self.deliver(&token, end.map(|end| end.saturating_sub(requested).as_secs()))
            }
        })
    }

    fn deliver(&self, token: &str, expires_in: Option<u64>) -> Response<Full<Bytes>> {
        let mut state = self.lock();
        state.tokens.get_mut(token).unwrap().delivered = true;
        state.last = Some(token.to_owned());
        let expires_in = expires_in.map(|life| format!(r#", "expires_in": {life}"#)).unwrap_or_default();
        Response::new(format!(r#"{{"access_token": "{token}", "token_type": "Bearer"{expires_in}}}"#).into())
    }

    async fn resource<B>(self, request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
        let now = self.time();
        let name = request.uri().path().to_owned();
        let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(token) = token.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned) else {
            self.violation(format!("{name} was sent without a token"));
            return Ok(Response::default());
        };
        let verdict = {
            let mut state = self.lock();
            state.seen.calls += 1;
            let arrivals = state.arrivals.entry(name.clone()).or_default();
            *arrivals += 1;
            let arrivals = *arrivals;
            let minted = state.tokens.get(&token).cloned().unwrap();
            if arrivals > 2 {
                state.seen.violations.push(format!("{name} was sent {arrivals} times"));
            }
            if minted.end.is_some_and(|end| now >= end) {
                state.seen.violations.push(format!("{name} was sent with the expired {token}"));
            }
            let was_kept = state.may_keep_refused && state.last.as_ref() == Some(&token);
            if minted.refused && !was_kept {
                state.seen.violations.push(format!("{name} was sent with the refused {token}"));
            }
            (state.resource)(now, &minted)
        };
        sleep(RESOURCE_LATENCY).await;
        let mut response = Response::new(Full::default());
        let mut state = self.lock();
        if verdict == Verdict::Accept {
            state.seen.accepted += 1;
            return Ok(response);
        }
        state.seen.refused += 1;
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        let challenge = match verdict {
            Verdict::InvalidToken => Some(r#"Bearer realm="api", error="invalid_token""#),
            Verdict::Challenge(challenge) => Some(challenge),
            Verdict::Accept | Verdict::Bare401 => None,
        };
        if let Some(challenge) = challenge {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
        }
        // A repetition that is refused as well shows that the token is not the cause.
        let is_repetition = state.arrivals.get(&name).is_some_and(|arrivals| *arrivals > 1);
        if !matches!(verdict, Verdict::Challenge(_)) && !is_repetition {
            state.tokens.get_mut(&token).unwrap().refused = true;
        }
        Ok(response)
    }

    /// Returns how often a request of this path arrived at the resource server.
    pub fn arrivals(&self, path: &str) -> usize {
        self.lock().arrivals.get(path).copied().unwrap_or_default()
    }
}

struct Landing(World);

impl Drop for Landing {
    fn drop(&mut self) {
        self.0.lock().seen.in_flight -= 1;
    }
}

#[derive(Clone)]
pub struct TokenServer(pub World);

impl Service<Request<Full<Bytes>>> for TokenServer {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = BoxFuture<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        Box::pin(self.0.clone().issue(request))
    }
}

#[derive(Clone)]
pub struct ResourceServer(pub World);

impl<B: Send + 'static> Service<Request<B>> for ResourceServer {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Box::pin(self.0.clone().resource(request))
    }
}

struct WorldClock(World);

impl Clock for WorldClock {
    fn now(&self) -> SystemTime {
        let base = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + self.0.time();
        let error = self.0.lock().clock_error;
        if error < 0 {
            base - Duration::from_secs(error.unsigned_abs())
        } else {
            base + Duration::from_secs(error as u64)
        }
    }
}

impl std::fmt::Debug for WorldClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WorldClock")
    }
}
