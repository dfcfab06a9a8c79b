//! [`RefusedToken`]: why a token is refused, with the value found, the value expected, and the setting that would accept it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::InvalidToken;
use crate::keys::Algorithm;
pub(super) use crate::quoted::quoted;
use crate::quoted::shortened;

/// The reason why a token is refused, for the operator. Callers are told only `invalid_token`.
///
/// The text names the claim or header parameter, the value found, the value expected, and the setting that would accept the
/// token, if there is one. Values are escaped and truncated: header parameters after 13 bytes, claims after 64. If the text
/// names a header parameter, or an `iss` that differs from all of [several issuers](crate::verification::Verifier::or), the signature
/// was not yet verified. The text never contains the token itself.
///
/// Two values are equal if their [reasons](Self::reason) are. Use the reason as a metric's label, never the text.
///
/// ```
/// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
/// use tower_client_credentials::verification::{InvalidToken, VerifyError};
///
/// # let server = AuthorizationServer::new("https://auth.example.com", KeyRing::generate()?, MemoryStore::default())?;
/// let verifier = server.verifier("https://api.example.com")?;
/// match verifier.verify_now("a.b.c") {
///     Err(VerifyError::Refused(refused)) => assert_eq!(refused.reason(), InvalidToken::Malformed),
///     verified => panic!("{verified:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct RefusedToken {
    reason: InvalidToken,
    detail: Detail,
}

/// The detail of a refusal. A refusal before the signature check allocates nothing: its text is rendered on demand.
#[derive(Clone)]
enum Detail {
    Nothing,
    /// The header value, and the algorithm of the key that the header names.
    Header(Prefix, Option<Algorithm>),
    #[expect(clippy::rc_buffer, reason = "a pointer to `str` is wider and would enlarge the error on every path")]
    Text(Arc<String>),
}

impl RefusedToken {
    pub(crate) const fn new(reason: InvalidToken) -> Self {
        Self { reason, detail: Detail::Nothing }
    }

    /// Creates a refusal with a value of the token's header, which is not authenticated.
    pub(super) fn header(reason: InvalidToken, found: &str) -> Self {
        Self { reason, detail: Detail::Header(Prefix::new(found), None) }
    }

    pub(super) fn algorithm(found: &str, expected: Algorithm) -> Self {
        Self { reason: InvalidToken::Algorithm, detail: Detail::Header(Prefix::new(found), Some(expected)) }
    }

    /// Creates a refusal with a text for the operator. The text renders values with [`quoted`] or [`shown`].
    pub(super) fn because(reason: InvalidToken, detail: String) -> Self {
        Self { reason, detail: Detail::Text(Arc::new(detail)) }
    }

    /// Returns the check that failed.
    #[must_use]
    pub const fn reason(&self) -> InvalidToken {
        self.reason
    }

    /// Returns an estimate of its heap memory, in bytes.
    #[cfg(feature = "remote")]
    pub(super) fn size(&self) -> usize {
        match &self.detail {
            Detail::Text(text) => text.capacity() + size_of::<String>(),
            Detail::Nothing | Detail::Header(..) => 0,
        }
    }
}

impl From<InvalidToken> for RefusedToken {
    fn from(reason: InvalidToken) -> Self {
        Self::new(reason)
    }
}

/// Compares the reasons; the texts are ignored.
impl PartialEq for RefusedToken {
    fn eq(&self, other: &Self) -> bool {
        self.reason == other.reason
    }
}

impl Eq for RefusedToken {}

impl Error for RefusedToken {}

impl fmt::Display for RefusedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)?;
        match &self.detail {
            Detail::Nothing => Ok(()),
            Detail::Text(text) => write!(f, ": {text}"),
            Detail::Header(found, expected) => {
                f.write_str(": ")?;
                write_header(self.reason, *found, *expected, f)
            }
        }
    }
}

impl fmt::Debug for RefusedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RefusedToken").field(&self.reason).field(&format_args!("{self}")).finish()
    }
}

