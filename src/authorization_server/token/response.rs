//! The answer that carries a token (RFC 6749 §5.1): [`AccessToken`] → `http`.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use serde_json::{Map, Value};

use super::grant::Grant;
use super::mint::AccessToken;
use crate::authorization_server::answer::json;

/// What a client gets to read of its token.
pub(super) struct TokenResponse {
    token: AccessToken,
    grant: Grant,
}

#[derive(Serialize)]
struct Success<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
    /// Always what was granted, so that nobody has to guess; left out when nothing was.
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
    #[serde(flatten)]
    own: &'a Map<String, Value>,
}

impl TokenResponse {
    pub(super) fn new(token: AccessToken, grant: Grant) -> Self {
        Self { token, grant }
    }

    pub(super) fn token(&self) -> &AccessToken {
        &self.token
    }

    pub(super) fn grant(&self) -> &Grant {
        &self.grant
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let body = Success {
            access_token: self.token.as_str(),
            token_type: "Bearer",
            expires_in: self.grant.lifetime().to_duration().as_secs(),
            scope: self.grant.scopes().as_str(),
            own: self.grant.response_members(),
        };
        json(StatusCode::OK, &body)
    }
}
