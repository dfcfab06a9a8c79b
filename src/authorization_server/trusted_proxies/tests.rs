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
        assert_eq!(forwarded("10.0.0.1", &[&format!("for=198.51.100.1, {bad}, for=10.2.2.2")]), "10.2.2.2", "{bad}");
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
