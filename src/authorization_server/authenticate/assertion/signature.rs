//! Verifies the signature of an assertion with the keys of its client, or with a decoy.

use super::claims::shown_text;
use super::decoy_keys::DecoyKeys;
use super::invalid::{AssertionRule, Refusal};
use super::rules::Assertion;
use crate::clock::UnixTime;
use crate::keys::{Algorithm, NoKey};
use crate::registration::{CredentialKind, RegisteredClient};

/// The maximum number of keys that are tried: one per credential, for assertions without `kid` and for credentials that share
/// a `kid`. It bounds the work of an invalid assertion.
const MAX_TRIED: usize = 4;

/// Returns the position of the credential whose key verifies the signature. Without a key to try, the decoy's is used, so
/// that a caller learns nothing from the time.
pub(super) fn verify(
    assertion: &Assertion<'_>,
    client: Option<&RegisteredClient>,
    decoy: &DecoyKeys,
    now: UnixTime,
) -> Result<usize, Refusal> {
    let kid = assertion.header.kid.as_deref().unwrap_or_default();
    let alg = &*assertion.header.alg;
    let credentials = client.map_or(&[][..], RegisteredClient::credentials);
    let (mut tried, mut has_keys, mut other_algorithm) = (0, false, None);
    for (at, credential) in credentials.iter().enumerate().filter(|(_, credential)| credential.is_live(now)) {
        let CredentialKind::Keys(keys) = credential.kind() else { continue };
        has_keys = true;
        match keys.keys().find(kid, alg) {
            Ok(_) if tried == MAX_TRIED => break,
            Ok(found) => {
                tried += 1;
                if assertion.jws.is_signed_by(&found.key) {
                    return Ok(at);
                }
            }
            Err(NoKey::Algorithm(own)) => other_algorithm = own.or(other_algorithm),
            Err(_) => {}
        }
    }
    if tried > 0 {
        let text = "the signature of the assertion does not match the key of the client with this `kid` and algorithm; sign \
                    with the private half of a registered key, or register the public half of the new key";
        return Err(Refusal::new(AssertionRule::Signature, text));
    }
    if let Some(key) = decoy.key(alg) {
        // The result does not matter.
        let _ = assertion.jws.is_signed_by(&key);
    }
    Err(no_key(assertion, has_keys, other_algorithm))
}

#[cold]
fn no_key(assertion: &Assertion<'_>, has_keys: bool, other_algorithm: Option<Algorithm>) -> Refusal {
    if !has_keys {
        let text = "the client has no current credential for `private_key_jwt`; add its public key with \
                    Client::credential(Credential::jwks(…))";
        return Refusal::new(AssertionRule::Credential, text);
    }
    let found = shown_text(&assertion.header.alg);
    if let Some(own) = other_algorithm {
        let expected = format!("`{own}`, the algorithm of the key with this `kid`");
        let fix = "sign with that algorithm, or register the key for the other one";
        return Refusal::claim(AssertionRule::Algorithm, "alg", &found, &expected, fix);
    }
    match &assertion.header.kid {
        Some(kid) => {
            let expected = "the `kid` of a registered key of the client";
            let fix = "register the public key under this `kid`, or sign with a registered key";
            Refusal::claim(AssertionRule::Key, "kid", &shown_text(kid), expected, fix)
        }
        None => Refusal::new(
            AssertionRule::Key,
            format!(
                "the assertion has no `kid`, and no credential of the client has exactly one key for {found}; set `kid` in the \
                 header, or register a key for this algorithm"
            ),
        ),
    }
}

#[cfg(test)]
#[cfg(feature = "remote")]
mod tests {
    use std::time::Duration;

    use super::super::credentials::{AssertionCredentials, AssertionKind};
    use super::super::decoy_keys::{ALL, DecoyKeys};
    use super::super::rules::{Parts, Rules};
    use super::verify;
    use crate::clock::UnixTime;
    use crate::keys::{Algorithm, SigningKey, VerifyingKey};
    use crate::registration::{Client, Credential, RegisteredClient};
    use crate::secret::ClientSecret;

    /// Returns the credential that verifies an assertion of `a`, and how many signatures were checked.
    fn checked(key: &SigningKey, client: Option<&RegisteredClient>) -> (Option<usize>, usize) {
        let claims = br#"{"iss":"a","sub":"a","aud":"https://i.example","exp":9,"jti":"j"}"#;
        let credentials = AssertionCredentials {
            text: key.sign_as("JWT", claims).unwrap().into(),
            kind: AssertionKind::JwtBearer,
            client_id: None,
        };
        let rules = Rules {
            issuer: "https://i.example".parse().unwrap(),
            token_endpoint: None,
            max_lifetime: Duration::from_secs(300),
            clock_skew: Duration::from_secs(10),
            algorithms: ALL.to_vec(),
            hmac_algorithms: Vec::new(),
        };
        let parts = Parts::decode(&credentials.text).unwrap();
        let assertion = rules.read(&credentials, &parts).unwrap();
        let before = VerifyingKey::checks_of_this_thread();
        let verified = verify(&assertion, client, &DecoyKeys::new().unwrap(), UnixTime::from_secs(5).unwrap());
        (verified.ok(), VerifyingKey::checks_of_this_thread() - before)
    }

    #[test]
    fn every_refusal_costs_one_verification_and_so_does_an_unknown_client() {
        for algorithm in [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
            let (own, other) = (SigningKey::generate(algorithm).unwrap(), SigningKey::generate(algorithm).unwrap());
            let client = |key: &SigningKey| {
                let key = Credential::verifying_key(&key.verifying_key()).unwrap();
                Client::with_credential("a", key).register().unwrap()
            };
            let unknown_kid = client(&other);
            let secret = Client::new("a", ClientSecret::generate().unwrap()).register().unwrap();
            let credential = Credential::verifying_key(&own.verifying_key()).unwrap();
            let expired = credential.expires_at(std::time::UNIX_EPOCH + Duration::from_secs(5));
            let expired = Client::with_credential("a", expired).register().unwrap();
            assert_eq!(checked(&own, Some(&client(&own))), (Some(0), 1));
            for client in [None, Some(&unknown_kid), Some(&secret), Some(&expired)] {
                assert_eq!(checked(&own, client), (None, 1), "{algorithm} {client:?}");
            }
        }
    }
}
