//! Tells the operator what came of a request: a log line and an [`Event`].

use std::sync::Arc;

use http::Extensions;

use super::response::TokenResponse;
use crate::authorization_server::error::TokenError;
use crate::clock::Clock;
use crate::event::{Event, EventSender, Outcome};

#[derive(Debug)]
pub(in crate::authorization_server) struct Reporter {
    pub(in crate::authorization_server) events: Option<EventSender>,
    pub(in crate::authorization_server) clock: Arc<dyn Clock>,
}

impl Reporter {
    pub(super) fn report(&self, extensions: &Extensions, result: &Result<TokenResponse, TokenError>) {
        log(result);
        let Some(events) = &self.events else { return };
        let client_id = match result {
            Ok(response) => Some(response.grant().client().id()),
            Err(error) => error.client_id(),
        };
        events.send(Event {
            at: self.clock.now(),
            outcome: outcome(result),
            client_id: client_id.cloned(),
            extensions: extensions.clone(),
        });
    }
}

fn outcome(result: &Result<TokenResponse, TokenError>) -> Outcome {
    match result {
        Ok(response) => Outcome::Issued {
            token_id: response.token().id().to_owned(),
            scopes: response.grant().scopes().clone(),
            audiences: response.grant().audiences().to_vec(),
        },
        Err(error) if error.is_of_authentication() => Outcome::AuthenticationFailed(error.clone()),
        Err(error) if error.status().is_server_error() => Outcome::Unavailable(error.clone()),
        Err(error) => Outcome::Refused(error.clone()),
    }
}

fn log(result: &Result<TokenResponse, TokenError>) {
    match result {
        Ok(response) => {
            let (grant, token_id) = (response.grant(), response.token().id());
            tracing::debug!(client_id = %grant.client().id(), scope = %grant.scopes(), token_id, "issued an access token");
        }
        Err(error) => {
            let source = std::error::Error::source(error);
            if error.status().is_server_error() {
                tracing::error!(%error, source, "could not answer a token request");
            } else {
                tracing::info!(%error, source, "refused a token request");
            }
        }
    }
}
