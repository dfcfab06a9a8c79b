//! [`SavedHead`]: a request without its body and its token, in one piece of memory.

use std::mem;

use http::header::AUTHORIZATION;
use http::uri::{Authority, PathAndQuery};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

/// Method, URI, headers and extensions of a request, except for `Authorization`, which the next token sets. To clone the URI and the
/// headers would take an allocation or a shared counter for each of them, so their texts are copied, one after the other.
pub(super) struct SavedHead {
    method: Method,
    version: Version,
    extensions: Extensions,
    lengths: Lengths,
    /// The texts of most requests.
    short: [u8; USUAL_LENGTH],
    /// The texts, if they are longer.
    long: Vec<u8>,
}

/// The ends of the parts of the texts.
#[derive(Clone, Copy, Default)]
struct Lengths {
    /// The scheme and the authority, which are first.
    origin: usize,
    /// The URI.
    uri: usize,
    /// The URI and the headers.
    all: usize,
}

/// The length of the URI and the headers of most requests.
const USUAL_LENGTH: usize = 512;

/// The length of the prefix of each header: whether the value is sensitive, and the lengths of the name and of the value.
const PREFIX: usize = size_of::<u64>();

/// The place of the length of the name, which has at most 16 bits. Those below are for the length of the value: no memory has more.
const NAME_SHIFT: u32 = 47;

/// The bit for a value that is sensitive.
const SENSITIVE: u64 = 1 << 63;

impl Default for SavedHead {
    fn default() -> Self {
        Self {
            method: Method::GET,
            version: Version::default(),
            extensions: Extensions::new(),
            lengths: Lengths::default(),
            short: [0; USUAL_LENGTH],
            long: Vec::new(),
        }
    }
}

impl SavedHead {
    /// Replaces the saved head by that of this request.
    #[inline]
    pub(super) fn pack<B>(&mut self, request: &Request<B>) {
        let (uri, headers) = (request.uri(), request.headers());
        self.pack_parts(request.method(), request.version(), request.extensions(), uri, headers);
    }

    #[inline]
    fn pack_parts(
        &mut self,
        method: &Method,
        version: Version,
        extensions: &Extensions,
        uri: &Uri,
        headers: &HeaderMap,
    ) {
        if self.method != *method {
            self.method = method.clone();
        }
        self.version = version;
        if !(extensions.is_empty() && self.extensions.is_empty()) {
            self.extensions = extensions.clone();
        }
        match write(uri, headers, &mut self.short) {
            Some(lengths) => self.lengths = lengths,
            None => self.pack_long(uri, headers),
        }
    }

    #[cold]
    fn pack_long(&mut self, uri: &Uri, headers: &HeaderMap) {
        let parts =
            [uri.scheme_str(), uri.authority().map(Authority::as_str), uri.path_and_query().map(PathAndQuery::as_str)];
        let uri_length = "://".len() + parts.iter().flatten().map(|part| part.len()).sum::<usize>();
        let headers_length =
            headers.iter().map(|(name, value)| PREFIX + name.as_str().len() + value.len()).sum::<usize>();
        self.long = vec![0; uri_length + headers_length];
        // If they did not fit, nothing would be unpacked.
        self.lengths = write(uri, headers, &mut self.long).unwrap_or_default();
    }

    /// Makes the request once more, with this body; `None` if a part of it cannot be made again. The extensions are given away.
    pub(super) fn unpack<B>(&mut self, body: B) -> Option<Request<B>> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.version_mut() = self.version;
        *request.extensions_mut() = mem::take(&mut self.extensions);
        *request.uri_mut() = self.unpack_texts(request.headers_mut())?;
        Some(request)
    }

    /// Adds the headers to a map, and returns the URI. `None` if the texts of its parts, one after the other, mean another origin, to
    /// which the token must not be sent: the authority of `https://api.example.com` and the path `*` is `api.example.com*`.
    fn unpack_texts(&self, headers: &mut HeaderMap) -> Option<Uri> {
        let texts = if self.lengths.all > USUAL_LENGTH { &self.long } else { self.short.as_slice() };
        let mut rest = texts.get(..self.lengths.all)?;
        let uri = split(&mut rest, self.lengths.uri)?;
        let origin = uri.get(..self.lengths.origin)?;
        let uri = Uri::try_from(uri).ok().filter(|uri| has_origin(uri, origin))?;
        while !rest.is_empty() {
            let prefix = u64::from_ne_bytes(*split(&mut rest, PREFIX)?.first_chunk()?);
            let (name_length, value_length) = ((prefix & !SENSITIVE) >> NAME_SHIFT, prefix & ((1 << NAME_SHIFT) - 1));
            let (name_length, value_length) = (usize::try_from(name_length).ok()?, usize::try_from(value_length).ok()?);
            let name = HeaderName::from_bytes(split(&mut rest, name_length)?).ok()?;
            let mut value = HeaderValue::from_bytes(split(&mut rest, value_length)?).ok()?;
            value.set_sensitive(prefix & SENSITIVE != 0);
            headers.append(name, value);
        }
        Some(uri)
    }

    /// Drops the extensions of the application, and memory that only a few requests need.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.extensions = Extensions::new();
        if self.lengths.all > USUAL_LENGTH {
            self.long = Vec::new();
        }
    }
}

