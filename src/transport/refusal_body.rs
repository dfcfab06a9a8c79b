//! [`RefusalBody`]: the body of a refusal in the form of the application.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Extensions, HeaderValue, Response};
use http_body_util::Full;
use serde::Serialize;

/// The body that an application writes for a refusal, and its content type. Nothing else of the refusal can be changed: the
/// status, the challenge and all other headers are those of this crate.
///
/// ```
/// use serde_json::json;
/// use tower_client_credentials::transport::RefusalBody;
///
/// let problem = RefusalBody::problem_json(&json!({"title": "An access token is needed", "status": 401}));
/// let text = RefusalBody::new("text/plain; charset=utf-8".parse()?, "An access token is needed\n");
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
#[derive(Clone, Debug)]
pub struct RefusalBody {
    content_type: HeaderValue,
    /// `None` if the body could not be serialized.
    body: Option<Bytes>,
}

impl RefusalBody {
    /// Creates a body of this content type.
    pub fn new(content_type: HeaderValue, body: impl Into<Bytes>) -> Self {
        Self { content_type, body: Some(body.into()) }
    }

    /// Creates a body of the type `application/json`.
    ///
    /// If `body` cannot be serialized, the refusal keeps its usual body, and an error is logged.
    pub fn json(body: &impl Serialize) -> Self {
        Self::serialized("application/json", body)
    }

    /// Creates a body of the type `application/problem+json` (RFC 9457).
    ///
    /// If `body` cannot be serialized, the refusal keeps its usual body, and an error is logged.
    pub fn problem_json(body: &impl Serialize) -> Self {
        Self::serialized("application/problem+json", body)
    }

    fn serialized(content_type: &'static str, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body);
        if let Err(error) = &body {
            tracing::error!(
                %error,
                "cannot serialize the body of a refusal, which keeps its usual body; return a value that is valid as JSON"
            );
        }
        Self { content_type: HeaderValue::from_static(content_type), body: body.ok().map(Bytes::from) }
    }
}

/// Writes the body of a refusal from the error in its extensions, and from the extensions of the request.
pub(crate) struct RefusalHook<E>(Arc<Write<E>>);

type Write<E> = dyn Fn(&E, &Extensions) -> RefusalBody + Send + Sync;

impl<E: Clone + Send + Sync + 'static> RefusalHook<E> {
    pub(crate) fn new(write: impl Fn(&E, &Extensions) -> RefusalBody + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }

    /// Replaces the body of a refusal.
    pub(crate) fn apply(&self, refusal: &mut Response<Full<Bytes>>, request: &Extensions) {
        let Some(error) = refusal.extensions().get::<E>() else { return };
        let RefusalBody { content_type, body } = (self.0)(error, request);
        if let Some(body) = body {
            refusal.headers_mut().insert(CONTENT_TYPE, content_type);
            *refusal.body_mut() = Full::new(body);
        }
    }
}

impl<E> Clone for RefusalHook<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E> fmt::Debug for RefusalHook<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefusalHook")
    }
}
