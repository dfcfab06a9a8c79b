//! [`Grpc`]: how a gRPC call is refused, and how its stream ends early.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::Full;

use super::RequestHead;
use super::error::BearerError;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Selects the calls that a layer answers as gRPC. All other requests get HTTP answers.
///
/// A gRPC answer has the HTTP status 200. A forward-auth proxy reads only that status, so it must not get one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum GrpcRefusals {
    /// gRPC over HTTP/2 and later, and gRPC-Web over any version, as the protocols define it.
    #[default]
    ByProtocol,
    /// gRPC over any version, for a layer inside one that translates gRPC-Web and keeps the version of the request.
    AnyVersion,
    /// None.
    Off,
}

/// A gRPC call: the content type of its answer, and the position of its trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grpc {
    content_type: &'static str,
    trailers: Trailers,
}

/// The position of the trailers of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trailers {
    /// After the body, as HTTP/2 trailers.
    BehindBody,
    /// In the body, as its last message: gRPC-Web.
    InBody,
    /// The same, in base64.
    InText,
}

/// The content types of answers, and the position of the trailers for each. A call with an unlisted format gets the content
/// type of its protocol without a format, since an answer never repeats text from the caller.
const CONTENT_TYPES: [(&str, Trailers); 9] = [
    ("application/grpc", Trailers::BehindBody),
    ("application/grpc+proto", Trailers::BehindBody),
    ("application/grpc+json", Trailers::BehindBody),
    ("application/grpc-web", Trailers::InBody),
    ("application/grpc-web+proto", Trailers::InBody),
    ("application/grpc-web+json", Trailers::InBody),
    ("application/grpc-web-text", Trailers::InText),
    ("application/grpc-web-text+proto", Trailers::InText),
    ("application/grpc-web-text+json", Trailers::InText),
];

impl Grpc {
    /// Returns `None` for a request to be answered as HTTP. Only a `POST` can be a gRPC call: a refusal with status 200 must
    /// not answer a method whose answers are cached.
    pub(super) fn from_request(request: RequestHead<'_>, refusals: GrpcRefusals) -> Option<Self> {
        if refusals == GrpcRefusals::Off || request.method() != Method::POST {
            return None;
        }
        let media_type =
            request.headers().get(CONTENT_TYPE)?.as_bytes().split(|byte| *byte == b';').next()?.trim_ascii();
        let grpc = Self::of_media_type(media_type)?;
        // gRPC needs HTTP/2 ("PROTOCOL-HTTP2.md" of gRPC), and HTTP/1.1 has no trailers that every client reads.
        let is_possible = grpc.trailers != Trailers::BehindBody
            || request.version() >= Version::HTTP_2
            || refusals == GrpcRefusals::AnyVersion;
        is_possible.then_some(grpc)
    }

    fn of_media_type(media_type: &[u8]) -> Option<Self> {
        let known = |name: &[u8]| {
            let found = CONTENT_TYPES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
            found.map(|(content_type, trailers)| Self { content_type, trailers: *trailers })
        };
        known(media_type).or_else(|| known(media_type.split(|byte| *byte == b'+').next()?))
    }

    /// Turns a refusal into a gRPC answer with the HTTP status 200. The challenge and `Retry-After` become metadata of the
    /// call.
    ///
    /// gRPC gets everything in the headers: a trailers-only answer ("Responses" in the protocol of gRPC over HTTP/2). gRPC-Web
    /// gets it in the body, with the trailers. The gRPC-Web protocol allows headers, too, but a page of another origin sees
    /// only the headers that CORS exposes, and the `grpc-web` client takes an answer without a status for an empty stream.
    pub(super) fn refused(self, mut refusal: Response<Full<Bytes>>, error: &BearerError) -> Response<Full<Bytes>> {
        *refusal.status_mut() = StatusCode::OK;
        let headers = refusal.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        let mut trailers = status(code(error), error.description());
        if self.trailers == Trailers::BehindBody {
            headers.extend(trailers);
        } else {
            let metadata = [WWW_AUTHENTICATE, RETRY_AFTER].map(|name| Some((headers.remove(&name)?, name)));
            trailers.extend(metadata.into_iter().flatten().map(|(value, name)| (name, value)));
            *refusal.body_mut() = Full::new(self.in_body(&trailers));
        }
        refusal
    }

    /// Returns the last frame of a stream whose token has expired.
    pub(super) fn expired(&self) -> Frame<Bytes> {
        let expired = status(UNAUTHENTICATED, "the access token has expired");
        match self.trailers {
            Trailers::BehindBody => Frame::trailers(expired),
            Trailers::InBody | Trailers::InText => Frame::data(self.in_body(&expired)),
        }
    }

    fn in_body(self, trailers: &HeaderMap) -> Bytes {
        match self.trailers {
            Trailers::InText => STANDARD.encode(message(trailers)).into(),
            Trailers::InBody | Trailers::BehindBody => message(trailers),
        }
    }
}

const PERMISSION_DENIED: &str = "7";
const RESOURCE_EXHAUSTED: &str = "8";
const UNAVAILABLE: &str = "14";
const UNAUTHENTICATED: &str = "16";

