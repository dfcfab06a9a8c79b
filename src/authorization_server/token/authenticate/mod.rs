//! Who is asking (RFC 6749 §2.3): [`Credentials`] → [`AuthenticatedClient`].
//!
//! A request authenticates by exactly one method, and only by the one that its client is registered for. Whatever
//! goes wrong, the caller reads the same `invalid_client`; only the operator is told why.

mod basic;
mod check;
mod post;

use std::ops::Deref;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use zeroize::Zeroizing;

use self::check::SecretCheck;
use crate::authorization_server::error::{Fault, TokenError};
use crate::authorization_server::form::Form;
use crate::client_id::ClientId;
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
            (None, _, None) => Err(TokenError::detailed(Fault::CLIENT, "the request has no client credentials")),
        }
    }

    fn new(client_id: &str, secret: String, method: ClientAuthMethod) -> Result<Self, TokenError> {
        let secret = Zeroizing::new(secret);
        let client_id = client_id.parse().map_err(|error| TokenError::from(Fault::CLIENT).because(error))?;
        // No stored secret is longer; digesting more would be work for nothing.
        if secret.len() > crate::secret::LONGEST {
            return Err(TokenError::detailed(Fault::CLIENT, "the secret is longer than any secret"));
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
}

impl Authenticator {
    pub(in crate::authorization_server) fn new(clients: Arc<dyn DynClientStore>) -> Self {
        Self { clients, check: SecretCheck::default() }
    }

    pub(super) async fn authenticate(&self, credentials: &Credentials) -> Result<AuthenticatedClient, TokenError> {
        let found = self.clients.find(&credentials.client_id).await?;
        // An unknown client has no secrets, and costs the digest that a known one costs.
        let secrets = found.as_deref().map_or(&[][..], RegisteredClient::secrets);
        let proven = self.check.matches(secrets, &credentials.secret).await?;
        let refused =
            |why: &str| TokenError::detailed(Fault::CLIENT, format!("client `{}` {why}", credentials.client_id));
        match found {
            None => Err(refused("is not registered")),
            Some(_) if !proven => Err(refused("presented a secret that is none of its own")),
            Some(client) if !client.is_enabled() => Err(refused("is disabled")),
            Some(client) if client.authentication() != credentials.method => {
                let (registered, used) = (client.authentication(), credentials.method);
                Err(refused(&format!("used {used} and is registered for {registered}; see Client::authentication")))
            }
            Some(client) => Ok(AuthenticatedClient(client)),
        }
    }
}
