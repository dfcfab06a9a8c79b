//! Tells addresses of this machine and of private networks from public ones.

use std::net::IpAddr;

use http::Uri;

/// Returns whether this is an address of this machine, of a private network, or one that is not for a single host.
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_broadcast()
                || address.is_multicast()
                || address.is_documentation()
                || first == 0
                || first >= 240
                || (first == 100 && second & 0xc0 == 64)
                || (first == 192 && second == 0)
                || (first == 198 && second & 0xfe == 18)
        }
        IpAddr::V6(address) => {
            if let Some(mapped) = address.to_ipv4_mapped() {
                return is_private(mapped.into());
            }
            // Everything outside of the global unicast range 2000::/3, and tunnels within it that lead to IPv4 addresses.
            let [first, second, ..] = address.segments();
            first & 0xe000 != 0x2000 || first == 0x2002 || (first == 0x2001 && second < 0x200)
        }
    }
}

/// Returns whether the host in this URL is an address that [is private](is_private), or a name of this machine. Other names are
/// resolved, and checked, only when the URL is fetched.
pub(crate) fn has_private_host(url: &str) -> bool {
    let Ok(url) = url.parse::<Uri>() else { return true };
    let host = url.host().unwrap_or_default();
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.is_empty() || name == "localhost" || name.ends_with(".localhost") || address.is_ok_and(is_private)
}

#[cfg(test)]
mod tests {
    use super::is_private;

    #[test]
    fn only_public_addresses_are_public() {
        for address in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:0:1::",
        ] {
            assert!(is_private(address.parse().unwrap()), "{address}");
        }
        for address in ["1.1.1.1", "100.128.0.1", "172.32.0.1", "198.20.0.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(!is_private(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_url_with_a_private_address_or_a_name_of_this_machine_has_a_private_host() {
        for url in [
            "http://127.0.0.1/a",
            "https://[::1]:80/a",
            "https://LOCALHOST./a",
            "http://a.localhost",
            "https://10.0.0.1",
            "a b",
        ] {
            assert!(super::has_private_host(url), "{url}");
        }
        for url in ["https://keys.example/a", "https://1.1.1.1", "https://[2606:4700::1111]/"] {
            assert!(!super::has_private_host(url), "{url}");
        }
    }
}
