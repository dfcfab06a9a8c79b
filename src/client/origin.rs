//! [`Origins`]: where tokens may be sent.

use std::fmt;

use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, Uri};

use crate::quoted::{quoted, shown_url};
use crate::uri::{self, PlainHttp};

/// Scheme, host and port (RFC 6454 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    is_https: bool,
    /// In lower case.
    host: String,
    port: u16,
    /// The usual spelling of host and port.
    authority: String,
}

/// The origins that tokens may go to, and the one of requests whose URI has no authority.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins {
    allowed: Vec<Origin>,
    base: Option<Origin>,
}

impl Origins {
    /// Allows the origin of a URL.
    pub(super) fn allow(&mut self, url: &str, plain_http: PlainHttp) -> Result<(), InvalidOrigin> {
        let origin = Origin::of_url(url, plain_http)?;
        if !self.allowed.contains(&origin) {
            self.allowed.push(origin);
        }
        Ok(())
    }

    /// States the origin of requests without an authority, and allows it.
    pub(super) fn set_base(&mut self, url: &str, plain_http: PlainHttp) -> Result<(), InvalidOrigin> {
        self.allow(url, plain_http)?;
        self.base = Some(Origin::of_url(url, plain_http)?);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.allowed.is_empty()
    }

    /// Checks where a request goes.
    #[inline]
    pub(super) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ForbiddenDestination> {
        if self.is_usual(uri, headers) { Ok(()) } else { self.check_spelling(uri, headers) }
    }

    /// Returns whether a request goes to an allowed origin in its usual spelling. This is a part of the checks, which costs little.
    #[inline]
    fn is_usual(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return false,
        };
        let authority = uri.authority().map_or("", Authority::as_str);
        self.allowed.iter().any(|origin| origin.is_https == is_https && origin.authority == authority)
            && headers.keys().all(|name| *name != HOST)
    }

    #[cold]
    fn check_spelling(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ForbiddenDestination> {
        let Some(authority) = uri.authority() else {
            let base = self.base.as_ref().ok_or_else(|| {
                ForbiddenDestination::new(
                    "its URI has no authority; state where the inner service sends such requests with `base_origin(…)`",
                )
            })?;
            return check_host(base, headers);
        };
        let scheme = uri.scheme().ok_or_else(|| ForbiddenDestination::new("its URI has an authority and no scheme"))?;
        let found = self.allowed.iter().find(|origin| origin.is_of(scheme, authority));
        let origin = found.ok_or_else(|| {
            ForbiddenDestination::new(format!(
                "its origin {scheme}://{} is not in the list of allowed origins ({}); add it with `ClientCredentialsLayer::allow_origin` if tokens \
                 may be sent there",
                shown_url(authority.as_str()),
                self.allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            ))
        })?;
        check_host(origin, headers)
    }
}

/// A `Host` header that differs from the URI could lead to another tenant of the same server.
fn check_host(origin: &Origin, headers: &HeaderMap) -> Result<(), ForbiddenDestination> {
    for host in headers.get_all(HOST) {
        let authority = Authority::try_from(host.as_bytes());
        let scheme = if origin.is_https { Scheme::HTTPS } else { Scheme::HTTP };
        if !authority.is_ok_and(|authority| origin.is_of(&scheme, &authority)) {
            let host = String::from_utf8_lossy(host.as_bytes());
            return Err(ForbiddenDestination::new(format!(
                "its `Host` header is {}, expected that of {origin}",
                quoted(&host)
            )));
        }
    }
    Ok(())
}

impl Origin {
    fn of_url(url: &str, plain_http: PlainHttp) -> Result<Self, InvalidOrigin> {
        let invalid = |reason: &'static str| InvalidOrigin { url: shown_url(url), reason };
        let uri = uri::secure(url, plain_http).map_err(invalid)?;
        let is_https = uri.scheme() == Some(&Scheme::HTTPS);
        let authority = uri.authority().ok_or_else(|| invalid("it has no host"))?;
        let port = port(authority, is_https).ok_or_else(|| invalid("the port must be a number from 0 to 65535"))?;
        let host = authority.host().to_ascii_lowercase();
        let default = if is_https { 443 } else { 80 };
        let authority = if port == default { host.clone() } else { format!("{host}:{port}") };
        Ok(Self { is_https, host, port, authority })
    }

    fn is_of(&self, scheme: &Scheme, authority: &Authority) -> bool {
        let is_https = *scheme == Scheme::HTTPS;
        if is_https == self.is_https && authority.as_str() == self.authority {
            return is_https || *scheme == Scheme::HTTP;
        }
        (is_https || *scheme == Scheme::HTTP)
            && is_https == self.is_https
            && authority.host().eq_ignore_ascii_case(&self.host)
            && port(authority, is_https) == Some(self.port)
            // A user name makes a host look like another one.
            && !authority.as_str().contains('@')
    }
}

