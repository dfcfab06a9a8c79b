//! [`GrantHook`]: the last word over a grant, before it is signed.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use http::Extensions;
use serde_json::{Map, Value};

use crate::audience::Audience;
use crate::authorization_server::authenticate::AuthenticatedClient;
use crate::authorization_server::error::{Fault, TokenError};
use crate::registration::RegisteredClient;
use crate::scope::Scopes;
use crate::token_lifetime::TokenLifetime;

/// A policy of one's own: narrows or extends the scopes of a grant, adds claims and response members, or refuses.
///
/// Whatever it does, a grant stays within the [known scopes](crate::AuthorizationServerBuilder::known_scopes) (when
/// none are set: within the client's own), and within those of its resources; and it never replaces a standard
/// claim or response member. It runs once the client is authenticated, on every request for a token, so it should
/// be quick; after the [store timeout](crate::AuthorizationServerBuilder::store_timeout) it is dropped, and the caller gets a 503.
///
/// A closure is one; a policy that has to wait for something implements the trait.
///
/// ```
/// use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore, PendingGrant};
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
    message = "`{Self}` is no grant hook",
    note = "a closure must be `|grant: &mut PendingGrant| -> Result<(), GrantRefusal>`, with the type of `grant` written out"
)]
pub trait GrantHook: Send + Sync + 'static {
    /// Decides over a grant. `extensions` are those of the request.
    ///
    /// # Errors
    ///
    /// A [`GrantRefusal`], which the caller reads as its error code.
    fn decide(
        &self,
        grant: &mut PendingGrant,
        extensions: &Extensions,
    ) -> impl Future<Output = Result<(), GrantRefusal>> + Send;
}

impl<F> GrantHook for F
where
    F: Fn(&mut PendingGrant) -> Result<(), GrantRefusal> + Send + Sync + 'static,
{
    async fn decide(&self, grant: &mut PendingGrant, _: &Extensions) -> Result<(), GrantRefusal> {
        self(grant)
    }
}

type Decided<'a> = Pin<Box<dyn Future<Output = Result<(), GrantRefusal>> + Send + 'a>>;

/// [`GrantHook`] behind a pointer.
pub(in crate::authorization_server) trait DynGrantHook: Send + Sync {
    fn decide<'a>(&'a self, grant: &'a mut PendingGrant, extensions: &'a Extensions) -> Decided<'a>;
}

impl<T: GrantHook> DynGrantHook for T {
    fn decide<'a>(&'a self, grant: &'a mut PendingGrant, extensions: &'a Extensions) -> Decided<'a> {
        Box::pin(GrantHook::decide(self, grant, extensions))
    }
}

impl fmt::Debug for dyn DynGrantHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GrantHook")
    }
}

/// What an authenticated client is about to get.
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

    /// The client, authenticated.
    #[must_use]
    pub fn client(&self) -> &RegisteredClient {
        &self.client
    }

    /// The scopes that it is about to get.
    #[must_use]
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// The APIs that the token will be for.
    #[must_use]
    pub fn audiences(&self) -> &[Audience] {
        &self.audiences
    }

    /// Grants these scopes instead; those that the server does not know, or that a resource does not allow, fall
    /// away.
    pub fn set_scopes(&mut self, scopes: impl Into<Scopes>) {
        self.scopes = scopes.into();
    }

    /// Adds a claim to the token. A standard claim is left as it is.
    pub fn add_claim(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        const STANDARD: [&str; 11] =
            ["iss", "sub", "aud", "client_id", "iat", "exp", "nbf", "jti", "scope", "cnf", "act"];
        add(&mut self.claims, &STANDARD, name.into(), value.into());
    }

    /// Adds a member to the response, beside `access_token`. A standard member is left as it is.
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
        tracing::warn!(name, "a grant hook tried to replace a standard member; it was left as it is");
    } else {
        members.insert(name, value);
    }
}

/// A [`GrantHook`] does not grant; its text is for the operator.
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
    /// The client may not have one of the scopes: the caller reads `invalid_scope`.
    pub fn scope(detail: impl Into<String>) -> Self {
        Self { fault: Fault::SCOPE, reason: Reason::Said(detail.into()) }
    }

    /// The client may not have a token now: the caller reads `unauthorized_client`.
    pub fn client(detail: impl Into<String>) -> Self {
        Self { fault: Fault::GRANT_NOT_ALLOWED, reason: Reason::Said(detail.into()) }
    }

    /// The hook could not decide: the caller gets a 503 with `Retry-After`.
    pub fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { fault: Fault::UNAVAILABLE, reason: Reason::Failed(source.into()) }
    }

    pub(super) fn into_error(self, client: &RegisteredClient) -> TokenError {
        let error = TokenError::new(self.fault).of(client.id());
        match self.reason {
            Reason::Said(detail) => error.detailed(detail),
            Reason::Failed(source) => error.because(source),
        }
    }
}
