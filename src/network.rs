//! The networks by which callers are counted: an attacker has many addresses, but few networks.

use std::net::{IpAddr, Ipv6Addr};

/// Returns the network of an address: an IPv6 caller usually controls a whole /64.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    first_bits(address, 64)
}

/// Returns the site of an address: the /48 of an IPv6 address, which a provider usually assigns to one customer and
/// which contains 65,536 networks.
pub(crate) fn site(address: IpAddr) -> IpAddr {
    first_bits(address, 48)
}

/// Returns the first address with the same first bits, or the whole address of IPv4.
fn first_bits(address: IpAddr, bits: u32) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (128 - bits))).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::{network, site};

    #[test]
    fn a_site_is_an_ipv6_slash_48_or_an_ipv4_address() {
        let same = |one: &str, other: &str| site(one.parse().unwrap()) == site(other.parse().unwrap());
        assert!(same("2001:db8:1:2::1", "2001:db8:1:ffff::2") && !same("2001:db8:1::1", "2001:db8:2::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1") && !same("192.0.2.1", "192.0.2.2"));
    }

    #[test]
    fn an_ipv6_caller_is_identified_by_its_network() {
        let same = |one: &str, other: &str| network(one.parse().unwrap()) == network(other.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff:2"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
    }
}
