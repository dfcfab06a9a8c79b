//! [`TrustedProxies`]: finds the address of a caller behind trusted proxies, from one header.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use http::HeaderMap;
use http::header::FORWARDED;

/// The proxies that may report a caller's address, and the header in which they report it.
///
/// 1. The header is read only if the peer's address is in the trusted ranges. Otherwise the header is ignored, and the
///    peer's address is the caller's.
/// 2. Each proxy appends the address from which it received the request. The addresses are read from the right; the
///    first one that is not trusted is the caller's. Everything to the left of it may be forged, and is not read.
/// 3. An element that is malformed, `unknown` or obfuscated (RFC 7239 §6.3) ends the search: the last trusted address
///    is the caller's.
/// 4. The other header is always ignored.
///
/// IPv4-mapped IPv6 addresses (`::ffff:192.0.2.1`) are treated as IPv4, in ranges, too. Ports are ignored.
///
/// ```
/// use std::net::SocketAddr;
/// use axum::extract::ConnectInfo;
/// use tower_client_credentials::authorization_server::{ForwardedHeader, TrustedProxies};
/// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
/// # let builder = AuthorizationServer::builder("https://a.example", KeyRing::generate()?, MemoryStore::default());
///
/// let proxies = TrustedProxies::new(ForwardedHeader::XForwardedFor, ["10.0.0.0/8", "2001:db8:1::/48"])?;
/// let server = builder
///     .peer_address(|extensions| extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.ip()))
///     .trusted_proxies(proxies)
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TrustedProxies {
    header: ForwardedHeader,
    ranges: Box<[Range]>,
}

/// The header in which proxies report the address of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForwardedHeader {
    /// `Forwarded` (RFC 7239), by its parameter `for`.
    Forwarded,
    /// `X-Forwarded-For`: addresses, separated by commas.
    XForwardedFor,
}

/// The ranges or the header of [`TrustedProxies`] are invalid. The text says how to fix it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidProxies(String);

/// The maximum number of proxies in a row. It limits the work for one request, and is larger than in any deployment.
const MAX_HOPS: usize = 32;

impl TrustedProxies {
    /// Trusts the peers in these ranges. Each range is in the notation of RFC 4632 §3.1: an address, optionally with a
    /// prefix length, such as `10.0.0.0/8` or `2001:db8::/32`.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no range, if a range is malformed, or if the ranges contain every address of IPv4
    /// or IPv6, alone or together: then any caller could choose its own address. A range with a prefix shorter than 8
    /// bits (IPv4) or 16 bits (IPv6) is accepted, with a warning in the log.
    pub fn new(
        header: ForwardedHeader,
        ranges: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, InvalidProxies> {
        let ranges = ranges.into_iter().map(|range| range.as_ref().parse()).collect::<Result<Box<[Range]>, _>>()?;
        if ranges.is_empty() {
            let why = "no range of trusted proxies; add one, for example `10.0.0.0/8`, or remove the setting";
            return Err(InvalidProxies(why.to_owned()));
        }
        if let Some(family) = Family::ALL.into_iter().find(|family| family.is_within(&ranges)) {
            let all: Vec<String> =
                ranges.iter().filter(|range| family.has(range.first)).map(Range::to_string).collect();
            return Err(InvalidProxies(format!(
                "the ranges of trusted proxies `{}` together contain every address of {}, so any caller could choose its own address; \
                     name your proxies, for example `10.0.0.0/8`",
                shown(&all.join(", ")),
                family.name
            )));
        }
        for range in ranges.iter().filter(|range| range.is_wide()) {
            tracing::warn!(
                "the range of trusted proxies `{range}` is very wide: each caller in it can choose the address by which its failed \
                     attempts are counted; name only the addresses of your proxies"
            );
        }
        Ok(Self { header, ranges })
    }

    /// Returns the address of the caller. `peer` is the remote address of the connection.
    #[must_use]
    pub fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut last = peer.to_canonical();
        let mut hops = 0;
        let lines = match self.header {
            ForwardedHeader::Forwarded => headers.get_all(FORWARDED),
            ForwardedHeader::XForwardedFor => headers.get_all("x-forwarded-for"),
        };
        let mut lines = lines.iter().rev();
        let (mut rest, mut is_begun): (&[u8], bool) = (&[], false);
        while self.contains(last) && hops < MAX_HOPS {
            if !is_begun {
                let Some(line) = lines.next() else { break };
                (rest, is_begun) = (line.as_bytes(), true);
            }
            let (before, element) = last_element(rest);
            match before {
                Some(before) => rest = before,
                None => is_begun = false,
            }
            let Some(address) = self.address(element) else { break };
            (last, hops) = (address, hops + 1);
        }
        last
    }

