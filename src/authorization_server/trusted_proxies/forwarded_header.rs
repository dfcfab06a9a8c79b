//! [`ForwardedHeader`]: reads the addresses in the header of a proxy.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use http::header::{FORWARDED, GetAll};
use http::{HeaderMap, HeaderValue};

use super::{InvalidProxies, shown};

use crate::named::named;

named! {
    /// The header in which proxies report the address of the caller.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    #[non_exhaustive]
    pub enum ForwardedHeader {
        /// `Forwarded` (RFC 7239), by its parameter `for`.
        Forwarded = "Forwarded",
        /// `X-Forwarded-For`: addresses, separated by commas.
        XForwardedFor = "X-Forwarded-For",
    }

    /// Returns the name of the header.
    pub const fn name();
}

impl ForwardedHeader {
    /// Returns the lines of the header in a request.
    pub(super) fn lines(self, headers: &HeaderMap) -> GetAll<'_, HeaderValue> {
        match self {
            Self::Forwarded => headers.get_all(FORWARDED),
            Self::XForwardedFor => headers.get_all("x-forwarded-for"),
        }
    }

    /// Returns the address in an element of the header.
    pub(super) fn address(self, element: &[u8]) -> Option<IpAddr> {
        let element = std::str::from_utf8(element).ok()?.trim_matches([' ', '\t']);
        match self {
            Self::Forwarded => node(&forwarded_for(element)?),
            Self::XForwardedFor => node(element),
        }
    }
}

impl fmt::Display for ForwardedHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ForwardedHeader {
    type Err = InvalidProxies;

    /// # Errors
    ///
    /// Returns an error if the name is not one of the two. The case is ignored.
    fn from_str(name: &str) -> Result<Self, InvalidProxies> {
        let header = Self::ALL.iter().copied().find(|header| header.name().eq_ignore_ascii_case(name));
        header.ok_or_else(|| {
            InvalidProxies(format!("invalid proxy header `{}`; use `Forwarded` or `X-Forwarded-For`", shown(name)))
        })
    }
}

/// Splits a list at its last comma outside of quoted strings. The list is read from the right, so that the part that
/// the caller sent, on the left, does not change how the elements of the proxies are read.
pub(super) fn last_element(list: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let mut is_quoted = false;
    for (at, byte) in list.iter().enumerate().rev() {
        match byte {
            b'"' if !is_escaped(list, at) => is_quoted = !is_quoted,
            b',' if !is_quoted => {
                let (before, element) = list.split_at(at);
                return (Some(before), element.split_first().map_or(&[], |(_, element)| element));
            }
            _ => {}
        }
    }
    (None, list)
}

/// Returns whether an odd number of backslashes precedes this position.
fn is_escaped(text: &[u8], at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// Returns the value of `for` in an element of `Forwarded` (RFC 7239 §4), if it occurs once and the element is
/// well-formed.
fn forwarded_for(element: &str) -> Option<String> {
    let mut found = None;
    let mut rest = element;
    loop {
        let (name, value) = rest.split_once('=')?;
        let (value, after) = value_of(value)?;
        if name.trim_matches([' ', '\t']).eq_ignore_ascii_case("for") && found.replace(value).is_some() {
            return None;
        }
        let after = after.trim_start_matches([' ', '\t']);
        match after.strip_prefix(';') {
            Some(more) => rest = more,
            None => return found.filter(|_| after.is_empty()),
        }
    }
}

/// Splits off a token or a quoted string (RFC 9110 §5.6), and returns it with the rest.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ' ', '\t', '"', '\\']).unwrap_or(text.len());
        let (value, after) = text.split_at(end);
        return Some((value.to_owned(), after));
    };
    let (mut value, mut is_escaped) = (String::new(), false);
    for (at, character) in quoted.char_indices() {
        match character {
            '\\' if !is_escaped => is_escaped = true,
            '"' if !is_escaped => return Some((value, quoted.get(at + 1..)?)),
            _ => {
                value.push(character);
                is_escaped = false;
            }
        }
    }
    None
}

/// Parses an address with or without a port (RFC 7239 §6). `X-Forwarded-For` has IPv6 addresses with or without
/// brackets.
fn node(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip().to_canonical());
    }
    if let Some((address, after)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        && is_port(after)
    {
        return Some(address.parse::<Ipv6Addr>().ok()?.to_canonical());
    }
    let (address, port) = text.split_once(':')?;
    let address: Ipv4Addr = address.parse().ok()?;
    (port.starts_with('_') && is_port(&format!(":{port}"))).then_some(address.into())
}

/// Returns whether the text is empty, or a colon and a port, which may be obfuscated (RFC 7239 §6).
fn is_port(text: &str) -> bool {
    let Some(port) = text.strip_prefix(':') else { return text.is_empty() };
    let is_obfuscated = port.strip_prefix('_').is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    });
    is_obfuscated || ((1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()))
}
