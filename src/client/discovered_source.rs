//! [`DiscoveredSource`]: finds the issuer of a resource by the metadata of the resource (RFC 9728).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Uri;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::access_token::AccessToken;
use super::attempts::{Attempts, NotYet};
use super::cached_token_source::CachedTokenSource;
use super::config_error::ClientConfigError;
use super::discovery::fetch_json;
use super::origin::Origins;
use super::settings::ClientCredentials;
use super::token_error::{TokenSourceError, TokenSourceErrorKind};
use super::token_source::{TokenFuture, TokenSource};
use super::transport::Transport;
use crate::clock::Moment;
use crate::object::Object;
use crate::quoted::quoted;
use crate::scope::Scopes;
use crate::uri::{self, PlainHttp};

/// The least time between two looks at the metadata that a refusal causes.
const MIN_AGE: Duration = Duration::from_secs(60);

/// No issuer is chosen.
const NONE: usize = usize::MAX;

/// A clone makes the same choice.
#[derive(Clone, Debug)]
pub(super) struct DiscoveredSource(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    resource: String,
    plain_http: PlainHttp,
    /// The issuers that credentials may be sent to, and their tokens.
    issuers: Vec<(String, CachedTokenSource)>,
    transport: Arc<dyn Transport>,
    timeout: Duration,
    /// The index of the issuer in use, or [`NONE`].
    chosen: AtomicUsize,
    discovery: Mutex<Discovery>,
}

#[derive(Debug)]
struct Discovery {
    /// Where the metadata is fetched next.
    url: String,
    /// The issuer that was used before a refusal caused a new look.
    previous: Option<usize>,
    chosen_at: Option<Moment>,
    attempts: Attempts,
}

/// The members of a resource's metadata that decide anything (RFC 9728 §2).
#[derive(Deserialize)]
struct ResourceMetadata {
    resource: String,
    #[serde(default)]
    authorization_servers: Vec<String>,
}

impl DiscoveredSource {
    pub(super) fn new(
        resource: String,
        credentials: impl IntoIterator<Item = ClientCredentials>,
    ) -> Result<Self, ClientConfigError> {
        let mut issuers = Vec::<(String, CachedTokenSource)>::new();
        let mut first = None;
        for mut credentials in credentials {
            let issuer = credentials.issuer().to_owned();
            if issuers.iter().any(|(other, _)| *other == issuer) {
                return Err(ClientConfigError::DuplicateIssuer(issuer));
            }
            let how = (credentials.transport()?, credentials.timeout(), credentials.plain_http());
            first.get_or_insert(how);
            // The resource of the tokens is the one whose metadata named the issuer.
            issuers.push((issuer, credentials.only_resource(&resource).build()?));
        }
        let (Some((transport, timeout, plain_http)), Some((_, source))) = (first, issuers.first()) else {
            return Err(ClientConfigError::NoCredentials);
        };
        let url = well_known_url(&resource, plain_http)?;
        let attempts = Attempts::new(source.now());
        let discovery = Mutex::new(Discovery { url, previous: None, chosen_at: None, attempts });
        let chosen = AtomicUsize::new(NONE);
        Ok(Self(Arc::new(Shared { resource, plain_http, issuers, transport, timeout, chosen, discovery })))
    }

    pub(super) fn resource(&self) -> &str {
        &self.0.resource
    }

    pub(super) fn plain_http(&self) -> PlainHttp {
        self.0.plain_http
    }
}

/// RFC 9728 §3.1 has the well-known part between the host and the path.
fn well_known_url(resource: &str, plain_http: PlainHttp) -> Result<String, ClientConfigError> {
    let url = uri::secure(resource, plain_http).map_err(|reason| ClientConfigError::resource_url(resource, reason))?;
    let (scheme, authority) = (url.scheme_str().unwrap_or_default(), url.authority().map_or("", |host| host.as_str()));
    let path = url.path_and_query().map_or("", |path| path.as_str());
    // "any terminating slash following the host component MUST be removed" before the insertion.
    let path = if path == "/" { "" } else { path };
    Ok(format!("{scheme}://{authority}/.well-known/oauth-protected-resource{path}"))
}

impl Shared {
    fn chosen(&self) -> Option<&CachedTokenSource> {
        let (_, source) = self.issuers.get(self.chosen.load(Ordering::Acquire))?;
        Some(source)
    }