fn write_header(
    reason: InvalidToken,
    found: Prefix,
    expected: Option<Algorithm>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    match reason {
        InvalidToken::Type => {
            f.write_str("`typ` is ")?;
            found.write_or("absent", f)?;
            f.write_str(", expected `at+jwt` (RFC 9068 §4)")?;
            if found.is_empty() || found.as_str().eq_ignore_ascii_case("jwt") {
                f.write_str("; `TokenProfile::jwt_type` accepts `JWT` and an absent `typ`")
            } else {
                f.write_str("; no setting accepts this type")
            }
        }
        InvalidToken::ForeignKey => write!(
            f,
            "`{found}` is present, expected only `kid` with the name of a trusted key; \
             `TokenProfile::ignore_foreign_keys` accepts and ignores it",
            found = found.as_str()
        ),
        InvalidToken::UnknownKey if found.is_empty() => f.write_str(
            "`kid` is absent, expected the name of a key, or exactly one trusted key of this `alg`; \
             trust one key only, or let the issuer send `kid`",
        ),
        InvalidToken::UnknownKey => {
            f.write_str("`kid` is ")?;
            found.write_or("absent", f)?;
            f.write_str(", expected the name of a key in the issuer's key set; add the key to the set to accept it")
        }
        InvalidToken::Algorithm => {
            f.write_str("`alg` is ")?;
            found.write_or("absent", f)?;
            match expected {
                Some(expected) => write!(f, ", expected {:?}", expected.name())?,
                None => f.write_str(", expected the algorithm of the key")?,
            }
            f.write_str(
                "; the key determines the algorithm, not the token (RFC 8725 §3.1); trust a key of this algorithm to accept it",
            )
        }
        _ => found.write_or("absent", f),
    }
}

/// The number of bytes that are kept of an unauthenticated value. They fit into the space of a pointer to a text.
const PREFIX: usize = 13;

/// The beginning of a text, cut at a character boundary.
#[derive(Clone, Copy)]
struct Prefix {
    bytes: [u8; PREFIX],
    /// The number of bytes, with the flag [`CUT`] if the text was truncated. The rest of `bytes` is zero.
    length: u8,
}

impl Prefix {
    fn new(text: &str) -> Self {
        let mut bytes = [0; PREFIX];
        let mut end = text.len().min(PREFIX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        if let (Some(to), Some(from)) = (bytes.get_mut(..end), text.as_bytes().get(..end)) {
            to.copy_from_slice(from);
        }
        let cut = if end < text.len() { CUT } else { 0 };
        // At most 13, plus the flag.
        Self { bytes, length: u8::try_from(end).unwrap_or_default() | cut }
    }

    fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.length & !CUT)).unwrap_or_default();
        // The prefix ends at a character boundary.
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn write_or(self, absent: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str(absent);
        }
        write!(f, "{:?}{}", self.as_str(), if self.length & CUT == 0 { "" } else { "…" })
    }
}

/// The flag of a truncated text.
const CUT: u8 = 0x80;

/// Quotes and escapes texts, and truncates the list after four.
pub(super) fn listed<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 4;
    let mut texts = texts.into_iter();
    let mut shown: Vec<String> = texts.by_ref().take(MOST).map(quoted).collect();
    shown.extend(texts.next().map(|_| "…".to_owned()));
    format!("[{}]", shown.join(", "))
}

/// Renders a JSON value for the operator, escaped and truncated after 64 bytes.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        // null, booleans and numbers have no character to escape. With serde_json's `arbitrary_precision`, which another crate
        // may enable, a number can be long.
        plain => shortened(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Prefix, RefusedToken, listed, shown};
    use crate::keys::Algorithm;
    use crate::verification::{InvalidToken, VerifyError};

    #[test]
    fn long_lists_are_truncated_and_arrays_and_objects_are_named_by_type() {
        assert_eq!(listed(["a", "b"]), r#"["a", "b"]"#);
        assert_eq!(listed(["a"; 9]), r#"["a", "a", "a", "a", …]"#);
        for (value, text) in [
            (json!("x"), "\"x\""),
            (json!(5), "5"),
            (json!(null), "null"),
            (json!([1]), "an array"),
            (json!({}), "an object"),
        ] {
            assert_eq!(shown(&value), text);
        }
    }

    #[test]
    fn an_unauthenticated_value_is_truncated_after_13_bytes() {
        for (text, kept) in
            [("", ""), ("at+jwt", "at+jwt"), ("1234567890123", "1234567890123"), ("12345678901234", "1234567890123")]
        {
            assert_eq!(Prefix::new(text).as_str(), kept);
        }
        let text = "é".repeat(7);
        assert_eq!(Prefix::new(&text).as_str(), "é".repeat(6));
        let refused = RefusedToken::header(InvalidToken::UnknownKey, &format!("a\n{text}"));
        assert!(refused.to_string().contains(r#"`kid` is "a\nééééé"…,"#), "{refused}");
    }

    #[test]
    fn the_details_do_not_enlarge_a_verification_error() {
        assert_eq!((size_of::<RefusedToken>(), size_of::<VerifyError>()), (24, 32));
    }

    #[test]
    fn two_refusals_are_equal_if_their_reasons_are() {
        let one = RefusedToken::algorithm("none", Algorithm::ES256);
        assert_eq!(one, InvalidToken::Algorithm.into());
        assert_ne!(one, InvalidToken::Type.into());
        assert!(format!("{one:?}").contains("none"));
    }
}
