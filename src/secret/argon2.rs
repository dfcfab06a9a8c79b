//! argon2id for secrets that people chose, with the parameters that OWASP asks for (19 MiB, 2 passes, 1 lane).

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};

use super::SecretError;
use crate::keys::backend::fill_random;

const IDENT: &str = "$argon2id$";

pub(super) fn hash(secret: &str) -> Result<String, SecretError> {
    let mut salt = [0; 16];
    fill_random(&mut salt).ok_or_else(|| SecretError::new("the source of random bytes failed"))?;
    let hash: PasswordHash = Argon2::default()
        .hash_password_with_salt(secret.as_bytes(), &salt)
        .map_err(|error| SecretError::new(format!("argon2 could not hash the secret: {error}")))?;
    Ok(hash.to_string())
}

/// Whether the text is a whole argon2id hash.
pub(super) fn is_hash(text: &str) -> bool {
    text.starts_with(IDENT) && PasswordHash::new(text).is_ok_and(|hash| hash.salt.is_some() && hash.hash.is_some())
}

pub(super) fn matches(hash: &str, secret: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(secret.as_bytes(), &hash).is_ok())
}
