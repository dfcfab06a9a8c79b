//! [`TrustedProxies`]: finds the address of a caller behind trusted proxies, from one header.

mod forwarded_header;
mod range;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use http::HeaderMap;

pub use self::forwarded_header::ForwardedHeader;
use self::forwarded_header::last_element;
use self::range::{Family, Range};

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
        let mut lines = self.header.lines(headers).iter().rev();
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
            let Some(address) = self.header.address(element) else { break };
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
}

/// Returns a value for an error message, bounded and on one line.
fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}
