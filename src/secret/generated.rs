//! The format of a generated secret: prefix, 256 random bits, checksum.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const PREFIX: &str = "tcc_";
/// The length of 256 bits in base64url. The checksum has 32 bits.
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

/// Returns `None` if the text does not begin like a generated secret, otherwise whether its checksum is right.
pub(super) fn check(text: &str) -> Option<bool> {
    let random = text.strip_prefix(PREFIX)?;
    let intact = text
        .split_at_checked(PREFIX.len() + BITS)
        .is_some_and(|(body, end)| random.len() == BITS + CHECKSUM && checksum(body) == end);
    Some(intact)
}

/// Returns the first 32 bits of the SHA-256 digest as text. It detects typing errors, not attacks.
fn checksum(body: &str) -> String {
    let [a, b, c, d, ..] = crate::crypto::sha256(body.as_bytes());
    URL_SAFE_NO_PAD.encode([a, b, c, d])
}
