//! Events about every decision, for audit logs, alerts and counters.
//!
//! 1. Each decision is one [`Event`]: issued, revoked, introspected, authentication failed, refused, unavailable;
//!    admitted, rejected, unavailable, and what a layer that [only
//!    reports](crate::BearerAuthLayer::dangerous_only_report) would reject; on the calling side, each request for a token
//!    and each refused token. There is no event if the caller hangs up
//!    before the decision, except for a wrong guess at a chosen secret. Nor is there an event for a request that an
//!    [optional](crate::BearerAuthLayer::optional) layer admits without a token.
//! 2. An event contains no secret and no token, only ids and reasons, and the extensions of its request. An outer layer
//!    can put an address or a request id there.
//! 3. No response waits for a receiver: if the [queue](channel) is full, events are dropped and
//!    [counted](EventReceiver::dropped).
//!
//! # Deployment caveat
//!
//! The client id of a failed authentication is unverified. Its length is bounded (255 printable ASCII characters), but
//! do not use it as a metric label.
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

mod audit_line;
mod audit_log;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::{Extensions, StatusCode};
use tokio::sync::mpsc;

pub use self::audit_log::{AuditLog, AuditLogHandle};

use crate::audience::Audience;
use crate::client_id::ClientId;
use crate::issuer::Issuer;
use crate::scope::Scopes;
use crate::text::Text;

/// A decision.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// The time, by the clock of the server or verifier.
    pub at: SystemTime,
    /// The result of the decision.
    pub outcome: Outcome,
    /// The client. It was authenticated if the outcome is `Issued`, `OldSecretUsed`, `AudienceParameterIgnored`,
    /// `Revoked`, `Introspected` or `Admitted`. On the calling side it is the own id. Otherwise it is the id that the caller
    /// claimed, if any.
    pub client_id: Option<ClientId>,
    /// The extensions of the request. Empty on the calling side, where a request for a token belongs to several calls.
    pub extensions: Extensions,
}

