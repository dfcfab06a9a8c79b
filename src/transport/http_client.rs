//! [`HttpClient`]: how requests get to an issuer.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::{Request, Response};

use crate::quoted::Bounded;

/// Sends requests to issuers, for who wants another client than the one that comes with the crate.
///
/// # Contract
///
/// - It follows no redirect: where one may go is decided here.
/// - It reads no more than `most` bytes of an answer's body, and returns an error when there are more.
/// - Over https it checks the certificate. A part of what it sends is secret, and so is what it receives: it logs
///   neither.
/// - Any status is an `Ok`; an `Err` is for what kept it from getting a whole answer.
/// - The future is dropped when it takes longer than the configuration allows.
pub trait HttpClient: fmt::Debug + Send + Sync + 'static {
    /// Sends the request, whose URI is absolute, and reads the answer.
    fn send(
        &self,
        request: Request<Bytes>,
        most: usize,
    ) -> impl Future<Output = Result<Response<Bytes>, HttpError>> + Send;
}

/// No whole answer came; what it says is for the operator.
#[derive(Debug)]
pub struct HttpError(Box<dyn Error + Send + Sync>);

impl HttpError {
    /// An answer that is longer than one may be.
    pub(crate) fn too_long(most: usize) -> Self {
        Self(Box::new(TooLong(most)))
    }

    pub(crate) fn is_too_long(&self) -> bool {
        self.0.is::<TooLong>()
    }

    /// Wraps the error that kept the client from connecting, so that the request was not sent. The server has a problem
    /// then, not the request: an introspection endpoint is asked less often.
    #[must_use]
    pub fn no_connection(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Box::new(NoConnection(source.into())))
    }

    pub(crate) fn is_no_connection(&self) -> bool {
        self.0.is::<NoConnection>()
    }

    /// Wraps what went wrong.
    #[must_use]
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(source.into())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the answer is longer than {0} bytes")]
struct TooLong(usize);

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct NoConnection(Box<dyn Error + Send + Sync>);

/// How much of an error is shown, in bytes: it may quote what a server sent, such as the names in its certificate.
const LONGEST_TEXT: usize = 512;

/// With all that is behind it, escaped and cut off after 512 bytes: the outer error of an HTTP client rarely says what
/// happened.
impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bounded = Bounded::new(f, LONGEST_TEXT);
        write!(bounded, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(bounded, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// Without a source: the text has all of them.
impl Error for HttpError {}

/// [`HttpClient`] behind a pointer, so that no public type carries the client as a parameter.
pub(crate) trait DynHttpClient: fmt::Debug + Send + Sync {
    fn send(&self, request: Request<Bytes>, most: usize) -> Answer<'_>;
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl<T: HttpClient> DynHttpClient for T {
    fn send(&self, request: Request<Bytes>, most: usize) -> Answer<'_> {
        Box::pin(HttpClient::send(self, request, most))
    }
}

#[cfg(test)]
mod tests {
    use super::HttpError;

    #[test]
    fn an_error_says_which_kind_it_is() {
        let kinds = |error: &HttpError| (error.is_too_long(), error.is_no_connection());
        assert_eq!(kinds(&HttpError::too_long(5)), (true, false));
        assert_eq!(kinds(&HttpError::no_connection("refused")), (false, true));
        assert_eq!(kinds(&HttpError::new("reset")), (false, false));
    }
}
