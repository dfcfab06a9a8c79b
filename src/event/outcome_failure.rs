//! [`Failure`]: why a request was not successful, with the error of the role that decided.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use http::StatusCode;

/// The reason why a request was not successful.
///
/// Its `Display` and [`source`](Error::source) are for the operator: they say more than the caller learns, and never
/// contain a secret. The error itself, a [`TokenError`](crate::authorization_server::TokenError) or a
/// [`BearerError`](crate::resource_server::BearerError), is available with [`downcast_ref`](Self::downcast_ref).
///
/// ```
/// use tower_client_credentials::event::{Event, Outcome};
/// use tower_client_credentials::resource_server::BearerError;
///
/// fn lacks_scope(event: &Event) -> bool {
///     let Outcome::Rejected(failure) = &event.outcome else { return false };
///     matches!(failure.downcast_ref(), Some(BearerError::InsufficientScope { .. }))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Failure {
    reason: &'static str,
    status: StatusCode,
    error: Arc<dyn Error + Send + Sync>,
}

impl Failure {
    pub(crate) fn new(reason: &'static str, status: StatusCode, error: impl Error + Send + Sync + 'static) -> Self {
        Self { reason, status, error: Arc::new(error) }
    }

    /// Returns a stable code: that of [`TokenErrorKind`](crate::authorization_server::TokenErrorKind), of
    /// [`BearerError::reason`](crate::resource_server::BearerError::reason) or of
    /// [`TokenSourceErrorKind::name`](crate::client::TokenSourceErrorKind::name).
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// Returns the HTTP status of the response. A gRPC call gets the corresponding gRPC status. The calling side sends no
    /// response; its failures have 503, the status of a service that cannot work without the token.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the error, if it is of this type.
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        let error: &(dyn Error + 'static) = &*self.error;
        error.downcast_ref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}