/// The result of a decision.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The token endpoint issued a token.
    #[non_exhaustive]
    Issued {
        /// The id of the token (`jti`).
        token_id: String,
        /// The `kid` of the key that signed it.
        key_id: String,
        /// The scopes of the token.
        scopes: Scopes,
        /// The audiences of the token.
        audiences: Vec<Audience>,
        /// The credential by which the client authenticated.
        credential: UsedCredential,
    },
    /// The revocation endpoint answered a request with success.
    #[non_exhaustive]
    Revoked {
        /// The id of the revoked token (`jti`). `None` if there was nothing to revoke: the token had expired, belonged
        /// to another client, or was invalid.
        token_id: Option<String>,
        /// The credential by which the client authenticated.
        credential: UsedCredential,
    },
    /// The introspection endpoint answered a request with success.
    #[non_exhaustive]
    Introspected {
        /// The id of the token (`jti`). `None` if the token is not active.
        token_id: Option<String>,
        /// The credential by which the client authenticated.
        credential: UsedCredential,
    },
    /// The token, revocation or introspection endpoint could not authenticate the client.
    AuthenticationFailed(Failure),
    /// The token, revocation or introspection endpoint refused a request for a reason other than authentication.
    Refused(Failure),
    /// The token, revocation or introspection endpoint could not decide: a part that it needs did not answer, or was at
    /// its limit.
    Unavailable(Failure),
    /// A client authenticated with a secret that it should have replaced by a newer one. Sent in addition to the
    /// decision, once an hour for each secret.
    #[non_exhaustive]
    OldSecretUsed {
        /// The label of the secret that the client used.
        label: String,
        /// The label of a newer secret that is valid, too.
        newer: String,
    },
    /// A client authenticated with an assertion that is accepted only because of
    /// [`Client::legacy_assertions_until`](crate::Client::legacy_assertions_until). Sent in addition to the decision, for
    /// each use.
    #[non_exhaustive]
    LegacyAssertionUsed {
        /// The claim that differs from the rules: `aud`, the URL of the token endpoint, or `exp`, too far ahead.
        claim: &'static str,
        /// The time from which such an assertion is refused.
        until: SystemTime,
    },
    /// A client authenticated as the `default` service account of a Kubernetes namespace, which every pod has that names no
    /// other. Sent in addition to the decision, once an hour for each client.
    DefaultServiceAccountUsed,
    /// A client that was read from a store lists scopes or audiences that the server does not know, or can get no
    /// audience. It gets only what the server knows; see [`ClientRules`](crate::registration::ClientRules). Sent in
    /// addition to the decision, once an hour, without the extensions of the request.
    #[non_exhaustive]
    InvalidRegistration {
        /// The client, each invalid field with its value, and how to fix it.
        reason: String,
    },
    /// The revocation store lost writes that it had acknowledged, for example by a failover, a restore from an older
    /// copy, or because the server was emptied. This process still refuses all tokens that it knows to be revoked, and
    /// writes the revocations to the store again. Processes that start later know only what the store has. The clients
    /// may be in the state before the lost writes. Sent at most once a minute, without a client and without extensions.
    #[non_exhaustive]
    StoreLostData {
        /// How the loss was detected.
        reason: String,
    },
    /// A key of a [managed ring](crate::keys::rotation) took a step. Sent by the replica that took it, without a client and
    /// without extensions.
    #[non_exhaustive]
    KeyRingChanged {
        /// The `kid`.
        key_id: String,
        /// The new state: `published`, `signing`, `retired` or `distrusted`; or `removed`.
        step: &'static str,
    },
    /// A [managed ring](crate::keys::rotation) in its store was altered, restored from an older copy, or cannot be read. What is
    /// not authentic is not used. Sent once for each reason, without a client and without extensions.
    #[non_exhaustive]
    KeyRingRefused {
        /// How it was detected.
        reason: String,
    },
    /// An [`AuditLog`] cannot be written. Events wait in its queue, and are lost when that is full. Sent once for each failure,
    /// without a client and without extensions.
    #[non_exhaustive]
    AuditLogFailed {
        /// The file and the error.
        reason: String,
    },
    /// An authenticated client sent the parameter `audience`, which has no effect without
    /// [`accept_audience_parameter`](crate::authorization_server::AuthorizationServerBuilder::accept_audience_parameter).
    /// Sent in addition to the decision, once an hour for each client.
    AudienceParameterIgnored,
    /// A protected route admitted a request.
    #[non_exhaustive]
    Admitted {
        /// The id of the token (`jti`).
        token_id: String,
    },
    /// A protected route admitted a request by an [API key](crate::resource_server::ApiKeys) of the client, without a token.
    AdmittedByApiKey,
    /// A protected route rejected a request.
    Rejected(Failure),
    /// A protected route could not decide about a request, because a part that it needs did not answer.
    VerificationUnavailable(Failure),
    /// A protected route that [only reports](crate::BearerAuthLayer::dangerous_only_report) admitted a request that it
    /// would reject otherwise.
    WouldReject(Failure),
    /// An administrator changed a client through the [administration API](crate::administration). The event's client is the
    /// administrator.
    #[non_exhaustive]
    ClientAdministered {
        /// The operation: `create`, `update`, `delete`, `add_secret`, `add_credential`, `remove_credential`, `disable`, `enable`,
        /// `revoke_tokens` or `refresh_keys`.
        operation: &'static str,
        /// The client that was changed.
        client: ClientId,
        /// The id of the administrator's token (`jti`). The event [`Issued`](Self::Issued) with this id has the credential by
        /// which the administrator authenticated.
        token_id: String,
    },
    /// An administrator requested a change through the [administration API](crate::administration), which was not made. If the
    /// store did not answer (`temporarily_unavailable`), it may have been made. The event's client is the administrator.
    #[non_exhaustive]
    AdministrationRefused {
        /// The requested operation; see [`ClientAdministered`](Self::ClientAdministered).
        operation: &'static str,
        /// The client that was to be changed, if it is known.
        client: Option<ClientId>,
        /// The id of the administrator's token (`jti`).
        token_id: String,
        /// The reason, with an [`AdministrationRefusal`](crate::administration::AdministrationRefusal).
        failure: Failure,
    },
    /// The calling side obtained a token.
    #[non_exhaustive]
    TokenObtained {
        /// The issuer of the token.
        issuer: Issuer,
        /// The requested scopes.
        scopes: Scopes,
        /// The end of the token by the clock of the calling side. `None` if the issuer named none.
        expires_at: Option<SystemTime>,
        /// The number of calls that waited for the token. 0 for a refresh ahead of the end.
        waiting: usize,
        /// How long the request for the token took, discovery included.
        duration: Duration,
    },
    /// The calling side requested a token and got none.
    #[non_exhaustive]
    TokenNotObtained {
        /// The issuer that was asked.
        issuer: Issuer,
        /// The requested scopes.
        scopes: Scopes,
        /// The reason, which is a [`TokenSourceErrorKind`](crate::client::TokenSourceErrorKind::name), and the
        /// [error](crate::client::TokenSourceError).
        failure: Failure,
        /// The number of calls that waited for the token.
        waiting: usize,
        /// How long the request for the token took, discovery included.
        duration: Duration,
    },
    /// A resource server refused a token of the calling side, which is replaced.
    #[non_exhaustive]
    ObtainedTokenRefused {
        /// The issuer of the token.
        issuer: Issuer,
        /// Whether the resource server said that the token is invalid (`invalid_token`, RFC 6750 §3.1).
        explained: bool,
    },
}

