//! [`ClientAdministrationLayer`]: answers the requests to the administration, and passes all others on.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use pin_project_lite::pin_project;
use tower::{BoxError, Layer, Service};

use super::{ClientAdministration, ClientAdministrationService};
use crate::transport::ResponseBody;

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

impl<S, B, R> Service<Request<B>> for ClientAdministrationEndpoint<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ClientAdministrationFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let rest = request.uri().path().strip_prefix(self.administration.path());
        let kind = if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            Kind::Own { future: Box::pin(self.service.call(request)) }
        } else {
            Kind::Inner { future: self.inner.call(request) }
        };
        ClientAdministrationFuture { kind }
    }
}

pin_project! {
    /// The future of [`ClientAdministrationEndpoint`]: that of the wrapped service, or that of the administration.
    pub struct ClientAdministrationFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

type OwnResponse = Response<ResponseBody<Full<Bytes>>>;

/// The future of [`ClientAdministrationService`]. Boxed, because it is large and would make the future of all other paths larger.
type OwnFuture = Pin<Box<dyn Future<Output = Result<OwnResponse, Infallible>> + Send>>;

pin_project! {
    #[project = KindProjection]
    enum Kind<F> {
        Inner { #[pin] future: F },
        Own { future: OwnFuture },
    }
}

impl<F, R, E> Future for ClientAdministrationFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<ResponseBody<R>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProjection::Inner { future } => future.poll(cx).map_ok(|response| response.map(ResponseBody::inner)),
            KindProjection::Own { future } => future.as_mut().poll(cx).map(|answered| {
                let Ok(response) = answered;
                Ok(response.map(ResponseBody::<Full<Bytes>>::into_own))
            }),
        }
    }
}

impl<F> fmt::Debug for ClientAdministrationFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAdministrationFuture").finish_non_exhaustive()
    }
}
