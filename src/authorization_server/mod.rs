//! The authorization server (RFC 6749 §1.1): issues tokens, and publishes the keys that verify them.
//!
//! 1. A client gets only what its registration lists, and a token for one API does not open another.
//! 2. Tokens are JWT access tokens (RFC 9068), so a resource server verifies them without asking anybody, and
//!    issuing one writes nothing.
//! 3. Whatever is wrong with the settings comes to light when the server is built.
//! 4. A part that cannot answer is a 503, and never a refusal.
//!
//! # Deployment caveat
//!
//! A token cannot be called back before it expires; [lifetimes](AuthorizationServerBuilder::token_lifetime) are
//! short for that reason.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use tower_client_credentials::{AuthorizationServer, Client, ClientSecret, KeyRing, MemoryStore, Scope};
//!
//! let clients = MemoryStore::from([Client::new("billing", ClientSecret::generate()?)
//!     .scope(Scope::from_static("invoices:read"))]);
//! let server = AuthorizationServer::builder("https://auth.example.com", KeyRing::generate()?, clients)
//!     .default_audience("https://api.example.com")
//!     .token_lifetime(Duration::from_secs(300))
//!     .build()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod body;
mod document;
mod endpoint;
mod error;
mod form;
mod forward;
mod future;
mod layer;
mod metadata;
mod peer;
mod service;
mod token;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, HeaderValue};

use self::body::BodyLimits;
use self::document::Document;
use self::endpoint::{Endpoint, Endpoints, PathSetting};
pub use self::error::{TokenError, TokenErrorKind};
pub use self::forward::{ForwardGrants, ForwardGrantsFuture, ForwardGrantsLayer, ForwardedBody};
pub use self::future::ResponseFuture;
pub use self::layer::TokenEndpointLayer;
use self::metadata::Metadata;
use self::peer::PeerAddress;
pub use self::service::{EndpointService, EndpointServiceFuture, TokenEndpoint};
use self::token::{Authenticator, DynGrantHook, GrantPolicy, Minter, Reporter, TokenPipeline};
pub use self::token::{ClientRules, GrantHook, GrantRefusal, PendingGrant};
use crate::audience::{Audience, InvalidAudience};
use crate::clock::{Clock, SystemClock};
use crate::event::EventSender;
use crate::issuer::{InvalidIssuer, Issuer};
use crate::keys::KeyRing;
use crate::random::{Random, SystemRandom};
use crate::resource_server::Verifier;
use crate::scope::Scopes;
use crate::store::{ClientError, ClientStore, DynClientStore};

/// An authorization server: an issuer, its keys and its clients. A clone is the same server.
///
/// It is fixed once it is built. To serve it, put it into a [`TokenEndpointLayer`]; to protect routes with its
/// tokens, give its [`verifier`](Self::verifier) to a [`BearerAuthLayer`](crate::BearerAuthLayer).
///
/// See the [module page](self) for the rules and an example.
#[derive(Clone)]
pub struct AuthorizationServer {
    inner: Arc<Inner>,
}

struct Inner {
    endpoints: Endpoints,
    body_limits: BodyLimits,
    token: TokenPipeline,
    jwks: Document,
    metadata: Document,
}

impl AuthorizationServer {
    /// A server with the default settings.
    ///
    /// # Errors
    ///
    /// When the issuer is none, or a client's registration is wrong; the message names the mend.
    pub fn new(issuer: impl AsRef<str>, keys: KeyRing, clients: impl ClientStore) -> Result<Self, ConfigError> {
        Self::builder(issuer, keys, clients).build()
    }

    /// A server whose settings are yet to be chosen.
    pub fn builder(issuer: impl AsRef<str>, keys: KeyRing, clients: impl ClientStore) -> AuthorizationServerBuilder {
        AuthorizationServerBuilder::new(issuer.as_ref(), keys, clients)
    }

    /// Who it says it is, in `iss`.
    #[must_use]
    pub fn issuer(&self) -> &Issuer {
        &self.inner.token.minter.issuer
    }

