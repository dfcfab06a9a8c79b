//! [`ClientCredentials`]: the settings of the calling side → [`CachedTokenSource`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower::{BoxError, Service};

use super::cached_token_source::CachedTokenSource;
use super::config_error::ClientConfigError;
use super::discovery::{TokenEndpoint, check_endpoint};
use super::issuer_client::{IssuerClient, IssuerSettings};
use super::token_request::TokenQuery;
use super::transport::LIMITS;
use crate::audience::Audience;
use crate::client_authentication::ClientAuthentication;
use crate::clock::{Clock, SharedClock};
use crate::crypto::{Random, SystemRandom};
use crate::debug_fields::debug_fields;
use crate::event::EventSender;
use crate::issuer::Issuer;
use crate::scope::{Scope, Scopes};
use crate::transport::{HttpClient, Limits, Outgoing, ServiceClient};
use crate::uri::PlainHttp;

/// How long before its end a token is no longer sent, since a resource server's clock may be ahead of ours.
const MARGIN: Duration = Duration::from_secs(5);

/// The parameters that the settings have names for (RFC 6749 §4.4.2, RFC 7521 §4.2, RFC 8707).
const RESERVED: [&str; 7] =
    ["grant_type", "client_id", "client_secret", "client_assertion", "client_assertion_type", "scope", "resource"];

/// The credentials of a calling service at one issuer, and which tokens it requests.
///
/// [`ClientCredentialsLayer::new`](super::ClientCredentialsLayer::new) puts them on an HTTP client, and [`build`](Self::build)
/// makes a source of tokens for other uses.
///
/// ```
/// use tower_client_credentials::client::SecretSource;
/// use tower_client_credentials::{ClientCredentials, ClientCredentialsLayer, Scope};
///
/// const API: &str = "https://api.example.com";
///
/// # #[cfg(feature = "remote")] {
/// let secret = SecretSource::from_env("BILLING_SECRET");
/// let credentials = ClientCredentials::new("https://auth.example.com", "billing", secret)
///     .resource(API)
///     .scope(Scope::from_static("invoices:read"));
/// let layer = ClientCredentialsLayer::new(credentials)?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the settings are not used until .build(), or until a layer is created with them"]
pub struct ClientCredentials {
    issuer: String,
    client_id: String,
    authentication: ClientAuthentication,
    token_endpoint: Option<String>,
    assertion_audience: Option<String>,
    resources: Vec<String>,
    scopes: Scopes,
    parameters: Vec<(String, String)>,
    outgoing: Outgoing,
    margin: Duration,
    assumed_life: Option<Duration>,
    max_scopes: Option<Scopes>,
    clock: SharedClock,
    random: Arc<dyn Random>,
    events: Option<EventSender>,
}

impl ClientCredentials {
    /// Takes the issuer, the id that it registered this service under, and how the service authenticates. A secret is sent as
    /// `client_secret_basic`; see [`ClientAuthentication`] for the other methods.
    ///
    /// Every value is checked by [`build`](Self::build).
    pub fn new(
        issuer: impl Into<String>,
        client_id: impl Into<String>,
        authentication: impl Into<ClientAuthentication>,
    ) -> Self {
        Self {
            issuer: issuer.into(),
            client_id: client_id.into(),
            authentication: authentication.into(),
            token_endpoint: None,
            assertion_audience: None,
            resources: Vec::new(),
            scopes: Scopes::NONE,
            parameters: Vec::new(),
            outgoing: Outgoing::new(LIMITS),
            margin: MARGIN,
            assumed_life: None,
            max_scopes: None,
            clock: SharedClock::System,
            random: Arc::new(SystemRandom),
            events: None,
        }
    }

