//! [`ClientAuthentication`]: how this process authenticates to an authorization server, for requests of the calling side and for
//! introspection.

mod assertion;
mod blocking;
mod issued_assertion;
mod secret_source;

use std::borrow::Cow;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Uri};
use tower::BoxError;

pub(crate) use self::assertion::AssertionContext;
use self::assertion::{JWT_BEARER, JWT_SPIFFE};
use self::blocking::Threads;
pub use self::secret_source::SecretSource;
use crate::client_id::ClientId;
use crate::deadline::within;
use crate::debug_fields::debug_fields;
use crate::keys::SigningKey;
use crate::secret::ClientSecret;
#[cfg(feature = "workload_api")]
use crate::workload_api::WorkloadApi;

/// The parameters of a request to an endpoint of an authorization server, in order.
pub(crate) type Form<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// How a client authenticates at the token endpoint (RFC 6749 §2.3, RFC 7523 §2.2, RFC 8705 §2), and an API at the introspection
/// endpoint (RFC 7662 §2.1).
///
/// Secrets, files and assertions are read or made anew for each request for a token, so that a rotated credential needs no
/// restart.
///
/// ```
/// use tower_client_credentials::client::{ClientAuthentication, SecretSource};
/// use tower_client_credentials::{Algorithm, SigningKey};
///
/// let basic = ClientAuthentication::secret_basic(SecretSource::from_env("BILLING_SECRET"));
/// let post = ClientAuthentication::secret_post(SecretSource::from_file("/run/secrets/billing"));
/// let key = ClientAuthentication::private_key_jwt(SigningKey::generate(Algorithm::ES256)?);
/// let pod = ClientAuthentication::kubernetes_token("/var/run/secrets/tokens/issuer");
/// # Ok::<(), tower_client_credentials::keys::KeyError>(())
/// ```
#[derive(Clone)]
#[must_use = "it authenticates nothing until a client or an introspection has it"]
pub struct ClientAuthentication {
    method: Method,
    threads: Threads,
}

/// A function that gives an assertion.
#[derive(Clone)]
struct AssertionFunction(Arc<AskForAssertion>);

type AskForAssertion = dyn Fn() -> Pin<Box<dyn Future<Output = Result<String, BoxError>> + Send>> + Send + Sync;

debug_fields!(AssertionFunction {});

#[derive(Clone, Debug)]
enum Method {
    SecretBasic(SecretSource),
    SecretPost(SecretSource),
    SecretJwt(SecretSource),
    PrivateKeyJwt {
        key: Arc<SigningKey>,
        key_id: Option<String>,
    },
    AssertionFile {
        assertion_type: &'static str,
        path: PathBuf,
    },
    AssertionFunction {
        assertion_type: &'static str,
        function: AssertionFunction,
    },
    #[cfg(feature = "workload_api")]
    WorkloadApi {
        api: WorkloadApi,
        spiffe_id: Option<String>,
    },
    Certificate,
}

impl ClientAuthentication {
    /// Sends the id and the secret in the `Authorization` header (`client_secret_basic`, RFC 6749 §2.3.1), both form-encoded.
    pub fn secret_basic(secret: impl Into<SecretSource>) -> Self {
        Self::of(Method::SecretBasic(secret.into()))
    }

    /// Sends the id and the secret in the body (`client_secret_post`, RFC 6749 §2.3.1), for issuers that do not support the
    /// header.
    pub fn secret_post(secret: impl Into<SecretSource>) -> Self {
        Self::of(Method::SecretPost(secret.into()))
    }

    /// Sends an assertion that the secret signs with HS256 (`client_secret_jwt`, OpenID Connect Core §9). The secret itself is
    /// not sent. It needs at least 32 bytes.
    pub fn secret_jwt(secret: impl Into<SecretSource>) -> Self {
        Self::of(Method::SecretJwt(secret.into()))
    }

