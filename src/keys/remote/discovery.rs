//! Finds the `jwks_uri` of an issuer by RFC 8414 or OpenID Connect Discovery.

use http::Uri;

use crate::issuer::Issuer;
use crate::issuer_metadata::{self, Endpoint};
use crate::transport::HttpClient;
use crate::transport::Limits;
use crate::transport::fetch;
use crate::transport::fetch::{FetchError, SharedCaches};
use crate::uri::{self, PlainHttp};

/// Requests the metadata from both well-known URLs, until one of them returns that of the issuer.
pub(super) async fn key_set_url(
    client: &dyn HttpClient,
    issuer: &Issuer,
    caches: SharedCaches,
    limits: Limits,
    plain_http: PlainHttp,
) -> Result<Uri, FetchError> {
    let [first, second] = issuer_metadata::well_known_urls(issuer);
    let first_error = match ask(client, issuer, &first, caches, limits, plain_http).await {
        Ok(url) => return Ok(url),
        Err(error) => error,
    };
    let second_error = match ask(client, issuer, &second, caches, limits, plain_http).await {
        Ok(url) => return Ok(url),
        Err(error) => error,
    };
    Err(FetchError::new(issuer.as_str(), fetch::Cause::Discovery(first_error, second_error)))
}

async fn ask(
    client: &dyn HttpClient,
    issuer: &Issuer,
    url: &str,
    caches: SharedCaches,
    limits: Limits,
    plain_http: PlainHttp,
) -> Result<Uri, FetchError> {
    let url = uri::secure(url, plain_http).map_err(|what| FetchError::new(url, fetch::Cause::Document(what.into())))?;
    let response = fetch::get(client, &url, None, caches, limits).await?.response;
    issuer_metadata::endpoint(issuer, &url.to_string(), response.body(), Endpoint::Keys, plain_http)
        .map_err(|what| FetchError::document(&url, what))
}
