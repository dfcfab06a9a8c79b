//! [`ClientCredentialsLayer`]: puts tokens on the requests of an HTTP client.

use std::sync::Arc;

use tower::Layer;

use super::config_error::ClientConfigError;
use super::discovered_source::DiscoveredSource;
use super::layer_source::LayerSource;
use super::origin::Origins;
use super::repeat::{CloneBody, NoRepeat, Replay, ReplayBody};
use super::service::ClientCredentialsService;
use super::settings::ClientCredentials;
use super::token_source::TokenSource;
use crate::uri::{self, PlainHttp};

/// Sends each request with an access token, and repeats it once with a new one if the token is refused.
///
/// It wraps any `Service<http::Request<B>>`: the client of hyper-util, a tonic channel, `reqwest` behind a conversion, a mock. See
/// the [module page](super) for its rules.
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_client_credentials::client::SecretSource;
/// use tower_client_credentials::{ClientCredentials, ClientCredentialsLayer};
/// # use std::convert::Infallible;
/// # use http::{Request, Response};
/// # let hyper_client = tower::service_fn(|_: Request<String>| async { Ok::<_, Infallible>(Response::new(())) });
///
/// # #[cfg(feature = "remote")] {
/// let secret = SecretSource::from_env("BILLING_SECRET");
/// let credentials =
///     ClientCredentials::new("https://auth.example.com", "billing", secret).resource("https://api.example.com");
/// let http = ServiceBuilder::new().layer(ClientCredentialsLayer::new(credentials)?).service(hyper_client);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// `R` says how the body of a request is [repeated](super::RepeatBody): by a clone, unless [`replay`](Self::replay) or
/// [`without_repeat`](Self::without_repeat) changes that.
#[derive(Clone, Debug)]
pub struct ClientCredentialsLayer<R = CloneBody> {
    source: LayerSource,
    origins: Arc<Origins>,
    repeat: R,
}

impl ClientCredentialsLayer {
    /// Makes the layer with a token source of its own. Tokens may be sent to the origin of each
    /// [`resource`](ClientCredentials::resource) that is an http or https URL.
    ///
    /// # Errors
    ///
    /// As [`ClientCredentials::build`], and when no resource is a URL; use [`from_source`](Self::from_source) then.
    pub fn new(credentials: ClientCredentials) -> Result<Self, ClientConfigError> {
        let mut origins = Origins::default();
        let plain_http = credentials.plain_http();
        // A resource with another scheme, such as `api://billing`, has no origin.
        for resource in credentials.resources().iter().filter(|resource| uri::http_url(resource).is_ok()) {
            origins.allow(resource, plain_http)?;
        }
        if origins.is_empty() {
            return Err(ClientConfigError::NoOrigin);
        }
        Ok(Self::of(credentials.build()?, origins))
    }

    /// Makes the layer for a resource whose issuer is discovered. Each of the credentials is for one issuer, and no other issuer gets
    /// a credential. Their tokens are requested for this resource.
    ///
    /// Before the first token is requested, the metadata of the resource is fetched from its well-known URL (RFC 9728 §3.1), or, if
    /// there is no document, from the one without the path of the resource. The first of its `authorization_servers` for which there are credentials is used. When a 401 names a `resource_metadata`, the metadata is
    /// fetched again from there, at most once per 60 s. It is believed only if it has the origin of the resource, and its `resource`
    /// is identical to this value.
    ///
    /// ```
    /// # #[cfg(feature = "remote")] {
    /// use tower_client_credentials::client::SecretSource;
    /// use tower_client_credentials::{ClientCredentials, ClientCredentialsLayer};
    ///
    /// let first = ClientCredentials::new("https://auth.example.com", "agent", SecretSource::from_env("FIRST"));
    /// let second = ClientCredentials::new("https://login.example.org", "agent-7", SecretSource::from_env("SECOND"));
    /// let layer = ClientCredentialsLayer::discover("https://mcp.example.com/mcp", [first, second])?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), without credentials, and with two for the same issuer.
    pub fn discover(
        resource: impl Into<String>,
        credentials: impl IntoIterator<Item = ClientCredentials>,
    ) -> Result<Self, ClientConfigError> {
        let source = DiscoveredSource::new(resource.into(), credentials)?;
        let mut origins = Origins::default();
        origins.allow(source.resource(), source.plain_http())?;
        Ok(Self::of(source, origins))
    }

    fn of(source: impl TokenSource, origins: Origins) -> Self {
        Self { source: LayerSource::new(source), origins: Arc::new(origins), repeat: CloneBody::default() }
    }

