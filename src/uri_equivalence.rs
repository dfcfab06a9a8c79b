//! The equivalence of absolute URIs: syntax-based and scheme-based normalisation (RFC 3986 §6.2.2, §6.2.3).

use std::fmt::Write as _;

/// Returns the normal form of an absolute URI that [`absolute`](crate::uri::absolute) accepts. Two URIs are equivalent if their
/// normal forms are equal.
///
/// 1. The scheme and the host are in lower case, the digits of an escape in upper case (§6.2.2.1).
/// 2. Escapes of unreserved characters are decoded (§6.2.2.2).
/// 3. A path that begins with a slash has no dot segments (§6.2.2.3).
/// 4. After an authority, an empty path is `/`, and an empty or default port is omitted (§6.2.3).
///
/// The user information, the rest of the path and the query keep their case.
pub(crate) fn normal_form(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once(':') else { return uri.to_owned() };
    let scheme = scheme.to_ascii_lowercase();
    let rest = normal_escapes(rest);
    let (hierarchy, query) = rest.find('?').map_or((&*rest, ""), |at| rest.split_at(at));
    let mut normal = format!("{scheme}:");
    let path = match hierarchy.strip_prefix("//") {
        None => hierarchy,
        Some(behind) => {
            let (authority, path) = behind.find('/').map_or((behind, ""), |at| behind.split_at(at));
            normal.push_str("//");
            push_authority(&mut normal, &scheme, authority);
            if path.is_empty() { "/" } else { path }
        }
    };
    let path_at = normal.len();
    push_path(&mut normal, path);
    // Without an authority, two slashes at the start of the path would be read as one (§3.3).
    if !hierarchy.starts_with("//") && normal.get(path_at..).is_some_and(|path| path.starts_with("//")) {
        normal.insert_str(path_at, "/.");
    }
    normal.push_str(query);
    normal
}

/// Decodes the escapes of unreserved characters, and writes the digits of the others in upper case.
fn normal_escapes(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('%') {
        normal.push_str(before);
        let Some((digits, behind)) = escape.split_at_checked(2) else { break };
        match u8::from_str_radix(digits, 16) {
            Ok(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => normal.push(char::from(byte)),
            Ok(byte) => drop(write!(normal, "%{byte:02X}")),
            // No checked URI has such an escape.
            Err(_) => drop(write!(normal, "%{digits}")),
        }
        rest = behind;
    }
    normal.push_str(rest);
    normal
}

/// Appends `[ userinfo "@" ] host [ ":" port ]`, with the host in lower case, and without an empty or default port.
fn push_authority(normal: &mut String, scheme: &str, authority: &str) {
    let (user, host) = authority.rfind('@').map_or(("", authority), |at| authority.split_at(at + 1));
    // The colons of an IPv6 address are inside brackets, so they do not start a port.
    let port_at = host.rfind(':').filter(|at| host.rfind(']').is_none_or(|end| end < *at));
    let (host, port) = port_at.map_or((host, ""), |at| host.split_at(at));
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    if !is_bracketed && host.contains([':', '[', ']']) {
        // No host has such characters (§3.2.2), so no equivalence is known.
        return normal.push_str(authority);
    }
    normal.push_str(user);
    // Lower case also affects the digits of escapes, which `normal_escapes` then writes in upper case.
    normal.push_str(&normal_escapes(&host.to_ascii_lowercase()));
    let is_default = matches!((scheme, port), (_, "" | ":") | ("http" | "ws", ":80") | ("https" | "wss", ":443"));
    if !is_default {
        normal.push_str(port);
    }
}

/// Adds the path; without its dot segments (§5.2.4) where it begins with a slash.
fn push_path(normal: &mut String, path: &str) {
    let Some(relative) = path.strip_prefix('/') else { return normal.push_str(path) };
    let mut kept = Vec::new();
    let mut segments = relative.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_dots = matches!(segment, "." | "..");
        if segment == ".." {
            kept.pop();
        }
        // A path that ends with a dot segment ends with a slash.
        if !is_dots {
            kept.push(segment);
        } else if segments.peek().is_none() {
            kept.push("");
        }
    }
    normal.push('/');
    normal.push_str(&kept.join("/"));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::normal_form;
    use crate::uri::absolute;

    #[test]
    fn the_equivalent_uris_of_rfc_3986_have_equal_normal_forms() {
        for equivalent in [
            &["example://a/b/c/%7Bfoo%7D", "eXAMPLE://a/./b/../b/%63/%7bfoo%7d"][..],
            &["http://example.com", "http://example.com/", "http://example.com:/", "http://example.com:80/"],
            &["HTTP://www.EXAMPLE.com/", "http://www.example.com/"],
            &[
                "https://api.example.com",
                "HTTPS://API.example.com/",
                "https://api.example.com:443",
                "https://%61pi.example.com",
            ],
            &["https://h?q", "https://h/?q", "https://h:443/?q"],
            &["https://[2001:DB8::1]", "https://[2001:db8::1]:443/"],
            &["https://%c3%89.example", "https://%C3%89.example/"],
            &["a:/.//b", "a:/x/..//b"],
            &["https://h/a/b/c/./../../g", "https://h/a/g", "https://h/a/%2e%2E/a/g"],
            &["https://h/..", "https://h/.", "https://h/../", "https://h"],
            &["https://h/~user", "https://h/%7Euser", "https://h/%7euser"],
            &["URN:example:a", "urn:example:a"],
        ] {
            for uri in equivalent {
                assert_eq!(absolute(uri), Ok(()), "{uri}");
                assert_eq!(normal_form(uri), normal_form(equivalent[0]), "{uri}");
            }
        }
        assert_eq!(normal_form("HTTPS://User@API.example.com:443?Q=%c3%41"), "https://User@api.example.com/?Q=%C3A");
    }

    #[test]
    fn uris_of_possibly_different_resources_have_different_normal_forms() {
        let base = "https://api.example.com/mcp";
        for other in [
            "http://api.example.com/mcp",
            "https://api.example.com/mcp/",
            "https://api.example.com/MCP",
            "https://api.example.com//mcp",
            "https://api.example.com/mcp?",
            "https://api.example.com/mcp?a",
            "https://api.example.com:8443/mcp",
            "https://api.example.com:80/mcp",
            "https://user@api.example.com/mcp",
            "https://api.example.com/%2Fmcp",
            "https://api.example.com/mcp%2F",
            "https://api.example.com.evil.example/mcp",
        ] {
            assert_eq!(absolute(other), Ok(()), "{other}");
            assert_ne!(normal_form(other), normal_form(base), "{other}");
        }
        assert_ne!(normal_form("urn:example:A"), normal_form("urn:example:a"));
        assert_ne!(normal_form("api://billing/a%2fb"), normal_form("api://billing/a/b"));
    }

    proptest! {
        #[test]
        fn a_normal_form_is_an_absolute_uri_and_idempotent(
            uri in "[a-zA-Z]{1,4}:(//([a-zA-Z%:@.\\[\\]]|%[0-9a-fA-F]{2}){0,8})?(/|\\.|[a-zA-Z]|%[0-9a-fA-F]{2}|\\?){0,16}"
        ) {
            if absolute(&uri).is_ok() {
                let normal = normal_form(&uri);
                prop_assert_eq!(absolute(&normal), Ok(()), "{}", normal);
                prop_assert_eq!(normal_form(&normal), normal);
            }
        }
    }
}
