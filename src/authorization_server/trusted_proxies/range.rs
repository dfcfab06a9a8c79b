//! [`Range`]: a range of addresses in the notation of RFC 4632 §3.1.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::{InvalidProxies, shown};

/// The addresses whose first `prefix` bits are those of `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: IpAddr,
    prefix: u32,
}

impl Range {
    pub(super) fn contains(self, address: IpAddr) -> bool {
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
    pub(super) fn is_wide(&self) -> bool {
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
pub(super) struct Family {
    pub(super) name: &'static str,
    first: IpAddr,
    last: IpAddr,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [
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

    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4()
    }

    /// Returns whether all of these addresses are in the ranges.
    pub(super) fn is_within(&self, ranges: &[Range]) -> bool {
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
