//! [`Head`]: the part of a request's head that its answer needs.

use http::request::Parts;
use http::{Extensions, HeaderMap, Version};

/// The headers, extensions and version of a request whose method, URI and content type were checked. It is kept until
/// the answer is complete, so the rest is dropped, which is half of the head's size.
pub(super) struct Head {
    pub(super) headers: HeaderMap,
    pub(super) extensions: Extensions,
    pub(super) version: Version,
}

impl From<Parts> for Head {
    fn from(Parts { headers, extensions, version, .. }: Parts) -> Self {
        Self { headers, extensions, version }
    }
}
