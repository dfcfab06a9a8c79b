//! [`SecretError`]: the reason why a secret could not be created, read or stored.

use std::convert::Infallible;
use std::fmt;

/// A secret could not be created, read or stored. The text says how to fix it, and never contains the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SecretError {
    kind: SecretErrorKind,
    message: String,
}

/// The kind of a [`SecretError`], which says what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SecretErrorKind {
    /// The environment variable is not set.
    Missing,
    /// The text, its label or its stored form is damaged, or this build does not support it.
    Malformed,
    /// The text cannot have 128 random bits.
    TooWeak,
    /// There are no random bytes, or there is no memory for a slow hash. Another attempt may succeed.
    Unavailable,
}

impl SecretError {
    fn new(kind: SecretErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(super) fn missing(message: impl Into<String>) -> Self {
        Self::new(SecretErrorKind::Missing, message)
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(SecretErrorKind::Malformed, message)
    }

    pub(super) fn too_weak(message: impl Into<String>) -> Self {
        Self::new(SecretErrorKind::TooWeak, message)
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(SecretErrorKind::Unavailable, message)
    }

    /// Begins the text with the place where the secret is from.
    pub(super) fn within(self, place: impl fmt::Display) -> Self {
        Self { message: format!("{place}: {}", self.message), ..self }
    }

    /// Returns the kind, which says what to do about the error.
    #[must_use]
    pub fn kind(&self) -> SecretErrorKind {
        self.kind
    }
}

impl From<Infallible> for SecretError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::SecretErrorKind;
    use crate::crypto::{Random, RandomError};
    use crate::secret::{ClientSecret, StoredSecret};

    #[derive(Debug)]
    struct Broken;

    impl Random for Broken {
        fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
            Err(RandomError::new())
        }
    }

    #[test]
    fn the_kind_says_whether_the_text_or_the_system_is_wrong() {
        let damaged = format!("{}x", ClientSecret::generate().unwrap().expose());
        for (error, kind) in [
            (ClientSecret::from_env("A_VARIABLE_THAT_IS_NEVER_SET").unwrap_err(), SecretErrorKind::Missing),
            (ClientSecret::assume_random(damaged).unwrap_err(), SecretErrorKind::Malformed),
            ("a secret in plain text".parse::<StoredSecret>().unwrap_err(), SecretErrorKind::Malformed),
            (ClientSecret::assume_random("hunter2").unwrap_err(), SecretErrorKind::TooWeak),
            (ClientSecret::generate_with(&Broken).unwrap_err(), SecretErrorKind::Unavailable),
        ] {
            assert_eq!(error.kind(), kind, "{error}");
        }
    }
}