    /// Sends an assertion that the key signs (`private_key_jwt`, RFC 7523 §2.2). Each request has an assertion of its own,
    /// which is valid for 60 s. Its `kid` is the key's [thumbprint](SigningKey::key_id).
    pub fn private_key_jwt(key: impl Into<Arc<SigningKey>>) -> Self {
        Self::of(Method::PrivateKeyJwt { key: key.into(), key_id: None })
    }

    /// Does the same as [`private_key_jwt`](Self::private_key_jwt) with another `kid`: for issuers that gave the key a name of
    /// their own when it was registered.
    pub fn private_key_jwt_with_kid(key: impl Into<Arc<SigningKey>>, key_id: impl Into<String>) -> Self {
        Self::of(Method::PrivateKeyJwt { key: key.into(), key_id: Some(key_id.into()) })
    }

    /// Sends the token of a Kubernetes service account as the assertion (RFC 7523 §2.2). The file is the mount of a projected
    /// `serviceAccountToken` volume whose `audience` is the issuer.
    pub fn kubernetes_token(path: impl Into<PathBuf>) -> Self {
        Self::of(Method::AssertionFile { assertion_type: JWT_BEARER, path: path.into() })
    }

    /// Sends a SPIFFE JWT-SVID as the assertion (draft-ietf-oauth-spiffe-client-auth). The file is kept up to date by a helper
    /// of the Workload API, such as `spiffe-helper`; its audience is the issuer.
    pub fn jwt_svid_file(path: impl Into<PathBuf>) -> Self {
        Self::of(Method::AssertionFile { assertion_type: JWT_SPIFFE, path: path.into() })
    }