    /// Returns the source of the issuer in use, after a look at the metadata if need be.
    async fn choose(&self) -> Result<CachedTokenSource, TokenSourceError> {
        if let Some(source) = self.chosen() {
            return Ok(source.clone());
        }
        // One caller at a time looks; if it is cancelled, the next one does.
        let mut discovery = self.discovery.lock().await;
        if let Some(source) = self.chosen() {
            return Ok(source.clone());
        }
        let Some((_, first)) = self.issuers.first() else { return Err(no_issuer()) };
        discovery.attempts.start(first.now()).map_err(|not_yet| match not_yet {
            NotYet::Failed(error) => error,
            NotYet::Refused(wait) => no_issuer().with_retry_after(Some(wait)),
        })?;
        let found = self.look(&discovery.url).await;
        let now = first.now();
        // What a refusal named and is of no use changes nothing.
        let index = match (found, discovery.previous) {
            (Ok(index), _) => index,
            (Err(error), Some(previous)) => {
                tracing::warn!(resource = self.resource, %error, "the issuer that was found before stays in use");
                previous
            }
            (Err(error), None) => {
                return Err(discovery.attempts.failed(error, now, first.random_fraction()));
            }
        };
        discovery.attempts.succeeded();
        discovery.previous = Some(index);
        discovery.chosen_at = Some(now);
        self.chosen.store(index, Ordering::Release);
        self.issuers.get(index).map(|(_, source)| source.clone()).ok_or_else(no_issuer)
    }

    /// Fetches the metadata, and returns the first issuer in it that is one of ours.
    async fn look(&self, url: &str) -> Result<usize, TokenSourceError> {
        let answer = fetch_json(&*self.transport, url, self.timeout).await;
        let answer = answer.map_err(|error| TokenSourceError::of(error.kind, error.message))?;
        self.read(answer.body()).map_err(|what| {
            TokenSourceError::of(
                TokenSourceErrorKind::InvalidAnswer,
                format!("the metadata of the resource at {url}: {what}"),
            )
        })
    }

    fn read(&self, body: &[u8]) -> Result<usize, String> {
        let Object::<ResourceMetadata>(metadata) =
            serde_json::from_slice(body).map_err(|_| "expected a JSON object with a `resource` (RFC 9728 §2)")?;
        // "If these values are not identical, the data contained in the response MUST NOT be used" (RFC 9728 §3.3).
        if metadata.resource != self.resource {
            let (found, expected) = (quoted(&metadata.resource), quoted(&self.resource));
            return Err(format!("`resource` is {found}, expected {expected}, compared character by character"));
        }
        let ours = |named: &String| self.issuers.iter().position(|(issuer, _)| issuer == named);
        metadata.authorization_servers.iter().find_map(ours).ok_or_else(|| {
            let named: Vec<_> = metadata.authorization_servers.iter().take(4).map(|issuer| quoted(issuer)).collect();
            format!("there are no credentials for any of its `authorization_servers` ({})", named.join(", "))
        })
    }

    /// Returns whether the URL may be asked for the metadata of the resource.
    fn is_own_origin(&self, url: &str) -> bool {
        let mut origins = Origins::default();
        let Ok(url) = uri::secure(url, self.plain_http).map(|_| url.parse::<Uri>()) else { return false };
        origins.allow(&self.resource, self.plain_http).is_ok()
            && url.is_ok_and(|url| origins.check(&url, &http::HeaderMap::new()).is_ok())
    }
}

fn no_issuer() -> TokenSourceError {
    TokenSourceError::of(TokenSourceErrorKind::Internal, "no issuer is known for the resource")
}

impl TokenSource for DiscoveredSource {
    fn ready(&self) -> Option<AccessToken> {
        self.0.chosen()?.ready()
    }

    fn token(&self) -> TokenFuture {
        let shared = self.0.clone();
        Box::pin(async move { shared.choose().await?.token().await })
    }

    fn widen(&self, token: &AccessToken, scopes: &Scopes) -> bool {
        self.0.chosen().is_some_and(|source| source.widen(token, scopes))
    }

    fn discover(&self, resource_metadata: &str) -> bool {
        let shared = &self.0;
        if !shared.is_own_origin(resource_metadata) {
            return false;
        }
        // If someone looks already, there will be an answer.
        let Ok(mut discovery) = shared.discovery.try_lock() else { return true };
        let Some((_, first)) = shared.issuers.first() else { return false };
        if discovery.chosen_at.is_some_and(|chosen| first.now().since(chosen) < MIN_AGE) {
            return false;
        }
        resource_metadata.clone_into(&mut discovery.url);
        shared.chosen.store(NONE, Ordering::Release);
        true
    }

    fn invalidate(&self, token: &AccessToken) {
        if let Some(source) = self.0.chosen() {
            source.invalidate(token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::well_known_url;
    use crate::uri::PlainHttp;

    #[test]
    fn the_well_known_part_stands_between_the_host_and_the_path() {
        for (resource, expected) in [
            ("https://mcp.example.com", "https://mcp.example.com/.well-known/oauth-protected-resource"),
            ("https://mcp.example.com/", "https://mcp.example.com/.well-known/oauth-protected-resource"),
            (
                "https://mcp.example.com:8443/a/b?c",
                "https://mcp.example.com:8443/.well-known/oauth-protected-resource/a/b?c",
            ),
        ] {
            assert_eq!(well_known_url(resource, PlainHttp::Loopback).unwrap(), expected);
        }
        assert!(well_known_url("http://mcp.example.com", PlainHttp::Loopback).is_err());
    }
}
