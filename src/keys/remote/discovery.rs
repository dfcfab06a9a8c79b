//! Finds the `jwks_uri` of an issuer by RFC 8414 or OpenID Connect Discovery.

use http::Uri;

use super::source::KeySource;
use crate::issuer::Issuer;
use crate::issuer_metadata::{self, Endpoint};
use crate::transport::fetch;
use crate::transport::fetch::{FetchError, SharedCaches};
use crate::uri;

impl KeySource {
    /// Requests the metadata from both well-known URLs, until one of them returns that of the issuer.
    pub(super) async fn discover(&self, issuer: &Issuer, caches: SharedCaches) -> Result<Uri, FetchError> {
        let [first, second] = issuer_metadata::well_known_urls(issuer);
        let first_error = match self.ask(issuer, &first, caches).await {
            Ok(url) => return Ok(url),
            Err(error) => error,
        };
        self.ask(issuer, &second, caches).await.map_err(|second_error| {
            FetchError::new(issuer.as_str(), fetch::Cause::Discovery(first_error, second_error))
        })
    }

    async fn ask(&self, issuer: &Issuer, url: &str, caches: SharedCaches) -> Result<Uri, FetchError> {
        let secure = uri::secure(url, self.plain_http);
        let url = secure.map_err(|what| FetchError::new(url, fetch::Cause::Document(what.into())))?;
        let response = fetch::get(&*self.client, &url, None, caches, self.limits).await?.response;
        issuer_metadata::endpoint(issuer, &url.to_string(), response.body(), Endpoint::Keys, self.plain_http)
            .map_err(|what| FetchError::document(&url, what))
    }
}
