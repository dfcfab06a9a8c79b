//! [`Transport`]: how requests get to the issuer, over any tower HTTP service.

use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use tower::{BoxError, Service};
use tracing::Instrument as _;

use super::token_error::with_sources;
use crate::deadline::within;
use crate::telemetry;

/// The longest answer that is read, in bytes: a token of 16 KiB, and what an issuer puts around it.
const MAX_ANSWER: usize = 64 * 1024;

/// A whole answer, or the error that prevented it.
pub(super) type Answer = Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send>>;

/// Sends one request and reads the whole answer. It follows no redirect.
pub(super) trait Transport: fmt::Debug + Send + Sync {
    fn send(&self, request: Request<Bytes>) -> Answer;
}

/// No whole answer came; the text is for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct TransportError(String);

/// Sends one request in a span of its own, and waits no longer than `time` for the whole answer.
pub(super) async fn send(
    transport: &dyn Transport,
    request: Request<Bytes>,
    time: Duration,
) -> Result<Response<Bytes>, TransportError> {
    let span = telemetry::http_request(request.method(), request.uri());
    let sent = span.in_scope(|| transport.send(request));
    let answer = within(time, sent).instrument(span.clone()).await;
    let error = match &answer {
        Ok(Ok(response)) => Ok(response.status()),
        Ok(Err(_)) => Err("_OTHER"),
        Err(_) => Err("timeout"),
    };
    telemetry::answered(&span, error);
    answer.unwrap_or_else(|late| Err(TransportError(late.to_string())))
}

/// An HTTP service of the application.
pub(super) struct ServiceTransport<S>(Mutex<S>);

impl<S> ServiceTransport<S> {
    pub(super) fn new(service: S) -> Self {
        Self(Mutex::new(service))
    }
}

impl<S, B> Transport for ServiceTransport<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Body<Error: Into<BoxError>, Data: Send> + Send,
{
    fn send(&self, request: Request<Bytes>) -> Answer {
        let mut service = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async move {
            let failed = |error: BoxError| TransportError(with_sources(&*error));
            std::future::poll_fn(|cx| service.poll_ready(cx)).await.map_err(|error| failed(error.into()))?;
            let response = service.call(request.map(Full::new)).await.map_err(|error| failed(error.into()))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER)
                .collect()
                .await
                .map_err(|error| if error.is::<LengthLimitError>() { too_long() } else { failed(error) })?;
            Ok(Response::from_parts(head, body.to_bytes()))
        })
    }
}

fn too_long() -> TransportError {
    TransportError(format!("the answer is longer than {MAX_ANSWER} bytes"))
}

impl<S> fmt::Debug for ServiceTransport<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceTransport").finish_non_exhaustive()
    }
}

#[cfg(feature = "remote")]
pub(super) use self::default::DefaultTransport;

#[cfg(feature = "remote")]
mod default {
    //! The HTTP client that comes with the crate.

    use std::sync::Arc;

    use bytes::Bytes;
    use http::Request;

    use super::{Answer, MAX_ANSWER, Transport, TransportError};
    use crate::transport::{DynHttpClient, HttpError, ReqwestClient};

    #[derive(Debug)]
    pub(in crate::client) struct DefaultTransport(Arc<dyn DynHttpClient>);

    impl DefaultTransport {
        /// Connects directly, whatever proxy the environment names: a proxy would see the credential.
        pub(in crate::client) fn new() -> Result<Self, HttpError> {
            Ok(Self(Arc::new(ReqwestClient::new(false)?)))
        }
    }

    impl Transport for DefaultTransport {
        fn send(&self, request: Request<Bytes>) -> Answer {
            let client = self.0.clone();
            Box::pin(async move {
                client.send(request, MAX_ANSWER).await.map_err(|error| TransportError(error.to_string()))
            })
        }
    }
}
