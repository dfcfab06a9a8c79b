//! [`ClientAuthMethod`]: the method by which a client authenticates.

use std::fmt;

/// The method by which a client authenticates at the token endpoint (RFC 7591 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ClientAuthMethod {
    /// `client_secret_basic`: id and secret in the `Authorization` header (RFC 6749 §2.3.1). The default, as in RFC
    /// 7591. Every client library supports it.
    #[default]
    ClientSecretBasic,
    /// `client_secret_post`: id and secret in the body. Use it only for clients that do not support
    /// `client_secret_basic`: RFC 6749 does not recommend it, since bodies are logged more often than the
    /// `Authorization` header.
    ClientSecretPost,
}

impl ClientAuthMethod {
    pub(crate) const ALL: [Self; 2] = [Self::ClientSecretBasic, Self::ClientSecretPost];

    /// Returns the registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
        }
    }
}

impl fmt::Display for ClientAuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
