//! The metadata by which clients find everything else (RFC 8414).

use serde::Serialize;

use super::endpoint::Endpoints;
use crate::issuer::Issuer;
use crate::store::ClientAuthMethod;

/// The members of RFC 8414 §2 that hold something true of this server.
#[derive(Serialize)]
pub(super) struct Metadata<'a> {
    issuer: &'a str,
    token_endpoint: String,
    jwks_uri: String,
    grant_types_supported: [&'static str; 1],
    /// Required by §2, and empty, since there is no authorization endpoint: a member without elements is left
    /// out by §3.2, and clients that want it then read "none" from its absence.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    response_types_supported: &'a [&'a str],
    token_endpoint_auth_methods_supported: [&'static str; 2],
}

impl<'a> Metadata<'a> {
    pub(super) fn new(issuer: &'a Issuer, endpoints: &Endpoints) -> Self {
        let url = |path: &str| format!("{}{path}", issuer.origin());
        Self {
            issuer: issuer.as_str(),
            token_endpoint: url(&endpoints.token),
            jwks_uri: url(&endpoints.jwks),
            grant_types_supported: ["client_credentials"],
            response_types_supported: &[],
            token_endpoint_auth_methods_supported: [
                ClientAuthMethod::ClientSecretBasic.name(),
                ClientAuthMethod::ClientSecretPost.name(),
            ],
        }
    }
}
