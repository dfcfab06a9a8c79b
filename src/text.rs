//! [`Text`]: the string in every vocabulary type. It is a literal or a shared slice, so that a clone never allocates.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

#[derive(Clone)]
pub(crate) enum Text {
    Literal(&'static str),
    Shared(Arc<str>),
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Literal(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::Shared(text.into())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::Shared(text.into())
    }
}

impl Text {
    /// Returns the text. If one of `known` is equal, its memory is shared.
    pub(crate) fn shared_with(known: &[&Self], text: &str) -> Self {
        known.iter().find(|known| ****known == *text).map_or_else(|| text.into(), |known| Self::clone(known))
    }
}

// Equality and hashing are those of `str`, so that a map with a vocabulary type as key can be queried with a `&str`.
impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Shared(one), Self::Shared(other)) if Arc::ptr_eq(one, other) => true,
            _ => **self == **other,
        }
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Adds checked constructors and the traits of a string to a newtype over [`Text`].
///
/// `$rule` is a `const fn(&str) -> Result<(), &'static str>`. Its error says why the text is invalid, and follows the name of
/// the type in the message.
macro_rules! vocabulary {
    ($name:ident, $error:ident, $rule:path, $what:literal) => {
        impl $name {
            /// Creates a value from a literal. In a `const`, a malformed literal does not compile.
            ///
            /// # Panics
            ///
            /// If the literal is malformed. Use [`FromStr`](std::str::FromStr) for text that is not a literal.
            #[must_use]
            #[allow(clippy::panic)]
            pub const fn from_static(literal: &'static str) -> Self {
                match $rule(literal) {
                    Ok(()) => Self($crate::text::Text::Literal(literal)),
                    Err(reason) => panic!("{}", reason),
                }
            }

            /// Returns the text unchanged.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Returns the text, to share its memory.
            #[allow(dead_code)] // of some
            pub(crate) fn text(&self) -> &$crate::text::Text {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                $rule(text).map_err($error)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<&str> for $name {
            type Error = $error;

            fn try_from(text: &str) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                $rule(&text).map_err($error)?;
                Ok(Self(text.into()))
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
            }
        }

        impl std::ops::Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                self.as_str()
            }
        }

        #[doc = concat!("The text is not ", $what, "; its `Display` says why.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
        #[error("not {what}: {0}", what = $what)]
        pub struct $error(&'static str);
    };
}

pub(crate) use vocabulary;
