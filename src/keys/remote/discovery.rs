//! Finds the `jwks_uri` of an issuer by RFC 8414 or OpenID Connect Discovery.

use http::Uri;
use serde::Deserialize;

use crate::issuer::Issuer;
use crate::object::Object;
use crate::quoted::{LONGEST_URL, quoted_within};
use crate::transport::DynHttpClient;
use crate::transport::fetch;
use crate::transport::fetch::{FetchError, Limits, SharedCaches};
use crate::uri::{self, PlainHttp};

/// The members of the metadata that are used.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: Option<String>,
}

/// Requests the metadata from both well-known URLs, until one of them returns that of the issuer.
///
/// Any failure of the first leads to the second: an issuer with only OpenID metadata may answer anything at the other URL.
pub(super) async fn key_set_url(
    client: &dyn DynHttpClient,
    issuer: &Issuer,
    caches: SharedCaches,
    limits: Limits,
    plain_http: PlainHttp,
) -> Result<Uri, FetchError> {
    let [first, second] = places(issuer);
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

/// Returns both URLs. RFC 8414 §3.1 inserts the well-known part before the issuer's path; OpenID Connect Discovery §4.1 appends
/// it.
fn places(issuer: &Issuer) -> [String; 2] {
    let (origin, path) = (issuer.origin(), issuer.path());
    [
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{origin}{path}/.well-known/openid-configuration"),
    ]
}

async fn ask(
    client: &dyn DynHttpClient,
    issuer: &Issuer,
    url: &str,
    caches: SharedCaches,
    limits: Limits,
    plain_http: PlainHttp,
) -> Result<Uri, FetchError> {
    let url = uri::secure(url, plain_http).map_err(|what| FetchError::new(url, fetch::Cause::Document(what.into())))?;
    let response = fetch::get(client, &url, None, caches, limits).await?.response;
    let wrong = |what: String| FetchError::document(&url, what);
    let Object::<Metadata>(metadata) = serde_json::from_slice(response.body()).map_err(|_| {
        wrong("not issuer metadata (RFC 8414 §3.2); expected a JSON object with an `issuer`".to_owned())
    })?;
    // RFC 8414 §3.3: the issuers must be identical, or the metadata must not be used.
    if metadata.issuer != issuer.as_str() {
        return Err(wrong(format!(
            "`issuer` in the metadata is {}, expected {}, compared character by character; configure the issuer that the \
             metadata names",
            quoted_within(&metadata.issuer, LONGEST_URL),
            quoted_within(issuer.as_str(), LONGEST_URL)
        )));
    }
    let keys = metadata.jwks_uri.ok_or_else(|| wrong("the metadata has no jwks_uri".to_owned()))?;
    let keys = uri::secure(&keys, plain_http).map_err(|what| wrong(format!("its jwks_uri is invalid: {what}")))?;
    if keys.scheme_str() == Some("http") && url.scheme_str() == Some("https") {
        return Err(wrong("its jwks_uri is invalid: use https, as the issuer does".to_owned()));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_well_known_part_is_inserted_before_the_path_and_then_appended() {
        let issuer = "https://h.example:8443/tenant/1/".parse().unwrap();
        assert_eq!(
            super::places(&issuer),
            [
                "https://h.example:8443/.well-known/oauth-authorization-server/tenant/1",
                "https://h.example:8443/tenant/1/.well-known/openid-configuration",
            ]
        );
    }
}
