//! [`Reporter`]: reports the outcome of a request to the operator, as a log line and an [`Event`].

use std::sync::Arc;

use http::Extensions;

use super::error::TokenError;
use crate::client_id::ClientId;
use crate::clock::Clock;
use crate::event::{Event, EventSender, Outcome};
use crate::{metrics, telemetry};

#[derive(Debug)]
pub(crate) struct Reporter {
    pub(crate) events: Option<EventSender>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Reporter {
    /// Reports that an endpoint did what a client requested. `outcome` is called only if something records it.
    pub(crate) fn done(
        &self,
        endpoint: &'static str,
        extensions: &Extensions,
        client_id: &ClientId,
        outcome: impl Fn() -> Outcome,
    ) {
        telemetry::decided(Some(client_id), None);
        metrics::endpoint_answered(endpoint, "done", "");
        tracing::debug!(endpoint, oauth.client_id = %client_id, outcome = ?outcome(), "answered a client");
        self.send(extensions, Some(client_id), outcome);
    }

    /// Reports that an endpoint refused a request, or could not answer it.
    pub(crate) fn failed(&self, endpoint: &'static str, extensions: &Extensions, error: &TokenError) {
        let source = std::error::Error::source(error);
        let code = error.kind().code();
        telemetry::decided(error.client_id(), Some(code));
        metrics::endpoint_answered(endpoint, error.outcome(), code);
        if error.is_short_wait() {
            tracing::info!(
                endpoint, %error, "error.type" = code, source,
                "a client has to wait for a few seconds, because its tokens were revoked a moment ago"
            );
        } else if error.status().is_server_error() {
            tracing::error!(endpoint, %error, "error.type" = code, source, "could not answer a client");
        } else {
            tracing::info!(endpoint, %error, "error.type" = code, source, "refused a client");
        }
        self.send(extensions, error.client_id(), || match error.clone() {
            error if error.is_authentication_failure() => Outcome::AuthenticationFailed(error.into()),
            error if error.status().is_server_error() => Outcome::Unavailable(error.into()),
            error => Outcome::Refused(error.into()),
        });
    }

    fn send(&self, extensions: &Extensions, client_id: Option<&ClientId>, outcome: impl Fn() -> Outcome) {
        let Some(events) = &self.events else { return };
        events.send(Event {
            at: self.clock.now(),
            outcome: outcome(),
            client_id: client_id.cloned(),
            extensions: extensions.clone(),
        });
    }
}
