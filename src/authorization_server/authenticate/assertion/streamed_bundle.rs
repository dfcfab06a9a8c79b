//! [`StreamedBundle`]: follows the bundle of one trust domain at the Workload API (feature `workload_api`).
//!
//! The agent sends a complete message after each change. This keeps the last one, connects again after the stream ended, and
//! gives the bundle to [`RemoteKeys`](crate::keys::remote::RemoteKeys) as if it was fetched from a URL:
//!
//! - While the stream is connected, its last bundle is current, and a change is fetched at once.
//! - A request for a `kid` that the bundle lacks asks the agent anew, within the budget for unknown names. If the agent refuses
//!   that, only this request fails: an outsider can cause it, so only the stream withdraws a bundle.
//! - While the stream is cut, a fetch fails. So the last bundle is used for 24 hours, and then the answer is 503.
//! - A message on the stream without the trust domain or with an empty bundle, and the status `PERMISSION_DENIED` there, withdraw
//!   the bundle. It is not used any more (SPIFFE Workload API §4.4, §6.2.2), and the answer is 503.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{Request, Response};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::spiffe_bundle::{self, StreamedKeys};
use crate::crypto::Random;
use crate::transport::{HttpClient, HttpError, HttpFuture};
use crate::workload_api::{WorkloadApi, WorkloadApiError};

/// A stream that lasted this long was healthy: the next one starts at once.
const HEALTHY: Duration = Duration::from_secs(10);

/// The longest pause between two attempts to connect, in seconds.
const LONGEST_PAUSE: u64 = 30;

#[derive(Debug)]
pub(super) struct StreamedBundle {
    source: Source,
    shared: Arc<Shared>,
    follower: Mutex<Option<Follower>>,
    random: Arc<dyn Random>,
}

/// A trust domain at a Workload API.
#[derive(Clone, Debug)]
struct Source {
    api: WorkloadApi,
    /// The SPIFFE ID of the trust domain.
    trust_domain: String,
}

#[derive(Debug)]
struct Shared {
    known: Mutex<Known>,
    changes: watch::Sender<()>,
}

#[derive(Debug)]
struct Known {
    state: State,
    /// How often the stream has sent a message or ended.
    heard: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was received yet.
    Waiting,
    /// The JWK Set of the last message.
    Current(Bytes),
    Withdrawn(String),
    /// The stream is cut, or its last message has no valid bundle.
    Failed(String),
}

/// The task that follows the stream. It ends when this is dropped.
#[derive(Debug)]
struct Follower(JoinHandle<()>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl StreamedBundle {
    pub(super) fn new(api: WorkloadApi, trust_domain: &str, random: Arc<dyn Random>) -> Self {
        let source = Source { api, trust_domain: format!("spiffe://{trust_domain}") };
        let shared =
            Shared { known: Mutex::new(Known { state: State::Waiting, heard: 0 }), changes: watch::Sender::new(()) };
        Self { source, shared: Arc::new(shared), follower: Mutex::default(), random }
    }

    /// Returns a receiver that is told of each change.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.shared.changes.subscribe()
    }

    /// Starts to follow the stream, unless a task does that already.
    fn follow(&self) {
        let mut follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner);
        if follower.as_ref().is_none_or(|follower| follower.0.is_finished()) {
            let following = follow(self.source.clone(), self.shared.clone(), self.random.clone());
            *follower = Some(Follower(tokio::spawn(following)));
        }
    }
}

impl HttpClient for StreamedBundle {
    fn send(&self, request: Request<Bytes>, _: usize) -> HttpFuture<'_> {
        HttpFuture::new(async move {
            self.follow();
            // It asks for what the agent knows now: a key may be newer than the last message.
            if request.headers().contains_key(CACHE_CONTROL) {
                let heard = self.shared.known().heard;
                match self.source.ask().await {
                    State::Waiting => {}
                    current @ State::Current(_) => self.shared.asked(current, heard),
                    State::Withdrawn(text) | State::Failed(text) => return Err(HttpError::no_connection(text)),
                }
            }
            let mut changes = self.changes();
            loop {
                if let Some(answer) = answer(&self.shared.known().state) {
                    return answer;
                }
                // This value owns the sender, so it is not dropped.
                let _ = changes.changed().await;
            }
        })
    }
}

