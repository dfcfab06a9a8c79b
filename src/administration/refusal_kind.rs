//! [`AdministrationRefusalKind`]: the kinds of refusals, with their statuses and codes.

use http::StatusCode;

/// The kind of an [`AdministrationRefusal`](super::AdministrationRefusal).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AdministrationRefusalKind {
    /// A member of the registration is invalid or unknown (RFC 7591 §3.2.2).
    InvalidClientMetadata,
    /// The body, the query or a header is malformed.
    InvalidRequest,
    /// The token lacks a scope of the administration (RFC 6750 §3.1).
    InsufficientScope,
    /// The administrator may not give these rights, or not change this client.
    AccessDenied,
    /// There is no such client, secret or credential.
    NotFound,
    /// The method is not supported at this path.
    MethodNotAllowed,
    /// The body did not arrive in time.
    Timeout,
    /// The id is taken, another change came first, or an administrator would weaken itself.
    Conflict,
    /// The client has changed since it was read.
    PreconditionFailed,
    /// The body is too large.
    PayloadTooLarge,
    /// The body has another content type than JSON.
    UnsupportedMediaType,
    /// Another request had the same `Idempotency-Key`.
    IdempotencyKeyReused,
    /// `If-Match` is missing (RFC 6585 §3).
    PreconditionRequired,
    /// A part that the request needs did not answer.
    Unavailable,
}

impl AdministrationRefusalKind {
    /// Returns the code in the member `error` of the answer.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::InvalidClientMetadata => "invalid_client_metadata",
            Self::InvalidRequest => "invalid_request",
            Self::InsufficientScope => "insufficient_scope",
            Self::AccessDenied => "access_denied",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Timeout => "timeout",
            Self::Conflict => "conflict",
            Self::PreconditionFailed => "precondition_failed",
            Self::PayloadTooLarge => "payload_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::PreconditionRequired => "precondition_required",
            Self::Unavailable => "temporarily_unavailable",
        }
    }

    /// Returns the HTTP status of the answer.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::InvalidClientMetadata | Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::InsufficientScope | Self::AccessDenied => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict => StatusCode::CONFLICT,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::PreconditionRequired => StatusCode::PRECONDITION_REQUIRED,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}
