//! Client secrets: [`ClientSecret`], which proves who a client is, and [`StoredSecret`], what a registry keeps of it.
//!
//! 1. A generated secret holds 256 random bits; nobody can guess it, so a fast digest keeps it safe at rest.
//! 2. A random secret of your own, such as one from a secret manager, is kept as a digest too, where the program
//!    [says so](ClientSecret::assume_random).
//! 3. A secret that a person chose can be guessed; it is kept as argon2id (feature `argon2`), which is slow on
//!    purpose.
//! 4. The hash of an older system (feature `legacy_hashes`: bcrypt, PBKDF2) is checked too, and
//!    [replaced](crate::AuthorizationServerBuilder::upgrade_hashes) when its secret is first shown. A hash that would
//!    take seconds to check is refused when it is read.
//! 5. Whatever is compared is compared in constant time, and no `Debug`, `Display` or error shows a secret.
//!
//! # Deployment caveat
//!
//! Prefer random secrets: checking one costs a tenth of a microsecond, checking a chosen one tens of
//! milliseconds and 19 MiB. And while nobody can tell an unknown client from one with a generated secret, one with a
//! chosen secret can be told from both: by the time that a check takes, and by the
//! [limit](crate::AttemptLimits) on wrong ones.
//!
//! # Example
//!
//! ```
//! use tower_client_credentials::ClientSecret;
//!
//! let secret = ClientSecret::generate()?;
//! println!("give this to the client, once: {}", secret.expose());
//! let kept: String = secret.to_stored()?.to_phc_string(); // what goes into a database
//! assert!(kept.starts_with("$sha256$"));
//! # Ok::<(), tower_client_credentials::SecretError>(())
//! ```

#[cfg(feature = "argon2")]
mod argon2;
mod generated;
#[cfg(feature = "legacy_hashes")]
mod legacy;
mod random;
mod stored;

use std::convert::Infallible;
use std::fmt;

use zeroize::Zeroizing;

pub(crate) use self::stored::Presented;
pub use self::stored::StoredSecret;
use crate::client_id::vschar;
use crate::crypto::{Random, SystemRandom};

/// The longest secret, in bytes: beyond what anybody uses, and cheap to hash.
pub(crate) const LONGEST: usize = 1024;

/// A client secret in the clear, wiped when it is dropped.
pub struct ClientSecret {
    text: Zeroizing<String>,
    origin: Origin,
}

/// Decides how a secret is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// It has at least 128 random bits.
    Random,
    #[cfg(feature = "argon2")]
    Chosen,
}

impl ClientSecret {
    /// A new secret: `tcc_`, 256 random bits and a checksum, 53 characters in all.
    ///
    /// All of them are unreserved (RFC 3986 §2.3), so that a client that form-encodes its credentials and one
    /// that does not (`curl -u`) send the same bytes. The prefix and the checksum let secret scanners find a
    /// leaked one: `tcc_[A-Za-z0-9_-]{49}`.
    ///
    /// # Errors
    ///
    /// When the operating system has no random bytes to give.
    pub fn generate() -> Result<Self, SecretError> {
        Self::generate_with(&SystemRandom)
    }

    /// The same from another source of randomness.
    ///
    /// # Errors
    ///
    /// When the source fails.
    pub fn generate_with(random: &dyn Random) -> Result<Self, SecretError> {
        let mut bits = Zeroizing::new([0; 32]);
        random.fill(&mut *bits).map_err(|_| SecretError::new("the source of random bytes failed"))?;
        Ok(Self { text: Zeroizing::new(generated::format(&bits)), origin: Origin::Random })
    }

    /// Takes a secret from text: one that [`ClientSecret::generate`] made, or, with feature `argon2`, any other
    /// of 1 to 1,024 printable ASCII characters, which is taken for a secret that a person chose. For a random secret of your
    /// own see [`assume_random`](Self::assume_random).
    ///
    /// # Errors
    ///
    /// When the text is a damaged generated secret, or any other secret without feature `argon2`. The message
    /// does not show the secret.
    pub fn new(text: impl Into<String>) -> Result<Self, SecretError> {
        let text = Zeroizing::new(text.into());
        let origin = origin(&text).map_err(SecretError::new)?;
        Ok(Self { text, origin })
    }

    /// Takes the secret from an environment variable; see [`ClientSecret::new`].
    ///
    /// # Errors
    ///
    /// As there, and when the variable is unset; the message names the variable.
    pub fn from_env(variable: &str) -> Result<Self, SecretError> {
        from_env(variable, Self::new)
    }

