//! [`ClientId`]: the identifier of a client.

use crate::text::{Text, vocabulary};

/// The identifier of a registered client (RFC 6749 §2.2): 1 to 255 visible ASCII characters or spaces (`VSCHAR`, appendix A.1).
///
/// The grammar has no upper limit; this type has one, so that unregistered ids cannot fill logs and caches.
///
/// ```
/// use tower_client_credentials::ClientId;
///
/// assert_eq!("billing".parse::<ClientId>()?, "billing");
/// assert!("".parse::<ClientId>().is_err());
/// # Ok::<(), tower_client_credentials::client_id::InvalidClientId>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(Text);

vocabulary!(ClientId, InvalidClientId, check, "a client id (RFC 6749 §2.2)");

/// The maximum length of an id, in bytes.
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

/// Checks for `%x20-7E` (RFC 6749 appendix A), the characters of client ids and client secrets.
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
    fn every_visible_ascii_character_is_allowed_in_an_id() {
        let all: String = (0x20..=0x7e_u8).map(char::from).collect();
        assert_eq!(all.parse::<ClientId>().unwrap().as_str(), all);
    }

    #[test]
    fn an_empty_or_long_id_or_one_with_control_characters_is_refused() {
        for text in ["", "a\n", "\u{7f}", "é", &"a".repeat(256)] {
            assert!(text.parse::<ClientId>().is_err(), "{text:?}");
        }
        assert!("a".repeat(255).parse::<ClientId>().is_ok());
    }
}