    /// Requests tokens for this API, by an absolute URI (`resource`, RFC 8707 §2). It is sent with every request for a token.
    /// If it is an http or https URL, tokens may be sent to its origin. Call it again for several.
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.resources.push(resource.into());
        self
    }

    /// Requests this scope (RFC 6749 §3.3), in addition to those before. Without one, the issuer's default applies.
    pub fn scope(self, scope: Scope) -> Self {
        Self { scopes: self.scopes.with(&scope), ..self }
    }

    /// Requests these scopes, in addition to those before.
    pub fn scopes(self, scopes: impl Into<Scopes>) -> Self {
        Self { scopes: self.scopes.union(&scopes.into()), ..self }
    }

    /// Sends a further parameter with each request for a token, such as the `audience` of Auth0.
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// Sets the URL of the token endpoint. By default it is discovered: the issuer's metadata (RFC 8414, or that of OpenID
    /// Connect Discovery) names it. Set it for issuers without metadata.
    pub fn token_endpoint(self, url: impl Into<String>) -> Self {
        Self { token_endpoint: Some(url.into()), ..self }
    }

    /// Sets the `aud` of client assertions. By default it is the issuer as the sole value (RFC 10070); some older servers
    /// expect the URL of their token endpoint.
    pub fn assertion_audience(self, audience: impl Into<String>) -> Self {
        Self { assertion_audience: Some(audience.into()), ..self }
    }

    /// Sends requests for tokens through this service, in place of the HTTP client of feature `remote`. It must not follow
    /// redirects to other hosts, since the requests carry the credential.
    ///
    /// For a server in the same process, use its endpoint as the service. No socket is needed then:
    ///
    /// ```
    /// use tower_client_credentials::{
    ///     AuthorizationServer, Client, ClientCredentials, ClientSecret, KeyRing, MemoryStore,
    /// };
    ///
    /// let secret = ClientSecret::generate()?;
    /// let clients = MemoryStore::try_from([Client::new("billing", &secret).audience("https://api.example.com")])?;
    /// let server = AuthorizationServer::new("https://auth.example.com", KeyRing::generate()?, clients)?;
    /// let tokens = ClientCredentials::new("https://auth.example.com", "billing", secret)
    ///     .token_endpoint("https://auth.example.com/token")
    ///     .http_service(server.token_service())
    ///     .build()?;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let token = tokens.token().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn http_service<S, B>(mut self, service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
            + Clone
            + Send
            + 'static,
        B: Body<Error: Into<BoxError>, Data: Send> + Send + 'static,
    {
        self.outgoing.set_client(ServiceClient::new(service));
        self
    }

    /// Accepts plain `http` with any host, in the issuer, in its token endpoint, and in [`resource`](Self::resource) as an
    /// origin that tokens may be sent to. By default it is accepted on loopback only.
    ///
    /// Dangerous: an attacker on the network can read the credential and the tokens. It is for development, and for networks
    /// that encrypt underneath, such as a service mesh.
    pub fn dangerous_plain_http(mut self) -> Self {
        self.outgoing.accept_plain_http();
        self
    }

    /// Sends requests for tokens through the proxy in `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`. By default they are
    /// sent directly and these variables are ignored, since a request contains the credential. Requests to this machine never use
    /// the proxy. It cannot be combined with [`http_service`](Self::http_service).
    pub fn use_environment_proxy(mut self) -> Self {
        self.outgoing.use_environment_proxy();
        self
    }

    /// Sets how long one request for a token may take: 10 s by default.
    pub fn request_timeout(mut self, time: Duration) -> Self {
        self.outgoing.limits.time = time;
        self
    }

    /// Sets how long before its end a token is no longer sent: 5 s by default, and at most a tenth of its life. Increase it
    /// where the clocks of resource servers are ahead.
    pub fn expiry_margin(self, time: Duration) -> Self {
        Self { margin: time, ..self }
    }

    /// Sets the life of tokens whose issuer does not name one (`expires_in`, RFC 6749 §5.1). By default such tokens are not
    /// reused: each call that needs a token waits for a new one.
    pub fn assumed_lifetime(self, time: Duration) -> Self {
        Self { assumed_life: Some(time), ..self }
    }

    /// Requests more scopes when a resource server asks for them, up to these in addition to the ones above. By default no
    /// answer of a resource server changes the requested scopes.
    ///
    /// A 403 with `error="insufficient_scope"` in a `Bearer` challenge (RFC 6750 §3.1) names the scopes. If all of them are within
    /// this maximum, a token with them is requested, the request is repeated once with it, and later requests use it from the start.
    pub fn max_scopes(self, scopes: impl Into<Scopes>) -> Self {
        Self { max_scopes: Some(scopes.into()), ..self }
    }

    /// Sends an [event](crate::event) for each request for a token and for each refused token. None by default.
    pub fn events(self, events: EventSender) -> Self {
        Self { events: Some(events), ..self }
    }

    /// Sets where the time comes from: the system by default.
    pub fn clock(self, clock: impl Clock) -> Self {
        Self { clock: SharedClock::new(clock), ..self }
    }

    /// Sets where the jitter and the `jti` of assertions come from: the system by default.
    pub fn random(self, random: impl Random) -> Self {
        Self { random: Arc::new(random), ..self }
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the HTTP client, which is the default one from then on if there is no other.
    pub(super) fn http_client(&mut self) -> Result<Arc<dyn HttpClient>, ClientConfigError> {
        Ok(self.outgoing.client()?)
    }

    /// Requests tokens for this resource, and for no other one.
    pub(super) fn only_resource(self, resource: &str) -> Self {
        Self { resources: vec![resource.to_owned()], ..self }
    }

    pub(super) fn limits(&self) -> Limits {
        self.outgoing.limits
    }

    pub(super) fn plain_http(&self) -> PlainHttp {
        self.outgoing.plain_http
    }

    pub(super) fn resources(&self) -> &[String] {
        &self.resources
    }

    /// Makes the source of the tokens. Nothing is sent before the first token is needed.
    ///
    /// # Errors
    ///
    /// When a value is invalid, for plain `http` without [the setting](Self::dangerous_plain_http), and without an HTTP service:
    /// turn on feature `remote`, or set [`http_service`](Self::http_service).
    pub fn build(mut self) -> Result<CachedTokenSource, ClientConfigError> {
        let issuer = Issuer::new(&self.issuer, self.outgoing.plain_http)?;
        let endpoint = match &self.token_endpoint {
            None => TokenEndpoint::discovered(),
            Some(url) => TokenEndpoint::At(
                check_endpoint(url, self.outgoing.plain_http)
                    .map_err(|reason| ClientConfigError::token_endpoint(url.as_str(), reason))?,
            ),
        };
        let resources = self.resources.iter().map(|resource| {
            let audience = resource.parse::<Audience>();
            audience.map(|_| resource.clone()).map_err(|error| ClientConfigError::resource(resource, error))
        });
        let resources = resources.collect::<Result<_, _>>()?;
        if let Some((name, _)) = self.parameters.iter().find(|(name, _)| RESERVED.contains(&name.as_str())) {
            return Err(ClientConfigError::reserved_parameter(name));
        }
        let max_scopes = self.max_scopes.map(|max| max.union(&self.scopes));
        let query = TokenQuery { scopes: self.scopes, resources, parameters: self.parameters };
        let client = IssuerClient::new(IssuerSettings {
            issuer,
            client_id: self.client_id.parse()?,
            authentication: self.authentication,
            endpoint,
            assertion_audience: self.assertion_audience,
            http: self.outgoing.client()?,
            plain_http: self.outgoing.plain_http,
            limits: self.outgoing.limits,
            margin: self.margin,
            assumed_life: self.assumed_life,
            max_scopes,
            clock: self.clock,
            random: self.random,
            events: self.events,
        });
        Ok(CachedTokenSource::new(Arc::new(client), query))
    }
}

debug_fields!(ClientCredentials { issuer, client_id, authentication, resources, scopes });
