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

/// The length of a name, the length of a value, and whether the value is sensitive.
const PREFIX: usize = 2 * size_of::<u32>() + 1;

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
            // A header of 4 GiB would be cut off here, and refused when it is unpacked.
            let [a, b, c, d] = u32::try_from(name.len()).unwrap_or(u32::MAX).to_ne_bytes();
            let [e, f, g, h] = u32::try_from(value_bytes.len()).unwrap_or(u32::MAX).to_ne_bytes();
            packed.extend_from_slice(&[a, b, c, d, e, f, g, h, u8::from(value.is_sensitive())]);
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
            let name_length = u32::from_ne_bytes(*split(&mut rest, 4)?.first_chunk()?);
            let value_length = u32::from_ne_bytes(*split(&mut rest, 4)?.first_chunk()?);
            let is_sensitive = split(&mut rest, 1)? == [1];
            let name = HeaderName::from_bytes(split(&mut rest, name_length as usize)?).ok()?;
            let mut value = HeaderValue::from_bytes(split(&mut rest, value_length as usize)?).ok()?;
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
