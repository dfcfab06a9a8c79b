//! The optional authorization endpoint (RFC 6749 §3.1), which supports no response type.
//!
//! Some clients, such as the MCP SDKs, require `authorization_endpoint` in the metadata. No request to the endpoint can
//! succeed: the server has no users, and clients have no redirect URI.

use bytes::Bytes;
use http::header::ALLOW;
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use http_body_util::Full;

use super::error::{Fault, TokenError};
use super::token::TokenPipeline;

const NAME: &str = "authorization endpoint";

impl TokenPipeline {
    /// Refuses a request by its head alone. RFC 6749 §4.1.2.1 sends the error to the client's redirect URI. No redirect
    /// URI is registered here, so the server must not redirect.
    pub(super) fn answer_authorization(&self, head: &Parts) -> Response<Full<Bytes>> {
        let is_allowed = matches!(head.method, Method::GET | Method::HEAD | Method::POST);
        let error = TokenError::new(if is_allowed { Fault::RESPONSE_TYPE } else { Fault::AUTHORIZATION_METHOD });
        self.reporter.failed(NAME, &head.extensions, &error);
        let mut response = self.refuse(error, head.version, &head.extensions);
        if !is_allowed {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
        }
        response
    }
}
