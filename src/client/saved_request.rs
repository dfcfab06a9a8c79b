//! [`SavedRequest`]: what it takes to send a request once more.

use http::uri::{Authority, PathAndQuery};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::repeat::RepeatBody;

/// A request with its URI and headers in one piece of memory: to clone each of them would take an allocation or a shared counter
/// each.
pub(super) struct SavedRequest<K> {
    method: Method,
    version: Version,
    head: PackedHead,
    extensions: Extensions,
    body: K,
}

/// Returns the request, and what it takes to send it once more. `None` if requests are not repeated.
pub(super) fn save<B, R: RepeatBody<B>>(
    request: Request<B>,
    repeat: &R,
) -> (Request<B>, Option<SavedRequest<R::Kept>>) {
    if !R::REPEATS {
        return (request, None);
    }
    let (head, body) = request.into_parts();
    let (body, kept) = repeat.keep(body);
    let saved = SavedRequest {
        method: head.method.clone(),
        version: head.version,
        head: PackedHead::new(&head.uri, &head.headers),
        extensions: head.extensions.clone(),
        body: kept,
    };
    (Request::from_parts(head, body), Some(saved))
}

impl<K> SavedRequest<K> {
    /// Makes the request once more, if its body allows it.
    pub(super) fn restore<B, R: RepeatBody<B, Kept = K>>(self, repeat: &R) -> Option<Request<B>> {
        let Self { method, version, head, extensions, body } = self;
        let mut request = Request::new(repeat.restore(body)?);
        *request.method_mut() = method;
        *request.version_mut() = version;
        *request.extensions_mut() = extensions;
        *request.uri_mut() = head.unpack(request.headers_mut())?;
        Some(request)
    }
}

/// The URI of a request and its headers, one after the other.
struct PackedHead {
    bytes: Vec<u8>,
    /// The length of the URI, which is first.
    uri: usize,
}

/// The length of the prefix of each header: whether the value is sensitive, and the lengths of the name and of the value.
const PREFIX: usize = size_of::<u64>();

/// The bit for a value that is sensitive.
const SENSITIVE: u64 = 1 << 63;

/// A header of 2 GiB would be cut off here, and refused when it is unpacked.
fn prefix(name: usize, value: usize, is_sensitive: bool) -> [u8; PREFIX] {
    let [name, value] = [name, value].map(|length| u64::from(i32::try_from(length).unwrap_or(i32::MAX).unsigned_abs()));
    let sensitive = if is_sensitive { SENSITIVE } else { 0 };
    (sensitive | name << 32 | value).to_ne_bytes()
}

impl PackedHead {
    fn new(uri: &Uri, headers: &HeaderMap) -> Self {
        let (scheme, separator) = match uri.scheme_str() {
            None => ("", ""),
            Some("https") => ("https://", ""),
            Some(scheme) => (scheme, "://"),
        };
        let authority = uri.authority().map_or("", Authority::as_str);
        let path = uri.path_and_query().map_or("", PathAndQuery::as_str);
        let uri = scheme.len() + separator.len() + authority.len() + path.len();
        let length: usize = headers.iter().map(|(name, value)| PREFIX + name.as_str().len() + value.len()).sum();
        let mut packed = Vec::with_capacity(uri + length);
        for part in [scheme, separator, authority, path] {
            if !part.is_empty() {
                packed.extend_from_slice(part.as_bytes());
            }
        }
        for (name, value) in headers {
            let (name, value_bytes) = (name.as_str().as_bytes(), value.as_bytes());
            packed.extend_from_slice(&prefix(name.len(), value_bytes.len(), value.is_sensitive()));
            packed.extend_from_slice(name);
            packed.extend_from_slice(value_bytes);
        }
        Self { bytes: packed, uri }
    }

    /// Adds the headers to a map, and returns the URI; `None` if one of them cannot be made again.
    fn unpack(&self, headers: &mut HeaderMap) -> Option<Uri> {
        let mut rest = self.bytes.as_slice();
        let uri = Uri::try_from(split(&mut rest, self.uri)?).ok()?;
        while !rest.is_empty() {
            let prefix = u64::from_ne_bytes(*split(&mut rest, PREFIX)?.first_chunk()?);
            let (name_length, value_length) = ((prefix & !SENSITIVE) >> 32, prefix & u64::from(u32::MAX));
            let (name_length, value_length) = (usize::try_from(name_length).ok()?, usize::try_from(value_length).ok()?);
            let is_sensitive = prefix & SENSITIVE != 0;
            let name = HeaderName::from_bytes(split(&mut rest, name_length)?).ok()?;
            let mut value = HeaderValue::from_bytes(split(&mut rest, value_length)?).ok()?;
            value.set_sensitive(is_sensitive);
            headers.append(name, value);
        }
        Some(uri)
    }
}

/// Takes so many bytes from the beginning.
fn split<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (first, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(first)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue, Uri};
    use proptest::prelude::*;

    use super::PackedHead;

    #[test]
    fn a_uri_of_each_form_is_unpacked_as_it_was() {
        for text in [
            "https://api.example.com/invoices?page=2&q=%20",
            "https://user@API.example.com:8443",
            "http://[::1]:3000/",
            "/package.Service/Method",
            "/?q",
            "api.example.com:443",
            "*",
            "urn-like://host/",
        ] {
            let uri: Uri = text.parse().unwrap();
            let unpacked = PackedHead::new(&uri, &HeaderMap::new()).unpack(&mut HeaderMap::new()).unwrap();
            assert_eq!(unpacked, uri);
            assert_eq!(unpacked.to_string(), uri.to_string());
        }
    }

    proptest! {
        #[test]
        fn headers_are_unpacked_as_they_were(
            headers in prop::collection::vec(("[a-z][a-z0-9-]{0,20}", prop::collection::vec(0x20..=0x7e_u8, 0..50), any::<bool>()), 0..20),
        ) {
            let mut map = HeaderMap::new();
            for (name, value, is_sensitive) in headers {
                let mut value = HeaderValue::from_bytes(&value).unwrap();
                value.set_sensitive(is_sensitive);
                map.append(name.parse::<HeaderName>().unwrap(), value);
            }
            let mut unpacked = HeaderMap::new();
            PackedHead::new(&Uri::from_static("/a"), &map).unpack(&mut unpacked).unwrap();
            prop_assert_eq!(&unpacked, &map);
            prop_assert_eq!(format!("{unpacked:?}"), format!("{map:?}"), "which values are sensitive");
        }
    }
}
