//! [`BearerToken`]: reads the token of a request with the scheme `Bearer` (RFC 6750 §2), the only one that is supported.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::error::BearerError;

/// The text after `Bearer`, not yet verified.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct BearerToken<'a>(&'a [u8]);

impl<'a> BearerToken<'a> {
    /// Reads the token from the `Authorization` header only.
    #[inline]
    pub(super) fn read(headers: &'a HeaderMap) -> Result<Self, BearerError> {
        let mut headers = headers.get_all(AUTHORIZATION).iter();
        match (headers.next(), headers.next()) {
            (None, _) => Err(BearerError::NoCredentials),
            (Some(_), Some(_)) => Err(BearerError::InvalidRequest),
            (Some(header), None) => Self::parse(header.as_bytes()),
        }
    }

    /// Reads the token from the `Authorization` header or from the query parameter `access_token` (§2.3). A request must not
    /// have both (§2).
    pub(super) fn read_also_in_query(headers: &'a HeaderMap, query: &'a str) -> Result<Self, BearerError> {
        let mut tokens = query.split('&').filter_map(|pair| pair.strip_prefix("access_token="));
        match (tokens.next(), tokens.next(), headers.contains_key(AUTHORIZATION)) {
            (None, ..) => Self::read(headers),
            (Some(token), None, false) => Ok(Self(token.as_bytes())),
            _ => Err(BearerError::InvalidRequest),
        }
    }

    /// Parses `Bearer 1*SP token68`. Another scheme counts as no credentials.
    fn parse(header: &'a [u8]) -> Result<Self, BearerError> {
        let (scheme, rest) = header.split_at_checked(6).ok_or(BearerError::NoCredentials)?;
        if !scheme.eq_ignore_ascii_case(b"Bearer") || rest.first().is_some_and(|byte| *byte != b' ') {
            return Err(BearerError::NoCredentials);
        }
        Ok(Self(without_spaces(rest)))
    }

    /// Returns the bytes unchecked: sufficient to look up a token that was verified before.
    pub(super) fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Returns the token as text, after checking that it is one `token68` (RFC 9110 §11.2).
    pub(super) fn text(self) -> Result<&'a str, BearerError> {
        match std::str::from_utf8(self.0) {
            Ok(text) if is_token68(text) => Ok(text),
            _ => Err(BearerError::InvalidRequest),
        }
    }
}

/// Strips spaces only: the grammar does not allow tabs here.
fn without_spaces(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] | [rest @ .., b' '] = text {
        text = rest;
    }
    text
}

/// `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`.
fn is_token68(text: &str) -> bool {
    let body = text.trim_end_matches('=').as_bytes();
    // No early exit: a loop without branches is vectorised.
    !body.is_empty() && body.iter().fold(true, |all, byte| all & is_character(*byte))
}

/// Returns whether `token68` allows the byte. The range covers `-`, `.`, `/` and the digits, which are adjacent in ASCII.
const fn is_character(byte: u8) -> bool {
    matches!(byte, b'-'..=b'9') | byte.is_ascii_alphabetic() | matches!(byte, b'_' | b'~' | b'+')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{AUTHORIZATION, BearerError, BearerToken, HeaderMap};

    fn parse(header: &str) -> Result<&str, BearerError> {
        BearerToken::parse(header.as_bytes()).and_then(BearerToken::text)
    }

    #[test]
    fn a_token_may_have_the_characters_of_rfc_9110() {
        for byte in 0..=u8::MAX {
            assert_eq!(super::is_character(byte), byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte), "{byte}");
        }
    }

    #[test]
    fn the_scheme_is_case_insensitive() {
        for header in ["Bearer a.b-c_~+/==", "bEaReR a.b-c_~+/==", "BEARER   a.b-c_~+/=="] {
            assert_eq!(parse(header).unwrap(), "a.b-c_~+/==", "{header}");
        }
    }

    #[test]
    fn another_scheme_counts_as_no_credentials() {
        for header in ["", "Basic YTpi", "Bearertoken", "Beare", "token", "DPoP x", "Bearer,x"] {
            assert!(matches!(parse(header), Err(BearerError::NoCredentials)), "{header}");
        }
    }

    #[test]
    fn anything_but_one_token68_is_an_invalid_request() {
        for header in [
            "Bearer",
            "Bearer ",
            "Bearer a b",
            "Bearer =",
            "Bearer a=b",
            "Bearer a,b",
            "Bearer \"a\"",
            "Bearer é",
            "Bearer \ta",
            "Bearer a\t",
        ] {
            assert!(matches!(parse(header), Err(BearerError::InvalidRequest)), "{header}");
        }
    }

    #[test]
    fn the_token_is_in_the_query_or_in_the_header_but_not_in_both() {
        let (none, mut some) = (HeaderMap::new(), HeaderMap::new());
        some.insert(AUTHORIZATION, http::HeaderValue::from_static("Bearer a"));
        let read = |headers, query| BearerToken::read_also_in_query(headers, query)?.text().map(str::to_owned);
        assert_eq!(read(&none, "x=1&access_token=a.b").as_deref(), Ok("a.b"));
        assert_eq!(read(&some, "x=1").as_deref(), Ok("a"));
        assert_eq!(read(&none, "x=1&xaccess_token=b"), Err(BearerError::NoCredentials));
        for query in ["access_token=a&access_token=a", "access_token=", "access_token=%20"] {
            assert_eq!(read(&none, query), Err(BearerError::InvalidRequest), "{query}");
        }
        assert_eq!(read(&some, "access_token=a"), Err(BearerError::InvalidRequest));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(header in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = BearerToken::parse(&header).and_then(BearerToken::text);
        }

        #[test]
        fn every_token68_is_parsed_back(token in "[A-Za-z0-9._~+/-]{1,99}={0,2}") {
            let header = format!("Bearer {token}");
            prop_assert_eq!(parse(&header).unwrap(), token.as_str());
        }
    }
}
