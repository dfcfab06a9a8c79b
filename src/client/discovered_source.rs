//! [`DiscoveredSource`]: finds the issuer of a resource by the metadata of the resource (RFC 9728).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Uri;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::access_token::AccessToken;
use super::attempts::{Attempts, NotYet};
use super::cached_token_source::CachedTokenSource;
use super::config_error::ClientConfigError;
use super::discovery::{NoDocument, fetch_json};
use super::in_flight::InFlight;
use super::origin::Origins;
use super::settings::ClientCredentials;
use super::token_cache::Tokens;
use super::token_error::{TokenSourceError, TokenSourceErrorKind};
use super::token_source::{TokenFuture, TokenSource};
use crate::clock::Moment;
use crate::object::Object;
use crate::quoted::quoted;
use crate::scope::Scopes;
use crate::transport::{HttpClient, Limits};
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
    /// Where its metadata is at first: the well-known URL with the path of the resource, and the one without.
    urls: (String, Option<String>),
    plain_http: PlainHttp,
    /// The issuers that credentials may be sent to, and their tokens.
    issuers: Vec<(String, CachedTokenSource)>,
    http: Arc<dyn HttpClient>,
    limits: Limits,
    /// The index of the issuer in use, or [`NONE`] until the metadata was read once.
    chosen: AtomicUsize,
    discovery: Mutex<Discovery>,
}

#[derive(Debug)]
struct Discovery {
    /// Where the metadata is fetched next.
    url: String,
    chosen_at: Option<Moment>,
    attempts: Attempts,
    /// The look at the metadata that is in flight.
    look: Option<Look>,
    /// How many looks were started.
    looks: u64,
}

/// A look at the metadata.
type Look = InFlight<Outcome>;

/// The index of an issuer.
type Outcome = Result<usize, TokenSourceError>;

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
            let how = (credentials.http_client()?, credentials.limits(), credentials.plain_http());
            first.get_or_insert(how);
            // The resource of the tokens is the one whose metadata named the issuer.
            issuers.push((issuer, credentials.only_resource(&resource).build()?));
        }
        let (Some((http, limits, plain_http)), Some((_, source))) = (first, issuers.first()) else {
            return Err(ClientConfigError::NoCredentials);
        };
        let urls = well_known_urls(&resource, plain_http)?;
        let url = urls.0.clone();
        let attempts = Attempts::new(source.now());
        let discovery = Mutex::new(Discovery { url, chosen_at: None, attempts, look: None, looks: 0 });
        let chosen = AtomicUsize::new(NONE);
        Ok(Self(Arc::new(Shared { resource, urls, plain_http, issuers, http, limits, chosen, discovery })))
    }

    pub(super) fn resource(&self) -> &str {
        &self.0.resource
    }

    pub(super) fn plain_http(&self) -> PlainHttp {
        self.0.plain_http
    }
}

/// RFC 9728 §3.1 has the well-known part between the host and the path. MCP (revision 2025-11-25) looks without the path after that.
fn well_known_urls(resource: &str, plain_http: PlainHttp) -> Result<(String, Option<String>), ClientConfigError> {
    let url = uri::secure(resource, plain_http).map_err(|reason| ClientConfigError::resource_url(resource, reason))?;
    let (scheme, authority) = (url.scheme_str().unwrap_or_default(), url.authority().map_or("", |host| host.as_str()));
    let path = url.path_and_query().map_or("", |path| path.as_str());
    // "any terminating slash following the host component MUST be removed" before the insertion.
    let path = if path == "/" { "" } else { path };
    let root = format!("{scheme}://{authority}/.well-known/oauth-protected-resource");
    Ok((format!("{root}{path}"), (!path.is_empty()).then_some(root)))
}

impl Shared {
    fn chosen(&self) -> Option<&CachedTokenSource> {
        let (_, source) = self.issuers.get(self.chosen.load(Ordering::Acquire))?;
        Some(source)
    }

    fn discovery(&self) -> MutexGuard<'_, Discovery> {
        self.discovery.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Result<Moment, TokenSourceError> {
        self.issuers.first().map(|(_, first)| first.now()).ok_or_else(no_issuer)
    }

    /// Returns the source of the issuer in use, after a look at the metadata if there was none yet.
    async fn choose(self: &Arc<Self>) -> Result<CachedTokenSource, TokenSourceError> {
        loop {
            if let Some(source) = self.chosen() {
                return Ok(source.clone());
            }
            let look = self.start_look(None)?.ok_or_else(no_issuer)?;
            if let Some(Err(error)) = look.result(self.now()?).await {
                return Err(error);
            }
        }
    }

