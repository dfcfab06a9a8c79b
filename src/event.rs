//! Events: what happened to whom, for audit logs, alarms and counters.
//!
//! 1. Every decision is an [`Event`]: issued, revoked, introspected, authentication failed, refused, unavailable; admitted,
//!    rejected, undecided, and what a layer that [only reports](crate::BearerAuthLayer::dangerous_only_report) would reject.
//!    A request whose caller hangs up before the decision has none, unless it guessed wrong at a chosen secret; nor has
//!    one that an [optional](crate::BearerAuthLayer::optional) layer lets through without a token.
//! 2. An event carries no secret and no token, only names and reasons, and the extensions of its request, where a
//!    layer outside can leave an address or a request id.
//! 3. No answer waits for a listener: events that find the [queue](channel) full are dropped, and
//!    [counted](EventReceiver::dropped).
//!
//! # Deployment caveat
//!
//! The client id of a failed authentication is what the caller claimed. It is bounded (255 printable ASCII
//! characters), but do not make a metric label of it.
//!
//! # Example
//!
//! ```
//! use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore, event};
//!
//! let (events, mut listener) = event::channel();
//! let server = AuthorizationServer::builder("https://auth.example.com", KeyRing::generate()?, MemoryStore::default())
//!     .events(events)
//!     .build()?;
//!
//! let audit = async move {
//!     while let Some(event) = listener.recv().await {
//!         println!("{:?} by {:?}", event.outcome, event.client_id);
//!     }
//! };
//! # drop(audit);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use http::{Extensions, StatusCode};
use tokio::sync::mpsc;

use crate::audience::Audience;
use crate::client_id::ClientId;
use crate::scope::Scopes;

/// Something that was decided.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// When, by the clock of the server or verifier.
    pub at: SystemTime,
    /// What was decided.
    pub outcome: Outcome,
    /// Who asked: proven where the outcome is `Issued`, `OldSecretUsed`, `AudienceParameterIgnored`, `Revoked`, `Introspected` or
    /// `Admitted`, else what the caller claimed, if anything.
    pub client_id: Option<ClientId>,
    /// The extensions of the request.
    pub extensions: Extensions,
}

/// What was decided.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The token endpoint issued a token.
    #[non_exhaustive]
    Issued {
        /// Its name (`jti`).
        token_id: String,
        /// What it may do.
        scopes: Scopes,
        /// Which APIs it is for.
        audiences: Vec<Audience>,
    },
    /// The revocation endpoint did as it was asked, by the token's owner.
    #[non_exhaustive]
    Revoked {
        /// The name of the token (`jti`). `None` when there was nothing to revoke: it had expired, was another client's,
        /// or no token at all.
        token_id: Option<String>,
    },
    /// The introspection endpoint told what a token says.
    #[non_exhaustive]
    Introspected {
        /// The name of the token (`jti`). `None` when the answer was that it is not active.
        token_id: Option<String>,
    },
    /// The token endpoint, or one of those beside it, could not tell who asked.
    AuthenticationFailed(Failure),
    /// The token endpoint, or one of those beside it, knew who asked, or did not need to, and refused.
    Refused(Failure),
    /// The token endpoint, or one of those beside it, could not decide: a part that it needs did not answer, or had no place left.
    Unavailable(Failure),
    /// A client proved itself by a secret that a newer one should have replaced. Told beside what was decided, and once
    /// an hour of each secret.
    #[non_exhaustive]
    OldSecretUsed {
        /// The label of the secret that was shown.
        label: String,
        /// The label of a newer one that is good, too.
        newer: String,
    },
    /// A client that was read from a store lists scopes or audiences that the server does not know, or can get no audience.
    /// It gets only those that the server knows; see [`ClientRules`](crate::ClientRules). Sent once an hour, in addition to
    /// the outcome of the request, and without the request's extensions.
    #[non_exhaustive]
    InvalidRegistration {
        /// The client, each field with its value, and how to fix it.
        reason: String,
    },
    /// The store of the revocations lost writes that it had acknowledged: a failover, a restore from an older copy, or a
    /// server that was emptied. This process still refuses the tokens that it knows to be revoked, and writes the revocations to the store again.
    /// Processes that start later know only what the store has. Clients may be as they were before the lost writes. Sent at
    /// most once a minute, without a client and without extensions.
    #[non_exhaustive]
    StoreLostData {
        /// What shows it.
        reason: String,
    },
    /// An authenticated client sent the parameter `audience`, which has no effect without
    /// [`accept_audience_parameter`](crate::AuthorizationServerBuilder::accept_audience_parameter). Reported in addition to
    /// the decision, and once an hour for each client.
    AudienceParameterIgnored,
    /// A protected route let a request through.
    #[non_exhaustive]
    Admitted {
        /// The name of its token (`jti`).
        token_id: String,
    },
    /// A protected route did not let a request through.
    Rejected(Failure),
    /// A protected route could not decide over a request: a part that it needs did not answer.
    Undecided(Failure),
    /// A protected route that [only reports](crate::BearerAuthLayer::dangerous_only_report) let a request through, which it
    /// would not have otherwise.
    WouldReject(Failure),
}

