//! Client secrets: [`ClientSecret`] in plain text, with which a client authenticates, and [`StoredSecret`], the form in
//! which a store keeps it.
//!
//! 1. A generated secret has 256 random bits. It cannot be guessed, so it is stored as a fast digest.
//! 2. Your own random secret, for example from a secret manager, is stored as a digest, too, if the application
//!    declares it to be [random](ClientSecret::assume_random).
//! 3. A chosen secret, which a person made up, can be guessed. It is stored as an argon2id hash (feature `argon2`),
//!    which is intentionally slow.
//! 4. A hash of an older system (feature `legacy_hashes`: bcrypt, PBKDF2) is accepted, too, and can be
//!    [replaced](crate::authorization_server::AuthorizationServerBuilder::upgrade_hashes) when its secret is first
//!    used. A hash that would take seconds to check is refused when it is read.
//! 5. All comparisons take constant time, and no `Debug`, `Display` or error contains a secret.
//!
//! # Deployment caveat
//!
//! Prefer random secrets: checking one takes a tenth of a microsecond, checking a chosen one takes tens of milliseconds
//! and 19 MiB. In addition, an unknown client cannot be distinguished from a client with a generated secret, but a
//! client with a chosen secret can be distinguished from both: by the time of a check, and by the
//! [limit](crate::authorization_server::AttemptLimits) on wrong secrets.
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
//! # Ok::<(), tower_client_credentials::secret::SecretError>(())
//! ```

#[cfg(feature = "argon2")]
mod argon2;
mod generated;
#[cfg(feature = "legacy_hashes")]
mod legacy;
mod random_text;
mod secret_error;
mod stored;

use std::fmt;

use zeroize::Zeroizing;

pub use self::secret_error::{SecretError, SecretErrorKind};
pub(crate) use self::stored::Presented;
pub use self::stored::StoredSecret;
use crate::client_id::vschar;
use crate::crypto::{Random, SystemRandom};

/// The maximum length of a secret in bytes: longer than any real secret, but still cheap to hash.
pub(crate) const LONGEST: usize = 1024;

/// A client secret in plain text. It is wiped when it is dropped.
pub struct ClientSecret {
    text: Zeroizing<String>,
    origin: Origin,
}

/// The origin of a secret, which decides how it is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The secret has at least 128 random bits.
    Random,
    #[cfg(feature = "argon2")]
    Chosen,
}

impl ClientSecret {
    /// Generates a secret of 53 characters: `tcc_`, 256 random bits and a checksum.
    ///
    /// All characters are unreserved (RFC 3986 §2.3). So a client that form-encodes its credentials sends the same
    /// bytes as one that does not (`curl -u`). With the prefix and the checksum, secret scanners can find a leaked
    /// secret: `tcc_[A-Za-z0-9_-]{49}`.
    ///
    /// # Errors
    ///
    /// Returns an error if the operating system provides no random bytes.
    pub fn generate() -> Result<Self, SecretError> {
        Self::generate_with(&SystemRandom)
    }

    /// Generates a secret as [`generate`](Self::generate) does, from another source of randomness.
    ///
    /// # Errors
    ///
    /// Returns an error if the source fails.
    pub fn generate_with(random: &dyn Random) -> Result<Self, SecretError> {
        let mut bits = Zeroizing::new([0; 32]);
        random.fill(&mut *bits).map_err(|_| SecretError::unavailable("the source of random bytes failed"))?;
        Ok(Self { text: Zeroizing::new(generated::format(&bits)), origin: Origin::Random })
    }

    /// Creates a secret from text. The text is a secret of [`ClientSecret::generate`] or, with feature `argon2`, any
    /// other text of 1 to 1,024 printable ASCII characters, which is treated as chosen by a person. For your own random
    /// secret, use [`assume_random`](Self::assume_random).
    ///
    /// # Errors
    ///
    /// Returns an error if the text is a damaged generated secret, or, without feature `argon2`, if it is not a
    /// generated secret. The message does not contain the secret.
    pub fn new(text: impl Into<String>) -> Result<Self, SecretError> {
        let text = Zeroizing::new(text.into());
        let origin = origin(&text).map_err(SecretError::malformed)?;
        Ok(Self { text, origin })
    }

