//! The settings of a client for its authentication: secrets, credentials and the method.

use std::time::SystemTime;

use super::{Client, keep};
use crate::clock::UnixTime;
use crate::keys::rotation::KeyEncryptionKey;
use crate::registration::{ClientAuthMethod, Credential, RegisteredSecret};
use crate::secret::{SecretError, StoredSecret};

/// Settings for the authentication of the client.
impl Client {
    /// Adds a secret. All secrets are accepted, so a client can change to a new one while the old one still works. The
    /// label is a number. To set the label and an expiry, use [`registered_secret`](Self::registered_secret).
    pub fn secret<S>(mut self, secret: S) -> Self
    where
        S: TryInto<StoredSecret, Error: Into<SecretError>>,
    {
        let secret = RegisteredSecret::new(self.client.free_label(), secret);
        match keep(secret, &mut self.mistake) {
            Some(secret) => self.registered_secret(secret),
            None => self,
        }
    }

    /// Adds a secret with a label and, optionally, times.
    pub fn registered_secret(mut self, secret: RegisteredSecret) -> Self {
        self.check_label(secret.label(), "secret");
        self.client.secrets.push(secret);
        self
    }

    /// Adds a credential other than a secret. All credentials and secrets are accepted, each by its own method.
    pub fn credential(mut self, credential: Credential) -> Self {
        let credential = match credential.label() {
            "" => credential.labelled(self.client.free_label()),
            label => {
                self.check_label(label, "credential");
                credential
            }
        };
        self.client.credentials.get_or_insert_default().list.push(credential);
        self
    }

    /// Encrypts the secrets of the credentials that were added so far, so that a store can keep them; see
    /// [`Credential::client_secret_jwt`]. A secret that an [earlier](KeyEncryptionKey::also) key encrypted is encrypted again.
    ///
    /// The ciphertext is bound to the ids of the client and of the credential (AES-256-GCM). The server needs the same key; see
    /// [`ClientAssertions::client_secret_jwt_with`](crate::authorization_server::ClientAssertions::client_secret_jwt_with).
    pub fn encrypt_secrets(mut self, key: &KeyEncryptionKey) -> Self {
        let Ok(id) = &self.id else { return self };
        for credential in self.client.credentials.iter_mut().flat_map(|credentials| &mut credentials.list) {
            let named = |why: String| format!("its credential `{}`: {why}", credential.label());
            if let Some(encrypted) = keep(credential.encrypted(key, id).map_err(named), &mut self.mistake) {
                *credential = encrypted;
            }
        }
        self
    }

    /// Removes the credential with this label. Does nothing if the client has no such credential.
    pub fn without_credential(mut self, label: &str) -> Self {
        if let Some(credentials) = &mut self.client.credentials {
            credentials.list.retain(|own| own.label() != label);
        }
        self
    }

    /// Fetches the keys at the client's [URLs](Credential::jwks_uri) anew: keys that were fetched before this time are not
    /// used any more. So a key that the client removed is refused as soon as a replica learns of this change, and not only
    /// when its set expires. Use the current time.
    pub fn refresh_keys(mut self, time: SystemTime) -> Self {
        if let Some(credentials) = &mut self.client.credentials {
            for credential in &mut credentials.list {
                if let Ok(refreshed) = credential.clone().refreshed_at(time) {
                    *credential = refreshed;
                }
            }
        }
        self
    }

    /// Accepts assertions of older clients until this time: with the URL of the token endpoint as `aud`, and valid for up
    /// to one hour.
    ///
    /// By default `aud` must be the issuer identifier, and nothing else (RFC 10070). Many client libraries still send the
    /// URL of the token endpoint, as RFC 7523 §3 suggested, and some sign assertions for an hour. Each use is reported by
    /// the event [`LegacyAssertionUsed`](crate::event::Outcome::LegacyAssertionUsed) and counted, so that you see which
    /// clients still need it.
    pub fn legacy_assertions_until(mut self, time: SystemTime) -> Self {
        self.client.credentials.get_or_insert_default().legacy_until = Some(UnixTime::at(time));
        self
    }

    /// Removes the permission for [older assertions](Self::legacy_assertions_until).
    pub fn without_legacy_assertions(mut self) -> Self {
        if let Some(credentials) = &mut self.client.credentials {
            credentials.legacy_until = None;
            credentials.legacy_audience_used = None;
        }
        self
    }

    /// Sets when the client last needed the allowance for older assertions. It has no effect without an allowance.
    pub(crate) fn legacy_audience_used(mut self, at: UnixTime) -> Self {
        if let Some(credentials) = &mut self.client.credentials {
            credentials.legacy_audience_used = Some(at);
        }
        self
    }

    /// Checks that this method does not contradict the credentials, for reading a record.
    pub(crate) fn check_method(&self, method: ClientAuthMethod) -> Result<(), String> {
        self.client.method_with(Some(method)).map(drop)
    }

    fn check_label(&mut self, label: &str, what: &str) {
        if self.client.has_label(label) {
            let twice: Result<(), _> = Err(format!("duplicate label `{label}`; give each {what} a label of its own"));
            keep(twice, &mut self.mistake);
        }
    }

    /// Replaces the secret with the same label at its position, or adds it.
    pub fn replace_secret(mut self, secret: RegisteredSecret) -> Self {
        match self.client.secrets.iter_mut().find(|own| own.label() == secret.label()) {
            Some(own) => *own = secret,
            None => self.client.secrets.push(secret),
        }
        self
    }

    /// Removes the secret with this label.
    pub fn without_secret(mut self, label: &str) -> Self {
        self.client.secrets.retain(|own| own.label() != label);
        self
    }

    /// Sets how the client authenticates, for a client whose credentials are all of one kind; this is the member
    /// `token_endpoint_auth_method` of RFC 7591. For secrets the default is `client_secret_basic`, and no other method is
    /// accepted for them. Each other [credential](Self::credential) has its own method, so it need not be set: a method
    /// that contradicts the credentials is an error.
    pub fn authentication(self, method: ClientAuthMethod) -> Self {
        Self { method: Some(method), ..self }
    }
}
