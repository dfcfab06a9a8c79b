//! Reports each request of an administrator to the operator: a log line, a metric, and an event for each change.

use http::Extensions;

use super::{AdministrationRefusal, Inner};
use crate::client_id::ClientId;
use crate::event::{Event, Outcome};
use crate::metrics;
use crate::verification::VerifiedToken;

/// Who did what to which client.
pub(super) struct Report<'a> {
    pub(super) operation: &'static str,
    pub(super) is_change: bool,
    pub(super) client: Option<&'a ClientId>,
    pub(super) token: &'a VerifiedToken,
    pub(super) extensions: &'a Extensions,
}

impl Inner {
    pub(super) fn report(&self, of: &Report<'_>, result: Result<(), &AdministrationRefusal>) {
        let (operation, administrator, token_id) = (of.operation, of.token.client_id(), of.token.token_id());
        let client = of.client.map(ClientId::as_str).unwrap_or_default();
        let was_made = of.is_change && result.err().is_none_or(AdministrationRefusal::was_made);
        if was_made {
            tracing::info!(operation, client, %administrator, token_id, "an administrator changed a client");
        }
        match result {
            Ok(()) => metrics::administered(operation, "done", ""),
            Err(refusal) if refusal.status().is_server_error() => {
                metrics::administered(operation, "unavailable", refusal.code());
                let cause = refusal.internal().unwrap_or_default();
                tracing::error!(operation, client, %administrator, %refusal, cause, "could not answer an administrator");
            }
            Err(refusal) => {
                metrics::administered(operation, "refused", refusal.code());
                tracing::info!(operation, client, %administrator, token_id, %refusal, "refused a request of an administrator");
            }
        }
        let Some(events) = self.server.events.as_ref().filter(|_| of.is_change) else { return };
        let (client, token_id) = (of.client.cloned(), token_id.to_owned());
        let outcome = match (result, client) {
            (_, Some(client)) if was_made => Outcome::ClientAdministered { operation, client, token_id },
            (Ok(()), _) => return,
            (Err(refusal), client) => {
                Outcome::AdministrationRefused { operation, client, token_id, failure: refusal.clone().into() }
            }
        };
        events.send(Event {
            at: self.server.clock.now(),
            outcome,
            client_id: Some(administrator.clone()),
            extensions: of.extensions.clone(),
        });
    }
}