/// Returns the answer to a fetch, or `None` before the first message.
fn answer(state: &State) -> Option<Result<Response<Bytes>, HttpError>> {
    match state {
        State::Waiting => None,
        State::Current(keys) => Some(Ok(Response::new(keys.clone()))),
        State::Withdrawn(text) => Some(Err(HttpError::withdrawn(text.as_str()))),
        State::Failed(text) => Some(Err(HttpError::no_connection(text.as_str()))),
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores what the stream has sent, or why it ended.
    fn set(&self, state: State) {
        let mut known = self.known();
        known.heard = known.heard.wrapping_add(1);
        self.replace(known, state);
    }

    /// Stores the answer to a question, unless the stream was heard since it was asked, `heard` times before: that is newer.
    fn asked(&self, state: State, heard: u64) {
        let known = self.known();
        if known.heard == heard {
            self.replace(known, state);
        }
    }

    fn replace(&self, mut known: MutexGuard<'_, Known>, state: State) {
        let has_changed = known.state != state;
        known.state = state;
        drop(known);
        if has_changed {
            self.changes.send_replace(());
        }
    }
}

impl Source {
    /// Asks for the bundle on a stream of its own.
    async fn ask(&self) -> State {
        let first = async {
            let mut stream = self.api.jwt_bundles().await?;
            stream.next().await.map_err(|error| self.api.named(error))
        };
        first.await.map_or_else(|error| failed(&error), |bundles| self.read(&bundles))
    }

    /// Reads the bundle of the trust domain from a message.
    fn read(&self, bundles: &HashMap<String, Bytes>) -> State {
        let domain = &self.trust_domain;
        let Some(bundle) = bundles.get(domain) else {
            let text = format!(
                "the Workload API has no bundle of `{domain}`, only of {} other trust domains; federate with it at the SPIFFE \
                 server, or correct its name here",
                bundles.len()
            );
            return State::Withdrawn(text);
        };
        match spiffe_bundle::streamed_keys(bundle) {
            Ok(StreamedKeys::Some(keys)) => State::Current(keys.into()),
            Ok(StreamedKeys::None) => {
                State::Withdrawn(format!("the bundle of `{domain}` at the Workload API is empty"))
            }
            Err(why) => State::Failed(format!("the bundle of `{domain}` at the Workload API: {why}")),
        }
    }
}

fn failed(error: &WorkloadApiError) -> State {
    let text = error.to_string();
    if error.is_denied { State::Withdrawn(text) } else { State::Failed(text) }
}

/// Follows the stream, and connects again when it ends.
async fn follow(source: Source, shared: Arc<Shared>, random: Arc<dyn Random>) {
    let mut failures = 0_u32;
    loop {
        let started = Instant::now();
        let error = follow_once(&source, &shared).await;
        shared.set(failed(&source.api.named(error)));
        failures = if started.elapsed() >= HEALTHY { 0 } else { failures.saturating_add(1) };
        sleep(pause(failures, &*random)).await;
    }
}

/// Returns the pause before the next attempt: none after a healthy stream, then 1 s, 2 s, … 30 s, minus up to half of it.
fn pause(failures: u32, random: &dyn Random) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
    let seconds = 1_u64.checked_shl(doublings).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
    let mut byte = [u8::MAX / 2];
    let _ = random.fill(&mut byte);
    let [byte] = byte;
    Duration::from_secs(seconds).mul_f64(0.5 + f64::from(byte) / 510.0)
}

async fn follow_once(source: &Source, shared: &Shared) -> WorkloadApiError {
    let mut stream = match source.api.jwt_bundles().await {
        Ok(stream) => stream,
        Err(error) => return error,
    };
    loop {
        match stream.next().await {
            Ok(bundles) => shared.set(source.read(&bundles)),
            Err(error) => return error,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::pause;
    use crate::crypto::{Random, RandomError};

    #[derive(Debug)]
    struct Always(u8);

    impl Random for Always {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
            bytes.fill(self.0);
            Ok(())
        }
    }

    #[test]
    fn a_healthy_stream_is_replaced_at_once_and_the_pause_after_failures_grows_to_30_seconds() {
        let pauses = |random| [0, 1, 2, 5, 6, 64, u32::MAX].map(|failures| pause(failures, &Always(random)));
        let (longest, shortest) = (pauses(255), pauses(0));
        assert_eq!(longest.map(|pause| pause.as_secs()), [0, 1, 2, 16, 30, 30, 30]);
        assert_eq!(shortest, longest.map(|pause| pause / 2));
        assert_eq!(shortest.first(), Some(&Duration::ZERO));
    }
}