impl Outcome {
    /// Returns a stable name of the outcome, such as `authentication_failed`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Issued { .. } => "issued",
            Self::Revoked { .. } => "revoked",
            Self::Introspected { .. } => "introspected",
            Self::AuthenticationFailed(_) => "authentication_failed",
            Self::Refused(_) => "refused",
            Self::Unavailable(_) => "unavailable",
            Self::OldSecretUsed { .. } => "old_secret_used",
            Self::LegacyAssertionUsed { .. } => "legacy_assertion_used",
            Self::DefaultServiceAccountUsed => "default_service_account_used",
            Self::InvalidRegistration { .. } => "invalid_registration",
            Self::StoreLostData { .. } => "store_lost_data",
            Self::KeyRingChanged { .. } => "key_ring_changed",
            Self::KeyRingRefused { .. } => "key_ring_refused",
            Self::AuditLogFailed { .. } => "audit_log_failed",
            Self::AudienceParameterIgnored => "audience_parameter_ignored",
            Self::Admitted { .. } => "admitted",
            Self::AdmittedByApiKey => "admitted_by_api_key",
            Self::Rejected(_) => "rejected",
            Self::VerificationUnavailable(_) => "verification_unavailable",
            Self::WouldReject(_) => "would_reject",
            Self::ClientAdministered { .. } => "client_administered",
            Self::AdministrationRefused { .. } => "administration_refused",
            Self::TokenObtained { .. } => "token_obtained",
            Self::TokenNotObtained { .. } => "token_not_obtained",
            Self::ObtainedTokenRefused { .. } => "obtained_token_refused",
        }
    }
}

/// The credential by which a client authenticated. It shows whether an old credential is still in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedCredential {
    method: &'static str,
    label: Text,
}

impl UsedCredential {
    pub(crate) fn new(method: &'static str, label: Text) -> Self {
        Self { method, label }
    }

    /// Returns the registered name of the authentication method, such as `client_secret_basic`.
    #[must_use]
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// Returns the label of the credential in the registration of the client.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }
}

/// The reason why a request was not successful.
///
/// Its `Display` and [`source`](Error::source) are for the operator: they say more than the caller learns, and never
/// contain a secret. The error itself, a [`TokenError`](crate::authorization_server::TokenError) or a
/// [`BearerError`](crate::resource_server::BearerError), is available with [`downcast_ref`](Self::downcast_ref).
///
/// ```
/// use tower_client_credentials::event::{Event, Outcome};
/// use tower_client_credentials::resource_server::BearerError;
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

    /// Returns a stable code: that of [`TokenErrorKind`](crate::authorization_server::TokenErrorKind), of
    /// [`BearerError::reason`](crate::resource_server::BearerError::reason) or of
    /// [`TokenSourceErrorKind::name`](crate::client::TokenSourceErrorKind::name).
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// Returns the HTTP status of the response. A gRPC call gets the corresponding gRPC status. The calling side sends no
    /// response; its failures have 503, the status of a service that cannot work without the token.
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

/// The default capacity of the queue.
const QUEUED: usize = 1_024;

const MAX_QUEUED: usize = 1_000_000;

/// Creates a queue of 1,024 events. Pass the sender to servers and layers, and receive the events in your own task.
#[must_use]
pub fn channel() -> (EventSender, EventReceiver) {
    channel_with_capacity(QUEUED)
}

/// Creates a queue with another capacity, from 1 to 1,000,000 events.
#[must_use]
pub fn channel_with_capacity(events: usize) -> (EventSender, EventReceiver) {
    let (sender, receiver) = mpsc::channel(events.clamp(1, MAX_QUEUED));
    let counts = Arc::<Counts>::default();
    (EventSender { sender, counts: counts.clone() }, EventReceiver { receiver, counts })
}

/// The events of a queue.
#[derive(Debug, Default)]
struct Counts {
    queued: AtomicU64,
    dropped: AtomicU64,
}

/// The sending half of a queue of events. A clone sends to the same queue.
#[derive(Clone, Debug)]
pub struct EventSender {
    sender: mpsc::Sender<Event>,
    counts: Arc<Counts>,
}

impl EventSender {
    /// Returns whether both send to the same queue.
    pub(crate) fn ptr_eq(&self, other: &Self) -> bool {
        self.sender.same_channel(&other.sender)
    }

    /// Returns whether the receiver was dropped.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Queues the event, or drops and counts it if the queue is full. Never waits.
    pub(crate) fn send(&self, event: Event) {
        let count = if self.sender.try_send(event).is_ok() { &self.counts.queued } else { &self.counts.dropped };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of events that were queued.
    fn sent(&self) -> u64 {
        self.counts.queued.load(Ordering::Relaxed)
    }

    fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }
}

/// The receiving half of a queue of events.
#[derive(Debug)]
pub struct EventReceiver {
    receiver: mpsc::Receiver<Event>,
    counts: Arc<Counts>,
}

impl EventReceiver {
    /// Waits for the next event. Returns `None` after all senders were dropped.
    pub async fn recv(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }

    /// Returns the next event, if there is one.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.receiver.try_recv().ok()
    }

    /// Returns the number of events that were dropped because the queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }

    fn blocking_recv(&mut self) -> Option<Event> {
        self.receiver.blocking_recv()
    }

    /// Returns whether all senders were dropped.
    fn is_closed(&self) -> bool {
        self.receiver.is_closed()
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
    fn a_full_queue_drops_and_counts_events_and_never_waits() {
        let (sender, mut receiver) = channel_with_capacity(2);
        (0..5).for_each(|_| sender.send(event()));
        assert_eq!(receiver.dropped(), 3);
        assert!(receiver.try_recv().is_some() && receiver.try_recv().is_some());
        assert!(receiver.try_recv().is_none());
    }
}
