//! [`VerifierError`]: the reason why there is no [`Verifier`](super::Verifier).

use crate::audience::{Audience, InvalidAudience};
#[cfg(feature = "remote")]
use crate::client_id::InvalidClientId;
use crate::issuer::InvalidIssuer;
#[cfg(feature = "remote")]
use crate::quoted::quoted;
use crate::quoted::shown_url;
#[cfg(feature = "remote")]
use crate::transport::{FetchError, HttpError, NoHttpClient};

/// A verifier cannot be created. The text says which setting is wrong, its value, and how to fix it, or which URL did not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct VerifierError(Box<Mistake>);

/// The kind of a [`VerifierError`], which says what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VerifierErrorKind {
    /// A setting is invalid, missing, or contradicts another one. Correct the configuration.
    Settings,
    /// The process cannot send requests: there is no Tokio runtime, or the HTTP client cannot be built.
    Environment,
    /// The issuer did not answer in time, or answered with 429 or 5xx. Another attempt may succeed.
    Unavailable,
    /// The issuer answered, but the answer cannot be used. Another attempt is useless until the issuer or the URL changes.
    InvalidAnswer,
}

#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Mistake {
    #[error(transparent)]
    Issuer(InvalidIssuer),
    #[error("`{value}` is {error}")]
    Audience { value: String, error: InvalidAudience },
    #[error("duplicate issuer `{0}`; use a separate layer for the second verifier")]
    IssuerTwice(String),
    #[cfg(feature = "remote")]
    #[error(
        "two introspection endpoints, and an opaque token does not name its own; use a separate layer for the second verifier"
    )]
    IntrospectionTwice,
    #[cfg(feature = "remote")]
    #[error("invalid URL of the {of} `{url}`: {reason}")]
    Url { of: &'static str, url: String, reason: &'static str },
    #[cfg(feature = "remote")]
    #[error("no introspection endpoint; set it with .at(…)")]
    NoEndpoint,
    #[cfg(feature = "remote")]
    #[error(
        "no credentials for the introspection endpoint; set the client id and secret of this API with .client_secret_basic(…), or another \
         method with .client_authentication(…)"
    )]
    NoCredentials,
    #[cfg(feature = "remote")]
    #[error("invalid client id of this API at the issuer {value}: {error}")]
    ClientId { value: String, error: InvalidClientId },
    #[cfg(feature = "remote")]
    #[error(
        "the verifier for signed answers has no keys of the issuer `{0}`; use a verifier of the same issuer in .signed_answers(…)"
    )]
    Signer(String),
    #[cfg(feature = "remote")]
    #[error("no Tokio runtime, which fetching keys needs; call this from an async fn under #[tokio::main]")]
    NoRuntime,
    #[cfg(feature = "remote")]
    #[error(
        "use_environment_proxy() is for the HTTP client of this crate, which http_client(…) replaces; remove one of them"
    )]
    ProxyOfOwnClient,
    #[cfg(feature = "remote")]
    #[error("cannot build the HTTP client: {0}")]
    Client(std::sync::Arc<HttpError>),
    #[cfg(feature = "remote")]
    #[error("cannot fetch the issuer's keys: {0}")]
    Fetch(FetchError),
}

impl VerifierError {
    /// Returns the kind, which says what to do about the error.
    #[must_use]
    pub fn kind(&self) -> VerifierErrorKind {
        match &*self.0 {
            #[cfg(feature = "remote")]
            Mistake::NoRuntime | Mistake::Client(_) => VerifierErrorKind::Environment,
            #[cfg(feature = "remote")]
            Mistake::Fetch(error) if error.is_transient() => VerifierErrorKind::Unavailable,
            #[cfg(feature = "remote")]
            Mistake::Fetch(_) => VerifierErrorKind::InvalidAnswer,
            _ => VerifierErrorKind::Settings,
        }
    }

    #[cfg(feature = "remote")]
    pub(super) fn url(of: &'static str, url: &str, reason: &'static str) -> Self {
        Mistake::Url { of, url: shown_url(url), reason }.into()
    }

    #[cfg(feature = "remote")]
    pub(super) fn client_id(value: &str, error: InvalidClientId) -> Self {
        Mistake::ClientId { value: quoted(value), error }.into()
    }
}

/// Parses the audience of a verifier.
pub(super) fn audience(text: &str) -> Result<Audience, VerifierError> {
    text.parse().map_err(|error| Mistake::Audience { value: shown_url(text), error }.into())
}

impl From<Mistake> for VerifierError {
    fn from(mistake: Mistake) -> Self {
        Self(Box::new(mistake))
    }
}

impl From<InvalidIssuer> for VerifierError {
    fn from(error: InvalidIssuer) -> Self {
        Mistake::Issuer(error).into()
    }
}

#[cfg(feature = "remote")]
impl From<NoHttpClient> for VerifierError {
    fn from(error: NoHttpClient) -> Self {
        match error {
            NoHttpClient::ProxyOfOwnClient => Mistake::ProxyOfOwnClient.into(),
            NoHttpClient::Failed(error) => Mistake::Client(std::sync::Arc::new(error)).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::VerifierErrorKind;
    use crate::keys::KeySet;
    use crate::verification::Verifier;

    #[test]
    fn the_error_names_the_value_and_how_to_fix_it() {
        let verifier = |issuer, audience| Verifier::with_keys(issuer, audience, KeySet::from([]));
        for (issuer, audience, text) in [
            ("auth.example.com", "https://api.example.com", "invalid issuer `auth.example.com`"),
            ("https://auth.example.com", "api", "`api` is not an audience (RFC 8707 §2): "),
        ] {
            let error = verifier(issuer, audience).unwrap_err();
            assert!(error.to_string().starts_with(text), "{error}");
            assert_eq!(error.kind(), VerifierErrorKind::Settings);
        }
        let one = || verifier("https://auth.example.com", "https://api.example.com").unwrap();
        let error = one().or(one()).unwrap_err();
        assert!(error.to_string().starts_with("duplicate issuer `https://auth.example.com`"), "{error}");
    }

    #[cfg(feature = "remote")]
    #[test]
    fn no_error_shows_the_password_or_the_query_of_a_url() {
        use crate::verification::RemoteIssuer;

        for url in
            ["https://user:hunter2@h/jwks", "https://h/jwks?key=hunter2#x", "user:hunter2@h", "https:// hunter2@h"]
        {
            let by_issuer = RemoteIssuer::new(url, "https://api.example.com").unwrap_err().to_string();
            assert!(!by_issuer.contains("hunter2"), "{by_issuer}");
            let issuer = || RemoteIssuer::new("https://auth.example.com", "https://api.example.com").unwrap();
            if let Err(error) = issuer().jwks_url(url) {
                assert!(!error.to_string().contains("hunter2"), "{error}");
                assert_eq!(error.kind(), VerifierErrorKind::Settings);
            }
        }
    }
}
