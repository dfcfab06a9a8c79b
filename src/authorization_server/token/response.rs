//! The answer that carries a token (RFC 6749 §5.1): [`AccessToken`] → `http`.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use serde_json::{Map, Value};

use super::grant::Grant;
use super::mint::AccessToken;
use crate::authorization_server::answer::answer;

/// What a client gets to read of its token.
pub(super) struct TokenResponse {
    token: AccessToken,
    grant: Grant,
}

/// All but `access_token`, which comes first.
#[derive(Serialize)]
struct Success<'a> {
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
        let rest = Success {
            token_type: "Bearer",
            expires_in: self.token.expires_in(),
            scope: self.grant.scopes().as_str(),
            own: self.grant.response_members(),
        };
        answer(StatusCode::OK, with_token(self.token.as_str(), &rest))
    }
}

/// A token is base64url and dots: nothing in it is escaped, and to look for it would cost more than all the rest.
fn with_token(token: &str, rest: &Success<'_>) -> Vec<u8> {
    let mut body = Vec::with_capacity(token.len() + USUAL_REST);
    body.extend_from_slice(br#"{"access_token":""#);
    body.extend_from_slice(token.as_bytes());
    body.extend_from_slice(br#"","#);
    let opened = body.len();
    // Structs of strings, numbers and JSON values serialize without fail.
    let _ = serde_json::to_writer(&mut body, rest);
    // The brace that it opens is open already.
    body.remove(opened);
    body
}

/// Room for the members beside the token, in bytes.
const USUAL_REST: usize = 192;

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::{Success, with_token};

    #[test]
    fn the_token_and_the_rest_are_one_json_object() {
        let own: Map<String, Value> = json!({"te\"nant": ["a", {"b": 1}]}).as_object().cloned().unwrap();
        let rest = Success { token_type: "Bearer", expires_in: 600, scope: "a b", own: &own };
        let body: Value = serde_json::from_slice(&with_token("a.b_-c", &rest)).unwrap();
        let expected = json!({
            "access_token": "a.b_-c", "token_type": "Bearer", "expires_in": 600, "scope": "a b", "te\"nant": ["a", {"b": 1}],
        });
        assert_eq!(body, expected);
    }
}
