//! Client assertions that we sign (RFC 7523 §2.2): a new one for each request.

use std::time::Duration;

use serde::Serialize;

use super::CredentialError;
use crate::base64url::encode_onto;
use crate::client_id::ClientId;
use crate::clock::{Clock, UnixTime};
use crate::crypto::Random;
use crate::keys::{Signing, SigningKey};

/// `client_assertion_type` of RFC 7523 §2.2.
pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// `client_assertion_type` of draft-ietf-oauth-spiffe-client-auth.
pub(super) const JWT_SPIFFE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";

/// The explicit type of a client assertion (RFC 10070). Servers that do not know it have no rule for `typ`.
const TYPE: &str = "client-authentication+jwt";

/// How long an assertion is valid. It is sent at once, and servers may limit the life to 5 minutes or less.
const LIFETIME: Duration = Duration::from_secs(60);

/// What an assertion says, and where its time and its randomness come from.
#[derive(Clone, Copy)]
pub(crate) struct AssertionContext<'a> {
    pub(crate) client_id: &'a ClientId,
    /// The issuer identifier as the sole audience, unless the settings say otherwise.
    pub(crate) audience: &'a str,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) random: &'a dyn Random,
}

/// The claims of RFC 7523 §3.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: String,
    iat: u64,
    exp: u64,
}

/// Signs a new assertion. `key_id` is the `kid`, if it is not that of the key.
pub(super) async fn sign(
    key: &SigningKey,
    key_id: Option<&str>,
    context: AssertionContext<'_>,
) -> Result<String, CredentialError> {
    let claims = claims(context)?;
    let signing = match key_id {
        None => key.start_as(TYPE, &claims),
        Some(key_id) => key.start_named(TYPE, key_id, &claims),
    };
    let signed = match signing {
        Signing::Done(signed) => signed,
        Signing::Waiting(signature) => signature.await,
    };
    signed.map_err(|error| {
        let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        CredentialError::new(format!("the key could not sign the client assertion: {why}"))
    })
}

fn claims(context: AssertionContext<'_>) -> Result<Vec<u8>, CredentialError> {
    let AssertionContext { client_id, audience, clock, random } = context;
    let mut bits = [0; 16];
    random.fill(&mut bits).map_err(|error| CredentialError::new(error.to_string()))?;
    let mut jti = String::with_capacity(22);
    encode_onto(&mut jti, &bits);
    let now = UnixTime::now(clock);
    let exp = now.after(LIFETIME).as_secs();
    let client_id = client_id.as_str();
    let claims = Claims { iss: client_id, sub: client_id, aud: audience, jti, iat: now.as_secs(), exp };
    serde_json::to_vec(&claims).map_err(|error| CredentialError::new(error.to_string()))
}