    /// Starts a look at the metadata, or returns the one that is in flight. A URL that a refusal named is not looked at if the last
    /// look was a short time ago.
    fn start_look(self: &Arc<Self>, named: Option<&str>) -> Result<Option<Look>, TokenSourceError> {
        let now = self.now()?;
        let runtime = Handle::try_current().map_err(|_| {
            let message = "the metadata is read in a Tokio runtime, which is missing here; call this in an async fn";
            TokenSourceError::of(TokenSourceErrorKind::Internal, message)
        })?;
        let mut discovery = self.discovery();
        if let Some(look) = &discovery.look
            && !look.is_lost(now)
        {
            return Ok(Some(look.clone()));
        }
        if named.is_some() && discovery.chosen_at.is_some_and(|chosen| now.since(chosen) < MIN_AGE) {
            return Ok(None);
        }
        discovery.attempts.start(now).map_err(|not_yet| match not_yet {
            NotYet::Failed(error) => error,
            NotYet::Refused(wait) => no_issuer().with_retry_after(Some(wait)),
        })?;
        if let Some(named) = named {
            named.clone_into(&mut discovery.url);
        }
        discovery.looks = discovery.looks.wrapping_add(1);
        let (look, sender) = Look::new(discovery.looks, now, self.limits.time);
        let (number, url) = (discovery.looks, discovery.url.clone());
        discovery.look = Some(look.clone());
        drop(discovery);
        // A runtime that ends drops its tasks at once, and then the landing needs the lock.
        let landing = Landing { shared: self.clone(), number, sender };
        runtime.spawn(async move {
            let found = landing.shared.look(&url).await;
            landing.land(found);
        });
        Ok(Some(look))
    }

    /// Fetches the metadata, and returns the first issuer in it that is one of ours.
    async fn look(&self, url: &str) -> Result<usize, TokenSourceError> {
        let (mut url, now) = (url, self.now()?);
        let mut answer = fetch_json(&*self.http, url, self.limits, now).await;
        // A resource may have its metadata for the whole host only.
        if let Err(first) = &answer
            && first.is_absent
            && *url == self.urls.0
            && let Some(root) = &self.urls.1
        {
            let second = fetch_json(&*self.http, root, self.limits, now).await;
            url = root;
            answer = second
                .map_err(|second| NoDocument { message: format!("{}; {}", first.message, second.message), ..second });
        }
        self.read(answer?.body()).map_err(|what| {
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

/// Ends a look, whatever happens to its task.
struct Landing {
    shared: Arc<Shared>,
    number: u64,
    sender: watch::Sender<Option<Outcome>>,
}

impl Landing {
    fn land(&self, found: Outcome) {
        let Some((_, first)) = self.shared.issuers.first() else { return };
        let (now, random) = (first.now(), first.random_fraction());
        let mut discovery = self.shared.discovery();
        // A look that was given up changes nothing: another one has taken its place.
        if discovery.look.take_if(|look| look.number() == self.number).is_none() {
            return;
        }
        let (outcome, unused) = match (found, self.shared.chosen.load(Ordering::Acquire)) {
            (Ok(index), _) => (Ok(index), None),
            (Err(error), NONE) => (Err(discovery.attempts.failed(error, now, random)), None),
            // What a refusal named and is of no use changes nothing.
            (Err(error), previous) => (Ok(previous), Some(error)),
        };
        if let Ok(index) = outcome {
            discovery.attempts.succeeded();
            discovery.chosen_at = Some(now);
            self.shared.chosen.store(index, Ordering::Release);
        }
        drop(discovery);
        if let Some(error) = unused {
            tracing::warn!(resource = self.shared.resource, %error, "the issuer that was found before stays in use");
        }
        self.sender.send_replace(Some(outcome));
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let is_pending = self.sender.borrow().is_none();
        if is_pending {
            let message = "the task that read the metadata was ended: it panicked, or its runtime was shut down";
            self.land(Err(TokenSourceError::of(TokenSourceErrorKind::Internal, message)));
        }
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

    fn widen(&self, token: &AccessToken, scopes: &Scopes) -> Option<TokenFuture> {
        self.0.chosen()?.widen(token, scopes)
    }

    fn discover(&self, resource_metadata: &str) -> Option<TokenFuture> {
        let shared = self.0.clone();
        if !shared.is_own_origin(resource_metadata) {
            return None;
        }
        let look = shared.start_look(Some(resource_metadata)).ok().flatten()?;
        // Other calls use the issuer that was found before, until the look ends.
        Some(Box::pin(async move {
            look.result(shared.now()?).await;
            shared.choose().await?.token().await
        }))
    }

    fn invalidate(&self, token: &AccessToken) {
        // The issuer in use may be another one by now.
        if let Some(tokens) = Tokens::of(token) {
            tokens.invalidate(token);
        }
    }

    fn refused_without_explanation(&self, token: &AccessToken) {
        if let Some(tokens) = Tokens::of(token) {
            tokens.refused_without_explanation(token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::well_known_urls;
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
            assert_eq!(well_known_urls(resource, PlainHttp::Loopback).unwrap().0, expected);
        }
        assert!(well_known_urls("http://mcp.example.com", PlainHttp::Loopback).is_err());
    }
}
