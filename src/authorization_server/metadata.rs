//! [`Metadata`]: the authorization server metadata (RFC 8414).

use serde::Serialize;

use super::endpoint::Endpoints;
use crate::issuer::Issuer;
use crate::registration::ClientAuthMethod;
use crate::scope::Scopes;

/// The settings from which the document is created.
pub(super) struct Metadata<'a> {
    pub(super) issuer: &'a Issuer,
    pub(super) base_url: String,
    pub(super) endpoints: &'a Endpoints,
    pub(super) scopes: Option<&'a Scopes>,
    pub(super) response_types: &'a [String],
    /// The methods by which a client can authenticate, which are the same at every endpoint.
    pub(super) methods: &'a [ClientAuthMethod],
    /// The names of the algorithms that sign introspection answers, now or next.
    pub(super) algorithms: Vec<&'static str>,
    /// The algorithms that client assertions may have. Empty if there are no assertions.
    pub(super) assertion_algorithms: &'a [&'static str],
}

/// The members of RFC 8414 §2 that apply to this server. Members without elements are omitted (§3.2).
#[derive(Serialize)]
pub(super) struct Document<'a> {
    issuer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks_uri: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes_supported: Vec<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    response_types_supported: &'a [String],
    grant_types_supported: [&'static str; 1],
    token_endpoint_auth_methods_supported: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    token_endpoint_auth_signing_alg_values_supported: Vec<&'static str>,
    #[serde(flatten)]
    revocation: Option<Revocation>,
    #[serde(flatten)]
    introspection: Option<Introspection>,
}

#[derive(Serialize)]
struct Revocation {
    revocation_endpoint: String,
    revocation_endpoint_auth_methods_supported: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    revocation_endpoint_auth_signing_alg_values_supported: Vec<&'static str>,
}

/// The members for introspection. The last one is defined in RFC 9701 §7.
#[derive(Serialize)]
struct Introspection {
    introspection_endpoint: String,
    introspection_endpoint_auth_methods_supported: Vec<&'static str>,
    introspection_signing_alg_values_supported: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    introspection_endpoint_auth_signing_alg_values_supported: Vec<&'static str>,
}

impl<'a> Metadata<'a> {
    pub(super) fn document(&self) -> Document<'a> {
        let url = |path: &String| format!("{}{path}", self.base_url);
        let algorithms = || self.assertion_algorithms.to_vec();
        let methods = || self.methods.iter().map(|method| method.name()).collect();
        Document {
            issuer: self.issuer.as_str(),
            authorization_endpoint: self.endpoints.authorization.as_ref().map(url),
            token_endpoint: self.endpoints.token.as_ref().map(url),
            jwks_uri: self.endpoints.jwks.as_ref().map(url),
            scopes_supported: self.scopes.map(|scopes| scopes.iter().collect()).unwrap_or_default(),
            response_types_supported: self.response_types,
            grant_types_supported: ["client_credentials"],
            token_endpoint_auth_methods_supported: methods(),
            token_endpoint_auth_signing_alg_values_supported: algorithms(),
            revocation: self.endpoints.revocation.as_ref().map(url).map(|url| Revocation {
                revocation_endpoint: url,
                revocation_endpoint_auth_methods_supported: methods(),
                revocation_endpoint_auth_signing_alg_values_supported: algorithms(),
            }),
            introspection: self.endpoints.introspection.as_ref().map(url).map(|url| Introspection {
                introspection_endpoint: url,
                introspection_endpoint_auth_methods_supported: methods(),
                introspection_signing_alg_values_supported: self.algorithms.clone(),
                introspection_endpoint_auth_signing_alg_values_supported: algorithms(),
            }),
        }
    }
}
