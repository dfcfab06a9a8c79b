//! argon2id for chosen secrets, with the parameters that OWASP recommends (19 MiB, 2 passes, 1 lane).

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Argon2, Params};

use super::SecretError;
use crate::crypto::fill_random;

const IDENT: &str = "$argon2id$";

pub(super) fn hash(secret: &str) -> Result<String, SecretError> {
    let mut salt = [0; 16];
    fill_random(&mut salt).ok_or_else(|| SecretError::unavailable("the source of random bytes failed"))?;
    let hash: PasswordHash = Argon2::default()
        .hash_password_with_salt(secret.as_bytes(), &salt)
        .map_err(|error| SecretError::unavailable(format!("argon2 could not hash the secret: {error}")))?;
    Ok(hash.to_string())
}

/// The maximum memory of a check, and the maximum of memory times passes, both in KiB. The latter is about five times
/// the second recommended option of RFC 9106 §4 (64 MiB, 3 passes), and about a second of work.
const MAX_MEMORY: u32 = 256 * 1024;
const MAX_WORK: u32 = 1024 * 1024;

/// Returns `None` if the text is not an argon2id hash, otherwise whether the hash is well-formed and within the limits.
pub(super) fn check(text: &str) -> Option<Result<(), &'static str>> {
    text.starts_with(IDENT).then(|| {
        let hash = PasswordHash::new(text).ok().filter(|hash| hash.salt.is_some() && hash.hash.is_some());
        let parameters = hash.and_then(|hash| Params::try_from(&hash).ok());
        let parameters = parameters.ok_or("malformed argon2id hash; use the complete PHC string")?;
        let work = parameters.m_cost().saturating_mul(parameters.t_cost());
        if parameters.m_cost() > MAX_MEMORY || work > MAX_WORK {
            return Err(
                "an argon2id hash may use at most 256 MiB, and 1 GiB in all passes; give the client a new secret",
            );
        }
        Ok(())
    })
}

pub(super) fn matches(hash: &str, secret: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(secret.as_bytes(), &hash).is_ok())
}
