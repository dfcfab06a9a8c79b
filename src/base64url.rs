//! base64url without padding (RFC 7515 §2), with SIMD, since most of a token is encoded with it.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::decoded_len_estimate;
use base64::engine::general_purpose::NO_PAD;
pub(crate) use base64::{DecodeError, DecodeSliceError};

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
static ENGINE: LazyLock<base64::engine::Simd> = LazyLock::new(|| base64::engine::Simd::url_safe(NO_PAD));
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
static ENGINE: LazyLock<base64::engine::GeneralPurpose> =
    LazyLock::new(|| base64::engine::GeneralPurpose::new(&base64::alphabet::URL_SAFE, NO_PAD));

/// Decodes strictly: trailing bits and invalid characters are refused.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, DecodeError> {
    // Zeroed while decoding: many allocators are slow to return zeroed memory.
    let mut bytes = Vec::with_capacity(decoded_len_estimate(text.len()));
    ENGINE.decode_vec(text, &mut bytes)?;
    Ok(bytes)
}

/// Like [`decode`], into an existing buffer. Returns the number of decoded bytes.
pub(crate) fn decode_into(place: &mut [u8], text: &str) -> Result<usize, DecodeSliceError> {
    ENGINE.decode_slice(text, place)
}

/// Encodes bytes, and appends them to a text.
pub(crate) fn encode_onto(text: &mut String, bytes: &[u8]) {
    ENGINE.encode_string(bytes, text);
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::{decode, decode_into, encode_onto};

    /// Compares with the portable engine of the same library, for the text and with one character changed.
    fn agrees(text: &str) {
        let expected = URL_SAFE_NO_PAD.decode(text).ok();
        assert_eq!(decode(text).ok(), expected, "{text}");
        let mut place = [0; 1024];
        let decoded = decode_into(&mut place, text).ok().map(|length| place[..length].to_vec());
        assert_eq!(decoded, expected, "{text}");
    }

    #[test]
    fn stray_bits_characters_and_padding_are_refused_at_every_length() {
        for length in 0..200 {
            let good = URL_SAFE_NO_PAD.encode(vec![0xA7; length]);
            agrees(&good);
            for place in 0..good.len() {
                for stray in ["+", "/", "=", ".", " ", "\0", "B", "-", "_"] {
                    let mut text = good.clone();
                    text.replace_range(place..=place, stray);
                    agrees(&text);
                }
            }
            for more in ["=", "A", "AA", "\n"] {
                agrees(&format!("{good}{more}"));
            }
        }
    }

    proptest! {
        #[test]
        fn bytes_are_encoded_as_by_the_portable_engine(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut text = "before".to_owned();
            encode_onto(&mut text, &bytes);
            prop_assert_eq!(&text, &format!("before{}", URL_SAFE_NO_PAD.encode(&bytes)));
            prop_assert_eq!(decode(&text["before".len()..]).unwrap(), bytes);
        }

        #[test]
        fn texts_are_decoded_as_by_the_portable_engine(text in "[A-Za-z0-9_=.+/-]{0,300}") {
            agrees(&text);
        }
    }
}
