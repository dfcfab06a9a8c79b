//! [`SavedHead`]: a request without its body, in one piece of memory.

use http::uri::{Authority, PathAndQuery};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

/// Method, URI, headers and extensions of a request. To clone the URI and each header would take an allocation or a shared counter
/// each, so their texts are copied, one after the other.
pub(super) struct SavedHead {
    method: Method,
    version: Version,
    extensions: Extensions,
    /// The length of the scheme and the authority, which are first.
    origin: usize,
    /// The length of the URI.
    uri: usize,
    text: Text,
}

/// Bytes of which as many as most requests have need no memory of their own.
struct Text {
    length: usize,
    first: [u8; USUAL_LENGTH],
    /// All of them, if they are more.
    long: Vec<u8>,
}

/// The length of the URI and the headers of most requests.
const USUAL_LENGTH: usize = 512;

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

impl Default for SavedHead {
    fn default() -> Self {
        Self {
            method: Method::GET,
            version: Version::default(),
            extensions: Extensions::new(),
            origin: 0,
            uri: 0,
            text: Text { length: 0, first: [0; USUAL_LENGTH], long: Vec::new() },
        }
    }
}

impl SavedHead {
    /// Replaces the saved head by that of this request.
    pub(super) fn pack<B>(&mut self, request: &Request<B>) {
        self.method = request.method().clone();
        self.version = request.version();
        self.extensions = request.extensions().clone();
        self.pack_texts(request.uri(), request.headers());
    }

    fn pack_texts(&mut self, uri: &Uri, headers: &HeaderMap) {
        let text = &mut self.text;
        text.length = 0;
        match uri.scheme_str() {
            None => {}
            Some("https") => text.push(b"https://"),
            Some(scheme) => {
                text.push(scheme.as_bytes());
                text.push(b"://");
            }
        }
        text.push(uri.authority().map_or("", Authority::as_str).as_bytes());
        self.origin = text.length;
        text.push(uri.path_and_query().map_or("", PathAndQuery::as_str).as_bytes());
        self.uri = text.length;
        for (name, value) in headers {
            let (name, value_bytes) = (name.as_str().as_bytes(), value.as_bytes());
            text.push(&prefix(name.len(), value_bytes.len(), value.is_sensitive()));
            text.push(name);
            text.push(value_bytes);
        }
    }

    /// Makes the request once more, with this body; `None` if a part of it cannot be made again. The extensions are given away.
    pub(super) fn unpack<B>(&mut self, body: B) -> Option<Request<B>> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.version_mut() = self.version;
        *request.extensions_mut() = std::mem::take(&mut self.extensions);
        *request.uri_mut() = self.unpack_texts(request.headers_mut())?;
        Some(request)
    }

    /// Adds the headers to a map, and returns the URI. `None` if the texts of its parts, one after the other, mean another origin, to
    /// which the token must not be sent: the authority of `https://api.example.com` and the path `*` is `api.example.com*`.
    fn unpack_texts(&self, headers: &mut HeaderMap) -> Option<Uri> {
        let mut rest = self.text.bytes()?;
        let uri = split(&mut rest, self.uri)?;
        let origin = uri.get(..self.origin)?;
        let uri = Uri::try_from(uri).ok().filter(|uri| has_origin(uri, origin))?;
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

    /// Drops the extensions of the application, and memory that only a few requests need.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.extensions = Extensions::new();
        if self.text.length > USUAL_LENGTH {
            self.text.long = Vec::new();
        }
    }
}

impl Text {
    #[inline]
    fn push(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        match self.first.get_mut(self.length..end) {
            Some(place) => place.copy_from_slice(bytes),
            None => self.push_to_long(bytes),
        }
        self.length = end;
    }

    #[cold]
    fn push_to_long(&mut self, bytes: &[u8]) {
        // The first time, those from before are in the other place.
        if let Some(first) = self.first.get(..self.length) {
            self.long.clear();
            self.long.reserve(2 * USUAL_LENGTH + bytes.len());
            self.long.extend_from_slice(first);
        }
        self.long.extend_from_slice(bytes);
    }

    fn bytes(&self) -> Option<&[u8]> {
        self.first.get(..self.length).or_else(|| self.long.get(..self.length))
    }
}

/// Returns whether this is the text of the scheme and the authority of a URI.
fn has_origin(uri: &Uri, text: &[u8]) -> bool {
    let authority = match uri.scheme_str() {
        None => Some(text),
        Some(scheme) => text.strip_prefix(scheme.as_bytes()).and_then(|rest| rest.strip_prefix(b"://")),
    };
    authority == Some(uri.authority().map_or("", Authority::as_str).as_bytes())
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

    use super::SavedHead;

    /// Also the memory of a longer request that was saved before.
    fn packed(uri: &Uri, headers: &HeaderMap) -> SavedHead {
        let mut saved = SavedHead::default();
        let mut long = HeaderMap::new();
        long.insert("cookie", HeaderValue::from_bytes(&[b'a'; 2_000]).unwrap());
        saved.pack_texts(&Uri::from_static("https://other.example.com/a"), &long);
        saved.pack_texts(uri, headers);
        saved
    }

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
            let unpacked = packed(&uri, &HeaderMap::new()).unpack_texts(&mut HeaderMap::new()).unwrap();
            assert_eq!(unpacked, uri);
            assert_eq!(unpacked.to_string(), uri.to_string());
        }
    }

    #[test]
    fn a_uri_whose_parts_mean_another_origin_in_one_text_is_not_unpacked() {
        for authority in ["api.example.com", "api.example.com:8443"] {
            let uri = Uri::builder().scheme("https").authority(authority).path_and_query("*").build().unwrap();
            assert_eq!(uri.authority().unwrap(), authority);
            assert_eq!(packed(&uri, &HeaderMap::new()).unpack_texts(&mut HeaderMap::new()), None);
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
            packed(&Uri::from_static("/a"), &map).unpack_texts(&mut unpacked).unwrap();
            prop_assert_eq!(&unpacked, &map);
            prop_assert_eq!(format!("{unpacked:?}"), format!("{map:?}"), "which values are sensitive");
        }
    }
}
