//! [`SavedRequest`]: what it takes to send a request once more.

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::repeat::RepeatBody;

/// A request with its headers in one piece of memory: to clone each of them would take an allocation each.
pub(super) struct SavedRequest<K> {
    method: Method,
    uri: Uri,
    version: Version,
    headers: PackedHeaders,
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
        uri: head.uri.clone(),
        version: head.version,
        headers: PackedHeaders::new(&head.headers),
        extensions: head.extensions.clone(),
        body: kept,
    };
    (Request::from_parts(head, body), Some(saved))
}

impl<K> SavedRequest<K> {
    /// Makes the request once more, if its body allows it.
    pub(super) fn restore<B, R: RepeatBody<B, Kept = K>>(self, repeat: &R) -> Option<Request<B>> {
        let Self { method, uri, version, headers, extensions, body } = self;
        let mut request = Request::new(repeat.restore(body)?);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = version;
        *request.extensions_mut() = extensions;
        headers.unpack(request.headers_mut())?;
        Some(request)
    }
}

/// The headers of a request, one after the other.
struct PackedHeaders(Vec<u8>);

/// The length of a name, the length of a value, and whether the value is sensitive.
const PREFIX: usize = 2 * size_of::<u32>() + 1;

impl PackedHeaders {
    fn new(headers: &HeaderMap) -> Self {
        let length = headers.iter().map(|(name, value)| PREFIX + name.as_str().len() + value.len()).sum();
        let mut packed = Vec::with_capacity(length);
        for (name, value) in headers {
            // A header of 4 GiB would be cut off here, and refused when it is unpacked.
            packed.extend_from_slice(&u32::try_from(name.as_str().len()).unwrap_or(u32::MAX).to_ne_bytes());
            packed.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_ne_bytes());
            packed.push(u8::from(value.is_sensitive()));
            packed.extend_from_slice(name.as_str().as_bytes());
            packed.extend_from_slice(value.as_bytes());
        }
        Self(packed)
    }

    /// Adds the headers to a map; `None` if one of them cannot be made again.
    fn unpack(&self, headers: &mut HeaderMap) -> Option<()> {
        let mut rest = self.0.as_slice();
        while !rest.is_empty() {
            let name_length = u32::from_ne_bytes(*split(&mut rest, 4)?.first_chunk()?);
            let value_length = u32::from_ne_bytes(*split(&mut rest, 4)?.first_chunk()?);
            let is_sensitive = split(&mut rest, 1)? == [1];
            let name = HeaderName::from_bytes(split(&mut rest, name_length as usize)?).ok()?;
            let mut value = HeaderValue::from_bytes(split(&mut rest, value_length as usize)?).ok()?;
            value.set_sensitive(is_sensitive);
            headers.append(name, value);
        }
        Some(())
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
    use http::{HeaderMap, HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::PackedHeaders;

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
            PackedHeaders::new(&map).unpack(&mut unpacked).unwrap();
            prop_assert_eq!(&unpacked, &map);
            prop_assert_eq!(format!("{unpacked:?}"), format!("{map:?}"), "which values are sensitive");
        }
    }
}
