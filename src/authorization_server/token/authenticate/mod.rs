//! Who is asking (RFC 6749 §2.3): [`Credentials`] → [`AuthenticatedClient`].
//!
//! A request authenticates by exactly one method, and only by the one that its client is registered for. Whatever
//! goes wrong, the caller reads the same `invalid_client`; only the operator is told why.

mod basic;
mod check;
mod post;
mod throttle;

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use zeroize::Zeroizing;

pub(in crate::authorization_server) use self::check::SlowChecks;
pub use self::throttle::AttemptLimits;
pub(in crate::authorization_server) use self::throttle::Throttle;
use crate::authorization_server::error::{Fault, TokenError};
use crate::authorization_server::form::Form;
use crate::client_id::ClientId;
use crate::clock::{Clock, UnixTime};
use crate::deadline;
use crate::secret::StoredSecret;
use crate::store::{ClientAuthMethod, DynClientStore, RegisteredClient, RegisteredSecret};

/// What a request shows to prove who is asking: well-formed, not yet checked.
pub(super) struct Credentials {
    client_id: ClientId,
    secret: Zeroizing<String>,
    method: ClientAuthMethod,
}

impl Credentials {
    /// Finds the one method by which the request authenticates.
    pub(super) fn read(headers: &HeaderMap, form: &Form) -> Result<Self, TokenError> {
        let mut headers = headers.get_all(AUTHORIZATION).iter();
        let header = headers.next();
        let in_body = ["client_secret", "client_assertion"].map(|name| form.get(name));
        let methods = headers.count() + usize::from(header.is_some()) + in_body.iter().flatten().count();
        match (header, in_body) {
            _ if methods > 1 => Err(Fault::TWO_METHODS.into()),
            (Some(header), _) => basic::read(header, form),
            (_, [Some(secret), _]) => post::read(secret, form),
            (_, [_, Some(_)]) => Err(TokenError::new(Fault::CLIENT).detailed("assertions are not supported")),
            _ => Err(TokenError::new(Fault::CLIENT).detailed("the request has no client credentials")),
        }
    }

    fn new(client_id: &str, secret: String, method: ClientAuthMethod) -> Result<Self, TokenError> {
        let secret = Zeroizing::new(secret);
        let client_id: ClientId = client_id.parse().map_err(|error| TokenError::from(Fault::CLIENT).because(error))?;
        // No stored secret is longer; digesting more would be work for nothing.
        if secret.len() > crate::secret::LONGEST {
            return Err(TokenError::new(Fault::CLIENT).of(&client_id).detailed("the secret is longer than any secret"));
        }
        Ok(Self { client_id, secret, method })
    }
}

/// A client that proved who it is; only [`Authenticator::authenticate`] makes one.
#[derive(Clone, Debug)]
pub(super) struct AuthenticatedClient(Arc<RegisteredClient>);

impl Deref for AuthenticatedClient {
    type Target = RegisteredClient;

    fn deref(&self) -> &RegisteredClient {
        &self.0
    }
}

/// Checks credentials against the registry.
#[derive(Debug)]
pub(in crate::authorization_server) struct Authenticator {
    pub(in crate::authorization_server) clients: Arc<dyn DynClientStore>,
    /// How long the registry may take.
    pub(in crate::authorization_server) timeout: Duration,
    /// By which a secret ends.
    pub(in crate::authorization_server) clock: Arc<dyn Clock>,
    pub(in crate::authorization_server) slow_checks: SlowChecks,
    pub(in crate::authorization_server) throttle: Throttle,
}

impl Authenticator {
    /// `peer` is the address of the caller, where it is known.
    pub(super) async fn authenticate(
        &self,
        credentials: &Credentials,
        peer: Option<IpAddr>,
    ) -> Result<AuthenticatedClient, TokenError> {
        let id = &credentials.client_id;
        let found = deadline::within(self.timeout, self.clients.find(id)).await;
        let found = found.map_err(TokenError::unavailable).and_then(|found| found.map_err(Into::into));
        let found = found.map_err(|error| error.of(id))?;
        // A store that takes another spelling for the same client would multiply the limits on guessing.
        let found = found.filter(|client| client.id() == id);
        let proven = self.is_proven(found.as_deref(), credentials, peer).await.map_err(|error| error.of(id))?;
        let why = match found {
            None => "it is not registered".to_owned(),
            Some(_) if !proven => "the secret is none of its own".to_owned(),
            Some(client) if !client.is_enabled() => "it is disabled".to_owned(),
            Some(client) if client.authentication() != credentials.method => {
                let (registered, used) = (client.authentication(), credentials.method);
                format!("it is registered for {registered} and used {used}; see Client::authentication")
            }
            Some(client) => return Ok(AuthenticatedClient(client)),
        };
        Err(TokenError::new(Fault::CLIENT).of(id).detailed(why))
    }

    /// An unknown client has no secrets, and costs what one with a generated secret costs. Whoever would be refused for
    /// another reason counts as a failure too, so that the limit tells nobody apart.
    async fn is_proven(
        &self,
        client: Option<&RegisteredClient>,
        credentials: &Credentials,
        peer: Option<IpAddr>,
    ) -> Result<bool, TokenError> {
        let Credentials { client_id, secret, method } = credentials;
        let now = UnixTime::now(&*self.clock);
        let secrets = client.map_or(&[][..], RegisteredClient::secrets).iter().filter(|secret| secret.is_live(now));
        let secrets = secrets.map(RegisteredSecret::stored);
        let acceptable = client.is_some_and(|client| client.is_enabled() && client.authentication() == *method);
        let proven = check::matches_digest(secrets.clone(), secret);
        let slow: Vec<StoredSecret> = secrets.filter(|secret| !proven && secret.is_slow()).cloned().collect();
        if !slow.is_empty() {
            let attempt = self.throttle.attempt(client_id, peer)?;
            let count = move |proven: bool| {
                if !proven || !acceptable {
                    attempt.failed();
                }
            };
            return self.slow_checks.matches(slow, secret, count).await;
        }
        if !proven || !acceptable {
            self.throttle.failed(client_id, peer)?;
        }
        Ok(proven)
    }
}