    /// Verifies the tokens of this server that are for `audience`, by the server's own keys and clock.
    ///
    /// # Errors
    ///
    /// When the audience is not an absolute URI; no token could ever be for it.
    pub fn verifier(&self, audience: impl AsRef<str>) -> Result<Verifier, InvalidAudience> {
        let Minter { issuer, keys, clock, .. } = &self.inner.token.minter;
        Ok(Verifier::new(issuer.clone(), audience.as_ref().parse()?, keys.clone(), clock.clone()))
    }

    /// The token endpoint by itself.
    #[must_use]
    pub fn token_service(&self) -> EndpointService {
        EndpointService::new(self.clone(), Endpoint::Token)
    }

    /// The key set (RFC 7517 §5) by itself.
    #[must_use]
    pub fn jwks_service(&self) -> EndpointService {
        EndpointService::new(self.clone(), Endpoint::Jwks)
    }

    /// The metadata (RFC 8414) by itself.
    #[must_use]
    pub fn metadata_service(&self) -> EndpointService {
        EndpointService::new(self.clone(), Endpoint::Metadata)
    }
}

impl fmt::Debug for AuthorizationServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationServer")
            .field("issuer", self.issuer())
            .field("endpoints", &self.inner.endpoints)
            .field("keys", &self.inner.token.minter.keys)
            .finish_non_exhaustive()
    }
}

/// The settings of an [`AuthorizationServer`]; each has a default that is safe.
///
/// A mistake is kept until [`build`](Self::build).
#[derive(Debug)]
pub struct AuthorizationServerBuilder {
    issuer: Result<Issuer, InvalidIssuer>,
    keys: KeyRing,
    clients: Arc<dyn DynClientStore>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    default_scopes: Scopes,
    rules: ClientRules,
    invalid_audience: Option<InvalidAudience>,
    lifetime: Duration,
    hook: Option<Box<dyn DynGrantHook>>,
    peer: PeerAddress,
    events: Option<EventSender>,
    public_url: Option<String>,
    token_path: Option<String>,
    jwks_path: PathSetting,
    metadata_path: PathSetting,
    response_types: Vec<String>,
    cross_origin: bool,
    body_limits: BodyLimits,
}

impl AuthorizationServerBuilder {
    fn new(issuer: &str, keys: KeyRing, clients: impl ClientStore) -> Self {
        Self {
            issuer: issuer.parse(),
            keys,
            clients: Arc::new(clients),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            default_scopes: Scopes::NONE,
            rules: ClientRules::default(),
            invalid_audience: None,
            lifetime: Duration::from_secs(600),
            hook: None,
            peer: PeerAddress::default(),
            events: None,
            public_url: None,
            token_path: None,
            jwks_path: PathSetting::Default,
            metadata_path: PathSetting::Default,
            response_types: Vec::new(),
            cross_origin: false,
            body_limits: BodyLimits::default(),
        }
    }

    /// How long a token lives, in whole seconds: 10 minutes by default, 1 second to 365 days.
    ///
    /// A token cannot be called back, so this is also how long a client that lost its rights keeps them. Clients
    /// renew tokens by themselves; a short life costs them a request now and then.
    #[must_use]
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The scopes of a request without `scope`, from a client without defaults of its own: those of them that
    /// the client may have (RFC 6749 §3.3). None by default.
    #[must_use]
    pub fn default_scopes(mut self, scopes: impl Into<Scopes>) -> Self {
        self.default_scopes = scopes.into();
        self
    }

    /// The audience of clients that list none of their own, an absolute URI. None by default, and each client
    /// then needs one.
    #[must_use]
    pub fn default_audience(mut self, audience: impl AsRef<str>) -> Self {
        self.rules.default_audience = self.keep(audience.as_ref().parse());
        self
    }

    /// The scopes that exist. A client that lists another one is a mistake, and a
    /// [grant hook](Self::grant_hook) cannot grant another one. By default whatever clients list exists.
    #[must_use]
    pub fn known_scopes(mut self, scopes: impl Into<Scopes>) -> Self {
        self.rules.known_scopes = Some(scopes.into());
        self
    }

    /// One more audience that exists, an absolute URI. A client that lists another one is a mistake. By default,
    /// without any of these, whatever clients list exists.
    #[must_use]
    pub fn resource(mut self, audience: impl AsRef<str>) -> Self {
        if let Some(audience) = self.keep(audience.as_ref().parse()) {
            self.rules.resources.insert(audience, None);
        }
        self
    }

