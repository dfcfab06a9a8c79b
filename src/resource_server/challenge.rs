//! The challenge that answers a refused request (RFC 6750 §3).

use bytes::Bytes;
use http::header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response};
use http_body_util::Full;

use super::ResourceMetadata;
use super::error::BearerError;
use super::error_kind::BearerErrorKind;
use super::grpc::Grpc;
use crate::audience::Audience;
use crate::scope::Scopes;
use crate::verification::InvalidToken;

/// The challenges of a layer, rendered once, so that a refusal costs no more than an admission.
#[derive(Clone, Debug)]
pub(super) struct Challenges {
    no_credentials: HeaderValue,
    invalid_request: HeaderValue,
    invalid_token: HeaderValue,
    forbidden: HeaderValue,
    parts: Parts,
}

/// The parts that all challenges share.
#[derive(Clone, Debug)]
struct Parts {
    realm: String,
    resource_metadata: String,
}

impl Parts {
    fn challenge(&self, error: &BearerError, scopes: &Scopes) -> HeaderValue {
        let Self { realm, resource_metadata } = self;
        let scope = if scopes.is_empty() { String::new() } else { format!(", scope=\"{scopes}\"") };
        challenge(&format!("{realm}{}{scope}{resource_metadata}", parameters(error)))
    }
}

impl Challenges {
    /// Creates the challenges. The realm is the audience, because the API is the protection space. `scopes` are the scopes that
    /// every request must have, independent of its method.
    pub(super) fn new(audience: &Audience, metadata: Option<&ResourceMetadata>, scopes: &Scopes) -> Self {
        let realm = format!("Bearer realm=\"{audience}\"");
        // RFC 9728 §5.1.
        let resource_metadata =
            metadata.map(|metadata| format!(", resource_metadata=\"{}\"", metadata.url())).unwrap_or_default();
        Self::from_parts(Parts { realm, resource_metadata }, scopes)
    }

    /// Returns the same challenges with other scopes.
    pub(super) fn with_scopes(&self, scopes: &Scopes) -> Self {
        Self::from_parts(self.parts.clone(), scopes)
    }

    fn from_parts(parts: Parts, scopes: &Scopes) -> Self {
        let no_credentials = BearerError::NoCredentials;
        Self {
            no_credentials: parts.challenge(&no_credentials, scopes),
            invalid_request: parts.challenge(&BearerError::InvalidRequest, &Scopes::NONE),
            // The caller is not told which check failed.
            invalid_token: parts.challenge(&InvalidToken::Malformed.into(), scopes),
            // No other scope would help, and there is no error code for it either.
            forbidden: parts.challenge(&no_credentials, &Scopes::NONE),
            parts,
        }
    }

    /// Returns the refusal of a request in its own protocol. `of_method` are the scopes to request if they depend on the
    /// method.
    pub(super) fn answer(
        &self,
        error: BearerError,
        of_method: Option<&Scopes>,
        grpc: Option<Grpc>,
    ) -> Response<Full<Bytes>> {
        let (name, value) = match &error {
            BearerError::Unavailable(unavailable) => (RETRY_AFTER, unavailable.retry_after_seconds().into()),
            BearerError::TooManyAttempts { retry_after_seconds } => (RETRY_AFTER, (*retry_after_seconds).into()),
            error => (WWW_AUTHENTICATE, self.challenge(error, of_method)),
        };
        let mut response = Response::new(Full::default());
        *response.status_mut() = error.status();
        response.headers_mut().insert(name, value);
        // The answer applies to one request only. gRPC answers with status 200, which caches may store by default.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(grpc) = grpc {
            response = grpc.refused(response, &error);
        }
        response.extensions_mut().insert(error);
        response
    }

    fn challenge(&self, error: &BearerError, of_method: Option<&Scopes>) -> HeaderValue {
        match (error.kind(), of_method) {
            (BearerErrorKind::NoToken | BearerErrorKind::InvalidToken, Some(scopes)) => {
                self.parts.challenge(error, scopes)
            }
            (BearerErrorKind::NoToken, None) => self.no_credentials.clone(),
            (BearerErrorKind::InvalidToken, None) => self.invalid_token.clone(),
            (BearerErrorKind::InvalidRequest, _) => self.invalid_request.clone(),
            _ => match error {
                BearerError::InsufficientScope { required, .. } => self.parts.challenge(error, required),
                _ => self.forbidden.clone(),
            },
        }
    }
}

/// Returns the challenge parameters of an error, or nothing if the error has no code (RFC 6750 §3.1).
fn parameters(error: &BearerError) -> String {
    let description = error.description();
    let parameters = |code| format!(", error=\"{code}\", error_description=\"{description}\"");
    error.code().map(parameters).unwrap_or_default()
}

/// Audiences, scopes and URLs have no character that must be escaped in a quoted string or is forbidden in a header.
#[expect(clippy::expect_used, reason = "the types of the parts exclude characters that a header cannot have")]
fn challenge(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).expect("audiences, scopes and URLs are ASCII without control characters")
}
