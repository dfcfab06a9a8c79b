//! [`ClientAuthMethod`]: the method by which a client authenticates.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::named::named;

named! {
    /// The method by which a client authenticates at the token endpoint (RFC 7591 §2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    #[non_exhaustive]
    pub enum ClientAuthMethod {
        /// `client_secret_basic`: id and secret in the `Authorization` header (RFC 6749 §2.3.1). The default, as in RFC
        /// 7591. Every client library supports it.
        #[default]
        ClientSecretBasic = "client_secret_basic",
        /// `client_secret_post`: id and secret in the body. Use it only for clients that do not support
        /// `client_secret_basic`: RFC 6749 does not recommend it, since bodies are logged more often than the
        /// `Authorization` header.
        ClientSecretPost = "client_secret_post",
        /// `client_secret_jwt`: an assertion that the client authenticates with its secret (RFC 7523 §2.2, OpenID Connect Core
        /// §9). The secret is not sent, but the server has to be able to read it. Prefer `private_key_jwt`.
        ClientSecretJwt = "client_secret_jwt",
        /// `private_key_jwt`: an assertion that the client signs with a key of its own (RFC 7523 §2.2, OpenID Connect Core
        /// §9). The server knows only the public key, so there is no secret that it could lose.
        PrivateKeyJwt = "private_key_jwt",
        /// `spiffe_jwt`: a JWT-SVID of the workload (draft-ietf-oauth-spiffe-client-auth).
        SpiffeJwt = "spiffe_jwt",
        /// `platform_jwt`: a token that a platform issued for the workload, such as a Kubernetes service-account token. It is
        /// sent as an assertion of RFC 7523. The name is not registered, so the metadata does not list it.
        PlatformJwt = "platform_jwt",
    }

    /// Returns the registered name.
    pub const fn name();
}

impl ClientAuthMethod {
    /// The parameters of a form that contain credentials. A request has at most one of them, and none in its query.
    pub(crate) const PARAMETERS: [&'static str; 2] = ["client_secret", "client_assertion"];

    /// Returns whether the client sends one of its secrets.
    pub(crate) const fn is_secret(self) -> bool {
        matches!(self, Self::ClientSecretBasic | Self::ClientSecretPost)
    }
}

impl fmt::Display for ClientAuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for ClientAuthMethod {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for ClientAuthMethod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let method = Self::ALL.iter().copied().find(|method| method.name() == name);
        method.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|method| format!("`{method}`")).collect();
            let names = names.join(", ");
            D::Error::custom(format_args!("unsupported method; use one of {names}"))
        })
    }
}
