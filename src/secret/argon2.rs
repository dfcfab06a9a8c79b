//! argon2id for secrets that people chose, with the parameters that OWASP asks for (19 MiB, 2 passes, 1 lane).

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Argon2, Params};

use super::SecretError;
use crate::crypto::fill_random;

const IDENT: &str = "$argon2id$";

pub(super) fn hash(secret: &str) -> Result<String, SecretError> {
    let mut salt = [0; 16];
    fill_random(&mut salt).ok_or_else(|| SecretError::new("the source of random bytes failed"))?;
    let hash: PasswordHash = Argon2::default()
        .hash_password_with_salt(secret.as_bytes(), &salt)
        .map_err(|error| SecretError::new(format!("argon2 could not hash the secret: {error}")))?;
    Ok(hash.to_string())
}

/// The most memory that a check may take, in KiB, and the most that it may go over in all its passes: the second choice
/// of RFC 9106 §4 (64 MiB, 3 passes) five times over, and about a second of work.
const MOST_MEMORY: u32 = 256 * 1024;
const MOST_WORK: u32 = 1024 * 1024;

/// `None` when the text is no argon2id hash, else whether it is whole and affordable.
pub(super) fn check(text: &str) -> Option<Result<(), &'static str>> {
    text.starts_with(IDENT).then(|| {
        let hash = PasswordHash::new(text).ok().filter(|hash| hash.salt.is_some() && hash.hash.is_some());
        let parameters = hash.and_then(|hash| Params::try_from(&hash).ok());
        let parameters = parameters.ok_or("the argon2id hash is not whole")?;
        let work = parameters.m_cost().saturating_mul(parameters.t_cost());
        if parameters.m_cost() > MOST_MEMORY || work > MOST_WORK {
            return Err(
                "an argon2id hash takes at most 256 MiB, and 1 GiB in all its passes; give the client a new secret",
            );
        }
        Ok(())
    })
}

pub(super) fn matches(hash: &str, secret: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(secret.as_bytes(), &hash).is_ok())
}
