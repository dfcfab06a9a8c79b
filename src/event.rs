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
mod audit_target;
mod event_queue;
mod outcome;
mod outcome_failure;

use std::time::SystemTime;

use http::Extensions;

pub use self::audit_log::{AuditLog, AuditLogHandle};
use self::event_queue::QUEUED;
pub use self::event_queue::{EventReceiver, EventSender, channel, channel_with_capacity};
pub use self::outcome::{Outcome, UsedCredential};
pub use self::outcome_failure::Failure;
use crate::client_id::ClientId;

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
