//! The settings for grants: lifetime, scopes and audiences of tokens.

use std::time::Duration;

use super::AuthorizationServerBuilder;
use crate::audience::Audience;
use crate::authorization_server::config_error::ConfigError;
use crate::authorization_server::token::GrantHook;
use crate::scope::Scopes;

/// Settings for the tokens that clients get.
impl AuthorizationServerBuilder {
    /// Sets the lifetime of tokens, in whole seconds from 1 second to 365 days. The default is 10 minutes.
    ///
    /// Without [revocations](Self::revocations), a token cannot be revoked, so a client that loses its rights keeps
    /// them for this time. Clients renew tokens automatically, so a short lifetime costs only a few additional
    /// requests.
    pub fn token_lifetime(self, lifetime: Duration) -> Self {
        Self { lifetime, ..self }
    }

    /// Reuses a token for identical requests until `percent` of its lifetime has passed. `percent` is 1 to 90. Off by
    /// default: each request gets a new token.
    ///
    /// Requests are identical if client, subject, scopes and their order, audiences, lifetime, and the claims of the
    /// [grant hook](Self::grant_hook) are equal. Authentication and the hook run for each request. `expires_in` is the
    /// remaining lifetime of the token. Identical requests at the same time share one signature. A process keeps up to
    /// 8,192 tokens of up to 2 KiB each.
    ///
    /// Use it for clients that do not cache their tokens and request one before every call. Such a request then costs a
    /// fraction of a signature, and fewer tokens are in circulation. The disadvantages:
    ///
    /// - All instances of a client share a token. Its `jti` does not tell which instance used it, and revoking it
    ///   affects all instances.
    /// - The memory of the server contains valid tokens.
    /// - A revoked token is still returned until the server's own [view](Self::revocations) has the revocation.
    /// - Clients get tokens with a shorter remaining lifetime: with 50 percent, at least half of the lifetime.
    ///
    /// ```
    /// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
    /// let server = AuthorizationServer::builder("https://auth.example.com", KeyRing::generate()?, MemoryStore::default())
    ///     .reuse_tokens(50)
    ///     .build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reuse_tokens(self, percent: u8) -> Self {
        Self { reuse_percent: Some(percent), ..self }
    }

    /// Sets the default scopes (RFC 6749 §3.3). They apply to a request without `scope`, from a client without default
    /// scopes of its own; the client gets those that it is allowed to have. None by default.
    pub fn default_scopes(self, scopes: impl Into<Scopes>) -> Self {
        Self { default_scopes: scopes.into(), ..self }
    }

    /// Sets the audience of clients without audiences, as an absolute URI. There is no default, and each client must
    /// list at least one.
    pub fn default_audience(mut self, audience: impl AsRef<str>) -> Self {
        self.rules.default_audience = self.keep(audience.as_ref());
        self
    }

    /// Sets all scopes that exist. A client that lists any other scope is invalid, and is reported as described in
    /// [`ClientRules`](crate::registration::ClientRules). A [grant hook](Self::grant_hook) cannot grant any other scope. By default, every scope that a
    /// client lists exists.
    pub fn known_scopes(mut self, scopes: impl Into<Scopes>) -> Self {
        self.rules.known_scopes = Some(scopes.into());
        self
    }

    /// Adds an audience that exists, as an absolute URI. A client that lists any other audience is invalid, and is
    /// reported as described in [`ClientRules`](crate::registration::ClientRules). By default, if no resource is added, every audience that a client
    /// lists exists.
    pub fn resource(mut self, audience: impl AsRef<str>) -> Self {
        self.add_resource(audience.as_ref(), None);
        self
    }

    /// Adds an audience that exists, as an absolute URI, and sets all scopes that exist for it. A token for this
    /// audience contains no other scope (RFC 9068 §3). A token for several audiences contains only scopes that exist
    /// for all of them.
    ///
    /// All spellings of a resource that are equal by RFC 3986 §6.2.2 and §6.2.3, such as `https://a.example` and
    /// `https://a.example/`, need the same scopes.
    pub fn resource_with_scopes(mut self, audience: impl AsRef<str>, scopes: impl Into<Scopes>) -> Self {
        self.add_resource(audience.as_ref(), Some(scopes.into()));
        self
    }

    fn add_resource(&mut self, audience: &str, scopes: Option<Scopes>) {
        let Some(audience) = self.keep(audience) else { return };
        if self.rules.resources.insert(audience.clone(), scopes).is_some() {
            self.mistake.get_or_insert(ConfigError::ResourceTwice(audience));
        }
    }

    fn keep(&mut self, audience: &str) -> Option<Audience> {
        audience.parse().map_err(|error| self.mistake.get_or_insert(ConfigError::audience(audience, error))).ok()
    }

    /// Accepts the parameter `audience` as a synonym of `resource` (RFC 8707 §2). Off by default.
    ///
    /// Some clients name the API by `audience`, as Auth0 does. The value must be an audience of the client, as an
    /// absolute URI. A request with both parameters that name different resources is refused with `invalid_target`.
    /// Without this option, the parameter is ignored, as RFC 6749 §3.2 requires for unrecognized parameters, with a log
    /// line and the event [`AudienceParameterIgnored`](crate::event::Outcome::AudienceParameterIgnored).
    pub fn accept_audience_parameter(self) -> Self {
        Self { accepts_audience: true, ..self }
    }

    /// Sets your own policy, which decides each grant; see [`GrantHook`]. None by default.
    pub fn grant_hook(self, hook: impl GrantHook) -> Self {
        Self { hook: Some(Box::new(hook)), ..self }
    }
}
