//! [`unambiguous`]: joins texts that are authenticated together.

/// Joins texts so that no other texts give the same bytes: each follows its length.
pub(super) fn unambiguous(parts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}
