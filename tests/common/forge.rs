//! Tokens built and parsed by hand, with a library that the crate does not use for signing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use p256::pkcs8::DecodePrivateKey as _;
use serde_json::{Value, json};
use sha2::Sha256;

use super::{API, ISSUER, KEY, NOW};

/// The header and the claims of an unsigned token, as JSON.
#[derive(Clone, Debug)]
pub struct Draft {
    pub header: String,
    pub claims: String,
}

/// The token that the server itself would sign. Each test changes one part of it.
pub fn good() -> Draft {
    Draft { header: good_header().to_string(), claims: good_claims().to_string() }
}

fn good_header() -> Value {
    json!({"alg": "ES256", "typ": "at+jwt", "kid": key_id()})
}

fn good_claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "billing", "aud": API, "client_id": "billing",
        "iat": NOW, "exp": NOW + 600, "jti": "one", "scope": "invoices:read",
    })
}

impl Draft {
    /// Adds or replaces a member of the header.
    pub fn header(self, name: &str, value: impl Into<Value>) -> Self {
        Self { header: with(&self.header, name, value.into()), ..self }
    }

    pub fn without_header(self, name: &str) -> Self {
        Self { header: without(&self.header, name), ..self }
    }

    /// Adds or replaces a claim.
    pub fn claim(self, name: &str, value: impl Into<Value>) -> Self {
        Self { claims: with(&self.claims, name, value.into()), ..self }
    }

    pub fn without_claim(self, name: &str) -> Self {
        Self { claims: without(&self.claims, name), ..self }
    }

    /// Sets the claims as text, for forms that a JSON library would not write.
    pub fn claims_text(self, claims: impl Into<String>) -> Self {
        Self { claims: claims.into(), ..self }
    }

    /// Returns the signing input.
    pub fn signed_part(&self) -> String {
        format!("{}.{}", encode(&self.header), encode(&self.claims))
    }

    /// Returns the token, signed with the server's own key.
    pub fn sign(&self) -> String {
        self.sign_with(&signing_key())
    }

    pub fn sign_with(&self, key: &SigningKey) -> String {
        let signature: Signature = key.sign(self.signed_part().as_bytes());
        self.seal(signature.to_bytes())
    }

    /// Returns the token, with an HMAC under a publicly known secret.
    pub fn sign_hs256(&self, secret: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
        mac.update(self.signed_part().as_bytes());
        self.seal(mac.finalize().into_bytes())
    }

    /// Returns the token, with the HMAC that its `alg` names under a secret.
    pub fn sign_hmac(&self, secret: &[u8]) -> String {
        macro_rules! mac {
            ($hash:ty) => {{
                let mut mac = Hmac::<$hash>::new_from_slice(secret).unwrap();
                mac.update(self.signed_part().as_bytes());
                mac.finalize().into_bytes().to_vec()
            }};
        }
        let header: Value = serde_json::from_str(&self.header).unwrap();
        self.seal(match header["alg"].as_str() {
            Some("HS384") => mac!(sha2::Sha384),
            Some("HS512") => mac!(sha2::Sha512),
            _ => mac!(Sha256),
        })
    }

    /// Returns the token with this signature.
    pub fn seal(&self, signature: impl AsRef<[u8]>) -> String {
        format!("{}.{}", self.signed_part(), encode(signature))
    }
}

fn with(json: &str, name: &str, value: Value) -> String {
    let mut object: Value = serde_json::from_str(json).unwrap();
    object[name] = value;
    object.to_string()
}

fn without(json: &str, name: &str) -> String {
    let mut object: Value = serde_json::from_str(json).unwrap();
    object.as_object_mut().unwrap().remove(name).expect("a member to take away");
    object.to_string()
}

/// The server's own key.
pub fn signing_key() -> SigningKey {
    SigningKey::from_pkcs8_pem(KEY).unwrap()
}

/// A key of the same type that no server trusts.
pub fn foreign_key() -> SigningKey {
    SigningKey::from_slice(&[7; 32]).unwrap()
}

/// The server's name for its key.
pub fn key_id() -> String {
    tower_client_credentials::SigningKey::from_pem(KEY).unwrap().key_id().to_owned()
}

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// Returns the header and the claims of a token, without verifying the signature.
pub fn parts(token: &str) -> (Value, Value) {
    let json = |part| serde_json::from_slice(&decode(part)).unwrap();
    let [header, claims, _] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    (json(header), json(claims))
}

/// Returns whether the key in the key set that the token names has signed the token.
pub fn is_signed_by(jwks: &Value, token: &str) -> bool {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let named = &parts(token).0["kid"];
    let jwk = jwks["keys"].as_array().unwrap().iter().find(|key| &key["kid"] == named).expect("the named key");
    let number = |name: &str| decode(jwk[name].as_str().unwrap());
    let point = [vec![4], number("x"), number("y")].concat();
    let key = VerifyingKey::from_sec1_bytes(&point).unwrap();
    key.verify(signed.as_bytes(), &Signature::from_slice(&decode(signature)).unwrap()).is_ok()
}
