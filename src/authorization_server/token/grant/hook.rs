//! [`GrantHook`]: your own policy for grants, which runs before the signature; [`PendingGrant`]: what it may change. What it decides
//! is narrowed to what the server allows.

use std::error::Error;
use std::fmt;

use http::Extensions;
use serde_json::{Map, Value};

use super::{Grant, GrantPolicy};
use crate::audience::Audience;
use crate::authorization_server::authenticate::AuthenticatedClient;
use crate::authorization_server::error::{Fault, TokenError};
use crate::deadline;
use crate::registration::{ClientAuthMethod, RegisteredClient};
use crate::scope::Scopes;
use crate::sync::DynFuture;
use crate::token_lifetime::TokenLifetime;

/// Your own policy: narrows or extends the scopes of a grant, adds claims and response members, or refuses the grant.
///
/// A hook cannot exceed these limits: a grant stays within the [known
/// scopes](crate::authorization_server::AuthorizationServerBuilder::known_scopes) (if none are set, within those of the
/// client) and within the scopes of its resources. A standard claim or response member is never replaced.
///
/// The hook runs on every token request, after the client is authenticated, so it should be fast. If it exceeds the
/// [store timeout](crate::authorization_server::AuthorizationServerBuilder::store_timeout), it is dropped, and the
/// caller gets 503.
///
/// A closure implements this trait. Implement the trait yourself for a policy that has to wait for something.
///
/// ```
/// use tower_client_credentials::authorization_server::PendingGrant;
/// use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
///
/// let server = AuthorizationServer::builder("https://auth.example.com", KeyRing::generate()?, MemoryStore::default())
///     .grant_hook(|grant: &mut PendingGrant| {
///         grant.add_claim("tenant", "acme");
///         Ok(())
///     })
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a grant hook",
    note = "a closure must be `|grant: &mut PendingGrant| -> Result<(), GrantRefusal>`, with the type of `grant` written out"
)]
pub trait GrantHook: Send + Sync + 'static {
    /// Decides about a grant. `extensions` are those of the request.
    ///
    /// # Errors
    ///
    /// Returns a [`GrantRefusal`]. The caller gets its error code.
    fn decide<'a>(&'a self, grant: &'a mut PendingGrant, extensions: &'a Extensions) -> HookFuture<'a>;
}

/// The future of [`GrantHook::decide`].
pub type HookFuture<'a> = DynFuture<'a, Result<(), GrantRefusal>>;

impl<F> GrantHook for F
where
    F: Fn(&mut PendingGrant) -> Result<(), GrantRefusal> + Send + Sync + 'static,
{
    fn decide<'a>(&'a self, grant: &'a mut PendingGrant, _: &'a Extensions) -> HookFuture<'a> {
        HookFuture::ready(self(grant))
    }
}

impl fmt::Debug for dyn GrantHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GrantHook")
    }
}

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

impl GrantPolicy {
    /// Lets the hook decide about a grant, and then narrows it to what the server and its resources allow.
    pub(super) async fn decide(
        &self,
        mut pending: PendingGrant,
        hook: &dyn GrantHook,
        extensions: &Extensions,
    ) -> Result<Grant, TokenError> {
        let decided = deadline::within(self.timeout, hook.decide(&mut pending, extensions)).await;
        decided.map_err(TokenError::unavailable)?.map_err(|refusal| refusal.into_error(&pending.client))?;
        self.narrow(&mut pending);
        Ok(Grant(pending))
    }

    /// Removes scopes that the server does not know, or that a resource does not allow, after the hook has run.
    fn narrow(&self, pending: &mut PendingGrant) {
        let known = self.rules.known_scopes().unwrap_or(pending.client.scopes());
        pending.scopes = self.rules.scopes_at(&pending.scopes.intersection(known), &pending.audiences);
    }
}

/// The reason why a [`GrantHook`] refuses a grant. Its text is for the operator.
#[derive(Debug)]
pub struct GrantRefusal {
    fault: Fault,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Said(String),
    Failed(Box<dyn Error + Send + Sync>),
}

impl GrantRefusal {
    /// Refuses one of the scopes. The caller gets `invalid_scope`.
    pub fn scope(detail: impl Into<String>) -> Self {
        Self { fault: Fault::SCOPE, reason: Reason::Said(detail.into()) }
    }

    /// Refuses a token for the client. The caller gets `unauthorized_client`.
    pub fn client(detail: impl Into<String>) -> Self {
        Self { fault: Fault::GRANT_NOT_ALLOWED, reason: Reason::Said(detail.into()) }
    }

    /// Reports that the hook could not decide. The caller gets 503 with `Retry-After`.
    pub fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { fault: Fault::UNAVAILABLE, reason: Reason::Failed(source.into()) }
    }

    fn into_error(self, client: &RegisteredClient) -> TokenError {
        let error = TokenError::new(self.fault).of(client.id());
        match self.reason {
            Reason::Said(detail) => error.detailed(detail),
            Reason::Failed(source) => error.because(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{GrantHook, PendingGrant};

    #[test]
    fn the_debug_output_of_a_server_says_that_there_is_a_hook() {
        let hook: Box<dyn GrantHook> = Box::new(|_: &mut PendingGrant| Ok(()));
        assert_eq!(format!("{hook:?}"), "GrantHook");
    }
}
