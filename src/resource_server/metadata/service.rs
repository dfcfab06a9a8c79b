//! [`ResourceMetadataEndpoint`], which wraps a service, and [`ResourceMetadataService`], which serves only the document.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use pin_project_lite::pin_project;
use tower::Service;

use super::ResourceMetadata;
use crate::transport::ResponseBody;
use crate::transport::without_body;

impl ResourceMetadata {
    fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>> {
        let (head, _) = request.into_parts();
        let response = self.inner.document.answer(&head);
        if head.method == Method::HEAD { without_body(response) } else { response }
    }
}

/// A service that also serves the metadata; created by [`ResourceMetadataLayer`](super::ResourceMetadataLayer).
#[derive(Clone, Debug)]
pub struct ResourceMetadataEndpoint<S> {
    inner: S,
    metadata: ResourceMetadata,
}

impl<S> ResourceMetadataEndpoint<S> {
    pub(super) fn new(inner: S, metadata: ResourceMetadata) -> Self {
        Self { inner, metadata }
    }

    /// Returns a reference to the wrapped service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the wrapped service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the wrapped service, without the metadata.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, R> Service<Request<B>> for ResourceMetadataEndpoint<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResourceMetadataFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let kind = if request.uri().path() == self.metadata.path() {
            Kind::Own { response: Some(Box::new(self.metadata.answer(request))) }
        } else {
            Kind::Inner { future: self.inner.call(request) }
        };
        ResourceMetadataFuture { kind }
    }
}

pin_project! {
    /// The future of [`ResourceMetadataEndpoint`].
    pub struct ResourceMetadataFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<F> {
        Inner { #[pin] future: F },
        Own { response: Option<Box<Response<Full<Bytes>>>> },
    }
}

impl<F, R, E> Future for ResourceMetadataFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<ResponseBody<R>>, E>;

    #[expect(clippy::expect_used, reason = "like tower: waiting for a completed future would never end")]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProjection::Inner { future } => future.poll(cx).map_ok(|response| response.map(ResponseBody::inner)),
            KindProjection::Own { response } => {
                let response = response.take().expect("`ResourceMetadataFuture` polled after completion");
                Poll::Ready(Ok(response.map(ResponseBody::own)))
            }
        }
    }
}

impl<F> fmt::Debug for ResourceMetadataFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceMetadataFuture").finish_non_exhaustive()
    }
}

/// A service that serves the document of a [`ResourceMetadata`] at any path. For `Router::route_service` at its
/// [path](ResourceMetadata::path).
#[derive(Clone, Debug)]
pub struct ResourceMetadataService {
    metadata: ResourceMetadata,
}

impl ResourceMetadataService {
    pub(super) fn new(metadata: ResourceMetadata) -> Self {
        Self { metadata }
    }
}

impl<B> Service<Request<B>> for ResourceMetadataService {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.metadata.answer(request)))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use http::{Request, Response, StatusCode};
    use http_body_util::Full;
    use tower::{Layer as _, Service as _, service_fn};

    use super::Infallible;
    use crate::resource_server::{ResourceMetadata, ResourceMetadataLayer};

    #[test]
    #[should_panic(expected = "`ResourceMetadataFuture` polled after completion")]
    fn metadata_that_is_polled_after_completion_panics() {
        let metadata = ResourceMetadata::builder("https://api.example.com");
        let metadata = metadata.authorization_server("https://auth.example.com").build().unwrap();
        let inner = service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())));
        let request = Request::get(metadata.path()).body(Full::<Bytes>::default()).unwrap();
        let mut future = pin!(ResourceMetadataLayer::new(metadata).layer(inner).call(request));
        assert_eq!(future.as_mut().now_or_never().unwrap().unwrap().status(), StatusCode::OK);
        let _ = future.as_mut().now_or_never();
    }
}