    /// Returns whether the address is that of a trusted proxy. Use it for example to exempt proxies from a connection
    /// limit per address.
    ///
    /// ```
    /// use tower_client_credentials::authorization_server::{ForwardedHeader, TrustedProxies};
    ///
    /// let proxies = TrustedProxies::new(ForwardedHeader::XForwardedFor, ["10.0.0.0/8"])?;
    /// assert!(proxies.contains("10.1.2.3".parse()?) && proxies.contains("::ffff:10.1.2.3".parse()?));
    /// assert!(!proxies.contains("192.0.2.1".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.ranges.iter().any(|range| range.contains(address))
    }

    fn address(&self, element: &[u8]) -> Option<IpAddr> {
        let element = std::str::from_utf8(element).ok()?.trim_matches([' ', '\t']);
        match self.header {
            ForwardedHeader::Forwarded => node(&forwarded_for(element)?),
            ForwardedHeader::XForwardedFor => node(element),
        }
    }
}

impl ForwardedHeader {
    const ALL: [Self; 2] = [Self::Forwarded, Self::XForwardedFor];

    /// Returns the name of the header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forwarded => "Forwarded",
            Self::XForwardedFor => "X-Forwarded-For",
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
        let header = Self::ALL.into_iter().find(|header| header.name().eq_ignore_ascii_case(name));
        header.ok_or_else(|| {
            InvalidProxies(format!("invalid proxy header `{}`; use `Forwarded` or `X-Forwarded-For`", shown(name)))
        })
    }
}

/// The addresses whose first `prefix` bits are those of `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: IpAddr,
    prefix: u32,
}

