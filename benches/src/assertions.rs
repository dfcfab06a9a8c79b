//! Requests of a client that signs assertions (RFC 7523), and the server for them.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::json;
use tower::Service as _;
use tower_client_credentials::authorization_server::ClientAssertions;
use tower_client_credentials::registration::Credential;
use tower_client_credentials::{Algorithm, AuthorizationServer, Client, KeyRing, MemoryStore};

use crate::bare::Bare;
use crate::measure::now;
use crate::subject::{API, Body, FORM, ISSUER, READ};

/// A client with an ES256 key of its own, and a server that signs with ES256 and records assertions in memory.
pub struct Signing {
    server: AuthorizationServer,
    bare: Bare,
    sent: Cell<u64>,
}

impl Default for Signing {
    fn default() -> Self {
        let bare = Bare::new(Algorithm::ES256);
        let Bare::Es256(pair) = &bare else { unreachable!() };
        let (x, y) = aws_lc_rs::signature::KeyPair::public_key(pair).as_ref()[1..].split_at(32);
        let jwk = json!({"kty": "EC", "crv": "P-256", "kid": "k", "x": encode(x), "y": encode(y)});
        let keys = Credential::jwks(json!({ "keys": [jwk] }).to_string()).unwrap();
        let client = Client::with_credential("signer", keys).scope(READ).audience(API);
        let store = MemoryStore::try_from([client]).unwrap();
        let server = AuthorizationServer::builder(ISSUER, KeyRing::generate().unwrap(), store.clone());
        let server = server.client_assertions(ClientAssertions::new(store)).build().unwrap();
        Self { server, bare, sent: Cell::new(0) }
    }
}

impl Signing {
    /// Creates a request with a new assertion.
    pub fn request(&self) -> Request<Body> {
        self.sent.set(self.sent.get() + 1);
        let expiry = SystemTime::now() + Duration::from_secs(60);
        let claims = json!({
            "iss": "signer", "sub": "signer", "aud": ISSUER, "jti": format!("{:022}", self.sent.get()),
            "exp": expiry.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(),
        });
        let header = r#"{"alg":"ES256","typ":"client-authentication+jwt","kid":"k"}"#;
        let message = format!("{}.{}", encode(header), encode(claims.to_string()));
        let signature = encode(&self.bare.sign(message.as_bytes())[..self.bare.signature_len()]);
        let body = format!(
            "{FORM}&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
             &client_assertion={message}.{signature}"
        );
        let request = Request::post("/token").header("content-type", "application/x-www-form-urlencoded");
        request.body(Body::from(body)).unwrap()
    }

    /// Returns the body of the response.
    ///
    /// # Panics
    ///
    /// If there is no token.
    pub fn ask(&self, request: Request<Body>) -> Bytes {
        let response = now(self.server.token_service().call(request)).unwrap();
        assert_eq!(response.status(), 200);
        now(response.into_body().collect()).unwrap().to_bytes()
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
