//! [`ClientAdministrationBuilder`]: the settings of a [`ClientAdministration`].

use std::sync::Arc;

use http::uri::PathAndQuery;

use super::{AdministrationScopes, ClientAdministration, Inner};
use crate::audience::{Audience, InvalidAudience};
use crate::authorization_server::AuthorizationServer;
use crate::resource_server::{BearerAuthLayer, Methods};
use crate::scope::Scopes;
use crate::store::ClientAdmin;

/// The settings of a [`ClientAdministration`]. [`build`](Self::build) checks them.
#[derive(Clone, Debug)]
#[must_use = "the settings are not used until .build()"]
pub struct ClientAdministrationBuilder {
    server: AuthorizationServer,
    store: Arc<dyn ClientAdmin>,
    audience: String,
    scopes: AdministrationScopes,
    path: Option<String>,
    private_key_urls: bool,
}

/// A setting of a [`ClientAdministration`] is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAdministration {
    /// The audience is not an absolute URI.
    #[error("invalid audience `{0}` of the administration: {1}; use for example `https://auth.example.com/clients`")]
    Audience(String, InvalidAudience),
    /// The audience is one that every client without audiences gets.
    #[error(
        "the audience `{0}` of the administration is the server's default audience, so each client without audiences would get \
         it; use an audience of its own, such as `https://auth.example.com/clients`"
    )]
    DefaultAudience(Audience),
    /// The server does not know the audience, so no one could get a token for it.
    #[error(
        "the server does not know the audience `{0}` of the administration; add it to the server with .resource(\"{0}\")"
    )]
    UnknownAudience(Audience),
    /// The server does not know one of the scopes, so no one could get a token with it.
    #[error(
        "the server does not know the scope `{0}` of the administration; add it to the server with .known_scopes(…)"
    )]
    UnknownScope(String),
    /// Two of the scopes are the same.
    #[error("two permissions of the administration have the scope `{0}`; use three different scopes")]
    OneScopeTwice(String),
    /// The server has no revocations, so the tokens of an administrator that was disabled would work until they expire.
    #[error(
        "the server has no revocations, so the tokens of a disabled administrator would work until they expire; create \
         revocations with Revocations::follow(…) and set them with .revocations(…) of the server"
    )]
    NoRevocations,
    /// The path is malformed.
    #[error(
        "invalid path `{0}` of the administration: it must begin with `/`, must not end with `/`, and must not need escapes"
    )]
    Path(String),
}

impl ClientAdministrationBuilder {
    pub(super) fn new(server: AuthorizationServer, store: Arc<dyn ClientAdmin>, audience: &str) -> Self {
        Self {
            server,
            store,
            audience: audience.to_owned(),
            scopes: AdministrationScopes::default(),
            path: None,
            private_key_urls: false,
        }
    }

    /// Sets the path below which the administration answers, as it arrives here. The default is `/clients` below the path of the
    /// issuer.
    pub fn path(self, path: impl Into<String>) -> Self {
        Self { path: Some(path.into()), ..self }
    }

    /// Sets the scopes of administrators. The default is `clients:read`, `clients:write` and `clients:administrators`.
    pub fn scopes(self, scopes: AdministrationScopes) -> Self {
        Self { scopes, ..self }
    }

    /// Accepts a `jwks_uri` whose host is an address of a private network or of this machine. By default such a URL is refused
    /// when it is registered. Whether the server fetches from it is a setting of the server, see
    /// [`ClientAssertions::client_key_urls`](crate::authorization_server::ClientAssertions::client_key_urls).
    ///
    /// Dangerous: an administrator can make the server send requests to other services of its network.
    pub fn dangerous_private_client_key_urls(self) -> Self {
        Self { private_key_urls: true, ..self }
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// The first invalid setting. The text says how to fix it.
    pub fn build(self) -> Result<ClientAdministration, InvalidAdministration> {
        let audience: Audience =
            self.audience.parse().map_err(|error| InvalidAdministration::Audience(self.audience.clone(), error))?;
        let rules = self.server.client_rules();
        let form = audience.normal_form();
        if rules.default_audience.as_ref().is_some_and(|default| default.normal_form() == form) {
            return Err(InvalidAdministration::DefaultAudience(audience));
        }
        if !rules.exists(&audience) {
            return Err(InvalidAdministration::UnknownAudience(audience));
        }
        let AdministrationScopes { read, write, administrators } = &self.scopes;
        if let Some((twice, _)) = [(read, write), (write, administrators), (administrators, read)]
            .into_iter()
            .find(|(one, other)| one == other)
        {
            return Err(InvalidAdministration::OneScopeTwice(twice.to_string()));
        }
        let exists = rules.scopes_at(&self.scopes.all(), std::slice::from_ref(&audience));
        if let Some(unknown) = exists.first_missing(&self.scopes.all()) {
            return Err(InvalidAdministration::UnknownScope(unknown.to_owned()));
        }
        let shared = self.server.shared_parts();
        if shared.revocations.is_none() {
            return Err(InvalidAdministration::NoRevocations);
        }
        let path = self.path.unwrap_or_else(|| format!("{}/clients", self.server.issuer().path()));
        let as_received = path.parse::<PathAndQuery>().is_ok_and(|uri| uri.path() == path.as_str());
        if !path.starts_with('/') || path.ends_with('/') || path.contains('%') || !as_received {
            return Err(InvalidAdministration::Path(path));
        }
        let verifier = self.server.verifier(&audience);
        let verifier = verifier.map_err(|error| InvalidAdministration::Audience(self.audience.clone(), error))?;
        let mut protect = BearerAuthLayer::new(verifier)
            .require_scopes_for(Methods::SAFE, Scopes::from(read.clone()))
            .require_scopes_for(Methods::UNSAFE, Scopes::from(write.clone()))
            .without_grpc_refusals()
            .remove_authorization();
        if let Some(events) = &shared.events {
            protect = protect.events(events.clone());
        }
        Ok(ClientAdministration {
            inner: Arc::new(Inner {
                store: self.store,
                server: shared,
                audience,
                scopes: self.scopes,
                path,
                private_key_urls: self.private_key_urls,
                protect,
            }),
        })
    }
}
