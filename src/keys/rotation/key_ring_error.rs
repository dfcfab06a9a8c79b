//! [`KeyRingErrorKind`]: what to do about a [`KeyRingError`].

use super::KeyRingError;

/// The kind of a [`KeyRingError`], which says what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyRingErrorKind {
    /// A setting is invalid. Correct it.
    Settings,
    /// The store did not answer, or other replicas changed the ring again and again. Another attempt may succeed.
    Unavailable,
    /// The step would refuse valid tokens. Try again later; the error says when.
    TooEarly,
    /// The ring has no such key.
    NotFound,
    /// The state of the key or of this replica does not permit the step. Take another step first.
    WrongState,
    /// A key cannot be created or read, or the stored ring was altered or restored. An operator must look at it.
    Refused,
}

impl KeyRingError {
    /// Returns the kind, which says what to do about the error.
    #[must_use]
    pub const fn kind(&self) -> KeyRingErrorKind {
        match self {
            Self::Settings(_) => KeyRingErrorKind::Settings,
            Self::Store(_) | Self::Busy => KeyRingErrorKind::Unavailable,
            Self::TooEarly { .. } | Self::NotEverywhere { .. } => KeyRingErrorKind::TooEarly,
            Self::NoSuchKey(_) => KeyRingErrorKind::NotFound,
            Self::Signs(_) | Self::Distrusted(_) | Self::Left => KeyRingErrorKind::WrongState,
            Self::Key(_) | Self::Refused(_) => KeyRingErrorKind::Refused,
        }
    }

    /// Returns the `kid` that was given, if the error is about one.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        match self {
            Self::NoSuchKey(key_id) | Self::Signs(key_id) | Self::Distrusted(key_id) => Some(key_id),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{KeyRingError, KeyRingErrorKind};

    #[test]
    fn the_kind_says_what_to_do_and_the_key_is_the_one_that_was_given() {
        let (until, then, name) = (UNIX_EPOCH, Duration::ZERO, "k".to_owned());
        for (error, kind, key_id) in [
            (KeyRingError::Settings("s".to_owned()), KeyRingErrorKind::Settings, None),
            (KeyRingError::Busy, KeyRingErrorKind::Unavailable, None),
            (KeyRingError::TooEarly { until }, KeyRingErrorKind::TooEarly, None),
            (KeyRingError::NotEverywhere { replicas: Vec::new(), then }, KeyRingErrorKind::TooEarly, None),
            (KeyRingError::NoSuchKey(name.clone()), KeyRingErrorKind::NotFound, Some("k")),
            (KeyRingError::Signs(name.clone()), KeyRingErrorKind::WrongState, Some("k")),
            (KeyRingError::Distrusted(name.clone()), KeyRingErrorKind::WrongState, Some("k")),
            (KeyRingError::Left, KeyRingErrorKind::WrongState, None),
            (KeyRingError::Refused(name), KeyRingErrorKind::Refused, None),
        ] {
            assert_eq!((error.kind(), error.key_id()), (kind, key_id), "{error}");
        }
    }
}