fn code(error: &BearerError) -> &'static str {
    match error.status() {
        StatusCode::FORBIDDEN => PERMISSION_DENIED,
        StatusCode::TOO_MANY_REQUESTS => RESOURCE_EXHAUSTED,
        StatusCode::SERVICE_UNAVAILABLE => UNAVAILABLE,
        _ => UNAUTHENTICATED,
    }
}

/// Returns the trailers. The message is a constant of this crate that needs no escaping in `grpc-message`.
fn status(code: &'static str, message: &'static str) -> HeaderMap {
    HeaderMap::from_iter([
        (GRPC_STATUS, HeaderValue::from_static(code)),
        (GRPC_MESSAGE, HeaderValue::from_static(message)),
    ])
}

/// Encodes trailers as a message in the body: the highest bit of the first byte marks it, and it holds HTTP/1.1 header lines.
#[expect(clippy::expect_used, reason = "a wrong length would break the stream of the caller")]
fn message(trailers: &HeaderMap) -> Bytes {
    let mut text = BytesMut::new();
    for (name, value) in trailers {
        text.put_slice(name.as_str().as_bytes());
        text.put_u8(b':');
        text.put_slice(value.as_bytes());
        text.put_slice(b"\r\n");
    }
    let mut message = BytesMut::with_capacity(5 + text.len());
    message.put_u8(0x80);
    message.put_u32(u32::try_from(text.len()).expect("the trailers are few and short"));
    message.put(text);
    message.freeze()
}

#[cfg(test)]
mod tests {
    use http::{Request, Version};

    use super::{CONTENT_TYPE, Grpc, GrpcRefusals, Method, Trailers};

    fn call(method: Method, version: Version, content_type: &str, refusals: GrpcRefusals) -> Option<Grpc> {
        let request = Request::builder().method(method).version(version).header(CONTENT_TYPE, content_type);
        Grpc::from_request((&request.body(()).unwrap()).into(), refusals)
    }

    fn call_with(content_type: &str) -> Option<Grpc> {
        call(Method::POST, Version::HTTP_2, content_type, GrpcRefusals::default())
    }

    #[test]
    fn the_answer_has_a_known_content_type_and_never_text_from_the_caller() {
        for (content_type, answered, trailers) in [
            ("application/grpc", "application/grpc", Trailers::BehindBody),
            ("application/grpc+proto", "application/grpc+proto", Trailers::BehindBody),
            ("application/grpc+json; charset=utf-8", "application/grpc+json", Trailers::BehindBody),
            ("Application/gRPC ;a=b", "application/grpc", Trailers::BehindBody),
            ("application/grpc+x<script>", "application/grpc", Trailers::BehindBody),
            ("application/grpc+proto+x", "application/grpc", Trailers::BehindBody),
            ("application/grpc-web", "application/grpc-web", Trailers::InBody),
            ("application/grpc-web+proto", "application/grpc-web+proto", Trailers::InBody),
            ("application/grpc-web+thrift", "application/grpc-web", Trailers::InBody),
            ("application/grpc-web-text", "application/grpc-web-text", Trailers::InText),
            ("application/grpc-web-text+PROTO", "application/grpc-web-text+proto", Trailers::InText),
            ("application/grpc-web-text+x", "application/grpc-web-text", Trailers::InText),
        ] {
            let grpc = call_with(content_type).unwrap();
            assert_eq!((grpc.content_type, grpc.trailers), (answered, trailers), "{content_type}");
        }
    }

    #[test]
    fn other_requests_are_not_grpc() {
        for content_type in
            ["", "application/json", "application/grpcurl", "application/grpc-webby", "text/grpc", "+grpc"]
        {
            assert!(call_with(content_type).is_none(), "{content_type}");
        }
        assert!(Grpc::from_request((&Request::post("/").body(()).unwrap()).into(), GrpcRefusals::AnyVersion).is_none());
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT] {
            let refusals = GrpcRefusals::default();
            assert!(call(method, Version::HTTP_2, "application/grpc", refusals).is_none());
        }
    }

    #[test]
    fn grpc_needs_http_2_and_grpc_web_does_not() {
        use GrpcRefusals::{AnyVersion, ByProtocol, Off};
        for (version, content_type, answered_as_grpc) in [
            (Version::HTTP_10, "application/grpc", [false, true, false]),
            (Version::HTTP_11, "application/grpc", [false, true, false]),
            (Version::HTTP_11, "application/grpc+proto", [false, true, false]),
            (Version::HTTP_2, "application/grpc", [true, true, false]),
            (Version::HTTP_3, "application/grpc+proto", [true, true, false]),
            (Version::HTTP_11, "application/grpc-web", [true, true, false]),
            (Version::HTTP_2, "application/grpc-web-text+proto", [true, true, false]),
        ] {
            let answered =
                [ByProtocol, AnyVersion, Off].map(|r| call(Method::POST, version, content_type, r).is_some());
            assert_eq!(answered, answered_as_grpc, "{version:?} {content_type}");
        }
    }

    #[test]
    fn a_stream_of_grpc_web_ends_with_a_message_of_trailers() {
        let frame = call_with("application/grpc-web").unwrap().expired().into_data().unwrap();
        let text = "grpc-status:16\r\ngrpc-message:the access token has expired\r\n";
        assert_eq!(frame.first_chunk::<5>().unwrap(), &[0x80, 0, 0, 0, u8::try_from(text.len()).unwrap()]);
        assert_eq!(frame.get(5..).unwrap(), text.as_bytes());
    }
}
