//! API keys that a protected route accepts in addition to tokens while its clients migrate.

mod admission;
mod api_keys;
mod identity;
mod key;
mod wrong_keys;

pub(super) use self::admission::Presented;
pub use self::api_keys::{ApiKeys, InvalidApiKey};
pub use self::identity::{ApiKeyIdentity, Caller};
pub use self::key::ApiKeyUsage;