    /// Reads the secret from an environment variable; see [`ClientSecret::new`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`ClientSecret::new`], and an error if the variable is not set. The message names the
    /// variable.
    pub fn from_env(variable: &str) -> Result<Self, SecretError> {
        from_env(variable, Self::new)
    }

    /// Creates a random secret from text, such as 32 random bytes in base64url from a secret manager. It is stored as a
    /// digest, and wrong guesses never lock out its owner.
    ///
    /// The caller guarantees that a random source created the secret, with at least 128 bits. This cannot be checked.
    /// If a chosen secret is declared to be random, it can be guessed without limit, and anyone with access to the
    /// client store can search for it. Text that cannot have 128 random bits is refused: fewer than 22 characters (32
    /// if all are hexadecimal digits, 39 if all are decimal digits, 25 if all are digits and letters of one case),
    /// fewer than 6 different characters, and text with spaces, which is a passphrase.
    ///
    /// ```
    /// use tower_client_credentials::ClientSecret;
    ///
    /// let secret = ClientSecret::assume_random("jR3uWc0sYk8p4hT1nQ7vZ2xB6mD9fG5a-LqEoHiKwXs")?;
    /// assert!(secret.to_stored()?.to_phc_string().starts_with("$sha256$"));
    /// assert!(ClientSecret::assume_random("correct horse battery staple").is_err());
    /// # Ok::<(), tower_client_credentials::secret::SecretError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the text is too short or too regular, is not printable ASCII, is longer than 1,024
    /// characters, or is a damaged generated secret. The message does not contain the secret.
    pub fn assume_random(text: impl Into<String>) -> Result<Self, SecretError> {
        let text = Zeroizing::new(text.into());
        if !is_generated(&text).map_err(SecretError::malformed)? {
            random_text::check(&text).map_err(SecretError::too_weak)?;
        }
        Ok(Self { text, origin: Origin::Random })
    }

    /// Reads a random secret from an environment variable; see [`assume_random`](Self::assume_random).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`assume_random`](Self::assume_random), and an error if the variable is not set. The
    /// message names the variable.
    pub fn assume_random_from_env(variable: &str) -> Result<Self, SecretError> {
        from_env(variable, Self::assume_random)
    }

    /// Returns the secret in plain text, to give it to the client. Do not log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Returns the form that a store keeps: a digest of a random secret, or an argon2id hash of a chosen one.
    ///
    /// # Errors
    ///
    /// Returns an error if a chosen secret cannot be hashed, because random bytes or memory are unavailable.
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
        SecretError::missing(format!(
            "the environment variable {variable} is not set, or not valid Unicode; set it to the client's secret"
        ))
    })?;
    take(text).map_err(|error| error.within(format_args!("the environment variable {variable}")))
}

fn origin(text: &str) -> Result<Origin, &'static str> {
    if is_generated(text)? { Ok(Origin::Random) } else { chosen() }
}

/// Returns whether the text is a secret of [`ClientSecret::generate`], or an error if it cannot be a secret.
fn is_generated(text: &str) -> Result<bool, &'static str> {
    if text.is_empty() || text.len() > LONGEST {
        return Err("a client secret must have 1 to 1,024 characters");
    }
    vschar(text).map_err(|_| {
            "a client secret must consist of printable ASCII characters and spaces (RFC 6749 appendix A.2); check for a line \
             break at its end"
    })?;
    match generated::check(text) {
        Some(true) => Ok(true),
        Some(false) => Err(
            "the secret begins like a generated one, but its checksum is wrong; check for missing or mistyped characters",
        ),
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
        "the secret was not generated by `ClientSecret::generate`; generate one, use `ClientSecret::assume_random` (or \
             `assume_random_from_env`) for your own random secret, or enable feature `argon2`, which stores chosen secrets safely",
    )
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::ClientSecret;

    #[test]
    fn a_generated_secret_has_a_prefix_and_unreserved_characters_and_can_be_read_back() {
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
    fn the_error_names_a_variable_that_is_not_set() {
        let error = ClientSecret::from_env("A_VARIABLE_THAT_IS_NEVER_SET").unwrap_err().to_string();
        assert!(error.contains("A_VARIABLE_THAT_IS_NEVER_SET"), "{error}");
    }

    #[test]
    fn debug_output_does_not_contain_the_secret() {
        assert_eq!(format!("{:?}", ClientSecret::generate().unwrap()), "ClientSecret(…)");
    }
}