/// Returns the port, or the default one of the scheme. `None` if it is not a port.
fn port(authority: &Authority, is_https: bool) -> Option<u16> {
    let default = if is_https { 443 } else { 80 };
    match authority.port() {
        None => authority.as_str().ends_with(|last: char| last != ':').then_some(default),
        Some(port) => Some(port.as_u16()),
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

/// The URL has no origin that tokens may be sent to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tokens cannot be sent to `{url}`: {reason}")]
pub struct InvalidOrigin {
    url: String,
    reason: &'static str,
}

impl InvalidOrigin {
    /// Returns the URL that was given: escaped and truncated, without a password or a query.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The request was not sent, since its destination may not get a token. The text names the destination and how to allow it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request was not sent: {0}")]
pub struct ForbiddenDestination(String);

impl ForbiddenDestination {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Uri};

    use super::Origins;
    use crate::uri::PlainHttp;

    fn origins() -> Origins {
        let mut origins = Origins::default();
        origins.allow("https://API.example.com/v1", PlainHttp::Loopback).unwrap();
        origins.allow("http://127.0.0.1:8080", PlainHttp::Loopback).unwrap();
        origins
    }

    fn is_allowed(origins: &Origins, uri: &str) -> bool {
        uri.parse::<Uri>().is_ok_and(|uri| origins.check(&uri, &HeaderMap::new()).is_ok())
    }

    #[test]
    fn an_origin_is_the_same_in_every_spelling_that_means_it() {
        for uri in [
            "https://api.example.com/",
            "https://api.example.com",
            "https://API.EXAMPLE.COM/other?q",
            "HTTPS://api.example.com:443/",
            "http://127.0.0.1:8080/",
        ] {
            assert!(is_allowed(&origins(), uri), "{uri}");
        }
    }

    #[test]
    fn no_other_destination_gets_a_token() {
        for uri in [
            "http://api.example.com/",
            "http://api.example.com:443/",
            "https://api.example.com:8443/",
            "https://api.example.com:80/",
            "https://api.example.com:/",
            "https://api.example.com.evil.example/",
            "https://api.example.com./",
            "https://evil.example/https://api.example.com/",
            "https://evil.example/?https://api.example.com",
            "https://api.example.com@evil.example/",
            "https://user@api.example.com/",
            "https://user:password@api.example.com/",
            "https://apiXexample.com/",
            "https://example.com/",
            "https://sub.api.example.com/",
            "https://127.0.0.1:8080/",
            "http://127.0.0.1/",
            "http://127.0.0.1:8081/",
            "http://localhost:8080/",
            "http://[::1]:8080/",
            "http://[::ffff:127.0.0.1]:8080/",
            "http://2130706433:8080/",
            "ftp://api.example.com/",
            "wss://api.example.com/",
            "api.example.com:443",
            "/",
            "*",
        ] {
            assert!(!is_allowed(&origins(), uri), "{uri}");
        }
    }

    #[test]
    fn a_request_without_an_authority_goes_where_the_settings_say() {
        let mut origins = origins();
        assert!(!is_allowed(&origins, "/package.Service/Method"));
        origins.set_base("https://grpc.example.com", PlainHttp::Loopback).unwrap();
        assert!(is_allowed(&origins, "/package.Service/Method"));
        assert!(is_allowed(&origins, "https://grpc.example.com/package.Service/Method"));
        assert!(!is_allowed(&origins, "https://other.example.com/package.Service/Method"));
    }

    #[test]
    fn a_host_header_of_another_origin_is_refused() {
        let check = |host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static(host));
            origins().check(&Uri::from_static("https://api.example.com/"), &headers).is_ok()
        };
        assert!(check("api.example.com") && check("API.example.com:443"));
        for host in ["evil.example", "api.example.com:80", "", "api.example.com, evil.example", "x@api.example.com"] {
            assert!(!check(host), "{host}");
        }
        let mut twice = HeaderMap::new();
        twice.append("host", HeaderValue::from_static("api.example.com"));
        twice.append("host", HeaderValue::from_static("evil.example"));
        assert!(origins().check(&Uri::from_static("https://api.example.com/"), &twice).is_err());
    }

    #[test]
    fn plain_http_is_allowed_on_loopback_or_where_the_settings_say() {
        let mut origins = Origins::default();
        for url in ["http://api.example.com", "http://10.0.0.1", "ftp://h", "api.example.com", "https://u@h", "urn:api"]
        {
            assert!(origins.allow(url, PlainHttp::Loopback).is_err(), "{url}");
        }
        assert!(origins.is_empty());
        origins.allow("http://api.example.com", PlainHttp::AnyHost).unwrap();
        assert!(is_allowed(&origins, "http://api.example.com/") && !is_allowed(&origins, "https://api.example.com/"));
    }
}
