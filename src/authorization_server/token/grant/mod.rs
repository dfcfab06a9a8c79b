//! Decides what a client gets (RFC 6749 §3.3, RFC 8707 §2): [`AuthenticatedClient`] → [`Grant`].

mod audiences;
mod granted_scopes;
mod hook;

use std::time::Duration;

use http::Extensions;
use serde_json::{Map, Value};

pub use self::hook::{GrantHook, GrantRefusal, HookFuture, PendingGrant};
use super::request::{RequestedScopes, TokenRequest};
use crate::audience::Audience;
use crate::authorization_server::authenticate::AuthenticatedClient;
use crate::authorization_server::error::{Fault, TokenError};
use crate::registration::ClientRules;
use crate::scope::Scopes;
use crate::token_lifetime::TokenLifetime;

/// The defaults for requests and clients that do not specify something, and the limits for all grants.
#[derive(Debug)]
pub(crate) struct GrantPolicy {
    pub(crate) rules: ClientRules,
    pub(crate) default_scopes: Scopes,
    pub(crate) lifetime: TokenLifetime,
    /// The maximum lifetime. Longer ones are shortened, because revocations are not stored for longer.
    pub(crate) longest: TokenLifetime,
    pub(crate) hook: Option<Box<dyn GrantHook>>,
    /// The timeout of the hook.
    pub(crate) timeout: Duration,
}

/// A decided grant. Only [`GrantPolicy::grant`] creates one.
#[derive(Debug)]
pub(super) struct Grant(PendingGrant);

impl Grant {
    pub(super) fn client(&self) -> &AuthenticatedClient {
        &self.0.client
    }

    pub(super) fn scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    pub(super) fn audiences(&self) -> &[Audience] {
        &self.0.audiences
    }

    pub(super) fn lifetime(&self) -> TokenLifetime {
        self.0.lifetime
    }

    /// Returns the additional claims of the token.
    pub(super) fn claims(&self) -> &Map<String, Value> {
        &self.0.claims
    }

    /// Returns the additional members of the response.
    pub(super) fn response_members(&self) -> &Map<String, Value> {
        &self.0.response_members
    }

    /// Returns a grant with only what the token contains.
    pub(super) fn terms(&self) -> Self {
        let PendingGrant { client, scopes, audiences, lifetime, claims, .. } = &self.0;
        let terms = PendingGrant::new(client.clone(), scopes.clone(), audiences.clone(), *lifetime);
        Self(PendingGrant { claims: claims.clone(), ..terms })
    }

    /// Returns whether the tokens of both grants have the same content.
    pub(super) fn has_the_terms_of(&self, other: &Self) -> bool {
        let (own, others) = (&self.0, &other.0);
        own.client.id() == others.client.id()
            && own.client.subject() == others.client.subject()
            && own.scopes == others.scopes
            && own.audiences == others.audiences
            && own.lifetime == others.lifetime
            && own.claims == others.claims
    }
}

impl GrantPolicy {
    /// Returns the grant. Only the wait for a hook, which most servers do not have, takes space in the future of a request.
    pub(super) async fn grant(
        &self,
        client: AuthenticatedClient,
        request: &TokenRequest<'_>,
        extensions: &Extensions,
    ) -> Result<Grant, TokenError> {
        match (self.by_rules(client, request)?, &self.hook) {
            (pending, None) => Ok(Grant(pending)),
            (pending, Some(hook)) => Box::pin(self.decide(pending, &**hook, extensions)).await,
        }
    }

    /// Returns the grant by the rules, before the decision of a hook.
    fn by_rules(&self, client: AuthenticatedClient, request: &TokenRequest<'_>) -> Result<PendingGrant, TokenError> {
        if !client.may_use_grant() {
            return Err(TokenError::new(Fault::GRANT_NOT_ALLOWED).of(client.id()));
        }
        let audiences = self.audiences(&client, &request.resources)?;
        let requested = request.scopes.as_ref().map(RequestedScopes::scopes).transpose()?;
        let scopes = self.scopes(&client, requested.as_ref(), &audiences)?;
        let lifetime = client.lifetime().unwrap_or(self.lifetime).min(self.longest);
        Ok(PendingGrant::new(client, scopes, audiences, lifetime))
    }
}
