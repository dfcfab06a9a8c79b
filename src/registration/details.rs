//! [`Details`]: the parts of a registration that do not affect the client's own tokens.

use std::collections::BTreeMap;

use super::MayGrant;
use crate::clock::UnixTime;

/// The parts of a registration that do not affect the client's own tokens. Most clients have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Details {
    pub(crate) name: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) issued_at: Option<UnixTime>,
    pub(crate) may_grant: Option<MayGrant>,
}

/// The maximum length of a name, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// The maximum number of entries of the metadata, the maximum length of a key, and the maximum size of all together, in bytes.
const MAX_ENTRIES: usize = 64;
const MAX_KEY_BYTES: usize = 64;
const MAX_METADATA_BYTES: usize = 4 * 1024;

impl Details {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Checks a name: text for people, in one line.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.trim().is_empty() {
        return Err("the name is empty; use a text, or omit it");
    }
    if name.len() > MAX_NAME_BYTES || name.contains(char::is_control) {
        return Err("invalid name; use at most 256 bytes without control characters");
    }
    Ok(())
}

/// Checks the free metadata, which has bounds, because it is read with each look-up of the client.
pub(super) fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), String> {
    if metadata.len() > MAX_ENTRIES {
        return Err(format!("{} entries of metadata; use at most {MAX_ENTRIES}", metadata.len()));
    }
    let is_key = |key: &String| (1..=MAX_KEY_BYTES).contains(&key.len()) && !key.contains(char::is_control);
    if !metadata.keys().all(is_key) {
        return Err(format!("invalid key of metadata; use 1 to {MAX_KEY_BYTES} bytes without control characters"));
    }
    let size: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > MAX_METADATA_BYTES {
        return Err(format!("{size} bytes of metadata; use at most {MAX_METADATA_BYTES}"));
    }
    Ok(())
}
