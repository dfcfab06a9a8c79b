//! Hashes of older systems, bcrypt and PBKDF2. They are verified, but never created.
//!
//! | scheme | text | limit |
//! |---|---|---|
//! | bcrypt | `$2a$`, `$2b$`, `$2y$` | cost 14 |
//! | PBKDF2 | `$pbkdf2-sha256$` and `$pbkdf2-sha512$` as PHC strings or in passlib's format; Django's `pbkdf2_sha256$` | 2,000,000 iterations |
//!
//! Each limit is about a second of work. A hash beyond it is refused when it is read, before any request needs it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use pbkdf2::sha2::{Sha256, Sha512};

use crate::crypto::constant_time_eq;

const MAX_BCRYPT_COST: u32 = 14;
const MAX_ITERATIONS: u32 = 2_000_000;

/// bcrypt uses only the first 72 bytes of a secret, including the terminating zero of a shorter one.
const BCRYPT_BYTES: usize = 72;

enum Legacy<'a> {
    Bcrypt(&'a str),
    Pbkdf2(Pbkdf2),
}

struct Pbkdf2 {
    digest: Digest,
    iterations: u32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Digest {
    Sha256,
    Sha512,
}

/// Returns `None` if the text is not such a hash, otherwise whether the hash is well-formed and within the limits.
pub(super) fn check(text: &str) -> Option<Result<(), &'static str>> {
    parse(text).map(|parsed| parsed.map(drop))
}

pub(super) fn matches(text: &str, secret: &str) -> bool {
    match parse(text) {
        Some(Ok(Legacy::Bcrypt(hash))) => bcrypt::verify(secret, hash).unwrap_or(false),
        Some(Ok(Legacy::Pbkdf2(hash))) => hash.matches(secret),
        _ => false,
    }
}

/// Returns whether a match verifies the whole secret.
pub(super) fn covers(text: &str, secret: &str) -> bool {
    !matches!(parse(text), Some(Ok(Legacy::Bcrypt(_)))) || secret.len() < BCRYPT_BYTES
}

fn parse(text: &str) -> Option<Result<Legacy<'_>, &'static str>> {
    if ["$2a$", "$2b$", "$2y$"].iter().any(|ident| text.starts_with(ident)) {
        return Some(bcrypt_hash(text).map(Legacy::Bcrypt));
    }
    let (digest, rest, is_django) = if let Some(rest) = text.strip_prefix("$pbkdf2-sha256$") {
        (Digest::Sha256, rest, false)
    } else if let Some(rest) = text.strip_prefix("$pbkdf2-sha512$") {
        (Digest::Sha512, rest, false)
    } else {
        (Digest::Sha256, text.strip_prefix("pbkdf2_sha256$")?, true)
    };
    let parsed = if is_django { django(digest, rest) } else { phc(digest, rest) };
    let parsed = parsed.ok_or("malformed PBKDF2 hash; use the complete text of the hash").and_then(Pbkdf2::affordable);
    Some(parsed.map(Legacy::Pbkdf2))
}

fn bcrypt_hash(text: &str) -> Result<&str, &'static str> {
    let parts: bcrypt::HashParts =
        text.parse().map_err(|_| "malformed bcrypt hash; use the complete text of the hash")?;
    match parts.get_cost() {
        4..=MAX_BCRYPT_COST => Ok(text),
        _ => Err("a bcrypt hash must have a cost of 4 to 14; give the client a new secret"),
    }
}

/// Parses `i=ITERATIONS,l=LENGTH$SALT$HASH`, or passlib's `ITERATIONS$SALT$HASH`, with `.` for `+` in its base64.
fn phc(digest: Digest, rest: &str) -> Option<Pbkdf2> {
    let (parameters, rest) = rest.split_once('$')?;
    let (salt, hash) = rest.split_once('$')?;
    let decode = |text: &str| STANDARD_NO_PAD.decode(text.replace('.', "+")).ok();
    let (salt, hash) = (decode(salt)?, decode(hash)?);
    let iterations = match parameters.split_once(',') {
        None => parameters.strip_prefix("i=").unwrap_or(parameters),
        Some((iterations, length)) => {
            let length: usize = length.strip_prefix("l=")?.parse().ok()?;
            iterations.strip_prefix("i=").filter(|_| length == hash.len())?
        }
    };
    Some(Pbkdf2 { digest, iterations: iterations.parse().ok()?, salt, hash })
}

/// Parses `ITERATIONS$SALT$HASH`: the salt is text, the hash is padded base64.
fn django(digest: Digest, rest: &str) -> Option<Pbkdf2> {
    let (iterations, rest) = rest.split_once('$')?;
    let (salt, hash) = rest.split_once('$')?;
    let hash = STANDARD.decode(hash).ok()?;
    Some(Pbkdf2 { digest, iterations: iterations.parse().ok()?, salt: salt.into(), hash })
}

impl Pbkdf2 {
    fn affordable(self) -> Result<Self, &'static str> {
        let block = match self.digest {
            Digest::Sha256 => 32,
            Digest::Sha512 => 64,
        };
        if !(16..=64).contains(&self.hash.len()) || self.salt.is_empty() || self.salt.len() > 64 {
            return Err("a PBKDF2 hash must have 16 to 64 bytes, and a salt of 1 to 64 bytes");
        }
        let blocks = u32::from(self.hash.len() > block) + 1;
        if self.iterations == 0 || self.iterations.saturating_mul(blocks) > MAX_ITERATIONS {
            return Err("a PBKDF2 hash may have at most 2,000,000 iterations; give the client a new secret");
        }
        Ok(self)
    }

    fn matches(&self, secret: &str) -> bool {
        let mut hash = vec![0; self.hash.len()];
        let (secret, salt) = (secret.as_bytes(), &self.salt);
        match self.digest {
            Digest::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(secret, salt, self.iterations, &mut hash),
            Digest::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(secret, salt, self.iterations, &mut hash),
        }
        constant_time_eq(&hash, &self.hash)
    }
}
