//! [`Secrets`]: verifies the assertions of clients that share a secret with the server (`client_secret_jwt`).

use super::claims::shown_text;
use super::failure::Failure;
use super::invalid::{AssertionRule, Refusal};
use super::rules::Assertion;
use crate::authorization_server::error::{Fault, TokenError};
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::crypto::fill_random;
use crate::keys::HmacAlgorithm;
use crate::keys::rotation::KeyEncryptionKey;
use crate::registration::{CredentialKind, MAX_SHARED_SECRETS, RegisteredClient, SharedSecret};

/// Opens the secrets of clients, and has one that is used if a client has none.
#[derive(Debug)]
pub(super) struct Secrets {
    key: Option<KeyEncryptionKey>,
    decoy: SharedSecret,
}

/// The client of the decoy. Its id only binds the ciphertext.
static DECOY: ClientId = ClientId::from_static("decoy");

impl Secrets {
    /// Creates it, or returns why not. With a key, the decoy is encrypted as the secrets in a store are.
    pub(super) fn new(key: Option<KeyEncryptionKey>) -> Result<Self, String> {
        let mut random = [0; 64];
        fill_random(&mut random).ok_or("the system has no random bytes")?;
        let decoy = SharedSecret::decoy(&random, key.as_ref().map(|key| (key, &DECOY)))?;
        Ok(Self { key, decoy })
    }

    /// Returns the position of the credential whose secret verifies the assertion. Without a secret to try, the decoy is used,
    /// so that a caller learns nothing from the time.
    pub(super) fn verify(
        &self,
        assertion: &Assertion<'_>,
        algorithm: HmacAlgorithm,
        client: Option<&RegisteredClient>,
        now: UnixTime,
    ) -> Result<usize, Failure> {
        let (mut tried, mut other_algorithm, mut unreadable) = (0, None, None);
        let id = &assertion.client_id;
        let credentials = client.map_or(&[][..], RegisteredClient::credentials);
        for (at, credential) in credentials.iter().enumerate().filter(|(_, credential)| credential.is_live(now)) {
            let CredentialKind::Secret(secret) = credential.kind() else { continue };
            if !secret.accepts(algorithm) {
                other_algorithm = secret.algorithm();
                continue;
            }
            // No more can be registered, but an older record can have more.
            if tried == MAX_SHARED_SECRETS {
                break;
            }
            tried += 1;
            match secret.open(self.key.as_ref(), id, credential.label()) {
                Ok(opened) if assertion.jws.is_signed_with(algorithm, &opened) => return Ok(at),
                Ok(opened) if opened.len() < algorithm.min_secret_len() => {
                    other_algorithm = Some(HmacAlgorithm::HS256);
                }
                Ok(_) => {}
                Err(why) => unreadable = Some((credential.label().to_owned(), why)),
            }
        }
        if tried == 0
            && let Ok(decoy) = self.decoy.open(self.key.as_ref(), &DECOY, "")
        {
            // The result does not matter.
            let _ = assertion.jws.is_signed_with(algorithm, &decoy);
        }
        // What cannot be decided weighs more than a refusal.
        if let Some((label, why)) = unreadable {
            return Err(cannot_decrypt(&label, &why));
        }
        Err(refusal(algorithm, tried, other_algorithm).into())
    }
}

#[cold]
fn cannot_decrypt(label: &str, why: &str) -> Failure {
    let detail = format!("the credential {} of the client cannot be checked: {why}", shown_text(label));
    TokenError::new(Fault::UNAVAILABLE).detailed(detail).into()
}

