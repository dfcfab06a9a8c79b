//! Text of others in errors and logs: escaped, and cut off.

#[cfg(feature = "remote")]
use std::fmt::{self, Write};

/// How much of one value a text shows, in bytes.
const LONGEST_VALUE: usize = 64;

/// How much of a URL a text shows, in bytes: those of tenants differ behind the first 64.
#[cfg(feature = "remote")]
pub(crate) const LONGEST_URL: usize = 256;

/// Quotes and escapes a text, and cuts it off after 64 bytes.
pub(crate) fn quoted(text: &str) -> String {
    quoted_within(text, LONGEST_VALUE)
}

/// Quotes and escapes a text, and cuts it off after so many bytes.
pub(crate) fn quoted_within(text: &str, most: usize) -> String {
    let (start, rest) = cut(text, most);
    format!("{start:?}{rest}")
}

/// Cuts a value off after 64 bytes.
pub(crate) fn shortened(text: &str) -> String {
    let (start, rest) = cut(text, LONGEST_VALUE);
    format!("{start}{rest}")
}

/// Returns at most so many bytes of a text, up to a character's boundary, and an ellipsis where there is more.
pub(crate) fn cut(text: &str, most: usize) -> (&str, &str) {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    (text.get(..end).unwrap_or_default(), if end < text.len() { "…" } else { "" })
}

/// Writes a text with its control characters escaped, and cuts it off after so many bytes. It never collects the whole text,
/// which may be longer than we would keep.
#[cfg(feature = "remote")]
pub(crate) struct Bounded<'a, 'b> {
    to: &'a mut fmt::Formatter<'b>,
    left: usize,
    is_cut: bool,
}

#[cfg(feature = "remote")]
impl<'a, 'b> Bounded<'a, 'b> {
    pub(crate) fn new(to: &'a mut fmt::Formatter<'b>, most: usize) -> Self {
        Self { to, left: most, is_cut: false }
    }
}

#[cfg(feature = "remote")]
impl Write for Bounded<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.is_cut {
                return Ok(());
            }
            if character.len_utf8() > self.left {
                self.is_cut = true;
                return self.to.write_char('…');
            }
            self.left -= character.len_utf8();
            if character.is_control() {
                write!(self.to, "{}", character.escape_debug())?;
            } else {
                self.to.write_char(character)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn values_are_escaped_and_cut_off_between_characters() {
        assert_eq!(quoted("a\"b\n\u{202e}"), r#""a\"b\n\u{202e}""#);
        assert_eq!(quoted(&"é".repeat(40)), format!("\"{}\"…", "é".repeat(32)));
    }
}
