//! [`SavedRequest`]: what it takes to send a request once more.

use http::{Extensions, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::repeat::RepeatBody;

/// A request without the memory of its header map: one allocation for all headers, and none without headers.
pub(super) struct SavedRequest<K> {
    method: Method,
    uri: Uri,
    version: Version,
    headers: Vec<(HeaderName, HeaderValue)>,
    extensions: Extensions,
    body: K,
}

/// Returns the request, and what it takes to send it once more.
pub(super) fn save<B, R: RepeatBody<B>>(request: Request<B>, repeat: &R) -> (Request<B>, SavedRequest<R::Kept>) {
    let (head, body) = request.into_parts();
    let (body, kept) = repeat.keep(body);
    let saved = SavedRequest {
        method: head.method.clone(),
        uri: head.uri.clone(),
        version: head.version,
        headers: head.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        extensions: head.extensions.clone(),
        body: kept,
    };
    (Request::from_parts(head, body), saved)
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
        let map = request.headers_mut();
        for (name, value) in headers {
            map.append(name, value);
        }
        Some(request)
    }
}
