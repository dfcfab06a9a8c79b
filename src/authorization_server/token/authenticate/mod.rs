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

use http::HeaderMap;
use http::header::AUTHORIZATION;
use zeroize::Zeroizing;

use self::check::SecretCheck;
use self::throttle::Throttle;
use crate::authorization_server::error::{Fault, TokenError};
use crate::authorization_server::form::Form;
use crate::client_id::ClientId;
use crate::clock::Clock;
use crate::secret::StoredSecret;
use crate::store::{ClientAuthMethod, DynClientStore, RegisteredClient};

/// What a request shows to prove who is asking: well-formed, not yet checked.
#[derive(Debug)]
pub(super) struct Credentials {
    client_id: ClientId,
    secret: Zeroizing<String>,
    method: ClientAuthMethod,
}

impl Credentials {
    /// Finds the one method by which the request authenticates.
    pub(super) fn read(headers: &HeaderMap, form: &Form) -> Result<Self, TokenError> {
        let mut headers = headers.get_all(AUTHORIZATION).iter();
        match (headers.next(), headers.next(), form.get("client_secret")) {
            (Some(_), Some(_), _) | (Some(_), None, Some(_)) => Err(Fault::TWO_METHODS.into()),
            (Some(header), None, None) => basic::read(header, form),
            (None, _, Some(secret)) => post::read(secret, form),
            (None, _, None) => Err(TokenError::new(Fault::CLIENT).detailed("the request has no client credentials")),
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
    clients: Arc<dyn DynClientStore>,
    check: SecretCheck,
    throttle: Throttle,
}

impl Authenticator {
    pub(in crate::authorization_server) fn new(clients: Arc<dyn DynClientStore>, clock: Arc<dyn Clock>) -> Self {
        Self { clients, check: SecretCheck::default(), throttle: Throttle::new(clock) }
    }

    /// `peer` is the address of the caller, where it is known.
    pub(super) async fn authenticate(
        &self,
        credentials: &Credentials,
        peer: Option<IpAddr>,
    ) -> Result<AuthenticatedClient, TokenError> {
        let found = self.clients.find(&credentials.client_id).await?;
        let proven = self.is_proven(found.as_deref(), credentials, peer).await?;
        let refused = |why| Err(TokenError::new(Fault::CLIENT).of(&credentials.client_id).detailed(why));
        match found {
            None => refused("it is not registered".to_owned()),
            Some(_) if !proven => refused("the secret is none of its own".to_owned()),
            Some(client) if !client.is_enabled() => refused("it is disabled".to_owned()),
            Some(client) if client.authentication() != credentials.method => {
                let (registered, used) = (client.authentication(), credentials.method);
                refused(format!("it is registered for {registered} and used {used}; see Client::authentication"))
            }
            Some(client) => Ok(AuthenticatedClient(client)),
        }
    }

    /// An unknown client has no secrets, and costs what one with a generated secret costs.
    async fn is_proven(
        &self,
        client: Option<&RegisteredClient>,
        credentials: &Credentials,
        peer: Option<IpAddr>,
    ) -> Result<bool, TokenError> {
        let Credentials { client_id, secret, .. } = credentials;
        let secrets = client.map_or(&[][..], RegisteredClient::secrets);
        if secrets.iter().any(StoredSecret::is_slow) {
            let attempt = self.throttle.attempt(client_id, peer).map_err(|error| error.of(client_id))?;
            let proven = self.check.matches(secrets, secret).await?;
            if proven {
                self.throttle.forgive(attempt);
            }
            return Ok(proven);
        }
        let proven = self.check.matches(secrets, secret).await?;
        if !proven {
            self.throttle.failed(client_id, peer).map_err(|error| error.of(client_id))?;
        }
        Ok(proven)
    }
}
