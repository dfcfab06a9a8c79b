//! The text of a generated secret: prefix, 256 random bits, checksum.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const PREFIX: &str = "tcc_";
/// 256 bits and 32 bits in base64url.
const BITS: usize = 43;
const CHECKSUM: usize = 6;

pub(super) fn format(bits: &[u8; 32]) -> String {
    let mut text = String::with_capacity(PREFIX.len() + BITS + CHECKSUM);
    text.push_str(PREFIX);
    URL_SAFE_NO_PAD.encode_string(bits, &mut text);
    let checksum = checksum(&text);
    text.push_str(&checksum);
    text
}

/// `None` when the text does not begin like a generated secret, else whether it is an undamaged one.
pub(super) fn check(text: &str) -> Option<bool> {
    let random = text.strip_prefix(PREFIX)?;
    let intact = text
        .split_at_checked(PREFIX.len() + BITS)
        .is_some_and(|(body, end)| random.len() == BITS + CHECKSUM && checksum(body) == end);
    Some(intact)
}

/// The first 32 bits of the SHA-256, as text. It guards against typing errors, not against attackers.
fn checksum(body: &str) -> String {
    let [a, b, c, d, ..] = crate::crypto::sha256(body.as_bytes());
    URL_SAFE_NO_PAD.encode([a, b, c, d])
}