    /// One more audience that exists, and all the scopes that exist there: a token for it says no other (RFC 9068
    /// §3). A token for several says only those that exist at each.
    #[must_use]
    pub fn resource_with_scopes(mut self, audience: impl AsRef<str>, scopes: impl Into<Scopes>) -> Self {
        if let Some(audience) = self.keep(audience.as_ref().parse()) {
            self.rules.resources.insert(audience, Some(scopes.into()));
        }
        self
    }

    fn keep(&mut self, audience: Result<Audience, InvalidAudience>) -> Option<Audience> {
        audience.map_err(|error| self.invalid_audience.get_or_insert(error)).ok()
    }

    /// A policy of one's own over each grant; see [`GrantHook`]. None by default.
    #[must_use]
    pub fn grant_hook(mut self, hook: impl GrantHook) -> Self {
        self.hook = Some(Box::new(hook));
        self
    }

    /// Where [events](crate::event) go. Nowhere by default.
    #[must_use]
    pub fn events(mut self, events: EventSender) -> Self {
        self.events = Some(events);
        self
    }

    /// How to find the caller's address, by which failed attempts are counted. By default it is not known, and
    /// they are counted by client id alone.
    ///
    /// With axum, `axum::extract::ConnectInfo` holds it; behind a proxy take the address that *the proxy* adds,
    /// since the caller can write any other header.
    ///
    /// ```
    /// # use std::net::SocketAddr;
    /// # use axum::extract::ConnectInfo;
    /// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
    /// # let builder = AuthorizationServer::builder("https://a.example", KeyRing::generate()?, MemoryStore::default());
    /// let builder = builder.peer_address(|extensions| {
    ///     extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.ip())
    /// });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn peer_address(mut self, find: impl Fn(&Extensions) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        self.peer = PeerAddress::new(find);
        self
    }

    /// The URL in front of the paths, as clients see it, in the metadata: the issuer's scheme and authority by
    /// default. Set it when the endpoints are reached elsewhere, such as behind a proxy that strips a prefix.
    #[must_use]
    pub fn public_url(mut self, url: impl Into<String>) -> Self {
        self.public_url = Some(url.into());
        self
    }

    /// The path of the token endpoint, as requests arrive with it: `/token` below the issuer's path by default.
    #[must_use]
    pub fn token_path(mut self, path: impl Into<String>) -> Self {
        self.token_path = Some(path.into());
        self
    }

    /// The path of the key set: `/.well-known/jwks.json` below the issuer's path by default. `None` turns it off.
    #[must_use]
    pub fn jwks_path<'a>(mut self, path: impl Into<Option<&'a str>>) -> Self {
        self.jwks_path = PathSetting::new(path.into());
        self
    }

    /// The path of the metadata: by default where RFC 8414 §3.1 puts it,
    /// `/.well-known/oauth-authorization-server` before the issuer's path. `None` turns it off.
    #[must_use]
    pub fn metadata_path<'a>(mut self, path: impl Into<Option<&'a str>>) -> Self {
        self.metadata_path = PathSetting::new(path.into());
        self
    }

    /// What the metadata says as `response_types_supported`. Empty by default, since there is no authorization
    /// endpoint, and then left out (RFC 8414 §3.2). Some clients refuse metadata without it; give them
    /// `["none"]`, or what the server supports that really serves the other grants.
    #[must_use]
    pub fn response_types_supported(mut self, types: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.response_types = types.into_iter().map(Into::into).collect();
        self
    }

    /// Lets web pages of any origin read the key set and the metadata (`Access-Control-Allow-Origin: *`). Off by
    /// default. The token endpoint is none of a web page's business, and stays as it is.
    #[must_use]
    pub fn cross_origin_documents(mut self) -> Self {
        self.cross_origin = true;
        self
    }

    /// How large the body of a request may be, in bytes: 64 KiB by default. A larger one is a 413.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limits.bytes = bytes;
        self
    }

    /// How long the body of a request may take to arrive: 10 seconds by default. A slower one is a 408.
    #[must_use]
    pub fn body_timeout(mut self, time: Duration) -> Self {
        self.body_limits.time = time;
        self
    }

    /// Where the time comes from: the operating system by default.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Where token ids come from: the cryptographic backend by default.
    #[must_use]
    pub fn random(mut self, random: impl Random) -> Self {
        self.random = Arc::new(random);
        self
    }

    /// Checks everything, and builds the server.
    ///
    /// # Errors
    ///
    /// The first mistake in the settings or the clients, with the mend.
    pub fn build(self) -> Result<AuthorizationServer, ConfigError> {
        let issuer = self.issuer?;
        self.invalid_audience.map_or(Ok(()), Err)?;
        self.clients.validate(&self.rules)?;
        check_lifetime(self.lifetime).map_err(ConfigError::Lifetime)?;
        let mut endpoints = Endpoints::of(&issuer);
        endpoints.token = self.token_path.unwrap_or(endpoints.token);
        endpoints.jwks = self.jwks_path.or(endpoints.jwks);
        endpoints.metadata = self.metadata_path.or(endpoints.metadata);
        endpoints.check()?;
        let metadata = Metadata {
            issuer: &issuer,
            base_url: public_url(self.public_url, &issuer)?,
            endpoints: &endpoints,
            scopes: self.rules.known_scopes.as_ref(),
            response_types: &self.response_types,
        };
        let inner = Inner {
            body_limits: self.body_limits,
            jwks: Document::new("application/jwk-set+json", &self.keys.to_jwk_set(), self.cross_origin)?,
            metadata: Document::new("application/json", &metadata.document(), self.cross_origin)?,
            token: TokenPipeline {
                challenge: challenge(&issuer)?,
                peer: self.peer,
                authenticator: Authenticator::new(self.clients, self.clock.clone()),
                policy: GrantPolicy {
                    rules: self.rules,
                    default_scopes: self.default_scopes,
                    lifetime: self.lifetime,
                    hook: self.hook,
                },
                reporter: Reporter { events: self.events, clock: self.clock.clone() },
                minter: Minter { issuer, keys: self.keys, clock: self.clock, random: self.random },
            },
            endpoints,
        };
        Ok(AuthorizationServer { inner: Arc::new(inner) })
    }
}

