//! [`HttpClient`]: the HTTP client for requests to issuers.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};

use crate::quoted::Bounded;
use crate::sync::DynFuture;

/// Sends requests to issuers. Implement it to replace the crate's own client.
///
/// # Contract
///
/// - It follows no redirects: the caller decides on them.
/// - It reads at most `most` bytes of an answer's body, and returns an error if there are more.
/// - It checks certificates for https. Requests and answers contain secrets, so it logs neither.
/// - Every status is an `Ok`. An `Err` means that there was no complete answer.
/// - The future is dropped if it takes longer than the configured timeout.
pub trait HttpClient: fmt::Debug + Send + Sync + 'static {
    /// Sends the request, whose URI is absolute, and returns the answer.
    fn send(&self, request: Request<Bytes>, most: usize) -> HttpFuture<'_>;
}

/// The future of [`HttpClient::send`].
pub type HttpFuture<'a> = DynFuture<'a, Result<Response<Bytes>, HttpError>>;

impl<T: HttpClient + ?Sized> HttpClient for Arc<T> {
    fn send(&self, request: Request<Bytes>, most: usize) -> HttpFuture<'_> {
        T::send(self, request, most)
    }
}

/// There was no complete answer. The text is for the operator.
#[derive(Debug)]
pub struct HttpError(Box<dyn Error + Send + Sync>);

impl HttpError {
    /// Creates the error for an answer that is longer than the limit.
    pub(crate) fn too_long(most: usize) -> Self {
        Self(Box::new(TooLong(most)))
    }

    #[cfg(any(test, feature = "remote"))]
    pub(crate) fn is_too_long(&self) -> bool {
        self.0.is::<TooLong>()
    }

    /// Wraps the error that prevented a connection, so that the request was not sent. It indicates a problem of the server, not
    /// of the request: an introspection endpoint is then asked less often.
    #[must_use]
    pub fn no_connection(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Box::new(NoConnection(source.into())))
    }

    #[cfg(any(test, feature = "remote"))]
    pub(crate) fn is_no_connection(&self) -> bool {
        self.0.is::<NoConnection>()
    }

    /// Wraps the error of a source that has no document any more. What it sent before must not be used.
    #[cfg(feature = "workload_api")]
    pub(crate) fn withdrawn(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Box::new(Withdrawn(source.into())))
    }

    #[cfg(feature = "workload_api")]
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.0.is::<Withdrawn>()
    }

    /// Wraps any other error.
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

#[cfg(feature = "workload_api")]
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Withdrawn(Box<dyn Error + Send + Sync>);

/// The maximum length of the text, in bytes. An error may quote text from the server, such as the names in its certificate.
const LONGEST_TEXT: usize = 512;

/// Writes the error and all its sources, escaped and truncated after 512 bytes. The outer error of an HTTP client rarely names
/// the cause.
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

/// Has no source: the text contains all of them.
impl Error for HttpError {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http::{Request, Response};

    use super::{HttpClient, HttpError, HttpFuture};

    #[derive(Debug)]
    struct Empty;

    impl HttpClient for Empty {
        fn send(&self, _: Request<Bytes>, _: usize) -> HttpFuture<'_> {
            HttpFuture::ready(Ok(Response::default()))
        }
    }

    #[tokio::test]
    async fn a_client_behind_a_pointer_can_be_passed_on_as_a_client() {
        let shared: Arc<dyn HttpClient> = Arc::new(Empty);
        let client: Box<dyn HttpClient> = Box::new(shared);
        let answer = client.send(Request::default(), 0).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.body().len()), (200, 0));
    }

    #[test]
    fn an_error_reports_its_kind() {
        let kinds = |error: &HttpError| (error.is_too_long(), error.is_no_connection());
        assert_eq!(kinds(&HttpError::too_long(5)), (true, false));
        assert_eq!(kinds(&HttpError::no_connection("refused")), (false, true));
        assert_eq!(kinds(&HttpError::new("reset")), (false, false));
    }
}