impl Range {
    fn contains(self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                (first.to_bits() ^ address.to_bits()).checked_shr(32 - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                (first.to_bits() ^ address.to_bits()).checked_shr(128 - self.prefix).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// Returns whether the range is wider than a network of proxies is likely to be.
    fn is_wide(&self) -> bool {
        self.prefix < if self.first.is_ipv4() { 8 } else { 16 }
    }

    /// Returns the last address of the range, as a number.
    fn last(&self) -> u128 {
        match self.first {
            IpAddr::V4(first) => u128::from(first.to_bits() | u32::MAX.checked_shr(self.prefix).unwrap_or(0)),
            IpAddr::V6(first) => first.to_bits() | u128::MAX.checked_shr(self.prefix).unwrap_or(0),
        }
    }

    /// Returns the first address of the range that contains this address.
    fn start(address: IpAddr, prefix: u32) -> IpAddr {
        match address {
            IpAddr::V4(address) => {
                Ipv4Addr::from_bits(address.to_bits() & u32::MAX.checked_shl(32 - prefix).unwrap_or(0)).into()
            }
            IpAddr::V6(address) => {
                Ipv6Addr::from_bits(address.to_bits() & u128::MAX.checked_shl(128 - prefix).unwrap_or(0)).into()
            }
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// The addresses of an IP version that callers on the Internet can have.
struct Family {
    name: &'static str,
    first: IpAddr,
    last: IpAddr,
}

impl Family {
    const ALL: [Self; 2] = [
        // Up to multicast (RFC 5771).
        Self {
            name: "IPv4",
            first: IpAddr::V4(Ipv4Addr::new(1, 0, 0, 0)),
            last: IpAddr::V4(Ipv4Addr::new(223, 255, 255, 255)),
        },
        // Global unicast addresses (RFC 4291 §2.4), of which IANA assigns those in 2000::/3.
        Self {
            name: "IPv6",
            first: IpAddr::V6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0)),
            last: IpAddr::V6(Ipv6Addr::from_bits(u128::MAX >> 2)),
        },
    ];

    fn has(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4()
    }

    /// Returns whether all of these addresses are in the ranges.
    fn is_within(&self, ranges: &[Range]) -> bool {
        let own = ranges.iter().filter(|range| self.has(range.first));
        let mut own: Vec<(u128, u128)> = own.map(|range| (number(range.first), range.last())).collect();
        own.sort_unstable();
        // All addresses before `next` are in a range.
        let mut next = number(self.first);
        for (first, last) in own {
            if first <= next {
                next = next.max(last.saturating_add(1));
            }
        }
        next > number(self.last)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl FromStr for Range {
    type Err = InvalidProxies;

    fn from_str(text: &str) -> Result<Self, InvalidProxies> {
        let invalid = |why: &str| InvalidProxies(format!("invalid range of trusted proxies `{}`: {why}", shown(text)));
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let mut address: IpAddr = address.parse().map_err(|_| {
            invalid("it does not begin with an IP address; use for example `10.0.0.0/8` or `2001:db8::/32`")
        })?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let is_number = |prefix: &str| !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = prefix
            .map_or(Some(most), |prefix| prefix.parse::<u32>().ok().filter(|bits| is_number(prefix) && *bits <= most));
        let mut prefix =
            prefix.ok_or_else(|| invalid(&format!("the prefix length is not a number from 1 to {most}")))?;
        if let IpAddr::V4(mapped) = address.to_canonical()
            && most == 128
        {
            let in_ipv4 = prefix.checked_sub(96);
            prefix = in_ipv4.ok_or_else(|| {
                invalid("the prefix length of a mapped IPv4 address is at least 97; write it as IPv4")
            })?;
            address = mapped.into();
        }
        if prefix == 0 {
            return Err(invalid(
                "it contains every address, so any caller could choose its own address; name your proxies",
            ));
        }
        let first = Self::start(address, prefix);
        if first != address {
            return Err(invalid(&format!("the address is not the first one of the range; use `{first}/{prefix}`")));
        }
        Ok(Self { first, prefix })
    }
}

/// Returns a value for an error message, bounded and on one line.
fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

/// Splits a list at its last comma outside of quoted strings. The list is read from the right, so that the part that
/// the caller sent, on the left, does not change how the elements of the proxies are read.
fn last_element(list: &[u8]) -> (Option<&[u8]>, &[u8]) {
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    use super::{ForwardedHeader, TrustedProxies};

    const RANGES: [&str; 3] = ["10.0.0.0/8", "2001:db8:1::/48", "192.0.2.7"];

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn headers(name: &'static str, lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (name.parse().unwrap(), HeaderValue::from_str(line).unwrap())).collect()
    }

    fn found(header: ForwardedHeader, peer: &str, headers: &HeaderMap) -> String {
        TrustedProxies::new(header, RANGES).unwrap().client_address(ip(peer), headers).to_string()
    }

    fn x_forwarded_for(peer: &str, lines: &[&str]) -> String {
        found(ForwardedHeader::XForwardedFor, peer, &headers("x-forwarded-for", lines))
    }

    fn forwarded(peer: &str, lines: &[&str]) -> String {
        found(ForwardedHeader::Forwarded, peer, &headers("forwarded", lines))
    }

    #[test]
    fn the_rightmost_untrusted_address_is_the_callers() {
        for (peer, lines, address) in [
            ("10.0.0.1", &["203.0.113.9"][..], "203.0.113.9"),
            ("10.0.0.1", &["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["198.51.100.1, 203.0.113.9, 10.1.2.3,192.0.2.7"], "203.0.113.9"),
            ("10.0.0.1", &["198.51.100.1", "203.0.113.9", "10.1.2.3"], "203.0.113.9"),
            ("10.0.0.1", &["198.51.100.1, 203.0.113.9", "10.1.2.3, 10.9.9.9"], "203.0.113.9"),
            ("2001:db8:1::5", &["2001:db8:2::9"], "2001:db8:2::9"),
            ("10.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("10.0.0.1", &["[2001:db8:2::9]"], "2001:db8:2::9"),
            ("10.0.0.1", &["[2001:db8:2::9]:4711"], "2001:db8:2::9"),
            ("10.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["[::ffff:203.0.113.9]:4711"], "203.0.113.9"),
            ("::ffff:10.0.0.1", &["203.0.113.9, ::ffff:10.0.0.2"], "203.0.113.9"),
        ] {
            assert_eq!(x_forwarded_for(peer, lines), address, "{lines:?}");
        }
    }

    #[test]
    fn the_header_of_an_untrusted_peer_is_ignored() {
        for peer in ["203.0.113.1", "11.0.0.1", "192.0.2.8", "2001:db8:2::1", "::10.0.0.1"] {
            assert_eq!(ip(&x_forwarded_for(peer, &["198.51.100.1"])), ip(peer));
            assert_eq!(ip(&forwarded(peer, &["for=198.51.100.1"])), ip(peer));
        }
        assert_eq!(x_forwarded_for("::ffff:203.0.113.1", &["198.51.100.1"]), "203.0.113.1");
    }

    #[test]
    fn the_header_that_is_not_configured_is_ignored() {
        let mut both = headers("x-forwarded-for", &["203.0.113.9"]);
        both.extend(headers("forwarded", &["for=198.51.100.1"]));
        assert_eq!(found(ForwardedHeader::XForwardedFor, "10.0.0.1", &both), "203.0.113.9");
        assert_eq!(found(ForwardedHeader::Forwarded, "10.0.0.1", &both), "198.51.100.1");
        assert_eq!(forwarded("10.0.0.1", &[]), "10.0.0.1");
        let other = headers("x-forwarded-for", &["203.0.113.9"]);
        assert_eq!(found(ForwardedHeader::Forwarded, "10.0.0.1", &other), "10.0.0.1");
    }

    #[test]
    fn an_element_without_an_address_ends_the_search_at_the_last_trusted_address() {
        for bad in [
            "",
            "unknown",
            "_hidden",
            "203.0.113.9.1",
            "203.0.113",
            "[2001:db8:2::9",
            "x",
            "\"203.0.113.9\"",
            "203.0.113.9:port",
            "203.0.113.9:",
            "[2001:db8:2::9]4711",
            "2001:db8:2::9%eth0",
            "é",
        ] {
            let line = HeaderValue::from_bytes(format!("198.51.100.1, {bad}, 10.2.2.2").as_bytes()).unwrap();
            let headers = [("x-forwarded-for".parse().unwrap(), line)].into_iter().collect();
            assert_eq!(found(ForwardedHeader::XForwardedFor, "10.0.0.1", &headers), "10.2.2.2", "{bad}");
        }
        for bad in [
            "for=unknown",
            "for=_hidden",
            "proto=https",
            "for=203.0.113.9;for=203.0.113.8",
            "for",
            "for=\"203.0.113.9",
            "for=203.0.113.9 x",
            "=;",
            "for=\"[2001:db8:2::9\"",
            "203.0.113.9",
        ] {
            // An open quote only affects the text to the left of it.
            assert_eq!(
                forwarded("10.0.0.1", &[&format!("for=198.51.100.1, {bad}, for=10.2.2.2")]),
                "10.2.2.2",
                "{bad}"
            );
        }
    }

    #[test]
    fn all_forms_of_rfc_7239_are_parsed() {
        for (element, address) in [
            ("for=203.0.113.9", "203.0.113.9"),
            ("For=\"203.0.113.9\"", "203.0.113.9"),
            ("for=\"203.0.113.9:47011\"", "203.0.113.9"),
            ("for=\"203.0.113.9:_port\"", "203.0.113.9"),
            ("FOR=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=\"[2001:db8:cafe::17]:_a.b-c\"", "2001:db8:cafe::17"),
            ("for=\"[2001:db8:cafe::17]\"", "2001:db8:cafe::17"),
            ("for=203.0.113.9;proto=http;by=203.0.113.43", "203.0.113.9"),
            ("proto=http; for=203.0.113.9 ;host=\"a, b;for=198.51.100.7\"", "203.0.113.9"),
            ("for=\"203\\.0.113.9\"", "203.0.113.9"),
        ] {
            assert_eq!(forwarded("10.0.0.1", &[element]), address, "{element}");
            assert_eq!(
                forwarded("10.0.0.1", &[&format!("for=198.51.100.1,{element} , for=10.2.2.2")]),
                address,
                "{element}"
            );
        }
    }

    #[test]
    fn the_part_that_a_caller_sent_does_not_change_how_the_element_of_a_proxy_is_read() {
        for sent in ["for=\"", "for=\"x\\", "\"", "for=1;host=\"a", "\\", "for=\"a\" \"", ",,,", "for=10.5.5.5, \""] {
            let line = format!("{sent}, for=203.0.113.9;host=\"x\\\", for=198.51.100.7;y=\\\"\"");
            assert_eq!(forwarded("10.0.0.1", &[&line]), "203.0.113.9", "{line}");
        }
    }

    #[test]
    fn a_long_list_of_trusted_addresses_is_bounded() {
        let line = format!("203.0.113.9{}", ", 10.0.0.2".repeat(10_000));
        assert_eq!(x_forwarded_for("10.0.0.1", &[&line]), "10.0.0.2");
    }

    #[test]
    fn malformed_ranges_and_names_fail_at_construction_and_the_error_says_how_to_fix_them() {
        for (range, part) in [
            ("10.0.0.0/33", "1 to 32"),
            ("10.0.0.0/-1", "1 to 32"),
            ("10.0.0.0/+8", "1 to 32"),
            ("10.0.0.0/", "1 to 32"),
            ("2001:db8::/129", "1 to 128"),
            ("10.0.0.1/8", "use `10.0.0.0/8`"),
            ("2001:db8::1/32", "use `2001:db8::/32`"),
            ("::ffff:10.0.0.1/104", "use `10.0.0.0/8`"),
            ("::ffff:10.0.0.0/95", "write it as IPv4"),
            ("0.0.0.0/0", "every address"),
            ("::/0", "every address"),
            ("::ffff:0.0.0.0/96", "every address"),
            ("10.0.0/8", "IP address"),
            ("proxy.example", "IP address"),
            ("", "IP address"),
        ] {
            let error = TrustedProxies::new(ForwardedHeader::Forwarded, [range]).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(&format!("`{range}`")), "{error}");
        }
        let none: [&str; 0] = [];
        assert!(TrustedProxies::new(ForwardedHeader::Forwarded, none).unwrap_err().to_string().contains("no range"));
        let error = "X-Real-IP".parse::<ForwardedHeader>().unwrap_err().to_string();
        assert!(error.contains("`X-Real-IP`") && error.contains("`X-Forwarded-For`"), "{error}");
        assert_eq!("x-forwarded-for".parse(), Ok(ForwardedHeader::XForwardedFor));
    }

    #[test]
    fn ranges_that_contain_every_address_together_are_refused() {
        let new = |ranges: &[&str]| TrustedProxies::new(ForwardedHeader::Forwarded, ranges);
        for (ranges, family) in [
            (&["0.0.0.0/1", "128.0.0.0/1"][..], "IPv4"),
            (&["10.0.0.0/8", "128.0.0.0/1", "::1", "0.0.0.0/1"], "IPv4"),
            // The remaining addresses cannot be those of a caller.
            (&["0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3"], "IPv4"),
            (&["::ffff:0.0.0.0/97", "128.0.0.0/1"], "IPv4"),
            (&["::/1", "8000::/1"], "IPv6"),
            (&["2000::/3"], "IPv6"),
            (&["3000::/4", "10.0.0.0/8", "2000::/4"], "IPv6"),
        ] {
            let error = new(ranges).unwrap_err().to_string();
            assert!(error.contains(&format!("every address of {family}")) && error.contains("name your"), "{error}");
        }
        let halves: Vec<String> = (0..256).map(|number| format!("{number}.0.0.0/8")).collect();
        assert!(TrustedProxies::new(ForwardedHeader::Forwarded, &halves).is_err());
        assert!(TrustedProxies::new(ForwardedHeader::Forwarded, &halves[..200]).is_ok());
        for ranges in [&["0.0.0.0/1", "128.0.0.0/2"][..], &["128.0.0.0/1"], &["::/3"], &["fc00::/7", "10.0.0.0/8"]] {
            new(ranges).unwrap();
        }
    }

    proptest! {
        #[test]
        fn no_header_causes_a_panic_or_hides_the_element_of_a_trusted_proxy(sent in "[ -~é]{0,60}") {
            for (header, name, added) in [
                (ForwardedHeader::Forwarded, "forwarded", "for=203.0.113.9"),
                (ForwardedHeader::XForwardedFor, "x-forwarded-for", "203.0.113.9"),
            ] {
                let value = HeaderValue::from_bytes(format!("{sent}, {added}").as_bytes()).unwrap();
                let headers = [(name.parse().unwrap(), value)].into_iter().collect();
                prop_assert_eq!(found(header, "10.0.0.1", &headers), "203.0.113.9");
                let value = HeaderValue::from_bytes(sent.as_bytes()).unwrap();
                let headers = [(name.parse().unwrap(), value)].into_iter().collect();
                found(header, "10.0.0.1", &headers);
            }
        }
    }
}
