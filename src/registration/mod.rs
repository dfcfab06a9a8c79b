//! The registration of a client (RFC 7591 §2): its id, how it authenticates, and which tokens it may get.
//!
//! A [`Client`] is a registration that was not checked yet. [`Client::register`] checks it and returns a
//! [`RegisteredClient`], which a [store](crate::store) keeps.

mod accepted_credentials;
mod client;
mod client_error;
mod client_rules;
mod credential;
mod credentials;
mod details;
mod error_path;
mod granted_workloads;
mod may_grant;
mod method;
mod other_members;
mod record;
mod registered_client;
mod registered_secret;
mod workload_key;

pub(crate) use self::accepted_credentials::{AcceptedCredentials, AcceptedSecrets};
pub use self::client::Client;
pub use self::client_error::{ClientError, ClientErrorKind};
pub use self::client_rules::ClientRules;
pub(crate) use self::client_rules::shorten;
#[cfg(feature = "remote")]
pub(crate) use self::credential::KeysUrl;
pub use self::credential::{Credential, InvalidCredential, InvalidSpiffeId, SpiffeId};
pub(crate) use self::credential::{
    CredentialKind, MAX_KEY_URLS, MAX_NESTING, MAX_SHARED_SECRETS, NamedWorkload, PlatformIdentity, SharedSecret,
    is_trust_domain,
};
pub(crate) use self::details::Details;
#[cfg(feature = "file")]
pub(crate) use self::error_path::{member, without_value};
pub use self::may_grant::MayGrant;
pub use self::method::ClientAuthMethod;
#[cfg(feature = "file")]
pub(crate) use self::record::Record;
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
pub(crate) use self::record::from_json;
pub(crate) use self::record::record_without_plain_secrets;
pub use self::registered_client::RegisteredClient;
pub use self::registered_secret::RegisteredSecret;
pub(crate) use self::workload_key::MAX_SEGMENTS;
pub use self::workload_key::WorkloadKey;
