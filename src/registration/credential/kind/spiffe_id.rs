//! [`SpiffeId`]: the SPIFFE ID of a workload, or a pattern for several.

use std::fmt;
use std::str::FromStr;

/// A SPIFFE ID, such as `spiffe://example.org/billing`. A last segment `*` matches every path below it, and never part of a
/// segment.
///
/// ```
/// use tower_client_credentials::registration::SpiffeId;
///
/// assert!("spiffe://example.org/billing".parse::<SpiffeId>().is_ok());
/// assert!("spiffe://example.org/billing/*".parse::<SpiffeId>().is_ok());
/// assert!("spiffe://example.org".parse::<SpiffeId>().is_err());
/// assert!("spiffe://example.org/bill*".parse::<SpiffeId>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    text: String,
    /// The length of the trust domain.
    domain: usize,
}

/// The text is not a SPIFFE ID of a workload; its `Display` says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid SPIFFE ID: {0}")]
pub struct InvalidSpiffeId(&'static str);

const SCHEME: &str = "spiffe://";

/// The maximum lengths of an ID and of a trust domain, in bytes (SPIFFE-ID §2.3).
const MAX_BYTES: usize = 2_048;
const MAX_DOMAIN_BYTES: usize = 255;

impl SpiffeId {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the trust domain, such as `example.org`.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.text.get(SCHEME.len()..SCHEME.len() + self.domain).unwrap_or_default()
    }

    /// Returns the path, which begins with `/`.
    pub(crate) fn path(&self) -> &str {
        self.text.get(SCHEME.len() + self.domain..).unwrap_or_default()
    }

    /// Returns whether this ID is the same, or this pattern matches it. A pattern also matches itself and each pattern below it.
    pub(crate) fn matches(&self, id: &Self) -> bool {
        match self.text.strip_suffix('*') {
            Some(start) => id.text.strip_prefix(start).is_some_and(|rest| !rest.is_empty()),
            None => self.text == id.text,
        }
    }

    /// Returns whether it is a pattern for several workloads.
    pub(crate) fn is_pattern(&self) -> bool {
        self.text.ends_with('*')
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, InvalidSpiffeId> {
        let rest = text.strip_prefix(SCHEME).ok_or(InvalidSpiffeId("it must begin with `spiffe://`"))?;
        if text.len() > MAX_BYTES {
            return Err(InvalidSpiffeId("it is longer than 2,048 bytes"));
        }
        let (domain, path) = rest.split_once('/').ok_or(InvalidSpiffeId("it has no path, so it names no workload"))?;
        if !is_trust_domain(domain) {
            return Err(InvalidSpiffeId("its trust domain must be lower-case letters, digits, `.`, `-` and `_`"));
        }
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let segments = path.strip_suffix("/*").unwrap_or(if path == "*" { "all" } else { path });
        let is_segment =
            |segment: &str| !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(is_allowed);
        if !segments.split('/').all(is_segment) {
            return Err(InvalidSpiffeId(
                "the segments of its path must be letters, digits, `.`, `-` and `_`; only a whole last segment can be `*`",
            ));
        }
        Ok(Self { text: text.to_owned(), domain: domain.len() })
    }
}

/// Returns whether this is a trust domain (SPIFFE-ID §2.1).
pub(crate) fn is_trust_domain(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    (1..=MAX_DOMAIN_BYTES).contains(&text.len()) && text.bytes().all(is_allowed)
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({:?})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::SpiffeId;

    #[test]
    fn an_id_has_a_trust_domain_and_a_path_of_plain_segments() {
        for text in
            ["spiffe://a/b", "spiffe://example.org/ns/prod/sa/billing", "spiffe://a_b-c.1/X.y-z_0", "spiffe://a/*"]
        {
            assert_eq!(text.parse::<SpiffeId>().unwrap().as_str(), text);
        }
        for text in [
            "",
            "spiffe://",
            "spiffe://a",
            "spiffe://a/",
            "spiffe:///b",
            "SPIFFE://a/b",
            "https://a/b",
            "spiffe://A/b",
            "spiffe://a:1/b",
            "spiffe://u@a/b",
            "spiffe://a/b/",
            "spiffe://a//b",
            "spiffe://a/./b",
            "spiffe://a/../b",
            "spiffe://a/%62",
            "spiffe://a/b?c",
            "spiffe://a/b#c",
            "spiffe://a/b*",
            "spiffe://a/*/b",
            "spiffe://a/**",
            "spiffe://a/b ",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text:?}");
        }
        assert!(format!("spiffe://a/{}", "b".repeat(2_048)).parse::<SpiffeId>().is_err());
    }

    #[test]
    fn a_pattern_matches_whole_segments_below_it() {
        let id = |text: &str| text.parse::<SpiffeId>().unwrap();
        let pattern = id("spiffe://a/b/*");
        for (text, is_matched) in [
            ("spiffe://a/b/c", true),
            ("spiffe://a/b/c/d", true),
            ("spiffe://a/b/*", true),
            ("spiffe://a/b/c/*", true),
            ("spiffe://a/bc/*", false),
            ("spiffe://a/*", false),
            ("spiffe://a/b", false),
            ("spiffe://a/bc", false),
            ("spiffe://a/c/b/c", false),
            ("spiffe://ab/b/c", false),
        ] {
            assert_eq!(pattern.matches(&id(text)), is_matched, "{text}");
        }
        assert!(id("spiffe://a/b").matches(&id("spiffe://a/b")) && !id("spiffe://a/b").matches(&id("spiffe://a/b/c")));
        assert_eq!(pattern.trust_domain(), "a");
    }
}
