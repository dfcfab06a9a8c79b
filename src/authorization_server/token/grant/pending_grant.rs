//! [`PendingGrant`]: a grant before the signature, and what a [`GrantHook`](super::GrantHook) may change of it.

use serde_json::{Map, Value};

use crate::audience::Audience;
use crate::authorization_server::authenticate::AuthenticatedClient;
use crate::registration::{ClientAuthMethod, RegisteredClient};
use crate::scope::Scopes;
use crate::token_lifetime::TokenLifetime;

/// A grant for an authenticated client that is not signed yet.
#[derive(Debug)]
pub struct PendingGrant {
    pub(super) client: AuthenticatedClient,
    pub(super) scopes: Scopes,
    pub(super) audiences: Vec<Audience>,
    pub(super) lifetime: TokenLifetime,
    pub(super) claims: Map<String, Value>,
    pub(super) response_members: Map<String, Value>,
}

impl PendingGrant {
    pub(super) fn new(
        client: AuthenticatedClient,
        scopes: Scopes,
        audiences: Vec<Audience>,
        lifetime: TokenLifetime,
    ) -> Self {
        Self { client, scopes, audiences, lifetime, claims: Map::new(), response_members: Map::new() }
    }

    /// Returns the authenticated client.
    #[must_use]
    pub fn client(&self) -> &RegisteredClient {
        &self.client
    }

    /// Returns the method by which the client authenticated. A policy can, for example, grant a scope only to a client
    /// that did not use a shared secret.
    #[must_use]
    pub fn method(&self) -> ClientAuthMethod {
        self.client.method()
    }

    /// Returns the label of the credential by which the client authenticated.
    #[must_use]
    pub fn credential(&self) -> &str {
        self.client.credential()
    }

    /// Returns the scopes of the grant.
    #[must_use]
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// Returns the audiences of the token.
    #[must_use]
    pub fn audiences(&self) -> &[Audience] {
        &self.audiences
    }

    /// Sets the scopes of the grant. Scopes that are unknown to the server, or that a resource does not allow, are
    /// removed.
    pub fn set_scopes(&mut self, scopes: impl Into<Scopes>) {
        self.scopes = scopes.into();
    }

    /// Adds a claim to the token. A standard claim is not replaced; the attempt is logged.
    pub fn add_claim(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        const STANDARD: [&str; 11] =
            ["iss", "sub", "aud", "client_id", "iat", "exp", "nbf", "jti", "scope", "cnf", "act"];
        add(&mut self.claims, &STANDARD, name.into(), value.into());
    }

    /// Adds a member to the response, next to `access_token`. A standard member is not replaced; the attempt is logged.
    pub fn add_response_member(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        const STANDARD: [&str; 8] = [
            "access_token",
            "token_type",
            "expires_in",
            "refresh_token",
            "scope",
            "error",
            "error_description",
            "error_uri",
        ];
        add(&mut self.response_members, &STANDARD, name.into(), value.into());
    }
}

fn add(members: &mut Map<String, Value>, standard: &[&str], name: String, value: Value) {
    if standard.contains(&name.as_str()) {
        tracing::warn!(name, "a grant hook tried to replace a standard member; it was not replaced");
    } else {
        members.insert(name, value);
    }
}
