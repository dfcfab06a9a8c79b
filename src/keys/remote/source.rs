//! [`KeySource`]: fetches a [`KeySet`] and how long it is fresh.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Uri;

use super::fetch_policy::Caching;
use crate::clock::Moment;
use crate::issuer::Issuer;
use crate::keys::{Algorithm, KeySet};
use crate::sync::lock;
use crate::transport::HttpClient;
use crate::transport::Limits;
use crate::transport::fetch;
use crate::transport::fetch::{FetchError, SharedCaches, Tag};
use crate::uri::PlainHttp;

/// How long metadata is used, while the keys at its URL can be fetched.
const METADATA_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Where keys are published.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// At the URL in the metadata of this issuer.
    Of(Issuer),
    /// At this URL.
    At(Uri),
    /// At this URL in the registration of a client.
    OfClient(Uri),
}

impl Place {
    /// Returns the label for metrics. All clients share one: their number has no bound, and a URL may contain a secret.
    pub(super) fn label(&self) -> Cow<'static, str> {
        match self {
            Self::Of(_) | Self::At(_) => self.to_string().into(),
            Self::OfClient(_) => "jwks_uri of clients".into(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(issuer) => issuer.fmt(f),
            Self::At(url) | Self::OfClient(url) => url.fmt(f),
        }
    }
}

#[derive(Debug)]
pub(crate) struct KeySource {
    pub(crate) client: Arc<dyn HttpClient>,
    pub(crate) place: Place,
    pub(crate) algorithms: Option<Vec<Algorithm>>,
    pub(crate) limits: Limits,
    pub(crate) plain_http: PlainHttp,
    pub(crate) known: Mutex<Known>,
}

/// State from the last fetch for the next one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    url: Option<(Uri, Moment)>,
    /// The tag of the set that was fetched last.
    tag: Option<Tag>,
}

/// The result of a fetch.
#[derive(Debug)]
pub(super) struct Fetched {
    /// `None` if the set is unchanged.
    pub(super) keys: Option<KeySet>,
    pub(super) caching: Caching,
}

impl KeySource {
    pub(super) async fn fetch(&self, caches: SharedCaches, now: Moment) -> Result<Fetched, FetchError> {
        // Taken, so that everything is requested again after a failure.
        let known = std::mem::take(&mut *lock(&self.known));
        let (url, since) = self.url(known.url, caches, now).await?;
        let answer = fetch::get(&*self.client, &url, known.tag.as_ref(), caches, self.limits).await?;
        let caching = Caching::from_headers(answer.response.headers());
        let (keys, tag) = if answer.is_unchanged() {
            (None, known.tag)
        } else {
            (Some(self.read(&url, answer.response.body())?), answer.tag())
        };
        *lock(&self.known) = Known { url: Some((url, since)), tag };
        Ok(Fetched { keys, caching })
    }

    async fn url(
        &self,
        known: Option<(Uri, Moment)>,
        caches: SharedCaches,
        now: Moment,
    ) -> Result<(Uri, Moment), FetchError> {
        match (&self.place, known) {
            (Place::At(url) | Place::OfClient(url), _) => Ok((url.clone(), now)),
            (Place::Of(_), Some((url, since))) if now.since(since) < METADATA_AGE => Ok((url, since)),
            (Place::Of(issuer), _) => Ok((self.discover(issuer, caches).await?, now)),
        }
    }

    /// Returns the error for a fetch without a result in this time.
    pub(super) fn late(&self, patience: Duration) -> FetchError {
        FetchError::new(&self.place.to_string(), fetch::Cause::Document(format!("no keys within {patience:?}")))
    }

    /// Returns whether a key of this set can have this `alg`.
    pub(super) fn has_algorithm(&self, alg: &str) -> bool {
        match &self.algorithms {
            Some(algorithms) => algorithms.iter().any(|algorithm| algorithm.is_named(alg)),
            None => Algorithm::from_name(alg).is_some(),
        }
    }

    fn read(&self, url: &Uri, body: &[u8]) -> Result<KeySet, FetchError> {
        KeySet::read(body, self.algorithms.as_deref()).map_err(|error| FetchError::document(url, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn the_label_of_a_place_is_its_url_except_for_clients() {
        let url = http::Uri::from_static("https://keys.example/jwks?key=secret");
        assert_eq!(Place::At(url.clone()).label(), "https://keys.example/jwks?key=secret");
        assert_eq!(Place::OfClient(url).label(), "jwks_uri of clients");
    }
}
