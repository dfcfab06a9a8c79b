//! [`TokenResponse`]: the response with a token (RFC 6749 §5.1).

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Map, Value};

use super::grant::Grant;
use super::mint::AccessToken;
use crate::authorization_server::json::Object;
use crate::scope::Scopes;
use crate::transport::answer;

/// A token and its grant, as the response to the client.
pub(super) struct TokenResponse {
    token: AccessToken,
    grant: Grant,
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
        let (token, grant) = (self.token, self.grant);
        let json = json(token.as_str(), token.expires_in(), grant.scopes(), grant.response_members());
        answer(StatusCode::OK, json)
    }
}

/// Returns the JSON of a response. A compact JWS contains only base64url and dots. The scope is always included unless
/// it is empty, so that clients need not guess it.
fn json(token: &str, expires_in: u64, scopes: &Scopes, own: &Map<String, Value>) -> String {
    let digits = expires_in.checked_ilog10().unwrap_or(0) as usize + 1;
    // The exact length: `Bytes` would reallocate a buffer with unused capacity.
    let mut json = Object::with_capacity(AROUND + token.len() + digits + scopes.as_str().len());
    json.plain("access_token", token).plain("token_type", "Bearer").number("expires_in", expires_in);
    if !scopes.is_empty() {
        json.string("scope", scopes.as_str());
    }
    json.members(own);
    json.finish()
}

/// The length without the values, in bytes.
const AROUND: usize = r#"{"access_token":"","token_type":"Bearer","expires_in":,"scope":""}"#.len();

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::json;

    #[test]
    fn the_response_fills_its_buffer_exactly() {
        let answer = json("a.b_-c", 600, &"a b".parse().unwrap(), &Map::new());
        assert_eq!(answer, r#"{"access_token":"a.b_-c","token_type":"Bearer","expires_in":600,"scope":"a b"}"#);
        assert_eq!(answer.capacity(), answer.len());
    }

    #[test]
    fn members_of_a_hook_come_last_and_an_empty_scope_is_omitted() {
        let own = json!({"tenant": ["a"]});
        let answer = json("a.b_-c", 0, &"".parse().unwrap(), own.as_object().unwrap());
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let expected = json!({"access_token": "a.b_-c", "token_type": "Bearer", "expires_in": 0, "tenant": ["a"]});
        assert_eq!(answer, expected);
    }
}
