//! The registration of a client (RFC 7591 §2): its id, how it authenticates, and which tokens it may get.
//!
//! A [`Client`] is a registration that was not checked yet. [`Client::register`] checks it and returns a
//! [`RegisteredClient`], which a [store](crate::store) keeps.

mod client;
mod client_error;
mod client_rules;
mod credential;
mod credentials;
mod details;
mod may_grant;
mod method;
mod other_members;
mod record;
mod registered_client;
mod registered_secret;

pub use self::client::Client;
pub use self::client_error::{ClientError, ClientErrorKind};
pub use self::client_rules::ClientRules;
pub(crate) use self::client_rules::shorten;
pub(crate) use self::client_rules::{AcceptedCredentials, AcceptedSecrets};
#[cfg(feature = "remote")]
pub(crate) use self::credential::KeysUrl;
pub use self::credential::{Credential, InvalidCredential, InvalidSpiffeId, SpiffeId};
pub(crate) use self::credential::{
    CredentialKind, MAX_SHARED_SECRETS, PlatformIdentity, SharedSecret, is_trust_domain,
};
pub(crate) use self::details::Details;
pub use self::may_grant::MayGrant;
pub use self::method::ClientAuthMethod;
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
pub(crate) use self::record::from_json;
pub(crate) use self::record::record_without_plain_secrets;
#[cfg(feature = "file")]
pub(crate) use self::record::{Record, member, without_value};
pub use self::registered_client::RegisteredClient;
pub use self::registered_secret::RegisteredSecret;