    /// Sends the assertion that an async function gives (RFC 7523 §2.2), such as the identity token of a cloud platform. It is
    /// called for each request for a token, and has as long as that.
    pub fn assertion_fn<F>(function: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String, BoxError>> + Send + 'static,
    {
        let function = AssertionFunction(Arc::new(move || Box::pin(function())));
        Self::of(Method::AssertionFunction { assertion_type: JWT_BEARER, function })
    }

    /// Sends the SPIFFE JWT-SVID that an async function gives, as [`assertion_fn`](Self::assertion_fn) does. To ask the Workload
    /// API, use `jwt_svid` (feature `workload_api`).
    pub fn jwt_svid_fn<F>(function: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String, BoxError>> + Send + 'static,
    {
        let function = AssertionFunction(Arc::new(move || Box::pin(function())));
        Self::of(Method::AssertionFunction { assertion_type: JWT_SPIFFE, function })
    }

    /// Sends a SPIFFE JWT-SVID from the Workload API as the assertion (draft-ietf-oauth-spiffe-client-auth): the default identity
    /// of this process, for the issuer as the audience. It is fetched for each request for a token; the agent caches it.
    #[cfg(feature = "workload_api")]
    pub fn jwt_svid(api: WorkloadApi) -> Self {
        Self::of(Method::WorkloadApi { api, spiffe_id: None })
    }

    /// Does the same as [`jwt_svid`](Self::jwt_svid) with the JWT-SVID of this SPIFFE ID, for a process that has several.
    #[cfg(feature = "workload_api")]
    pub fn jwt_svid_of(api: WorkloadApi, spiffe_id: impl Into<String>) -> Self {
        Self::of(Method::WorkloadApi { api, spiffe_id: Some(spiffe_id.into()) })
    }

    /// Sends only the `client_id` (RFC 8705 §2, and X.509-SVIDs). The certificate is that of the TLS connection:
    /// [`http_service`](crate::client::ClientCredentials::http_service) has to present it.
    pub fn certificate() -> Self {
        Self::of(Method::Certificate)
    }

    fn of(method: Method) -> Self {
        Self { method, threads: Threads::default() }
    }

    /// Returns the authenticated request with this form, if the credential can be had within this time.
    pub(crate) async fn request(
        &self,
        context: AssertionContext<'_>,
        endpoint: &Uri,
        mut form: Form<'_>,
        accept: &'static str,
        time: Duration,
    ) -> Result<Request<Bytes>, CredentialError> {
        let mut request = Request::new(Bytes::new());
        let applied = within(time, self.apply(context, &mut form, request.headers_mut())).await;
        applied.map_err(|late| CredentialError::new(format!("the credential could not be read: {late}")))??;
        // Any text can be encoded; an empty body would be refused by the server.
        *request.body_mut() = serde_urlencoded::to_string(form).unwrap_or_default().into();
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = endpoint.clone();
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        Ok(request)
    }

    async fn apply(
        &self,
        context: AssertionContext<'_>,
        form: &mut Form<'_>,
        headers: &mut HeaderMap,
    ) -> Result<(), CredentialError> {
        let client_id = context.client_id;
        if let Method::SecretBasic(secret) = &self.method {
            headers.insert(AUTHORIZATION, basic(client_id, &secret.read(&self.threads).await?)?);
            return Ok(());
        }
        form.push(("client_id".into(), client_id.as_str().to_owned().into()));
        match &self.method {
            Method::SecretBasic(_) | Method::Certificate => {}
            Method::SecretPost(secret) => {
                form.push(("client_secret".into(), secret.read(&self.threads).await?.to_string().into()));
            }
            Method::SecretJwt(secret) => {
                let secret = secret.read(&self.threads).await?;
                let key = SigningKey::dangerous_hs256_verifiers_can_forge(secret.as_bytes());
                let key = key.map_err(|error| CredentialError::new(format!("client_secret_jwt: {error}")))?;
                push_assertion(form, JWT_BEARER, assertion::sign(&key, None, context).await?);
            }
            Method::PrivateKeyJwt { key, key_id } => {
                push_assertion(form, JWT_BEARER, assertion::sign(key, key_id.as_deref(), context).await?);
            }
            Method::AssertionFile { assertion_type, path } => {
                push_assertion(form, assertion_type, issued_assertion::read(&self.threads, path.clone()).await?);
            }
            Method::AssertionFunction { assertion_type, function } => {
                push_assertion(form, assertion_type, issued_assertion::ask(function).await?);
            }
            #[cfg(feature = "workload_api")]
            Method::WorkloadApi { api, spiffe_id } => {
                let svid = issued_assertion::fetch(api, context.audience, spiffe_id.as_deref()).await?;
                push_assertion(form, JWT_SPIFFE, svid);
            }
        }
        Ok(())
    }
}

/// A secret is sent as `client_secret_basic`, which every authorization server supports (RFC 6749 §2.3.1).
impl From<ClientSecret> for ClientAuthentication {
    fn from(secret: ClientSecret) -> Self {
        Self::secret_basic(secret)
    }
}

impl From<SecretSource> for ClientAuthentication {
    fn from(secret: SecretSource) -> Self {
        Self::secret_basic(secret)
    }
}

fn push_assertion(form: &mut Form<'_>, assertion_type: &'static str, assertion: String) {
    form.push(("client_assertion_type".into(), assertion_type.into()));
    form.push(("client_assertion".into(), assertion.into()));
}

/// RFC 6749 §2.3.1: both are form-encoded before they are joined.
fn basic(client_id: &ClientId, secret: &str) -> Result<HeaderValue, CredentialError> {
    let pair = serde_urlencoded::to_string([(client_id.as_str(), secret)]);
    let pair = pair.map_err(|_| CredentialError::new("the client id and the secret cannot be encoded"))?;
    let header = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair.replacen('=', ":", 1))));
    let mut header =
        header.map_err(|_| CredentialError::new("the client id and the secret do not fit into a header"))?;
    header.set_sensitive(true);
    Ok(header)
}

/// The credential could not be read or made. The text names its source and never shows it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CredentialError(String);

impl CredentialError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

debug_fields!(ClientAuthentication { method });
