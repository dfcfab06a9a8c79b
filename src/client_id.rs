//! [`ClientId`]: the public name of a client.

use crate::text::{Text, vocabulary};

/// The name under which a client is registered (RFC 6749 §2.2): 1 to 255 visible ASCII characters or spaces
/// (`VSCHAR`, appendix A.1).
///
/// The grammar sets no upper bound; ours keeps an id that was never registered from filling logs and caches.
///
/// ```
/// use tower_client_credentials::ClientId;
///
/// assert_eq!("billing".parse::<ClientId>()?, "billing");
/// assert!("".parse::<ClientId>().is_err());
/// # Ok::<(), tower_client_credentials::InvalidClientId>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(Text);

vocabulary!(ClientId, InvalidClientId, check, "a client id (RFC 6749 §2.2)");

/// The longest id, in bytes.
const LONGEST: usize = 255;

const fn check(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > LONGEST {
        return Err("it is longer than 255 bytes");
    }
    vschar(text)
}

/// `%x20-7E` (RFC 6749 appendix A), the alphabet of client ids and client secrets.
pub(crate) const fn vschar(text: &str) -> Result<(), &'static str> {
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        if !matches!(byte, 0x20..=0x7e) {
            return Err("only printable ASCII characters and spaces are allowed");
        }
        rest = tail;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::ClientId;

    #[test]
    fn every_visible_ascii_character_may_stand_in_an_id() {
        let all: String = (0x20..=0x7e_u8).map(char::from).collect();
        assert_eq!(all.parse::<ClientId>().unwrap().as_str(), all);
    }

    #[test]
    fn an_id_is_neither_empty_nor_unbounded_nor_a_control_character() {
        for text in ["", "a\n", "\u{7f}", "é", &"a".repeat(256)] {
            assert!(text.parse::<ClientId>().is_err(), "{text:?}");
        }
        assert!("a".repeat(255).parse::<ClientId>().is_ok());
    }
}
