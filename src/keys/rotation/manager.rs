//! [`KeyManager`]: the commands of a managed ring.

use std::fmt;
use std::sync::Arc;

use super::KeyRingError;
use super::keeper::Keeper;
use super::key_encryption::KeyEncryptionKey;
use super::lifecycle::{KeyState, RingState};
use super::settings::KeyManagerBuilder;
use super::status::RingStatus;
use super::store::KeyStore;
use crate::keys::{Algorithm, KeyRing, SigningKey};
use crate::sync::lock;

/// Rotates the keys of a ring, and keeps it in step with the other replicas. Clones share it.
///
/// See the [module page](super) for the rules and an example.
#[derive(Clone)]
pub struct KeyManager {
    pub(super) ring: KeyRing,
    pub(super) keeper: Arc<Keeper>,
}

impl KeyManager {
    /// Returns the settings of a ring in this store.
    pub fn builder(store: impl KeyStore, key_encryption_key: KeyEncryptionKey) -> KeyManagerBuilder {
        KeyManagerBuilder::new(store, key_encryption_key)
    }

    /// Returns the ring, for an [`AuthorizationServer`](crate::authorization_server::AuthorizationServer).
    #[must_use]
    pub fn ring(&self) -> KeyRing {
        self.ring.clone()
    }

    /// Returns the ring as this replica knows it.
    #[must_use]
    pub fn status(&self) -> RingStatus {
        lock(&self.keeper.status).clone()
    }

    /// Returns whether this replica can sign and verify: it reached the store recently, and has a key that signs.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let keys = self.ring.current();
        !keys.is_cut_off() && keys.signing_key().is_ok()
    }

    /// Ends the lease of this replica, so that no other replica waits for it. Call it when the process ends, after its last
    /// request: from then on, the ring answers 503, and each command is [`Left`](KeyRingError::Left).
    ///
    /// # Errors
    ///
    /// If the store cannot be reached. The lease then ends in its time.
    pub async fn leave(&self) -> Result<(), KeyRingError> {
        self.keeper.leave().await
    }

    /// Reads the store now, and takes the steps that are due, instead of waiting for the next look.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached, or its ring is refused.
    pub async fn refresh(&self) -> Result<(), KeyRingError> {
        self.keeper.refresh().await
    }

    /// Lets the next key sign now, and returns its `kid`. The key that signed retires, and another next key is published.
    ///
    /// # Errors
    ///
    /// [`TooEarly`](KeyRingError::TooEarly) or [`NotEverywhere`](KeyRingError::NotEverywhere) if a verifier may not have the next
    /// key yet.
    pub async fn rotate(&self) -> Result<String, KeyRingError> {
        let steps = self.keeper.change(RingState::rotate_now, "").await?;
        let signs = steps.into_iter().rfind(|step| step.state == Some(KeyState::Signing));
        Ok(signs.map(|step| step.key_id).unwrap_or_default())
    }

    /// Rotates to keys of another algorithm, as soon as a new key of it may sign. Later keys have the algorithm, too.
    ///
    /// # Errors
    ///
    /// If keys of the algorithm cannot be generated: [publish](Self::publish) an RSA key of your own instead.
    pub async fn change_algorithm(&self, algorithm: Algorithm) -> Result<(), KeyRingError> {
        SigningKey::generate(algorithm)?;
        self.keeper.change(|state, _| Ok(state.set_algorithm(algorithm)), "").await.map(drop)
    }

    /// Publishes a key of your own, which signs after those that were published before it. A key behind a
    /// [`Signer`](crate::keys::Signer) must have been given to every replica with
    /// [`external_key`](KeyManagerBuilder::external_key).
    ///
    /// # Errors
    ///
    /// [`Distrusted`](KeyRingError::Distrusted) for a key that was distrusted before. Also if the key cannot be stored: it is a
    /// secret for HS256.
    pub async fn publish(&self, key: SigningKey) -> Result<(), KeyRingError> {
        self.keeper.publish(Arc::new(key)).await
    }

    /// Removes a key before the schedule does.
    ///
    /// # Errors
    ///
    /// [`Signs`](KeyRingError::Signs) for the key that signs, and [`TooEarly`](KeyRingError::TooEarly) or
    /// [`NotEverywhere`](KeyRingError::NotEverywhere) while a token of it may be valid.
    pub async fn remove(&self, key_id: &str) -> Result<(), KeyRingError> {
        self.keeper.change(|state, now| state.remove(key_id, now), key_id).await.map(drop)
    }

    /// Distrusts a key that leaked. Every replica that reaches the store stops using, publishing and accepting it within a second,
    /// and another key signs at once. Its entries leave the caches of verified tokens.
    ///
    /// Remote verifiers accept the key until they fetch the key set again, at most for its `max-age`. If they do not have the
    /// replacement yet, they answer 503 or 401 for its tokens for the same time; a key that was published before is preferred.
    ///
    /// # Errors
    ///
    /// If there is no such key, or the store cannot be reached.
    pub async fn distrust(&self, key_id: &str) -> Result<(), KeyRingError> {
        self.keeper.change(|state, now| state.distrust(key_id, now), key_id).await.map(drop)
    }

    /// Encrypts the ring with the current key-encryption key, if an earlier one has encrypted it.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached.
    pub async fn reseal(&self) -> Result<(), KeyRingError> {
        self.keeper.change(|_, _| Ok(Vec::new()), "").await.map(drop)
    }

    /// Accepts the stored ring, although it was restored from an older copy or altered. All live replicas follow it then, whatever
    /// version they have. Settings that are not authentic are replaced by those that this replica knows, and rows as well if it knows
    /// the same version. Otherwise such rows are left out.
    ///
    /// If it fails or is cancelled, this replica keeps its ring, and refuses the stored one as before. The store may have saved the
    /// acceptance nevertheless; then this replica follows it.
    ///
    /// A distrust that a live replica knows is repeated. One that no live replica knows must be repeated by you: every key that
    /// was trusted in the copy is trusted again.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached, or the ring cannot be decrypted.
    pub async fn accept_stored(&self) -> Result<(), KeyRingError> {
        self.keeper.accept_stored().await
    }
}

#[cfg(test)]
impl KeyManager {
    /// Returns the names of the keys whose private halves are in memory.
    pub(super) async fn private_keys(&self) -> Vec<String> {
        let local = self.keeper.local.lock().await;
        local.applied.iter().flat_map(|applied| applied.private.keys().cloned()).collect()
    }
}

impl fmt::Debug for KeyManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyManager")
            .field("ring", &self.ring)
            .field("status", &*lock(&self.keeper.status))
            .finish_non_exhaustive()
    }
}
