//! [`TokenSourceError`]: why there is no token.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower::BoxError;

use crate::debug_fields::debug_fields;
use crate::named::named;
use crate::quoted::{cut, quoted, with_sources};

/// No token can be had now. The text is for the operator; it names the endpoint and the cause, and no secret.
///
/// A clone is cheap: all callers that waited for one request for a token get the same error.
#[derive(Clone)]
pub struct TokenSourceError {
    inner: Arc<Inner>,
    retry_after: Option<Duration>,
}

#[derive(Debug)]
struct Inner {
    kind: TokenSourceErrorKind,
    /// The `error` of the issuer's answer (RFC 6749 §5.2).
    code: Option<String>,
    message: String,
}

named! {
    /// The cause of a [`TokenSourceError`], for metrics and alarms.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    #[non_exhaustive]
    pub enum TokenSourceErrorKind {
        /// The issuer could not be reached, was too slow, or answered with 429 or 5xx.
        Unavailable = "unavailable",
        /// The issuer refused the request with an OAuth error (RFC 6749 §5.2), such as `invalid_client`.
        Refused = "refused",
        /// The issuer's answer or metadata cannot be used.
        InvalidAnswer = "invalid_answer",
        /// The credential could not be read or made.
        Credential = "credential",
        /// Resource servers refused the last tokens of the issuer, and it is too early to request another one.
        TokenRefused = "token_refused",
        /// A part of this process failed: there is no Tokio runtime, or the task that requested the token was ended.
        Internal = "internal",
        /// A [`TokenSource`](super::TokenSource) of the application failed.
        Other = "other",
    }

    /// Returns one word for the kind, for a metric's label or `error.type` in a trace.
    pub const fn name();
}

/// How much of a text that others wrote an error shows, in bytes.
const MAX_TEXT: usize = 512;

impl TokenSourceError {
    /// Wraps the error of a [`TokenSource`](super::TokenSource) of your own.
    #[must_use]
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self::of(TokenSourceErrorKind::Other, with_sources(&*source.into()))
    }

    pub(super) fn of(kind: TokenSourceErrorKind, message: impl Into<String>) -> Self {
        Self { inner: Arc::new(Inner { kind, code: None, message: message.into() }), retry_after: None }
    }

    /// The issuer answered with an error code and perhaps a description.
    pub(super) fn refused(endpoint: &str, status: u16, code: &str, description: Option<&str>) -> Self {
        let mut message = format!("{endpoint} answered {status} with the error {}", quoted(code));
        if let Some(description) = description {
            let (start, rest) = cut(description, MAX_TEXT);
            message = format!("{message}: {start:?}{rest}");
        }
        let code = Some(cut(code, 64).0.to_owned());
        Self { inner: Arc::new(Inner { kind: TokenSourceErrorKind::Refused, code, message }), retry_after: None }
    }

    pub(super) fn with_retry_after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }

    /// Returns the cause.
    #[must_use]
    pub fn kind(&self) -> TokenSourceErrorKind {
        self.inner.kind
    }

    /// Returns the `error` code of the issuer's answer (RFC 6749 §5.2), if it had one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.inner.code.as_deref()
    }

    /// Returns how long to wait before another attempt, if the source knows.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for TokenSourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no access token: {}", self.inner.message)?;
        if let Some(wait) = self.retry_after {
            write!(f, "; the next attempt is allowed in {wait:.1?}")?;
        }
        Ok(())
    }
}

debug_fields!(TokenSourceError, |this| {
    kind: this.inner.kind,
    code: this.inner.code,
    message: this.inner.message,
    retry_after: this.retry_after,
});

/// Without a source: the text has all of them.
impl std::error::Error for TokenSourceError {}
