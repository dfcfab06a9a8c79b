//! Checks absolute URIs (RFC 3986 §4.3), in `const` so that invalid literals fail to compile, and URLs for requests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

/// The hosts for which a URL may have plain `http`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PlainHttp {
    /// `localhost`, `127.0.0.0/8` and `[::1]`.
    #[default]
    Loopback,
    /// All hosts: the setting `dangerous_plain_http`.
    AnyHost,
}

/// Parses an `https` URL, or an `http` URL with a host that `plain_http` allows.
pub(crate) fn secure(text: &str, plain_http: PlainHttp) -> Result<Uri, &'static str> {
    let uri = http_url(text)?;
    plain_http.check(&uri)?;
    Ok(uri)
}

impl PlainHttp {
    /// Refuses plain `http` with a host that is not allowed.
    pub(crate) fn check(self, url: &Uri) -> Result<(), &'static str> {
        let is_plain = url.scheme_str() == Some("http");
        if is_plain && self == Self::Loopback && !url.host().is_some_and(is_loopback) {
            return Err(
                "plain http is accepted only for loopback hosts; use https, or set `dangerous_plain_http` for \
                        development or a network that encrypts underneath",
            );
        }
        Ok(())
    }
}

/// Parses an `http` or `https` URL whose authority is exactly a host and an optional port.
pub(crate) fn http_url(text: &str) -> Result<Uri, &'static str> {
    absolute(text).map_err(|reason| if reason == NOT_ABSOLUTE { NO_URL } else { reason })?;
    let (scheme, rest) = text.split_once("://").ok_or("the scheme must be https")?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err("the scheme must be https");
    }
    check_authority(rest.split(['/', '?']).next().unwrap_or_default())?;
    Uri::try_from(text).map_err(|_| "it is not a URL")
}

/// Accepts `host [ ":" port ]` (RFC 3986 §3.2) in a spelling that all URL parsers read alike, so that an HTTP client connects
/// to the host that was checked here.
fn check_authority(authority: &str) -> Result<(), &'static str> {
    if authority.contains('@') {
        return Err("it must not have a user name");
    }
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').unwrap_or((rest, ""));
        address.parse::<Ipv6Addr>().map_err(|_| "the host in brackets must be an IPv6 address, such as [::1]")?;
        return match rest.strip_prefix(':') {
            Some(port) => check_port(port),
            None if rest.is_empty() => Ok(()),
            None => Err("only a port may follow the brackets"),
        };
    }
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    check_host(host)?;
    port.map_or(Ok(()), check_port)
}

fn check_port(port: &str) -> Result<(), &'static str> {
    let is_number = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && port.parse::<u16>().is_ok() { Ok(()) } else { Err("the port must be a number from 0 to 65535") }
}

/// Accepts a DNS name or an IPv4 address. RFC 3986 §3.2.2 allows further characters in a name, but no DNS name has them.
fn check_host(host: &str) -> Result<(), &'static str> {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    if !name.split('.').all(is_label) {
        return Err("the host must be a DNS name or an IP address");
    }
    // Browsers and the crate `url` read `127.1` and `0x7f.1` as IPv4 addresses.
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_numeric = last.bytes().all(|byte| byte.is_ascii_digit()) || last.to_ascii_lowercase().starts_with("0x");
    if is_numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err("a host that ends in a number must be an IPv4 address of four numbers");
    }
    Ok(())
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || ip_address(host).is_some_and(|address| address.is_loopback())
}

/// Returns whether connections to this host stay on this machine. It includes more than the hosts for which plain `http` is
/// accepted: a name below `localhost` may be resolved elsewhere (RFC 6761 §6.3), but must not be sent to a proxy either.
#[cfg(feature = "remote")]
pub(crate) fn is_this_machine(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let address = ip_address(host).map(|address| address.to_canonical());
    name == "localhost"
        || name.ends_with(".localhost")
        || address.is_some_and(|address| address.is_loopback() || address.is_unspecified())
}

fn ip_address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse().map(IpAddr::V6).ok(),
        None => host.parse().map(IpAddr::V4).ok(),
    }
}