/// Writes the texts to this memory; `None` if they do not fit.
#[expect(clippy::inline_always, reason = "a call with the results in memory would cost a sixth of it")]
#[inline(always)]
fn write(uri: &Uri, headers: &HeaderMap, memory: &mut [u8]) -> Option<Lengths> {
    let size = memory.len();
    let mut rest = Rest(memory);
    match uri.scheme_str() {
        None => {}
        Some("https") => rest.put(b"https://")?,
        Some(scheme) => {
            rest.put(scheme.as_bytes())?;
            rest.put(b"://")?;
        }
    }
    rest.put(uri.authority().map_or("", Authority::as_str).as_bytes())?;
    let origin = size - rest.0.len();
    rest.put(uri.path_and_query().map_or("", PathAndQuery::as_str).as_bytes())?;
    let uri = size - rest.0.len();
    for (name, value) in headers {
        if *name == AUTHORIZATION {
            continue;
        }
        let (name, is_sensitive, value) = (name.as_str().as_bytes(), value.is_sensitive(), value.as_bytes());
        rest.put(&prefix(name.len(), value.len(), is_sensitive).to_ne_bytes())?;
        rest.put(name)?;
        rest.put(value)?;
    }
    Some(Lengths { origin, uri, all: size - rest.0.len() })
}

#[inline]
fn prefix(name: usize, value: usize, is_sensitive: bool) -> u64 {
    let [name, value] = [name, value].map(|length| u64::try_from(length).unwrap_or(u64::MAX));
    (u64::from(is_sensitive) * SENSITIVE) | (name << NAME_SHIFT) | value
}

/// The rest of the memory for texts.
struct Rest<'a>(&'a mut [u8]);

impl Rest<'_> {
    /// Copies the bytes to the beginning, and keeps what follows. `None` if they do not fit.
    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let (place, rest) = mem::take(&mut self.0).split_at_mut_checked(bytes.len())?;
        place.copy_from_slice(bytes);
        self.0 = rest;
        Some(())
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
    use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
    use proptest::prelude::*;

    use super::SavedHead;

    /// Also the memory of a longer request that was saved before.
    fn packed(uri: &Uri, headers: &HeaderMap) -> SavedHead {
        let mut saved = SavedHead::default();
        let mut long = HeaderMap::new();
        long.insert("cookie", HeaderValue::from_bytes(&[b'a'; 2_000]).unwrap());
        pack(&mut saved, &Uri::from_static("https://other.example.com/a"), &long);
        pack(&mut saved, uri, headers);
        saved
    }

    fn pack(saved: &mut SavedHead, uri: &Uri, headers: &HeaderMap) {
        saved.pack_parts(&Method::GET, Version::HTTP_11, &Extensions::new(), uri, headers);
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

    #[test]
    fn the_authorization_header_is_not_saved_since_each_token_sets_it() {
        let mut headers = HeaderMap::new();
        headers.append("authorization", HeaderValue::from_static("Bearer a"));
        headers.append("accept", HeaderValue::from_static("*/*"));
        headers.append("authorization", HeaderValue::from_static("Basic b"));
        let (saved, mut unpacked) = (packed(&Uri::from_static("/a"), &headers), HeaderMap::new());
        saved.unpack_texts(&mut unpacked).unwrap();
        headers.remove("authorization");
        assert_eq!(unpacked, headers);
    }

    #[test]
    fn texts_of_any_length_around_the_usual_one_are_unpacked_as_they_were() {
        for length in 400..600 {
            let mut headers = HeaderMap::new();
            headers.insert("x-long", HeaderValue::from_bytes(&vec![b'a'; length]).unwrap());
            headers.append("x-last", HeaderValue::from_static("b"));
            let mut unpacked = HeaderMap::new();
            let uri = Uri::from_static("https://api.example.com/invoices");
            assert_eq!(packed(&uri, &headers).unpack_texts(&mut unpacked), Some(uri));
            assert_eq!(unpacked, headers);
        }
    }

    #[test]
    fn the_longest_name_and_a_long_value_are_unpacked_as_they_were() {
        let mut headers = HeaderMap::new();
        let mut value = HeaderValue::from_bytes(&vec![b'v'; 100_000]).unwrap();
        value.set_sensitive(true);
        headers.append(HeaderName::from_bytes(&vec![b'n'; 65_535]).unwrap(), value);
        headers.append("accept", HeaderValue::from_static("*/*"));
        let mut unpacked = HeaderMap::new();
        packed(&Uri::from_static("/a"), &headers).unpack_texts(&mut unpacked).unwrap();
        assert_eq!(format!("{unpacked:?}"), format!("{headers:?}"));
        assert_eq!(unpacked, headers);
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
