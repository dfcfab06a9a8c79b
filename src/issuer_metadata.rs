//! The metadata of an issuer (RFC 8414, OpenID Connect Discovery): where it is, and the URL of an endpoint in it.

use http::Uri;
use serde::Deserialize;
use serde_json::Value;

use crate::issuer::Issuer;
use crate::object::Object;
use crate::quoted::{LONGEST_URL, quoted_within};
use crate::uri::{self, PlainHttp};

/// Returns both well-known URLs. RFC 8414 §3.1 inserts the well-known part before the issuer's path, OpenID Connect Discovery §4.1
/// appends it. Any failure of the first leads to the second: an issuer with only OpenID metadata may answer anything at the other
/// URL.
pub(crate) fn well_known_urls(issuer: &Issuer) -> [String; 2] {
    let (origin, path) = (issuer.origin(), issuer.path());
    [
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{origin}{path}/.well-known/openid-configuration"),
    ]
}

/// Which URL of the metadata is needed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Endpoint {
    Token,
    #[cfg(feature = "remote")]
    Keys,
}

/// The members that are used. A member that is there twice is an error of serde's, in place of a choice between the two.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    token_endpoint: Option<Value>,
    #[cfg_attr(not(feature = "remote"), expect(dead_code, reason = "keys are fetched with the feature"))]
    jwks_uri: Option<Value>,
}

/// Reads the URL of an endpoint from metadata that is the issuer's own. `from` is the URL of the metadata.
///
/// # Errors
///
/// The text says, for the operator, why the metadata cannot be used.
pub(crate) fn endpoint(
    issuer: &Issuer,
    from: &str,
    body: &[u8],
    endpoint: Endpoint,
    plain_http: PlainHttp,
) -> Result<Uri, String> {
    let Object::<Metadata>(metadata) = serde_json::from_slice(body)
        .map_err(|_| "this is not issuer metadata (RFC 8414 §3.2): expected a JSON object with an `issuer`")?;
    let named = metadata.issuer.as_str();
    // "If these values are not identical, the data contained in the response MUST NOT be used" (RFC 8414 §3.3).
    if named != issuer.as_str() {
        return Err(format!(
            "`issuer` in the metadata is {}, expected {}, compared character by character; configure the issuer that the metadata \
             names",
            quoted_within(named, LONGEST_URL),
            quoted_within(issuer.as_str(), LONGEST_URL)
        ));
    }
    let (member, url) = match endpoint {
        Endpoint::Token => ("token_endpoint", &metadata.token_endpoint),
        #[cfg(feature = "remote")]
        Endpoint::Keys => ("jwks_uri", &metadata.jwks_uri),
    };
    let url = url.as_ref().and_then(Value::as_str).ok_or_else(|| format!("the metadata has no `{member}`"))?;
    let invalid = |what: &str| format!("its `{member}` {} cannot be used: {what}", quoted_within(url, LONGEST_URL));
    let endpoint = uri::secure(url, plain_http).map_err(invalid)?;
    if endpoint.scheme_str() == Some("http") && from.starts_with("https:") {
        return Err(invalid("it has plain http; use https, as the issuer does"));
    }
    Ok(endpoint)
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, endpoint, well_known_urls};
    use crate::uri::PlainHttp;

    fn read(metadata: &str) -> Result<String, String> {
        let issuer = "https://h.example/tenant".parse().unwrap();
        let from = "https://h.example/.well-known/oauth-authorization-server/tenant";
        endpoint(&issuer, from, metadata.as_bytes(), Endpoint::Token, PlainHttp::Loopback).map(|url| url.to_string())
    }

    #[test]
    fn the_well_known_part_stands_before_the_path_and_then_behind_it() {
        assert_eq!(
            well_known_urls(&"https://h.example:8443/tenant/1/".parse().unwrap()),
            [
                "https://h.example:8443/.well-known/oauth-authorization-server/tenant/1",
                "https://h.example:8443/tenant/1/.well-known/openid-configuration",
            ]
        );
    }

    #[test]
    fn an_issuer_may_have_its_token_endpoint_at_another_host_over_https() {
        let metadata = r#"{"issuer": "https://h.example/tenant", "token_endpoint": "https://token.example/token"}"#;
        assert_eq!(read(metadata).unwrap(), "https://token.example/token");
    }

    #[test]
    fn metadata_that_would_send_the_credential_to_another_party_is_refused() {
        for (metadata, says) in [
            (r#"{"issuer": "https://other.example", "token_endpoint": "https://other.example/token"}"#, "expected"),
            (r#"{"issuer": "https://h.example/tenant/", "token_endpoint": "https://h.example/token"}"#, "expected"),
            (r#"{"issuer": "https://H.example/tenant", "token_endpoint": "https://h.example/token"}"#, "expected"),
            (r#"{"issuer": "https://h.example/tenant", "token_endpoint": "http://h.example/token"}"#, "plain http"),
            (r#"{"issuer": "https://h.example/tenant", "token_endpoint": "http://127.0.0.1/token"}"#, "plain http"),
            (r#"{"issuer": "https://h.example/tenant", "token_endpoint": "https://h.example@evil.example/"}"#, "user"),
            (r#"{"issuer": "https://h.example/tenant", "token_endpoint": "/token"}"#, "absolute"),
            (r#"{"issuer": "https://h.example/tenant"}"#, "no `token_endpoint`"),
            (
                r#"{"issuer": "https://h.example/tenant", "issuer": "https://h.example/tenant", "token_endpoint": "https://h.example/t"}"#,
                "not issuer metadata",
            ),
            (r#"["https://h.example/tenant", "https://h.example/token"]"#, "not issuer metadata"),
            ("<html>", "not issuer metadata"),
        ] {
            let error = read(metadata).unwrap_err();
            assert!(error.contains(says), "{metadata}: {error}");
        }
    }
}
