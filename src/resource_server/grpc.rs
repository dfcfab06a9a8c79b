//! How gRPC is refused: a trailers-only answer; and how a stream of it ends early.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::Full;

use super::RequestHead;
use super::challenge::BearerError;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A gRPC call: its content type, which is that of its answer as well.
#[derive(Clone, Debug)]
pub(super) struct Grpc {
    content_type: HeaderValue,
    trailers: Trailers,
}

/// Where the trailers of an answer go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trailers {
    /// Behind the body, where HTTP/2 has them.
    BehindBody,
    /// Into the body, as its last message: gRPC-Web.
    InBody,
    /// The same, in base64.
    InText,
}

impl Grpc {
    /// `None` for a request that is not gRPC, which every `POST` of its content type is, and nothing else: a refusal with
    /// status 200 is not for a method whose answers are kept.
    pub(super) fn of(request: RequestHead<'_>) -> Option<Self> {
        if request.method() != Method::POST {
            return None;
        }
        let media_type =
            request.headers().get(CONTENT_TYPE)?.as_bytes().split(|byte| *byte == b';').next()?.trim_ascii();
        let trailers = Trailers::of(media_type)?;
        Some(Self { content_type: HeaderValue::from_bytes(media_type).ok()?, trailers })
    }

    /// A refusal as a trailers-only answer: status 200, and all of it in the headers ("Responses" in the protocol of gRPC
    /// over HTTP/2; gRPC-Web clients look there first). What HTTP says of it besides stays, as metadata of the call.
    pub(super) fn refused(self, mut refusal: Response<Full<Bytes>>, error: &BearerError) -> Response<Full<Bytes>> {
        *refusal.status_mut() = StatusCode::OK;
        let headers = refusal.headers_mut();
        headers.insert(CONTENT_TYPE, self.content_type);
        headers.extend(status(code(error), error.for_caller()));
        refusal
    }

    /// The last frame of a stream whose token has expired.
    pub(super) fn expired(&self) -> Frame<Bytes> {
        let expired = status(UNAUTHENTICATED, "the access token has expired");
        match self.trailers {
            Trailers::BehindBody => Frame::trailers(expired),
            Trailers::InBody => Frame::data(message(&expired)),
            Trailers::InText => Frame::data(STANDARD.encode(message(&expired)).into()),
        }
    }
}

impl Trailers {
    /// `application/grpc`, `application/grpc-web` or `application/grpc-web-text`, and maybe the format of the messages
    /// behind a plus.
    fn of(media_type: &[u8]) -> Option<Self> {
        let protocol = media_type.split(|byte| *byte == b'+').next()?;
        let is = |name: &str| protocol.eq_ignore_ascii_case(name.as_bytes());
        match () {
            () if is("application/grpc") => Some(Self::BehindBody),
            () if is("application/grpc-web") => Some(Self::InBody),
            () if is("application/grpc-web-text") => Some(Self::InText),
            () => None,
        }
    }
}

const PERMISSION_DENIED: &str = "7";
const UNAVAILABLE: &str = "14";
const UNAUTHENTICATED: &str = "16";

fn code(error: &BearerError) -> &'static str {
    match error.status() {
        StatusCode::FORBIDDEN => PERMISSION_DENIED,
        StatusCode::SERVICE_UNAVAILABLE => UNAVAILABLE,
        _ => UNAUTHENTICATED,
    }
}

/// The message is one of ours: of the characters that a `grpc-message` need not escape, and without a percent sign.
fn status(code: &'static str, message: &'static str) -> HeaderMap {
    HeaderMap::from_iter([
        (GRPC_STATUS, HeaderValue::from_static(code)),
        (GRPC_MESSAGE, HeaderValue::from_static(message)),
    ])
}

/// Trailers in a body: a message that is marked by the highest bit of its first byte, and holds them as HTTP/1.1 does.
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
    message.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    message.put(text);
    message.freeze()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::{CONTENT_TYPE, Grpc, Method, Trailers};

    fn of(content_type: &'static str) -> Option<Grpc> {
        by(Method::POST, content_type)
    }

    fn by(method: Method, content_type: &'static str) -> Option<Grpc> {
        let request = Request::builder().method(method).header(CONTENT_TYPE, content_type).body(()).unwrap();
        Grpc::of((&request).into())
    }

    #[test]
    fn each_kind_of_grpc_is_known_by_its_content_type_which_loses_its_parameters() {
        for (content_type, echoed, trailers) in [
            ("application/grpc", "application/grpc", Trailers::BehindBody),
            ("application/grpc+proto", "application/grpc+proto", Trailers::BehindBody),
            ("application/grpc+json; charset=utf-8", "application/grpc+json", Trailers::BehindBody),
            ("Application/gRPC ;a=b", "Application/gRPC", Trailers::BehindBody),
            ("application/grpc-web", "application/grpc-web", Trailers::InBody),
            ("application/grpc-web+proto", "application/grpc-web+proto", Trailers::InBody),
            ("application/grpc-web-text", "application/grpc-web-text", Trailers::InText),
            ("application/grpc-web-text+proto", "application/grpc-web-text+proto", Trailers::InText),
        ] {
            let grpc = of(content_type).unwrap();
            assert_eq!((grpc.content_type.to_str().unwrap(), grpc.trailers), (echoed, trailers), "{content_type}");
        }
    }

    #[test]
    fn nothing_else_is_grpc() {
        for content_type in
            ["", "application/json", "application/grpcurl", "application/grpc-webby", "text/grpc", "+grpc"]
        {
            assert!(of(content_type).is_none(), "{content_type}");
        }
        assert!(Grpc::of((&Request::post("/").body(()).unwrap()).into()).is_none());
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT] {
            assert!(by(method, "application/grpc").is_none());
        }
    }

    #[test]
    fn a_stream_of_grpc_web_ends_with_a_message_of_trailers() {
        let frame = of("application/grpc-web").unwrap().expired().into_data().unwrap();
        let text = "grpc-status:16\r\ngrpc-message:the access token has expired\r\n";
        assert_eq!(frame.first_chunk::<5>().unwrap(), &[0x80, 0, 0, 0, u8::try_from(text.len()).unwrap()]);
        assert_eq!(frame.get(5..).unwrap(), text.as_bytes());
    }
}
