//! Token requests, as callers write them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use tower::BoxError;

use super::SECRET;
use super::stack::Body;

pub const FORM: &str = "application/x-www-form-urlencoded";

/// The whole body of the simplest valid request.
pub const GRANT: &str = "grant_type=client_credentials";

/// A request to the token endpoint.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    method: Method,
    uri: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

/// A form POST to `/token` with exactly this body, and without credentials.
pub fn post(body: impl Into<Bytes>) -> TokenRequest {
    let headers = vec![(CONTENT_TYPE, HeaderValue::from_static(FORM))];
    TokenRequest { method: Method::POST, uri: "/token".to_owned(), headers, body: body.into() }
}

/// The request of `billing`, with its credentials in the header.
pub fn billing_asks(body: impl Into<Bytes>) -> TokenRequest {
    post(body).basic("billing", &SECRET)
}

impl TokenRequest {
    /// Adds the credentials of RFC 6749 §2.3.1: form-encoded, and then in base64.
    pub fn basic(self, id: &str, secret: &str) -> Self {
        self.basic_pair(format!("{}:{}", form_encoded(id), form_encoded(secret)))
    }

    /// Adds Basic credentials with exactly this text.
    pub fn basic_pair(self, pair: impl AsRef<[u8]>) -> Self {
        self.header(AUTHORIZATION, &format!("Basic {}", STANDARD.encode(pair)))
    }

    /// Adds a parameter to the body.
    pub fn param(mut self, name: &str, value: &str) -> Self {
        let mut body = self.body.to_vec();
        body.extend_from_slice(format!("&{}={}", form_encoded(name), form_encoded(value)).as_bytes());
        self.body = body.into();
        self
    }

    /// Adds a header, even if it exists already.
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.push((name, HeaderValue::from_str(value).unwrap()));
        self
    }

    /// Sets exactly these content types.
    pub fn content_types(mut self, types: &[&str]) -> Self {
        self.headers.retain(|(name, _)| name != CONTENT_TYPE);
        types.iter().fold(self, |request, value| request.header(CONTENT_TYPE, value))
    }

    pub fn method(mut self, method: &str) -> Self {
        self.method = Method::from_bytes(method.as_bytes()).unwrap();
        self
    }

    /// Sets another path.
    pub fn to(mut self, uri: &str) -> Self {
        uri.clone_into(&mut self.uri);
        self
    }

    /// Sends another body than one of known length.
    pub fn stream(self, stream: Stream) -> Request<Body> {
        Request::from(self).map(|_| stream.boxed_unsync())
    }
}

impl From<TokenRequest> for Request<Body> {
    fn from(request: TokenRequest) -> Self {
        let body = Full::new(request.body).map_err(|never| match never {}).boxed_unsync();
        let mut http = Request::new(body);
        *http.method_mut() = request.method;
        *http.uri_mut() = request.uri.parse().unwrap();
        for (name, value) in request.headers {
            http.headers_mut().append(name, value);
        }
        http
    }
}

fn form_encoded(text: &str) -> String {
    serde_urlencoded::to_string([("", text)]).unwrap().split_off(1)
}

/// A body of unknown length: chunked over HTTP/1.1.
#[derive(Debug)]
pub struct Stream {
    pieces: VecDeque<Bytes>,
    stalls: bool,
    progress: Progress,
}

/// The amount of a [`Stream`] that has been read.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicUsize>);

impl Progress {
    /// The number of pieces.
    pub fn taken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Stream {
    pub fn of(pieces: impl IntoIterator<Item = impl Into<Bytes>>) -> Self {
        let pieces = pieces.into_iter().map(Into::into).collect();
        Self { pieces, stalls: false, progress: Progress::default() }
    }

    /// Never ends, and sends nothing more.
    pub fn then_stalls(mut self) -> Self {
        self.stalls = true;
        self
    }

    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.pieces.pop_front() {
            Some(piece) => {
                self.progress.0.fetch_add(1, Ordering::SeqCst);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            None if self.stalls => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}