const NOT_ABSOLUTE: &str = "it must be an absolute URI, such as https://api.example.com";

/// The message for URLs of issuers and of their endpoints.
const NO_URL: &str = "it must be an absolute URL, such as https://auth.example.com";

/// Refuses everything except `scheme ":" hier-part [ "?" query ]`: relative references, fragments, characters outside RFC 3986,
/// and an `http(s)` URI without a host.
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

/// Returns the position of the colon after `ALPHA *( ALPHA / DIGIT / "+" / "-" / "." )`.
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

/// Returns whether the byte is in `unreserved / gen-delims / sub-delims` (§2.2, §2.3), except `#`.
const fn is_uri_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~')
        || matches!(byte, b':' | b'/' | b'?' | b'[' | b']' | b'@')
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

#[cfg(test)]
mod tests {
    use super::{PlainHttp, absolute, secure};

    #[test]
    fn the_authority_of_a_url_must_be_exactly_a_host_and_a_port() {
        for url in [
            "https://h",
            "https://h.example:0/p?q",
            "https://H.Example.:65535",
            "https://key_cloak-1",
            "https://10.0.0.1",
            "https://[2001:db8::1]:8443",
            "http://[::1]",
            "http://127.0.0.1:80/p",
            "http://LOCALHOST?q",
            "HTTP://localhost",
        ] {
            assert!(secure(url, PlainHttp::Loopback).is_ok(), "{url}");
        }
        for url in [
            "http://[::1].evil.example",
            "http://[::1]evil.example",
            "http://[127.0.0.1]",
            "http://[::1",
            "http://::1",
            "http://[localhost]",
            "http://[::1%25eth0]",
            "http://[[::1]]",
            "http://127.0.0.1:99999",
            "http://127.0.0.1:",
            "http://127.0.0.1:+80",
            "http://127.0.0.1:80:80",
            "http://127.1",
            "http://127.0.0.1.",
            "http://0x7f.0.0.1",
            "http://2130706433",
            "http://evil-localhost",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "http://localhost@evil.example",
            "http://evil.example@localhost",
            "http://user:password@localhost",
            "http://localhost%2Eevil.example",
            "http://localhost;evil",
            "http://*",
            "https://h*",
            "https://h,i",
            "https://.h",
            "https://h..i",
            "https://1.2.3",
            "https://h:0x50",
            "https://h:65536",
            "https://[::1]:65536",
            "https://[v1.a]",
            "https://u@h",
            "ftp://h",
            "https:h",
        ] {
            assert!(secure(url, PlainHttp::Loopback).is_err(), "{url}");
        }
    }

    #[test]
    fn plain_http_to_other_hosts_needs_the_setting_that_the_error_names() {
        for url in ["http://keycloak:8080/realms/main", "http://10.0.0.1", "http://[::ffff:127.0.0.1]"] {
            let error = secure(url, PlainHttp::Loopback).unwrap_err();
            assert!(error.contains("`dangerous_plain_http`") && error.contains("https"), "{url}: {error}");
            assert!(secure(url, PlainHttp::AnyHost).is_ok(), "{url}");
        }
        for url in ["http://u@keycloak", "http://keycloak:99999", "ftp://keycloak", "http://[127.0.0.1]"] {
            assert!(secure(url, PlainHttp::AnyHost).is_err(), "{url}");
        }
    }

    #[cfg(feature = "remote")]
    #[test]
    fn every_spelling_of_this_machine_is_recognised() {
        for host in [
            "localhost",
            "LocalHost.",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "0.0.0.0",
        ] {
            assert!(super::is_this_machine(host), "{host}");
        }
        for host in ["evil-localhost", "localhost.example", "10.0.0.1", "[::2]", "[127.0.0.1]", "h", ""] {
            assert!(!super::is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn absolute_uris_of_any_scheme_are_accepted() {
        for uri in ["https://api.example.com", "https://h/p?q=%20", "api://billing", "urn:example:api", "spiffe://td/x"]
        {
            assert_eq!(absolute(uri), Ok(()), "{uri}");
        }
    }

    #[test]
    fn other_texts_than_absolute_uris_without_fragment_are_refused() {
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
