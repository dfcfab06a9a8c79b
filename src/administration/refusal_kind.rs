//! [`AdministrationRefusalKind`]: the kinds of refusals, with their statuses and codes.

use http::StatusCode;

use crate::named::named;

named! {
    /// The kind of an [`AdministrationRefusal`](super::AdministrationRefusal).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    #[non_exhaustive]
    pub enum AdministrationRefusalKind {
        /// A member of the registration is invalid or unknown (RFC 7591 §3.2.2).
        InvalidClientMetadata = "invalid_client_metadata",
        /// The body, the query or a header is malformed.
        InvalidRequest = "invalid_request",
        /// The token lacks a scope of the administration (RFC 6750 §3.1).
        InsufficientScope = "insufficient_scope",
        /// The administrator may not give these rights, or not change this client.
        AccessDenied = "access_denied",
        /// There is no such client, secret or credential.
        NotFound = "not_found",
        /// The method is not supported at this path.
        MethodNotAllowed = "method_not_allowed",
        /// The body did not arrive in time.
        Timeout = "timeout",
        /// The id is taken, another change came first, or an administrator would weaken itself.
        Conflict = "conflict",
        /// The client has changed since it was read.
        PreconditionFailed = "precondition_failed",
        /// The body is too large.
        PayloadTooLarge = "payload_too_large",
        /// The body has another content type than JSON.
        UnsupportedMediaType = "unsupported_media_type",
        /// Another request had the same `Idempotency-Key`.
        IdempotencyKeyReused = "idempotency_key_reused",
        /// `If-Match` is missing (RFC 6585 §3).
        PreconditionRequired = "precondition_required",
        /// A part that the request needs did not answer.
        Unavailable = "temporarily_unavailable",
    }

    /// Returns the code in the member `error` of the answer.
    pub const fn code();
}

impl AdministrationRefusalKind {
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
