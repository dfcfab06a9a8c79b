//! [`ClientConfigError`]: settings of the calling side that cannot work.

use super::origin::InvalidOrigin;
use crate::audience::InvalidAudience;
use crate::client_id::InvalidClientId;
use crate::issuer::InvalidIssuer;
use crate::quoted::{shortened, shown_url};
use crate::transport::NoHttpClient;

/// The settings of the calling side cannot work; the text says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientConfigError {
    /// The issuer is invalid.
    #[error(transparent)]
    Issuer(#[from] InvalidIssuer),
    /// The client id is invalid.
    #[error(transparent)]
    ClientId(#[from] InvalidClientId),
    /// A resource is invalid.
    #[error("invalid resource `{resource}`: {error}")]
    #[non_exhaustive]
    Resource {
        /// The value that was given.
        resource: String,
        /// Why it is invalid.
        error: InvalidAudience,
    },
    /// The resource is not a URL that its issuer can be discovered from.
    #[error("the issuer of the resource `{url}` cannot be discovered: {reason}")]
    #[non_exhaustive]
    ResourceUrl {
        /// The value that was given.
        url: String,
        /// Why it cannot be used.
        reason: &'static str,
    },
    /// The URL of the token endpoint cannot be used.
    #[error("the token endpoint `{url}` cannot be used: {reason}")]
    #[non_exhaustive]
    TokenEndpoint {
        /// The value that was given.
        url: String,
        /// Why it cannot be used.
        reason: &'static str,
    },
    /// A further parameter has a name that a setting of its own has.
    #[error("the parameter `{0}` has a setting of its own; use that in place of `parameter(…)`")]
    ReservedParameter(String),
    /// An origin that tokens may be sent to is invalid.
    #[error(transparent)]
    Origin(#[from] InvalidOrigin),
    /// No origin is known that tokens may be sent to.
    #[error(
        "it is not known where tokens may be sent: set `resource(…)` to the URL of the API, or use \
         `ClientCredentialsLayer::from_source(…)` with the origin of the API"
    )]
    NoOrigin,
    /// No issuer may be discovered.
    #[error("there are no credentials: give at least one set, with the issuer that it is for")]
    NoCredentials,
    /// Two sets of credentials are for one issuer.
    #[error("there are two sets of credentials for the issuer `{0}`; remove one of them")]
    DuplicateIssuer(String),
    /// There is nothing to send requests for tokens with.
    #[error("there is no HTTP client for requests for tokens: turn on feature `remote`, or set `http_service(…)`")]
    NoHttpService,
    /// A proxy setting for the crate's own HTTP client, which was replaced.
    #[error(
        "use_environment_proxy() is for the HTTP client of this crate, which http_service(…) replaces; remove one of them"
    )]
    ProxyOfOwnClient,
    /// The HTTP client of feature `remote` could not be made.
    #[error("the HTTP client for requests for tokens could not be made: {0}")]
    HttpClient(String),
}

/// The kind of a [`ClientConfigError`]: the settings to correct.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientConfigErrorKind {
    /// The issuer or its token endpoint.
    Issuer,
    /// The client id, or the sets of credentials.
    Credentials,
    /// The resource.
    Resource,
    /// A further parameter of the requests for tokens.
    Parameter,
    /// The origins that tokens may be sent to.
    Destination,
    /// The HTTP client for the requests for tokens.
    HttpClient,
}

impl ClientConfigError {
    /// Returns the kind: the settings to correct.
    #[must_use]
    pub const fn kind(&self) -> ClientConfigErrorKind {
        match self {
            Self::Issuer(_) | Self::TokenEndpoint { .. } => ClientConfigErrorKind::Issuer,
            Self::ClientId(_) | Self::NoCredentials | Self::DuplicateIssuer(_) => ClientConfigErrorKind::Credentials,
            Self::Resource { .. } | Self::ResourceUrl { .. } => ClientConfigErrorKind::Resource,
            Self::ReservedParameter(_) => ClientConfigErrorKind::Parameter,
            Self::Origin(_) | Self::NoOrigin => ClientConfigErrorKind::Destination,
            Self::NoHttpService | Self::ProxyOfOwnClient | Self::HttpClient(_) => ClientConfigErrorKind::HttpClient,
        }
    }