    /// Takes a random secret from text, such as 32 random bytes in base64url from a secret manager. It is kept as a digest, and
    /// guesses never lock its owner out.
    ///
    /// The caller says that a random source made the secret, with 128 bits or more. That cannot be checked: a person's secret
    /// that is taken for a random one can be guessed without a limit, and searched for by anyone with access to the registry.
    /// What cannot have so many bits is refused: fewer than 22 characters (32 where all are hexadecimal digits, 39 where all are
    /// decimal digits, 25 where there are only digits and letters of one case), fewer than 6 different characters, and secrets
    /// with spaces, which are passphrases.
    ///
    /// ```
    /// use tower_client_credentials::ClientSecret;
    ///
    /// let secret = ClientSecret::assume_random("jR3uWc0sYk8p4hT1nQ7vZ2xB6mD9fG5a-LqEoHiKwXs")?;
    /// assert!(secret.to_stored()?.to_phc_string().starts_with("$sha256$"));
    /// assert!(ClientSecret::assume_random("correct horse battery staple").is_err());
    /// # Ok::<(), tower_client_credentials::SecretError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the text is too short or too regular, is not printable ASCII, is longer than 1,024 characters, or is a damaged
    /// generated secret. The message does not show the secret.
    pub fn assume_random(text: impl Into<String>) -> Result<Self, SecretError> {
        let text = Zeroizing::new(text.into());
        if !is_generated(&text).map_err(SecretError::new)? {
            random::check(&text).map_err(SecretError::new)?;
        }
        Ok(Self { text, origin: Origin::Random })
    }

    /// Takes a random secret from an environment variable; see [`assume_random`](Self::assume_random).
    ///
    /// # Errors
    ///
    /// As there, and when the variable is unset; the message names the variable.
    pub fn assume_random_from_env(variable: &str) -> Result<Self, SecretError> {
        from_env(variable, Self::assume_random)
    }

    /// The secret in the clear, to hand it to the client. Do not log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// What a registry keeps: a digest of a random secret, an argon2id hash of a chosen one.
    ///
    /// # Errors
    ///
    /// When a chosen secret cannot be hashed, for want of random bytes or memory.
    pub fn to_stored(&self) -> Result<StoredSecret, SecretError> {
        match self.origin {
            Origin::Random => Ok(StoredSecret::digest(&self.text)),
            #[cfg(feature = "argon2")]
            Origin::Chosen => StoredSecret::argon2(&self.text),
        }
    }
}

fn from_env(
    variable: &str,
    take: fn(String) -> Result<ClientSecret, SecretError>,
) -> Result<ClientSecret, SecretError> {
    let text = std::env::var(variable).map_err(|_| {
        SecretError::new(format!(
            "the environment variable {variable} is not set (to text): put the client's secret there"
        ))
    })?;
    take(text).map_err(|error| SecretError::new(format!("the environment variable {variable}: {error}")))
}

fn origin(text: &str) -> Result<Origin, &'static str> {
    if is_generated(text)? { Ok(Origin::Random) } else { chosen() }
}

/// Returns whether the text is a secret of [`ClientSecret::generate`], where it could be a secret at all.
fn is_generated(text: &str) -> Result<bool, &'static str> {
    if text.is_empty() || text.len() > LONGEST {
        return Err("a client secret has 1 to 1,024 characters");
    }
    vschar(text).map_err(|_| {
        "a client secret has printable ASCII characters and spaces only (RFC 6749 appendix A.2); is there a line \
         break behind it?"
    })?;
    match generated::check(text) {
        Some(true) => Ok(true),
        Some(false) => Err("the secret begins like a generated one, but its checksum is wrong: it was cut or mistyped"),
        None => Ok(false),
    }
}

#[cfg(feature = "argon2")]
#[allow(clippy::unnecessary_wraps)]
fn chosen() -> Result<Origin, &'static str> {
    Ok(Origin::Chosen)
}

#[cfg(not(feature = "argon2"))]
fn chosen() -> Result<Origin, &'static str> {
    Err(
        "the secret is not one that `ClientSecret::generate` made; use one of those, or `ClientSecret::assume_random` for a \
         random secret of your own, or turn on feature `argon2`, which keeps a secret that a person chose safe at rest",
    )
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(…)")
    }
}

/// A secret could not be made, taken or kept; the text says what to do, and never shows the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SecretError {
    message: String,
}

impl SecretError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl From<Infallible> for SecretError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::ClientSecret;

    #[test]
    fn a_generated_secret_is_unreserved_text_behind_its_prefix_and_is_taken_back() {
        let secret = ClientSecret::generate().unwrap();
        let text = secret.expose();
        assert!(text.starts_with("tcc_") && text.len() == 53, "{text}");
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");
        assert_eq!(ClientSecret::new(text).unwrap().to_stored().unwrap(), secret.to_stored().unwrap());
        assert_ne!(ClientSecret::generate().unwrap().expose(), text);
    }

    #[test]
    fn a_mistyped_generated_secret_is_refused_without_being_shown() {
        let text = ClientSecret::generate().unwrap().expose().to_owned();
        let cut = text.split_at(50).0;
        for wrong in [cut.to_owned(), text.replacen("tcc_", "tcc_A", 1), text.chars().rev().collect::<String>() + "\n"]
        {
            let error = ClientSecret::new(wrong.as_str()).unwrap_err().to_string();
            assert!(!error.contains(wrong.trim()), "{error}");
        }
    }

    #[test]
    fn an_unset_variable_is_named() {
        let error = ClientSecret::from_env("A_VARIABLE_THAT_NOBODY_SETS").unwrap_err().to_string();
        assert!(error.contains("A_VARIABLE_THAT_NOBODY_SETS"), "{error}");
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", ClientSecret::generate().unwrap()), "ClientSecret(…)");
    }
}
