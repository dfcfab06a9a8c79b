//! What the operator should know of an authentication, and no answer tells: a log line and an [`Event`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::Extensions;

use crate::authorization_server::error::{Fault, TokenError};
use crate::client_id::ClientId;
use crate::clock::{Clock, UnixTime};
use crate::event::{Event, EventSender, Outcome};
use crate::registration::{ClientRules, RegisteredClient};
use crate::sync::BoundedMap;

/// The same notice of a client is given once in this time: it may ask for tokens all day.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// How many notices are remembered.
const REMEMBERED: usize = 10_000;

#[derive(Debug)]
pub(in crate::authorization_server) struct Notices {
    events: Option<EventSender>,
    clock: Arc<dyn Clock>,
    told: Mutex<BoundedMap<(ClientId, String), SystemTime>>,
}

impl Notices {
    pub(in crate::authorization_server) fn new(events: Option<EventSender>, clock: Arc<dyn Clock>) -> Self {
        Self { events, clock, told: Mutex::new(BoundedMap::new(REMEMBERED)) }
    }

    /// The client proved itself by the secret at this place; a newer one should have taken over.
    pub(super) fn proven_by(&self, client: &RegisteredClient, secret: usize, extensions: &Extensions) {
        if client.secrets().len() < 2 {
            return;
        }
        let now = self.clock.now();
        let Some((old, newer)) = client.superseded(secret, UnixTime::at(now)) else { return };
        if !self.is_news(client.id(), old.label(), now) {
            return;
        }
        tracing::warn!(oauth.client_id = %client.id(), secret = old.label(), newer = newer.label(), "an old secret is still used");
        let outcome = Outcome::OldSecretUsed { label: old.label().to_owned(), newer: newer.label().to_owned() };
        self.send(outcome, client.id(), extensions);
    }

    /// A client was read from a store that does not check it itself.
    pub(in crate::authorization_server) fn registered(&self, client: &RegisteredClient, rules: &ClientRules) {
        let Err(error) = rules.check(client) else { return };
        let reason = error.to_string();
        if self.is_news(client.id(), &reason, self.clock.now()) {
            tracing::warn!(oauth.client_id = %client.id(), %error, "a registration does not fit the settings of the server");
            self.send(Outcome::InvalidRegistration { reason }, client.id(), &Extensions::new());
        }
    }

    fn is_news(&self, client: &ClientId, notice: &str, now: SystemTime) -> bool {
        let key = (client.clone(), notice.to_owned());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = told.get(&key).is_none_or(|at| now.duration_since(*at).map_or(true, |age| age >= EVERY));
        if is_news {
            told.insert(key, now);
        }
        is_news
    }

    /// A guess that was checked, and counted, though its caller did not wait for the answer.
    pub(super) fn wrong_and_gone(&self, client: &ClientId, extensions: &Extensions) {
        let error = TokenError::new(Fault::CLIENT).of(client);
        let error = error.detailed("it may not have a token by this secret, and the caller hung up before it was told");
        tracing::info!(%error, "refused a token request");
        self.send(Outcome::AuthenticationFailed(error.into()), client, extensions);
    }

    fn send(&self, outcome: Outcome, client: &ClientId, extensions: &Extensions) {
        let Some(events) = &self.events else { return };
        let (at, client_id) = (self.clock.now(), Some(client.clone()));
        events.send(Event { at, outcome, client_id, extensions: extensions.clone() });
    }
}