/// Why a request did not get what it asked for.
///
/// Its `Display` and [`source`](Error::source) are the text for the operator, which says more than the caller was told and never a
/// secret. The error itself, a [`TokenError`](crate::TokenError) or a [`BearerError`](crate::BearerError), is available by
/// [`downcast_ref`](Self::downcast_ref).
///
/// ```
/// use tower_client_credentials::BearerError;
/// use tower_client_credentials::event::{Event, Outcome};
///
/// fn lacks_scope(event: &Event) -> bool {
///     let Outcome::Rejected(failure) = &event.outcome else { return false };
///     matches!(failure.downcast_ref(), Some(BearerError::InsufficientScope { .. }))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Failure {
    reason: &'static str,
    status: StatusCode,
    error: Arc<dyn Error + Send + Sync>,
}

impl Failure {
    pub(crate) fn new(reason: &'static str, status: StatusCode, error: impl Error + Send + Sync + 'static) -> Self {
        Self { reason, status, error: Arc::new(error) }
    }

    /// Returns one word for it, which never changes: the code of [`TokenErrorKind`](crate::TokenErrorKind), or that of
    /// [`BearerError::reason`](crate::BearerError::reason).
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// Returns the HTTP status of the answer. A gRPC call gets the gRPC status that corresponds to it.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the error, if it is of this type.
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        let error: &(dyn Error + 'static) = &*self.error;
        error.downcast_ref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// How many events wait for a listener, unless told otherwise.
const QUEUED: usize = 1_024;

const MOST_QUEUED: usize = 1_000_000;

/// A queue of 1,024 events: the sender goes into servers and layers, the receiver to a task of yours.
#[must_use]
pub fn channel() -> (EventSender, EventReceiver) {
    channel_with_capacity(QUEUED)
}

/// A queue of another length, from 1 to 1,000,000.
#[must_use]
pub fn channel_with_capacity(events: usize) -> (EventSender, EventReceiver) {
    let (sender, receiver) = mpsc::channel(events.clamp(1, MOST_QUEUED));
    let dropped = Arc::new(AtomicU64::new(0));
    (EventSender { sender, dropped: dropped.clone() }, EventReceiver { receiver, dropped })
}

/// Where events go; a clone goes to the same place.
#[derive(Clone, Debug)]
pub struct EventSender {
    sender: mpsc::Sender<Event>,
    dropped: Arc<AtomicU64>,
}

impl EventSender {
    /// Returns whether both go to the same place.
    pub(crate) fn ptr_eq(&self, other: &Self) -> bool {
        self.sender.same_channel(&other.sender)
    }

    /// Returns whether the receiver is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Queues the event, or drops and counts it. Never waits.
    pub(crate) fn send(&self, event: Event) {
        if self.sender.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Where events arrive.
#[derive(Debug)]
pub struct EventReceiver {
    receiver: mpsc::Receiver<Event>,
    dropped: Arc<AtomicU64>,
}

impl EventReceiver {
    /// The next event; `None` once every sender is gone.
    pub async fn recv(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }

    /// The next event if there is one.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.receiver.try_recv().ok()
    }

    /// How many events found the queue full, and were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::{Event, Outcome, channel_with_capacity};

    fn event() -> Event {
        let outcome = Outcome::Admitted { token_id: "t".to_owned() };
        Event { at: SystemTime::UNIX_EPOCH, outcome, client_id: None, extensions: http::Extensions::new() }
    }

    #[test]
    fn a_full_queue_drops_and_counts_and_never_waits() {
        let (sender, mut receiver) = channel_with_capacity(2);
        (0..5).for_each(|_| sender.send(event()));
        assert_eq!(receiver.dropped(), 3);
        assert!(receiver.try_recv().is_some() && receiver.try_recv().is_some());
        assert!(receiver.try_recv().is_none());
    }
}
