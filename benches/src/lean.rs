//! A minimal token endpoint on axum and aws-lc-rs with a parsed key: it reads the form, compares a digest, and signs. It omits
//! all optional checks, reports nothing, and supports one kind of client.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::{constant_time, digest};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tower_client_credentials::Algorithm;

use crate::bare::Bare;
use crate::subject::{API, ISSUER};

pub struct Lean {
    key: Bare,
    header: String,
    clients: HashMap<String, digest::Digest>,
}

#[derive(Deserialize)]
struct Form {
    grant_type: String,
    scope: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    client_id: &'a str,
    iat: u64,
    exp: u64,
    jti: &'a str,
    scope: &'a str,
}

#[derive(Serialize)]
struct Answer<'a> {
    access_token: &'a str,
    token_type: &'a str,
    expires_in: u64,
    scope: &'a str,
}

impl Lean {
    pub fn new(algorithm: Algorithm, clients: impl IntoIterator<Item = String>, secret: &str) -> Self {
        let header =
            format!(r#"{{"alg":"{algorithm}","typ":"at+jwt","kid":"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"}}"#);
        let digest = digest::digest(&digest::SHA256, secret.as_bytes());
        let clients = clients.into_iter().map(|id| (id, digest)).collect();
        Self { key: Bare::new(algorithm), header: URL_SAFE_NO_PAD.encode(header) + ".", clients }
    }

    /// Returns the JSON of the response, or `None` if the request is refused.
    pub fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Option<Vec<u8>> {
        let form: Form = serde_urlencoded::from_bytes(body).ok()?;
        let basic = headers.get(header::AUTHORIZATION)?.as_bytes().strip_prefix(b"Basic ")?;
        let pair = String::from_utf8(STANDARD.decode(basic).ok()?).ok()?;
        let (id, secret) = pair.split_once(':')?;
        let digest = digest::digest(&digest::SHA256, secret.as_bytes());
        constant_time::verify_slices_are_equal(self.clients.get(id)?.as_ref(), digest.as_ref()).ok()?;
        if form.grant_type != "client_credentials" {
            return None;
        }
        let mut bits = [0; 16];
        aws_lc_rs::rand::fill(&mut bits).ok()?;
        let iat = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        let (jti, scope) = (URL_SAFE_NO_PAD.encode(bits), form.scope.as_str());
        let claims = Claims { iss: ISSUER, sub: id, aud: API, client_id: id, iat, exp: iat + 600, jti: &jti, scope };
        let mut token = self.header.clone();
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(&claims).ok()?, &mut token);
        let signature = self.key.sign(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&signature[..self.key.signature_len()], &mut token);
        serde_json::to_vec(&Answer { access_token: &token, token_type: "Bearer", expires_in: 600, scope }).ok()
    }

    pub fn router(self) -> Router {
        Router::new().route("/token", post(token)).with_state(Arc::new(self))
    }
}

async fn token(State(lean): State<Arc<Lean>>, headers: HeaderMap, body: Bytes) -> Response {
    match lean.answer(&headers, &body) {
        Some(json) => {
            ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], json).into_response()
        }
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}