    /// Returns the value that is invalid, if it is one: an issuer, a URL, a resource or the name of a parameter. A URL is without its
    /// password and its query.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        match self {
            Self::Issuer(error) => Some(error.value()),
            Self::Origin(error) => Some(error.url()),
            Self::Resource { resource: value, .. }
            | Self::ResourceUrl { url: value, .. }
            | Self::TokenEndpoint { url: value, .. }
            | Self::ReservedParameter(value)
            | Self::DuplicateIssuer(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn resource(resource: &str, error: InvalidAudience) -> Self {
        Self::Resource { resource: shown_url(resource), error }
    }

    pub(super) fn resource_url(url: &str, reason: &'static str) -> Self {
        Self::ResourceUrl { url: shown_url(url), reason }
    }

    pub(super) fn token_endpoint(url: &str, reason: &'static str) -> Self {
        Self::TokenEndpoint { url: shown_url(url), reason }
    }

    pub(super) fn reserved_parameter(name: &str) -> Self {
        Self::ReservedParameter(shortened(name))
    }
}

impl From<NoHttpClient> for ClientConfigError {
    fn from(error: NoHttpClient) -> Self {
        match error {
            NoHttpClient::ProxyOfOwnClient => Self::ProxyOfOwnClient,
            #[cfg(feature = "remote")]
            NoHttpClient::Failed(error) => Self::HttpClient(error.to_string()),
            #[cfg(not(feature = "remote"))]
            NoHttpClient::Missing => Self::NoHttpService,
        }
    }
}

// The sources are built with the default HTTP client.
#[cfg(all(test, feature = "remote"))]
mod tests {
    use super::ClientConfigErrorKind;
    use crate::client::{ClientAuthentication, ClientCredentials, ClientCredentialsLayer};
    use crate::secret::ClientSecret;

    #[test]
    fn the_kind_names_the_settings_and_the_value_is_the_invalid_one_without_a_password() {
        let settings = |issuer: &str| {
            let secret = ClientAuthentication::secret_basic(ClientSecret::generate().unwrap());
            ClientCredentials::new(issuer, "billing", secret)
        };
        let credentials = || settings("https://auth.example.com");
        let error = |credentials: ClientCredentials| credentials.build().unwrap_err();
        let origin = |url| ClientCredentialsLayer::from_source(credentials().build().unwrap(), url).unwrap_err();
        for (error, kind, value) in [
            (error(settings("https://u:hunter2@h")), ClientConfigErrorKind::Issuer, Some("https://…@h")),
            (
                error(credentials().token_endpoint("http://h?k=hunter2")),
                ClientConfigErrorKind::Issuer,
                Some("http://h?…"),
            ),
            (error(credentials().resource("a?hunter2")), ClientConfigErrorKind::Resource, Some("a?…")),
            (error(credentials().parameter("scope", "x")), ClientConfigErrorKind::Parameter, Some("scope")),
            (origin("https://u:hunter2@h"), ClientConfigErrorKind::Destination, Some("https://…@h")),
            (ClientCredentialsLayer::new(credentials()).unwrap_err(), ClientConfigErrorKind::Destination, None),
        ] {
            assert_eq!((error.kind(), error.value()), (kind, value), "{error}");
        }
    }

    #[test]
    fn the_error_of_a_setting_shows_its_value_but_no_password() {
        let settings = |issuer: &str| {
            let secret = ClientAuthentication::secret_basic(ClientSecret::generate().unwrap());
            ClientCredentials::new(issuer, "billing", secret)
        };
        let credentials = || settings("https://auth.example.com");
        let error = |credentials: ClientCredentials| credentials.build().unwrap_err().to_string();
        let origin =
            |url| ClientCredentialsLayer::from_source(credentials().build().unwrap(), url).unwrap_err().to_string();
        for (error, expected) in [
            (error(settings("https://u:hunter2@h")), "invalid issuer `https://…@h` (RFC 8414 §2): "),
            (origin("https://u:hunter2@h"), "tokens cannot be sent to `https://…@h`: "),
            (error(credentials().resource("a?hunter2")), "invalid resource `a?…`: "),
            (
                error(credentials().token_endpoint("https://u:hunter2@h/token")),
                "the token endpoint `https://…@h/token` cannot be used: ",
            ),
        ] {
            assert!(
                error.starts_with(expected) && !error.contains("hunter2"),
                "expected `{expected}…`, found: {error}"
            );
        }
    }
}
