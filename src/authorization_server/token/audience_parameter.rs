//! [`AudienceParameter`]: how the server handles the parameter `audience`, with which some clients name the resource.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::Extensions;

use crate::authorization_server::authenticate::AuthenticatedClient;
use crate::client_id::ClientId;
use crate::clock::Clock;
use crate::event::{Event, EventSender, Outcome};
use crate::sync::BoundedMap;

/// The interval in which an ignored parameter is reported once per client. A client may request tokens all day.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// The number of clients whose last report is remembered.
const REMEMBERED: usize = 10_000;

/// How the parameter is handled. By default it is ignored, as RFC 6749 §3.2 requires for unrecognized parameters, with
/// a warning. Optionally it is a synonym of `resource`.
#[derive(Debug)]
pub(in crate::authorization_server) enum AudienceParameter {
    Ignored(Warnings),
    Accepted,
}

/// Reports each client that sends the parameter although it is ignored.
#[derive(Debug)]
pub(in crate::authorization_server) struct Warnings {
    events: Option<EventSender>,
    clock: Arc<dyn Clock>,
    reported: Mutex<BoundedMap<ClientId, SystemTime>>,
}

impl AudienceParameter {
    pub(in crate::authorization_server) fn new(
        is_accepted: bool,
        events: Option<EventSender>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        if is_accepted {
            return Self::Accepted;
        }
        Self::Ignored(Warnings { events, clock, reported: Mutex::new(BoundedMap::new(REMEMBERED)) })
    }

    pub(super) fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted)
    }

    /// Warns that this client sent the parameter, which has no effect.
    #[cold]
    pub(super) fn was_sent_by(&self, client: &AuthenticatedClient, extensions: &Extensions) {
        let Self::Ignored(warnings) = self else { return };
        let now = warnings.clock.now();
        if !warnings.is_due(client.id(), now) {
            return;
        }
        tracing::warn!(
            oauth.client_id = %client.id(),
                "ignored the parameter `audience` of a token request; send `resource` instead, or accept it with \
                 .accept_audience_parameter()"
        );
        let Some(events) = &warnings.events else { return };
        let (outcome, client_id) = (Outcome::AudienceParameterIgnored, Some(client.id().clone()));
        events.send(Event { at: now, outcome, client_id, extensions: extensions.clone() });
    }
}

impl Warnings {
    fn is_due(&self, client: &ClientId, now: SystemTime) -> bool {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = reported.get(client).is_none_or(|at| now.duration_since(*at).map_or(true, |age| age >= EVERY));
        if is_due {
            reported.insert(client.clone(), now);
        }
        is_due
    }
}