    /// Makes the layer on a source that other layers may share, or on one of your own. Tokens may be sent to the origin of this
    /// URL.
    ///
    /// # Errors
    ///
    /// When it is not an https URL, or one of http on loopback.
    pub fn from_source(source: impl TokenSource, origin: impl AsRef<str>) -> Result<Self, ClientConfigError> {
        let mut origins = Origins::default();
        origins.allow(origin.as_ref(), PlainHttp::Loopback)?;
        Ok(Self::of(source, origins))
    }

    /// Repeats requests whose body cannot be cloned, such as those of tonic: up to 64 KiB of a body are recorded while it is
    /// sent. `wrap` makes a body of the recording one:
    ///
    /// ```
    /// # use tower_client_credentials::client::AccessToken;
    /// # use tower_client_credentials::ClientCredentialsLayer;
    /// # let source = AccessToken::bearer("static")?;
    /// let layer = ClientCredentialsLayer::from_source(source, "https://grpc.example.com")?
    ///     .base_origin("https://grpc.example.com")?
    ///     .replay(tonic::body::Body::new);
    /// # let _ = layer;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn replay<B>(self, wrap: fn(ReplayBody<B>) -> B) -> ClientCredentialsLayer<Replay<B>> {
        self.with_repeat(Replay::new(wrap))
    }

    /// Repeats no request, for bodies that can neither be cloned nor wrapped. A refused token is replaced all the same, for the
    /// requests that follow.
    #[must_use]
    pub fn without_repeat(self) -> ClientCredentialsLayer<NoRepeat> {
        self.with_repeat(NoRepeat::default())
    }

    fn with_repeat<R>(self, repeat: R) -> ClientCredentialsLayer<R> {
        let Self { source, origins, .. } = self;
        ClientCredentialsLayer { source, origins, repeat }
    }
}

impl<R> ClientCredentialsLayer<R> {
    /// Allows tokens to be sent to the origin of one more URL. A token is sent to no other origin: such requests fail before
    /// anything is sent.
    ///
    /// # Errors
    ///
    /// When it is not an https URL, or one of http on loopback.
    pub fn allow_origin(self, url: impl AsRef<str>) -> Result<Self, ClientConfigError> {
        self.change_origins(|origins| origins.allow(url.as_ref(), PlainHttp::Loopback))
    }

    /// Allows tokens to be sent to the origin of one more URL, even by plain `http`.
    ///
    /// Dangerous: an attacker on the network can read the tokens. It is for development, and for networks that encrypt
    /// underneath, such as a service mesh.
    ///
    /// # Errors
    ///
    /// When it is not an http or https URL.
    pub fn dangerous_allow_plain_http_origin(self, url: impl AsRef<str>) -> Result<Self, ClientConfigError> {
        self.change_origins(|origins| origins.allow(url.as_ref(), PlainHttp::AnyHost))
    }

    /// Accepts requests whose URI has no authority, such as those of tonic, and states that the inner service sends all of them
    /// to the origin of this URL. By default such requests fail, since it is not known where they would go.
    ///
    /// # Errors
    ///
    /// When it is not an https URL, or one of http on loopback. For plain `http` with another host, use
    /// [`dangerous_plain_http_base_origin`](Self::dangerous_plain_http_base_origin).
    pub fn base_origin(self, url: impl AsRef<str>) -> Result<Self, ClientConfigError> {
        self.change_origins(|origins| origins.set_base(url.as_ref(), PlainHttp::Loopback))
    }

    /// Does the same as [`base_origin`](Self::base_origin), even for plain `http`.
    ///
    /// Dangerous: an attacker on the network can read the tokens.
    ///
    /// # Errors
    ///
    /// When it is not an http or https URL.
    pub fn dangerous_plain_http_base_origin(self, url: impl AsRef<str>) -> Result<Self, ClientConfigError> {
        self.change_origins(|origins| origins.set_base(url.as_ref(), PlainHttp::AnyHost))
    }

    fn change_origins<E: Into<ClientConfigError>>(
        mut self,
        change: impl FnOnce(&mut Origins) -> Result<(), E>,
    ) -> Result<Self, ClientConfigError> {
        change(Arc::make_mut(&mut self.origins)).map_err(Into::into)?;
        Ok(self)
    }
}

impl<S, R: Clone> Layer<S> for ClientCredentialsLayer<R> {
    type Service = ClientCredentialsService<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        ClientCredentialsService::new(inner, self.source.clone(), self.origins.clone(), self.repeat.clone())
    }
}
