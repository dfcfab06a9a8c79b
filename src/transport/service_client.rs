//! [`ServiceClient`]: any tower HTTP service as the client for requests to issuers.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use tower::{BoxError, Service};

use super::{HttpClient, HttpError, HttpFuture};
use crate::debug_fields::debug_fields;
use crate::quoted::with_sources;

/// An HTTP service of the application. Each request gets a clone.
pub(crate) struct ServiceClient<S>(Mutex<S>);

impl<S> ServiceClient<S> {
    pub(crate) fn new(service: S) -> Self {
        Self(Mutex::new(service))
    }
}

impl<S, B> HttpClient for ServiceClient<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Body<Error: Into<BoxError>, Data: Send> + Send,
{
    fn send(&self, request: Request<Bytes>, most: usize) -> HttpFuture<'_> {
        HttpFuture::new(async move {
            let mut service = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let failed = |error: BoxError| HttpError::new(with_sources(&*error));
            std::future::poll_fn(|cx| service.poll_ready(cx)).await.map_err(|error| failed(error.into()))?;
            let response = service.call(request.map(Full::new)).await.map_err(|error| failed(error.into()))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, most).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() { HttpError::too_long(most) } else { failed(error) }
            })?;
            Ok(Response::from_parts(head, body.to_bytes()))
        })
    }
}

debug_fields!(ServiceClient<S> {});
