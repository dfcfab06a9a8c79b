//! The shape of an absolute URI (RFC 3986 §4.3), checked in `const` so that literals fail to compile; and of a URL that is
//! safe to talk to.

use std::net::IpAddr;

use http::Uri;

/// A URL by which what is said can be neither read nor changed on its way: `https`, or plain `http` on loopback.
pub(crate) fn secure(text: &str) -> Result<Uri, &'static str> {
    absolute(text).map_err(|reason| if reason == NOT_ABSOLUTE { NO_URL } else { reason })?;
    let uri = Uri::try_from(text).map_err(|_| "it is not a URL")?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or("it has no host")?;
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if is_loopback(host) => {}
        Some("http") => return Err("use https; plain http is for loopback addresses only"),
        _ => return Err("the scheme must be https"),
    }
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => Err("it must not have a user name"),
        _ => Ok(uri),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

const NOT_ABSOLUTE: &str = "it must be an absolute URI, such as https://api.example.com";

/// The URLs here are those of issuers and of their endpoints.
const NO_URL: &str = "it must be an absolute URL, such as https://auth.example.com";

/// Refuses whatever is not `scheme ":" hier-part [ "?" query ]`: relative references, fragments, characters
/// outside RFC 3986, and an `http(s)` URI without a host.
pub(crate) const fn absolute(text: &str) -> Result<(), &'static str> {
    let bytes = text.as_bytes();
    let Some(colon) = scheme_end(bytes) else {
        return Err(NOT_ABSOLUTE);
    };
    if colon + 1 == bytes.len() {
        return Err("nothing follows the scheme");
    }
    if is_http(bytes, colon) && !has_host(bytes, colon) {
        return Err("an http or https URI needs a host");
    }
    characters(bytes)
}

/// The place of the colon behind `ALPHA *( ALPHA / DIGIT / "+" / "-" / "." )`.
const fn scheme_end(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let mut at = 0;
    while let [byte, tail @ ..] = rest {
        match byte {
            b':' if at > 0 => return Some(at),
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            _ => return None,
        }
        rest = tail;
        at += 1;
    }
    None
}

const fn is_http(bytes: &[u8], colon: usize) -> bool {
    matches!(
        bytes.split_at(colon).0,
        [b'h' | b'H', b't' | b'T', b't' | b'T', b'p' | b'P']
            | [b'h' | b'H', b't' | b'T', b't' | b'T', b'p' | b'P', b's' | b'S']
    )
}

const fn has_host(bytes: &[u8], colon: usize) -> bool {
    match bytes.split_at(colon).1 {
        [b':', b'/', b'/', first, ..] => !matches!(first, b'/' | b'?' | b':' | b'#'),
        _ => false,
    }
}

const fn characters(bytes: &[u8]) -> Result<(), &'static str> {
    let mut rest = bytes;
    loop {
        rest = match rest {
            [] => return Ok(()),
            [b'#', ..] => return Err("it must not have a fragment"),
            [b'%', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => tail,
            [b'%', ..] => return Err("a percent sign must begin an escape of two hexadecimal digits"),
            [byte, tail @ ..] if is_uri_character(*byte) => tail,
            _ => return Err("it has a character that a URI must escape"),
        }
    }
}

/// `unreserved / gen-delims / sub-delims` (§2.2, §2.3), but for `#`.
const fn is_uri_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~')
        || matches!(byte, b':' | b'/' | b'?' | b'[' | b']' | b'@')
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

#[cfg(test)]
mod tests {
    use super::absolute;

    #[test]
    fn absolute_uris_of_any_scheme_are_accepted() {
        for uri in ["https://api.example.com", "https://h/p?q=%20", "api://billing", "urn:example:api", "spiffe://td/x"]
        {
            assert_eq!(absolute(uri), Ok(()), "{uri}");
        }
    }

    #[test]
    fn whatever_is_not_an_absolute_uri_without_fragment_is_refused() {
        for text in [
            "",
            "api",
            "/api",
            "//api",
            ":x",
            "1a:b",
            "https:",
            "https:api",
            "https://",
            "https:///p",
            "https://?q",
            "https://h#f",
            "https://h/%",
            "https://h/%zz",
            "https://h/ ",
            "https://h/\"",
            "https://h/é",
            "a_b:c",
        ] {
            assert!(absolute(text).is_err(), "{text}");
        }
    }
}
