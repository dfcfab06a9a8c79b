//! [`Audit`]: reports to the operator what no response contains, as a log line and an [`Event`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::Extensions;

use crate::authorization_server::error::{Fault, TokenError};
use crate::client_id::ClientId;
use crate::clock::{Clock, UnixTime};
use crate::event::{Event, EventSender, Outcome};
use crate::metrics;
use crate::registration::{ClientRules, RegisteredClient};
use crate::sync::BoundedMap;

/// The interval in which the same notice about a client is reported once. A client may request tokens all day.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// The number of notices that are remembered.
const REMEMBERED: usize = 10_000;

/// A notice, which is reported at most once per [`EVERY`] for each client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Notice {
    OldSecret(String),
    DefaultAccount,
    AudienceParameter,
    InvalidRegistration(String),
}

#[derive(Debug)]
pub(crate) struct Audit {
    events: Option<EventSender>,
    clock: Arc<dyn Clock>,
    told: Mutex<BoundedMap<(ClientId, Notice), SystemTime>>,
}

impl Audit {
    pub(crate) fn new(events: Option<EventSender>, clock: Arc<dyn Clock>) -> Self {
        Self { events, clock, told: Mutex::new(BoundedMap::new(REMEMBERED)) }
    }

    /// Reports that the client authenticated with an old secret although it has a newer one. `secret` is the position
    /// of the one that it used.
    pub(super) fn authenticated_with(&self, client: &RegisteredClient, secret: usize, extensions: &Extensions) {
        if client.secrets().len() < 2 {
            return;
        }
        let now = self.clock.now();
        let Some((old, newer)) = client.superseded(secret, UnixTime::at(now)) else { return };
        if !self.is_news(client.id(), Notice::OldSecret(old.label().to_owned()), now) {
            return;
        }
        tracing::warn!(oauth.client_id = %client.id(), secret = old.label(), newer = newer.label(), "a client still uses an old secret");
        let outcome = Outcome::OldSecretUsed { label: old.label().to_owned(), newer: newer.label().to_owned() };
        self.send(outcome, client.id(), extensions);
    }

    /// Reports each use of an allowance for older assertions, so that the clients that still need it can be listed.
    pub(super) fn legacy_assertion(
        &self,
        client: &ClientId,
        claim: &'static str,
        until: UnixTime,
        extensions: &Extensions,
    ) {
        metrics::legacy_assertion_used(claim);
        let until = until.to_system();
        tracing::warn!(oauth.client_id = %client, claim, ?until, "a client sent an assertion that is accepted only until this time");
        self.send(Outcome::LegacyAssertionUsed { claim, until }, client, extensions);
    }

    /// Reports that a client authenticated as the `default` account of a namespace, which every pod has that names no
    /// other.
    pub(super) fn default_account(&self, client: &RegisteredClient, extensions: &Extensions) {
        if !self.is_news(client.id(), Notice::DefaultAccount, self.clock.now()) {
            return;
        }
        tracing::warn!(oauth.client_id = %client.id(), "a client authenticates as the `default` service account of a namespace, \
             which every pod has that names no other; give its pods an account of their own");
        self.send(Outcome::DefaultServiceAccountUsed, client.id(), extensions);
    }

    /// Reports that a client sent the parameter `audience`, which has no effect.
    #[cold]
    pub(crate) fn ignored_audience(&self, client: &RegisteredClient, extensions: &Extensions) {
        if !self.is_news(client.id(), Notice::AudienceParameter, self.clock.now()) {
            return;
        }
        tracing::warn!(
            oauth.client_id = %client.id(),
            "ignored the parameter `audience` of a token request; send `resource` instead, or accept it with \
             .accept_audience_parameter()"
        );
        self.send(Outcome::AudienceParameterIgnored, client.id(), extensions);
    }

    /// Reports a client from a store that does not validate its clients, if it is invalid under the settings of the
    /// server.
    pub(crate) fn registered(&self, client: &RegisteredClient, rules: &ClientRules) {
        let Err(error) = rules.check_stored(client) else { return };
        let reason = error.to_string();
        if self.is_news(client.id(), Notice::InvalidRegistration(reason.clone()), self.clock.now()) {
            tracing::warn!(oauth.client_id = %client.id(), %error, "a client's registration is invalid under the settings of the server");
            self.send(Outcome::InvalidRegistration { reason }, client.id(), &Extensions::new());
        }
    }

    fn is_news(&self, client: &ClientId, notice: Notice, now: SystemTime) -> bool {
        let key = (client.clone(), notice);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = told.get(&key).is_none_or(|at| now.duration_since(*at).map_or(true, |age| age >= EVERY));
        if is_news {
            told.insert(key, now);
        }
        is_news
    }

    /// Reports a wrong secret that was checked and counted, but whose caller hung up before the response.
    pub(super) fn wrong_secret_after_hangup(&self, client: &ClientId, extensions: &Extensions) {
        let error = TokenError::new(Fault::CLIENT).of(client);
        let error =
            error.detailed("the secret is wrong or may not be used, and the caller hung up before the response");
        tracing::info!(%error, "refused a token request");
        self.send(Outcome::AuthenticationFailed(error.into()), client, extensions);
    }

    fn send(&self, outcome: Outcome, client: &ClientId, extensions: &Extensions) {
        let Some(events) = &self.events else { return };
        let (at, client_id) = (self.clock.now(), Some(client.clone()));
        events.send(Event { at, outcome, client_id, extensions: extensions.clone() });
    }
}