#[cold]
fn refusal(algorithm: HmacAlgorithm, tried: usize, other_algorithm: Option<HmacAlgorithm>) -> Refusal {
    if let Some(own) = other_algorithm {
        let expected = format!("`{own}`, the algorithm of the secret of the client");
        let fix = format!(
            "sign with that algorithm, or register a secret of at least {} bytes for the other one",
            algorithm.min_secret_len()
        );
        return Refusal::claim(AssertionRule::Algorithm, "alg", &shown_text(algorithm.name()), &expected, &fix);
    }
    if tried == 0 {
        let text = "the client has no current credential for `client_secret_jwt`; add its secret with \
                    Client::credential(Credential::client_secret_jwt(…)), since a hashed secret cannot be used for it";
        return Refusal::new(AssertionRule::Credential, text);
    }
    let text = "the signature of the assertion does not match the secret of the client; sign with the bytes of the registered \
                secret (OpenID Connect Core §9), and neither decode nor hash them";
    Refusal::new(AssertionRule::Signature, text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::credentials::{AssertionCredentials, AssertionKind};
    use super::super::decoy_keys::ALL;
    use super::super::rules::{Parts, Rules};
    use super::Secrets;
    use crate::base64url;
    use crate::clock::UnixTime;
    use crate::keys::HmacAlgorithm;
    use crate::keys::rotation::KeyEncryptionKey;
    use crate::registration::{Client, Credential, RegisteredClient};
    use crate::secret::ClientSecret;

    /// Returns how many HMACs were computed for an assertion of `a` with a wrong signature.
    fn checks(alg: &str, client: Option<&RegisteredClient>, key: Option<KeyEncryptionKey>) -> usize {
        let encode = |text: &str| {
            let mut encoded = String::new();
            base64url::encode_onto(&mut encoded, text.as_bytes());
            encoded
        };
        let header = encode(&format!(r#"{{"alg":"{alg}"}}"#));
        let claims = encode(r#"{"iss":"a","sub":"a","aud":"https://i.example","exp":9,"jti":"j"}"#);
        let text = format!("{header}.{claims}.{}", encode("a wrong signature"));
        let credentials = AssertionCredentials { text: text.into(), kind: AssertionKind::JwtBearer, client_id: None };
        let rules = Rules {
            issuer: "https://i.example".parse().unwrap(),
            token_endpoint: None,
            max_lifetime: Duration::from_secs(300),
            clock_skew: Duration::from_secs(10),
            algorithms: ALL.to_vec(),
            hmac_algorithms: HmacAlgorithm::ALL.to_vec(),
        };
        let parts = Parts::decode(&credentials.text).unwrap();
        let assertion = rules.read(&credentials, &parts).unwrap();
        let secrets = Secrets::new(key).unwrap();
        let before = HmacAlgorithm::checks_of_this_thread();
        let algorithm = assertion.hmac.unwrap();
        assert!(secrets.verify(&assertion, algorithm, client, UnixTime::from_secs(5).unwrap()).is_err());
        HmacAlgorithm::checks_of_this_thread() - before
    }

    #[test]
    fn every_refusal_costs_one_hmac_and_so_does_an_unknown_client() {
        let key = || KeyEncryptionKey::from_bytes((0..32).collect::<Vec<u8>>()).unwrap();
        let secret = || Credential::client_secret_jwt(&ClientSecret::generate().unwrap()).unwrap();
        let client = |credential| Client::with_credential("a", credential);
        let registered = [
            client(secret()),
            client(secret()).encrypt_secrets(&key()),
            client(secret().hmac_algorithm(HmacAlgorithm::HS384).unwrap()),
            client(secret().expires_at(std::time::UNIX_EPOCH + Duration::from_secs(5))),
            Client::new("a", ClientSecret::generate().unwrap()),
        ]
        .map(|client| client.register().unwrap());
        for algorithm in HmacAlgorithm::ALL {
            for key in [None, Some(key())] {
                assert_eq!(checks(algorithm.name(), None, key.clone()), 1);
                for client in &registered {
                    // Without the key, an encrypted secret cannot be tried, and the answer is 503.
                    let is_unreadable =
                        key.is_none() && serde_json::to_string(client).is_ok_and(|r| r.contains("encrypted_by"));
                    let expected = usize::from(!is_unreadable);
                    assert_eq!(checks(algorithm.name(), Some(client), key.clone()), expected, "{algorithm} {client:?}");
                }
            }
        }
    }
}
