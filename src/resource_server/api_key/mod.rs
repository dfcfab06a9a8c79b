//! API keys that a protected route accepts in addition to tokens while its clients migrate.

mod identity;
mod key;
mod keys;
mod wrong_keys;

pub use self::identity::{ApiKeyIdentity, Caller};
pub use self::key::ApiKeyUsage;
pub(super) use self::keys::Presented;
pub use self::keys::{ApiKeys, InvalidApiKey};