/// A URL without anything behind its path, and without a slash at its end.
fn public_url(url: Option<String>, issuer: &Issuer) -> Result<String, ConfigError> {
    let Some(url) = url else { return Ok(issuer.origin().to_owned()) };
    let parsed: Issuer = url.parse().map_err(ConfigError::PublicUrl)?;
    Ok(format!("{}{}", parsed.origin(), parsed.path()))
}

/// `Basic`, in UTF-8 (RFC 7617 §2.1). An issuer's characters need no escape.
fn challenge(issuer: &Issuer) -> Result<HeaderValue, ConfigError> {
    let challenge = format!("Basic realm=\"{issuer}\", charset=\"UTF-8\"");
    HeaderValue::try_from(challenge).map_err(|error| ConfigError::Document(error.to_string()))
}

/// The bounds of every token's life.
pub(crate) fn check_lifetime(lifetime: Duration) -> Result<Duration, &'static str> {
    const YEAR: u64 = 365 * 24 * 60 * 60;
    match lifetime.as_secs() {
        1..=YEAR => Ok(lifetime),
        _ => Err("a token's lifetime is 1 second to 365 days"),
    }
}

/// An authorization server cannot be built from these settings; the text says what to change.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The issuer is none.
    #[error(transparent)]
    Issuer(#[from] InvalidIssuer),
    /// A resource, or the default audience, is none.
    #[error("an audience of the server is {0}")]
    Audience(#[from] InvalidAudience),
    /// The public URL is none.
    #[error("the public URL is {0}")]
    PublicUrl(#[source] InvalidIssuer),
    /// A client's registration is wrong.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The lifetime of tokens is out of bounds.
    #[error("{0}")]
    Lifetime(&'static str),
    /// A path that no request could arrive with.
    #[error("`{0}` is not a path; it must begin with a slash, and be escaped as in a request line")]
    Path(String),
    /// Two endpoints at one path.
    #[error("two endpoints have the same path; give each a path of its own")]
    PathTwice,
    /// A document or header could not be made from the settings.
    #[error("the settings make no valid document: {0}")]
    Document(String),
}
