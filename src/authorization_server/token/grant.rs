//! What the client gets (RFC 6749 §3.3, RFC 8707 §2): [`AuthenticatedClient`] → [`Grant`].

use std::time::Duration;

use super::authenticate::AuthenticatedClient;
use super::request::TokenRequest;
use crate::audience::Audience;
use crate::authorization_server::error::{Fault, TokenError};
use crate::scope::Scopes;

/// What a server grants where neither the request nor the client says.
#[derive(Clone, Debug)]
pub(in crate::authorization_server) struct GrantPolicy {
    pub(in crate::authorization_server) default_scopes: Scopes,
    pub(in crate::authorization_server) default_audience: Option<Audience>,
    pub(in crate::authorization_server) lifetime: Duration,
}

/// What a client was granted; only [`GrantPolicy::grant`] makes one.
#[derive(Debug)]
pub(super) struct Grant {
    client: AuthenticatedClient,
    scopes: Scopes,
    audiences: Vec<Audience>,
    lifetime: Duration,
}

impl Grant {
    pub(super) fn client(&self) -> &AuthenticatedClient {
        &self.client
    }

    pub(super) fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    pub(super) fn audiences(&self) -> &[Audience] {
        &self.audiences
    }

    pub(super) fn lifetime(&self) -> Duration {
        self.lifetime
    }
}

impl GrantPolicy {
    pub(super) fn grant(&self, client: AuthenticatedClient, request: &TokenRequest) -> Result<Grant, TokenError> {
        let scopes = self.scopes(&client, request.scopes.as_ref())?;
        let audiences = self.audiences(&client, &request.resources)?;
        let lifetime = client.token_lifetime().unwrap_or(self.lifetime);
        Ok(Grant { client, scopes, audiences, lifetime })
    }

    fn scopes(&self, client: &AuthenticatedClient, requested: Option<&Scopes>) -> Result<Scopes, TokenError> {
        let allowed = client.scopes();
        match (requested, client.default_scopes()) {
            (Some(requested), _) => {
                if let Some(stray) = requested.iter().find(|scope| !allowed.contains(scope)) {
                    let detail = format!("client `{}` may not have scope `{stray}`", client.id());
                    return Err(TokenError::detailed(Fault::SCOPE, detail));
                }
                Ok(requested.clone())
            }
            (None, Some(own)) => Ok(own.clone()),
            (None, None) => Ok(self.default_scopes.intersection(allowed)),
        }
    }

    /// Never every audience that the client may ask for: a token for one API must not open another.
    fn audiences(&self, client: &AuthenticatedClient, requested: &[Audience]) -> Result<Vec<Audience>, TokenError> {
        if requested.is_empty() {
            let default = client.default_audience().or(self.server_default(client));
            let default = default.ok_or_else(|| {
                let detail = format!("client `{}` names no resource and has no default audience", client.id());
                TokenError::detailed(Fault::NO_RESOURCE, detail)
            })?;
            return Ok(vec![default.clone()]);
        }
        let mut granted = Vec::new();
        for audience in requested {
            if !client.audiences().contains(audience) && self.server_default(client) != Some(audience) {
                let detail = format!("client `{}` may not have audience `{audience}`", client.id());
                return Err(TokenError::detailed(Fault::RESOURCE, detail));
            }
            if !granted.contains(audience) {
                granted.push(audience.clone());
            }
        }
        Ok(granted)
    }

    /// The server's default audience, which is for clients without any of their own.
    fn server_default(&self, client: &AuthenticatedClient) -> Option<&Audience> {
        self.default_audience.as_ref().filter(|_| client.audiences().is_empty())
    }
}
