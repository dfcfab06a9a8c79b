//! [`Issuer`]: the identifier of an authorization server.

use std::fmt;
use std::str::FromStr;

use crate::quoted::shown_url;
use crate::text::Text;
use crate::uri::{self, PlainHttp};

/// The identifier of an authorization server (RFC 8414 §2): an `https` URL without query or fragment.
///
/// Plain `http` is accepted only for loopback hosts (`localhost`, `127.0.0.0/8`, `[::1]`), for tests and first steps. Where an
/// issuer is configured, a setting named `dangerous_plain_http` accepts it for other hosts. The text is kept unchanged: tokens
/// contain it as `iss`, and resource servers compare it byte for byte (RFC 9068 §4).
///
/// ```
/// use tower_client_credentials::Issuer;
///
/// assert!("https://auth.example.com".parse::<Issuer>().is_ok());
/// assert!("http://127.0.0.1:3000".parse::<Issuer>().is_ok());
/// assert!("http://auth.example.com".parse::<Issuer>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Issuer {
    text: Text,
    /// The start of the path, after the scheme and the authority.
    origin_end: usize,
}

/// The text is not a valid issuer (RFC 8414 §2); its `Display` says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid issuer `{value}` (RFC 8414 §2): {reason}")]
pub struct InvalidIssuer {
    /// Escaped and truncated, without a password or a query.
    value: String,
    reason: &'static str,
}

impl InvalidIssuer {
    /// Returns the value that was given: escaped and truncated, without a password or a query.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl Issuer {
    /// Parses an issuer. It may have plain `http` if `plain_http` allows it.
    pub(crate) fn new(text: &str, plain_http: PlainHttp) -> Result<Self, InvalidIssuer> {
        let (origin, _) =
            split_url(text, plain_http).map_err(|reason| InvalidIssuer { value: shown_url(text), reason })?;
        Ok(Self { text: text.into(), origin_end: origin.len() })
    }

    /// Returns the text unchanged, as tokens contain it in `iss`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the text, to share its memory.
    pub(crate) fn text(&self) -> &Text {
        &self.text
    }

    /// Returns the scheme and authority: `https://auth.example.com`.
    pub(crate) fn origin(&self) -> &str {
        self.text.split_at(self.origin_end).0
    }

    /// Returns the path without a terminating slash, and empty for the root. RFC 8414 §3.1 appends it to the well-known part.
    pub(crate) fn path(&self) -> &str {
        let path = self.text.split_at(self.origin_end).1;
        path.strip_suffix('/').unwrap_or(path)
    }
}

impl FromStr for Issuer {
    type Err = InvalidIssuer;

    fn from_str(text: &str) -> Result<Self, InvalidIssuer> {
        Self::new(text, PlainHttp::Loopback)
    }
}

/// Splits a [secure](uri::secure) URL without a query into its origin (scheme and authority) and its path.
pub(crate) fn split_url(text: &str, plain_http: PlainHttp) -> Result<(&str, &str), &'static str> {
    uri::secure(text, plain_http)?;
    if text.contains('?') {
        return Err("it must not have a query");
    }
    Ok(text.split_at(origin_end(text)))
}

/// Returns the position of the path in `scheme "://" authority path`.
fn origin_end(text: &str) -> usize {
    let authority = text.find("://").map_or(0, |colon| colon + 3);
    text.get(authority..).and_then(|rest| rest.find('/')).map_or(text.len(), |slash| authority + slash)
}

impl AsRef<str> for Issuer {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Issuer").field(&self.text).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Issuer;

    fn issuer(text: &str) -> Issuer {
        text.parse().expect("an issuer")
    }

    #[test]
    fn plain_http_is_accepted_only_for_loopback_hosts() {
        for text in ["http://localhost", "http://LOCALHOST:3000", "http://127.1.2.3:1/p", "http://[::1]:80"] {
            assert!(text.parse::<Issuer>().is_ok(), "{text}");
        }
        for text in ["http://auth.example.com", "http://10.0.0.1", "http://localhost.example.com", "http://[::2]"] {
            assert!(text.parse::<Issuer>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_host_that_only_resembles_a_loopback_address_is_refused() {
        for text in [
            "http://[::1].evil.example",
            "http://[127.0.0.1]",
            "http://127.0.0.1:99999",
            "http://evil-localhost",
            "http://localhost:80@evil.example",
        ] {
            assert!(text.parse::<Issuer>().is_err(), "{text}");
        }
    }

    #[test]
    fn queries_fragments_user_names_and_other_schemes_are_refused() {
        for text in
            ["https://h?", "https://h/?q", "https://h#f", "https://u@h", "https://u:p@h/", "ftp://h", "urn:a:b", ""]
        {
            assert!(text.parse::<Issuer>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_path_has_no_terminating_slash_and_the_text_is_unchanged() {
        for (text, origin, path) in [
            ("https://h", "https://h", ""),
            ("https://h/", "https://h", ""),
            ("https://h:8443/a/b", "https://h:8443", "/a/b"),
            ("https://h/a/", "https://h", "/a"),
        ] {
            let issuer = issuer(text);
            assert_eq!((issuer.as_str(), issuer.origin(), issuer.path()), (text, origin, path));
        }
    }
}
