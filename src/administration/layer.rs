//! [`ClientAdministrationLayer`]: answers the requests to the administration, and passes all others on.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower::{BoxError, Layer, Service};

use super::{ClientAdministration, ClientAdministrationService};
use crate::transport::{EndpointFuture, ResponseBody};

/// A layer that answers the requests below the [path](ClientAdministration::path) of an administration, and passes all others to
/// the wrapped service. Put it outside of layers that must not apply to the administration.
#[derive(Clone, Debug)]
pub struct ClientAdministrationLayer {
    administration: ClientAdministration,
}

impl ClientAdministrationLayer {
    /// Creates a layer with this administration.
    #[must_use]
    pub fn new(administration: ClientAdministration) -> Self {
        Self { administration }
    }
}

impl<S> Layer<S> for ClientAdministrationLayer {
    type Service = ClientAdministrationEndpoint<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let service = self.administration.service();
        ClientAdministrationEndpoint { inner, service, administration: self.administration.clone() }
    }
}

/// A service behind an administration; created by [`ClientAdministrationLayer`].
#[derive(Clone, Debug)]
pub struct ClientAdministrationEndpoint<S> {
    inner: S,
    service: ClientAdministrationService,
    administration: ClientAdministration,
}

type OwnFuture = dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send;

impl<S, B, R> Service<Request<B>> for ClientAdministrationEndpoint<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = EndpointFuture<S::Future, OwnFuture>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let rest = request.uri().path().strip_prefix(self.administration.path());
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            let answer = self.service.call(request);
            EndpointFuture::own(Box::pin(async { Ok(answer.await?.map(ResponseBody::into_full)) }))
        } else {
            EndpointFuture::inner(self.inner.call(request))
        }
    }
}
