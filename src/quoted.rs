//! Quotes external text in errors and logs: escaped and truncated.

use std::fmt::{self, Write};

/// The maximum length of a shown value, in bytes.
const LONGEST_VALUE: usize = 64;

/// The maximum length of a shown URL, in bytes. URLs of tenants often differ only after the first 64.
pub(crate) const LONGEST_URL: usize = 256;

/// Quotes and escapes a text, and truncates it after 64 bytes.
pub(crate) fn quoted(text: &str) -> String {
    quoted_within(text, LONGEST_VALUE)
}

/// Quotes and escapes a text, and truncates it after `most` bytes.
pub(crate) fn quoted_within(text: &str, most: usize) -> String {
    let (start, rest) = cut(text, most);
    format!("{start:?}{rest}")
}

/// Truncates a value after 64 bytes.
pub(crate) fn shortened(text: &str) -> String {
    let (start, rest) = cut(text, LONGEST_VALUE);
    format!("{start}{rest}")
}

/// Shows a URL of a setting: escaped and truncated after 256 bytes, without user name, password, query and fragment, since these can
/// contain a secret.
pub(crate) fn shown_url(url: &str) -> String {
    let (scheme, place) = url.split_once("://").map_or(("", url), |(scheme, place)| (scheme, place));
    let slashes = if scheme.is_empty() { "" } else { "://" };
    // Up to the last one, since a password may contain `@`, `/` and `?`.
    let (hidden, place) = place.rsplit_once('@').map_or(("", place), |(_, place)| ("…@", place));
    let (place, query) = place.split_once(['?', '#']).map_or((place, ""), |(place, _)| (place, "?…"));
    let shown = format!("{scheme}{slashes}{hidden}{place}{query}");
    let (start, rest) = cut(&shown, LONGEST_URL);
    format!("{}{rest}", start.escape_debug())
}

/// Splits off at most `most` bytes of a text, at a character boundary. The second part is an ellipsis if the text is longer.
pub(crate) fn cut(text: &str, most: usize) -> (&str, &str) {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    (text.get(..end).unwrap_or_default(), if end < text.len() { "…" } else { "" })
}

/// Writes a text with its control characters escaped, and truncates it. It never collects the whole text, which may be long.
pub(crate) struct Bounded<'a, 'b> {
    to: &'a mut fmt::Formatter<'b>,
    left: usize,
    is_cut: bool,
}

/// Shows a text in one line: with its control characters escaped, and truncated after this number of bytes.
pub(crate) struct OneLine<'a>(pub(crate) &'a str, pub(crate) usize);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Bounded::new(f, self.1).write_str(self.0)
    }
}

impl<'a, 'b> Bounded<'a, 'b> {
    pub(crate) fn new(to: &'a mut fmt::Formatter<'b>, most: usize) -> Self {
        Self { to, left: most, is_cut: false }
    }
}

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

/// The maximum length of an error of another library, in bytes.
pub(crate) const LONGEST_ERROR: usize = 512;

/// Returns the text of an error and of its sources, escaped and cut off: the outer error of an HTTP client rarely says what
/// happened.
pub(crate) fn with_sources(error: &(dyn std::error::Error + 'static)) -> String {
    OneLine(&chain(error), LONGEST_ERROR).to_string()
}

/// Returns the text of an error, with those of its sources that it does not include.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let why = error.to_string();
        if !text.contains(&why) {
            text.extend([": ", &why]);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{quoted, shown_url};

    #[test]
    fn a_shown_url_has_no_password_and_no_query() {
        for (url, shown) in [
            ("https://h:1/p", "https://h:1/p"),
            ("https://user:pass@h/p", "https://…@h/p"),
            ("https://user:p/a@ss@h", "https://…@h"),
            ("user:pass@h", "…@h"),
            ("https://h?key=k", "https://h?…"),
            ("https://u:p?a@h", "https://…@h"),
            ("a\n\u{202e}", r"a\n\u{202e}"),
        ] {
            assert_eq!(shown_url(url), shown);
        }
        assert_eq!(shown_url(&"a".repeat(300)), "a".repeat(256) + "…");
    }

    #[test]
    fn values_are_escaped_and_truncated_between_characters() {
        assert_eq!(quoted("a\"b\n\u{202e}"), r#""a\"b\n\u{202e}""#);
        assert_eq!(quoted(&"é".repeat(40)), format!("\"{}\"…", "é".repeat(32)));
    }
}
